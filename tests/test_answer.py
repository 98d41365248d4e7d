"""The answer in sentences, and its numbers, computed again from the records."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.stats import wilcoxon

from srste.report.chapters import chapters
from srste.report.conditions import conditions
from srste.report.next_step import next_step
from tests.records_by_hand import network

BETTER = "sr-STE takes a better step than STE: the loss after it is"


@pytest.fixture(scope="module", autouse=True)
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 199)
        yield


def of_networks(count, **of_batch):
    generator = np.random.default_rng(7)
    return [r for seed in range(count) for r in network(seed, generator, **of_batch)]


def chapter_of(records):
    (chapter,) = chapters(conditions(records))
    return chapter


def losses_of(records, name, samples):
    """(networks, batches) losses after the best step."""
    shown = [r for r in records if (r.estimator, r.samples) == (name, samples)]
    by_place = {(r.identity["seed"], r.batch): r.best.post_loss for r in shown}
    seeds, batches = (sorted({place[axis] for place in by_place}) for axis in (0, 1))
    return np.array([[by_place[seed, batch] for batch in batches] for seed in seeds])


@pytest.fixture(scope="module")
def eight():
    return of_networks(8)


class TestSummaries:
    def test_losses_and_gains_are_means_over_networks_of_means_over_batches(self, eight):
        of = {one.series: one for one in chapter_of(eight).summaries}
        ste = losses_of(eight, "ste", None)
        for series, name in (("sr-STE", "sr_ste"), ("tilted STE", "tilted_ste")):
            assert [row.samples for row in of[series].rows] == [1, 2, 5]
            for row in of[series].rows:
                losses = losses_of(eight, name, row.samples)
                assert row.loss == pytest.approx(losses.mean(), rel=1e-14)
                gains = (ste - losses).mean(axis=1)
                assert row.mean == pytest.approx(gains.mean(), abs=1e-15)
                p = wilcoxon(gains).pvalue
                assert p <= row.gain.p_value <= 3 * p + 1e-15, "Holm's correction, of three"
        assert of["STE"].best is None

    def test_the_baseline_is_first_and_controls_are_last(self, eight):
        assert [one.series for one in chapter_of(eight).summaries] == ["STE", "sr-STE", "tilted STE"]
        assert [one.control for one in chapter_of(eight).summaries] == [False, False, True]

    def test_the_n_from_which_on_hardly_anything_is_gained(self, eight):
        """Gains are 0.05, 0.06 and 0.07, with noise: 0.06 is less than nine tenths of the largest."""
        one = chapter_of(eight).summaries[1]
        means = [row.mean for row in one.rows]
        first = next(n for n, mean in zip((1, 2, 5), means, strict=True) if mean >= 0.9 * max(means))
        assert one.best.samples == (1, 2, 5)[int(np.argmax(means))]
        assert (one.enough.samples if one.enough else 5) == first


class TestSentences:
    def test_of_enough_networks_it_is_a_verdict(self, eight):
        said = chapter_of(eight).answer
        assert said.headline.startswith(
            "sr-STE takes a better step than STE: the loss after it is lower by"
        )
        assert re.search(
            r"on average over 8 networks \(N chosen on other batches, p = 0\.008\); most at N = 5",
            said.headline,
        )
        words = " ".join(said.details)
        assert "On held-out data, by the same step: -0.0" in words
        assert "Each N by itself, with Holm's correction for 3: better at every N." in words
        assert "Control tilted STE: against STE no evidence" in words
        assert "p = 0.023 at N = 5, corrected for 3 N." in words
        assert "a test needs" not in words

    def test_the_number_in_it_is_that_of_the_n_chosen_on_other_batches(self, eight):
        losses = np.stack([losses_of(eight, "sr_ste", n) for n in (1, 2, 5)], axis=2)
        ste = losses_of(eight, "ste", None)
        gains = np.empty(ste.shape)
        for network_, batch in np.ndindex(ste.shape):
            others = np.delete(losses[network_], batch, axis=0).mean(axis=0)
            gains[network_, batch] = ste[network_, batch] - losses[network_, batch, np.argmin(others)]
        number = re.search(r"lower by ([\d.]+)", chapter_of(eight).answer.headline)[1]
        assert number == f"{gains.mean():.3g}"

    def test_against_the_control_and_a_network_that_outputs_zero(self, eight):
        """At the N that is best on the other batches, on each side."""
        chosen = {}
        for name in ("sr_ste", "tilted_ste"):
            losses = np.stack([losses_of(eight, name, n) for n in (1, 2, 5)], axis=2)
            chosen[name] = np.empty(losses.shape[:2])
            for network_, batch in np.ndindex(losses.shape[:2]):
                others = np.delete(losses[network_], batch, axis=0).mean(axis=0)
                chosen[name][network_, batch] = losses[network_, batch, np.argmin(others)]
        words = " ".join(chapter_of(eight).answer.details)
        gains = (chosen["tilted_ste"] - chosen["sr_ste"]).mean(axis=1)
        assert f"sr-STE against it better, +{gains.mean():.3g} [" in words
        zero = {(r.identity["seed"], r.batch): r.zero_loss for r in eight}
        above = np.array([[zero[seed, batch] for batch in (1, 2, 3)] for seed in range(8)])
        gain = (above - chosen["sr_ste"]).mean()
        shown = re.search(r"sr-STE against a network that outputs zero: .*?([+-][\d.]+) \[", words)
        assert float(shown[1]) == pytest.approx(gain, rel=5e-3)

    def test_the_other_way_round_it_is_worse(self, eight):
        replaced = dataclasses.replace
        worse = []
        for record in eight:
            if record.estimator == "sr_ste":
                loss = 2 * record.baseline.post_loss - record.best.post_loss
                record = replaced(record, best=replaced(record.best, post_loss=loss))  # noqa: PLW2901
            worse.append(record)
        headline = chapter_of(worse).answer.headline
        assert headline.startswith(f"{BETTER.replace('better', 'worse')} higher by 0.0")

    @pytest.mark.parametrize(("count", "words"), [(1, "one network"), (5, "5 networks")])
    def test_of_few_networks_it_is_a_description(self, count, words):
        said = chapter_of(of_networks(count)).answer
        assert said.headline.startswith("The loss after sr-STE's best step is lower by 0.0")
        assert said.headline.endswith("and lower on 100 % of the batches.")
        assert said.details[-1] == (
            f"This describes {words}; a test needs at least 6: sweep seed=0,1,...,9 for ten."
        )
        assert "better" not in " ".join([said.headline, *said.details])

    def test_with_one_batch_it_rests_on_every_n_by_itself(self):
        said = chapter_of(of_networks(8, batches=1)).answer
        assert said.headline.startswith(
            "sr-STE takes a better step than STE: the loss after it is lower by"
        )
        assert said.headline.endswith(" at N = 5, on average over 8 networks (p = 0.023).")

    def test_with_one_batch_a_verdict_never_contradicts_its_number(self):
        """At N = 1 it is worse on every network, at N = 5 better on the mean, by one network alone."""
        records = []
        for record in of_networks(8, batches=1):
            if record.estimator == "sr_ste":
                gain = {1: -0.03, 2: -0.001}.get(
                    record.samples, -0.002 if record.identity["seed"] else 1
                )
                loss = record.baseline.post_loss - gain - 1e-4 * record.identity["seed"]
                best = dataclasses.replace(record.best, post_loss=loss)
                record = dataclasses.replace(record, best=best)  # noqa: PLW2901
            records.append(record)
        headline = chapter_of(records).answer.headline
        assert re.search(
            r"worse step than STE: the loss after it is higher by 0\.0\d+ at N = 1, on average", headline
        )


class TestNextStep:
    COMMAND = "python train.py -m estimator=sr_ste samples=1,2,...,10"

    def test_it_sweeps_the_seed_and_takes_as_long_as_ten_networks(self):
        records = of_networks(1)
        step = next_step(self.COMMAND, [chapter_of(records)])
        assert step.command == f"{self.COMMAND} seed=0,1,...,9"
        assert step.seconds == pytest.approx(10 * sum(record.seconds for record in records))

    def test_a_seed_that_is_there_is_replaced_and_a_job_becomes_a_sweep(self):
        step = next_step("python train.py seed=3", [chapter_of(of_networks(2))])
        assert step.command == "python train.py -m seed=0,1,...,9"

    def test_a_folder_of_its_own_stays_with_the_command(self):
        step = next_step(f"{self.COMMAND} hydra.sweep.dir=here", [chapter_of(of_networks(1))])
        assert step.command == f"{self.COMMAND} seed=0,1,...,9"

    def test_there_is_none_where_there_are_enough_networks(self, eight):
        assert next_step(self.COMMAND, [chapter_of(eight)]) is None
        assert next_step(None, [chapter_of(of_networks(1))]) is None
