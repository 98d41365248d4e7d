"""What a user waits for, from the command to the answer.

    python benchmarks/waiting.py                       this tree alone
    python benchmarks/waiting.py --against HEAD~1      in turns with another revision, and the ratios

Each command runs on a terminal of its own (a pseudo-terminal), in a new folder with a new MLflow store,
`--repeats` times; a figure is the median. `cold` is without compiled kernels, `again` the same command
in the same folder. For the main job also: when the first line appears, the longest time without output,
and the memory of the process at its peak. Figures are kept in benchmarks/results/waiting-COMMIT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAIN = ["-m", "estimator=sr_ste", "samples=1,2,...,10"]
QUICK = ["-m", "samples=1,2", "batches=1", "batch_size=64", "sampling.step=1e-3", "heldout=100"]
ROWS = {
    "main job": "s", "first line": "s", "longest silence": "s", "peak memory": "MiB",
    "main job, again": "s", "main job, cold": "s", "--help": "s", "a refused command": "s",
}  # fmt: skip


def run(tree: Path, folder: Path, arguments: list[str], **environment: str) -> dict[str, float]:
    """Run train.py of a tree on a terminal. Returns seconds until the end, until the first output and of
    the longest silence, and MiB at the peak."""
    reader, terminal = pty.openpty()
    started = last = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(tree / "train.py"), *arguments], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=terminal, stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(tree), "TERM": "xterm", "COLUMNS": "80"} | environment,
    )  # fmt: skip
    os.close(terminal)
    first, silence = None, 0.0
    while True:
        try:
            chunk = os.read(reader, 65_536)
        except OSError:  # how Linux says that nobody writes any more
            chunk = b""
        now = time.perf_counter()
        silence, last = max(silence, now - last), now
        if not chunk:
            break
        first = first or now
    os.close(reader)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = time.perf_counter()
    return {
        "wall": ended - started, "first": (first or ended) - started, "silence": silence,
        "memory": usage.ru_maxrss / 1024, "code": process.returncode,
    }  # fmt: skip


def measured(tree: Path, job: list[str], cold: bool) -> dict[str, float]:
    """Return each row of the table, measured once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        main = run(tree, folder, job)
        again = run(tree, folder, job)
        assert main["code"] == again["code"] == 0, "the main job failed"
        figures = {
            "main job": main["wall"], "first line": main["first"], "longest silence": main["silence"],
            "peak memory": main["memory"], "main job, again": again["wall"],
            "--help": run(tree, folder, ["--help"])["wall"],
            "a refused command": run(tree, folder, ["estimator=srste"])["wall"],
        }  # fmt: skip
        if cold:
            other, kernels = folder / "cold", folder / "kernels"
            other.mkdir()
            figures["main job, cold"] = run(tree, other, job, NUMBA_CACHE_DIR=str(kernels))["wall"]
    return figures


@contextmanager
def worktree(revision: str):
    """The files of a revision in a folder of their own, until the end of the block."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tree"
        subprocess.run([*git, "add", "--detach", str(folder), revision], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def commit_of(revision: str) -> str:
    words = ["git", "-C", str(ROOT), "rev-parse", "--short", revision]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", help="another revision, in turns with this tree")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small job, and no cold start: to try it")
    options = parser.parse_args()
    job = QUICK if options.quick else MAIN
    with ExitStack() as stack:
        trees = {commit_of("HEAD"): ROOT}
        if options.against:
            trees[commit_of(options.against)] = stack.enter_context(worktree(options.against))
        for tree in trees.values():
            with tempfile.TemporaryDirectory() as name:
                run(tree, Path(name), QUICK)  # compiles the kernels and the bytecode
        runs: dict[str, list[dict[str, float]]] = {commit: [] for commit in trees}
        for _ in range(options.repeats):
            for commit, tree in trees.items():
                runs[commit].append(measured(tree, job, cold=not options.quick))
    _print(job, runs)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        for commit, figures in runs.items():
            (RESULTS / f"waiting-{commit}.json").write_text(json.dumps(figures, indent=1))


def _print(job: list[str], runs: dict[str, list[dict[str, float]]]) -> None:
    print(f"python train.py {' '.join(job)}\n")
    print(
        f"{'':<22}" + "".join(f"{commit:>14}" for commit in runs) + ("   ratio" if len(runs) > 1 else "")
    )
    for row, unit in ROWS.items():
        medians = [median(figures[row] for figures in of) for of in runs.values() if row in of[0]]
        if medians:
            digits = 0 if unit == "MiB" else 2
            line = f"{row:<22}" + "".join(f"{value:>10.{digits}f} {unit:<3}" for value in medians)
            print(line + (f"{medians[0] / medians[1]:>8.2f}" if len(medians) > 1 else ""))


if __name__ == "__main__":
    main()
