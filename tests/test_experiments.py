"""Experiments whose outcome is known: what they are to show, they show."""

from __future__ import annotations

import csv
import re

from tests.support import only, train


def test_note_replay_rings_for_the_mistake_and_not_for_the_clean_protocol(tmp_path):
    small = ["batches=5", "batch_size=300", "model.width=16", "heldout=0", "tracking=none"]
    done = train(
        tmp_path, "-m", "experiment=note_replay", *small,
        "pretraining.steps=100", "pretraining.batch_size=1000", "pretraining.lr=1e-2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Alarm: drift 1x, first in never_zeroed" in done.stdout
    report = only(tmp_path / "multirun") / "report"
    alarms = list(csv.DictReader((report / "alarms.csv").read_text().splitlines()))
    (drift,) = [alarm for alarm in alarms if alarm["alarm"] == "drift"]
    assert drift["where"] == "never_zeroed"
    down, steps = map(int, re.match(r"(\d+) of (\d+) steps", drift["detail"]).groups())
    assert steps == 45
    assert down >= 40
    assert (report / "drift.png").exists()
    # Each beside its own baseline.
    verdicts = list(csv.DictReader((report / "verdicts.csv").read_text().splitlines()))
    pairs = {(row["first"], row["second"]) for row in verdicts}
    assert {("sr-STE", "STE"), ("never_zeroed", "never_zeroed_ste")} <= pairs
    assert ("sr-STE", "never_zeroed_ste") not in pairs
