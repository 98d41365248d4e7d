"""The loss along a direction as a function of the learning rate.

line = Line(model, direction)
curve = line.loss(inputs, targets, lr_max=0.5)
curve.exact, curve.pre_loss, curve(lrs), curve.minimum(), curve.descent()
stepped = line.at(curve.minimum().lr)
"""

from srste.curve.forward.evaluated import EvaluatedCurve
from srste.curve.line import Line
from srste.curve.loss_curve import Descent, ExactCurve, Interval, LossCurve, Minimum, Step
from srste.curve.network.base import NotExactError

__all__ = [
    "Descent",
    "EvaluatedCurve",
    "ExactCurve",
    "Interval",
    "Line",
    "LossCurve",
    "Minimum",
    "NotExactError",
    "Step",
]
