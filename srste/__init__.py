"""Which gradient estimator takes the better step, by how much, and is the difference real?

From the same weights and the same batch, take an estimator's direction, know the loss at every learning
rate along it, and keep the lowest:

    g = srste.estimate("sr_ste", model, inputs, targets, samples=10)
    curve = srste.loss_curve(model, g, inputs, targets)
    study = srste.run_study(model, inputs, targets, estimator="sr_ste", samples=10)
    quality = srste.gradient_quality(model, inputs, targets, estimator="reinmax")
    by_radius = srste.radius_quality(model, inputs, targets, estimator="spsa")
    results = srste.load("multirun/...")

What `__all__` names is promised; everything else may change.
"""

import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from srste import testing
    from srste.api import estimate, gradient_quality, load, loss_curve, radius_quality, run_study
    from srste.networks.activations import BinaryActivation, BinaryStep
    from srste.networks.converting import convert

__all__ = [
    "BinaryActivation",
    "BinaryStep",
    "convert",
    "estimate",
    "gradient_quality",
    "load",
    "loss_curve",
    "radius_quality",
    "run_study",
    "testing",
]


def __getattr__(name: str) -> Any:
    # The libraries take seconds to import: not before a name is used that needs them.
    if name in ("BinaryActivation", "BinaryStep"):
        from srste.networks import activations

        return getattr(activations, name)
    if name == "convert":
        from srste.networks.converting import convert

        return convert
    if name == "testing":
        import srste.testing

        return srste.testing
    if name in __all__:
        with warnings.catch_warnings():
            # tqdm warns in a notebook without widgets, which are not used.
            warnings.filterwarnings("ignore", "IProgress not found")
            from srste import api

        return getattr(api, name)
    raise AttributeError(f"module 'srste' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
