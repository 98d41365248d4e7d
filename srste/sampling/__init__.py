"""Sampling of learning rates: an Optuna study over a loss curve."""

from srste.sampling.base import Sampling, Trials

__all__ = ["Sampling", "Trials"]
