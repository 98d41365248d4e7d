"""Folders of any name are worked in, or refused in one line; `train.py` may be a link or a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from srste.errors import UserError
from srste.launch.folders import check_path
from srste.launch.overrides import quoted
from tests.support import CONF, ROOT, checked_plan, studies, train

TINY = ["batches=1", "sampling.step=0.1", "heldout=0", "batch_size=8", "tracking=none", "report=false"]
NAMES = [
    "a b", "a,b=c",
    "it's \"q\"", "q?#[x]{y}", "%41*;$HOME", "back\\", "new\nline", "é", "~", "$x", "a'\\",
    "!@&|<>`", " ",
]  # fmt: skip


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=8)
)
def test_a_quoted_path_is_that_path(name):
    path = f"/tmp/{name}"
    override = OverridesParser.create().parse_override(f"hydra.run.dir={quoted(path)}")
    assert override.value() == path
    try:
        check_path("x", Path(path))
    except UserError:
        assert "${" in path
    else:
        assert OmegaConf.create({"dir": override.value()}).dir == path


@pytest.mark.parametrize("name", NAMES)
def test_a_launch_in_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    done = train(folder, *TINY, "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    assert len(studies(folder / "out")) == 2
    written = OmegaConf.load(folder / "out" / ".hydra" / "hydra.yaml")
    assert written.hydra.run.dir == str(folder / "out")


@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=local_parallel", "hydra.launcher.jobs_per_task=2"]]
)
def test_a_sweep_in_a_folder_of_an_odd_name(tmp_path, launcher):
    folder = tmp_path / "".join(name for name in NAMES if name != "~")
    folder.mkdir()
    done = train(folder, "-m", "samples=1,2", *TINY, *launcher, f"hydra.sweep.dir={quoted('o u,t')}")
    assert done.returncode == 0, done.stderr
    assert len(studies(folder / "o u,t")) == 3
    assert [path.name for path in folder.iterdir() if path.name != ".srste"] == ["o u,t"]


@pytest.mark.parametrize("name", ["${x}", "x${", "\\${oc.env:HOME}"])
def test_a_folder_that_hydra_cannot_bear(monkeypatch, tmp_path, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="the working folder: the path must not hold"):
        checked_plan(TINY, CONF)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODD", name)
    with pytest.raises(UserError, match="must not hold"):
        checked_plan([*TINY, "hydra.run.dir=${oc.env:ODD}"], CONF)


@pytest.mark.parametrize("how", [Path.symlink_to, lambda to, source: shutil.copy(source, to)])
def test_train_py_elsewhere(tmp_path, how):
    (tmp_path / "bin").mkdir()
    how(tmp_path / "bin" / "go.py", ROOT / "train.py")
    (tmp_path / "work").mkdir()
    arguments = [*TINY, "hydra.run.dir=o/${hydra.job.name}"]
    done = train(tmp_path / "work", *arguments, script=tmp_path / "bin" / "go.py")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "o" / "go" / "go.log").exists()
