"""Where the main job's time goes.

    python benchmarks/parts.py

Runs `python train.py -m estimator=sr_ste samples=1,2,...,10` in a new folder, with a fresh MLflow
store, and prints the wall time and the time in each part, counted inside the process itself. MLflow
writes in a process of its own, for which the launch waits as it opens the store and at the end.
Arguments are passed on: `python benchmarks/parts.py pretraining=adam`.
"""

from __future__ import annotations

import importlib
import json
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

PARTS = {
    "estimators": [("srste.estimators.straight_through", "StraightThrough.direction")],
    "loss curves": [("srste.study.study", "_curve"), ("srste.curve.loss_curve", "ExactCurve.__call__")],
    "held-out loss": [("srste.study.heldout", "evaluate_heldout")],
    "draws checked": [("srste.study.checks", "ignores_draws")],
    "replays": [("srste.study.replay", "replay")],
    "records": [("srste.store.trial_tables", "packed"), ("srste.store.records", "write")],
    "waiting for MLflow": [
        ("srste.launch.tracker", f"Tracker.{name}") for name in ("open", "finish", "close")
    ],
    "pretraining": [("srste.store.pretrained", "pretrained")],
    "composing the sweep": [("srste.launch.composing", "compose")],
    "checking the sweep": [("srste.launch.preflight", "check")],
    "answers": [("srste.report.chapters", "chapters")],
    "report": [("srste.launch.results", "report_on")],
    "table and figures": [
        ("srste.report.launch_files", "write_files"),
        ("srste.report.terminal", "print_answers"),
    ],
}


def timed_inside(arguments: list[str], report: str) -> None:
    """Runs train.py here with a clock around each part."""
    started = time.perf_counter()
    sys.path.insert(0, str(ROOT))
    spent: dict[str, float] = {}
    modules = {module for places in PARTS.values() for module, _ in places}
    for module in sorted(modules):
        importlib.import_module(module)
    spent["imports"] = time.perf_counter() - started
    for part, places in PARTS.items():
        for module, name in places:
            _put_a_clock_around(importlib.import_module(module), name, part, spent)

    sys.argv = [str(ROOT / "train.py"), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        Path(report).write_text(json.dumps(spent))


def _put_a_clock_around(module, name: str, part: str, spent: dict[str, float]) -> None:
    owner = module
    *path, last = name.split(".")
    for step in path:
        owner = getattr(owner, step)
    original = getattr(owner, last)

    def clocked(*args, **kwargs):
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - started

    setattr(owner, last, clocked)
    # Modules that imported the function by name hold it too.
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("srste") and getattr(other, last, None) is original:
            setattr(other, last, clocked)


def main() -> None:
    arguments = ["-m", "estimator=sr_ste", "samples=1,2,...,10", *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, __file__, "--inside", str(report), *arguments]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        wall = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        spent = json.loads(report.read_text())
    summary = next(line for line in done.stdout.splitlines() if " trials in " in line)
    print(f"python train.py {' '.join(arguments)}\n{summary.split(';')[0]}\n")
    print(f"{'part':<22}{'seconds':>9}{'share':>8}")
    rest = wall - sum(spent.values())
    for part, seconds in sorted({**spent, "the rest": rest}.items(), key=lambda item: -item[1]):
        print(f"{part:<22}{seconds:>9.2f}{seconds / wall:>8.0%}")
    print(f"{'wall time':<22}{wall:>9.2f}")
    both = spent["estimators"] + spent["loss curves"]
    print(f"\nestimators and loss curves {both:.2f} s, wall time {wall:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        timed_inside(sys.argv[3:], sys.argv[2])
    else:
        main()
