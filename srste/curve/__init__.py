"""The loss along a direction as a function of the learning rate.

line = Line(model, direction)
curve = line.loss(inputs, targets, lr_max=0.5)
curve.exact, curve.pre_loss, curve(lrs), curve.minimum(), curve.descent()
stepped = line.at(curve.minimum().lr)
"""

from typing import TYPE_CHECKING, Any

from srste.curve.minima import Descent, Interval, Minimum

if TYPE_CHECKING:
    from srste.curve.forward.evaluated import EvaluatedCurve
    from srste.curve.line import Line
    from srste.curve.loss_curve import ExactCurve, LossCurve, Step
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


def __getattr__(name: str) -> Any:
    # Records hold minima and intervals, and are read without PyTorch and Numba, which take seconds.
    if name not in __all__:
        raise AttributeError(f"module 'srste.curve' has no attribute {name!r}")
    from srste.curve import loss_curve
    from srste.curve.forward import evaluated
    from srste.curve.line import Line
    from srste.curve.network.base import NotExactError

    globals().update(
        EvaluatedCurve=evaluated.EvaluatedCurve,
        Line=Line,
        NotExactError=NotExactError,
        ExactCurve=loss_curve.ExactCurve,
        LossCurve=loss_curve.LossCurve,
        Step=loss_curve.Step,
    )
    return globals()[name]
