"""A model along a direction in one call each, as most tests want it."""

from __future__ import annotations

from srste.curve import Line
from srste.study.replay import replay


def loss_curve(model, direction, inputs, targets, lr_max=0.5, loss=None):
    """The exact curve; raises where there is none."""
    return Line(model, direction).exact_loss(inputs, targets, loss, lr_max)


def curve_and_reason(model, direction, inputs, targets, lr_max=0.5, loss=None):
    """The curve, and why it is not exact."""
    curve = Line(model, direction).loss(inputs, targets, loss, lr_max)
    return curve, curve.why_not


def replayed(model, direction, inputs, targets, lr, curve_loss, loss=None):
    """The step of a model, held against the curve."""
    return replay(Line(model, direction), inputs, targets, lr, curve_loss, loss)
