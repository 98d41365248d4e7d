"""A launch from beginning to end: check, run the jobs through Hydra, show what they found."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from srste import preflight, records
from srste.config import Job
from srste.ellipsis import expand
from srste.errors import UserError, first_line, without_password
from srste.manifest import Launch, open_launch, read_launch
from srste.preflight import DEFAULTS, Plan
from srste.progress import Reporter, reporting
from srste.report.ending import description, front, names, show, write_files
from srste.report.summary import conditions
from srste.run import Folders, pretrainings, run_job

if TYPE_CHECKING:
    from srste.tracking import Store

log = logging.getLogger(__name__)


def job(config: DictConfig) -> None:
    """What Hydra runs: one job, its records, and their runs in MLflow."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else folder
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    checked = Job(config)
    found = run_job(checked, Folders(folder, root))
    this = read_launch(root)
    if this is not None and checked.tracking["name"] != "none":
        _track_job(checked, this, found, root)


_given_up: set[str] = set()
"""Launches whose store failed in this process: the rest of their jobs only leave records."""


def _track_job(checked: Job, this: Launch, found: list[Path], root: Path) -> None:
    """Logs the job's studies while the sweep goes on; if the store fails, that can wait."""
    from srste.tracking import StoreError

    if this.id in _given_up:
        return
    try:
        if store := _store(checked.tracking):
            store.sync(this, found, pretrainings([checked], root))
    except (UserError, *StoreError) as error:
        _given_up.add(this.id)
        log.warning(
            "MLflow: %s. The records are kept, and put there at the end if it answers again",
            first_line(error),
        )


def launch(task: Callable[[], Any], argv: list[str], config_dir: Path) -> int:
    """Runs a command line. task: the `hydra.main` function. Returns the exit code.

    0: done. 1: a job failed. 2: the user's input was refused, or the tracking server stopped
    answering. 130: interrupted.
    """
    try:
        plan = preflight.check(argv, config_dir)
        if plan is None:
            sys.argv[1:] = [expand(a) for a in argv]
            return _run(task)
        with _alone_in(plan.root):
            return _launch_checked(task, plan)
    except UserError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the jobs, or after them
        print("train.py: interrupted; the same command goes on from there", file=sys.stderr)
        return 130


def _alone_in(root: Path) -> AbstractContextManager[object]:
    """Holds the launch's folder, so that the same command does not run there twice at once; the
    system lets go of it however the process ends. Raises: UserError if another process holds it."""
    try:
        return FileLock(root / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{root}: another process is running this command there; wait for it, or name another "
            "folder by hydra.run.dir or, with -m, hydra.sweep.dir"
        ) from error


def _launch_checked(task: Callable[[], Any], plan: Plan) -> int:
    try:
        store = _store(plan.jobs[0].tracking)
    except UserError as error:
        raise UserError(f"{error}; what was recorded before is kept in {plan.root}") from error
    started = time.perf_counter()
    name = without_password(plan.name)
    words = ["python train.py", "-m" if plan.multirun else "", "" if name == DEFAULTS else name]
    command = " ".join(filter(None, words))
    this = open_launch(plan.root, name, plan.multirun, command)
    sys.argv[1:] = plan.argv
    if stale := sum(record.key not in plan.keys for _, record in records.find(plan.root)):
        print(f"{stale} records there are of other settings or code, and are not reused")
    for estimator in plan.that_ignore_samples:
        print(f"estimator={estimator} draws nothing: it ignores `samples`, one study a batch serves all")
    with reporting(len(plan.keys)) as reporter:
        code = _run(task)
    if code:
        print(
            f"train.py: stopped after {len(reporter.done)} of {len(plan.keys)} studies; their records "
            f"are kept in {plan.root}, and the same command goes on from there",
            file=sys.stderr,
        )
        return code
    tracked = _finish(plan, this, store, reporter, time.perf_counter() - started)
    return 0 if tracked else 2


def _run(task: Callable[[], Any]) -> int:
    try:
        task()
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def _store(tracking: dict[str, Any]) -> Store | None:
    if tracking["name"] == "none":
        return None
    from srste.tracking import connect

    return connect(tracking["uri"], tracking["experiment"])


def _finish(plan: Plan, this: Launch, store: Store | None, reporter: Reporter, seconds: float) -> bool:
    """The table, the figures, the link. Returns whether MLflow has everything."""
    # Records of other settings or older code may lie in the same folder, and two jobs may have asked
    # for the same study; one record counts for each that this launch is about.
    found = {r.key: (f, r) for f, r in records.find(plan.root) if r.key in plan.keys}
    studies = [record for _, record in found.values()]
    arranged = conditions(studies)
    # Into a file or a pipe the table goes as wide as it is.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    show(arranged, console)
    files = write_files(arranged, plan.root)

    trials = sum(record.trials for record in studies)
    reused = f", {reporter.reused} reused" if reporter.reused else ""
    console.print(
        f"\n{len(studies)} studies{reused}, {trials:,} trials in {seconds:.0f} s; "
        f"records, tables and figures in {plan.root}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if store is None:
        return True
    from srste.tracking import StoreError

    try:
        store.sync(this, [f for f, _ in found.values()], pretrainings(plan.jobs, plan.root))
        store.track_launch(
            this,
            configs=[job.config for job in plan.jobs],
            description=description(arranged),
            files=files,
            studies=names(arranged),
            front=front(arranged),
        )
    except StoreError as error:
        print(
            f"train.py: MLflow did not take everything ({first_line(error)}); the records "
            f"are kept in {plan.root}, and the same command puts them there later",
            file=sys.stderr,
        )
        return False
    where = "" if store.uri.startswith("http") else "run `mlflow ui` in this folder, then open "
    console.print(f"Charts: {where}{store.link(this)}", highlight=False, soft_wrap=True)
    return True
