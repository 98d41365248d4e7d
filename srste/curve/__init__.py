"""The loss along a direction as a function of the learning rate.

from srste.curve import loss_curve
curve = loss_curve(model, direction, inputs, targets, lr_max=0.5)
curve.pre_loss, curve(lrs), curve.minimum(), curve.descent()
"""

from srste.curve.choice import any_curve
from srste.curve.evaluated import EvaluatedCurve
from srste.curve.exact import Descent, Interval, LossCurve, Minimum, loss_curve
from srste.curve.network import NotExactError

__all__ = [
    "Descent",
    "EvaluatedCurve",
    "Interval",
    "LossCurve",
    "Minimum",
    "NotExactError",
    "any_curve",
    "loss_curve",
]
