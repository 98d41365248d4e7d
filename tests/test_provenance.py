"""A record's key covers the code that a study takes, as a running study shows it; and the commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

import srste
from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from srste.store import provenance
from tests.support import CONF, EXAMPLES, ROOT, choices, train

SMALL = ["batches=1", "batch_size=20", "heldout=20", "data.features=4", "tracking=none"]
LAYERS = ["model.width=4", "model.depth=2"]
WITH = {  # what a choice needs to be small
    ("model", "conv"): ["model.height=2", "model.channels=2"],
    ("model", "batch_norm"): LAYERS,
    ("model", "binary_weights"): LAYERS,
    ("model", "mlp"): LAYERS,
    ("model", "quantised"): LAYERS,
    ("model", "residual"): LAYERS,
    ("data", "arrays"): [EXAMPLES],
    ("loss", "cross_entropy"): ["model.out_features=2"],
    ("pretraining", "adam"): ["pretraining.steps=2", "pretraining.batch_size=10"],
    ("sampling", "grid"): ["sampling.step=0.1"],
}
GROUPS = ("estimator", "sampling", "loss", "model", "data", "pretraining")


def modules_of(estimator):
    """Where an estimator's class and those of its parts are."""
    node = yaml.safe_load((CONF / "estimator" / f"{estimator}.yaml").read_text())
    targets = [node["_target_"]]
    made = [default for default in node["defaults"] if isinstance(default, dict)]
    for part, name in (pair for default in made for pair in default.items()):
        file = CONF / "estimator" / part / f"{name}.yaml"
        targets.append(yaml.safe_load(file.read_text()).get("_target_", "") if file.exists() else "")
    return frozenset(target.rpartition(".")[0] for target in targets)


def of_every_choice():
    """Overrides of as few jobs as have every choice of every group in one of them; of estimators those
    whose classes are in other modules."""
    there = {group: choices(group) for group in GROUPS}
    there["estimator"] = sorted({modules_of(name): name for name in there["estimator"]}.values())
    for number in range(max(map(len, there.values()))):
        overrides = list(SMALL)
        for group, names in there.items():
            # Beyond the others' choices, models for which every estimator is.
            last = "mlp" if group == "model" else names[-1]
            name = names[number] if number < len(names) else last
            few = ["sampling.n_trials=3"] if group == "sampling" else []
            overrides += [f"{group}={name}", *WITH.get((group, name), few)]
        yield overrides


def job_of(overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Job(job_values(compose("config", overrides)))


def identity_of(job):
    """Of the job's own study; what it is set beside is in it too."""
    return list(job.identities())[-1]


def code_run(job, folder, *places, **environment):
    """{module whose code a run of the job takes: those that call it}, told by a process that had none of
    them."""
    arguments = [json.dumps(job.config), str(folder), *map(str, places)]
    done = train(folder, *arguments, script=ROOT / "tests" / "walked.py", **environment)
    assert done.returncode == 0, done.stderr
    called = json.loads(done.stdout.splitlines()[-1])
    return {module: set(callers) - {module} for module, callers in called.items()}


def in_places(modules, places):
    return {m for m in modules if any(f"{m}.".startswith(f"{place}.") for place in places)}


def missed(run, changeless):
    """Of the modules that were run and can change with the key remaining, those that something else was
    built on than what is left out by its place, and what serves only that."""
    left_out = in_places(run, provenance.NOT_HASHED)
    return {m for m in changeless - left_out if not run[m] <= changeless}


@contextmanager
def afresh(monkeypatch):
    """While it lasts, digests are made of what functions of `provenance` give now."""
    provenance._digest_of.cache_clear()
    with monkeypatch.context() as patch:
        yield patch
    provenance._digest_of.cache_clear()


def without_effect(monkeypatch, identity, modules):
    """Those of the modules whose source can change and the key remains."""
    before, source_of = provenance.key_of(identity), provenance.source_of
    same = set()
    for changed in modules:

        def with_a_comment(module, changed=changed):
            return source_of(module) + (b"# a comment" if module == changed else b"")

        with afresh(monkeypatch) as patch:
            patch.setattr(provenance, "source_of", with_a_comment)
            if provenance.key_of(identity) == before:
                same.add(changed)
    return same


def test_no_more_is_left_out_than_was_thought_about():
    # What is left out no other test would miss: another place is to be thought about twice.
    assert set(provenance.NOT_HASHED) == {"srste.launch.progress"}


@pytest.mark.parametrize("overrides", list(of_every_choice()), ids=lambda o: " ".join(o[len(SMALL) :]))
def test_the_key_covers_all_code_that_a_study_takes(monkeypatch, tmp_path, overrides):
    job = job_of(overrides)
    identity = identity_of(job)
    run = code_run(job, tmp_path, ROOT / "srste")
    changeless = without_effect(monkeypatch, identity, run)
    assert not missed(run, changeless)
    for place in provenance.NOT_HASHED:
        assert in_places(run, [place]), "nothing is left out that a study does not take"
    assert in_places(run, provenance.NOT_HASHED) <= changeless

    # The same test, were any one of them not in the digest.
    code_modules = provenance.code_modules
    for struck in run.keys() - changeless:
        with afresh(monkeypatch) as patch:
            patch.setattr(provenance, "code_modules", lambda t, s=struck: code_modules(t) - {s})
            now = changeless | without_effect(monkeypatch, identity, [struck])
            assert missed(run, now) == {struck}


def test_the_key_covers_a_user_s_package(monkeypatch, tmp_path):
    package = tmp_path / "mine_walked"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner.est import Outer\n")
    (package / "core.py").write_text(
        "from srste.networks.models.sizes import check_sizes\nSCALE = 2.0\n"
    )
    (package / "unused.py").write_text("SCALE = 2.0\n")
    (package / "inner" / "est.py").write_text(
        "from srste.estimators.controls.random import Random\n"
        "class Outer:\n"
        "    class Inner(Random):\n"
        "        def direction(self, problem, batch, samples):\n"
        "            from .. import core\n"
        "            found = super().direction(problem, batch, samples)\n"
        "            return {name: core.SCALE * g for name, g in found.items()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    target = "estimator._target_=mine_walked.Outer.Inner"
    job = job_of(["estimator=random", target, "sampling.step=0.1", *LAYERS, *SMALL])
    run = code_run(job, tmp_path, ROOT / "srste", package, PYTHONPATH=str(tmp_path))
    mine = {f"mine_walked{name}" for name in ("", ".core", ".inner.est")}
    assert {m for m in run if not m.startswith("srste")} == mine
    assert {"srste.networks.models.sizes", "srste.estimators.controls.random"} <= run.keys()
    changeless = without_effect(monkeypatch, identity_of(job), run.keys() | {"mine_walked.unused"})
    assert "mine_walked.unused" in changeless
    assert not missed(run, changeless - {"mine_walked.unused"})


def test_what_launches_tracks_and_reports_is_not_in_the_key(monkeypatch):
    folder = ROOT / "srste"
    of_launches = ("launch", "hydra_job", "preflight", "results", "progress", "composer")
    names = [f"srste.launch.{name}" for name in of_launches]
    for place in ("commands", "report", "tracking", "launch/cluster", "analysis", "note2021"):
        paths = [path.relative_to(ROOT).with_suffix("") for path in (folder / place).rglob("*.py")]
        names += [".".join(path.parts).removesuffix(".__init__") for path in paths]
    assert len(names) > 30
    identity = identity_of(job_of([]))
    assert without_effect(monkeypatch, identity, names) == set(names)


def test_the_key_does_not_cover_parts_that_a_study_does_not_name(monkeypatch):
    identity = identity_of(job_of([]))
    others = {
        "srste.sampling.searched",
        "srste.estimators.controls.tilted",
        "srste.networks.models.conv",
    }
    assert without_effect(monkeypatch, identity, others | {"srste.estimators.base"}) == others


def test_targets_within_lists_and_those_that_hydra_looks_up_count():
    named = {"a": [{"_target_": "x.A", "b": {"_target_": "x.B"}}], "c": {"_target_": "x.C"}}
    looked_up = {"_target_": "hydra.utils.get_method", "path": "x.D"}
    identity = named | {"d": looked_up, "e": {"_target_": "x.E", "path": "not.this"}}
    wanted = {"x.A", "x.B", "x.C", "x.D", "x.E", "hydra.utils.get_method"}
    assert set(provenance._targets(identity)) == wanted


class TestVersions:
    def test_those_of_packages_that_compute_are_in_the_key_and_no_others(self, monkeypatch):
        identity = {"seed": 1}
        key = provenance.key_of(identity)
        there = provenance.versions()
        for name in there:
            monkeypatch.setattr(provenance, "versions", lambda n=name: there | {n: "0.0.1"})
            assert (provenance.key_of(identity) != key) == (name in provenance.ARITHMETIC), name

    def test_each_is_that_of_its_package(self):
        there = provenance.versions()
        assert there["torch"] == torch.__version__
        assert there["numpy"] == np.__version__
        assert there["python"] == ".".join(map(str, sys.version_info[:3]))
        assert there["srste"] == srste.__version__
        assert there.keys() == {"srste", "python", *provenance.PACKAGES}


def test_the_key_is_of_the_configuration_in_any_order():
    key = provenance.key_of({"seed": 1, "loss": {"a": 1, "b": 2}})
    assert len(key) == 64
    assert provenance.key_of({"loss": {"b": 2, "a": 1}, "seed": 1}) == key
    assert provenance.key_of({"seed": 2, "loss": {"a": 1, "b": 2}}) != key


class TestCommit:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        monkeypatch.delenv("SUDO_UID", raising=False)
        package = tmp_path / "checkout" / "srste"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package.parent / "environment").mkdir()
        (package.parent / "environment" / "readme").write_text("")
        self.git(package, "init", "--quiet", "..")
        self.git(package, "add", "..")
        self.git(package, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
        return package

    def git(self, folder, *arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def test_of_this_code(self):
        try:
            head = self.git(ROOT, "-c", "safe.directory=*", "rev-parse", "HEAD")
        except subprocess.CalledProcessError:
            head = "unknown"
        assert provenance.git_commit().removesuffix("+changes") == head

    def test_the_head_and_whether_there_are_changes(self, package):
        head = self.git(package, "rev-parse", "HEAD")
        assert len(head) == 40
        assert provenance._commit_of(package) == head
        (package / "new.py").write_text("")
        assert provenance._commit_of(package) == head
        (package / "__init__.py").write_text("changed")
        assert provenance._commit_of(package) == f"{head}+changes"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
    def test_of_another_user_s_checkout(self, package):
        head = self.git(package, "rev-parse", "HEAD")
        checkout = package.parent
        for path in (checkout, *checkout.rglob("*")):
            os.chown(path, 65534, 65534)
        refused = subprocess.run(
            ["git", "-C", checkout, "status"], check=False, capture_output=True, text=True
        )
        assert "dubious ownership" in refused.stderr
        assert provenance._commit_of(package) == head
        # One that only contains the code is not the one that was trusted.
        below = checkout / "environment" / "srste"
        below.mkdir(parents=True)
        (below / "__init__.py").write_text("")
        assert provenance._commit_of(below) == "unknown"

    def test_no_commit_of_somebody_else_s_repository(self, package, tmp_path, monkeypatch):
        installed = package.parent / "environment" / "srste"
        installed.mkdir(parents=True)
        (installed / "__init__.py").write_text("")
        assert provenance._commit_of(installed) == "unknown"
        outside = tmp_path / "outside" / "srste"
        outside.mkdir(parents=True)
        assert provenance._commit_of(outside) == "unknown"
        # As in a hook of git, which tells every git that it starts where its own repository is.
        monkeypatch.setenv("GIT_DIR", str(package.parent / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(package.parent))
        assert provenance._commit_of(outside) == "unknown"

    def test_nothing_is_written_or_started(self, package):
        ran = package.parent / "ran"
        self.git(package, "config", "core.fsmonitor", f"touch {ran}; false")
        os.utime(package / "__init__.py", (1, 1))  # a status that may would note that in the index
        index = package.parent / ".git" / "index"
        before = index.read_bytes()
        provenance._commit_of(package)
        assert index.read_bytes() == before
        assert not ran.exists()
