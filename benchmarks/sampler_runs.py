"""Studies of learning rates by every sampler, on many networks and batches, kept in a file."""

from __future__ import annotations

import csv
import io
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import optuna
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from srste import loss_curve
from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job, build
from srste.launch.job_values import job_values
from srste.launch.progress import counting
from srste.launch.validation import Plain
from srste.problem.problem import Problem
from srste.randomness import integer_seed
from srste.sampling import Sampling
from srste.store import provenance
from srste.store.pretrained import pretrained

ROOT = Path(__file__).parent.parent
BATCHES = 10
"""Studies a network."""
PRETRAINING = {"raw": "none", "pretrained": "adam"}
COUNTS = (10, 20, 50, 100, 200, 500, 1_000)
CLOCK = 100
"""The number of trials whose seconds are printed."""
CAPS = {"gp": 50}
"""Trials beyond which a sampler is too slow for hundreds of studies: a trial costs the more, the more
there are before it."""
CLOCKED = 5
"""Studies of either kind of network that a sampler with a cap below CLOCK nevertheless runs up to it, to
time it."""
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
        return Job(job_values(compose("config", list(overrides))))


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
    curve = loss_curve(this.model, direction, batch.inputs, batch.targets, lr_max=of.sampling.lr_max)
    infimum = curve.minimum().loss
    # The name and so the seed of the same study in a job.
    name = f"{case.estimator} samples 1 batch {case.batch}"
    seed = integer_seed(case.seed, "sampler", name)
    runs = []
    for sampler, trials in wanted.items():
        times: list[float] = []

        def timed(lrs: NDArray[np.float64], times: list[float] = times) -> NDArray[np.float64]:
            times.append(time.perf_counter())
            return curve(lrs)

        started = time.perf_counter()
        columns = sampling(sampler, trials).run(timed, curve.pre_loss, seed)
        clock = time.perf_counter() - started
        if sampler in SEARCHED:
            clock = times[CLOCK - 1] - started if len(times) >= CLOCK else float("nan")
        lowest = np.minimum.accumulate(columns.post_loss)
        counts = [n for n in COUNTS if n <= len(lowest)] if sampler in SEARCHED else [len(lowest)]
        run = Run(
            *case.place, case.estimator, sampler, len(columns), curve.pre_loss, infimum, clock,
            {n: float(lowest[n - 1]) for n in counts},
        )  # fmt: skip
        runs.append(run)
    return runs


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
        with (
            in_processes(processes) as mapped,
            path.open("a") as file,
            counting("studies", len(cases)) as advance,
        ):
            for _ in range(len(cases) - len(tasks)):
                advance()
            for runs in mapped(run_task, tasks):
                file.write("".join(map(line, runs)))
                file.flush()
                advance()
    return read(path)


@contextmanager
def in_processes(number: int) -> Iterator[Callable[..., Iterable[list[Run]]]]:
    """A `map` by that many processes, in any order; by this one, which has been prepared, if by one."""
    if number == 1:
        yield map
        return
    # Not forked: torch's and numba's threads do not live on in a fork.
    with multiprocessing.get_context("spawn").Pool(number, prepare) as pool:
        yield pool.imap_unordered
