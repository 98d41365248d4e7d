"""Bad input: refused before any work, in one line, with exit code 2, naming key, value and what is
allowed."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hydra import compose, initialize_config_dir

from srste import preflight, provenance
from srste.config import Job
from srste.ellipsis import expand
from srste.launch import launch
from tests.support import CONF, ROOT

LOCAL = "-m hydra/launcher=local_parallel"
SLURM = "-m hydra/launcher=slurm"


def never_run():
    raise AssertionError("work was begun")


def refused(monkeypatch, tmp_path, capsys, *arguments):
    """The line on standard error."""
    monkeypatch.chdir(tmp_path)
    assert launch(never_run, list(arguments), CONF) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("train.py: ")
    assert captured.out == ""
    assert not list(tmp_path.rglob("record.json"))
    return captured.err.removeprefix("train.py: ").strip()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("samples=0", "samples=0: must be a whole number >= 1"),
        ("samples=-1", "samples=-1: must be a whole number >= 1"),
        ("samples=1.5", "samples=1.5: must be a whole number >= 1"),
        ("samples=abc", "samples=abc: must be a whole number >= 1"),
        ("samples=true", "samples=True: must be a whole number >= 1"),
        ("samples=null", "samples=null: must be a whole number >= 1"),
        ("samples=[1,2]", "samples=[1, 2]: must be a whole number >= 1"),
        ("-m samples=1,2,0", "samples=0: must be a whole number >= 1"),
        ("-m samples=1,2,...,10.5", "do not end on 10.5"),
        ("samples=1,2,...,10", "samples=1,2,3,4,5,6,7,8,9,10: several values need -m"),
        ("sampels=3", "sampels=3: no such key; did you mean samples?"),
        ("model.widht=3", "model.widht=3: no such key; did you mean model.width?"),
        (
            "sampling.n_trials=3",
            "no such key; known here: sampling.name, sampling.lr_max, sampling.step",
        ),
        ("estimator.surrogate=tanh", "a choice is made with a slash, estimator/surrogate=tanh"),
        ("estimator.surogate=tanh", "no such key; did you mean estimator/surrogate?"),
        ("modle.width=3", "modle.width=3: no such key; did you mean model?"),
        ("-m samples=1,2,...10", "`...` stands between numbers"),
        (
            "-m pretraining=adam,none pretraining.steps=20",
            "no such key with pretraining=none; known here",
        ),
        (
            "-m estimator=ste estimator.quantiser.scope=unit",
            "known here: none, estimator.quantiser takes",
        ),
        ("pretraining.steps=3 pretraining.lr=1", "pretraining.steps=3: no such key; known here: pretra"),
        ("+sampels=3", "sampels: no such key; known are batch_size"),
        ("+model.colour=3", "model: MLP.__init__() got an unexpected keyword argument 'colour'"),
        ("estimator=sr_st", "estimator=sr_st: did you mean sr_ste? must be one of negative_ste, "),
        ("-m estimator=ste,sr_st", "estimator=sr_st: did you mean sr_ste?"),
        ("estimater=ste", "estimater=ste: no such key; did you mean estimator?"),
        ("estimator/surrogate=clip", "did you mean clipped? must be one of approx_sign, clipped"),
        ("experiment=note_rwa", "did you mean note_raw? must be one of"),
        ("pretraining=sgd", "pretraining=sgd: must be one of adam, none"),
        ("model=null", "model=null: "),
        ("sampling.lr_max=0", "sampling.lr_max=0: must be a number > 0"),
        ("sampling.lr_max=-0.5", "sampling.lr_max=-0.5: must be a number > 0"),
        ("sampling.lr_max=1e-6", "sampling.step=1e-05: must be at most lr_max=1e-06"),
        ("sampling.step=0.6", "sampling.step=0.6: must be at most lr_max=0.5"),
        ("sampling.step=0", "sampling.step=0: must be a number > 0"),
        ("sampling.step=1e-8", "sampling.step=1e-08: gives 50,000,000 points, more than 10,000,000"),
        ("sampling=tpe sampling.n_trials=0", "sampling.n_trials=0: must be a whole number >= 1"),
        ("sampling=tpe sampling.lr_min=0.5", "sampling.lr_min=0.5: must be > 0 and below lr_max=0.5"),
        ("batch_size=0", "batch_size=0: must be a whole number >= 1"),
        ("batches=0", "batches=0: must be a whole number >= 1"),
        ("model.width=0", "model.width=0: must be a whole number >= 1"),
        ("model.bias=maybe", "model.bias=maybe: must be true or false"),
        ("device=cuda:99", "device=cuda:99: must be a device of this machine: cpu"),
        ("device=tpu", "device=tpu: must be a device of this machine: cpu"),
        ("seed=-1", "seed=-1: must be a whole number >= 0"),
        ("-m seed=0,-1", "seed=-1: must be a whole number >= 0"),
        ("estimator.quantiser.tau=0", "estimator.quantiser.tau=0: must be > 0"),
        ("estimator.quantiser.scope=all", "estimator.quantiser.scope=all: must be one of layer, exam"),
        ("estimator.surrogate.c=-1", "estimator.surrogate.c=-1: must be > 0"),
        ("estimator.draws=some", "estimator.draws=some: must be one of nested, independent"),
        ("pretraining=adam pretraining.lr=0", "pretraining.lr=0: must be a number > 0"),
        ("data.activation=tanh", "data.activation=tanh: must be one of sign, relu, identity"),
        ("resume=maybe", "resume=maybe: must be true or false"),
        ("tracking.experiment=", "tracking.experiment=: must be a text, not empty"),
        ("hydra.run.dir=/dev/null/x", "hydra.run.dir=/dev/null/x: must be a folder that can be writt"),
        ("-m hydra.sweep.dir=/proc/x", "hydra.sweep.dir=/proc/x: must be a folder that can be writt"),
        ("cache=/dev/null/x", "cache=/dev/null/x: must be a folder that can be written"),
        ("tracking.uri=http://127.0.0.1:9", "tracking.uri=http://127.0.0.1:9: no answer ("),
        ("tracking.uri=sqlite:////proc/x.db", "tracking.uri=sqlite:////proc/x.db: no answer ("),
        ("tracking.uri=sqlite:////nowhere/x.db", "tracking.uri=sqlite:////nowhere/x.db: no answer ("),
        ("tracking.uri=5", "tracking.uri=5: must be a text"),
        ("-m tracking.experiment=a,b", "tracking: cannot be swept; one launch has one store"),
        ("model.in_features=5", "the configuration does not run: mat1 and mat2 shapes cannot be multi"),
        (
            "sampling=tpe +sampling.sampler.n_startup_trial=3",
            "n_startup_trial=3) has incorrect argum",
        ),
        ("+estimator.normalisation.eps=1", "does not run: per_tensor() got an unexpected keyword"),
        ("estimator.quantiser=null", "made with a slash, estimator/quantiser=null"),
        ("estimator.surrogate.c=abc", "estimator.surrogate.c=abc: must be > 0"),
        ("samples=${nope}", "samples: Interpolation key 'nope' not found"),
        ("--config-dir /nowhere", "--config-dir=/nowhere: must be a folder"),
        ("--config-name nope", "--config-name=nope: no such file in conf"),
        ("sampling=tpe sampling.log=maybe", "sampling.log=maybe: must be true or false"),
        ("estimator.name=", "estimator.name=: must be a text, not empty"),
        ("-m samples=1,2 hydra.sweep.subdir=x", "hydra.sweep.subdir=x: must differ from job to job"),
        ("tracking.uri=foo://x", "tracking.uri=foo://x: no answer ("),
        ("tracking.granularity=null", "tracking.granularity=null: must be one of study, job"),
        ("tracking.granularity=trial", "tracking.granularity=trial: must be one of study, job"),
        ("hydra/launcher=local_parallel", "hydra/launcher=local_parallel: needs -m"),
        (f"{LOCAL} hydra.launcher.workers=0", "hydra.launcher.workers=0: must be a whole number >= 1"),
        (f"{LOCAL} hydra.launcher.workers=${{oc.env:NO}}", "variable 'NO' not found"),
        (f"{LOCAL} hydra.launcher.worker=2", "no such key; did you mean hydra.launcher.workers?"),
        (f"{SLURM} hydra.launcher.time=1h", "hydra.launcher.time=1h: must be a whole number >= 1"),
        (f"{SLURM} hydra.launcher.memory=2X", "memory=2X: must be a number with K, M, G or T"),
        (f"{SLURM} hydra.launcher.setup=x", "hydra.launcher.setup=x: must be a list"),
        (f"{SLURM} hydra.launcher.sbatch=['--array=1-3']", "must be an option of sbatch, as --qos=long"),
        (f"{SLURM} hydra.launcher.sbatch=['-p']", "must be an option of sbatch, as --qos=long"),
        (f"{SLURM} device=cuda", "hydra.launcher.gpus=0: must be at least 1 for device=cuda"),
        ("samples", "samples: not an override, which is written key=value"),
        ("=3", "=3: not an override"),
        ("~samples", "~samples: not an override"),
    ],
)
def test_refused_in_one_line(monkeypatch, tmp_path, capsys, typed, says):
    line = refused(monkeypatch, tmp_path, capsys, *typed.split(" "))
    assert says in line


def test_a_device_without_one(monkeypatch, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    line = refused(monkeypatch, tmp_path, capsys, "device=cuda")
    assert line == "device=cuda: must be a device of this machine: cpu"


def test_a_server_that_never_answers_is_given_up_within_ten_seconds(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        held = []

        def accept():
            while True:
                held.append(silent.accept())  # and never a word

        threading.Thread(target=accept, daemon=True).start()
        started = time.monotonic()
        line = refused(monkeypatch, tmp_path, capsys, f"tracking.uri='{uri}'")
        assert time.monotonic() - started < 10 + 5  # the imports may come on top
    assert "no answer (" in line
    assert "what was recorded before is kept in outputs/" in line
    assert "secret" not in line


def plan(monkeypatch, tmp_path, *arguments):
    monkeypatch.chdir(tmp_path)
    found = preflight.check(list(arguments), CONF)
    assert found is not None
    return found


def test_the_jobs_of_a_sweep_are_hydra_s(monkeypatch, tmp_path):
    found = plan(
        monkeypatch, tmp_path, "-m", "estimator=sr_ste", "samples=2,4,...,6", "pretraining=none,adam"
    )
    jobs = [(j.samples, j.config["pretraining"]["name"]) for j in found.jobs]
    assert jobs == [(n, p) for n in (2, 4, 6) for p in ("none", "adam")]
    typed = ["--multirun", "estimator=sr_ste", "samples=2,4,6", "pretraining=none,adam"]
    assert found.argv[:4] == typed
    assert found.argv[4] == f"hydra.sweep.dir='{found.root.resolve()}'"
    assert len(found.contents.keys) == 2 * (3 + 1) * 10
    assert found.root.parts[0] == "multirun"


def test_an_experiment_brings_its_own_sweep(monkeypatch, tmp_path):
    found = plan(monkeypatch, tmp_path, "-m", "experiment=note_pretrained", "seed=0,1")
    assert len(found.jobs) == 20
    assert {j.config["estimator"]["draws"] for j in found.jobs} == {"independent"}
    assert {j.config["pretraining"]["name"] for j in found.jobs} == {"adam"}
    overridden = plan(monkeypatch, tmp_path, "-m", "experiment=note_raw", "samples=3")
    assert [j.samples for j in overridden.jobs] == [3]


def test_a_key_that_only_the_swept_choices_have(monkeypatch, tmp_path):
    found = plan(monkeypatch, tmp_path, "-m", "sampling=qmc,random", "sampling.n_trials=3")
    assert [j.config["sampling"]["n_trials"] for j in found.jobs] == [3, 3]
    # Hydra composes the sweep with the default choice, which has no such key.
    assert found.argv[:3] == ["--multirun", "sampling=qmc,random", "++sampling.n_trials=3"]


def test_ste_is_one_job_s_work_however_many_sample_counts(monkeypatch, tmp_path):
    found = plan(monkeypatch, tmp_path, "-m", "estimator=ste", "samples=1,2,...,10")
    assert len(found.jobs) == 10
    assert len(found.contents.keys) == 10
    assert found.that_ignore_samples == ["ste"]
    assert plan(monkeypatch, tmp_path, "estimator=ste").that_ignore_samples == []


class TestFolderName:
    def name(self, *typed):
        return preflight.folder_name([expand(t) for t in typed])

    def test_readable_and_the_same_for_the_same_result(self):
        name = self.name("estimator=sr_ste", "samples=1,2,...,10")
        assert name.startswith("estimator=sr_ste_samples=1,2,...,10_")
        for same in (
            ("samples=1,2,...,10", "estimator=sr_ste"),
            ("estimator=sr_ste", "samples=1,2,3,4,5,6,7,8,9,10"),
            ("estimator=sr_ste", "samples=1,2,...,10", "tracking=none", "resume=false"),
            ("estimator=sr_ste", "samples=1,2,...,10", "hydra.verbose=true", "cache=/tmp/x"),
        ):
            assert self.name(*same) == name

    def test_another_one_for_another_result(self):
        names = {self.name(*t)[-8:] for t in ((), ("samples=1",), ("samples=2",), ("seed=1",))}
        assert len(names) == 4

    def test_never_a_path(self):
        assert "/" not in self.name("data.x=../../etc/passwd")


def test_the_key_covers_what_determines_the_result_and_nothing_else():
    def key(*overrides):
        preflight.register_resolvers()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            job = Job(compose("config", list(overrides)))
        identity = job.study_identity(1, job.config["estimator"], job.estimator.stochastic)
        return preflight.key_of(identity)

    same = key()
    for irrelevant in ("batches=3", "tracking=none", "cache=x", "resume=false", "tracking.uri=x"):
        assert key(irrelevant) == same, irrelevant
    relevant = [
        "samples=2",
        "seed=1",
        "batch_size=7",
        "model.width=8",
        "model.bias=true",
        "data=relu_teacher",
        "pretraining=adam",
        "sampling=tpe",
        "sampling.step=1e-4",
        "estimator=ste",
        "estimator.draws=independent",
        "estimator/surrogate=tanh",
        "estimator/normalisation=row",
    ]
    assert len({key(r) for r in relevant} | {same}) == len(relevant) + 1
    assert key("estimator=ste", "samples=5") == key("estimator=ste")


def test_the_key_covers_the_code_that_a_study_uses_and_no_other(monkeypatch):
    changed = ""

    def with_a_comment(module):
        return original(module) + (b"# a comment" if module == changed else b"")

    original = provenance._source_of
    monkeypatch.setattr(provenance, "_source_of", with_a_comment)
    monkeypatch.setattr(provenance, "_digest_of", provenance._digest_of.__wrapped__)
    identity = {
        "estimator": {"_target_": "srste.estimators.straight_through.StraightThrough"},
        "sampling": {"_target_": "srste.sampling.grid.Grid"},
    }
    before = provenance.key_of(identity)
    curve = ROOT / "srste" / "curve"
    of_curve = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in curve.rglob("*.py")]
    of_curve = [name.removesuffix(".__init__") for name in of_curve]
    for changed in (*of_curve, "srste.sampling.storage", "srste.sampling.grid"):
        assert provenance.key_of(identity) != before, changed
    for changed in (
        "srste.sampling.searched",
        "srste.models.mlp",
        "srste.tracking.store",
        "srste.report.table",
    ):
        assert provenance.key_of(identity) == before, changed
