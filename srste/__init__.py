"""Which gradient estimator takes the better step, by how much, and is it real?

The experiment: from the same weights and the same batch, take an estimator's normalised direction,
know the loss at every learning rate along it, keep the lowest. See README.md.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from srste.api import loss_curve

__all__ = ["loss_curve"]


def __getattr__(name: str) -> Any:
    # The libraries take seconds to import: not before a name is used that needs them.
    if name in __all__:
        from srste import api

        return getattr(api, name)
    raise AttributeError(f"module 'srste' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
