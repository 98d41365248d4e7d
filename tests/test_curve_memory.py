"""What memory there is, from files laid out as the kernel does, and what a computation holds."""

from __future__ import annotations

import sys

import psutil
import pytest
import torch

from srste.curve.forward.memory import available_memory, control_group_memory, peak_bytes

MIB = 2**20


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def version_2(folder, limit, used, cached=0):
    write(
        folder, memory__max=limit, memory__current=used, memory__stat=f"anon 5\ninactive_file {cached}"
    )


@pytest.fixture
def files(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job\n")
    return tmp_path / "mounted", own


def test_the_tightest_group_of_version_2_counts(files):
    root, own = files
    version_2(root / "slurm" / "job", "max", 300 * MIB)
    assert control_group_memory(root, own) == sys.maxsize
    version_2(root / "slurm", 1000 * MIB, 400 * MIB, cached=100 * MIB)
    assert control_group_memory(root, own) == 700 * MIB
    version_2(root / "slurm" / "job", 500 * MIB, 300 * MIB)
    assert control_group_memory(root, own) == 200 * MIB
    version_2(root / "slurm" / "job", 500 * MIB, 600 * MIB)
    assert control_group_memory(root, own) == 0


def test_in_a_container_the_limit_stands_at_the_root(files):
    root, own = files
    version_2(root, 100 * MIB, 10 * MIB)
    assert control_group_memory(root, own) == 90 * MIB


def test_version_1(files):
    root, own = files
    own.write_text("9:name=systemd:/\n4:cpu,memory:/job\n1:cpu:/\n0::/\n")
    write(
        root / "memory" / "job",
        memory__limit_in_bytes=200 * MIB,
        memory__usage_in_bytes=150 * MIB,
        memory__stat=f"total_inactive_file {40 * MIB}",
    )
    assert control_group_memory(root, own) == 90 * MIB


def test_where_there_are_no_control_groups(tmp_path):
    assert control_group_memory(tmp_path, tmp_path / "none") == sys.maxsize


def test_of_this_machine():
    available = available_memory(torch.device("cpu"))
    assert 0 < available <= psutil.virtual_memory().total


def test_peak_counts_what_is_held_together():
    x = torch.ones(MIB // 4)  # a MiB that was there before

    def chain():
        y = x
        for _ in range(5):
            y = y + 1
        return y

    def kept():
        return [x + 1 for _ in range(5)]

    assert peak_bytes(chain) == 2 * MIB
    assert peak_bytes(kept) == 5 * MIB
    assert peak_bytes(lambda: x.view(2, -1).mul_(2)) == 0
    assert peak_bytes(lambda: x.view(2, -1).sum(1)) == 8
    assert peak_bytes(lambda: torch.eye(2).to_sparse()) < 1000
