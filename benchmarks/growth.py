"""How the time and the memory of a loss curve grow with the problem.

    python benchmarks/growth.py                            # all of it, some five minutes
    python benchmarks/growth.py --figure docs/images/growth.png
    python benchmarks/growth.py --quick                    # small sizes, to see that it works

Four axes, the others at the note's size: examples, width of the hidden layers, their number (at two
widths), learning rates. For each, seconds of the exact curve in the three directions and of a float32
loop of forward passes, which runs a few learning rates and is scaled up; with the exponent of a power
law, fitted by least squares to the logarithms, and its standard error. One thread; every time is the
least of several, of the time that the thread had a core.

By examples also the peak resident memory of the whole process, a fresh one for every size, in which the
curves are taken one after the other, so that a peak is that of its direction and those before; after
that on two threads.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from loss_curve import DIRECTIONS, LRS, cases, loop
from matplotlib.figure import Figure
from timing import least_seconds

from srste.report.palette import BLACK, looks

LOOP = "loop"
COLUMNS = [*DIRECTIONS, LOOP]
SPENT = 2.0  # seconds that a measurement is repeated for
EXAMPLES = [1_024, 4_096, 16_384, 65_536, 262_144, 1_000_000]
WIDTHS = [32, 64, 128, 256, 512, 1_024]
DEPTHS = [1, 2, 3, 5, 7, 10]
POINTS = [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
QUICK = {"width": [8, 16], "depth": [1, 2], "points": [1_000, 10_000]}


def repeated_seconds(ways: dict[str, Callable[[], object]], spent: float) -> dict[str, float]:
    """The least time of each, repeated as often as there is time for."""
    once = least_seconds(ways, 1)
    repeats = min(20, int(spent / sum(once.values())))
    again = least_seconds(ways, repeats) if repeats else once
    return {name: min(once[name], again[name]) for name in ways}


def measured(
    spent: float, examples: int = 1024, width: int = 32, depth: int = 3, points: int = len(LRS)
) -> dict[str, float]:
    """Seconds by column. spent: of them, on repeating."""
    lrs = LRS if points == len(LRS) else np.arange(1, points + 1) * (0.5 / points)
    problems = cases(examples, width, depth)
    some = lrs[:: len(lrs) // 4][:4]
    ways: dict[str, Callable[[], object]] = {
        name: lambda case=case: case.curve(lrs) for name, case in problems.items()
    }
    seconds = repeated_seconds(ways | {LOOP: lambda: loop(problems["tensor"], some)}, spent)
    seconds[LOOP] *= len(lrs) / len(some)
    return seconds


def peaks(examples: int) -> dict[str, float]:
    """GiB that this process has held at most, after each direction on one thread and at last on two."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    torch.set_num_threads(1)
    problems = cases(examples)
    found = {"before": peak()}
    for name, case in problems.items():
        case.curve(LRS)
        found[name] = peak()
    torch.set_num_threads(2)
    for case in problems.values():
        case.curve(LRS)
    torch.set_num_threads(1)
    return found | {"two threads": peak()}


@dataclass
class Axis:
    """What was measured at several sizes. grows, fixed: arguments of `measured`. seconds: by column, one
    of each size."""

    title: str
    label: str
    grows: str
    sizes: list[int]
    fixed: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, seconds: dict[str, float]) -> None:
        for name in COLUMNS:
            self.seconds[name].append(seconds[name])

    def exponent(self, name: str) -> tuple[float, float]:
        """Of the power law nearest to the logarithms, and its standard error, infinite of two sizes."""
        x, y = np.log(self.sizes), np.log(self.seconds[name])
        slope, height = np.polyfit(x, y, 1)
        freedom = len(x) - 2
        if not freedom:
            return float(slope), math.inf
        left = ((y - height - slope * x) ** 2).sum() / freedom
        return float(slope), math.sqrt(left / ((x - x.mean()) ** 2).sum())

    def table(self, memory: list[dict[str, float]]) -> str:
        """In Markdown."""
        heads = [self.label, *DIRECTIONS, LOOP, "loop / tensor"]
        if memory:
            heads += [f"GiB, {name}" for name in memory[0]]
        lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for row, size in enumerate(self.sizes):
            took = {name: self.seconds[name][row] for name in COLUMNS}
            cells = [f"{size:,}", *(duration(took[name]) for name in COLUMNS)]
            cells.append(f"{took[LOOP] / took['tensor']:,.0f}")
            if memory:
                cells += [f"{held:.2f}" for held in memory[row].values()]
            lines.append(f"| {' | '.join(cells)} |")
        fits = [self.exponent(name) for name in COLUMNS]
        cells = ["exponent", *(f"{slope:.2f} ± {error:.2f}" for slope, error in fits)]
        lines.append(f"| {' | '.join(cells + [''] * (len(heads) - len(cells)))} |")
        return "\n".join([f"**{self.title}**", "", *lines, ""])


def duration(seconds: float) -> str:
    """With two or three digits."""
    if seconds < 1:
        digits = 2 if seconds < 0.01 else 1 if seconds < 0.1 else 0
        return f"{1e3 * seconds:.{digits}f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def draw(axes: list[Axis], path: Path) -> None:
    """A panel for each way to grow; depth at two widths in one."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    look = looks(DIRECTIONS, [LOOP])
    panels = figure.subplots(2, 2, sharey=True).flat
    for label, panel in zip(dict.fromkeys(axis.label for axis in axes), panels, strict=True):
        shown = [axis for axis in axes if axis.label == label]
        for axis, line in zip(shown, ("-", ":"), strict=False):
            for name in COLUMNS:
                colour = BLACK if name == LOOP else look[name].colour
                panel.loglog(
                    axis.sizes, axis.seconds[name], color=colour, marker=look[name].marker, ls=line,
                    label=name if axis is axes[0] else None, ms=4,
                )  # fmt: skip
        panel.set_title("; dotted: ".join(axis.title for axis in shown), fontsize="medium")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    figure.supylabel("seconds a curve")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--figure", type=Path, help="where to draw it")
    parser.add_argument("--examples", type=int, help=argparse.SUPPRESS)  # one size, in its own process
    options = parser.parse_args()
    torch.set_num_threads(1)
    spent = 0.0 if options.quick else SPENT
    if options.examples:
        print(json.dumps([peaks(options.examples), measured(spent, examples=options.examples)]))
        return

    by_examples, *others = axes = [
        Axis("width 32, three hidden layers", "examples", "examples", EXAMPLES),
        Axis("1,024 examples, three hidden layers", "width", "width", WIDTHS),
        Axis("width 32", "hidden layers", "depth", DEPTHS, {"width": 32}),
        Axis("width 256", "hidden layers", "depth", DEPTHS, {"width": 256}),
        Axis("1,024 examples, width 32, three hidden layers", "learning rates", "points", POINTS),
    ]
    if options.quick:
        by_examples.sizes = [64, 256]
        for axis in others:
            axis.sizes, axis.fixed = QUICK[axis.grows], {}

    memory: list[dict[str, float]] = []
    for size in by_examples.sizes:
        command = [sys.executable, __file__, "--examples", str(size), *sys.argv[1:]]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        held, seconds = json.loads(done.stdout)
        by_examples.add(seconds)
        memory.append(held)
    print(by_examples.table(memory))
    peak = max(memory[-1].values())
    print(
        f"peak with {by_examples.sizes[-1]:,} examples: {peak:.2f} GiB\n",
        flush=True,
    )
    for axis in others:
        for size in axis.sizes:
            axis.add(measured(spent, **axis.fixed, **{axis.grows: size}))
        print(axis.table([]), flush=True)
    if options.figure:
        draw(axes, options.figure)


if __name__ == "__main__":
    main()
