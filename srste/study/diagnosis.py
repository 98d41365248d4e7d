"""Gradient diagnostics of a study: how good the estimate behind its direction is, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from srste.curve import Line
from srste.estimators import Direction, Estimator
from srste.estimators.angles import angle_between
from srste.estimators.base import mean, no_norm
from srste.estimators.coordinate_difference import is_row
from srste.estimators.straight_through import StraightThrough
from srste.networks.activations import BinaryActivation
from srste.networks.arguments import integer, one_of, positive
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.problem.task import Batch, Task, buffers_kept
from srste.randomness import seeded
from srste.study.gradient_quality import TRUTHS, Repeated, by_layer, flat, quality_of, truth_for
from srste.study.results import Diagnosis, LayerGradient

PARTS = 8
"""Into which a batch is divided, to see how far its gradient depends on the examples."""

_STE = StraightThrough(Sign(), Clipped(), mean, no_norm)


class GradientDiagnostics:
    """Compares the estimates of a study's estimator with the true gradient.

    Every estimate is the mean of as many samples as the study's, without its normalisation, and with
    draws of its own.

    Args:
        truth: "expected": the exact gradient of the mean loss over the draws of the estimator's units,
            or of those that its surrogate belongs to, for layers in a row of at most 12 units;
            "discrete": the discrete gradient of the network of signs; "auto": expected where that is
            possible, and else discrete.
        radius: of the discrete gradient, > 0.
        repeats: estimates of a stochastic estimator, >= 2.
    Raises: ValueError when an argument is out of range; by :meth:`of`, where there is no expected
        gradient.
    """

    def __init__(
        self,
        truth: Literal["auto", "expected", "discrete"] = "auto",
        radius: float = 0.1,
        repeats: int = 20,
    ) -> None:
        self.truth = one_of(self, "truth", truth, TRUTHS)
        self.radius = positive(self, "radius", radius)
        self.repeats = integer(self, "repeats", repeats, least=2)

    def check(self, task: Task, batch: Batch, estimator: Estimator) -> None:
        """Raises: ValueError where there is no such truth for that estimator, model and loss."""
        compared = truth_for(task, batch, estimator, self.truth, self.radius)
        if compared.units is not None or is_row(task.model):  # of others it takes long
            compared.gradient(task, batch)

    def of(
        self,
        task: Task,
        batch: Batch,
        estimator: Estimator,
        samples: int,
        flipped: Mapping[str, float],
        heldout_gauge: float | None = None,
    ) -> Diagnosis:
        """Return the diagnosis of an estimator's gradient on a batch.

        Args: estimator: without its normalisation. samples: of each estimate. flipped: see
            :func:`flip_ratios`. heldout_gauge: see :class:`srste.study.results.Diagnosis`.
        """
        compared = truth_for(task, batch, estimator, self.truth, self.radius)
        truth = compared.gradient(task, batch)
        estimates = self._estimates(task, batch, estimator, samples)
        of_parts, share = self._estimates_of_parts(task, batch, estimator, samples)
        ste = None
        with suppress(ValueError):  # a network without activations, or one that cuts off its gradient
            ste = _STE.direction(task, batch, 1)
        layers = [
            _layer(layer, names, truth, estimates, of_parts, share, ste, flipped.get(layer))
            for layer, names in by_layer(task.model).items()
        ]
        return Diagnosis(compared.words, layers, heldout_gauge)

    def _estimates(
        self, task: Task, batch: Batch, estimator: Estimator, samples: int
    ) -> Sequence[Direction]:
        repeats = self.repeats if estimator.stochastic else 1
        return [
            estimator.direction(Repeated(task, "diagnosis", i), batch, samples) for i in range(repeats)
        ]

    def _estimates_of_parts(
        self, task: Task, batch: Batch, estimator: Estimator, samples: int
    ) -> tuple[list[list[Direction]], float]:
        """Return estimates on parts of the batch alone, of each part two where anything is drawn, and
        which fraction of the batch a part is."""
        parts = min(PARTS, len(batch.inputs) // 2)
        if parts < 2:
            return [], 0.0
        size = len(batch.inputs) // parts
        every = []
        for part in range(parts):
            of = slice(part * size, (part + 1) * size)
            some = Batch(batch.index, batch.inputs[of], batch.targets[of])
            every.append(
                [
                    estimator.direction(Repeated(task, "part", part, i), some, samples)
                    for i in range(2 if estimator.stochastic else 1)
                ]
            )
        return every, size / len(batch.inputs)


class Diagnosed(NamedTuple):
    """What a study's gradient is diagnosed by, and its estimator without a normalisation."""

    diagnostics: GradientDiagnostics
    estimator: Estimator


def _layer(
    layer: str,
    names: Sequence[str],
    truth: Direction,
    estimates: Sequence[Direction],
    of_parts: list[list[Direction]],
    share: float,
    ste: Direction | None,
    flipped: float | None,
) -> LayerGradient:
    vectors = torch.stack([flat(one, names) for one in estimates])
    exact = flat(truth, names)
    quality = quality_of(layer, 1, vectors, exact)
    norms = torch.linalg.vector_norm(vectors, dim=1)
    angles = [angle_between(one, flat(ste, names)) for one in vectors] if ste else [None]
    of_examples = _variance_of_examples(of_parts, names, share)
    of_draws = float(vectors.var(0).sum()) if len(vectors) > 1 else 0.0
    # The squared length of the mean has the variances of the mean in it.
    signal = float((vectors.mean(0) ** 2).sum()) - of_draws / len(vectors) - (of_examples or 0.0)
    noise = None if of_examples is None else of_examples + of_draws
    norm = float(exact.norm())
    return LayerGradient(
        layer=layer,
        cosine=_finite(quality.cosine),
        cosine_low=_finite(quality.cosine_low),
        cosine_high=_finite(quality.cosine_high),
        relative_error=_finite(quality.rmse),
        bias=_finite(quality.bias),
        deviation=_finite(quality.deviation),
        scale_free_bias=_finite(quality.scale_free_bias),
        scale_free_deviation=_finite(quality.scale_free_deviation),
        deviation_of_examples=_finite(
            of_examples**0.5 / norm if norm and of_examples is not None else None
        ),
        signal_to_noise=_finite(max(signal, 0.0) / noise if noise else None),
        norm=_finite(float(norms.mean())),
        true_norm=_finite(norm),
        angle_to_ste=None if None in angles else math.fsum(a for a in angles if a) / len(angles),
        flip_ratio=flipped,
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _variance_of_examples(
    of_parts: list[list[Direction]], names: Sequence[str], share: float
) -> float | None:
    """Return the total variance of the batch's gradient that comes of which examples it has: a one-way
    analysis of variance of the parts, whose draws are the variance within. None for too few examples.

    Args: share: the fraction of the batch that a part is.
    """
    if not of_parts:
        return None
    vectors = torch.stack([torch.stack([flat(one, names) for one in part]) for part in of_parts])
    repeats = vectors.shape[1]
    between = float(vectors.mean(1).var(0).sum())
    within = float(vectors.var(1).mean(0).sum()) if repeats > 1 else 0.0
    return max(between - within / repeats, 0.0) * share


def flip_ratios(
    model: nn.Module, line: Line, inputs: Tensor, lr: float, seed: int = 0
) -> dict[str, float]:
    """Return the fraction of signs, of all units and examples, that a step flips: by the layer that
    gives an activation its pre-activations, and under "" of all activations; each in [0, 1]. Of units
    of several levels it is that of the steps between these.

    Args: line: of the model. inputs: (batch, ...). lr: >= 0. seed: of what the model itself draws.
    References: Geiger and Team (2020), "Larq", whose flip ratios are of binary weights.
    """
    before, after = (_signs(one, inputs, seed) for one in (model, line.at(lr)))
    flips = {name: torch.cat(b) != torch.cat(after[name]) for name, b in before.items()}
    if not flips:
        return {}
    ratios = {name: float(flip.double().mean()) for name, flip in flips.items()}
    return ratios | {"": float(torch.cat(list(flips.values())).double().mean())}


def _signs(model: nn.Module, inputs: Tensor, seed: int) -> dict[str, list[Tensor]]:
    """Return what the activations give, by the name of the layer below them."""
    signs: dict[str, list[Tensor]] = {}
    layer = ""

    def noted(name: str, module: nn.Module) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, outputs: Tensor) -> None:
            nonlocal layer
            if isinstance(module, BinaryActivation):
                signs.setdefault(layer, []).append(outputs.detach().flatten())
            else:
                layer = name

        return hook

    handles = [
        module.register_forward_hook(noted(name, module))
        for name, module in model.named_modules()
        if isinstance(module, BinaryActivation) or any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad(), buffers_kept(model), seeded(seed, "flips"):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return signs
