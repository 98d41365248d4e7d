"""Examples from a file: which ones a batch has, which are held out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from srste.errors import UserError
from srste.launch.folders import register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from srste.problem.data import Arrays
from tests.support import CONF, said, train

SMALL = ["model.width=4", "model.depth=1", "batch_size=20", "sampling.step=0.1", "heldout=10"]


@pytest.fixture
def path(tmp_path):
    """50 examples, each with its number in all of its places."""
    numbers = np.arange(50.0)
    np.savez(tmp_path / "numbers.npz", inputs=np.tile(numbers[:, None], 3), targets=numbers[:, None])
    return tmp_path / "numbers.npz"


def job(path, *overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["data=arrays", f"data.path={path}", "data.features=3", *SMALL, *overrides]
        return Job(job_values(compose("config", given)))


def numbers_of(batch):
    assert batch.inputs.dtype == torch.float32
    assert (batch.inputs == batch.targets).all()
    return set(batch.targets[:, 0].int().tolist())


@pytest.mark.parametrize("seed", [0, 1])
def test_batches_are_drawn_from_what_is_not_held_out(path, seed):
    problem = job(path, f"seed={seed}").problem()
    held_out = numbers_of(problem.heldout(10))
    batches = [numbers_of(problem.batch(index)) for index in range(1, 30)]
    assert len(held_out) == 10
    assert all(len(batch) == 20 for batch in batches)  # no example twice
    assert set.union(*batches) == set(range(50)) - held_out
    again = job(path, f"seed={seed}").problem()
    assert torch.equal(again.batch(3).inputs, problem.batch(3).inputs)
    assert batches[0] != batches[1]


def test_what_is_held_out_follows_from_the_seed(path):
    one, other = (numbers_of(job(path, f"seed={seed}").problem().heldout(10)) for seed in (0, 1))
    assert one != other


def test_classes_stay_whole_numbers(tmp_path):
    np.savez(tmp_path / "c.npz", inputs=np.eye(4, 3), targets=np.array([0, 1, 1, 0], np.uint8))
    this = job(
        tmp_path / "c.npz", "loss=cross_entropy", "model.out_features=2", "batch_size=2", "heldout=1"
    )
    batch = this.problem().batch(1)
    assert batch.targets.dtype == torch.int64
    assert batch.targets.shape == (2,)


def test_another_content_is_another_study(path):
    before = list(job(path).identities())
    assert list(job(path).identities()) == before
    with np.load(path) as file:
        np.savez(path, inputs=file["inputs"], targets=file["targets"] + 1)
    assert list(job(path).identities()) != before


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.features=4"], r"features=4.* must be 3, as in numbers\.npz"),
        (["data.heldout=1.0"], r"heldout=1\.0.* must be > 0 and < 1"),
        (["data.path=nowhere.npz"], r"path=.*nowhere\.npz.* cannot be read \(No such file"),
    ],
)
def test_refused(path, overrides, says):
    with pytest.raises(UserError, match=says):
        job(path, *overrides)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"inputs": np.zeros((4, 3))}, "must be an .npz file of numbers with"),
        ({"inputs": np.zeros(()), "targets": np.zeros(4)}, "must be an .npz file"),
        ({"inputs": np.zeros((4, 3)), "targets": np.zeros(3)}, "has 4 inputs and 3 targets"),
        ({"inputs": np.array([{}] * 4, object), "targets": np.zeros(4)}, "must be an .npz file"),
        ({"inputs": np.zeros((4, 3)), "targets": np.array(list("abcd"))}, "must be an .npz file"),
        ({"inputs": np.full((4, 3), np.nan), "targets": np.zeros(4)}, "`inputs` holds a value"),
        ({"inputs": np.zeros((4, 3)), "targets": np.full(4, 1e300)}, "`targets` holds a value"),
    ],
)
def test_files_that_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        Arrays(str(tmp_path / "x.npz"), 3)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["batch_size=41"], "batch_size=41: must be at most 40, as the data has"),
        (["heldout=11"], "heldout=11: must be at most 10, as the data has"),
        (["data.path='???'"], "data.path: must be given, as data.path=..."),
        (
            ["pretraining=adam", "pretraining.batch_size=41"],
            "pretraining.batch_size=41: must be at most 40",
        ),
    ],
)
def test_refused_by_a_command(path, tmp_path, overrides, says):
    command = ["data=arrays", f"data.path={path}", "data.features=3", "tracking=none", *SMALL]
    done = train(tmp_path, *command, *overrides)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert len(said(done.stderr)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numbers.npz"]
