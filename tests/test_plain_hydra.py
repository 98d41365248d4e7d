"""What a command line means is what Hydra itself makes of it: its own sweeper, loader and launcher are
asked too, on the same configurations without anything of ours."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from srste.errors import UserError
from srste.launch import preflight
from srste.launch.hydra_cache import CachingLoader
from srste.launch.sweep import job_lines
from tests.support import CONF, checked_plan

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # "disabled" would disable all loggers


@pytest.fixture(scope="module")
def plain_conf(tmp_path_factory):
    """Our configurations, with Hydra's own names of folders."""
    folder = tmp_path_factory.mktemp("plain") / "conf"
    shutil.copytree(CONF, folder)
    ours = (folder / "config.yaml").read_text()
    head, _, folders = ours.partition("\nhydra:\n")
    assert "srste_job" in folders
    (folder / "config.yaml").write_text(head + "\n")
    return folder


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_hydra(conf, overrides):
    """[(overrides, resolved configuration)] of each job of a sweep, by Hydra's own code."""
    version.setbase("1.3")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf)))
    master = loader.load_configuration("config", [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    task = OmegaConf.to_container(master.hydra.overrides.task)
    lines = lines_of_hydra(
        loader, [*(f"{k}={v}" for k, v in (master.hydra.sweeper.params or {}).items()), *task]
    )
    jobs = [loader.load_sweep_config(master, line) for line in lines]
    for job in jobs:
        job.pop("hydra") if OmegaConf.set_struct(job, False) is None else None
    return [
        (line, OmegaConf.to_container(job, resolve=True)) for line, job in zip(lines, jobs, strict=True)
    ]


def lines_of_hydra(loader, overrides):
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    (lines,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return lines


def of_ours(*typed):
    plan = checked_plan(["-m", *typed], CONF)
    lines = plan.lines
    assert all(line[-1].startswith("hydra.sweep.subdir=") for line in lines)
    return [(line[:-1], job.config) for line, job in zip(lines, plan.jobs, strict=True)]


@pytest.mark.parametrize(
    "typed",
    [
        "samples=1,2 seed=3",
        "samples=choice(1,2)|seed=choice(3)",
        "seed=range(1,4)",
        "seed=range(4)",
        "seed=range(5,1,-2)",
        "seed=range(start=0,stop=4,step=2)",
        "sampling.step=range(0.1,0.4,0.1)",
        "pretraining=glob(*)",
        "pretraining=glob([a*,n*],exclude=none)",
        "estimator=glob(*ste,exclude=[neg*,tilt*])",
        "estimator/surrogate=glob(c*)",
        "seed=sort(3,1,2)",
        "seed=sort(3,1,2,reverse=true)",
        "seed=sort(range(3,1,-1))",
        "seed=tag(a,b,choice(1,2))",
        "seed=tag(range(1,3))",
        "seed=int(choice(1.7,2.2))",
        "seed=int('3'),4",
        "data.name=str(choice(1,true))",
        "sampling.lr_max=float(1),float(2)",
        "model.bias=bool(choice(0,1))",
        "data.name='a,b','c d',e\\,f|seed=1",
        "data.name='it\\'s',\"q\\\"q\",'back\\\\'",
        "data.name=a\\,b\\ c\\=d",
        "data.name= x , y ",
        "data.name=x\\",
        "data.name='1',\"null\",'true'",
        "data.name='${seed}',${seed}x",
        "data.name=a:b,/c/d,e@f",
        "model={width:8},{width:4,depth:1}",
        "estimator.surrogate={c:2},{c:3}",
        "+estimator/surrogate@data.x=tanh|~data.x",
        "estimator=[ste],[sr_ste]",
        "~estimator/baseline|~estimator.baseline|estimator=sr_ste,tilted_ste",
        "samples=1,2|samples=3",
        "++samples=1,2|++seed=1",
        "experiment=note_raw|pretraining=none,adam",
        "experiment=note_replay|samples=1",
        "experiment=null,note_raw|samples=1,2",
        "hydra.sweeper.max_batch_size=2|samples=1,2,3",
        "samples=1_0,2",
        "sampling.step=1e-1,.2",
        "seed=0x1,2",
        "samples=1,|seed=1",
        "samples=",
        "seed=interval(0,3)",
        "seed=range(0,10,0)",
        "samples=json_str(1)",
        "samples=choice()",
        "samples=range(a,b)",
        "hydra.verbose=true,false",
        "estimator@other=ste,sr_ste",
        "sampels=1,2",
        "samples",
        "",
        "=1",
        "samples=[1,2",
        "seed=shuffle(range(5))",
        "seed=shuffle(1,2,3)|samples=shuffle([1])",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_has_hydra_s_jobs(plain_conf, in_folder, typed):
    overrides = typed.split("|") if "|" in typed or " " not in typed else [typed]
    if typed == "samples=1,2 seed=3":
        overrides = typed.split()
    drawn = "shuffle" in typed
    try:
        expected = of_hydra(plain_conf, [*overrides, *QUIET])
    except Exception:
        with pytest.raises(UserError) as refused:
            of_ours(*overrides, *QUIET)
        assert "\n" not in str(refused.value)
        return
    try:
        jobs = of_ours(*overrides, *QUIET)
    except UserError as error:  # what Hydra composes, and no study can be of
        assert "must be" in str(error) or "unexpected keyword" in str(error), error
        return
    assert (sorted(map(repr, jobs)) == sorted(map(repr, expected))) if drawn else jobs == expected


QUOTABLE = st.text(st.sampled_from("ab1 ,='\"\\(){}[]:$~#%é."), max_size=6)


def in_quotes(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


WORDS = st.sampled_from(
    ["a", "b-c", "1", "-2", "0.5", "1e-3", "true", "null", "a\\,b", "a\\ b", "x/y", "${seed}", "inf"]
)
CASTS = ["int({})", "str({})", "float({})", "bool({})"]
OF_SWEEPS = ["sort({})", "tag(t,{})", "int({})", "str({})", "sort({},reverse=true)", "choice({})"]
ELEMENTS = st.recursive(
    WORDS | QUOTABLE.map(in_quotes) | st.sampled_from(["", "  ", "'", "\\"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda e: f"[{','.join(e)}]")
    | st.dictionaries(st.sampled_from(["k", "l"]), inner, max_size=2).map(
        lambda d: "{" + ",".join(f"{k}:{v}" for k, v in d.items()) + "}"
    )
    | st.tuples(st.sampled_from(CASTS), inner).map(lambda c: c[0].format(c[1])),
    max_leaves=4,
)  # fmt: skip
NUMBERS = st.sampled_from(["0", "1", "4", "-2", "0.5", "2.5"])
SWEEPS = st.recursive(
    st.lists(ELEMENTS, min_size=1, max_size=3).map(",".join)
    | st.lists(ELEMENTS, max_size=3).map(lambda e: f"choice({','.join(e)})")
    | st.lists(NUMBERS, min_size=1, max_size=3).map(lambda n: f"range({','.join(n)})")
    | st.lists(NUMBERS, min_size=2, max_size=2).map(lambda n: f"interval({','.join(n)})")
    | st.sampled_from(["glob(*)", "glob(a*)", "glob([n*,x],exclude=[none])", "glob()"]),
    lambda inner: st.tuples(st.sampled_from(OF_SWEEPS), inner).map(lambda c: c[0].format(c[1])),
    max_leaves=2,
)  # fmt: skip
KEYS = st.sampled_from(
    [
        "samples",
        "pretraining",
        "data.name",
        "+new",
        "++model.width",
        "estimator/surrogate",
        "~cache",
        "estimator@x",
    ]
)
OVERRIDES = st.lists(st.tuples(KEYS, SWEEPS).map("=".join), min_size=1, max_size=3)


@given(OVERRIDES)
@example(["samples=range(0,10,-1)"])
@example(["pretraining=glob(z*)"])
def test_overrides_of_any_build_are_expanded_as_hydra_does(overrides):
    version.setbase("1.3")
    search = create_config_search_path(str(CONF))
    hydra, ours = ConfigLoaderImpl(search), CachingLoader(search)
    master = OmegaConf.create({"hydra": {"sweeper": {"_target_": preflight.CHECKED_SWEEPER}}})
    try:
        expected = lines_of_hydra(hydra, overrides)
    except Exception:
        expected = []
    if not expected:  # refused, or no jobs at all
        with pytest.raises(UserError) as refused:
            job_lines(master, overrides, ours)
        assert "\n" not in str(refused.value)
    else:
        assert job_lines(master, overrides, ours) == expected


def plain_folders(conf, overrides, multirun):
    """Where Hydra itself runs the jobs; None if it does not."""
    ran = []
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("train", create_config_search_path(str(conf)))
    run = hydra.multirun if multirun else hydra.run
    mode = ["hydra.mode=MULTIRUN"] if multirun else []

    def task(_):
        ran.append(Path(HydraConfig.get().runtime.output_dir))

    try:
        run("config", task, [*overrides, *QUIET, *mode], with_log_configuration=False)
    except Exception:
        return None
    finally:
        GlobalHydra.instance().clear()
    return ran


SUBDIRS = [
    "${hydra.job.num}", "${hydra.job.id}", "${hydra:job.num}",
    "x/${samples}", "${hydra.job.name}_${samples}",
    "${hydra.job.override_dirname}", "${hydra.runtime.choices.estimator}-${hydra.job.num}",
    "${hydra:runtime.choices.model}${samples}", "${oc.env:SET}${samples}", "${oc.env:UNSET}${samples}",
    "${oc.env:UNSET,other}${samples}",
    "${hydra.job.nmu}", "${nope}", "${nope:1}", "${now:%Y}-${samples}",
    "${hydra.mode}${samples}", "./${samples}", "${hydra.job.config_name}${samples}", "${samples", "???",
    "${hydra.overrides.task}", "a b${samples}", "${python_version:}${samples}",
]  # fmt: skip
DIRS = [
    "o", "o/${hydra.job.name}", "${hydra.job.num}",
    "${hydra:job.name}", "o/${now:%Y-%m}", "o/${oc.env:SET}",
    "o/${oc.env:UNSET}", "o/${seed}", "o/${samples}", "o/${hydra.job.override_dirname}",
    "${hydra.sweep.subdir}", "${hydra.sweep.dir}x",
    "${hydra:runtime.cwd}/o", "${hydra.runtime.cwd}/o", "o/${nope}", "o/${hydra.mode}",
    "o/${hydra.job.config_name}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [*(("hydra.sweep.subdir", value) for value in SUBDIRS),
     *(("hydra.sweep.dir", value) for value in DIRS),
     *(("hydra.run.dir", value) for value in DIRS)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_folders_are_where_hydra_puts_them(monkeypatch, plain_conf, in_folder, key, value):
    monkeypatch.setenv("SET", "a value")
    monkeypatch.delenv("UNSET", raising=False)
    multirun = key != "hydra.run.dir"
    typed = ["seed=5", "samples=1,2" if multirun else "samples=2", f"{key}={value}"]
    typed += ["hydra.sweep.dir=o", "hydra.sweep.subdir=${hydra.job.num}"] if not multirun else []
    typed += ["hydra.sweep.dir=o"] if key == "hydra.sweep.subdir" else []
    typed += ["hydra.sweep.subdir=${hydra.job.num}"] if key == "hydra.sweep.dir" else []
    expected = plain_folders(plain_conf, typed, multirun)
    argv = [*(["-m"] if multirun else []), *typed, *QUIET]
    if expected is None or value == "???":  # of which Hydra makes a folder named None
        with pytest.raises(UserError) as refused:
            checked_plan(argv, CONF)
        assert "\n" not in str(refused.value)
        assert value in str(refused.value)
    else:
        plan = checked_plan(argv, CONF)
        root = plan.root.resolve()
        assert [root / job.folder for job in plan.contents.jobs] == expected


def test_jobs_that_were_shuffled_run_as_they_were_checked(in_folder):
    for seed in range(3):
        random.seed(seed)
        plan = checked_plan(
            ["-m", "seed=shuffle(range(6))", "hydra.sweep.subdir=${hydra.job.num}"], CONF
        )
        assert [line[0] for line in plan.lines] == [f"seed={job.config['seed']}" for job in plan.jobs]
