"""The study: which fusion helps a small tracker, how much, and where; every layer here trained alike and compared."""
