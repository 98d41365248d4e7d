"""Examples from a file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
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
        # The checksum is the identity: with other examples a study is another one.
        self.identity, self._inputs, self._targets = _read(self.path)
        if (there := int(np.prod(self._inputs.shape[1:]))) != features:
            raise ValueError(f"`Arrays(features={features})` must be {there}, as in {self.path.name}")

    def most(self, heldout: bool) -> int | None:
        """See :class:`srste.problem.data.base.Data`."""
        count = len(self._inputs)
        aside = min(max(1, round(self.heldout * count)), count - 1)
        return aside if heldout else count - aside

    def source(self, setting: Setting) -> ArraysSource:
        """See :class:`srste.problem.data.base.Data`."""
        order = stream(setting.seed, "heldout", "of", "arrays").permutation(len(self._inputs))
        aside = self.most(heldout=True)
        return ArraysSource(
            inputs=torch.from_numpy(self._inputs).to(setting.device),
            targets=torch.from_numpy(self._targets).to(setting.device),
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


def _read(path: Path) -> tuple[str, NDArray[np.float32], NDArray[np.generic]]:
    """Return (checksum, inputs, targets), all of one reading: the file may change meanwhile."""
    named = f"`Arrays(path={path})`"
    try:
        content = path.read_bytes()
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
