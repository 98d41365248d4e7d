"""The league, from records made by hand, computed again with NumPy and SciPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.stats import rankdata, wilcoxon

from srste.report.answer import MOST_NAMED
from srste.report.chapters import chapters
from srste.report.conditions import conditions
from srste.report.figures.league import profile_figure, ranks_figure
from srste.report.figures.networks import MOST_DRAWN, networks_figure
from srste.report.figures.note import note_figure
from srste.report.league import BUDGET, leagues, profile, rows
from srste.report.panels import settings
from srste.store.records import Baseline
from tests.test_report import study

NETWORKS, BATCHES = 8, 2
NAMES = [f"e{i}" for i in range(6)]
PASSES = {name: 2 * (i + 1) for i, name in enumerate(NAMES)}  # a sample


@pytest.fixture(scope="module", autouse=True)
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 199)
        yield


def records(networks=NETWORKS, names=NAMES, counts=(1, 3)):
    """STE, and estimators that are better the smaller their number, at two numbers of samples."""
    generator = np.random.default_rng(3)
    made = []
    for seed in range(networks):
        for batch in range(1, BATCHES + 1):
            ste = study("ste", None, batch, 0.4 + 0.01 * generator.random(), seed=seed)
            made.append(dataclasses.replace(ste, forward_passes=1, backward_passes=1))
            for i, name in enumerate(names):
                for n in counts:
                    loss = 0.3 + 0.04 * i - 0.01 * n + 0.03 * generator.random()
                    one = study(name, n, batch, loss, seed=seed)
                    half = PASSES.get(name, 2) * n // 2
                    made.append(
                        dataclasses.replace(
                            one, baseline=Baseline(ste.key, "ste", 0.25, ste.best.post_loss),
                            forward_passes=half, backward_passes=half,
                        )
                    )  # fmt: skip
    return made


def setting_of(made):
    (setting,) = settings(conditions(made))
    return setting


@pytest.fixture(scope="module")
def made():
    return records()


@pytest.fixture(scope="module")
def both(made):
    return leagues(setting_of(made))


def losses_of(made, name, samples):
    """(networks, batches)."""
    of = {
        (r.identity["seed"], r.batch): r.best.post_loss
        for r in made
        if (r.estimator, r.samples) == (name, samples)
    }
    return np.array([[of[seed, b] for b in (1, 2)] for seed in range(NETWORKS)])


def test_at_the_largest_number_of_samples_by_falling_gain(made, both):
    at_most = both[0]
    assert at_most.title == "at N = 3"
    ste = losses_of(made, "ste", None)
    gains = {name: (ste - losses_of(made, name, 3)).mean() for name in NAMES} | {"STE": 0.0}
    expected = sorted(gains, key=lambda name: -gains[name])
    assert [one.series for one in at_most.entrants] == expected
    for one in at_most.entrants:
        assert one.mean == pytest.approx(gains[one.series], abs=1e-15)
    assert {one.passes for one in at_most.entrants if one.series == "e1"} == {12}


def test_its_tests_are_corrected_for_all_entrants(made, both):
    ste = losses_of(made, "ste", None)
    raw = sorted(wilcoxon((ste - losses_of(made, n, 3)).mean(1)).pvalue for n in NAMES)
    holm = np.maximum.accumulate([min(1, p * (6 - i)) for i, p in enumerate(raw)])
    computed = sorted(one.gain.p_value for one in both[0].entrants if one.gain)
    np.testing.assert_allclose(computed, holm, rtol=1e-12)


def test_at_equal_cost_each_has_the_samples_that_it_can_afford(both):
    _, equal = both
    assert equal.title == f"at most {BUDGET} forward and backward passes each"
    expected = {
        name: max(n for n in (1, 3) if PASSES[name] * n <= BUDGET)
        for name in NAMES
    } | {"STE": None}  # fmt: skip
    assert {one.series: one.samples for one in equal.entrants} == expected
    assert set(expected.values()) == {1, 3, None}
    assert equal.left_out == ()


def test_what_costs_more_is_named():
    made = [
        dataclasses.replace(r, forward_passes=21, backward_passes=0) if r.estimator == "e0" else r
        for r in records()
    ]
    _, equal = leagues(setting_of(made))
    assert equal.left_out == ("e0",)
    assert "e0" not in {one.series for one in equal.entrants}


def test_without_costs_there_is_no_league_of_equal_cost():
    made = [dataclasses.replace(r, forward_passes=None) if r.estimator == "e2" else r for r in records()]
    (only,) = leagues(setting_of(made))
    assert only.title == "at N = 3"


def test_few_estimators_have_none():
    assert leagues(setting_of(records(names=NAMES[:4]))) == []


def test_the_table_has_a_row_an_entrant(both):
    columns, table = rows(both)
    assert len(table) == 14
    assert {len(row) for row in table} == {len(columns)}
    first = dict(zip(columns, table[0], strict=True))
    assert first["estimator"] == "e0"
    assert first["verdict"] == "▲ better"
    assert first["probability of improvement"].startswith("100 %")
    assert [row[2] for row in table[:7]] == [str(i) for i in range(1, 8)]


def test_profiles_by_hand(made, both):
    fractions = np.array([0.0, 0.5, 0.9, 1.0])
    computed = profile(both[0], fractions)
    every = {name: 0.7 - losses_of(made, name, 3) for name in NAMES}
    every["ste"] = 0.7 - losses_of(made, "ste", None)
    best = np.max(list(every.values()), axis=0)
    for name, decrease in every.items():
        title = "STE" if name == "ste" else f"{name}, N=3"
        np.testing.assert_allclose(computed[title], [np.mean(decrease / best >= f) for f in fractions])


def test_ranks_are_those_of_the_networks(made, both):
    figure = ranks_figure(both[0])
    losses = np.stack([losses_of(made, name, 3).mean(1) for name in NAMES] + [
        losses_of(made, "ste", None).mean(1)
    ], axis=1)  # fmt: skip
    mean_ranks = rankdata(losses, axis=1).mean(0)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    for name, rank in zip([f"{n}, N=3" for n in NAMES] + ["STE"], mean_ranks, strict=True):
        assert f"{name} ({rank:.1f})" in texts or f"({rank:.1f}) {name}" in texts


def test_too_few_networks_have_no_ranks_but_profiles():
    first = leagues(setting_of(records(networks=5)))[0]
    assert ranks_figure(first) is None
    labels = [line.get_label() for line in profile_figure(first).axes[0].lines]
    assert "e0, N=3" in labels
    assert "STE" in labels


def test_of_many_estimators_some_are_named_and_drawn():
    many = records(names=[f"f{i:02}" for i in range(14)], counts=(1,))
    (chapter,) = chapters(conditions(many))
    details = chapter.answer.details
    assert sum("takes a" in line or "No evidence" in line for line in details) == MOST_NAMED - 1
    assert any(line.startswith("The other 9 estimators, all in the table: ") for line in details)
    order = [one.series for one in chapter.summaries]
    assert order[0] == "STE"
    gains = [one.best.mean for one in chapter.summaries[1:]]
    assert gains == sorted(gains, reverse=True)
    (condition, *_) = conditions(many)
    for drawn in (note_figure(condition), note_figure(conditions(records())[0])):
        FigureCanvasAgg(drawn).draw()  # a layout that collapses is a warning, and an error here
    assert f"{MOST_DRAWN} of 15 estimators" in " ".join(note_figure(condition).get_suptitle().split())
    figure = networks_figure(chapter.setting)
    assert f"{MOST_DRAWN // 2 + 1} of 15 estimators" in figure.get_suptitle()
