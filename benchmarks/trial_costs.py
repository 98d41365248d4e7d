"""What one more trial costs a sampler, after so many: why GP is not run for long on hundreds of studies.

    python benchmarks/trial_costs.py

Processor time of asking for a learning rate and telling its loss, in a study that has that many trials
already: learning rates drawn evenly on a log scale, with losses from a loss curve at the note's size.
In a study of GP's own they lie closer together, which takes it longer. The last column is what all
trials up to the last count take at these costs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import optuna
from loss_curve import cases
from sampler_runs import prepare, sampling

from srste import loss_curve
from srste.curve import LossCurve

SAMPLERS = ("random-log", "tpe-log", "gp-log")
COUNTS = (10, 100, 200, 500, 1_000)


def seconds_a_trial(sampler: str, curve: LossCurve, count: int, repeats: int) -> float:
    """The mean of a few trials that follow on ``count``."""
    searched = sampling(sampler, count)
    space, low, high = searched.distribution, searched.distribution.low, searched.distribution.high
    lrs = np.exp(np.random.default_rng(0).uniform(np.log(low), np.log(high), count))
    study = optuna.create_study(sampler=searched.sampler(seed=0))
    study.add_trials(
        [
            optuna.trial.create_trial(params={"lr": lr}, distributions={"lr": space}, value=loss)
            for lr, loss in zip(lrs.tolist(), curve(lrs).tolist(), strict=True)
        ]
    )
    started = time.process_time()
    for _ in range(repeats):
        trial = study.ask({"lr": space})
        study.tell(trial, float(curve(trial.params["lr"])))
    return (time.process_time() - started) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="trials that are timed, of each")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="trials before, at most")
    options = parser.parse_args()
    counts = [count for count in COUNTS if count <= options.most]
    prepare()
    case = cases()["tensor"]
    curve = loss_curve(case.model, case.direction, case.x, case.y)
    print(f"| trials before | {' | '.join(f'{n:,}' for n in counts)} | all {counts[-1]:,} |")
    print(f"|---|{'---|' * (len(counts) + 1)}")
    for sampler in SAMPLERS:
        each = [seconds_a_trial(sampler, curve, count, options.repeats) for count in counts]
        all_of_them = np.trapezoid(each, counts) + counts[0] * each[0]
        cells = " | ".join(f"{1e3 * cost:,.1f} ms" for cost in each)
        print(f"| {sampler} | {cells} | {all_of_them:.2g} s |")


if __name__ == "__main__":
    main()
