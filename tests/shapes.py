"""The shapes in annotations, held against what functions get and give while the tests run.

Annotations name them by jaxtyping, which users need not have: it is imported by type checkers alone.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from types import SimpleNamespace
from typing import get_type_hints

import jaxtyping
import numpy as np
import torch

PACKAGES = ["srste.losses", "srste.networks", "srste.curve"]
MODULES = ["srste.api", "srste.curve.forward.evaluated"]


def modules():
    """Those of the public face whose functions have shapes in their annotations."""
    for package in map(importlib.import_module, PACKAGES):
        yield from (
            importlib.import_module(f"{package.__name__}.{module.name}")
            for module in pkgutil.iter_modules(package.__path__)
            if not module.ispkg
        )
    yield from map(importlib.import_module, MODULES)


def shapes_of(function):
    """By argument, and "return": jaxtyping's types."""
    names = vars(sys.modules[function.__module__]) | vars(jaxtyping)
    kinds = ("Float[", "Float64[", "Shaped[")
    shapes = {
        name: text
        for name, text in inspect.get_annotations(function).items()
        if isinstance(text, str) and text.startswith(kinds)
    }
    # Of these alone: other annotations may be of what type checkers alone import.
    return get_type_hints(SimpleNamespace(__annotations__=shapes), names)


def checked(function, shapes):
    """The function, which after each call that succeeds holds its arguments and its result to shapes."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        values = {**signature.bind(*args, **kwargs).arguments, "return": result}
        with jaxtyping.jaxtyped("context"):
            for name, shape in shapes.items():
                value = values.get(name)
                # Not what stands for a tensor while a forward is traced.
                if isinstance(value, torch.Tensor | np.ndarray):
                    given = f"{value.dtype} {tuple(value.shape)}"
                    assert isinstance(value, shape), f"{name} is {given}, and not {shape.__name__}"
        return result

    return call


def check_all():
    """Put the checked functions in the place of the others. Returns their names."""
    names = []
    for module in modules():
        owners = [module, *(c for _, c in inspect.getmembers(module, inspect.isclass))]
        for owner in (o for o in owners if getattr(o, "__module__", module.__name__) == module.__name__):
            for name, member in list(vars(owner).items()):
                function = member.fget if isinstance(member, property) else member
                if not inspect.isfunction(function) or function.__module__ != module.__name__:
                    continue
                if shapes := shapes_of(function):
                    call = checked(function, shapes)
                    setattr(owner, name, property(call) if isinstance(member, property) else call)
                    names.append(f"{module.__name__}.{function.__qualname__}")
    return names
