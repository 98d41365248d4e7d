"""Whatever becomes of what is printed, the launch has its files, its report and its runs."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from srste.launch.streams import TolerantStream, tolerant_streams
from tests.support import ROOT, empty_database, only, runs_in

SWEEP = "-m samples=1,2 batches=1 batch_size=16 sampling.step=0.1 heldout=10 model.width=4"
COMMAND = f"{sys.executable} {ROOT / 'train.py'} {SWEEP}"


def shell(cwd, line, **environment):
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=False,
                          env=os.environ | environment)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "{} | head -1; exit ${{PIPESTATUS[0]}}",
        "{} 2>&1 | true; exit ${{PIPESTATUS[0]}}",
        "{} >&- 2>&- <&-",
        "{} >/dev/full 2>/dev/full",
        "PYTHONIOENCODING=ascii {}",
    ],
    ids=["head", "both into a pipe that nobody reads", "closed", "a full disk", "ascii"],
)
def test_a_launch_is_complete(tmp_path, line):
    work = tmp_path / "é [x]" if "ascii" in line else tmp_path
    work.mkdir(exist_ok=True)
    (work / "mlflow.db").write_bytes(empty_database())
    more = " \"estimator.name='é[/b]'\" hydra.sweep.dir=\"'[/é]'\"" if "ascii" in line else ""
    done = shell(work, line.format(COMMAND + more))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    root = work / "[" / "é]" if more else only(work / "multirun")
    for name in ("results.csv", "table.txt", "figure.png", "report.html", "report/studies.csv"):
        assert (root / name).stat().st_size > 0
    kinds = [run.data.tags["kind"] for run in runs_in(f"sqlite:///{work}/mlflow.db")]
    assert sorted(kinds) == ["launch", "study", "study", "study", "summary", "summary"]
    if "head" in line:
        assert "train.py: standard output ended early (Broken pipe)" in done.stderr
    if more:
        assert "\\xe9[/b]" in done.stdout


def test_every_command_outlasts_its_reader(tmp_path):
    for command in ("train.py --help", "train.py --cfg job", "-m srste --help"):
        done = shell(ROOT, f"{sys.executable} {command} | true; exit ${{PIPESTATUS[0]}}")
        assert done.returncode == 0, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


class Ends(io.StringIO):
    """A stream that takes that many writes."""

    def __init__(self, room, error):
        super().__init__()
        self.room, self.error = room, error

    def write(self, text):
        self.room -= 1
        if self.room < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), ValueError("closed")]
)
def test_a_stream_goes_on_into_nothing(error):
    below = Ends(2, error)
    stream = TolerantStream(below)
    for word in "abcd":
        assert stream.write(word) == 1
    stream.flush()
    assert below.getvalue() == "ab"
    assert stream.failure in ("Broken pipe", "Input/output error", "closed")


def test_what_an_encoding_has_not_is_written_as_escapes():
    raw = io.BytesIO()
    stream = TolerantStream(io.TextIOWrapper(raw, "latin-1"))
    stream.write("é € \udcff\n")
    stream.flush()
    assert raw.getvalue() == b"\xe9 \\u20ac \\udcff\n"


def test_the_streams_are_put_back(capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), tolerant_streams("x"):
        print("one")
        raise KeyError
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("one\n", "")
