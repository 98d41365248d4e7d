"""Statistical comparisons over networks and batches, on arrays of losses.

Batches of one network are not independent of each other, networks are: every test and interval is
at the level of networks. The tests are SciPy's and statsmodels'.
"""
