"""`python -m srste audit`: compares the claims on a log with the log and with a run of our own."""

import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.analysis.alarms import MEANING, SMALLEST, Alarm, by_kind
from srste.analysis.statistics.proportions import Proportion
from srste.commands.audit.claims import OF_THE_NOTE, Claims, claims_of, read_claims
from srste.commands.audit.findings import Log
from srste.errors import UserError
from srste.launch.results import read_results
from srste.note2021.statistics import STATISTICS
from srste.report.claims import note_statistics
from srste.report.conditions import conditions
from srste.report.formatting import ranges
from srste.report.panels import drawn, panel, settings
from srste.store.files import slug
from srste.store.records import Record

AGREES, DIFFERS = Text("agrees"), Text("DIFFERS", "bold red")


Rerun = dict[str, dict[str, Proportion]]
"""Our own run: the counts by the keys of the note's statistics, by the name of the estimator that is
compared with the log's."""


def audit(logs: Sequence[Path], claims: Path | None, rerun: bool, console: Console) -> None:
    """Print the audit of each log.

    Args: claims: a YAML file; None: the claims of the note of June 2021.
        rerun: whether to run the experiment that the claims name.
    Raises: UserError for a log or claims of another form, before anything is printed or run.
    """
    all_claims = read_claims(claims or OF_THE_NOTE)
    with_claims = [(log, claims_of(log.path, all_claims)) for log in map(Log.read, logs)]
    for log, of_log in with_claims:
        if rerun and not of_log.rerun:
            raise UserError(f"--rerun: the claims name no run of our own for {log.path.name}")
    for log, of_log in with_claims:
        _print(log, of_log, _rerun(log, of_log) if rerun else {}, console)


def _print(log: Log, claims: Claims, ours: Rerun, console: Console) -> None:
    counts = f"N = {ranges(log.samples)}" if log.samples else "no sample counts"
    console.print(f"\n{log.path}", style="bold")
    console.print(f"{len(log.lines)} studies: {len(log.batches)} batches, {counts}")
    if claims.batches not in (None, len(log.batches)):
        console.print(Text(f"  claimed {claims.batches} batches: ").append(DIFFERS))
    for label in log.labels:
        # The claims and our own run are about the first.
        first = label == log.labels[0]
        console.print(_table(log, label, claims if first else Claims(), ours if first else {}))
    if claims.counts and not log.labels:
        console.print("No estimator with sample counts: what is claimed cannot be counted")
    _print_learning_rates(log, claims, console)
    _print_alarms(log.alarms, console)


def _table(log: Log, label: str, claims: Claims, ours: Rerun) -> Table:
    title = f"[{label}]" if len(log.labels) > 1 else None
    table = Table(
        title=title and Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("on how many batches", overflow="fold")
    table.add_column("claimed", justify="right")
    table.add_column("log", justify="right")
    table.add_column("")
    table.add_column("on batches", overflow="fold")
    for name in ours:
        table.add_column(f"our run: {name}", justify="right", overflow="fold")
    for key, (words, _) in STATISTICS.items():
        claimed, counted = claims.counts.get(key), log.count(key, label)
        verdict = "" if claimed is None else AGREES if claimed == counted.k else DIFFERS
        batches = ranges(log.batches_of(key, label)) or "-"
        of_runs = [str(counts[key]) for counts in ours.values()]
        claim = "-" if claimed is None else str(claimed)
        table.add_row(words, claim, str(counted), verdict, batches, *of_runs)
    return table


def _print_learning_rates(log: Log, claims: Claims, console: Console) -> None:
    rates = [line.lr for line in log.lines]
    step, claimed = log.step, claims.learning_rates
    spacing = f"all {len(rates)} multiples of {step:g}" if step else "without a common step"
    text = Text(f"Learning rates from {min(rates):g} to {max(rates):g}, {spacing}")
    if claimed is not None:
        close = math.isclose(step or 0.0, claimed.step, rel_tol=1e-6)
        inside = claimed.start * (1 - 1e-6) <= min(rates) and max(rates) <= claimed.stop * (1 + 1e-6)
        text.append(
            f"; claimed from {claimed.start:g} to {claimed.stop:g} in steps of {claimed.step:g}: "
        )
        text.append(AGREES if close and inside else DIFFERS)
    console.print(text, soft_wrap=True)
    if lowest := log.at_the_lowest:
        ste = sorted({line.batch for line in lowest if line.samples is None})
        drawn = sorted({line.batch for line in lowest if line.samples is not None})
        console.print(
            f"On the lowest grid point: {len(lowest)} of {len(log.lines)} studies; "
            f"STE on batches {ranges(ste) or '-'}, estimators with samples on batches "
            f"{ranges(drawn) or '-'}",
            soft_wrap=True,
        )


def _print_alarms(alarms: list[Alarm], console: Console) -> None:
    if not alarms:
        console.print("No alarms")
    for kind, of_kind in by_kind(alarms).items():
        console.print(Text(f"Alarm: {kind}", "bold red"), f"({MEANING[kind]})", soft_wrap=True)
        shown = of_kind if kind != SMALLEST else of_kind[:3]
        for alarm in shown:
            console.print(f"  {alarm.where}: {alarm.detail}", soft_wrap=True)
        if len(shown) < len(of_kind):
            console.print(f"  ... and {len(of_kind) - len(shown)} more")


def _rerun(log: Log, claims: Claims) -> Rerun:
    """Run or resume the experiment that the claims name, and compute the same statistics."""
    records: dict[str, Record] = {}
    for number, line in enumerate(claims.rerun, 1):
        folder = Path("multirun") / f"audit_{slug(log.path.stem)}_{number}"
        run = [sys.executable, "-m", "srste", "run"]
        command = [*run, "-m", *shlex.split(line), f"hydra.sweep.dir={folder}"]
        done = subprocess.run(
            [*command, "tracking=none", "report=false"], stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise UserError(f"--rerun: srste run -m {line} ended with exit code {done.returncode}")
        results = read_results(folder)
        assert results is not None  # the run has just succeeded
        records |= {key: record for key, (_, record) in results.records.items()}
    together = settings(conditions(records.values()))
    if len(together) != 1 or not together[0].baselines:
        raise UserError(
            f"{log.path.name}: rerun: must be of one setting, with estimators that have a baseline"
        )
    ours, baselines = panel(together[0]), together[0].baselines
    return {
        name: note_statistics(ours, name, baselines[name]) for name in drawn(ours) if name in baselines
    }
