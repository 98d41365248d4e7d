"""Pretraining: it learns, it is cached by what determines it, and the cache can be trusted."""

from __future__ import annotations

import logging
import multiprocessing
import pickle

import pytest
import torch

from srste.networks.models.mlp import MLP
from srste.problem.data import RandomTeacher
from srste.problem.pretraining import Adam, NoPretraining, still_falling
from srste.problem.problem import Problem
from srste.store.pretrained import pretrained


def problem():
    return Problem(
        lambda: MLP(4, 8, 2, 1),
        RandomTeacher(4),
        seed=0,
        batch_size=64,
        device=torch.device("cpu"),
    )


def silent(_):
    return lambda _: None


def run(folder, steps=30, this=None):
    this = this or problem()
    return this, pretrained(this, Adam(steps=steps, batch_size=256), "key", folder, silent)


def weights(this):
    return torch.cat([p.detach().flatten() for p in this.model.parameters()])


def test_the_loss_falls_and_is_given_for_every_step(tmp_path):
    _, done = run(tmp_path, steps=200)
    assert len(done.losses) == 200
    assert sum(done.losses[-20:]) < 0.7 * sum(done.losses[:20])


def test_none_leaves_the_network_raw(tmp_path):
    this = problem()
    before = weights(this)
    done = pretrained(this, NoPretraining(), "key", tmp_path / "cache", silent)
    assert (done.losses, done.cached) == ([], False)
    assert torch.equal(weights(this), before)
    assert not (tmp_path / "cache").exists()


def test_the_second_job_loads_what_the_first_one_trained(tmp_path):
    first, one = run(tmp_path)
    second, two = run(tmp_path)
    assert (one.cached, two.cached) == (False, True)
    assert one.losses == two.losses
    assert torch.equal(weights(first), weights(second))
    assert all(p.grad is None for p in first.model.parameters())


def test_it_is_the_same_whether_trained_or_loaded_and_whatever_was_drawn_before(tmp_path):
    one, _ = run(tmp_path / "a")
    other = problem()
    other.batch(5)
    torch.rand(3)
    two, _ = run(tmp_path / "b", this=other)
    assert torch.equal(weights(one), weights(two))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "json", "shape", "no note"])
def test_a_damaged_cache_is_detected_and_rebuilt(tmp_path, caplog, damage):
    first, _ = run(tmp_path)
    path, note = tmp_path / "key.pt", tmp_path / "key.json"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        path.write_bytes(content[:-300] + bytes([content[-300] ^ 1]) + content[-299:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "json":
        note.write_text("{")
    elif damage == "shape":
        note.write_text('{"sha256": 3}')
    else:
        note.unlink()
    again, done = run(tmp_path)
    assert not done.cached
    assert torch.equal(weights(again), weights(first))
    assert ("is damaged" in caplog.text) == (damage != "no note")
    assert run(tmp_path)[1].cached


def test_nothing_in_the_cache_is_unpickled(tmp_path, caplog):
    """A file that would run code when unpickled, with a checksum that fits, is refused."""
    import hashlib
    import json

    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    run(tmp_path)
    content = pickle.dumps(Malicious(), protocol=2)
    (tmp_path / "key.pt").write_bytes(content)
    note = {"sha256": hashlib.sha256(content).hexdigest(), "losses": [1.0]}
    (tmp_path / "key.json").write_text(json.dumps(note))
    assert not run(tmp_path)[1].cached
    assert not (tmp_path / "ran").exists()
    assert "is damaged" in caplog.text


def _child(folder, queue):
    torch.set_num_threads(1)
    this, done = run(folder, steps=60)
    queue.put((done.cached, weights(this).tolist()))


def test_of_several_processes_one_trains_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_child, args=(tmp_path, queue)) for _ in range(3)]
    for child in children:
        child.start()
    found = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join()
    assert sorted(cached for cached, _ in found) == [False, True, True]
    assert found[0][1] == found[1][1] == found[2][1]


def test_it_warns_if_the_loss_was_still_falling(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    run(tmp_path, steps=100)
    assert "still falling at the end" in caplog.text


def test_still_falling():
    steep = [100.0 - t for t in range(100)]
    level = [1.0 + 0.01 * (-1) ** t for t in range(100)]
    slight = [1.0 - 1e-5 * t for t in range(100)]
    assert still_falling(steep)
    assert not still_falling(level)
    assert not still_falling(slight), "0.01 % a tenth is converged"
    assert not still_falling(steep[:19]), "too short to tell"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"steps": 0}, r"`Adam\(steps=0\)` must be an integer >= 1"),
        ({"batch_size": 0}, r"`Adam\(batch_size=0\)` must be"),
        ({"lr": 0.0}, r"`Adam\(lr=0\.0\)` must be > 0 and at most 1e30"),
        ({"lr": 1e31}, r"`Adam\(lr=1e\+31\)` must be > 0"),
        ({"lr": float("nan")}, "must be > 0"),
    ],
)
def test_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Adam(**arguments)
