"""Numbers of small studies, stored: each model, loss, estimator and sampler.

They say that a change of the code has changed no result; that results are right is for the other tests.
"""
