"""What the compiled kernels of the loss curve cost to start, and to have installed.

    python benchmarks/start_up.py

Processor seconds that a fresh process spends on them once PyTorch and what is above them in the table
are there: with code that an earlier process has compiled, the least of several; and without any, as the
first process on a machine.
Numba keeps that code beside the sources, or where NUMBA_CACHE_DIR says: here in a folder that is empty
at first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

FOLLOWING = (
    "import srste.curve.engine.batch_loss; from srste.curve.engine.kernels.follow import follow_kernel"
)
# What is imported or asked for, and what before it.
STEPS = {
    "numba": ("import numba", "import srste.curve"),
    "kernels: chains, squared error": (f"{FOLLOWING}; follow_kernel(is_chain=True)", "import numba"),
    "also: any other network": ("follow_kernel(is_chain=False)", FOLLOWING),
    "also: absolute error": ("import srste.curve.engine.kernels.absolute", FOLLOWING),
    "also: logistic loss, cross-entropy": ("import srste.curve.convex.search", FOLLOWING),
}
TIMED = """
import time, torch
{before}
started = time.process_time()
{wanted}
print(time.process_time() - started)
"""


def import_seconds(wanted: str, before: str, cache: str) -> float:
    command = [sys.executable, "-c", TIMED.format(wanted=wanted, before=before)]
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def installed_megabytes(package: str) -> float:
    found = (Path(str(path.locate())) for path in files(package) or [])
    return sum(path.stat().st_size for path in found if path.exists()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes that find all compiled")
    parser.add_argument("--only", choices=STEPS, help="one line of the table")
    options = parser.parse_args()
    print(f"{'':<44}{'first':>8}{'later':>9}")
    with tempfile.TemporaryDirectory() as cache:
        for what in [options.only] if options.only else STEPS:
            step = STEPS[what]
            first = import_seconds(*step, cache)
            later = min(import_seconds(*step, cache) for _ in range(options.repeats))
            print(f"{what:<44}{first:>6.2f} s{later:>7.2f} s", flush=True)
    for package in ("numba", "llvmlite"):
        print(f"{package}, installed: {installed_megabytes(package):.0f} MB")


if __name__ == "__main__":
    main()
