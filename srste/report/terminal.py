"""The answers and alarms of a launch for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.analysis.alarms import MEANING, Alarm, by_kind
from srste.analysis.statistics.verdicts import BETTER, NOTHING, TOO_FEW, WORSE, Finding
from srste.report.chapters import Chapter
from srste.report.claims import SYMBOLS
from srste.report.formatting import signed, with_interval
from srste.report.summary import Row

_STYLES = {BETTER: "bold blue", WORSE: "bold red"}
TABLES_SHOWN, SETTINGS_SHOWN = 3, 20
"""Of how many settings tables and answers are shown."""


def print_alarms(alarms: list[Alarm], console: Console) -> None:
    """Print how often each kind rings, and where first."""
    for kind, of_kind in by_kind(alarms).items():
        console.print(
            Text(f"Alarm: {kind}", "bold red"),
            f"{len(of_kind)}x, first in {of_kind[0].where}: {of_kind[0].detail} ({MEANING[kind]})",
            soft_wrap=True,
        )


def print_answers(chapters: Sequence[Chapter], console: Console) -> None:
    """Print, per setting, a table with a row per estimator and number of samples, and the answer; of
    more than a few settings only the answers in one sentence."""
    for chapter in chapters[:SETTINGS_SHOWN]:
        if len(chapters) <= TABLES_SHOWN:
            console.print(Text(_title(chapter), "italic"))
            console.print(_table(chapter))
            console.print(_table_legend(chapter), style="dim")
        console.print(Text(chapter.headline, "bold"))
        if len(chapters) <= TABLES_SHOWN:
            for sentence in chapter.answer.details:
                console.print(f"- {sentence}")
    if len(chapters) > SETTINGS_SHOWN:
        console.print(f"... and {len(chapters) - SETTINGS_SHOWN} more settings, in the report")


def _title(chapter: Chapter) -> str:
    networks = len(chapter.setting.networks)
    batches = max(len(condition.batches) for condition in chapter.setting.networks.values())
    over = f"{networks} networks" if networks > 1 else f"the {batches} batches of one network"
    label = f": {chapter.setting.label}" if chapter.setting.label else ""
    return f"\nLoss after the best step, mean over {over}{label}"


def _table(chapter: Chapter) -> Table:
    networks = len(chapter.setting.networks)
    baselines = ", ".join(dict.fromkeys(one.baseline for one in chapter.summaries if one.baseline))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("estimator")
    table.add_column("N", justify="right")
    table.add_column("passes", justify="right")
    table.add_column("loss", justify="right")
    if baselines:
        table.add_column(f"gain over {baselines}" + (" [95 %]" if networks > 1 else ""))
        table.add_column("won", justify="right")
        if any(row.heldout for one in chapter.summaries for row in one.rows):
            table.add_column("held out")
    for one in chapter.summaries:
        for place, row in enumerate(one.rows):
            cells = [
                Text("" if place else one.series), "" if row.samples is None else str(row.samples),
                "" if row.passes is None else f"{row.passes:,}", f"{row.loss:.5f}", *_gain_cells(row),
            ]  # fmt: skip
            table.add_row(*cells[: len(table.columns)])
    return table


def _table_legend(chapter: Chapter) -> str:
    """Return what the symbols and the column "won" mean; "" where nothing is compared."""
    tested = [row.gain for one in chapter.summaries for row in one.rows if row.gain]
    if not tested:
        return ""
    passes = "passes: forward and backward passes of one direction"
    if len(chapter.setting.networks) == 1:
        return f"{passes}; won: on so many batches the loss is lower than the baseline's\n"
    legend = f"{passes}; won: on so many networks the mean loss is lower than the baseline's"
    if any(finding.verdict not in (TOO_FEW, NOTHING) for finding in tested):
        legend += "\n▲ better, ▼ worse, ○ no evidence (Wilcoxon over networks, corrected for all N)"
    return f"{legend}\n"


def _gain_cells(row: Row) -> list[Text | str]:
    if row.gain is None:
        return ["", "", ""]
    gains = row.gain.comparison
    words = with_interval(gains.mean, gains.low, gains.high)
    ends = words.removeprefix(signed(gains.mean))
    won = gains.networks_won if gains.networks > 1 else gains.batches_won
    heldout = Text("") if row.heldout is None else _verdict(row.heldout)
    return [_verdict(row.gain).append(ends, "not bold"), f"{won.k}/{won.n}", heldout]


def _verdict(finding: Finding) -> Text:
    """Return the verdict's symbol, in colour, and the mean gain."""
    verdict = finding.verdict
    symbol = "" if verdict in (TOO_FEW, NOTHING) else f"{SYMBOLS[verdict]} "
    return Text(f"{symbol}{signed(finding.comparison.mean)}", style=_STYLES.get(verdict, ""))
