"""The verdicts and alarms of a report for the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from srste.analysis.alarms import MEANING, Alarm, by_kind
from srste.analysis.statistics.paired import FEWEST_NETWORKS
from srste.analysis.statistics.verdicts import BETTER, CHOSEN, FIXED, WORSE
from srste.report.claims import SYMBOLS, Claim, grid, undecidable
from srste.report.formatting import signed
from srste.report.report import Chapter

_STYLES = {BETTER: "bold blue", WORSE: "bold red"}
SETTINGS_SHOWN = 6


def print_alarms(alarms: list[Alarm], console: Console) -> None:
    """Print how often each kind rings, and where first."""
    for kind, of_kind in by_kind(alarms).items():
        console.print(
            Text(f"Alarm: {kind}", "bold red"),
            f"{len(of_kind)}x, first in {of_kind[0].where}: {of_kind[0].detail} ({MEANING[kind]})",
            soft_wrap=True,
        )


def print_verdicts(chapters: list[Chapter], console: Console) -> None:
    """Print a table per setting: the claims, and a verdict by each measure."""
    for chapter in chapters[:SETTINGS_SHOWN]:
        shown = [c for c in chapter.claims if c.finding.rule in (FIXED, CHOSEN)]
        if shown and undecidable(shown):
            networks = len(chapter.setting.networks)
            console.print(
                f"{chapter.setting.title}: {networks} network{'s' if networks > 1 else ''}, and a "
                f"verdict needs {FEWEST_NETWORKS}: sweep the seed (seed=0,1,...,19)",
                soft_wrap=True,
            )  # fmt: skip
        elif shown:
            console.print(_table(chapter, shown))
    if len(chapters) > SETTINGS_SHOWN:
        console.print(f"... and {len(chapters) - SETTINGS_SHOWN} more settings")


def _table(chapter: Chapter, shown: list[Claim]) -> Table:
    networks = len(chapter.setting.networks)
    table = Table(
        title=Text(f"Verdicts over {networks} networks: {chapter.setting.title}"),
        title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("claim")
    table.add_column("asked")
    measures = dict.fromkeys(c.measure.short for c in shown)
    for short in measures:
        table.add_column(short)
    for title, by_rule in grid(shown).items():
        for place, (how, by_measure) in enumerate(by_rule.items()):
            cells = [_cell(by_measure.get(short)) for short in measures]
            table.add_row("" if place else Text(title), how.partition(",")[0], *cells)
    return table


def _cell(claim: Claim | None) -> Text:
    if claim is None:
        return Text("-")
    verdict = claim.finding.verdict
    text = Text(f"{SYMBOLS[verdict]} {verdict}", style=_STYLES.get(verdict, ""))
    return text.append(f" {signed(claim.finding.comparison.mean)}", style="not bold")
