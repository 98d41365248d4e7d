"""What is composed from memory is what Hydra composes, in every node, and what Hydra refuses is refused
in its words."""

from __future__ import annotations

import itertools
import pickle
from contextlib import contextmanager

import hydra._internal.hydra
import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import Container, OmegaConf

from srste.commands.train import main
from srste.launch.folders import register_resolvers
from srste.launch.hydra_cache import CachingLoader
from tests.support import CONF, ROOT, SMALL, of_its_kind, train

CHOICES = sorted(
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in CONF.rglob("*.yaml")
    if path.name != "config.yaml"
)


@contextmanager
def hydra_in(folder):
    """The loaders of that folder: Hydra's own, and the one that remembers."""
    register_resolvers("a_command", frozenset({"samples"}))
    with initialize_config_dir(str(folder), version_base="1.3"):
        search_path = GlobalHydra.instance().config_loader().get_search_path()
        yield ConfigLoaderImpl(search_path), CachingLoader(search_path)


@pytest.fixture
def loaders():
    with hydra_in(CONF) as both:
        yield both


def everything(node):
    """All that OmegaConf knows of a node and of those below it, unresolved."""
    metadata = {k: v for k, v in vars(node._metadata).items() if k != "resolver_cache"}
    own = (type(node), metadata)
    if not isinstance(node, Container) or node._is_none() or isinstance(node._value(), str):
        return own, node._value()
    below = node.keys() if OmegaConf.is_dict(node) else range(len(node))
    assert all(node._get_node(key)._get_parent() is node for key in below)
    return own, [(key, everything(node._get_node(key))) for key in below]


def outcome(loader, name, overrides, mode=RunMode.RUN):
    """The configuration, or the error's type and words, and those of what caused it."""
    try:
        return everything(loader.load_configuration(name, list(overrides), mode))
    except Exception as error:
        return type(error), str(error), type(error.__cause__), str(error.__cause__)


def same(loaders, *overrides, name="config", mode=RunMode.RUN):
    """What Hydra composes, as the other one composes it, at first and from memory. It has composed the
    same for the other mode, too, which leaves no trace."""
    hydra, remembering = loaders
    (other,) = {RunMode.RUN, RunMode.MULTIRUN} - {mode}
    expected = outcome(hydra, name, overrides, mode)
    assert outcome(remembering, name, overrides, mode) == expected
    outcome(remembering, name, overrides, other)
    assert outcome(remembering, name, overrides, mode) == expected
    return expected


def composes(loaders, *overrides, **options):
    """As `same`, of what is no error."""
    assert len(same(loaders, *overrides, **options)) == 2


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice(loaders, choice):
    chosen = of_its_kind(*choice.split("="))
    more = "seed=1", "samples=3", "hydra.sweep.dir='a, b'", "+new=[1, x]", "~cache"
    composes(loaders, *chosen, *more)
    composes(loaders, "seed=2", *chosen, "hydra.sweep.dir='a, b'", "device=cuda")
    assert loaders[1]._files.cache_info().currsize == 1


@pytest.mark.parametrize("choice", ["sampling=tpe", "experiment=note_raw", "hydra/launcher=slurm"])
def test_a_whole_mapping_is_left_to_hydra(loaders, choice):
    composes(loaders, choice, "samples=3", "hydra.sweep.dir='a, b'", "+new={a: 1}", "~cache")
    assert loaders[1]._files.cache_info().currsize == 0


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "samples=1 samples=2",
        "experiment=note_raw pretraining=adam pretraining.steps=3",
        "pretraining.steps=3 pretraining=adam",
        "experiment=note_pretrained estimator=ste estimator/surrogate=tanh estimator.surrogate.beta=2",
        "estimator=ste estimator/quantiser=stochastic_rounding",
        "model.width=8 model={width:4}",
        "model={width:4} model.width=8",
        "model={width:4,depth:1}",
        "~tracking samples=2",
        "~tracking=mlflow",
        "~tracking=none",
        "~samples",
        "~samples=1",
        "~samples=2",
        "+samples=1",
        "++samples=1",
        "+a.b.c=1 +a.b.d=2",
        "+pretraining@other=adam other.steps=7",
        "pretraining@other=adam",
        "+estimator/surrogate@shadow=tanh shadow.beta=3",
        "samples@x=1",
        "sampling=tpe sampling.sampler._target_=x",
        "sampling.sampler._target_=x",
        "samples=null model=null",
        "model=[mlp]",
        "pretraining=3",
        "pretraining=nope",
        "nope=3",
        "model.nope=3",
        "samples=${seed} device='${oc.env:NOT_THERE}'",
        "samples=1,2",
        "samples=choice(1,2) seed=3",
        "samples=",
        "samples='a, b' seed=\"it's\"",
        "hydra=null",
        "hydra.nope=1 nope=2",
        "nope=2 hydra.nope=1",
        "hydra.overrides.task=[x] samples=2",
        "hydra.job.name=me hydra.job.config.override_dirname.exclude_keys=[seed] seed=1 samples=2",
        "hydra.job.env_copy=[HOME] samples=2",
        "hydra.job.env_copy=[NOT_THERE] samples=2",
        "hydra/launcher=local_parallel hydra.launcher.workers=3 samples=2",
        "hydra.sweep.subdir='a, b' samples=1 hydra/launcher=slurm hydra.sweep.subdir=c",
        "hydra/sweeper=basic +hydra.sweeper.params.samples='1,2' seed=3",
        "hydra.searchpath=[file:///nowhere] samples=2",
        "hydra.searchpath=3",
        "hydra.mode=MULTIRUN samples=3",
        "hydra.runtime.cwd=/nowhere samples=1,2",
        "samples=1,2 estimator=ste,sr_ste hydra.sweep.dir=here",
        "nope=1,2 model=nope,mlp",
        "hydra.job.num=1,2",
        "samples@there=1,2",
        "model=conv,mlp model.width=3",
        "samples",
    ],
)
@pytest.mark.filterwarnings("ignore:provider=hydra.searchpath")
def test_odd_overrides(loaders, typed):
    overrides = ["batches=2", *typed.replace("a, b", "a,b").split(), "batch_size=4"]
    same(loaders, *overrides)
    same(loaders, *overrides, mode=RunMode.MULTIRUN)


def test_groups_of_other_folders_and_choices_that_follow_others(tmp_path):
    for group in ("animal", "plant"):
        (tmp_path / "more" / group).mkdir(parents=True)
        for name in ("one", "two"):
            (tmp_path / "more" / group / f"{name}.yaml").write_text(f"name: {name}\nlegs: 4\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "other.yaml").write_text(
        "defaults:\n  - config\n  - optional plant: ${pretraining}\n  - _self_\n"
        f"hydra:\n  searchpath: [file://{CONF}]\n"
    )
    searched = f"hydra.searchpath=[file://{CONF}, file://{tmp_path / 'more'}]"
    with hydra_in(tmp_path / "own") as loaders:
        for overrides in (["samples=2"], ["pretraining=adam", "pretraining.steps=2"]):
            composes(loaders, *overrides, name="other")
            composes(loaders, searched, "+animal=one", "animal.legs=3", *overrides, name="other")
        same(loaders, "animal.legs=3", name="other")
        same(loaders, "+animal=one", name="other")  # a value here
        same(loaders, searched, "+animal=one", name="other")
        same(loaders, name=None)


def test_a_job_of_a_sweep(loaders):
    hydra, remembering = loaders
    master = hydra.load_configuration(
        "config", ["hydra/launcher=local_parallel", "samples=1,2", "seed=1"], RunMode.MULTIRUN
    )
    for samples in (1, 2):
        line = [f"samples={samples}", "seed=1", "pretraining=adam"]
        one, other = (loader.load_sweep_config(master, line) for loader in loaders)
        assert everything(one) == everything(other)
        assert one.hydra.sweep.subdir == other.hydra.sweep.subdir == f"samples={samples}"
    assert remembering._files.cache_info().currsize == 1


def test_what_is_given_out_may_be_changed(loaders):
    _, remembering = loaders
    first = remembering.load_configuration("config", ["seed=1"], RunMode.RUN)
    before = everything(first)
    first.model.width = 7
    first.hydra.overrides.task.append("x")
    assert everything(remembering.load_configuration("config", ["seed=1"], RunMode.RUN)) == before


def test_a_launch_is_composed_once(tmp_path, monkeypatch):
    """To check it, to ask for its mode, to run it, and for each of its jobs."""
    composed = []
    impl = ConfigLoaderImpl._load_configuration_impl

    def counted(self, *args, **kwargs):
        composed.append(kwargs)
        return impl(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["-m", "samples=1,2"]):
        composed.clear()
        assert main([*arguments, "tracking=none", "batches=1", *SMALL[1:]], ROOT / "train.py") == 0
        assert len(composed) == 1
    assert hydra._internal.hydra.ConfigLoaderImpl is ConfigLoaderImpl


def test_another_process_gets_hydra_s_own(loaders):
    loader = pickle.loads(pickle.dumps(loaders[1]))  # noqa: S301
    assert type(loader) is ConfigLoaderImpl
    assert outcome(loader, "config", ["seed=1"]) == outcome(loaders[0], "config", ["seed=1"])


def test_what_a_sweep_leaves_is_what_hydra_leaves_job_by_job(tmp_path):
    """Each job of a sweep, run alone by its overrides, leaves the same configuration."""
    arguments = [*SMALL, "tracking=none", "samples=1,2", "estimator=ste,sr_ste"]
    done = train(
        tmp_path, "-m", *arguments, "hydra.sweep.dir=swept", "hydra.sweep.subdir=${hydra.job.num}"
    )
    assert done.returncode == 0, done.stderr
    with hydra_in(CONF) as (hydra, _):
        for number, (samples, estimator) in enumerate(itertools.product((1, 2), ("ste", "sr_ste"))):
            folder = tmp_path / "swept" / str(number) / ".hydra"
            line = [*SMALL, "tracking=none", f"samples={samples}", f"estimator={estimator}"]
            # As Hydra's sweeper writes them.
            line = [o.replace("1e-4", "0.0001").replace("false", "False") for o in line]
            assert OmegaConf.load(folder / "overrides.yaml") == line
            expected = hydra.load_configuration("config", line, RunMode.RUN)
            expected = OmegaConf.masked_copy(expected, [key for key in expected if key != "hydra"])
            assert (folder / "config.yaml").read_text() == OmegaConf.to_yaml(expected)
