"""Bad input: refused before any work, in one line, with exit code 2, naming key, value and what is
allowed."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hydra._internal.utils import get_args_parser

from srste.launch.launch import launch
from tests.support import CONF, checked_plan, said

LOCAL = "-m hydra/launcher=local_parallel"
SLURM = "-m hydra/launcher=slurm"


def never_run():
    raise AssertionError("work was begun")


def refused(monkeypatch, tmp_path, capsys, *arguments):
    """The line on standard error."""
    monkeypatch.chdir(tmp_path)
    assert launch(never_run, list(arguments), CONF) == 2
    captured = capsys.readouterr()
    (line,) = said(captured.err)
    assert line.startswith("train.py: ")
    assert captured.out == ""
    assert not list(tmp_path.rglob("record.json"))
    return line.removeprefix("train.py: ").strip()


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
        ("estimator.tau=2", "estimator.tau=2: no such key; did you mean estimator.quantiser.tau?"),
        ("loss=cross_entropy", "two classes or more, as with model.out_features=10, not of shape (1,)"),
        ("samples=1,2...10", "dots stand between commas, as in samples=1,2,...,10"),
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
        ("estimator=sr_st", "estimator=sr_st: did you mean sr_ste? must be one of approx_sign, "),
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
        ("tracking.experiment=", "tracking.experiment=: must be a text in one line, not empty"),
        ("hydra.run.dir=/dev/null/x", "hydra.run.dir=/dev/null/x: must be a folder that can be writt"),
        ("-m hydra.sweep.dir=/proc/x", "hydra.sweep.dir=/proc/x: must be a folder that can be writt"),
        ("cache=/dev/null/x", "cache=/dev/null/x: must be a folder that can be written"),
        (
            "tracking.uri=http://127.0.0.1:9",
            "tracking.uri=http://127.0.0.1:9: no answer (Connection refused); start that server",
        ),
        ("tracking.uri=sqlite:////proc/x.db", "tracking.uri=sqlite:////proc/x.db: cannot be used ("),
        (
            "tracking.uri=sqlite:////nowhere/x.db",
            "x.db: there is no folder /nowhere; `mkdir -p /nowhere`",
        ),
        ("tracking.uri=5", "tracking.uri=5: must be a text"),
        ("-m tracking.experiment=a,b", "tracking: cannot be swept; one launch has one store"),
        ("model.in_features=5", "the configuration does not run: mat1 and mat2 shapes cannot be multi"),
        (
            "sampling=tpe +sampling.sampler.n_startup_trial=3",
            "n_startup_trial=3) has incorrect argum",
        ),
        (
            "estimator=ste estimator/surrogate=reinmax",
            "estimator/quantiser=sign: must be one of logistic, hard_sigmoid, triangular, stochastic_ro",
        ),
        ("estimator=arm estimator/quantiser=sign", "estimator/quantiser=sign: must be one of logistic"),
        ("estimator=cdg estimator.radius=0", "estimator.radius=0: must be > 0"),
        ("estimator=nes estimator.pairs=0", "estimator.pairs=0: must be an integer >= 1"),
        (
            "estimator=ede estimator.surrogate.progress=2",
            "estimator.surrogate.progress=2: must be in [",
        ),
        ("estimator=reinmax estimator.surrogate.tau=.5", "estimator.surrogate.tau=0.5: must be >= 1"),
        (
            "estimator=psa model=residual",
            "estimator=psa, model=residual, loss=squared_error: Residual: its modules must stand in",
        ),
        (
            "estimator=reinforce model=batch_norm",
            "estimator=reinforce, model=batch_norm, loss=squared_error: module 1 (BatchNorm1d) normal",
        ),
        (
            "estimator=gumbel_st estimator/quantiser=hard_sigmoid",
            "estimator=gumbel_st, model=mlp, loss=squared_error: `GumbelST` needs logistic units",
        ),
        ("+estimator.normalisation.eps=1", "does not run: per_tensor() got an unexpected keyword"),
        ("estimator.quantiser=null", "made with a slash, estimator/quantiser=null"),
        ("estimator.surrogate.c=abc", "estimator.surrogate.c=abc: must be > 0"),
        ("samples=${nope}", "samples: Interpolation key 'nope' not found"),
        ("--config-dir /nowhere", "--config-dir=/nowhere: must be a folder"),
        ("--config-name nope", "--config-name=nope: no such file in conf"),
        ("sampling=tpe sampling.log=maybe", "sampling.log=maybe: must be true or false"),
        ("estimator.name=", "estimator.name=: must be a text in one line, not empty"),
        ("estimator.name='a\x1b[31mb'", "estimator.name=a\\x1b[31mb: must be a text in one line"),
        ("-m samples=1,2 hydra.sweep.subdir=x", "hydra.sweep.subdir=x: must differ from job to job"),
        ("tracking.uri=foo://x", "tracking.uri=foo://x: no answer ("),
        ("tracking.granularity=null", "tracking.granularity=null: must be one of auto, study, job"),
        ("tracking.granularity=trial", "tracking.granularity=trial: must be one of auto, study, job"),
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
        ("seed=1 sampels=3", "sampels=3: no such key; did you mean samples?"),
        (
            "seed=1 batches=2 model.widht=3 sampels=3",
            "model.widht=3: no such key; did you mean model.width?",
        ),
        ("seed=1 +samples=3", "+samples=3: samples is there already; write samples=3"),
        ("seed=1 +model=mlp", "+model=mlp: model appears more than once"),
        ("seed=1 ++model=mlp", "++model=mlp: force-add of config groups is not supported"),
        ("seed=1 ++sampels=3", "sampels: no such key; known are batch_size"),
        ("seed=1 ++sampels=3 batches=2", "did you mean samples?"),
        ("-m samples=range(1,3) +samples=4", "+samples=4: samples is there already; write samples=4"),
        ("-m hydra.launcher._target_=nope.X", "hydra.launcher._target_=nope.X: must be a class (Mod"),
        ("+hydra.callbacks.x._target_=nope.X", "hydra.callbacks.x._target_=nope.X: must be a class"),
        ("seed=1 ~sampels", "~sampels: no such key; did you mean samples?"),
        ("seed=1 experiment=note_raw sampels=3", "sampels=3: no such key; did you mean samples?"),
        ("-m seed=1,2 sampels=3", "sampels=3: no such key; did you mean samples?"),
        ("-m seed=1,2 sampels=3,4", "sampels=3: no such key; did you mean samples?"),
        (
            "-m experiment=note_raw,note_pretrained samples=1 sampels=3",
            "sampels=3: no such key; did you mean samples?",
        ),
        (
            "-m sampling=qmc,random sampling.n_trails=3",
            "sampling.n_trails=3: no such key with sampling=qmc",
        ),
        ("seed=1 estimater=ste sampels=3", "estimater=ste: no such key; did you mean estimator?"),
        ("seed=1 estimator/surogate=tanh", "did you mean estimator/surrogate?"),
        (
            "seed=1 estimator.surogat.c=1",
            "estimator.surogat.c=1: no such key; did you mean estimator/surr",
        ),
        ("seed=1 hydra/lancher=slurm", "hydra/lancher=slurm: no such key; did you mean hydra/launcher?"),
        ("seed=1 hydra.job.num=abc", "hydra.job.num=abc: Value 'abc' of type 'str' could not be conv"),
        ("samples=adam pretraining=sgd seed=1", "pretraining=sgd: must be one of adam, none"),
        ("hydra.job.env_copy=[NOT_THERE]", "hydra.job.env_copy: the environment has no variable 'NOT_"),
        ("seed=1 --frobnicate", "unrecognized arguments: --frobnicate; --hydra-help lists the options"),
        ("seed=1 --package", "argument --package/-p: expected one argument"),
        (
            "-m -r seed=1",
            "only one of --run, --multirun, --cfg, --info and --shell-completion can be given",
        ),
        ("-m --cfg job", "only one of --run, --multirun, --cfg"),
        ("--resolve", "--resolve: only together with --cfg or --help"),
        ("seed=1 --experimental-rerun x.pickle", "--experimental-rerun=x.pickle: not taken here"),
        ("seed=1 --config-dir /nowhere", "--config-dir=/nowhere: must be a folder"),
        ("seed=1 --config-path /nowhere", "--config-path=/nowhere: must be a folder"),
        ("sampels=1 --cfg job", "sampels=1: no such key; did you mean samples?"),
        ("sampels=1 --help", "sampels=1: no such key; did you mean samples?"),
        (
            "-m hydra.launcher.workers=1,2",
            "hydra.launcher.workers=1,2: what is Hydra's own cannot be swept",
        ),
        (
            "-m hydra.sweeper.max_batch_size=0",
            "hydra.sweeper.max_batch_size=0: must be a whole number >= 1",
        ),
        ("-m samples=glob(*)", "samples=glob(*): glob selects choices of a group, and samples is none"),
        ("-m pretraining=glob(z*)", "pretraining=glob(z*): selects none of adam, none"),
        ("-m seed=interval(0,3)", "seed=interval(0,3): an interval has no single values"),
        ("-m seed=range(0,10,-1)", "seed=range(0,10,-1): gives no values"),
        ("-m seed=range(0,1e12)", "seed=range(0,1e12): gives more than 100,000 values"),
        (
            "-m seed=range(2000) batches=range(1,2000)",
            "the sweep asks for 3,998,000 jobs, more than 1,000",
        ),
        (
            "-m experiment=note_raw,note_pretrained",
            "experiment=note_raw: sets hydra.sweeper.params, which",
        ),
        (
            "-m experiment=note_raw,replicate samples=1 seed=0 estimator=ste pretraining=none",
            "experiment=replicate: sets hydra.launcher, which has no effect",
        ),
        ("hydra.run.dir=~/x", "hydra.run.dir=~/x: not an override, which is written key=value; quote"),
        ("cache=~/x", "as in \"cache='~/x'\""),
        ("cache='~nobody1/x'", "cache=~nobody1/x: there is no user of that name"),
        ("hydra.run.dir='~nobody1/x'", "hydra.run.dir=~nobody1/x: there is no user of that name"),
        ("cache=[1]", "cache=[1]: must be the name of a folder"),
        (
            "hydra.job_logging.handlers.file.filename=${nope}",
            "filename: Interpolation key 'nope' not found",
        ),
        ("-m hydra.sweep.subdir=a/.b${seed}", "hydra.sweep.subdir=a/.b0: must not be hidden"),
        (f"-m hydra.sweep.subdir={'x' * 300}", "is too long for the name of a folder"),
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
    checked = checked_plan(list(arguments), CONF)
    assert not isinstance(checked, list)
    return checked


def test_the_jobs_of_a_sweep_are_hydra_s(monkeypatch, tmp_path):
    found = plan(
        monkeypatch, tmp_path, "-m", "estimator=sr_ste", "samples=2,4,...,6", "pretraining=none,adam"
    )
    jobs = [(j.samples, j.config["pretraining"]["name"]) for j in found.jobs]
    assert jobs == [(n, p) for n in (2, 4, 6) for p in ("none", "adam")]
    typed = ["--multirun", "estimator=sr_ste", "samples=2,4,6", "pretraining=none,adam"]
    assert found.argv[:4] == typed
    assert found.argv[4:6] == ["hydra.mode=MULTIRUN", f"hydra.sweep.dir='{found.root.resolve()}'"]
    assert len(found.contents.studies) == 2 * (3 + 1) * 10
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


@pytest.mark.parametrize(
    "typed",
    [
        "samples=1,2 -m",
        "-m samples=1,2",
        "samples=1,2 -m seed=3",
        "samples=1,2 --config-dir {more} -m",
        "-m samples=1,2 -cd {more} seed=3 -cn config",
        "samples=1,2 --config-name config --multirun",
        "--multi samples=1,2 -- seed=3",
        "samples=1,2 hydra.mode=MULTIRUN",
        "samples=1,2 -m hydra/sweeper=basic",
    ],
)
def test_options_stand_anywhere(monkeypatch, tmp_path, typed):
    (tmp_path / "more").mkdir()
    checked = plan(monkeypatch, tmp_path, *typed.format(more=tmp_path / "more").split())
    assert [job.samples for job in checked.jobs] == [1, 2]
    assert {job.config["seed"] for job in checked.jobs} == {3 if "seed" in typed else 0}
    # Hydra's own parser takes what is handed on.
    arguments = get_args_parser().parse_args(checked.argv)
    assert arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    assert "samples=1,2" in arguments.overrides


def test_configurations_of_several_folders(monkeypatch, tmp_path):
    for folder, group, name in (("a", "model", "mine"), ("b", "loss", "other")):
        (tmp_path / folder / group).mkdir(parents=True)
        kind = {"model": "mlp", "loss": "squared_error"}[group]
        text = (CONF / group / f"{kind}.yaml").read_text().replace(f"name: {kind}", f"name: {name}")
        (tmp_path / folder / group / f"{name}.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}/b]"
    for more in ([], ["-m"]):
        typed = ["--config-dir", str(tmp_path / "a"), search, "model=mine", "loss=other", *more]
        (job,) = plan(monkeypatch, tmp_path, *typed).jobs
        assert (job.config["model"]["name"], job.config["loss"]["name"]) == ("mine", "other")


def test_an_ellipsis_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      samples: 1,2,...,4\n"
    )
    checked = plan(monkeypatch, tmp_path, "-m", "experiment=mine", "-cd", str(tmp_path / "conf"))
    assert [job.samples for job in checked.jobs] == [1, 2, 3, 4]


def test_a_relative_cache_is_one_for_all_jobs(monkeypatch, tmp_path):
    checked = plan(monkeypatch, tmp_path, "-m", "samples=1,2", "cache=c", "hydra.job.chdir=true")
    assert {job.cache for job in checked.jobs} == {tmp_path / "c"}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    checked = plan(monkeypatch, tmp_path, "cache='~/c'", "hydra.run.dir='~/out'")
    assert checked.jobs[0].cache == tmp_path / "home" / "c"
    assert checked.root == tmp_path / "home" / "out"


def test_ste_is_one_job_s_work_however_many_sample_counts(monkeypatch, tmp_path):
    found = plan(monkeypatch, tmp_path, "-m", "estimator=ste", "samples=1,2,...,10")
    assert len(found.jobs) == 10
    assert len(found.contents.studies) == 10
    assert found.estimators_without_samples == ["ste"]
    assert plan(monkeypatch, tmp_path, "estimator=ste").estimators_without_samples == []
