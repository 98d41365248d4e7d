"""What the parts of an exact loss curve cost with every loss, up to a million examples.

    python benchmarks/losses.py

Width 32, three hidden layers, the direction per tensor; logistic loss of one output, cross-entropy of
ten classes. Seconds until the curve is known, for its 50,000 values, for the exact minimum and for the
descent certificate, on two threads; how many intervals of learning rates lower the loss; the peak
resident memory of the whole process, a fresh one for every line.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from loss_curve import LRS

from srste import loss_curve
from srste.estimators.base import per_tensor
from srste.losses import AbsoluteError, CrossEntropy, Logistic, Loss, SquaredError
from srste.networks.estimating import estimating
from srste.networks.models.mlp import MLP
from srste.networks.rounding import Sign
from srste.networks.surrogates import Clipped
from srste.randomness import stream

LOSSES: dict[str, tuple[Loss, int]] = {
    "squared": (SquaredError(), 1),
    "absolute": (AbsoluteError(), 1),
    "logistic": (Logistic(), 1),
    "cross-entropy": (CrossEntropy(), 10),
}
EXAMPLES = [1_000, 10_000, 100_000, 1_000_000]
Answer = TypeVar("Answer")
COLUMNS = ["curve", "values", "minimum", "descent"]


def measured(name: str, examples: int, threads: int) -> dict[str, float]:
    """Seconds by column, the intervals that descend, and the peak in GiB."""
    torch.manual_seed(0)
    loss, outputs = LOSSES[name]
    model, teacher = MLP(out_features=outputs), MLP(out_features=outputs)
    x = torch.randn(examples, 32)
    with torch.no_grad():
        y = torch.cat([teacher(part) for part in x.split(1024)])
        y = loss.targets(y + 0.1 * torch.randn_like(y))
    with estimating(model, Sign(), Clipped(), stream(0)):
        gradients = torch.autograd.grad(loss(model(x[:1024]), y[:1024]), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    direction = per_tensor(dict(zip(names, gradients, strict=True)))
    loss_curve(model, direction, x[:50], y[:50], loss=loss).descent()  # compiled by now

    torch.set_num_threads(threads)
    found: dict[str, float] = {}

    def timed(column: str, work: Callable[[], Answer]) -> Answer:
        started = time.perf_counter()
        result = work()
        found[column] = time.perf_counter() - started
        return result

    curve = timed("curve", lambda: loss_curve(model, direction, x, y, loss=loss))
    timed("values", lambda: curve(LRS))
    timed("minimum", curve.minimum)
    found["intervals"] = timed("descent", curve.descent).intervals
    found["error"] = curve.error
    found["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=EXAMPLES)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)  # one, in its own process
    options = parser.parse_args()
    if options.own:
        print(json.dumps(measured(options.losses[0], options.examples[0], options.threads)))
        return
    print(f"{'loss':<15}{'examples':>10}", *(f"{column:>9}" for column in COLUMNS), end="")
    print(f"{'intervals':>11}{'error':>9}{'GiB':>7}")
    for name in options.losses:
        for examples in options.examples:
            own = [
                "--own",
                "--losses",
                name,
                "--examples",
                str(examples),
                "--threads",
                str(options.threads),
            ]
            command = [sys.executable, __file__, *own]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            seconds = (f"{found[column]:>7.3f} s" for column in COLUMNS)
            print(f"{name:<15}{examples:>10,}", *seconds, end="")
            print(f"{found['intervals']:>11,}{found['error']:>9.0e}{found['GiB']:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
