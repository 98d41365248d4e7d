"""How far each sampler of learning rates stays above the exact minimum, against its number of trials.

    python benchmarks/samplers.py                                    # all of it, about an hour
    python benchmarks/samplers.py --studies 4 --samplers tpe-log     # a small one, to see that it works
    python benchmarks/samplers.py --studies 40 --caps gp=50          # fewer studies, gp for longer

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
import io
import multiprocessing
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import optuna
import torch
from hydra import compose, initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from srste import provenance
from srste.config import Job, Plain, build
from srste.curve import loss_curve
from srste.preflight import register_resolvers
from srste.pretraining import pretrained
from srste.problem import Problem
from srste.progress import counting
from srste.randomness import integer_seed
from srste.report.figures.style import BLACK, looks, save, shared_legend
from srste.sampling import Sampling

ROOT = Path(__file__).parent.parent
BATCHES = 10
"""Studies a network."""
PRETRAINING = {"raw": "none", "pretrained": "adam"}
COUNTS = (10, 20, 50, 100, 200, 500, 1_000)
CLOCK = 100
"""The number of trials whose seconds are printed."""
CAPS = {"gp": 20, "tpe": 500}
"""Trials beyond which a sampler is too slow for hundreds of studies: a trial costs the more, the more
there are before it."""
CLOCKED = 5
"""Studies of either kind of network that a sampler with a cap below CLOCK nevertheless runs up to it, to
time it."""
LOWEST_DRAWN = 1e-7
"""What is below is as good as the minimum, and would leave no room for the rest of a figure."""
SCALES = {"log": "true", "linear": "false"}
GRIDS = {
    f"grid-{step}": ("sampling=grid", f"sampling.step={step}")
    for step in ("1e-5", "1e-4", "1e-3", "1e-2")
}
SEARCHED = {
    f"{name}-{scale}": (f"sampling={name}", f"sampling.log={log}")
    for name in ("tpe", "random", "qmc", "cmaes", "gp")
    for scale, log in SCALES.items()
}
SAMPLERS = GRIDS | SEARCHED
MEASURES = {
    "regret as a fraction of the achievable decrease": True,
    "regret (mean squared error)": False,
}


@dataclass(frozen=True)
class Case:
    """One network's batch. overrides: of the configuration, for all of them. cache: the folder of
    pretrained networks."""

    network: str
    index: int
    overrides: tuple[str, ...]
    cache: Path

    @property
    def seed(self) -> int:
        return self.index // BATCHES

    @property
    def batch(self) -> int:
        return self.index % BATCHES + 1

    @property
    def estimator(self) -> str:
        return "ste" if self.batch % 2 else "sr_ste"

    @property
    def place(self) -> tuple[str, int, int]:
        return self.network, self.seed, self.batch


@dataclass(frozen=True)
class Run:
    """A sampler's study of one case.

    lowest: the lowest loss of the first n trials, by n: those of COUNTS that it reached, and for a grid
        all its points.
    clock: seconds of the first CLOCK trials, of a grid all; nan if there are fewer.
    """

    network: str
    seed: int
    batch: int
    estimator: str
    sampler: str
    trials: int
    pre_loss: float
    infimum: float
    clock: float
    lowest: dict[int, float]

    @property
    def descends(self) -> bool:
        """Whether some learning rate lowers the loss."""
        return self.infimum < self.pre_loss

    def regret(self, count: int, as_fraction: bool) -> float:
        # Both are sums over the batch in float64, whose order is not the same.
        regret = max(0.0, self.lowest[count] - self.infimum)
        return regret / (self.pre_loss - self.infimum) if as_fraction else regret


FIELDS = [name for name in Run.__dataclass_fields__ if name != "lowest"]


def line(run: Run) -> str:
    """A run as a line of the file: its fields, and `count=loss` for the lowest losses."""
    text = io.StringIO()
    lowest = [f"{count}={loss!r}" for count, loss in run.lowest.items()]
    csv.writer(text, lineterminator="\n").writerow([*(getattr(run, f) for f in FIELDS), *lowest])
    return text.getvalue()


def read(path: Path) -> dict[tuple[str, int, int, str], Run]:
    """The runs in the file, of several of the same study the longest. A last line that was cut short
    when the process was stopped is removed."""
    found: dict[tuple[str, int, int, str], Run] = {}
    if not path.exists():
        return found
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    for row in csv.reader(io.StringIO(whole)):
        values = dict(zip(FIELDS, row, strict=False))
        pairs = (pair.split("=") for pair in row[len(FIELDS) :])
        run = Run(
            values["network"], int(values["seed"]), int(values["batch"]), values["estimator"],
            values["sampler"], int(values["trials"]), float(values["pre_loss"]),
            float(values["infimum"]), float(values["clock"]), {int(n): float(x) for n, x in pairs},
        )  # fmt: skip
        key = (run.network, run.seed, run.batch, run.sampler)
        if key not in found or found[key].trials < run.trials:
            found[key] = run
    return found


def configuration(*overrides: str) -> Job:
    """The job that the overrides make of the project's configuration."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return Job(compose("config", list(overrides)))


@lru_cache(maxsize=8)
def job(network: str, seed: int, estimator: str, overrides: tuple[str, ...], cache: Path) -> Job:
    # A raw network has no keys of a pretraining.
    fitting = [o for o in overrides if network != "raw" or not o.startswith("pretraining.")]
    return configuration(
        f"pretraining={PRETRAINING[network]}", f"seed={seed}", f"estimator={estimator}",
        f"cache={cache}", *fitting,
    )  # fmt: skip


@lru_cache(maxsize=2)
def problem(network: str, seed: int, overrides: tuple[str, ...], cache: Path) -> Problem:
    """The network's problem, pretrained; kept for its next batches."""
    of = job(network, seed, "ste", overrides, cache)
    made = of.problem()
    key = provenance.key_of(of.pretraining_identity())
    pretrained(made, of.pretraining, key, of.cache, lambda _: lambda _: None)
    return made


@lru_cache
def sampling(name: str, trials: int) -> Sampling:
    """The project's own sampling, as the user's command would make it."""
    count = [f"sampling.n_trials={trials}"] if name in SEARCHED else []
    made: Sampling = build(configuration(*SAMPLERS[name], *count).config["sampling"])
    return made


def fingerprint(overrides: tuple[str, ...]) -> str:
    """A hash of all that determines the losses, but how many studies and trials there are."""
    whole: Plain = {}
    for network in PRETRAINING:
        for estimator in ("ste", "sr_ste"):
            of = job(network, 0, estimator, overrides, Path())
            identity = of.study_identity(1, of.config["estimator"], True)
            # The samplers come below, each with its own; nothing is held out here.
            unused = ("sampling", "heldout")
            whole[f"{network} {estimator}"] = {k: v for k, v in identity.items() if k not in unused}
    for name, own in SAMPLERS.items():
        config = configuration(*own).config["sampling"]
        whole[name] = {key: value for key, value in config.items() if key != "n_trials"}
    return provenance.key_of(whole)[:12]


def run_case(case: Case, wanted: dict[str, int]) -> list[Run]:
    """The studies of these samplers, each of that many trials."""
    of = job(case.network, case.seed, case.estimator, case.overrides, case.cache)
    this = problem(case.network, case.seed, case.overrides, case.cache)
    batch = this.batch(case.batch)
    direction = of.estimator.direction(this, batch, 1)
    curve = loss_curve(this.model, direction, batch.inputs, batch.targets, of.sampling.lr_max)
    infimum = curve.minimum().loss
    # The name and so the seed of the same study in a job.
    name = f"{case.estimator} samples 1 batch {case.batch}"
    seed = integer_seed(case.seed, "sampler", name)
    runs = []
    for sampler, trials in wanted.items():
        started = time.perf_counter()
        study, columns = sampling(sampler, trials).run(curve, curve.pre_loss, name, seed)
        clock = time.perf_counter() - started
        if sampler in SEARCHED:
            clock = seconds_of(study.get_trials(deepcopy=False)[:CLOCK])
        lowest = np.minimum.accumulate(columns.post_loss)
        counts = [n for n in COUNTS if n <= len(lowest)] if sampler in SEARCHED else [len(lowest)]
        run = Run(
            *case.place, case.estimator, sampler, len(columns), curve.pre_loss, infimum, clock,
            {n: float(lowest[n - 1]) for n in counts},
        )  # fmt: skip
        runs.append(run)
    return runs


def seconds_of(trials: list[optuna.trial.FrozenTrial]) -> float:
    """From the first one's start to the last one's end; nan if they are fewer than CLOCK."""
    if len(trials) < CLOCK:
        return float("nan")
    begin, end = trials[0].datetime_start, trials[-1].datetime_complete
    assert begin is not None and end is not None
    return (end - begin).total_seconds()


def trials_of(sampler: str, index: int, most: int, caps: dict[str, int]) -> int:
    """How many trials that study of the sampler has."""
    if sampler in GRIDS:
        return sampling(sampler, 0).trials
    cap = min(most, caps.get(sampler.partition("-")[0], most))
    return min(most, max(cap, CLOCK)) if index < CLOCKED else cap


def run_task(task: tuple[Case, dict[str, int]]) -> list[Run]:
    return run_case(*task)


def prepare() -> None:
    """What every process does first: like the program, one thread; Optuna says nothing of each study."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def complete(
    path: Path,
    cases: list[Case],
    samplers: list[str],
    most: int,
    caps: dict[str, int],
    processes: int,
) -> dict[tuple[str, int, int, str], Run]:
    """All runs: those that the file has, and those that it lacked, appended as they finish."""
    found = read(path)
    tasks = []
    for case in cases:
        wanted = {name: trials_of(name, case.index, most, caps) for name in samplers}
        missing = {
            name: trials
            for name, trials in wanted.items()
            if (have := found.get((*case.place, name))) is None or have.trials < trials
        }
        if missing:
            tasks.append((case, missing))
    if tasks:
        # Not forked: torch's and numba's threads do not live on in a fork.
        context = multiprocessing.get_context("spawn")
        with (
            context.Pool(processes, prepare) as pool,
            path.open("a") as file,
            counting("studies", len(cases)) as advance,
        ):
            for _ in range(len(cases) - len(tasks)):
                advance()
            for runs in pool.imap_unordered(run_task, tasks):
                file.write("".join(map(line, runs)))
                file.flush()
                advance()
    return read(path)


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
    """The median fraction against the number of trials, one panel a kind of network."""
    shown = [s for s in summaries if s.as_fraction]
    networks = list(dict.fromkeys(s.network for s in shown))
    figure = Figure(figsize=(5 * len(networks) + 0.2, 5.2), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    for axes, network in zip(panels, networks, strict=True):
        draw(axes, [s for s in shown if s.network == network])
        axes.set_title(network)
    panels[0].set_ylim(bottom=max(LOWEST_DRAWN, panels[0].get_ylim()[0]))
    panels[0].set_ylabel("regret / achievable decrease, median")
    shared_legend(figure, panels)
    return figure


def draw(axes: Axes, summaries: list[Summary]) -> None:
    """A colour a sampler, whole on a log scale and dashed on a linear one; grids as single points."""
    look = looks(dict.fromkeys(name.partition("-")[0] for name in SEARCHED), [])
    drawn = dict.fromkeys(s.sampler for s in summaries)
    # Grids last, so that in the legend both scales of a sampler share a column.
    for sampler in sorted(drawn, key=lambda name: name in GRIDS):
        points = [(s.trials, s.median) for s in summaries if s.sampler == sampler]
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
    axes.set_xlabel("trials")
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
    """CAPS with those of the text, for example "gp=50,tpe=1000"."""
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
