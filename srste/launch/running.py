"""Runs a checked launch: its jobs through Hydra, then the answer, its files and its runs in MLflow."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from srste.curve.engine.kernels.compiling import on_first_compilation
from srste.errors import UserError, first_line
from srste.launch.command_line import program
from srste.launch.hydra_cache import composing_with
from srste.launch.job_runner import forget_problem
from srste.launch.launch_folder import locked, refuse_foreign_files, tidy
from srste.launch.outputs import Outputs, write_outputs
from srste.launch.preflight import Plan
from srste.launch.progress import COMPILING, Reporter, doing, doing_for_long, reporting
from srste.launch.results import results_in, show_lost
from srste.launch.signals import exit_code_of
from srste.launch.streams import print_error
from srste.launch.sweep import hand_over
from srste.launch.tracker import Charts, Tracker, TrackingError
from srste.launch.unfinished import unfinished
from srste.report.console import console
from srste.report.launch_files import FIGURES_DRAWN
from srste.report.legend import caveat
from srste.report.terminal import print_alarms, print_answers
from srste.store import manifest, records
from srste.store.manifest import Contents, Launch

_MLFLOW = "MLFLOW_TRACKING_URI"
_LOOKING = "Looking at what is in the launch's folder"


def run_plan(task: Callable[[], Any], plan: Plan, tracker: Tracker | None, started: float) -> int:
    """Run a checked launch in its folder. Returns the exit code.

    Args: task: the `hydra.main` function. tracker: of MLflow; None: without. started: when the command
        was, by `time.perf_counter`.
    Raises: UserError where the folder, the store or the scheduler refuses.
    """
    with doing_for_long(_LOOKING):
        refuse_foreign_files(plan.folder_key, plan.root, plan.contents, plan.wants_report)
    with locked(plan.root), _environment(plan.secret_uri):
        manifest.refuse_another_command(plan.folder_key, plan.root, plan.launch)
        if tracker is not None:
            _open_store(tracker, plan)
        _cancel_left_over(plan.root)
        with doing_for_long(_LOOKING):
            tidy(plan.root, plan.contents)
            earlier = manifest.read_contents(plan.root)
            this = manifest.open_launch(plan.root, plan.launch, plan.contents)
            notes = _announcements(plan, earlier)
        for note in notes:
            print(note)
        if tracker is not None:
            tracker.begin(this)
        sys.argv[1:] = plan.argv
        code, reporter = _run_jobs(task, plan)
        if tracker is not None and (code or reporter.refused is not None):
            tracker.interrupt(time.perf_counter() - started)
        if reporter.refused is not None:
            raise reporter.refused
        if code:
            done = records.stored_keys(plan.root, plan.contents.studies)
            print_error(
                program(),
                f"stopped after {len(done)} of {len(plan.contents.studies)} studies; their "
                f"records are kept in {plan.root}, and the same command goes on from there",
            )
            return code
        forget_problem()  # the figures take as much memory
        return _finish(plan, this, tracker, reporter, started)


def _run_jobs(task: Callable[[], Any], plan: Plan) -> tuple[int, Reporter]:
    """Run the jobs through Hydra. Returns the exit code, and what was reported of them."""
    with (
        reporting(len(plan.contents.studies)) as reporter,
        on_first_compilation(lambda: reporter.say(COMPILING)),
        composing_with(plan.loader),
    ):
        if plan.lines:
            numbers: Sequence[int] = range(len(plan.lines))
            if plan.in_process:  # other launchers leave out what is finished themselves
                stored = records.find_studies(plan.root, plan.contents.studies)
                numbers = unfinished(plan.root, plan.contents, stored, numbers)
            hand_over({number: plan.lines[number] for number in numbers})
        return exit_code_of(task), reporter


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


def _open_store(tracker: Tracker, plan: Plan) -> None:
    try:
        with doing("Opening the MLflow store"):
            tracker.open(plan.launch, plan.root)
    except TrackingError as error:
        raise UserError(f"tracking.uri={plan.launch.tracking['uri']}: {error}") from error
    except UserError as error:
        raise UserError(f"{error}; what was recorded before is kept in {plan.root}") from error


def _announcements(plan: Plan, earlier: Contents | None) -> list[str]:
    """Return what is to be said of records that are not reused, and set aside those of `resume=false`.
    earlier: what the last launch in the folder asked for."""
    studies = plan.contents.studies
    not_resumed = {key: studies[key] for key in plan.keys_not_resumed}
    for folder, _ in records.find_studies(plan.root, not_resumed).values():
        records.set_record_aside(folder)
    notes = [
        f"estimator={estimator} draws nothing: it ignores `samples`, one study a batch serves all"
        for estimator in plan.estimators_without_samples
    ]
    if earlier is not None:
        others = {key: f for key, f in earlier.studies.items() if key not in studies}
        if stale := records.stored_keys(plan.root, others):
            changed = "records there are of other settings or code, and are not reused"
            notes.insert(0, f"{len(stale)} {changed}")
    return notes


def _cancel_left_over(root: Path) -> None:
    """Cancel the Slurm jobs of an earlier launch in the folder whose process was killed."""
    if not (root / ".submitit").exists() or shutil.which("squeue") is None:
        return
    from srste.launch.cluster.slurm import cancel_left_over

    with suppress(UserError):  # where the cluster does not answer, the launcher fails later
        if count := cancel_left_over(root):
            print(f"{count} Slurm tasks that an earlier run of this command had left: cancelled")


def _finish(
    plan: Plan, this: Launch, tracker: Tracker | None, reporter: Reporter, started: float
) -> int:
    """Show the answers, write their files, and track them. Returns the exit code."""
    printer = console()
    with doing("Comparing the estimators"):
        results = results_in(plan.root, this, plan.contents)
        conditions, chapters = results.conditions, results.chapters
    failure, charts = "", None
    if tracker is not None:
        try:
            tracker.sync(results)
        except TrackingError as error:
            failure = first_line(error)
    if conditions:
        print_answers(chapters, printer)
        printer.print(f"\n{caveat(conditions, marked=False)}")
    print_alarms([alarm for chapter in chapters for alarm in chapter.alarms], printer)
    with doing("Writing tables and figures" + ", and the report" * plan.wants_report):
        outputs = write_outputs(results, plan.wants_report)
    for complaint in outputs.complaints:
        print_error(program(), complaint)
    if tracker is not None and not failure:
        try:
            charts = _track(tracker, outputs, started)
        except (TrackingError, UserError) as error:
            failure = first_line(error)
    if failure:
        print_error(
            program(),
            f"MLflow did not take everything ({failure}); the records are kept in {results.root}, and "
            "the same command, or python -m srste sync, puts them there later",
        )
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
    if page := outputs.page:
        printer.print(f"Report: {page}", style=f"link {page.absolute().as_uri()}", soft_wrap=True)
    if charts is not None:
        printer.print(f"Charts: {charts.words}", style=f"link {charts.address}", soft_wrap=True)
    show_lost(results, reporter.failures, printer)
    return 1 if results.lost else 2 if failure else 0


def _track(tracker: Tracker, outputs: Outputs, started: float) -> Charts:
    """Wait until MLflow has everything. Raises: TrackingError, UserError."""
    with doing("Writing runs to MLflow") as activity:

        def step(done: int, total: int) -> None:
            activity.update(f"Writing runs to MLflow: {done} of {total}")

        return tracker.finish(outputs.files, time.perf_counter() - started, step)
