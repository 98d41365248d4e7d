"""Signals that end a launch, and those that must wait."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from srste.launch.cluster.slurm import name_of
from srste.launch.signals import Terminated, deferred, exit_code, ignored, raise_terminated


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_they_end_the_program_as_ctrl_c_does(number):
    before = signal.getsignal(number)
    with pytest.raises(Terminated) as caught, raise_terminated():
        os.kill(os.getpid(), number)
    assert exit_code(caught.value) == 128 + number
    assert exit_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(number) == before


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_terminated():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_deferred_they_come_at_the_end_of_the_block():
    reached = []
    with pytest.raises(Terminated), raise_terminated():
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("the end")
        reached.append("too far")
    assert reached == ["the end"]


def test_ignored_they_never_come():
    with raise_terminated():
        with ignored():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN


def test_a_copy_of_a_launch_s_folder_has_slurm_jobs_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert name_of(tmp_path / "a") == name_of(tmp_path / "b") == name_of(Path("a"))
    assert name_of(tmp_path / "a") != name_of(tmp_path / "c")
