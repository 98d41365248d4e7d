"""Makes ``studies.json`` anew, after a change that is meant to change numbers:

python -m tests.golden.make
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import torch
from hydra import compose, initialize_config_dir

from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_runner import Folders, run_job
from srste.launch.job_values import job_values
from srste.store import records
from tests.support import CONF, EXAMPLES, choices, of_its_kind

FILE = Path(__file__).parent / "studies.json"

_SMALL = ["batches=2", "batch_size=30", "heldout=20", "samples=2", "data.features=4"]
_NETWORK = ["model.width=5", "model.depth=2"]
_FINE, _COARSE, _FEW = "sampling.step=1e-3", "sampling.step=1e-2", "sampling.n_trials=12"


LOSSES = ("pre_loss", "zero_loss", "best/post_loss", "best/replayed_post_loss", "heldout/pre_loss",
          "certificate/loss", "probe/loss")  # fmt: skip
"""Those that the last bits of a direction hardly change."""


def at(numbers: dict[str, Any], path: str) -> float | None:
    """The number at a path of keys, None where a part of it is None."""
    value: Any = numbers
    for key in path.split("/"):
        value = None if value is None else value[key]
    return value


def cases() -> dict[str, list[str]]:
    """{name: overrides}, each of one job."""
    jobs = {"bias": [*_NETWORK, _FINE, "model.bias=true"]}
    for loss in choices("loss"):
        jobs[f"loss={loss}"] = [*_NETWORK, _FINE, f"loss={loss}", "model.out_features=3"]
    for model in choices("model"):
        sizes = ["model.channels=2", "model.height=2"] if model == "conv" else _NETWORK
        jobs[f"model={model}"] = [f"model={model}", *sizes, _COARSE]
    of_estimators = ("quantiser", "aggregation", "normalisation", "surrogate", "weighting")
    for group in ("estimator", *(f"estimator/{part}" for part in of_estimators), "data"):
        for choice in choices(group):
            needed = [EXAMPLES] if choice == "arrays" else []
            jobs[f"{group}={choice}"] = [*of_its_kind(group, choice), *needed, *_NETWORK, _FINE]
    for sampling in choices("sampling"):
        jobs[f"sampling={sampling}"] = [
            f"sampling={sampling}", *_NETWORK, _FINE if sampling == "grid" else _FEW
        ]  # fmt: skip
    adam = ["pretraining=adam", "pretraining.steps=5", "pretraining.batch_size=50"]
    jobs["pretraining=adam"] = [*adam, *_NETWORK, _FINE]
    return jobs


def numbers_of(overrides: list[str]) -> dict[str, dict[str, Any]]:
    """{name of the study: numbers of its record} of a job, with a checksum of all its trials."""
    register_resolvers()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            job = Job(job_values(compose("config", [*_SMALL, *overrides, f"cache={folder}/cache"])))
        run_job(job, Folders(Path(folder), Path(folder)))
        return {
            record.name: _numbers(record, records.read_trials(path).post_loss.tobytes())
            for path, record in sorted(records.find(Path(folder)), key=lambda pair: pair[1].name)
        }


def _numbers(record: records.Record, losses: bytes) -> dict[str, Any]:
    parts = {
        part: asdict(value) if (value := getattr(record, part)) is not None else None
        for part in ("best", "baseline", "heldout", "probe", "certificate")
    }
    if parts["baseline"] is not None:
        del parts["baseline"]["key"]  # of the code too, not of the result alone
    alone = ("pre_loss", "trials", "failed", "reason", "zero_loss", "angles", "not_exact")
    return {
        **{name: getattr(record, name) for name in alone},
        **parts,
        "alarms": record.alarm_details,
        "losses": hashlib.sha256(losses).hexdigest(),
    }


def arithmetic() -> dict[str, str]:
    """What decides the last bits: the processor's vectors and the libraries."""
    names = ("torch", "numpy", "optuna", "numba")
    return {"processor": _processor(), "vectors": torch.backends.cpu.get_cpu_capability()} | {
        name: version(name) for name in names
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    wanted = ("model name", "model\t", "cpu family", "stepping")
    return "; ".join(dict.fromkeys(" ".join(x.split()) for x in lines if x.startswith(wanted))) or (
        platform.processor()
    )


def main() -> None:
    made = {"arithmetic": arithmetic(), "jobs": {n: numbers_of(o) for n, o in cases().items()}}
    FILE.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{FILE}: {sum(map(len, made['jobs'].values()))} studies of {len(made['jobs'])} jobs")


if __name__ == "__main__":
    main()
