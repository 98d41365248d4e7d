"""The exact curve: examples followed from flip to flip, and the sum of their losses."""
