"""What can be said of a card: measured on one in a quarter of an hour, or counted without one."""
