"""The functions of the public face; `srste` gives them by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor, nn

from srste.curve import Line, LossCurve
from srste.estimators import Direction, Estimator
from srste.estimators.smoothed import Smoothed
from srste.launch.choices import part
from srste.losses import LossFunction
from srste.problem.task import Batch, OneBatch
from srste.results import Results
from srste.sampling import Sampling
from srste.study import gradient_quality as quality
from srste.study.gradient_quality import GradientQuality
from srste.study.radii import RadiusQuality
from srste.study.radii import radius_quality as of_radii
from srste.study.study import Study
from srste.study.study import run_study as run

if TYPE_CHECKING:
    from jaxtyping import Shaped


def estimate(
    estimator: str | Estimator,
    model: nn.Module,
    inputs: Shaped[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *targets"],
    *,
    samples: int = 1,
    loss: str | LossFunction = "squared_error",
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> Direction:
    """An estimate of the gradient: the direction that an estimator gives a model on a batch.

    Args:
        estimator: the name of a choice of conf/estimator, such as "sr_ste", or an object with
            :class:`srste.estimators.base.Estimator`'s method.
        model: any module with :class:`BinaryActivation` or :class:`BinaryStep` for the estimator to act
            on. It is left unchanged.
        inputs: (batch, ...). targets: what the loss compares the outputs with, (batch, ...).
        samples: Monte-Carlo samples that the direction is averaged over, >= 1.
        loss: the name of a choice of conf/loss, or (outputs, targets) to a scalar tensor.
        seed: >= 0, of the random draws: the same seed, the same direction.
        overrides: of an estimator that is named, as on the command line:
            ``["estimator/surrogate=tanh", "estimator.surrogate.beta=2"]``.
    Returns: a tensor for every name in ``model.named_parameters()``, of the parameter's shape and dtype;
        the step is ``w - lr * direction``.
    Raises: ValueError for a name that there is not, a model without binary activations, or one of whose
        parameters gets no gradient.
    References: of each estimator, its class in `srste.estimators`.

    >>> import torch, srste
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 8), srste.BinaryActivation(), torch.nn.Linear(8, 1)
    ... )
    >>> inputs, targets = torch.randn(64, 4), torch.randn(64, 1)
    >>> g = srste.estimate("sr_ste", model, inputs, targets, samples=10)
    >>> {name: tuple(tensor.shape) for name, tensor in g.items()}
    {'0.weight': (8, 4), '0.bias': (8,), '2.weight': (1, 8), '2.bias': (1,)}
    """
    _check_samples(samples)
    _check_tensors(inputs, targets)
    made: Estimator = part("estimator", estimator, overrides)
    task = OneBatch(model, _loss(loss), inputs, targets, seed)
    return made.direction(task, task.batch(1), samples)


def loss_curve(
    model: nn.Module,
    direction: Mapping[str, Tensor] | Sequence[Tensor],
    inputs: Shaped[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *targets"],
    *,
    loss: str | LossFunction = "squared_error",
    lr_max: float = 0.5,
    seed: int = 0,
) -> LossCurve:
    """The loss of a model on a batch after the step ``w - lr * direction``, for every lr in [0, lr_max].

    It is exact for networks of binary activations, and otherwise evaluated by forward passes: ``exact``
    and ``why_not`` of the curve tell. Of several batches or losses along one direction ask
    :class:`srste.curve.Line`, which reads the model once.

    Args:
        model: any module on one device that gives one real tensor; see :class:`srste.curve.Line`.
        direction: the gradient that is subtracted: a tensor for every name in
            ``model.named_parameters()``, of its shape, dtype and device; or a list of them, in the order
            of ``model.parameters()``, as ``torch.autograd.grad`` gives it.
        inputs: (batch, ...). targets: of the outputs' shape, or (batch,) classes.
        loss: the name of a choice of conf/loss, or (outputs, targets) to a scalar tensor.
        lr_max: the largest learning rate, > 0. seed: of layers that draw random numbers.
    Returns: see :class:`srste.curve.LossCurve`. Raises: ValueError for what does not fit.

    >>> import torch, srste
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 8), srste.BinaryActivation(), torch.nn.Linear(8, 1)
    ... )
    >>> inputs, targets = torch.randn(64, 4), torch.randn(64, 1)
    >>> g = srste.estimate("ste", model, inputs, targets)
    >>> curve = srste.loss_curve(model, g, inputs, targets)
    >>> curve.exact, curve.minimum().loss < curve.pre_loss
    (True, True)
    """
    _check_tensors(inputs, targets)
    return Line(model, direction).loss(inputs, targets, _loss(loss), lr_max, seed)


def run_study(
    model: nn.Module,
    inputs: Shaped[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *targets"],
    *,
    estimator: str | Estimator = "sr_ste",
    samples: int = 1,
    sampling: str | Sampling = "grid",
    loss: str | LossFunction = "squared_error",
    heldout: tuple[Tensor, Tensor] | None = None,
    baseline: str | Estimator | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> Study:
    """The best step along an estimator's direction: a direction, trials of learning rates, the best one
    replayed on the real model, and how far it is from the best there is.

    Args:
        model, inputs, targets, estimator, samples, loss, seed: as for :func:`estimate`.
        sampling: the name of a choice of conf/sampling ("grid", "tpe", ...), or an object with
            :class:`srste.sampling.Sampling`'s methods.
        heldout: (inputs, targets) on which the best step is measured too.
        baseline: an estimator to whose direction the angle is measured.
        overrides: of an estimator and a sampling that are named: ``["sampling.lr_max=1"]``.
    Returns: the study: ``best``, ``regret``, ``heldout``, ``certificate``, ``curve``, ``trials``, and an
        Optuna study by ``to_optuna()``.
    Raises: ValueError for what is not allowed.

    >>> import torch, srste
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 8), srste.BinaryActivation(), torch.nn.Linear(8, 1)
    ... )
    >>> inputs, targets = torch.randn(64, 4), torch.randn(64, 1)
    >>> study = srste.run_study(model, inputs, targets, estimator="ste", sampling="grid")
    >>> len(study.trials), study.best.post_loss < study.trials.pre_loss, 0 <= study.regret < 1e-3
    (50000, True, True)
    """
    _check_samples(samples)
    _check_tensors(inputs, targets)
    of_estimator = [o for o in overrides if not _is_of("sampling", o)]
    of_sampling = [o for o in overrides if _is_of("sampling", o)]
    made: Estimator = part("estimator", estimator, of_estimator)
    return run(
        OneBatch(model, _loss(loss), inputs, targets, seed),
        Batch(1, inputs, targets),
        made,
        samples,
        part("sampling", sampling, of_sampling),
        estimator if isinstance(estimator, str) else type(estimator).__name__,
        heldout=None if heldout is None else Batch(0, *heldout),
        baseline=None if baseline is None else part("estimator", baseline),
    )


def gradient_quality(
    model: nn.Module,
    inputs: Shaped[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *targets"],
    *,
    estimator: str | Estimator = "sr_ste",
    samples: Sequence[int] = (1, 10, 100),
    repeats: int = 30,
    truth: Literal["auto", "expected", "discrete"] = "auto",
    radius: float = 0.1,
    loss: str | LossFunction = "squared_error",
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> GradientQuality:
    """How good an estimator's gradient is: its angle to the truth, its bias and its variance, by layer,
    against the number of samples.

    Args:
        model, inputs, targets, estimator, loss, seed, overrides: as for :func:`estimate`. An estimator
            that is named is taken without its normalisation.
        samples: numbers of samples n, >= 1, of which a mean is taken. repeats: estimates of each n,
            >= 2.
        truth: "expected": the exact gradient of the mean loss over the draws of the estimator's units,
            or of those that its surrogate belongs to, for layers in a row of at most 12 units;
            "discrete": differences of the loss of the network of signs, with every single weight moved
            by ``radius``; "auto": expected where that is possible, and else discrete.
        radius: > 0.
    Returns: ``rows``, ``frame()`` and ``plot()``; and in ``truth`` what was compared with.
    Raises: ValueError for what is not allowed, and where there is no expected gradient.
    References: Shekhovtsov et al. (2020), "Path sample-analytic gradient estimators for stochastic
        binary networks", for the measures.

    >>> import torch, srste
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 8), srste.BinaryActivation(), torch.nn.Linear(8, 1)
    ... )
    >>> inputs, targets = torch.randn(64, 4), torch.randn(64, 1)
    >>> quality = srste.gradient_quality(model, inputs, targets, estimator="disarm", samples=[1, 20])
    >>> quality.truth
    'the exact gradient of the network of Logistic units'
    >>> all_parameters = [row for row in quality.rows if not row.layer]
    >>> all_parameters[0].cosine < all_parameters[1].cosine
    True
    """
    for n in samples:
        _check_samples(n)
    _check_repeats(repeats)
    if truth not in quality.TRUTHS:
        raise ValueError(f"truth={truth!r}: must be one of {', '.join(quality.TRUTHS)}")
    _check_tensors(inputs, targets)
    if isinstance(estimator, str):
        overrides = ["estimator/normalisation=none", *overrides]
    made: Estimator = part("estimator", estimator, overrides)
    task = OneBatch(model, _loss(loss), inputs, targets, seed)
    batch = task.batch(1)
    compared = quality.truth_for(task, batch, made, truth, radius)
    exact = compared.gradient(task, batch)
    name = estimator if isinstance(estimator, str) else type(estimator).__name__
    return GradientQuality(
        name, compared.words, quality.gradient_quality(task, batch, made, exact, samples, repeats)
    )


def radius_quality(
    model: nn.Module,
    inputs: Shaped[Tensor, "batch *features"],
    targets: Shaped[Tensor, "batch *targets"],
    *,
    estimator: str | Smoothed = "spsa",
    radii: Sequence[float] | None = None,
    samples: int = 1,
    repeats: int = 10,
    radius: float = 0.1,
    loss: str | LossFunction = "squared_error",
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> RadiusQuality:
    """How good an estimator by differences of the loss is at every radius: two loss curves for each of
    its directions give the differences for all radii at once.

    Args:
        model, inputs, targets, loss, seed, overrides: as for :func:`estimate`.
        estimator: "nes", "spsa", "guided_es" or "fogzo", or an object of their classes.
        radii: > 0; by default 60 from 0.001 to 3, evenly on a logarithmic axis.
        samples: of each estimate, >= 1; of 10 directions each by default. repeats: estimates, >= 2.
        radius: of the discrete gradient that it is compared with, > 0.
    Returns: ``rows``, ``frame()``, ``plot()`` and ``best``; ``exact`` says whether the loss curves were.
    Raises: ValueError for what is not allowed.

    >>> import torch, srste
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 8), srste.BinaryActivation(), torch.nn.Linear(8, 1)
    ... )
    >>> inputs, targets = torch.randn(64, 4), torch.randn(64, 1)
    >>> quality = srste.radius_quality(model, inputs, targets, estimator="spsa", repeats=4)
    >>> quality.exact, len(quality.rows)
    (True, 60)
    """
    _check_samples(samples)
    _check_tensors(inputs, targets)
    _check_repeats(repeats)
    chosen = [float(e) for e in (np.geomspace(1e-3, 3, 60) if radii is None else radii)]
    if not chosen or not all(0 < e < math.inf for e in chosen):
        raise ValueError(f"radii={radii!r}: must be numbers > 0")
    made: Estimator = part("estimator", estimator, overrides)
    if not isinstance(made, Smoothed):
        raise ValueError(f"estimator={estimator!r}: must be one of fogzo, guided_es, nes, spsa")
    task = OneBatch(model, _loss(loss), inputs, targets, seed)
    batch = task.batch(1)
    truth = quality.Truth(None, radius)
    rows, exact = of_radii(task, batch, made, truth.gradient(task, batch), chosen, samples, repeats)
    name = estimator if isinstance(estimator, str) else type(estimator).__name__
    return RadiusQuality(name, truth.words, samples, exact, rows)


def load(*folders: str | Path) -> Results:
    """The results of launches, or of any part of one.

    Args: folders: such as ``multirun/...``, read at any depth.
    Returns: the results: ``frame()``, ``studies``, ``verdicts()``, ``report(path)``.
    Raises: ValueError for a folder without studies, or without any folder.

    In a folder where ``python train.py -m estimator=sr_ste samples=1,2 ...`` has run:

    >>> import srste
    >>> results = srste.load("multirun")
    >>> results
    <6 studies of sr_ste, ste>
    >>> results.frame()[["estimator", "samples", "batch"]].head(2)
      estimator  samples  batch
    0    sr_ste        1      1
    1    sr_ste        1      2
    >>> results.studies[0].to_optuna().best_params.keys()
    dict_keys(['lr'])
    """
    if not folders:
        raise ValueError("load() takes the folders of launches, such as multirun/...")
    return Results([Path(folder) for folder in folders])


def _loss(given: str | LossFunction) -> LossFunction:
    """The loss that a name stands for; a curve takes a millisecond, in which none is to be built."""
    return _named_loss(given) if isinstance(given, str) else given


@cache
def _named_loss(name: str) -> LossFunction:
    loss: LossFunction = part("loss", name)
    return loss


def _is_of(group: str, override: str) -> bool:
    return override.lstrip("+~").startswith((f"{group}.", f"{group}/", f"{group}="))


def _check_samples(samples: int) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples={samples!r}: must be a whole number >= 1")


def _check_repeats(repeats: int) -> None:
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 2:
        raise ValueError(f"repeats={repeats!r}: must be a whole number >= 2")


def _check_tensors(inputs: object, targets: object) -> None:
    for name, given in (("inputs", inputs), ("targets", targets)):
        if not isinstance(given, Tensor):
            advice = f"torch.as_tensor({name}) makes one"
            raise ValueError(f"{name} must be a tensor, not a {type(given).__name__}; {advice}")
