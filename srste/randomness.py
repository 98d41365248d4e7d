"""Named random streams: one seed and a stream per use, so that no result depends on order.

A stream is a NumPy generator whose 128-bit key is a hash of the seed and the stream's name, for
example ``stream(0, "rounding", "batch", 3, "sample", 1)``. Streams are independent of each other,
of the order of jobs and of processes. Numbers are drawn on the CPU, also for a GPU.

PyTorch's CPU generator is not used: it keeps 32 bits of its seed, which collide (probability one
half) at about 80,000 streams.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Stream = np.random.Generator


def _digest(seed: int, names: tuple[str | int, ...]) -> bytes:
    # repr() keeps 1 and "1", and ("a", "b") and ("ab",), apart.
    return hashlib.sha256(repr((int(seed), names)).encode()).digest()


def stream(seed: int, *names: str | int) -> Stream:
    """Return the random stream of that name: a Philox generator (Salmon et al., 2011) at its start.

    Args: seed: the study's seed, >= 0. names: words and numbers that name the use.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, names)[:16])))


def integer_seed(seed: int, *names: str | int) -> int:
    """Return a 32-bit seed, named like a stream, for libraries that take an integer."""
    return int.from_bytes(_digest(seed, names)[:4])


@contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """Within it, what a model draws from PyTorch's own generators, as dropout does, is of that name's
    stream; after it they are as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(integer_seed(seed, *names))
        yield


def uniform(generator: Stream, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return independent float32 uniforms in [0, 1)."""
    return torch.from_numpy(generator.random(shape, dtype=np.float32)).to(device)


def normal(generator: Stream, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return independent float32 standard normals."""
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).to(device)
