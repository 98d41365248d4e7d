"""The rules by which estimators are compared, and the statistics of the note, on cases by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import wilcoxon

from srste.analysis.statistics.paired import holm
from srste.analysis.statistics.panel import Series
from srste.analysis.statistics.verdicts import (
    BETTER,
    CHOSEN,
    EACH,
    FIXED,
    LOWEST,
    constant,
    cross_validated,
    findings,
)
from srste.note2021 import statistics as note


@pytest.fixture
def few_resamples(monkeypatch):
    """Fewer than a report takes: a thousand intervals need not each be as smooth as one that is read."""
    monkeypatch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 999)


class TestRules:
    def series(self, losses):
        losses = np.asarray(losses, dtype=float)
        return Series(tuple(range(1, losses.shape[2] + 1)), losses)

    def test_cross_validation_leaves_the_batch_out(self):
        # On batch 0 N = 2 is best; on the other two N = 1 is.
        results = cross_validated(self.series([[[5, 1], [1, 3], [1, 3]]]))
        # Batch 0 takes what is best on 1 and 2 (N = 1); batch 1 what is best on 0 and 2: 6 against 4.
        assert results.tolist() == [[5, 3, 3]]

    def test_cross_validation_against_a_loop(self):
        generator = np.random.default_rng(10)
        losses = generator.random((4, 5, 3))
        results = cross_validated(self.series(losses))
        for n, b in itertools.product(range(4), range(5)):
            others = [i for i in range(5) if i != b]
            best = losses[n, others].mean(axis=0).argmin()
            assert results[n, b] == losses[n, b, best]

    def test_what_is_missing_takes_no_part(self):
        results = cross_validated(self.series([[[5, 1], [1, np.nan], [1, 3]]]))
        np.testing.assert_array_equal(results, [[5, np.nan, 3]])
        assert np.isnan(cross_validated(self.series([[[5, 1]]]))).all()
        # A network with one batch has no other to choose on, whatever other networks have.
        gap = [np.nan, np.nan]
        results = cross_validated(self.series([[[5, 1], gap], [[1, 3], [2, 4]]]))
        np.testing.assert_array_equal(results, [[np.nan, np.nan], [1, 2]])

    def test_a_sample_count_that_is_not_there(self):
        missing = self.series(np.ones((2, 3, 2))).at(7)
        assert missing.shape == (2, 3) and np.isnan(missing).all()

    @pytest.mark.parametrize(("batches", "counts"), [(1, 3), (2, 2), (3, 1), (3, 4)])
    @pytest.mark.parametrize("second", ["drawn", "constant", "constant first"])
    def test_each_rule_against_loops(self, batches, counts, second):
        generator = np.random.default_rng(13)
        networks = 7
        one, other = generator.normal(0.5, 0.3, (2, networks, batches, counts))
        line = generator.normal(0.6, 0.3, (networks, batches))
        drawn = self.series(one)
        pairs = {
            "drawn": (drawn, self.series(other)),
            "constant": (drawn, constant(line)),
            "constant first": (constant(line), drawn),
        }

        def loss(series, network, batch, count):
            fixed = series.samples == (None,)
            return series.losses[network, batch, 0 if fixed else count]

        def chosen(series, network, batch):
            others = [b for b in range(batches) if b != batch]
            sums = [sum(loss(series, network, b, c) for b in others) for c in range(counts)]
            return loss(series, network, batch, sums.index(min(sums)))

        def lowest(series, network, batch):
            return min(loss(series, network, batch, c) for c in range(counts))

        def at(count):
            return lambda series, network, batch: loss(series, network, batch, count)

        def expected(pick):
            """(mean, Wilcoxon's p) of the networks' means."""
            first, last = pairs[second]
            means = [
                sum(pick(last, n, b) - pick(first, n, b) for b in range(batches)) / batches
                for n in range(networks)
            ]
            return sum(means) / networks, wilcoxon(means).pvalue

        wanted = [(FIXED, 1, at(0))]
        if counts > 1:
            wanted += [(EACH, count + 1, at(count)) for count in range(counts)]
            wanted += [(CHOSEN, None, chosen)] if batches > 1 else []
            wanted += [(LOWEST, None, lowest)] if second == "drawn" else []
        results = findings(*pairs[second])
        assert [(f.rule, f.samples) for f in results] == [(rule, n) for rule, n, _ in wanted]
        for finding, (rule, _, pick) in zip(results, wanted, strict=True):
            mean, p = expected(pick)
            assert finding.comparison.mean == pytest.approx(mean)
            assert finding.comparison.wilcoxon_p == pytest.approx(p)
            if rule != EACH:
                assert finding.p_value == pytest.approx(p)

    def test_two_lines(self):
        (result,) = findings(constant(np.ones((8, 2))), constant(np.full((8, 2), 1.5)))
        assert (result.rule, result.samples, result.comparison.mean) == (FIXED, None, 0.5)
        assert result.p_value == pytest.approx(2 * 0.5**8)

    def test_every_rule_that_applies(self):
        generator = np.random.default_rng(11)
        ste = constant(generator.normal(1.0, 0.1, (8, 4)))
        drawn = self.series(generator.normal(0.5, 0.1, (8, 4, 3)))
        control = self.series(generator.normal(0.7, 0.1, (8, 4, 3)))
        assert [f.rule for f in findings(ste, ste)] == [FIXED]
        assert [f.rule for f in findings(drawn, ste)] == [FIXED, EACH, EACH, EACH, CHOSEN]
        against = findings(drawn, control, fixed=2)
        assert [f.rule for f in against] == [FIXED, EACH, EACH, EACH, CHOSEN, LOWEST]
        assert [f.samples for f in against] == [2, 1, 2, 3, None, None]
        assert all(f.verdict == BETTER for f in against)
        np.testing.assert_allclose(
            against[0].comparison.mean, (control.losses[:, :, 1] - drawn.losses[:, :, 1]).mean()
        )
        fair = control.losses.min(axis=2) - drawn.losses.min(axis=2)
        assert against[-1].comparison.mean == pytest.approx(fair.mean())

    def test_those_for_each_n_are_corrected(self):
        generator = np.random.default_rng(12)
        results = findings(self.series(generator.normal(0, 1, (9, 2, 4))), constant(np.zeros((9, 2))))
        each = [f for f in results if f.rule == EACH]
        assert [f.p_value for f in each] == pytest.approx(holm([f.comparison.wilcoxon_p for f in each]))


class TestTheNoteS:
    """Its five statistics on batches where the answer is plain."""

    BEFORE, STE = np.array([1.0, 1.0, 1.0, 1.0, 1.0]), np.array([0.9, 1.1, 0.9, 0.9, np.nan])
    DRAWN = np.array([[0.8, 0.95], [1.2, 0.9], [0.95, 1.1], [0.9, np.nan], [0.5, 0.5]])

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("some_n_beats_ste", [1, 1, 0, np.nan, np.nan]),
            ("ste_lowers", [1, 0, 1, 1, np.nan]),
            ("below_for_every_n", [1, 0, 0, np.nan, 1]),
            ("from_below_to_above", [0, 0, 1, np.nan, 0]),
            ("from_above_to_below", [0, 1, 0, np.nan, 0]),
        ],
    )
    def test_on_single_batches(self, key, expected):
        losses = note.Losses(self.BEFORE, self.STE, self.DRAWN)
        np.testing.assert_array_equal(note.STATISTICS[key][1](losses), expected)
        # And over networks: the same with one axis more.
        stacked = note.Losses(*(np.stack([a, a]) for a in losses))
        np.testing.assert_array_equal(note.STATISTICS[key][1](stacked), [expected, expected])

    def test_the_first_and_the_last_of_several(self):
        drawn = [
            [0.9, 2.0, 0.5, 1.1], [1.1, 0.5, 2.0, 0.9], [0.9, 2.0, 0.5, 0.9], [1.1, 0.5, 2.0, 1.1]
        ]  # fmt: skip
        four = note.Losses(np.ones(4), np.ones(4), np.array(drawn))
        assert note.from_below_to_above(four).tolist() == [1, 0, 0, 0]
        assert note.from_above_to_below(four).tolist() == [0, 1, 0, 0]
        level = np.array([[1.0, 1.1], [0.9, 1.0], [1.0, 0.9], [1.1, 1.0]])
        at_the_loss_before = note.Losses(np.ones(4), np.ones(4), level)
        assert note.from_below_to_above(at_the_loss_before).tolist() == [0, 0, 0, 0]
        assert note.from_above_to_below(at_the_loss_before).tolist() == [0, 0, 0, 0]

    def test_ties_are_not_wins(self):
        one = note.Losses(np.ones(1), np.ones(1), np.ones((1, 2)))
        assert all(function(one)[0] == 0 for _, function in note.STATISTICS.values())
