"""Is the difference real? Comparisons over networks and batches, on plain arrays of losses.

Batches of one network are not independent of each other, networks are: every test and every interval
here is at the level of networks. The tests themselves are SciPy's and statsmodels'.
"""
