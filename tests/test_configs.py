"""Every YAML under conf/ composes, builds and runs a study; experiments open with their command."""

from __future__ import annotations

import re
from itertools import takewhile

import pytest
from hydra import compose, initialize_config_dir

from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from srste.study.study import run_study
from tests.support import CONF, EXAMPLES, ROOT, choices, of_its_kind, train

SMALL = ["data.features=4", "batch_size=20"]
MLP = ["model.width=4", "model.depth=2"]
OWN = {  # what a choice needs, or in place of an MLP's sizes has
    "model/conv": ["model.height=2", "model.channels=2"],
    "data/arrays": [*MLP, "heldout=5", EXAMPLES],
    "loss/cross_entropy": [*MLP, "model.out_features=2"],
    "pretraining/adam": [*MLP, "pretraining.steps=2", "pretraining.batch_size=10"],
}
FEW = {"grid": ["sampling.step=0.1"]}
CHOICES = [
    str(path.relative_to(CONF).with_suffix(""))
    for path in sorted(CONF.rglob("*.yaml"))
    if path.name != "config.yaml" and "hydra" not in path.parts
]


@pytest.mark.parametrize("choice", CHOICES)
def test_composes_builds_and_runs(choice):
    group, _, name = choice.rpartition("/")
    overrides = [*of_its_kind(group, name), *SMALL, *OWN.get(choice, MLP)]
    overrides += FEW.get(name, ["sampling.n_trials=3"]) if group == "sampling" else ["sampling.step=0.1"]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = Job(job_values(compose("config", overrides)))
    if group not in ("experiment", ""):
        node = job.config
        for key in group.split("/"):
            node = node[key]
        assert node.get("name", name) == name, "the name is the file's"
    problem = job.problem()
    losses = job.pretraining.train(problem, lambda _: None)
    assert len(losses) == job.pretraining.steps
    study = run_study(problem, problem.batch(1), job.estimator, 1, job.sampling, "s")
    assert study.best is not None
    not_exact = choice in ("model/batch_norm", "model/binary_weights")
    assert (study.certificate is None) == bool(study.not_exact) == not_exact


@pytest.mark.parametrize("name", choices("experiment"))
def test_an_experiment_opens_with_the_command_that_runs_it(name):
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert re.match(rf"# python train\.py -m experiment={name}\b", lines[1])


def test_help_shows_every_group():
    done = train(ROOT, "--help")
    assert done.returncode == 0
    groups = "model", "data", "loss", "estimator", "pretraining", "sampling", "diagnostics", "experiment"
    for group in groups:
        lines = done.stdout.split(f"\n{group}\n")[1].splitlines()
        shown = dict(line.split(maxsplit=1) for line in takewhile(lambda line: line[:2] == "  ", lines))
        assert sorted(shown) == choices(group)
        assert all(len(words) > 5 for words in shown.values()), "each says what it is"
    assert "samples      Monte-Carlo samples" in done.stdout
    assert "Powered by Hydra" not in done.stdout


def test_cfg_job_shows_the_composed_configuration():
    done = train(ROOT, "--cfg", "job", "samples=7")
    assert done.returncode == 0
    assert re.search(r"^samples: 7$", done.stdout, re.M)
    assert re.search(r"^  name: sr_ste$", done.stdout, re.M)
