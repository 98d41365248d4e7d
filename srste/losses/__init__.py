"""The losses whose decrease is measured, one a file."""

from srste.losses.absolute_error import AbsoluteError
from srste.losses.base import ExactForm, ExactLoss, Loss, LossFunction
from srste.losses.cross_entropy import CrossEntropy
from srste.losses.logistic import Logistic
from srste.losses.squared_error import SquaredError

EXACT: tuple[type[ExactLoss], ...] = (SquaredError, AbsoluteError, Logistic, CrossEntropy)
"""Those whose curve along a direction is exact."""

__all__ = [
    "EXACT",
    "AbsoluteError",
    "CrossEntropy",
    "ExactForm",
    "ExactLoss",
    "Logistic",
    "Loss",
    "LossFunction",
    "SquaredError",
]
