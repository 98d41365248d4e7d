"""Gradient estimators, one a file: from a task and a batch to a direction."""

from srste.estimators.base import Direction, Estimator

__all__ = ["Direction", "Estimator"]
