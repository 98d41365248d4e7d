"""How far each sampler of learning rates stays above the exact minimum, against its number of trials.

    python benchmarks/samplers.py                                    # all of it, two or three hours
    python benchmarks/samplers.py --studies 4 --samplers tpe-log     # a small one, to see that it works
    python benchmarks/samplers.py --studies 40 --caps gp=100         # fewer studies, gp for longer

The regret of a study at n trials is the lowest loss of its first n trials minus the infimum over every
learning rate in (0, lr_max], which the loss curve gives exactly; its fraction is of the decrease that
there is, the loss before minus the infimum. Studies are of raw and of pretrained networks, ten batches a
network, by turns of STE and sr-STE. Where no learning rate lowers the loss the fraction is undefined:
such studies are counted, named and left out of it.

A sampler is given its seed and the trials so far, never `n_trials`, so a study's first n trials are
those of a study of n, and one long study gives all n (`tests/test_sampling.py` holds every sampler to
that).

What is done is kept in the folder of `--out`, in a file named by the hash of configuration, code and
versions: run again after a stop, only what is missing is done.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sampler_runs import (
    CAPS,
    CLOCK,
    CLOCKED,
    COUNTS,
    GRIDS,
    PRETRAINING,
    ROOT,
    SAMPLERS,
    SEARCHED,
    Case,
    Run,
    complete,
    fingerprint,
    prepare,
)

from srste.report.figures.style import save, shared_legend
from srste.report.palette import BLACK, looks

LOWEST_DRAWN = 1e-7
"""What is below is as good as the minimum, and would leave no room for the rest of a figure."""
DRAWN = {"median": "median", "90th percentile": "percentile_90"}
MEASURES = {
    "regret as a fraction of the achievable decrease": True,
    "regret (mean squared error)": False,
}


@dataclass(frozen=True)
class Summary:
    """Over the studies of one kind of network."""

    network: str
    sampler: str
    trials: int
    studies: int
    as_fraction: bool
    median: float
    percentile_90: float


def summarised(
    runs: list[Run], network: str, sampler: str, as_fraction: bool, most: int
) -> Iterator[Summary]:
    """By number of trials, as far as all its studies go."""
    of = [r for r in runs if (r.network, r.sampler) == (network, sampler)]
    counted = [r for r in of if r.descends or not as_fraction]
    for count in sorted(set.intersection(*(set(r.lowest) for r in of))):
        if counted and (count <= most or sampler in GRIDS):
            values = [r.regret(count, as_fraction) for r in counted]
            yield Summary(
                network, sampler, count, len(values), as_fraction,
                statistics.median(values), float(np.percentile(values, 90)),
            )  # fmt: skip


def print_tables(
    runs: list[Run], summaries: list[Summary], samplers: list[str], caps: dict[str, int]
) -> None:
    """Median and 90th percentile by sampler and number of trials; the seconds."""
    counts = sorted({s.trials for s in summaries})
    for network in dict.fromkeys(r.network for r in runs):
        of = [r for r in runs if r.network == network]
        studies = {(r.seed, r.batch): r for r in of}
        flat = [f"{seed}/{b}" for (seed, b), r in sorted(studies.items()) if not r.descends]
        networks = len({seed for seed, _ in studies})
        print(f"\n{network}: {len(studies)} studies of {networks} networks, ", end="")
        print(f"{len(flat)} without descent{': ' + ', '.join(flat) if flat else ''} (seed/batch)")
        for title, as_fraction in MEASURES.items():
            print(f"\n{network}, {title}, median / 90th percentile over studies\n")
            print(f"| trials | {' | '.join(f'{n:,}' for n in counts)} | seconds |")
            print(f"|---|{'---|' * (len(counts) + 1)}")
            for sampler in samplers:
                found = {
                    s.trials: f"{s.median:.2g} / {s.percentile_90:.2g}"
                    for s in summaries
                    if (s.network, s.sampler, s.as_fraction) == (network, sampler, as_fraction)
                }
                clocks = [r.clock for r in of if r.sampler == sampler and r.clock == r.clock]
                cells = [found.get(n, "-") for n in counts]
                cells.append(f"{statistics.median(clocks):.2g}" if clocks else "-")
                print(f"| {sampler} | {' | '.join(cells)} |")
    print_notes(samplers, caps)


def print_notes(samplers: list[str], caps: dict[str, int]) -> None:
    """What the tables do not say of themselves."""
    print(f"\nseconds: a study's first {CLOCK} trials, of a grid all; median over studies.")
    for name, cap in caps.items():
        if any(sampler.startswith(f"{name}-") for sampler in samplers):
            clocked = f"; seconds from {CLOCKED} studies" if cap < CLOCK else ""
            print(f"{name}: {cap} trials at most, more take too long here{clocked}.")


def figure_of(summaries: list[Summary]) -> Figure:
    """The fraction against the number of trials: the median and the 90th percentile over studies, one
    column a kind of network."""
    shown = [s for s in summaries if s.as_fraction]
    networks = list(dict.fromkeys(s.network for s in shown))
    figure = Figure(figsize=(5 * len(networks) + 0.2, 9), layout="constrained")
    panels = figure.subplots(len(DRAWN), len(networks), squeeze=False, sharex=True, sharey="row")
    for row, (title, figure_drawn) in zip(panels, DRAWN.items(), strict=True):
        for axes, network in zip(row, networks, strict=True):
            draw(axes, [s for s in shown if s.network == network], figure_drawn)
        row[0].set_ylim(bottom=max(LOWEST_DRAWN, row[0].get_ylim()[0]))
        row[0].set_ylabel(f"regret / achievable decrease, {title}")
    for top, bottom, network in zip(panels[0], panels[-1], networks, strict=True):
        top.set_title(network)
        bottom.set_xlabel("trials")
    shared_legend(figure, list(panels.flat))
    return figure


def draw(axes: Axes, summaries: list[Summary], figure_drawn: str) -> None:
    """A colour a sampler, whole on a log scale and dashed on a linear one; grids as single points."""
    look = looks(dict.fromkeys(name.partition("-")[0] for name in SEARCHED), [])
    drawn = dict.fromkeys(s.sampler for s in summaries)
    # Grids last, so that in the legend both scales of a sampler share a column.
    for sampler in sorted(drawn, key=lambda name: name in GRIDS):
        points = [(s.trials, getattr(s, figure_drawn)) for s in summaries if s.sampler == sampler]
        if sampler in GRIDS:
            draw_grid(axes, sampler, points[0])
            continue
        name, _, scale = sampler.partition("-")
        axes.plot(
            *zip(*points, strict=True), color=look[name].colour, marker=look[name].marker, ms=4, lw=1.5,
            ls="-" if scale == "log" else "--", label=sampler,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(alpha=0.25)


def draw_grid(axes: Axes, sampler: str, point: tuple[int, float]) -> None:
    """A hollow square above the lines, so that what lies below it is seen, with its step beside it."""
    axes.plot(*point, "s", ms=9, mew=1.6, mfc="none", color=BLACK, label="grid, by its step", zorder=3)
    axes.annotate(
        sampler.partition("-")[2], point, (0, 8), textcoords="offset points", ha="center", va="bottom",
        fontsize="small", bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6}, zorder=4,
    )  # fmt: skip


def write_summaries(path: Path, summaries: Iterable[Summary]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Summary.__dataclass_fields__)
        writer.writerows(s.__dict__.values() for s in summaries)


def names(text: str) -> list[str]:
    """Samplers, by name, with commas between."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in SAMPLERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: not among {', '.join(SAMPLERS)}")
    return chosen


def capped(text: str) -> dict[str, int]:
    """CAPS with those of the text, for example "gp=50,tpe=500"."""
    pairs = (part.split("=") for part in text.split(","))
    return CAPS | {name: int(most) for name, most in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="of either kind of network")
    parser.add_argument("--trials", type=int, default=COUNTS[-1], help="a study, at most")
    parser.add_argument("--samplers", type=names, default=list(SAMPLERS), help=", ".join(SAMPLERS))
    parser.add_argument("--caps", type=capped, default=CAPS, help="trials of slow samplers: gp=50")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--cache", type=Path, default=ROOT / ".srste", help="of pretrained networks")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="of the configuration, as for train.py")
    options = parser.parse_args()
    prepare()
    options.out.mkdir(parents=True, exist_ok=True)
    overrides, cache = tuple(options.overrides), options.cache.resolve()
    cases = [
        Case(network, i, overrides, cache) for i in range(options.studies) for network in PRETRAINING
    ]
    path = options.out / f"samplers-{fingerprint(overrides)}.csv"
    found = complete(path, cases, options.samplers, options.trials, options.caps, options.processes)
    runs = [
        found[*case.place, sampler]
        for case in sorted(cases, key=lambda c: list(PRETRAINING).index(c.network))
        for sampler in options.samplers
    ]
    summaries = [
        summary
        for as_fraction in MEASURES.values()
        for network in PRETRAINING
        for sampler in options.samplers
        for summary in summarised(runs, network, sampler, as_fraction, options.trials)
    ]
    print_tables(runs, summaries, options.samplers, options.caps)
    write_summaries(options.out / "samplers.csv", summaries)
    save(figure_of(summaries), options.out / "samplers")


if __name__ == "__main__":
    main()
