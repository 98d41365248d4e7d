"""The picture of a study's loss curve: what is drawn is where the trials are."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from srste.sampling import Trials
from srste.study.results import Best
from srste.tracking.curve_picture import curve_picture
from tests.test_report import study

SVG = "{http://www.w3.org/2000/svg}"


def made(losses, lrs=None):
    """A record and trials of these losses, 0.8 before the step."""
    lrs = np.linspace(0.001, 0.5, len(losses)) if lrs is None else lrs
    trials = Trials(lrs, np.asarray(losses, float), 0.8, FloatDistribution(1e-5, 0.5))
    best = trials.best()
    record = study("sr_ste", 2, 1, 0.5, 0.8, 0.2)
    if best is None:
        return replace(record, best=None), trials
    lr, loss = float(lrs[best]), float(losses[best])
    at = Best(best, lr, float(lrs[0]), float(lrs[-1]), loss, 0.8, loss, True, 0)
    return replace(record, best=at), trials


def drawn(record, trials):
    picture = curve_picture(record, trials)
    root = ET.fromstring(picture)
    lines = [
        np.array([[float(v) for v in point.split(",")] for point in line.get("points").split()])
        for line in root.iter(f"{SVG}polyline")
    ]
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]
    return root, lines, dots


@pytest.mark.parametrize(("best_at", "panels"), [(0.3, 1), (0.01, 2)])
def test_the_dot_is_the_lowest_point_of_every_panel(best_at, panels):
    lrs = np.linspace(0.001, 0.5, 5_000)
    record, trials = made(0.5 + np.abs(lrs - best_at) + 0.01 * np.sin(400 * lrs) ** 2, lrs)
    root, lines, dots = drawn(record, trials)
    assert len(lines) == len(dots) == panels
    for line, (x, y) in zip(lines, dots, strict=True):
        # Written to a tenth of a pixel; y goes down the page.
        assert line[:, 1].max() == pytest.approx(y, abs=0.11)
        assert np.abs(line - (x, y)).max(axis=1).min() < 0.11
        assert len(line) <= 300
    assert f"best: {record.best.post_loss:.6g}" in "".join(root.itertext())


def test_pixels_are_linear_in_the_values():
    record, trials = made([0.7, 0.6, 0.9, 0.65, 0.8])
    _, (line,), _ = drawn(record, trials)
    for pixels, values in ((line[:, 0], trials.lr), (line[:, 1], trials.post_loss)):
        slope, offset = np.polyfit(values, pixels, 1)
        np.testing.assert_allclose(pixels, slope * values + offset, atol=0.06)


@pytest.mark.parametrize("losses", [[0.8, 0.8], [0.8], [1e30, 1e-30, 0.5], [np.inf, 0.7, np.nan]])
def test_odd_curves(losses):
    root, lines, _ = drawn(*made(losses))
    assert all(np.isfinite(line).all() for line in lines)
    assert not re.search("nan|inf", "".join(str(e.attrib) for e in root.iter()))


def test_without_a_trial_that_did_not_fail_there_is_none():
    assert curve_picture(*made([np.nan, np.inf])) is None


def test_a_name_is_text_and_no_markup():
    record, trials = made([0.7, 0.6])
    named = replace(record, identity=record.identity | {"estimator": {"name": "<b> & co"}})
    assert "<b> & co N=2 batch 1, seed" in "".join(
        ET.fromstring(curve_picture(named, trials)).itertext()
    )
