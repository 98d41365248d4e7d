"""A model along a direction, as the exact curve follows it."""
