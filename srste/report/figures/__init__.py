"""The figures, one a module; each takes records or arrays and gives a matplotlib figure."""
