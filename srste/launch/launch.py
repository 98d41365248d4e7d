"""A launch from beginning to end: check, run the jobs through Hydra, show what they found."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srste.errors import UserError, address_without_password, first_line, printable, without_password
from srste.launch import preflight
from srste.launch.command_line import command_of_program, program
from srste.launch.launch_folder import alone_in, refuse_foreign_files, tidy
from srste.launch.preflight import Plan
from srste.launch.progress import Reporter, reporting
from srste.launch.signals import ended_by_signals, exit_code
from srste.launch.streams import lasting
from srste.report.console import console
from srste.report.launch_files import FIGURES_DRAWN, show, write_files
from srste.store import records
from srste.store.manifest import (
    Contents,
    Launch,
    open_launch,
    read_contents,
    refuse_another_command,
)
from srste.store.sources import changed_since_read

if TYPE_CHECKING:
    from rich.console import Console

    from srste.launch.results import Results
    from srste.report.conditions import Condition
    from srste.tracking import Store


_MLFLOW = "MLFLOW_TRACKING_URI"


def launch(task: Callable[[], Any], argv: list[str], config_dir: Path) -> int:
    """Runs a command line. task: the `hydra.main` function. Returns the exit code.

    0: done. 1: a job failed or was lost. 2: the user's input was refused, or the tracking server
    stopped answering. 130, or 128 and a signal's number: interrupted.
    """
    with lasting(program()), ended_by_signals():
        try:
            _refuse_changed_code()
            plan = preflight.check(argv, config_dir)
            if isinstance(plan, list):
                sys.argv[1:] = plan
                return _run(task)
            refuse_foreign_files(plan.folder_key, plan.root, plan.contents, plan.wants_report)
            with alone_in(plan.root):
                return _launch_checked(task, plan)
        except UserError as error:
            print(f"{program()}: {printable(without_password(str(error)))}", file=sys.stderr)
            return 2
        except OSError as error:
            print(f"{program()}: {first_line(error)}; what was recorded is kept", file=sys.stderr)
            return 1
        except KeyboardInterrupt as interrupt:  # before the jobs, or after them
            print(f"{program()}: interrupted; the same command goes on from there", file=sys.stderr)
            return exit_code(interrupt)


def _refuse_changed_code() -> None:
    """Raises: UserError in a process that has launched before, as a notebook's does, when code that it
    has imported has changed since: the old code would run."""
    if changed := changed_since_read():
        raise UserError(
            f"{changed[0]}: its file has changed since this process imported it; restart the kernel, or "
            "run !python train.py, which is a process of its own"
        )


def _launch_checked(task: Callable[[], Any], plan: Plan) -> int:
    with _in_the_environment(plan.secret_uri):
        return _launch_tracked(task, plan)


@contextmanager
def _in_the_environment(uri: str | None) -> Iterator[None]:
    """While it lasts, MLflow's own variable holds that address, with its password. Workers inherit the
    environment; files and command lines, which others can read, are not told."""
    before = os.environ.get(_MLFLOW)
    if uri is not None:
        os.environ[_MLFLOW] = uri
    try:
        yield
    finally:
        if uri is not None:
            os.environ.pop(_MLFLOW)
            if before is not None:
                os.environ[_MLFLOW] = before


def _launch_tracked(task: Callable[[], Any], plan: Plan) -> int:
    refuse_another_command(plan.folder_key, plan.root, plan.overrides, plan.multirun)
    try:
        store = _store(plan.tracking)
    except UserError as error:
        raise UserError(f"{error}; what was recorded before is kept in {plan.root}") from error
    _end_left_over(plan.root)
    tidy(plan.root, plan.contents)
    started = time.perf_counter()
    before = read_contents(plan.root)
    this = _open(plan)
    sys.argv[1:] = plan.argv
    _announce(plan, before)
    with reporting(len(plan.contents.keys)) as reporter:
        code = _run(task)
    if reporter.refused is not None:
        raise reporter.refused
    if code:
        done = records.stored_keys(plan.root, plan.contents.studies)
        print(
            f"{program()}: stopped after {len(done)} of {len(plan.contents.keys)} studies; their "
            f"records are kept in {plan.root}, and the same command goes on from there",
            file=sys.stderr,
        )
        return code
    return _finish(plan, this, store, reporter, time.perf_counter() - started)


def _open(plan: Plan) -> Launch:
    """The launch in its folder."""
    typed = map(address_without_password, plan.typed)
    command = " ".join([command_of_program(), shlex.join(typed)]).strip()
    return open_launch(
        plan.root, plan.name, plan.overrides, plan.multirun, command, plan.tracking, plan.contents
    )


def _announce(plan: Plan, before: Contents | None) -> None:
    """Says what is not reused, and sets aside what is to run again. before: what the launch of that
    folder asked for so far."""
    studies = plan.contents.studies
    again = {key: studies[key] for key in plan.to_run_again}
    for folder, _ in records.find_studies(plan.root, again).values():
        records.set_record_aside(folder)
    of_before = {k: f for k, f in (before.studies if before else {}).items() if k not in studies}
    if stale := records.stored_keys(plan.root, of_before):
        print(f"{len(stale)} records there are of other settings or code, and are not reused")
    for estimator in plan.that_ignore_samples:
        print(f"estimator={estimator} draws nothing: it ignores `samples`, one study a batch serves all")


def _end_left_over(root: Path) -> None:
    """Cancels what an earlier launching process of this command left on the cluster, killed before it
    could do so itself."""
    if not (root / ".submitit").exists() or shutil.which("squeue") is None:
        return
    from srste.launch.cluster.slurm import cancel_left_over

    with suppress(UserError):  # a cluster that does not answer: the launcher will say so
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


def _store(tracking: dict[str, Any]) -> Store | None:
    if tracking["name"] == "none":
        return None
    from srste.tracking import open_store

    return open_store(tracking, launching=True)


def _finish(plan: Plan, this: Launch, store: Store | None, reporter: Reporter, seconds: float) -> int:
    """The table, the figures, the link, what was lost. Returns the exit code."""
    from srste.launch.results import arranged_in, results_in, show_lost
    from srste.report.study_alarms import alarms_of
    from srste.report.terminal import print_alarms

    results = results_in(plan.root, this, plan.contents)
    arranged = arranged_in(results)
    printer = console()
    if arranged:
        show(arranged, printer)
    files: list[Path] = []
    try:
        files = write_files(arranged, plan.root)
    except OSError as error:
        print(f"{program()}: no tables and figures: {first_line(error)}", file=sys.stderr)

    trials = sum(record.trials for record in results.studies)
    reused = f", {reporter.reused} reused" if reporter.reused else ""
    printer.print(
        f"\n{len(results.found)} studies{reused}, {trials:,} trials in {seconds:.0f} s; "
        f"records, tables and figures in {plan.root}",
        soft_wrap=True,
    )  # fmt: skip
    print_alarms([alarm for one in arranged for alarm in alarms_of(one)], printer)
    if plan.wants_report and results.found:
        files += _report(results, printer)
    if len(arranged) > FIGURES_DRAWN:
        printer.print(f"Figures: of the first {FIGURES_DRAWN} of {len(arranged)} conditions")
    tracked = store is None or _track(results, store, arranged, files, printer)
    show_lost(results, reporter.failures, printer)
    return 1 if results.lost else 0 if tracked else 2


def _report(results: Results, printer: Console) -> list[Path]:
    """The verdicts and the page with the rest. Returns what was written."""
    from srste.launch.results import report_on
    from srste.report.terminal import print_verdicts

    try:
        report = report_on(results, results.root)
    except (OSError, UserError) as error:
        print(f"{program()}: no report: {first_line(error)}", file=sys.stderr)
        return []
    print_verdicts(report.chapters, printer)
    printer.print(f"Report: {report.page}", soft_wrap=True)
    return [report.page, report.page.with_suffix("")]


def _track(
    results: Results, store: Store, arranged: list[Condition], files: list[Path], printer: Console
) -> bool:
    """Puts all of it into MLflow. Returns whether that worked."""
    from srste.launch.results import track
    from srste.tracking import StoreError

    try:
        track(results, store, arranged, files)
    except StoreError as error:
        print(
            f"{program()}: MLflow did not take everything ({first_line(error)}); the records are kept "
            f"in {results.root}, and the same command, or python -m srste sync, puts them there later",
            file=sys.stderr,
        )
        return False
    printer.print(f"Charts: {store.charts(results.launch)}", soft_wrap=True)
    return True
