"""Which of PyTorch's functions, methods and modules are linear, and in what."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from srste.curve.network.affine import Function

KERNELS: frozenset[Function] = frozenset(
    {
        functional.linear, functional.conv1d, functional.conv2d, functional.conv3d,
        torch.conv1d, torch.conv2d, torch.conv3d,
    }
)  # fmt: skip
"""Of an input, weights and a bias."""
MATRIX_PRODUCTS: frozenset[Function] = frozenset({operator.matmul, torch.matmul, torch.mm, torch.bmm})
_LINEAR_IN_BOTH = (
    "flatten", "unflatten", "reshape", "permute", "transpose", "movedim", "squeeze", "unsqueeze",
    "narrow", "select", "index_select", "clone", "flip", "roll", "mean", "sum",
)  # fmt: skip
"""Functions of ``torch`` and methods of its tensors."""
LINEAR: frozenset[Function] = frozenset(
    {
        *(getattr(torch, name) for name in _LINEAR_IN_BOTH), operator.getitem,
        functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d,
        functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d,
    }
)  # fmt: skip
LINEAR_METHODS = frozenset({*_LINEAR_IN_BOTH, "view", "contiguous", "detach"})
UNCHANGED = frozenset({"detach", "clone", "contiguous"})
"""Methods that give the value that they are of."""
UNCHANGING: frozenset[Function] = frozenset({torch.clone, torch.detach})
CONSTANTS: frozenset[Function] = frozenset({torch.zeros_like, torch.ones_like, torch.full_like})
"""Of a tensor's shape alone."""
TRANSPOSES = frozenset({"T", "mT"})
"""Attributes."""
IN_PARTS: frozenset[Function] = frozenset({torch.chunk, torch.split, torch.unbind, torch.tensor_split})
METHODS_IN_PARTS = frozenset(function.__name__ for function in IN_PARTS)
"""Linear; they give several."""
JOINS: frozenset[Function] = frozenset({torch.cat, torch.concat, torch.stack})
SUMS: dict[Function, int] = {
    operator.add: 1, operator.iadd: 1, torch.add: 1, operator.sub: -1, operator.isub: -1, torch.sub: -1,
}  # fmt: skip
PRODUCTS: frozenset[Function] = frozenset({operator.mul, operator.imul, torch.mul})
QUOTIENTS: frozenset[Function] = frozenset({operator.truediv, operator.itruediv, torch.div})
NEGATIVES: frozenset[Function] = frozenset({operator.neg, torch.neg})
COMPARISONS: dict[Function, str] = {
    operator.ge: "ge", torch.ge: "ge", operator.gt: "gt", torch.gt: "gt",
    operator.le: "le", torch.le: "le", operator.lt: "lt", torch.lt: "lt",
}  # fmt: skip
AS_FUNCTIONS: dict[str, Function] = {
    "add": torch.add, "add_": torch.add, "sub": torch.sub, "sub_": torch.sub, "mul": operator.mul,
    "mul_": operator.mul, "div": operator.truediv, "div_": operator.truediv, "neg": operator.neg,
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt, "sign": torch.sign,
    "matmul": torch.matmul, "mm": torch.mm, "bmm": torch.bmm,
}  # fmt: skip
"""Methods that are functions too."""
CASTS = frozenset({"float", "double", "to", "type_as"})
LINEAR_MODULES = (
    nn.Flatten, nn.Unflatten, nn.Identity, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d,
    nn.ZeroPad3d, nn.PixelShuffle, nn.PixelUnshuffle,
)  # fmt: skip
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORM = nn.modules.batchnorm._BatchNorm
DROPOUT = nn.modules.dropout._DropoutNd
_CLAMPS = frozenset({"clamp", "clip", "hardtanh", "Hardtanh"})
_SQUASHES = frozenset({"tanh", "Tanh", "softsign", "Softsign"})


def bounded(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, bool] | None:
    """How large in magnitude an elementwise function of that name is at most, and whether it has the
    sign of its argument; None if that is not known. args, kwargs: what else it takes, numbers."""
    if name in _SQUASHES:
        return 1.0, True
    if name in ("sigmoid", "Sigmoid"):
        return 1.0, False
    if name not in _CLAMPS:
        return None
    hard = name in ("hardtanh", "Hardtanh")
    low, high = (-1.0, 1.0) if hard else (None, None)
    low = args[0] if args else kwargs.get("min_val" if hard else "min", low)
    high = args[1] if len(args) > 1 else kwargs.get("max_val" if hard else "max", high)
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return None
    return max(abs(low), abs(high)), low < 0 < high
