"""The statistics against cases with known answers: simulations, enumeration, numbers by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import beta, norm, t

from srste.analysis.statistics.bootstrap import mean_interval
from srste.analysis.statistics.paired import compare, holm, networks_needed
from srste.analysis.statistics.panel import Series
from srste.analysis.statistics.proportions import of_independent, of_networks
from srste.analysis.statistics.verdicts import (
    BETTER,
    FIXED,
    NO_EVIDENCE,
    NOTHING,
    TOO_FEW,
    WORSE,
    Finding,
    cross_validated,
)
from srste.note2021 import statistics as note

NETWORKS, BATCHES, SIMULATIONS = 20, 10, 1_000
LOSSES = st.integers(-1_000_000, 1_000_000).map(lambda k: k / 1_000)


def gains(generator, effect, networks=NETWORKS, batches=BATCHES):
    """Batches of a network share its own effect: they are far from independent."""
    of_network = generator.normal(effect, 1.0, (networks, 1))
    return of_network + generator.normal(0.0, 1.0, (networks, batches))


def verdict(comparison, p_value=None):
    """The verdict by the test's own p-value, or by a corrected one."""
    p = comparison.wilcoxon_p if p_value is None else p_value
    return Finding(FIXED, None, comparison, p).verdict


def within(count, rate, n=SIMULATIONS, errors=4.0):
    """Whether a count of n has that rate, up to so many standard errors of a binomial."""
    return abs(count - n * rate) <= errors * math.sqrt(n * rate * (1 - rate))


@pytest.fixture
def few_resamples(monkeypatch):
    """Fewer than a report takes: a thousand intervals need not each be as smooth as one that is read."""
    monkeypatch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 999)


@pytest.mark.usefixtures("few_resamples")
class TestSimulated:
    def test_no_effect_gives_false_positives_at_the_nominal_rate(self):
        generator = np.random.default_rng(1)
        found = [compare(gains(generator, 0.0)) for _ in range(SIMULATIONS)]
        # The Wilcoxon test of twenty networks is discrete: its level at 5 % is 4.8 %.
        assert within(sum(verdict(c) != NO_EVIDENCE for c in found), 0.048)
        assert within(sum(c.low > 0 or c.high < 0 for c in found), 0.05, errors=5)
        # The sign test's largest level below 5 % with twenty networks is 4.1 %.
        assert within(sum(c.sign_p < 0.05 for c in found), 0.0414)

    def test_the_intervals_cover_a_known_effect(self):
        generator = np.random.default_rng(2)
        found = [compare(gains(generator, 0.7)) for _ in range(500)]
        covered = sum(c.low <= 0.7 <= c.high for c in found)
        # A bootstrap of twenty networks is not exact: one and a half percent off is allowed, and four
        # standard errors of 500 simulations.
        assert abs(covered / 500 - 0.95) <= 0.015 + 4 * math.sqrt(0.95 * 0.05 / 500)
        # The t-test has a power of 81 % for an effect of 0.7 / sqrt(1.1), Wilcoxon's a little less.
        assert 0.72 <= sum(verdict(c) == BETTER for c in found) / 500 <= 0.9
        assert not any(verdict(c) == WORSE for c in found)

    def test_batches_taken_for_independent_would_be_fooled(self):
        """What the level of networks is for: the same data, each batch as a network of its own."""
        generator = np.random.default_rng(3)
        fooled = honest = 0
        for _ in range(200):
            data = gains(generator, 0.0)
            fooled += verdict(compare(data.reshape(-1, 1))) != NO_EVIDENCE
            honest += verdict(compare(data)) != NO_EVIDENCE
        # Half of the variance is the networks', so means vary 5.5 times as much as 200 batches would.
        assert fooled > 50
        assert within(honest, 0.048, n=200)

    def test_clopper_pearson_covers_at_least_what_it_says(self):
        generator = np.random.default_rng(4)
        covered = 0
        for k in generator.binomial(20, 0.7, SIMULATIONS):
            found = of_independent(int(k), 20)
            covered += found.low <= 0.7 <= found.high
        assert covered >= 0.94 * SIMULATIONS

    def test_rates_over_networks_are_covered_too(self):
        generator = np.random.default_rng(5)
        covered = 0
        for _ in range(400):
            rates = generator.beta(6, 4, (NETWORKS, 1))  # a mean of 0.6
            found = of_networks(generator.random((NETWORKS, BATCHES)) < rates)
            covered += found.low <= 0.6 <= found.high
        assert 0.915 <= covered / 400 <= 0.985

    def test_choosing_n_on_the_same_batch_cheats_and_on_other_batches_does_not(self):
        """Ten sample counts, all as good as the other estimator: no effect to be found."""
        generator = np.random.default_rng(6)
        cheating = honest = 0
        for _ in range(200):
            losses = generator.normal(1.0, 0.1, (NETWORKS, BATCHES, 10))
            other = generator.normal(1.0, 0.1, (NETWORKS, BATCHES))
            series = Series(tuple(range(1, 11)), losses)
            cheating += verdict(compare(other - losses.min(axis=2))) == BETTER
            honest += verdict(compare(other - cross_validated(series))) != NO_EVIDENCE
        assert cheating == 200
        assert within(honest, 0.048, n=200)

    def test_the_some_n_rule_is_won_by_nothing_at_all(self):
        generator = np.random.default_rng(7)
        shape = (NETWORKS, BATCHES)
        alike = generator.normal(1.0, 0.1, (*shape, 11))
        losses = note.Losses(np.ones(shape), alike[..., 0], alike[..., 1:])
        # Of eleven alike, the one is the lowest once in eleven times.
        won = of_networks(note.some_n_beats_ste(losses))
        assert won.rate == pytest.approx(10 / 11, abs=0.07)


class TestKnownAnswers:
    def test_wilcoxon_and_sign_against_every_assignment_of_signs(self):
        means = np.array([0.3, -0.1, 0.7, 0.25, 0.9, 0.05, -0.2])
        ranks = np.argsort(np.argsort(np.abs(means))) + 1
        statistic = min(ranks[means > 0].sum(), ranks[means < 0].sum())
        signs = list(itertools.product((0, 1), repeat=7))
        sums = [sum(r for r, s in zip(ranks, sign, strict=True) if s) for sign in signs]
        extreme = sum(min(s, 28 - s) <= statistic for s in sums) / len(signs)
        heads = sum(abs(sum(sign) - 3.5) >= 1.5 for sign in signs) / len(signs)
        found = compare(means[:, None])
        assert found.wilcoxon_p == pytest.approx(extreme, rel=1e-12)
        assert found.sign_p == pytest.approx(heads, rel=1e-12)

    def test_mean_effect_size_and_wins_by_hand(self):
        found = compare([[1.0, 3.0], [0.0, np.nan], [-1.0, -3.0], [4.0, 4.0]])
        assert found.mean == pytest.approx((2 + 0 - 2 + 4) / 4)
        assert found.effect_size == pytest.approx(1 / np.std([2, 0, -2, 4], ddof=1))
        assert (found.networks, found.networks_won.k, found.networks_won.n) == (4, 2, 4)
        assert (found.batches_won.k, found.batches_won.n) == (4, 7)
        close = compare([[0.5], [0.25], [0.75], [0.0], [0.0], [-0.5]])
        assert (close.networks_won.k, close.networks_won.n) == (4, 6)
        assert close.sign_p == pytest.approx(0.625)  # three of four heads or as far from two: 10 of 16

    def test_an_effect_far_above_its_spread(self):
        found = compare([[1.0], [1.5], [2.0]])
        assert found.effect_size == pytest.approx(1.5 / 0.5)
        assert found.needed == networks_needed(3.0)

    def test_as_many_up_as_down_is_no_sign_of_anything(self):
        assert compare([[1.0], [-2.0], [3.0], [-4.0]]).sign_p == 1.0

    def test_ranks_and_not_counts_say_the_direction(self):
        # Ranks 5 + 6 + 7 below zero, 1 + 2 + 3 + 4 above.
        means = np.array([0.1, 0.2, 0.3, 0.35, -5.0, -6.0, -7.0])[:, None]
        assert compare(means).direction == -1 == -compare(-means).direction
        # 1 + 3.5 against 3.5 + 2 - 1: zeros have ranks and no sign.
        assert compare([[0.0], [1.0], [-2.0], [2.0]]).direction == 1

    def test_clopper_pearson_in_closed_form(self):
        for k, n in ((0, 10), (8, 10), (10, 10), (137, 200)):
            found = of_independent(k, n)
            assert found.low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0)
            assert found.high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1)
        assert str(of_independent(8, 10)) == "8/10 [44, 97 %]"

    def test_holm_by_hand(self):
        assert holm([0.01, 0.04, 0.03, float("nan")]) == pytest.approx(
            [0.03, 0.06, 0.06, math.nan], nan_ok=True
        )
        assert holm([]) == []

    def test_the_networks_needed_do_find_it(self):
        # Table 2.3.5 of Cohen (1988), two-sided 5 %, power .80, paired: d = 0.5 needs 34 pairs.
        assert networks_needed(0.5) == networks_needed(-0.5) == 34
        assert networks_needed(10.0) == networks_needed(math.inf) == 6
        assert networks_needed(0.0) is networks_needed(math.nan) is None
        n = networks_needed(0.6)
        generator = np.random.default_rng(8)
        seen = sum(verdict(compare(generator.normal(0.6, 1, (n, 1)))) == BETTER for _ in range(500))
        assert 0.72 <= seen / 500 <= 0.87

    def test_an_outlier_does_not_turn_the_verdict_around(self):
        found = compare(np.r_[np.linspace(0.01, 0.03, 19), -5.0][:, None])
        assert found.wilcoxon_p < 0.01
        assert found.mean < 0 < found.direction
        assert verdict(found) == NO_EVIDENCE
        balanced = compare(np.r_[np.ones(19), -19.0][:, None])
        assert balanced.wilcoxon_p < 0.01
        assert balanced.mean == 0 < balanced.direction
        assert verdict(balanced) == NO_EVIDENCE

    def test_networks_without_a_difference_prove_nothing(self):
        # Five of five: not even one in twenty, however many ties stand beside them.
        found = compare(np.r_[np.zeros(15), np.arange(1.0, 6.0)][:, None])
        assert found.wilcoxon_p == pytest.approx(2 * 0.5**5)
        assert verdict(found) == NO_EVIDENCE

    def test_verdicts(self):
        steady = np.linspace(0.5, 1.5, 8)[:, None]
        assert verdict(compare(steady)) == BETTER
        assert verdict(compare(-steady)) == WORSE
        assert verdict(compare(steady), p_value=0.2) == NO_EVIDENCE
        assert verdict(compare(steady), p_value=0.05) == NO_EVIDENCE  # below 5 %, not at it
        assert verdict(compare(steady[:6])) == BETTER  # the fewest for which 2^-6 twice is below 5 %
        assert verdict(compare(steady[:5])) == TOO_FEW
        assert verdict(compare(np.empty((0, 3)))) == NOTHING
        assert verdict(compare(np.full((8, 2), np.nan))) == NOTHING

    def test_intervals_of_few_networks_are_as_wide_as_student_s(self):
        # Of values that lie as those of a normal distribution do, but none further out: a little
        # narrower. Five sizes and two sides, each with some 3 % of noise of the resampling.
        ratios = []
        for n in (8, 9, 10, 11, 12):
            values = norm.ppf((np.arange(n) + 0.5) / n)
            wide = t.isf(0.025, n - 1) * values.std(ddof=1) / math.sqrt(n)
            low, high = mean_interval(values)
            ratios += [-low / wide, high / wide]
        assert np.mean(ratios) == pytest.approx(0.98, abs=0.03)
        assert all(0.9 < ratio < 1.05 for ratio in ratios)

    def test_another_confidence(self):
        values = np.linspace(0.0, 1.0, 12)
        (low, high), (lower, higher) = mean_interval(values, 0.8), mean_interval(values, 0.99)
        assert lower < low < 0.5 < high < higher


class TestOddData:
    def test_ties(self):
        level = compare(np.zeros((8, 3)))
        assert verdict(level) == NO_EVIDENCE
        assert (level.mean, level.low, level.high, level.effect_size) == (0, 0, 0, 0)
        assert level.networks_won.rate == level.batches_won.rate == 0.5
        assert level.needed is None
        assert level.wilcoxon_p == 1.0
        half = compare(np.r_[np.zeros((4, 2)), np.ones((8, 2))])
        assert verdict(half) == BETTER
        assert half.sign_p == pytest.approx(2 * 0.5**8)  # ties tell nothing

    def test_all_networks_alike(self):
        same = compare(np.full((8, 2), 0.25))
        assert (same.low, same.high, same.effect_size) == (0.25, 0.25, math.inf)
        assert verdict(same) == BETTER
        # Eight of eight is not certainty: the interval is that of eight trials.
        assert same.batches_won.low == pytest.approx(0.025 ** (1 / 8))

    def test_none(self):
        none = compare(np.full((8, 2), np.nan))
        for value in (none.mean, none.low, none.high, none.sign_p, none.wilcoxon_p, none.effect_size):
            assert math.isnan(value)
        assert none.networks == none.direction == none.networks_won.n == 0
        nothing = none.batches_won
        assert (nothing.k, nothing.n, nothing.low, nothing.high) == (0, 0, 0.0, 1.0)
        assert math.isnan(nothing.rate)
        assert of_independent(0, 0) == nothing

    def test_two_of_the_same_and_two_that_differ(self):
        assert mean_interval([0.25, 0.25]) == (0.25, 0.25)
        assert all(map(math.isnan, mean_interval([0.25, 0.5])))

    def test_one_network(self):
        one = compare([[0.1, 0.3, 0.2]])
        assert verdict(one) == TOO_FEW
        assert math.isnan(one.low) and math.isnan(one.effect_size)
        assert one.mean == pytest.approx(0.2)
        assert one.needed is None

    def test_two_networks(self):
        two = compare([[0.1, 0.3], [0.3, 0.4]])
        assert verdict(two) == TOO_FEW
        assert math.isnan(two.low)
        assert two.effect_size == pytest.approx(0.275 / (0.15 / math.sqrt(2)))
        assert 0 <= two.batches_won.low <= two.batches_won.rate <= two.batches_won.high

    def test_three_networks_are_enough_to_draw_from(self):
        events = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, np.nan]])
        found = of_networks(events)
        assert (found.k, found.n) == (6, 11)
        assert (found.low, found.high) == mean_interval([1 / 4, 1 / 2, 1.0])

    def test_the_rate_is_in_its_interval_however_unequal_the_networks(self):
        # One batch that was won beside a hundred that were lost, and the other way round.
        events = np.full((2, 100), np.nan)
        events[0, 0], events[1] = 1, 0
        few, many = of_networks(events), of_networks(1 - events)
        assert (few.k, few.n, many.k, many.n) == (1, 101, 100, 101)
        assert few.low == few.rate and many.high == many.rate
        # Of two networks' rates of one half, as one of two independent trials.
        assert few.high == pytest.approx(beta.ppf(0.975, 2, 1))
        assert many.low == pytest.approx(beta.ppf(0.025, 1, 2))

    def test_missing_studies(self):
        generator = np.random.default_rng(9)
        whole = gains(generator, 1.0)
        holes = whole.copy()
        holes[3] = np.nan
        holes[4, 2:] = np.nan
        found = compare(holes)
        assert found.networks == 19
        assert found.batches_won.n == 200 - 10 - 8
        expected = np.r_[whole[:3].mean(1), whole[4, :2].mean(), whole[5:].mean(1)].mean()
        assert found.mean == pytest.approx(expected)

    @given(arrays.arrays(float, (7, 3), elements=LOSSES))
    def test_the_other_way_round_everything_is_mirrored(self, data):
        one, other = compare(data), compare(-data)
        assert one.mean == pytest.approx(-other.mean, abs=1e-9)
        assert one.wilcoxon_p == pytest.approx(other.wilcoxon_p, nan_ok=True)
        assert one.sign_p == pytest.approx(other.sign_p, nan_ok=True)
        mirror = {BETTER: WORSE, WORSE: BETTER}
        assert verdict(other) == mirror.get(verdict(one), verdict(one))

    @given(arrays.arrays(float, 9, elements=LOSSES), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
    def test_intervals_hold_the_mean_and_scale(self, values, factor):
        low, high = mean_interval(values)
        assert low <= values.mean() + 1e-9 and values.mean() - 1e-9 <= high
        # By powers of two, which round nothing: which resample is where decides.
        assert mean_interval(factor * values) == (factor * low, factor * high)
