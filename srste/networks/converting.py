"""Binary activations in the place of a network's own sign modules."""

import copy

import torch
from torch import Tensor, nn

from srste.networks.activations import BinaryActivation, BinaryStep

_PROBES = (-3.0, -0.7, -1e-3, 1e-3, 0.7, 3.0)


def convert(model: nn.Module) -> nn.Module:
    """A copy of a model with :class:`BinaryActivation` in the place of its modules that compute a sign,
    and :class:`BinaryStep` in that of those that compute a step from 0 to 1, whatever gradient they
    give.

    A module counts if it has no parameters and gives -1 (0) for all negative numbers that are tried and
    +1 for all positive ones. At zero the copy gives +1, where ``torch.sign`` gives 0. A sign that is a
    function in a forward is not seen.

    Raises: ValueError if there is no such module.

    >>> import torch, srste
    >>> class Sign(torch.nn.Module):
    ...     def forward(self, a):
    ...         return a.sign()
    >>> srste.convert(torch.nn.Sequential(torch.nn.Linear(3, 2), Sign()))
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): BinaryActivation()
    )
    """
    converted = copy.deepcopy(model)
    if (kind := _kind_of(converted)) is not None:
        return kind()
    count = 0
    for parent in list(converted.modules()):
        for name, child in parent._modules.items():
            if child is not None and (kind := _kind_of(child)) is not None:
                parent._modules[name] = kind()
                count += 1
    if not count and not any(isinstance(m, BinaryActivation) for m in converted.modules()):
        raise ValueError(
            "no module of the model computes a sign; put srste.BinaryActivation() where its forward "
            "calls one"
        )
    return converted


def _kind_of(module: nn.Module) -> type[BinaryActivation] | None:
    """What can take the place of a module; None if nothing can."""
    if isinstance(module, BinaryActivation) or any(True for _ in module.parameters()):
        return None
    probes = torch.tensor([_PROBES])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = copy.deepcopy(module)(probes.clone())
    except Exception:  # whatever a module makes of an input that it is not for
        return None
    if not isinstance(output, Tensor) or output.shape != probes.shape:
        return None
    for kind in (BinaryActivation, BinaryStep):
        low, high = kind.levels
        if torch.equal(output.to(probes), torch.where(probes >= 0, high, low)):
            return kind
    return None
