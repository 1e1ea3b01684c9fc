"""What is measured, how, and where the figures are kept: ``rgbt-fusion bench`` and the tables of
the documentation."""
