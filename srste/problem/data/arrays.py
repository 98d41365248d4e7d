"""Examples from a file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from hydra.utils import to_absolute_path
from numpy.typing import NDArray
from torch import Tensor

from srste.problem.data.base import Setting
from srste.randomness import Stream, stream


class Arrays:
    """Examples from a file of NumPy's, as they are: a batch is drawn from them without replacement.

    Args:
        path: of an ``.npz`` file with the arrays ``inputs`` (n, ...), floating or integer, which become
            float32, and ``targets`` (n, ...): floating ones become float32, integers are classes.
        features: how many numbers an input is made of, >= 1; the model is built for them.
        heldout: the part of the examples that are held out, > 0 and < 1. Which ones follows from the
            seed.
    Raises: ValueError for a file that is not there or not of this kind, and for other features.
    """

    def __init__(self, path: str, features: int, heldout: float = 0.2) -> None:
        if not isinstance(heldout, float) or not 0 < heldout < 1:
            raise ValueError(f"`Arrays(heldout={heldout})` must be > 0 and < 1")
        self.path = Path(to_absolute_path(str(Path(path).expanduser())))
        self.features = features
        self.heldout = heldout
        inputs, _ = self._arrays
        if (there := int(np.prod(inputs.shape[1:]))) != features:
            raise ValueError(f"`Arrays(features={features})` must be {there}, as in {self.path.name}")

    @property
    def identity(self) -> str:
        """The checksum of the file: with other examples a study is another one."""
        return self._read[0]

    @property
    def _arrays(self) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
        return self._read[1:]

    @cached_property
    def _read(self) -> tuple[str, NDArray[np.float32], NDArray[np.generic]]:
        """(checksum, inputs, targets), all of one reading: the file may change meanwhile."""
        named = f"`Arrays(path={self.path})`"
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ValueError(f"{named} cannot be read ({error.strerror})") from error
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file, np.errstate(over="ignore"):
                inputs = file["inputs"].astype(np.float32)
                targets = file["targets"]
                targets = targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)
            counts = len(inputs), len(targets)
        except Exception as error:  # whatever NumPy makes of any file
            wanted = "must be an .npz file of numbers with the arrays `inputs` and `targets`"
            raise ValueError(f"{named} {wanted}") from error
        if counts[0] != counts[1] or counts[0] < 2:
            has = f"has {counts[0]} inputs and {counts[1]} targets"
            raise ValueError(f"{named} {has}; they must be as many, and two at least")
        for name, array in (("inputs", inputs), ("targets", targets)):
            if not np.isfinite(array).all():
                raise ValueError(f"{named}: `{name}` holds a value that is not finite in float32")
        return hashlib.sha256(content).hexdigest(), inputs, targets

    def most(self, heldout: bool) -> int | None:
        """See :class:`srste.problem.data.base.Data`."""
        count = len(self._arrays[0])
        aside = min(max(1, round(self.heldout * count)), count - 1)
        return aside if heldout else count - aside

    def source(self, setting: Setting) -> ArraysSource:
        """See :class:`srste.problem.data.base.Data`."""
        inputs, targets = self._arrays
        order = stream(setting.seed, "heldout", "of", "arrays").permutation(len(inputs))
        aside = self.most(heldout=True)
        return ArraysSource(
            inputs=torch.from_numpy(inputs).to(setting.device),
            targets=torch.from_numpy(targets).to(setting.device),
            of_batches=order[aside:],
            held_out=order[:aside],
        )


@dataclass(frozen=True)
class ArraysSource:
    """The examples of a file: the numbers of those that batches have, and of those held out."""

    inputs: Tensor
    targets: Tensor
    of_batches: NDArray[np.int64]
    held_out: NDArray[np.int64]

    def draw(self, generator: Stream, size: int, heldout: bool = False) -> tuple[Tensor, Tensor]:
        """See :class:`srste.problem.data.base.Source`."""
        numbers = self.held_out if heldout else self.of_batches
        chosen = torch.from_numpy(generator.choice(numbers, size, replace=False))
        return self.inputs[chosen], self.targets[chosen]
