"""How well two recordings are registered: drawn views with known matrices and offsets."""
