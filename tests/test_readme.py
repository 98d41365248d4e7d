"""Every command and piece of code in the README and the user's guide, run in a copy of the project.

Commands that would take minutes run at a smaller size: the overrides in SMALLER are appended, and two
networks take the place of twenty. What only CI can run (setting up from nothing, `make test` itself) is
checked to be in `.ci/run`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support import ROOT, answers, free_port, runs_in, serving, train

GUIDE = ["start", "running", "results", "gradients", "own_network", "estimators", "statistics", "faq"]
PAGES = ["README.md", *(f"docs/{page}.md" for page in GUIDE)]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
BLOCKS = [
    (page, language, block)
    for page, text in TEXTS.items()
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
]
COMMANDS = list(
    dict.fromkeys(
        line.split("  #")[0].split(" # ")[0].strip()
        for _, language, block in BLOCKS
        if language == "bash"
        for line in block.splitlines()
        if line.strip()
    )
)

IN_CI = {"make test", "make lint"}
BY_OTHER_TESTS = {
    "make benchmark",  # tests/test_benchmarks.py
    "make compat",  # the tests themselves, in four environments: by hand, before a release
    "make soak",  # tests/faults/test_soak.py
    # What `make study` does, and tests/test_wheel.py in an environment of its own.
    "python3 -m venv .venv",
    "pip install --constraint constraints.txt .",
    "python train.py -m hydra/launcher=slurm estimator=sr_ste samples=1,2,...,10",  # tests/slurm
}
FIRST = "python train.py -m estimator=sr_ste samples=1,2,...,10"
SMALLER_ALONE = {"python train.py": ["batches=2"], FIRST: ["report=false"]}
"""Of these commands themselves; SMALLER is of all that have those words in them."""
SMALLER = {
    "experiment=note_": ["batches=1", "batch_size=32", "sampling.step=1e-2", "tracking=none",
                         "report=false"],
    "pretraining=none,adam": ["batches=1", "report=false"],
    "note_pretrained": ["pretraining.steps=20", "pretraining.batch_size=100"],
    "note_replay": ["pretraining=none", "heldout=0", "samples=1,2"],
    "estimator=ste,sr_ste": ["batches=2", "report=false"],
    "local_parallel": ["batches=1", "report=false"],
    "experiment=replicate": ["seed=0,1", "samples=1,2", "batches=1", "batch_size=64", "heldout=100",
                             "sampling.step=1e-2", "pretraining=none", "tracking=none"],
    "=gradient": ["batches=1", "batch_size=64", "heldout=100", "sampling.step=1e-2", "tracking=none"],
    "=stochastic": ["batches=1", "batch_size=64", "heldout=100", "sampling.step=1e-2", "tracking=none"],
    "experiment=width": ["model.width=2,3", "seed=0", "batch_size=64", "samples=1", "estimator=cdg,nes"],
    "experiment=precision": ["model.levels=2,3", "model.width=4", "seed=0", "batch_size=64"],
    "loss=": ["batches=1", "batch_size=64", "heldout=100", "sampling.step=1e-2", "tracking=none",
              "report=false"],
    "batch_norm": ["batches=1", "batch_size=64", "sampling.n_trials=5", "heldout=100"],
    "seed=range": ["batches=1", "batch_size=64", "heldout=100", "report=false"],
    "new.db": ["batches=1", "batch_size=64", "heldout=100"],
    "digits.npz": ["batches=1", "batch_size=64", "tracking=none"],
    "seed=0,1,...,9": ["seed=0,1", "samples=1,2", "batches=1", "batch_size=64", "heldout=100",
                       "sampling.step=1e-3", "tracking=none", "report=false"],
    "seed=0,1,...,7": ["seed=0,1", "samples=1,2", "batches=1", "batch_size=64", "heldout=100",
                       "sampling.step=1e-3", "tracking=none", "report=false"],
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with the environment of these tests."""
    folder = tmp_path_factory.mktemp("readme") / "srste"
    leave = shutil.ignore_patterns(
        ".venv", ".git", "outputs", "multirun", "mlruns", "mlflow.db", ".*cache*"
    )
    shutil.copytree(ROOT, folder, ignore=leave)
    (folder / ".venv").symlink_to(sys.prefix)
    # Where a command sweeps pretraining, nothing can be appended that only one choice has.
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 10, 2_000)
    np.savez(folder / "digits.npz", inputs=generator.normal(size=(2_000, 64)), targets=classes)
    adam = folder / "conf" / "pretraining" / "adam.yaml"
    smaller = adam.read_text().replace("steps: 500", "steps: 20").replace("16000", "100")
    assert "steps: 20\nbatch_size: 100\n" in smaller
    adam.write_text(smaller)
    return folder


def run(copy, command, timeout=600):
    """Runs a shell command in the copy, the environment entered; returns its output."""
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    words = shlex.split(command)
    if words[:2] == ["python", "train.py"]:
        done = train(copy, *words[2:], timeout=timeout, script=copy / "train.py", PATH=path)
    elif words[:3] == ["python", "-m", "srste"]:
        words = [path for word in words[3:] for path in sorted(copy.glob(word)) or [word]]
        done = train(
            copy, *map(str, words), timeout=timeout, script=copy / "srste" / "__main__.py", PATH=path
        )
    else:
        done = subprocess.run(
            ["bash", "-c", command], cwd=copy, capture_output=True, text=True, timeout=timeout,
            check=False, env=os.environ | {"PATH": path},
        )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_readme_has_the_commands_that_these_tests_expect():
    assert COMMANDS[:2] == ["make study", "make test"]
    assert FIRST in COMMANDS
    assert "mlflow ui" in COMMANDS
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(re.search(rf"^{command}$", ci, re.M) for command in IN_CI)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in IN_CI | BY_OTHER_TESTS])
def test_command(copy, command):
    if command.startswith("make "):
        # Its environment is this one and not to be set up again: -o takes it for up to date.
        out = run(copy, f"make -o .venv/.set-up {command.removeprefix('make ')}")
        assert "110 studies, 5,500,000 trials in" in out
        runs = [r for r in runs_in(f"sqlite:///{copy}/mlflow.db") if r.data.tags["kind"] == "study"]
        assert len(runs) == 110
        tables = [Path(r.info.artifact_uri.removeprefix("file://"), "trials.parquet") for r in runs]
        assert sum(pq.read_metadata(table).num_rows for table in tables) == 5_500_000
    elif command.startswith("mlflow ui"):
        # As it stands where its port is free; otherwise on another.
        words = command.split()
        port = int(words[-1]) if words[-1].isdigit() else 5000
        if answers(port):
            port = free_port()
            words = ["mlflow", "ui", "--port", str(port)]
        with serving(words, copy, port):
            deadline = time.monotonic() + 30
            while True:
                try:
                    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.3)
        assert b"MLflow" in page
    else:
        smaller = [o for part, more in SMALLER.items() if part in command for o in more]
        smaller += SMALLER_ALONE.get(command, [])
        command = command.replace("seed=0,1,...,19", "seed=0,1")
        out = run(copy, " ".join([command, *map(shlex.quote, smaller)]))
        if command == FIRST:
            assert "110 studies, 110 reused" in out


SWEPT = "python train.py -m estimator=sr_ste,same_angle samples=1,2,...,5 seed=0,1,...,9"


@pytest.mark.parametrize(
    ("pages", "launch", "name"),
    [
        (["README.md", "docs/own_network.md", "docs/faq.md"], None, ""),
        (["docs/running.md"], FIRST, "estimator=sr_ste_samples=1,2,...,10_*"),
        (["docs/statistics.md"], SWEPT, "*sr_ste,same_angle*"),
    ],
)
def test_the_python_pieces_of_a_page_in_their_order(copy, tmp_path, pages, launch, name):
    """Of a page that reads a launch where that is the only one."""
    if launch:
        if not list((copy / "multirun").glob(name)):  # if this test runs alone
            smaller = [o for part, more in SMALLER.items() if part in launch for o in more]
            run(copy, " ".join([launch, *smaller]))
        swept = next((copy / "multirun").glob(name))
        shutil.copytree(swept, tmp_path / "multirun" / swept.name)
    pieces = [block for page, language, block in BLOCKS if language == "python" and page in pages]
    assert len(pieces) >= len(pages)
    (tmp_path / "pieces.py").write_text(
        "\n".join(["import matplotlib", "matplotlib.use('Agg')", *pieces])
    )
    run(tmp_path, "python pieces.py")


def test_yaml_of_the_guide_composes(copy):
    (text,) = (block for _, language, block in BLOCKS if language == "yaml")
    mine = copy / "choices" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(text)
    words = "-m --config-dir=choices experiment=mine batches=1 batch_size=64 heldout=100 report=false"
    assert "2 studies" in run(copy, f"python train.py {words} tracking=none sampling.step=1e-3")


def test_links_and_pictures_are_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
