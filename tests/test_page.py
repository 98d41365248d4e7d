"""The report: what is claimed, and the page and files that say it, from records made by hand."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from srste.analysis.statistics.verdicts import BETTER, FIXED, NO_EVIDENCE, TOO_FEW, WORSE
from srste.report.chapters import chapters
from srste.report.claims import claims, counts, grid, undecidable
from srste.report.claims import main as main_claims
from srste.report.conditions import conditions
from srste.report.page import Facts
from srste.report.panels import BATCH, HELDOUT, HELDOUT_BEST, panel, settings
from srste.report.report import markdown, write_report
from srste.store.records import Baseline
from tests.records_by_hand import network, networks, written
from tests.test_report import study


@pytest.fixture(autouse=True, scope="module")
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srste.analysis.statistics.bootstrap.RESAMPLES", 499)
        yield


@pytest.fixture(scope="module")
def eight():
    return networks(8)


@pytest.fixture(scope="module")
def judged(eight):
    return the_claims(eight)


def the_claims(made, fixed=None):
    (setting,) = settings(conditions(made))
    return setting, claims(setting, fixed)


def verdict_of(every, first, second, measure, rule=FIXED):
    return [
        c.finding.verdict
        for c in every
        if (c.first, c.second, c.measure, c.finding.rule) == (first, second, measure, rule)
    ]


class TestClaims:
    def test_a_verdict_by_each_measure(self, judged):
        _, every = judged
        assert verdict_of(every, "sr-STE", "STE", BATCH) == [BETTER]
        assert verdict_of(every, "sr-STE", "STE", HELDOUT) == [WORSE]
        assert verdict_of(every, "sr-STE", "STE", HELDOUT_BEST) == [WORSE]
        assert verdict_of(every, "sr-STE", "tilted STE", BATCH) == [BETTER]
        assert verdict_of(every, "tilted STE", "STE", BATCH) == [NO_EVIDENCE]
        assert verdict_of(every, "STE", "no step", BATCH) == [BETTER]
        assert verdict_of(every, "STE", "a zero output", BATCH) == [WORSE]

    def test_gains_are_those_of_the_records(self, eight):
        setting, every = the_claims(eight, fixed=5)
        claim = next(c for c in every if (c.first, c.second, c.measure) == ("sr-STE", "STE", BATCH))
        assert claim.finding.samples == 5
        gains = [
            r.baseline.post_loss - r.best.post_loss
            for r in eight
            if (r.estimator, r.samples) == ("sr_ste", 5)
        ]
        assert claim.finding.comparison.mean == pytest.approx(np.mean(gains))
        assert claim.words.startswith("+0.0")
        assert "8/8 networks, p = 0.008" in claim.words
        assert setting.controls == ("tilted STE",)
        assert setting.baselines == {"sr-STE": "STE", "tilted STE": "STE"}

    def test_what_is_no_evidence_says_how_many_networks_would_tell(self, judged):
        _, every = judged
        claim = next(c for c in every if (c.first, c.measure) == ("tilted STE", BATCH))
        assert re.search(r"; would take [\d,]+ networks to show$", claim.words)

    def test_as_many_networks_as_are_there_would_not_tell(self):
        """Large but for one network: what six would see, these six have not seen."""
        gains = [1.0, 1.1, 1.2, 1.3, 0.9, -0.01]
        of_all = []
        for seed, gain in enumerate(gains):
            ste = study("ste", None, 1, 3.0, pre_loss=4.0, seed=seed)
            one = study("sr_ste", 1, 1, 3.0 - gain, pre_loss=4.0, seed=seed)
            of_all += [ste, dataclasses.replace(one, baseline=Baseline(ste.key, "ste", 0.2, 3.0))]
        _, every = the_claims(of_all)
        claim = next(c for c in every if (c.first, c.second) == ("sr-STE", "STE"))
        assert claim.finding.verdict == NO_EVIDENCE
        assert claim.finding.comparison.needed == 6
        assert "would" not in claim.words

    def test_one_network_is_too_few(self):
        _, every = the_claims(network(0, np.random.default_rng(1)))
        assert undecidable(every)
        assert {c.finding.verdict for c in every} == {TOO_FEW}

    def test_the_note_s_statistics_for_the_control_too(self, judged):
        setting, _ = judged
        proportions = {(c.series, c.statistic): c.proportion for c in counts(setting)}
        assert proportions["sr-STE", "some_n_beats_ste"].k == 24
        assert 12 <= proportions["tilted STE", "some_n_beats_ste"].k <= 24
        assert proportions["sr-STE", "ste_lowers"].n == 24

    def test_settings_are_told_apart_and_networks_put_together(self):
        generator = np.random.default_rng(2)
        mixed = [r for p in ("none", "adam") for s in (3, 1) for r in network(s, generator, p)]
        groups = settings(conditions(mixed))
        assert [s.label for s in groups] == ["pretraining=none", "pretraining=adam"]
        assert all(sorted(s.networks) == [1, 3] for s in groups)

    def test_missing_studies_are_nan_and_not_zero(self, eight):
        lacking = [r for r in eight if (r.identity["seed"], r.batch, r.samples) != (2, 1, 2)]
        (setting,) = settings(conditions(lacking))
        losses = panel(setting).series["sr-STE"].losses
        assert np.isnan(losses).sum() == 1
        assert np.isnan(losses[2, 0, 1])

    def test_a_failed_study_is_missing(self):
        records_ = network(0, np.random.default_rng(3))
        records_[1] = dataclasses.replace(records_[1], best=None, heldout=None)
        _, every = the_claims(records_)
        claim = next(c for c in every if (c.first, c.second) == ("sr-STE", "STE"))
        assert claim.finding.comparison.batches_won.n == 2

    def test_each_variant_beside_its_own_baseline(self):
        """Tanh is worse than Clipped altogether, and its sr-STE better than its STE."""
        generator, of_all = np.random.default_rng(4), []
        for surrogate, level in (("Clipped", 0.4), ("Tanh", 0.6)):
            axis = {"surrogate": {"_target_": f"x.{surrogate}"}}
            for seed in range(7):
                for batch in (1, 2):
                    ste = level + 0.01 * generator.normal()
                    of_ste = {"name": "ste", "_target_": "x.Y"} | axis
                    base = study("ste", None, batch, ste, seed=seed, estimator=of_ste)
                    base = dataclasses.replace(base, key=f"{surrogate}{seed}{batch}")
                    of_sr = {"name": "sr_ste", "_target_": "x.Y"} | axis
                    one = study("sr_ste", 1, batch, ste - 0.05, seed=seed, estimator=of_sr)
                    beside = Baseline(base.key, "ste", 0.2, ste)
                    of_all += [base, dataclasses.replace(one, key=f"sr{base.key}", baseline=beside)]
        _, every = the_claims(of_all)
        for surrogate in ("Clipped", "Tanh"):
            pair = f"sr-STE {surrogate}", f"STE {surrogate}"
            assert verdict_of(every, *pair, BATCH) == [BETTER]
        assert verdict_of(every, "sr-STE Tanh", "STE Clipped", BATCH) == []

    def test_of_two_records_of_a_study_the_newer_counts_and_its_baseline_is_found(self, eight):
        """As after a change of the code: the old STE beside the new one."""
        old = [
            dataclasses.replace(
                r,
                key=f"old{r.key}",
                created="2025-01-01",
                best=dataclasses.replace(r.best, post_loss=9.0),
            )
            for r in eight
            if r.estimator == "ste"
        ]
        for ordered in (old + eight, eight + old):
            _, every = the_claims(ordered)
            assert verdict_of(every, "sr-STE", "STE", BATCH) == [BETTER]
            claim = next(c for c in every if (c.first, c.second) == ("sr-STE", "STE"))
            assert claim.finding.comparison.mean < 1

    def test_an_estimator_alone_is_compared_with_nothing_done(self):
        _, every = the_claims([study("ste", None, b, 0.4) for b in (1, 2)])
        assert {c.second for c in every} == {"no step", "a zero output"}

    def test_the_table_s_order(self, judged):
        _, every = judged
        titles = list(grid(main_claims(every)))
        assert titles[0] == "sr-STE against STE"
        assert titles[-1] == "tilted STE against STE"


class Page(HTMLParser):
    """What a page refers to, and its words."""

    def __init__(self, text):
        super().__init__()
        self.refers, self.words, self.images = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        at = dict(attrs)
        self.refers += [at[name] for name in ("src", "href", "srcset", "data") if name in at]
        if tag == "img":
            self.images.append(at)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory, eight):
    folder = tmp_path_factory.mktemp("report")
    stored = written(folder / "records", eight)
    command = "python train.py -m x='<script>alert(1)</script>'"
    facts = Facts("multirun: <b>&", command, missing=3)
    return page_of(stored, folder / "report.html", facts)


def page_of(stored, page, facts):
    """The report of these records."""
    return write_report(chapters(conditions(r for _, r in stored.values())), stored, page, facts)


class TestPage:
    def test_it_needs_no_network(self, report):
        page = Page(report.page.read_text())
        assert page.refers
        assert all(r.startswith(("data:image/", "#")) for r in page.refers)
        scripts = re.findall(r"<script[^>]*>", report.page.read_text())
        assert scripts == ['<script type="application/json" id="curves-data">', "<script>", "<script>"]

    def test_it_begins_with_the_answer_then_the_figure_then_the_claims(self, report):
        source = report.page.read_text()
        text = Page(source).text
        answer = text.index("sr-STE takes a better step than STE: the loss after it is lower by 0.0")
        claimed = text.index("Claims, tested over 8 networks")
        assert answer < text.index("Gain over STE: +0.0") < text.index("Means over networks") < claimed
        assert source.index("<img") < source.index("Claims, tested") < source.index("<details>")
        pattern = r"sr-STE against STE at N = 1, fixed beforehand ▲ better \+0\.0[45]\d*"
        assert re.search(pattern, text[claimed:])
        assert "3 studies are missing" in text
        assert "multirun: <b>&" in text  # escaped, so it is seen as it is

    def test_every_figure_is_there_with_words_for_it(self, report):
        page = Page(report.page.read_text())
        names = {p.name.split("_")[0].split(".")[0] for p in report.files if p.suffix == ".png"}
        assert names == {"networks", "curves", "angle", "heldout"}
        assert len(page.images) == len(names)
        assert all(len(image["alt"]) > 20 for image in page.images)

    def test_each_as_png_and_svg_and_the_tables_as_csv_and_markdown(self, report):
        files = {p.name for p in report.files}
        for path in report.files:
            assert path.is_file() and path.parent == report.page.with_suffix("")
            if path.suffix == ".png":
                assert f"{path.stem}.svg" in files
            if path.suffix == ".md":
                assert f"{path.stem}.csv" in files

    def test_the_curves_are_the_trials(self, report, eight):
        """Every curve of the interactive figure holds its study's lowest and highest loss."""
        data_of = re.search(r'id="curves-data">(.*?)</script>', report.page.read_text())[1]
        data = json.loads(data_of)
        assert data["left_out"] == 0
        assert len(data["curves"]) == len(eight)
        by_place = {(r.identity["seed"], r.batch, r.estimator, r.samples): r for r in eight}
        names = {"STE": "ste", "sr-STE": "sr_ste", "tilted STE": "tilted_ste"}
        for curve in data["curves"]:
            record = by_place[curve["seed"], curve["batch"], names[curve["series"]], curve["samples"]]
            assert curve["pre_loss"] == record.pre_loss
            assert len(curve["lr"]) == len(curve["loss"]) > 0
            assert curve["lr"] == sorted(curve["lr"])

    def test_the_csv_says_what_the_page_says(self, report):
        path = next(p for p in report.files if p.name == "verdicts.csv")
        rows = list(csv.DictReader(path.read_text().splitlines()))
        first = rows[0]
        assert (first["first"], first["second"], first["verdict"]) == ("sr-STE", "STE", "better")
        assert (first["networks_won"], first["networks"]) == ("8", "8")
        assert float(first["gain_low"]) <= float(first["gain"]) <= float(first["gain_high"])
        each = [r for r in rows if r["rule"] == "each"]
        assert each
        assert all(float(r["p_corrected"]) >= float(r["p_wilcoxon"]) for r in each)
        told = json.loads((path.parent / "verdicts.json").read_text())
        assert [str(row["gain"]) for row in told["verdicts"]] == [row["gain"] for row in rows]
        assert told["answers"][0]["headline"] in report.page.read_text()

    def test_numbers_are_numbers(self, report):
        """Tidy: what pandas reads as numbers, except for names."""
        names = {"setting", "model", "data", "loss", "pretraining", "sampling", "first", "second",
                 "measure", "rule", "verdict", "estimator", "baseline", "statistic"}  # fmt: skip
        for table in ("verdicts", "gains", "note"):
            frame = pd.read_csv(report.page.with_suffix("") / f"{table}.csv")
            assert len(frame)
            texts = {column for column in frame if frame[column].dtype.kind not in "ifb"}
            assert texts <= names

    def test_written_again_it_is_the_same(self, report, tmp_path_factory, eight):
        folder = tmp_path_factory.mktemp("again")
        stored = written(folder / "records", eight)
        again = page_of(stored, folder / "report.html", Facts("multirun: <b>&"))
        one, other = ({p.name: p for p in r.files} for r in (report, again))
        assert one.keys() == other.keys()
        assert all(one[name].read_bytes() == other[name].read_bytes() for name in one)

    @pytest.mark.parametrize("batches", [1, 2])
    def test_odd_ones_are_reported_too(self, tmp_path, batches):
        few = [study("ste", None, b, 0.4) for b in range(1, batches + 1)]
        few[0] = dataclasses.replace(few[0], best=None, heldout=None, probe=None)
        page_of(written(tmp_path / "r", few), tmp_path / "report.html", Facts("x"))
        words = (
            "all of their trials failed" if batches == 1 else "This describes one network; a test needs"
        )
        assert words in (tmp_path / "report.html").read_text()

    def test_markdown(self):
        assert markdown(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x/y |\n"
