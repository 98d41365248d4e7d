"""How much memory there is, and how much a computation takes at its peak.

Passes must fit beforehand: on a CPU there is no error for want of memory at which to take less, as the
kernel ends a process that has too much.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CGROUPS, PROCESS_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory(device: torch.device) -> int:
    """Bytes that can be had on that device without pressing on anything else.

    CUDA: what is free on the card and what PyTorch holds there without using it. CPU: what the machine
    has available, or less where a control group (a container, a Slurm job) allows less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept
    return min(int(psutil.virtual_memory().available), control_group_memory())


def control_group_memory(root: Path = CGROUPS, process: Path = PROCESS_CGROUP) -> int:
    """Bytes that the control groups of this process (version 1 or 2) still allow, at least 0; where
    there is no limit, a number larger than any memory.

    Args: root: where they are mounted. process: the file that names those of this process.
    """
    return max(0, min(_allowances(root, process), default=sys.maxsize))


def _allowances(root: Path, process: Path) -> Iterator[int]:
    names = {
        "memory.max": ("memory.current", "inactive_file"),
        "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
    }
    for folder in _folders(root, process):
        for limit, (usage, cache) in names.items():
            try:
                allowed = (folder / limit).read_text().strip()
                if allowed == "max":
                    continue
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                # The kernel gives back cached files before it refuses memory.
                used = int((folder / usage).read_text()) - int(stat.get(cache, 0))
            except (OSError, ValueError):
                continue
            yield int(allowed) - used


def _folders(root: Path, process: Path) -> Iterator[Path]:
    """Those that may hold a limit: a group is bound by its parents' too, and inside a container its
    name may be the one outside, of which only the root is there."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        for mount in (root, root / "unified") if not controllers else (root / "memory",):
            yield from (mount / part for part in (group, *group.parents))


class _AllocatedBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of the tensors that operators make and that are still referred to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        passed = {storage._cdata for storage in _storages((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            # A view, or what was written in place, holds nothing new.
            if storage._cdata not in passed and storage not in self._seen:
                self._seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._released, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _released(self, size: int) -> None:
        self.now -= size


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    tensors = (value for value in tree_leaves(values) if isinstance(value, Tensor))
    return (t.untyped_storage() for t in tensors if t.layout == torch.strided)  # sparse ones have none


def peak_bytes(function: Callable[[], object]) -> int:
    """Calls it and returns the most bytes that tensors made by it held at any one time; what an operator
    takes for itself while it runs does not count."""
    allocated = _AllocatedBytes()
    with allocated:
        function()
    return allocated.peak
