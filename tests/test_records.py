"""Records: whole or not at all, damage is seen, and the Optuna study comes back from them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srste.curve import Interval
from srste.sampling.base import Trials
from srste.sampling.grid import Grid
from srste.store import files, records
from srste.store.files import checksum, sealed
from srste.store.records import DamagedRecordError, Record
from srste.store.trial_tables import packed, unpacked
from srste.study.certificate import Certificate
from srste.study.results import Best, Heldout, Probe


def trials(n=50):
    lrs = np.arange(1, n + 1) / n
    losses = (lrs - 0.3) ** 2
    losses[-1] = np.nan
    return Trials(lrs, losses, 1.25, optuna.distributions.FloatDistribution(lrs[0], 1.0, step=1 / n))


def record(table, **changes):
    identity = {
        "seed": 0,
        "model": {"name": "mlp", "width": 32},
        "loss": {"name": "squared_error"},
        "estimator": {"name": "sr_ste"},
        "samples": 3,
        "batch": 2,
    }
    record = Record(
        key="k" * 64,
        group="g" * 64,
        identity=identity,
        pre_loss=1.25,
        trials=50,
        failed=1,
        reason="loss after the update is nan, not finite",
        best=Best(14, 0.3, 0.02, 1.0, 0.0, 1.25, 1e-9, True, 0),
        baseline=None,
        heldout=Heldout(20_000, 1.3, 0.29, 0.1, 0.28, True, 0.4),
        zero_loss=0.38,
        probe=Probe(1e-4, 1.24),
        angles={"": 12.5, "0.weight": None},
        certificate=Certificate(
            0.31,
            0.0,
            True,
            0.0,
            0.0,
            0.0,
            2,
            0.6,
            Interval(0.0, 0.4, 0.0),
            Interval(0.7, 0.9, 0.8),
            Interval(0.0, 0.4, 0.0),
        ),
        not_exact="",
        alarm_details={"tensors that do not move": "0.weight"},
        forward_passes=3,
        backward_passes=2,
        seconds=0.01,
        created="2026-01-02T03:04:05.678+00:00",
        config={"seed": 0},
        git_commit="unknown",
        versions={"srste": "0"},
        table=checksum(table),
    )
    return dataclasses.replace(record, **changes)


@pytest.fixture
def written(tmp_path):
    table = packed(trials())
    records.write(tmp_path / "r", record(table), table)
    return tmp_path / "r"


def test_what_is_written_is_read(written):
    found = records.read(written)
    assert found == record((written / "trials.packed.parquet").read_bytes())
    assert found.name == "sr_ste N=3 batch 2"
    back, original = records.read_trials(written), trials()
    np.testing.assert_array_equal(back.lr, original.lr)
    np.testing.assert_array_equal(back.post_loss, original.post_loss)
    assert back.pre_loss == original.pre_loss
    assert back.distribution == original.distribution
    assert sorted(p.name for p in written.iterdir()) == ["record.json", "trials.packed.parquet"]


def test_the_optuna_study_comes_back(written):
    study = records.load_study(written)
    assert study.study_name == "sr_ste N=3 batch 2"
    assert study.best_trial.number == 14
    assert [t.state.name for t in study.trials].count("FAIL") == 1


def test_a_grid_of_fifty_thousand_survives(tmp_path):
    columns = Grid().run(np.sin, 0.5, 0)
    table = packed(columns)
    back = unpacked(table)
    np.testing.assert_array_equal(back.post_loss, columns.post_loss)
    assert len(table) < 600_000


def test_a_record_of_an_earlier_format_is_set_aside(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "trials.parquet").write_bytes(b"PAR1")
    (folder / "record.json").write_bytes(sealed({"format": 5, "key": "k"}))
    assert records.foreign_in(folder) == []
    table = packed(trials())
    assert records.write(folder, record(table), table)
    assert records.read(folder).key == record(table).key
    (aside,) = (tmp_path / ".set-aside").iterdir()
    assert (aside / "trials.parquet").read_bytes() == b"PAR1"


def test_no_record_is_none(tmp_path):
    assert records.read(tmp_path) is None
    assert list(records.find(tmp_path)) == []
    with pytest.raises(FileNotFoundError, match=r"no record\.json in"):
        records.load_study(tmp_path)


@pytest.mark.parametrize("name", ["record.json", "trials.packed.parquet"])
@given(data=st.data())
def test_damage_is_seen(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damage")
    table = packed(trials())
    records.write(folder, record(table), table)
    path = folder / name
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        found = records.read(folder)
    except DamagedRecordError:
        assert list(records.find(folder)) == []
    else:  # white space, say, that another white space took the place of
        assert name == "record.json"
        assert found == record(table)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "trials.packed.parquet").unlink(), r"trials\.packed\.parquet is missing"),
        (lambda f: (f / "trials.packed.parquet").write_bytes(b"PAR1"), "is not the table"),
        (lambda f: (f / "record.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "record.json").write_text("[]"), "does not hold what it should"),
        (lambda f: (f / "record.json").write_text("{}"), "does not hold what it should"),
    ],
)
def test_damage_is_named(written, change, says):
    change(written)
    with pytest.raises(DamagedRecordError, match=says):
        records.read(written)


def test_another_format_is_not_read(written):
    plain = json.loads((written / "record.json").read_text())
    del plain["checksum"]
    (written / "record.json").write_bytes(sealed(plain | {"format": 99}))
    with pytest.raises(DamagedRecordError, match="has format 99, not 7"):
        records.read(written)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@given(text=st.text(), longest=st.integers(20, 120))
def test_a_slug_is_one_safe_file_name(text, longest):
    name = files.slug(text, longest)
    assert 0 < len(name) <= longest
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert name == files.slug(text, longest)


def test_slugs_that_were_cut_stay_apart():
    assert files.slug("a" * 200 + "1") != files.slug("a" * 200 + "2")
    assert files.slug("estimator=sr_ste samples=1,2,...,10") == "estimator=sr_ste_samples=1,2,...,10"
    assert files.slug("../../etc/passwd") == "etc_passwd"
