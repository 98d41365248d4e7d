"""The command that would answer what a launch leaves open."""

import re
import shlex
from typing import NamedTuple

from srste.analysis.statistics.paired import FEWEST_NETWORKS
from srste.report.chapters import Chapter

NETWORKS = 10


class NextStep(NamedTuple):
    """command: to type. seconds: what it will take, about, by what the launch's studies took."""

    command: str
    seconds: float


def next_step(command: str | None, chapters: list[Chapter]) -> NextStep | None:
    """Return the launch's command over enough networks for a test; None where there are enough, or
    no command is known."""
    few = [c for c in chapters if len(c.setting.networks) < FEWEST_NETWORKS]
    if command is None or not few:
        return None
    seeds = f"seed=0,1,...,{NETWORKS - 1}"
    words = shlex.split(command)
    # A folder that is named holds this command.
    others = [word for word in words if not re.match(r"\+*(seed|hydra\.(sweep|run)\.dir)=", word)]
    if "-m" not in others and "--multirun" not in others:
        others.append("-m")
    spent = sum(r.seconds for c in chapters for _, r in c.setting.records)
    networks = sum(len(c.setting.networks) for c in chapters) / len(chapters)
    return NextStep(shlex.join([*others, seeds]), spent / networks * NETWORKS)
