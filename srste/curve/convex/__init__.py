"""Losses that are convex between flips: logistic loss and cross-entropy."""
