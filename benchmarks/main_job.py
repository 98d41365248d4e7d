"""What a user waits for, from the command to the answer.

    python benchmarks/main_job.py                       this tree alone
    python benchmarks/main_job.py --against HEAD~1      in turns with another revision, and the ratios

Each command runs in a new folder with a new MLflow store, `--repeats` times; a figure is the median.
`again` is the same command in the same folder, `cold` is without compiled kernels and other files in the
user's cache. For the main job also: when the first output appears, the longest time without any, and the
memory of all of its processes together at its peak (proportional set size). The first two are on a
terminal (a pseudo-terminal); the cold job writes into a pipe. `--replicate` adds `experiment=replicate`,
once, which takes minutes. Figures are kept in benchmarks/results/main_job-COMMIT.json.

`benchmarks/parts.py` tells where the main job's time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAIN = ["-m", "estimator=sr_ste", "samples=1,2,...,10"]
REPLICATE = ["-m", "experiment=replicate"]
QUICK = ["-m", "samples=1,2", "batches=1", "batch_size=64", "sampling.step=1e-3", "heldout=100"]
ROWS = {
    "main job": "s", "first output": "s", "longest silence": "s", "peak memory": "MiB",
    "main job, again": "s", "main job, cold": "s", "first output, log": "s",
    "longest silence, log": "s", "--help": "s", "a refused command": "s",
    "experiment=replicate": "s", "its records": "MB",
}  # fmt: skip


def run(
    tree: Path, folder: Path, arguments: list[str], terminal: bool = True, **environment: str
) -> dict[str, float]:
    """Run train.py of a tree. Returns its exit code, seconds until the end, until the first output and
    of the longest silence, and MiB of memory at the peak."""
    reader, output = pty.openpty() if terminal else os.pipe()
    started = last = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, str(tree / "train.py"), *arguments], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=output, stderr=output,
        env=os.environ | {"PYTHONPATH": str(tree), "TERM": "xterm", "COLUMNS": "80",
                          "PYTHONDONTWRITEBYTECODE": ""} | environment,
    )  # fmt: skip
    os.close(output)
    first, silence, peak = None, 0.0, [0.0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process, peak, ended))
    watcher.start()
    while True:
        try:
            chunk = os.read(reader, 65_536)
        except OSError:  # how Linux says that nobody writes to a terminal any more
            chunk = b""
        now = time.perf_counter()
        silence, last = max(silence, now - last), now
        if not chunk:
            break
        first = first or now
    os.close(reader)
    code = process.wait()
    wall = time.perf_counter() - started
    ended.set()
    watcher.join()
    return {
        "wall": wall, "first": (first or started + wall) - started, "silence": silence,
        "memory": peak[0] / 2**20, "code": code,
    }  # fmt: skip


def _watch(process: psutil.Process, peak: list[float], ended: threading.Event) -> None:
    """Keep the largest memory of a process and of those that it started, looked at twice a second."""
    while not ended.wait(0.5):
        total = 0.0
        with suppress(psutil.Error):
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += one.memory_full_info().pss
        peak[0] = max(peak[0], total)


def measured(tree: Path, job: list[str], cold: bool) -> dict[str, float]:
    """Return each row of the table, measured once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        main = run(tree, folder, job)
        again = run(tree, folder, job)
        assert main["code"] == again["code"] == 0, "the main job failed"
        figures = {
            "main job": main["wall"], "first output": main["first"], "longest silence": main["silence"],
            "peak memory": main["memory"], "main job, again": again["wall"],
            "--help": run(tree, folder, ["--help"])["wall"],
            "a refused command": run(tree, folder, ["estimator=srste"])["wall"],
        }  # fmt: skip
        if cold:
            other, cache = folder / "cold", str(folder / "cache")
            other.mkdir()
            log = run(tree, other, job, False, NUMBA_CACHE_DIR=cache, XDG_CACHE_HOME=cache)
            figures["main job, cold"] = log["wall"]
            figures["first output, log"] = log["first"]
            figures["longest silence, log"] = log["silence"]
    return figures


def replicated(tree: Path) -> dict[str, float]:
    """Return the rows of `experiment=replicate`."""
    with tempfile.TemporaryDirectory() as name:
        done = run(tree, Path(name), REPLICATE, terminal=False)
        assert done["code"] == 0, "experiment=replicate failed"
        folders = [path.parent for path in Path(name, "multirun").rglob("record.json")]
        size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    return {"experiment=replicate": done["wall"], "its records": size / 1e6}


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
    parser.add_argument("--replicate", action="store_true", help="experiment=replicate, once")
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
        if options.replicate:
            for commit, tree in trees.items():
                runs[commit][0] |= replicated(tree)
    _print(job, runs)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        for commit, figures in runs.items():
            (RESULTS / f"main_job-{commit}.json").write_text(json.dumps(figures, indent=1))


def _print(job: list[str], runs: dict[str, list[dict[str, float]]]) -> None:
    print(f"python train.py {' '.join(job)}\n")
    print(
        f"{'':<22}" + "".join(f"{commit:>14}" for commit in runs) + ("   ratio" if len(runs) > 1 else "")
    )
    for row, unit in ROWS.items():
        of_row = [[figures[row] for figures in of if row in figures] for of in runs.values()]
        medians = [median(values) for values in of_row if values]
        if medians:
            digits = 2 if unit == "s" else 0
            line = f"{row:<22}" + "".join(f"{value:>10.{digits}f} {unit:<3}" for value in medians)
            print(line + (f"{medians[0] / medians[1]:>8.2f}" if len(medians) > 1 else ""))


if __name__ == "__main__":
    main()
