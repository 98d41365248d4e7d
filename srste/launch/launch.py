"""A launch from the command line to its exit code: refused, failed, interrupted or done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srste.errors import UserError, first_line, printable, without_password
from srste.launch.command_line import program
from srste.launch.composing import Composed, compose
from srste.launch.libraries import importing
from srste.launch.progress import COMPILING, doing
from srste.launch.signals import exit_code, exit_code_of, raise_terminated
from srste.launch.streams import print_error, tolerant_streams
from srste.launch.tracker import Tracker, activate
from srste.store.sources import changed_since_read


def launch(
    task: Callable[[], Any], argv: list[str], config_dir: Path, started: float | None = None
) -> int:
    """Run a command line. Returns the exit code.

    0: done. 1: a job failed or was lost. 2: the user's input was refused, or the tracking server
    stopped answering. 130, or 128 and a signal's number: interrupted.

    Args: task: the `hydra.main` function. started: when the command was, by `time.perf_counter`; by
        default now.
    """
    started = time.perf_counter() if started is None else started
    with tolerant_streams(program()), raise_terminated():
        try:
            _refuse_changed_code()
            composed = compose(argv, config_dir)
            if isinstance(composed, list):
                sys.argv[1:] = composed
                return exit_code_of(task)
            return _run(task, composed, argv, started)
        except UserError as error:
            print_error(program(), printable(without_password(str(error))))
            return 2
        except OSError as error:
            print_error(program(), f"{first_line(error)}; what was recorded is kept")
            return 1
        except KeyboardInterrupt as interrupt:  # before the jobs, or after them
            print_error(program(), "interrupted; the same command goes on from there")
            return exit_code(interrupt)


def _refuse_changed_code() -> None:
    """Refuse (UserError) to launch if code has changed that this process imported for an earlier
    launch, as in a notebook: the old code would run."""
    if changed := changed_since_read():
        raise UserError(
            f"{changed[0]}: its file has changed since this process imported it; restart the kernel, or "
            "run !python train.py, which is a process of its own"
        )


def _run(task: Callable[[], Any], composed: Composed, argv: list[str], started: float) -> int:
    """Check and run the jobs of a command line. Returns the exit code."""
    jobs = f"{len(composed.jobs)} jobs" if composed.multirun else "One job"
    with _tracker(composed) as tracker:
        what = f"{jobs}: loading PyTorch, checking that all parts fit together"
        with doing(what) as activity:
            with importing():
                # Not before: it takes a second, and what was refused until here needs none of it.
                from srste.curve.engine.kernels.loading import load_kernels
                from srste.launch import preflight
                from srste.launch.running import run_plan

                load_kernels(lambda: activity.announce(COMPILING))
            activity.update(what)
            plan = preflight.check(composed, argv)
        return run_plan(task, plan, tracker, started)


@contextmanager
def _tracker(composed: Composed) -> Iterator[Tracker | None]:
    """Yield what writes to MLflow, which is started while PyTorch is loaded; None without tracking."""
    if composed.jobs[0]["tracking"]["name"] == "none":
        yield None
        return
    tracker = Tracker()
    activate(tracker)
    try:
        yield tracker
    finally:
        activate(None)
        tracker.close()
