"""The study of the fusions: variants, trials, tables and plots."""
