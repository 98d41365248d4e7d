"""A launch from beginning to end: check, run the jobs through Hydra, show the results."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srste.errors import UserError, first_line, printable, without_password
from srste.launch import preflight
from srste.launch.command_line import program
from srste.launch.launch_folder import locked, refuse_foreign_files, tidy
from srste.launch.preflight import Plan
from srste.launch.progress import Reporter, reporting
from srste.launch.signals import exit_code, raise_terminated
from srste.launch.streams import tolerant_streams
from srste.report.console import console
from srste.report.launch_files import FIGURES_DRAWN, write_files
from srste.report.legend import caveat
from srste.store import manifest, records
from srste.store.manifest import Contents, Launch
from srste.store.sources import changed_since_read

if TYPE_CHECKING:
    from srste.launch.results import LaunchResults
    from srste.tracking import Store


_MLFLOW = "MLFLOW_TRACKING_URI"


def launch(task: Callable[[], Any], argv: list[str], config_dir: Path) -> int:
    """Run a command line. task: the `hydra.main` function. Returns the exit code.

    0: done. 1: a job failed or was lost. 2: the user's input was refused, or the tracking server
    stopped answering. 130, or 128 and a signal's number: interrupted.
    """
    started = time.perf_counter()
    with tolerant_streams(program()), raise_terminated():
        try:
            _refuse_changed_code()
            plan = preflight.check(argv, config_dir)
            if isinstance(plan, list):
                sys.argv[1:] = plan
                return _run(task)
            refuse_foreign_files(plan.folder_key, plan.root, plan.contents, plan.wants_report)
            with locked(plan.root), _environment(plan.secret_uri):
                return _run_plan(task, plan, started)
        except UserError as error:
            _print_error(printable(without_password(str(error))))
            return 2
        except OSError as error:
            _print_error(f"{first_line(error)}; what was recorded is kept")
            return 1
        except KeyboardInterrupt as interrupt:  # before the jobs, or after them
            _print_error("interrupted; the same command goes on from there")
            return exit_code(interrupt)


def _print_error(message: str) -> None:
    print(f"{program()}: {message}", file=sys.stderr)


def _refuse_changed_code() -> None:
    """Refuse (UserError) to launch if code has changed that this process imported for an earlier
    launch, as in a notebook: the old code would run."""
    if changed := changed_since_read():
        raise UserError(
            f"{changed[0]}: its file has changed since this process imported it; restart the kernel, or "
            "run !python train.py, which is a process of its own"
        )


@contextmanager
def _environment(uri: str | None) -> Iterator[None]:
    """Set MLflow's variable to an address with a password within the block. Workers inherit the
    environment, whereas others can read files and command lines."""
    before = os.environ.get(_MLFLOW)
    if uri is not None:
        os.environ[_MLFLOW] = uri
    try:
        yield
    finally:
        os.environ.pop(_MLFLOW, None)
        if before is not None:
            os.environ[_MLFLOW] = before


def _run_plan(task: Callable[[], Any], plan: Plan, started: float) -> int:
    manifest.refuse_another_command(plan.folder_key, plan.root, plan.launch)
    store = None
    if plan.launch.tracking["name"] != "none":
        from srste.tracking import open_store

        try:
            store = open_store(plan.launch.tracking, launching=True)
        except UserError as error:
            raise UserError(f"{error}; what was recorded before is kept in {plan.root}") from error
    _cancel_left_over(plan.root)
    tidy(plan.root, plan.contents)
    earlier = manifest.read_contents(plan.root)
    this = manifest.open_launch(plan.root, plan.launch, plan.contents)
    sys.argv[1:] = plan.argv
    _announce(plan, earlier)
    launch_run = _begin(store, this)
    with reporting(len(plan.contents.studies)) as reporter:
        code = _run(task)
    if code or reporter.refused is not None:
        _interrupt(store, launch_run, time.perf_counter() - started)
    if reporter.refused is not None:
        raise reporter.refused
    if code:
        done = records.stored_keys(plan.root, plan.contents.studies)
        _print_error(
            f"stopped after {len(done)} of {len(plan.contents.studies)} studies; their "
            f"records are kept in {plan.root}, and the same command goes on from there"
        )
        return code
    return _finish(plan, this, store, reporter, started)


def _begin(store: Store | None, launch: Launch) -> str | None:
    """Show the launch as running in MLflow. Returns the id of its run; None where it has none."""
    if store is None:
        return None
    from srste.tracking import StoreError

    with suppress(*StoreError):  # what fails is said by the jobs, and repeated at the end
        return store.begin(launch)
    return None


def _interrupt(store: Store | None, launch_run: str | None, seconds: float) -> None:
    if store is None or launch_run is None:
        return
    from srste.tracking import StoreError

    with suppress(*StoreError):
        store.interrupt(launch_run, seconds)


def _announce(plan: Plan, earlier: Contents | None) -> None:
    """Print which records are not reused, and set aside those of `resume=false`. earlier: what the
    last launch in the folder asked for."""
    studies = plan.contents.studies
    not_resumed = {key: studies[key] for key in plan.keys_not_resumed}
    for folder, _ in records.find_studies(plan.root, not_resumed).values():
        records.set_record_aside(folder)
    if earlier is not None:
        others = {key: f for key, f in earlier.studies.items() if key not in studies}
        if stale := records.stored_keys(plan.root, others):
            print(f"{len(stale)} records there are of other settings or code, and are not reused")
    for estimator in plan.estimators_without_samples:
        print(f"estimator={estimator} draws nothing: it ignores `samples`, one study a batch serves all")


def _cancel_left_over(root: Path) -> None:
    """Cancel the Slurm jobs of an earlier launch in the folder whose process was killed."""
    if not (root / ".submitit").exists() or shutil.which("squeue") is None:
        return
    from srste.launch.cluster.slurm import cancel_left_over

    with suppress(UserError):  # where the cluster does not answer, the launcher fails later
        if count := cancel_left_over(root):
            print(f"{count} Slurm tasks that an earlier run of this command had left: cancelled")


def _run(task: Callable[[], Any]) -> int:
    try:
        task()
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def _finish(plan: Plan, this: Launch, store: Store | None, reporter: Reporter, started: float) -> int:
    """Show the answers, write their files, and track them. Returns the exit code."""
    from srste.launch.results import results_in, show_lost
    from srste.report.terminal import print_alarms, print_answers

    results = results_in(plan.root, this, plan.contents)
    conditions, printer = results.conditions, console()
    files: list[Path] = []
    try:
        files = write_files(conditions, plan.root)
    except OSError as error:
        _print_error(f"no tables and figures: {first_line(error)}")
    if conditions:
        print_answers(results.chapters, printer)
        printer.print(f"\n{caveat(conditions, marked=False)}")
    print_alarms([alarm for chapter in results.chapters for alarm in chapter.alarms], printer)
    page = _report(results) if plan.wants_report and results.records else None
    files += [page, page.with_suffix("")] if page else []
    tracked = store is None or _track(results, store, files, time.perf_counter() - started)
    trials = sum(record.trials for _, record in results.records.values())
    reused = f", {reporter.reused} reused" if reporter.reused else ""
    printer.print(
        f"\n{len(results.records)} studies{reused}, {trials:,} trials in "
        f"{time.perf_counter() - started:.0f} s; records, tables and figures in {plan.root}",
        soft_wrap=True,
    )  # fmt: skip
    if len(conditions) > FIGURES_DRAWN:
        several = f"{len(conditions)} networks or settings"
        printer.print(f"Figures of the batches: of the first {FIGURES_DRAWN} of {several}")
    if page:
        printer.print(f"Report: {page}", style=f"link {page.absolute().as_uri()}", soft_wrap=True)
    if store and tracked:
        link = f"link {store.charts_address(this)}"
        printer.print(f"Charts: {store.charts(this)}", style=link, soft_wrap=True)
    show_lost(results, reporter.failures, printer)
    return 1 if results.lost else 0 if tracked else 2


def _report(results: LaunchResults) -> Path | None:
    """Write the page. Returns it; None where it could not be written."""
    from srste.launch.results import report_on

    try:
        return report_on(results, results.root).page
    except (OSError, UserError) as error:
        _print_error(f"no report: {first_line(error)}")
        return None


def _track(results: LaunchResults, store: Store, files: list[Path], seconds: float) -> bool:
    """Log the results and files to MLflow. Returns whether that worked."""
    from srste.launch.tracked import track
    from srste.tracking import StoreError

    try:
        track(results, results.chapters, store, files, seconds)
    except StoreError as error:
        _print_error(
            f"MLflow did not take everything ({first_line(error)}); the records are kept "
            f"in {results.root}, and the same command, or python -m srste sync, puts them there later"
        )
        return False
    return True
