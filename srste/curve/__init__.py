"""The loss along a direction as a function of the learning rate.

from srste.curve import loss_curve
curve = loss_curve(model, direction, inputs, targets, lr_max=0.5)
curve.pre_loss, curve(lrs), curve.minimum()
"""

from srste.curve.exact import LossCurve, Minimum, loss_curve
from srste.curve.network import NotExactError

__all__ = ["LossCurve", "Minimum", "NotExactError", "loss_curve"]
