"""The audit: logs that the project itself writes, claims that hold and claims that do not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from srste.commands.audit.claims import OF_THE_NOTE, Claims, claims_of, read_claims
from srste.commands.audit.findings import Log
from srste.commands.main import main
from srste.errors import UserError
from srste.note2021.log import read_note_log, write_note_log
from srste.note2021.statistics import STATISTICS
from tests.support import train
from tests.test_report import study

# By batch: the loss before, STE's, and sr-STE's at N = 1, 2, 3; and the learning rate of STE.
BATCHES = [
    (1.00, 0.90, (0.95, 0.94, 0.93), 0.012),  # below for every N
    (1.00, 0.90, (0.95, 0.98, 1.01), 0.010),  # from below to above
    (1.00, 1.01, (1.02, 1.01, 0.97), 0.001),  # from above to below, some N beats STE
    (1.00, 0.90, (0.89, 0.98, 0.97), 0.004),  # some N beats STE, below for every N
]
COUNTS = {
    "some_n_beats_ste": [3, 4],
    "ste_lowers": [1, 2, 4],
    "below_for_every_n": [1, 4],
    "from_below_to_above": [2],
    "from_above_to_below": [3],
}


@pytest.fixture
def log(tmp_path):
    records = []
    for batch, (before, ste, drawn, lr) in enumerate(BATCHES, 1):
        records.append(study("ste", None, batch, ste, before, lr))
        records += [study("sr_ste", n, batch, x, before, 0.05 * n) for n, x in enumerate(drawn, 1)]
    write_note_log(records, tmp_path / "own.log")
    return tmp_path / "own.log"


def audited(capsys, *arguments):
    code = main(["audit", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def claims(folder, *entries):
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


class TestReading:
    def test_what_was_written_is_read_to_the_last_digit(self, log):
        lines = read_note_log(log)
        assert [line.batch for line in lines] == [b for b in (1, 2, 3, 4) for _ in range(4)]
        assert [line.samples for line in lines] == [None, 1, 2, 3] * 4
        assert [line.number for line in lines] == list(range(1, 17))
        assert lines[4] == (5, 2, "STE", None, 1.0, 0.010, 0.90)

    def test_batches_are_told_by_order_whatever_the_estimators_are(self, tmp_path):
        form = "[{}]Original loss is 1, and when {}lr is 0.1, the best STE-loss is 0.5."
        two = ["STE", "negative_ste"]
        text = "\n\n".join(
            form.format(label, f"samples is {n} and " if n else "")
            for _ in range(3)
            for label, n in [*((t, None) for t in two), ("a", 1), ("a", 2), ("b", 1)]
        )
        (tmp_path / "log").write_text(text)
        assert [x.batch for x in read_note_log(tmp_path / "log")] == [
            b for b in (1, 2, 3) for _ in range(5)
        ]

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            (
                "[STE]Original loss is 1.0",
                r"own\.log:7: '\[STE\]Original loss is 1\.0' must be of the form",
            ),
            ("rubbish", r"own\.log:7: 'rubbish' must be of the form \[STE\]Original loss is X"),
            (
                "[STE]Original loss is x, and when lr is 0.1, the best STE-loss is 0.5.",
                r"own\.log:7: Original loss is x: must be a number >= 0",
            ),
            (
                "[STE]Original loss is 1, and when lr is -0.1, the best STE-loss is 0.5.",
                r"own\.log:7: lr is -0\.1: must be a number >= 0",
            ),
            (
                "[STE]Original loss is 1, and when lr is 0.1, the best STE-loss is nan.",
                r"own\.log:7: the best STE-loss is nan: must be",
            ),
            (
                "[sr]Original loss is 1, and when samples is 0 and lr is 0.1, the best STE-loss is 0.5.",
                r"own\.log:7: samples is 0: must be at least 1",
            ),
            (
                "[stochastic STE]Original loss is 1, and when samples is 1 and lr is 0.1, "
                "the best STE-loss is 0.5.",
                r"own\.log:7: batch 2 has \[stochastic STE\] with samples 1 already",
            ),
        ],
    )
    def test_a_malformed_line_is_named_by_file_and_number(self, log, capsys, line, says):
        lines = log.read_text().splitlines()
        lines.insert(6, line)
        log.write_text("\n".join(lines))
        code, out, err = audited(capsys, log)
        assert (code, out) == (2, "")
        assert re.search(says, err)
        assert len(err.splitlines()) == 1

    @pytest.mark.parametrize(
        ("content", "says"), [(None, "No such file"), (b"", "at least one line"), (b"\xff\xfe", "UTF-8")]
    )
    def test_what_is_no_log_is_refused(self, tmp_path, capsys, content, says):
        path = tmp_path / "x.log"
        if content is not None:
            path.write_bytes(content)
        code, _, err = audited(capsys, path)
        assert code == 2
        assert says in err


class TestFindings:
    def test_each_statistic_counts_the_batches_that_it_should(self, log):
        read = Log.read(log)
        assert {key: read.batches_of(key) for key in STATISTICS} == COUNTS
        for key, batches in COUNTS.items():
            assert (read.count(key).k, read.count(key).n) == (len(batches), 4)

    def test_a_missing_line_leaves_its_batch_out(self, log):
        lines = log.read_text().splitlines()
        del lines[9]  # batch 3, N = 1
        log.write_text("\n".join(lines))
        read = Log.read(log)
        assert read.count("some_n_beats_ste").n == 3
        assert read.count("ste_lowers").n == 4

    def test_the_common_step_and_the_lowest_point(self, log):
        read = Log.read(log)
        assert read.step == pytest.approx(0.001)
        assert [(x.batch, x.samples) for x in read.at_the_lowest] == [(3, None)]

    @pytest.mark.parametrize(
        ("rates", "step"),
        [
            ([0.0001 * 46, 0.0001 * 81, 0.3], 1e-4),
            ([0.25, 0.5], 0.25),
            ([0.123456789123], None),
            ([1e-5, 3e-5], 1e-5),
        ],
    )
    def test_steps_of_other_grids(self, tmp_path, rates, step):
        write_note_log(
            [study("ste", None, b, 0.5, lr=r) for b, r in enumerate(rates, 1)], tmp_path / "l"
        )
        found = Log.read(tmp_path / "l").step
        assert found == (step if step is None else pytest.approx(step))


def test_a_log_of_a_sampler_is_not_taken_for_a_grid(tmp_path):
    rates = (0.22134567891, 0.3111119234, 0.41234567891)
    write_note_log([study("ste", None, b, 0.5, lr=r) for b, r in enumerate(rates, 1)], tmp_path / "l")
    assert Log.read(tmp_path / "l").alarms == []


class TestClaims:
    def test_beside_the_log(self, log, capsys, tmp_path):
        said = {key: len(batches) for key, batches in COUNTS.items()} | {"below_for_every_n": 3}
        path = claims(
            tmp_path,
            {"log": "other*", "counts": {}},
            {
                "log": "own*", "batches": 4, "counts": said,
                "learning_rates": {"from": "1e-5", "to": 0.5, "step": "1e-5"},
            },
        )  # fmt: skip
        code, out, _ = audited(capsys, log, "--claims", path)
        assert code == 0
        row = next(line for line in out.splitlines() if "below the original" in line)
        assert re.search(r" 3 +2/4 \[7, 93 %\] +DIFFERS +1, 4", row)
        assert out.count("agrees") == 4
        assert "all 16 multiples of 0.001; claimed from 1e-05 to 0.5 in steps of 1e-05: DIFFERS" in out
        assert "STE on batches 3" in out

    def test_a_log_that_nothing_is_claimed_of(self, log, capsys):
        code, out, _ = audited(capsys, log)
        assert code == 0
        assert "DIFFERS" not in out and "agrees" not in out
        assert "2/4 [7, 93 %]" in out

    def test_what_the_note_claims(self):
        known = read_claims(OF_THE_NOTE)
        pretrained = claims_of(Path("x/sr_ste_on_pretrained_toy_model.txt"), known)
        assert list(pretrained.counts.values()) == [8, 7, 8, 1, 1]
        assert pretrained.learning_rates.step == 1e-5
        assert claims_of(Path("mine.log"), known) == Claims()

    @pytest.mark.parametrize(
        ("entry", "says"),
        [
            ({"nope": 1}, "entry 1: nope: no such key; known are log, batches"),
            ({"counts": {"x": 1}}, "entry 1: counts: x: no such key; known are some_n_beats_ste"),
            ({"counts": {"ste_lowers": -1}}, "counts.ste_lowers=-1: must be a whole number >= 0"),
            (
                {"batches": 3, "counts": {"ste_lowers": 4}},
                "ste_lowers=4: must be a whole number >= 0, at most 3",
            ),
            ({"learning_rates": {"step": 0}}, "learning_rates.from=None: must be a number > 0"),
            ({"rerun": "x"}, "rerun=x: must be a list"),
            (7, "entry 1: must hold keys and values"),
        ],
    )
    def test_other_claims_are_refused(self, log, capsys, tmp_path, entry, says):
        code, out, err = audited(capsys, log, "--claims", claims(tmp_path, entry))
        assert (code, out) == (2, "")
        assert says in err
        assert len(err.splitlines()) == 1

    def test_no_yaml_is_refused(self, log, capsys, tmp_path):
        (tmp_path / "c.yaml").write_text("{")
        assert audited(capsys, log, "--claims", tmp_path / "c.yaml")[0] == 2
        assert audited(capsys, log, "--claims", tmp_path / "none.yaml")[0] == 2
        with pytest.raises(UserError, match="must be a YAML file"):
            read_claims(tmp_path / "none.yaml")


def test_each_estimator_of_a_log_by_itself(tmp_path, capsys):
    records = [study("ste", None, b, 0.5) for b in (1, 2)]
    records += [study("sr_ste", n, b, 0.4) for b in (1, 2) for n in (1, 2)]
    records += [study("same_angle", n, b, 0.6) for b in (1, 2) for n in (1, 2)]
    write_note_log(records, tmp_path / "l.log")
    read = Log.read(tmp_path / "l.log")
    assert read.labels == ["stochastic STE", "same_angle"]
    assert read.count("some_n_beats_ste").k == 2
    assert read.count("some_n_beats_ste", "same_angle").k == 0
    _, out, _ = audited(capsys, tmp_path / "l.log")
    assert out.index("[stochastic STE]") < out.index("2/2 [16") < out.index("[same_angle]")


class TestAlarms:
    def test_a_drift_is_told(self, tmp_path, capsys):
        records = []
        for b in range(1, 5):
            records.append(study("ste", None, b, 0.5 + b, 2.0 + b))
            records += [
                study("sr_ste", n, b, 0.5 + b - 1e-3 * n * (n + 1) / 2, 2.0 + b) for n in range(1, 8)
            ]
        write_note_log(records, tmp_path / "l.log")
        _, out, _ = audited(capsys, tmp_path / "l.log")
        assert "Alarm: drift" in out
        assert "24 of 24 steps from one N to the next go down, R² 1.000" in out

    def test_a_clean_log_of_our_own_run_has_none(self, tmp_path):
        """From `train.py` to the audit: what the project writes, the project reads."""
        small = ["batches=4", "batch_size=128", "model.width=16", "sampling.step=1e-4", "heldout=0"]
        done = train(tmp_path, "-m", "samples=1,2,...,5", "tracking=none", "report=false", *small)
        assert done.returncode == 0, done.stderr
        read = Log.read(next(tmp_path.glob("multirun/*/note.log")))
        assert len(read.lines) == 4 * 6
        assert read.step == pytest.approx(1e-4)
        assert read.alarms == []
        assert np.isfinite(read.losses("stochastic STE").drawn).all()


def test_a_run_of_our_own_beside_it(log, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "batches=2 batch_size=64 model.width=8 sampling.step=1e-3 heldout=0"
    rerun = [f"samples=1,2,3 {small}", f"estimator=tilted_ste samples=1,2,3 {small}"]
    path = claims(tmp_path, {"log": "own*", "counts": {"ste_lowers": 3}, "rerun": rerun})
    code, out, _ = audited(capsys, log, "--claims", path, "--rerun")
    assert code == 0
    assert "our run: sr-STE" in out
    assert "our run: tilted STE" in out
    row = next(line for line in out.splitlines() if "STE lowers the loss" in line)
    assert len(re.findall(r"2/2 \[3, 100 %\]", row)) == 2
    # Again: the studies are there already.
    assert audited(capsys, log, "--claims", path, "--rerun")[1] == out


def test_a_run_that_nobody_named_is_refused(log, capsys):
    code, _, err = audited(capsys, log, "--rerun")
    assert code == 2
    assert "the claims name no run of our own for own.log" in err
