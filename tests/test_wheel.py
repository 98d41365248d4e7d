"""The package as it is installed: built, in an environment of its own, and run outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support import CONF, ROOT, SMALL, studies

OF_THE_BUILD = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "srste",
                "hydra_plugins", "conf")  # fmt: skip

ESTIMATOR = """
from srste.estimators.controls.random import Random

class Reversed(Random):
    def direction(self, task, batch, samples):
        return {name: -g for name, g in super().direction(task, batch, samples).items()}
"""
CHOICE = """
name: reversed
_target_: of_mine.reversed.Reversed
normalisation:
  _target_: srste.estimators.base.per_tensor
  _partial_: true
"""


def done(command, cwd):
    """Its output; no variable leads it to the checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
        env=environment | {"COLUMNS": "200"},
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The bin folder of an environment with the wheel; what it needs is that of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in OF_THE_BUILD:  # a copy: a build leaves files where it builds
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    done([sys.executable, "-m", "venv", "--without-pip", environment], folder)
    python = environment / "bin" / "python"
    done([*pip, "--python", python, "install", "--no-deps", wheel], folder)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def test_it_has_all_configurations(installed):
    (package,) = installed.parent.glob("lib/python*/site-packages/srste")
    there = {p.relative_to(package / "conf") for p in package.glob("conf/**/*.yaml")}
    assert there == {p.relative_to(CONF) for p in CONF.rglob("*.yaml")}


def test_the_main_job_the_report_and_python(installed, tmp_path):
    out = done([installed / "srste", "run", "-m", "estimator=sr_ste", "samples=1,2", *SMALL], tmp_path)
    assert "6 studies, " in out
    assert len(studies(tmp_path / "multirun")) == 6
    assert (tmp_path / "mlflow.db").exists()
    assert "Report: " in done([installed / "srste", "report", "multirun"], tmp_path)
    code = "import srste; print(srste.__file__, srste.load('multirun'))"
    file, shown = done([installed / "python", "-c", code], tmp_path).split(" ", 1)
    assert Path(file).is_relative_to(installed.parent)
    assert shown == "<6 studies of sr_ste, ste>\n"


def test_an_estimator_of_one_s_own_package(installed, tmp_path):
    (tmp_path / "of_mine").mkdir()
    (tmp_path / "of_mine" / "reversed.py").write_text(ESTIMATOR)
    (tmp_path / "choices" / "estimator").mkdir(parents=True)
    (tmp_path / "choices" / "estimator" / "reversed.yaml").write_text(CHOICE)
    command = [installed / "srste", "run", "--config-dir=choices", "estimator=reversed"]
    done([*command, "tracking=none", *SMALL], tmp_path)
    assert [name.partition(" ")[0] for name in studies(tmp_path / "outputs")] == ["reversed"] * 2


def test_errors_are_in_its_name(installed, tmp_path):
    command = [installed / "srste", "run", "sampels=1"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr == "srste run: sampels=1: no such key; did you mean samples?\n"
    assert list(tmp_path.iterdir()) == []
