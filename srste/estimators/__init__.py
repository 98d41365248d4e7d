"""Gradient estimators, one a file: from a task and a batch to a direction."""

from srste.estimators.base import Cost, Direction, Estimator, cost_of

__all__ = ["Cost", "Direction", "Estimator", "cost_of"]
