"""The table, the figures, the note's log and the CSV, from records made by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pytest
from rich.console import Console

from srste.curve import Interval
from srste.note2021.log import note_line, write_note_log
from srste.report.chapters import chapters
from srste.report.conditions import Column, conditions
from srste.report.description import description
from srste.report.launch_files import write_files
from srste.report.legend import caveat
from srste.report.table import csv_table, text_table
from srste.report.terminal import print_answers
from srste.store.records import Baseline
from srste.study.certificate import Certificate
from srste.study.results import Best
from tests.test_records import record


def study(name, samples, batch, post_loss, pre_loss=0.7, lr=0.25, **identity):
    whole = {
        "seed": 0,
        "model": {"name": "mlp", "_target_": "x.M"},
        "loss": {"name": "squared_error", "_target_": "x.L"},
        "pretraining": {"name": "none", "_target_": "x.None_"},
        "sampling": {"name": "grid", "_target_": "x.Grid", "step": 1e-5, "lr_max": 0.5},
        "estimator": {"name": name, "_target_": "x.Y"},
        "samples": samples,
        "batch": batch,
    }
    best = None if post_loss is None else Best(9, lr, 1e-5, 0.5, post_loss, pre_loss, post_loss, True, 0)
    key = repr((name, samples, batch, sorted(identity.items(), key=str)))
    group = repr((name, samples, sorted(identity.items(), key=str)))
    return record(b"", key=key, group=group, identity=whole | identity, pre_loss=pre_loss, best=best)


def exact(loss, fall, regret=0.0, intervals=1):
    """A certificate of a curve that is lowered in ``fall`` only, from 0.7; None: nowhere."""
    if fall is None:
        return Certificate(5e-324, loss, False, 0.0, regret, None, 0, 0.0, None, None, None)
    length = fall.hi - fall.lo
    share = regret / (0.7 - loss)
    return Certificate(fall.lo, loss, True, 0.0, regret, share, intervals, length, fall, fall, fall)


def certified(record, certificate):
    return dataclasses.replace(record, certificate=certificate)


def sweep(batches=2, **identity):
    found = []
    for batch in range(1, batches + 1):
        found.append(study("ste", None, batch, 0.4, **identity))
        found += [study("sr_ste", n, batch, 0.41 - 0.01 * n * batch, **identity) for n in (1, 2, 10)]
    return found


class TestConditions:
    def test_columns_are_ordered_by_samples_and_not_by_text(self):
        (condition,) = conditions(reversed(sweep()))
        assert [c.title for c in condition.columns] == ["STE", "sr-STE N=1", "sr-STE N=2", "sr-STE N=10"]
        assert condition.batches == [1, 2]
        assert condition.label == ""

    def test_problems_are_kept_apart_and_named_by_what_differs(self):
        adam = {"name": "adam", "_target_": "x.Adam", "steps": 500}
        found = conditions(sweep() + sweep(pretraining=adam))
        assert [c.label for c in found] == ["pretraining=none", "pretraining=adam"]
        seeds = conditions([r for s in (10, 2, 1) for r in sweep(seed=s)])
        assert [c.label for c in seeds] == ["seed=1", "seed=2", "seed=10"]

    def test_variants_of_an_estimator_are_columns_of_their_own(self):
        tanh = {"name": "ste", "_target_": "x.Y", "surrogate": {"_target_": "x.Tanh", "beta": 1}}
        clip = {"name": "ste", "_target_": "x.Y", "surrogate": {"_target_": "x.Clipped", "c": 1}}
        (condition,) = conditions(
            [study("ste", None, 1, 0.3, estimator=tanh), study("ste", None, 1, 0.2, estimator=clip)]
        )
        assert {c.title for c in condition.columns} == {"STE Clipped", "STE Tanh"}

    def test_winners(self):
        (condition,) = conditions(sweep())
        assert condition.winners(1) == [Column("sr_ste", "", 10)]
        (tie,) = conditions([study("ste", None, 1, 0.4), study("sr_ste", 1, 1, 0.4)])
        assert len(tie.winners(1)) == 2
        (failed,) = conditions([study("ste", None, 1, None)])
        assert failed.winners(1) == []


class TestTable:
    def test_every_figure_the_winner_and_the_means(self):
        (condition,) = conditions(sweep())
        lines = [line.split() for line in text_table(condition).splitlines()]
        assert lines[0] == ["Loss", "after", "the", "best", "step"]
        assert lines[2:4] == [
            ["zero", "sr-STE"],
            ["batch", "before", "output", "STE", "N=1", "N=2", "N=10", "wins"],
        ]
        assert lines[5] == [
            "1",
            "0.7000",
            "0.3800",
            "0.4000",
            "0.4000",
            "0.3900",
            "0.3100",
            "sr-STE",
            "N=10",
        ]
        assert lines[6] == [
            "2",
            "0.7000",
            "0.3800",
            "0.4000",
            "0.3900",
            "0.3700",
            "0.2100",
            "sr-STE",
            "N=10",
        ]
        assert lines[8][:7] == ["mean", "0.7000", "0.3800", "0.4000", "0.3950", "0.3800", "0.2600"]
        assert " ".join(lines[8][7:]) == "sr-STE 2 of 2"

    def test_a_tie_a_failure_and_a_gap(self):
        records = [study("ste", None, 1, 0.4), study("sr_ste", 1, 1, 0.4), study("ste", None, 2, None)]
        text = text_table(*conditions(records))
        assert re.search(r"1 +0\.7000 +0\.3800 +0\.4000 +0\.4000 +tie of 2", text)
        assert re.search(r"2 +0\.7000 +0\.3800 +failed +- +-", text)
        assert re.search(r"mean +0\.7000 +0\.3800 +- +-", text)

    def test_small_differences_get_more_decimals(self):
        small = [study("ste", None, 1, 0.26995, 0.27), study("sr_ste", 1, 1, 0.26994, 0.27)]
        assert "0.2699500" in text_table(*conditions(small))

    def test_the_end_of_the_range_is_marked_and_explained(self):
        arranged = conditions([study("ste", None, 1, 0.5), study("sr_ste", 1, 1, 0.4, lr=0.5)])
        assert "0.4000^" in text_table(*arranged)
        assert "^ the best learning rate is the largest tried: a larger sampling.lr_max" in caveat(
            arranged
        )
        assert not re.search(r"^[*!]", caveat(arranged), re.M)

    def test_what_was_tried_falls_nowhere_and_what_is_known_of_the_rest(self):
        """Both meanings of it in one table, and in the next the loss curve that is not exact."""
        fall = Interval(1.2e-07, 8.9e-06, 0.69)
        arranged = conditions(
            [
                certified(study("ste", None, 1, 0.7), exact(0.7, None)),
                certified(study("sr_ste", 1, 1, 0.71), exact(0.69, fall, 0.02, intervals=2)),
                certified(study("sr_ste", 2, 1, 0.71), exact(0.69, Interval(0.25, 0.25, 0.69), 0.02)),
                study("sr_ste", 5, 1, 0.4),
            ]
        )
        text, legend = text_table(*arranged), caveat(arranged)
        assert re.search(r"0\.7000! +0\.7100\* +0\.7100\* +0\.4000 ", text)
        assert "! no learning rate in (0, 0.5] lowers the loss: certified." in legend
        assert (
            "* no learning rate that was tried lowers the loss, but others do: from 1.2e-07 to 8.9e-06, "
            "the widest of 2 ranges (batch 1, sr-STE N=1); only at 0.25 (batch 1, sr-STE N=2)."
        ) in legend
        assert "Where any learning rate lowers the loss, the best of every search is within" in legend

        unknown = [dataclasses.replace(study("ste", None, 1, 0.7), certificate=None, not_exact="why")]
        arranged = conditions(unknown)
        assert "0.7000*" in text_table(*arranged)
        assert "* no learning rate that was tried lowers the loss." in caveat(arranged)
        assert "evaluated by forward passes" in caveat(arranged)
        assert "It has no exact form: why." in caveat(arranged)
        assert "exact minimum" not in caveat(arranged)

    def test_in_a_summary_which_has_no_marks_they_are_counted(self):
        studies = [r for s in range(4) for r in sweep(seed=s)]
        every = [certified(r, exact(0.7, None)) if r.samples == 1 else r for r in studies]
        every[4] = certified(study("ste", None, 2, 0.75, seed=0), exact(0.6, Interval(0.0, 1e-3, 0.6)))
        lines = caveat(conditions(every), marked=False)
        text = " ".join(lines.split())
        assert "In 8 of 32 studies no learning rate in (0, 0.5] lowers the loss: certified." in text
        assert "In 1 of 32 studies no learning rate that was tried" in text
        assert "from 0 to 0.001 (seed=0 batch 2, STE)" in text
        assert not re.search(r"^[*!]", lines, re.M)

    @pytest.mark.parametrize(
        ("regret", "words"),
        [
            (0.0, "is the exact minimum over all learning rates."),
            (3.01e-7, "3.1e-07 of the exact minimum over all learning rates, at most 0.00031 % of"),
            (0.0204, "at most 21 % of the decrease that can be had (batch 1, STE)."),
            (0.4, "at worst misses all of the decrease that can be had (batch 1, STE)."),
        ],
    )
    def test_how_far_from_the_exact_minimum(self, regret, words):
        """The worst of them counts; 0.1 can be had."""
        near = certified(study("sr_ste", 1, 1, 0.6), exact(0.6, Interval(0.0, 0.3, 0.6)))
        far = certified(study("ste", None, 1, 0.6 + regret), exact(0.6, Interval(0.0, 0.3, 0.6), regret))
        assert words in caveat(conditions([near, far]))

    def test_the_text_of_a_launch_is_no_markdown(self):
        named = [study("ste", None, 1, 0.4), study("*a|b_[x]", 1, 1, 0.3)]
        text = description(chapters(conditions(named)), "", "#")
        assert "\\*a\\|b\\_\\[x\\]" in text

    def test_a_description_fits_mlflow(self):
        many = [
            r for seed in range(3) for s in range(40) for r in sweep(seed=seed, data={"name": f"d{s}"})
        ]
        text = description(chapters(conditions(many)), "#report", "#charts")
        assert len(text) < 8_000
        assert text.startswith("[Report: statistics, figures, curves](#report)")


def compared(records):
    """The same, with what draws nothing on their batch as their baseline."""
    fixed = {(r.identity["seed"], repr(r.common), r.batch): r for r in records if r.samples is None}
    results = []
    for one in records:
        of = fixed[one.identity["seed"], repr(one.common), one.batch]
        baseline = Baseline(of.key, of.estimator, of.best.lr, of.best.post_loss)
        results.append(one if one is of else dataclasses.replace(one, baseline=baseline))
    return results


def answers(records, width=80):
    """What a terminal of that width shows."""
    buffer = io.StringIO()
    screen = Console(file=buffer, width=width, markup=False, highlight=False, emoji=False)
    print_answers(chapters(conditions(compared(records))), screen)
    return buffer.getvalue()


class TestTerminal:
    def test_n_is_down_the_rows_and_the_means_are_those_of_the_studies(self):
        text = answers(sweep())
        rows = [line.split() for line in text.splitlines()]
        assert ["STE", "5", "0.40000"] in rows
        assert ["sr-STE", "1", "5", "0.39500", "+0.005", "2/2"] in [row[:6] for row in rows]
        assert ["10", "5", "0.26000", "+0.14", "2/2"] in [row[:5] for row in rows]
        assert "lower by 0.14 than after STE's at N = 10" in " ".join(text.split())

    @pytest.mark.parametrize("seeds", [1, 8])
    def test_no_line_is_wider_than_eighty_columns(self, seeds):
        records = [r for seed in range(seeds) for r in sweep(seed=seed)]
        records += [study("tilted_ste", n, b, 0.4, seed=s) for n in (1, 2, 10) for b in (1, 2)
                    for s in range(seeds)]  # fmt: skip
        assert max(map(len, answers(records).splitlines())) <= 80

    def test_of_many_settings_each_has_its_answer_in_a_sentence(self):
        records = [
            r
            for s in ("none", "adam", "sgd", "sam")
            for r in sweep(pretraining={"name": s, "_target_": "x"})
        ]
        text = answers(records, 200)
        assert text.count("lower by 0.14 than after STE's at N = 10") == 4
        assert "estimator" not in text


class TestFiles:
    def test_csv_has_full_precision_and_the_note_s_columns(self):
        text = csv_table(conditions(sweep()))
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 8
        note = ["condition", "batch", "estimator", "samples", "pre_loss", "lr", "post_loss"]
        assert list(rows[0])[:7] == note
        settings = {key: rows[0][key] for key in ("seed", "model", "loss", "pretraining", "sampling")}
        assert list(settings.values()) == ["0", "mlp", "squared_error", "none", "grid"]
        assert float(rows[0]["heldout_post_loss"]) == 0.29
        assert rows[0]["samples"] == ""
        assert float(rows[2]["post_loss"]) == 0.41 - 0.01 * 2

    def test_csv_ends_with_the_certificate_or_with_nothing(self):
        fall = Interval(1.2e-07, 0.25, 0.65)
        found = [
            certified(study("sr_ste", 1, 1, 0.66), exact(0.65, fall, 0.01)),
            certified(study("sr_ste", 2, 1, 0.8), exact(0.7, None, 0.1)),
            dataclasses.replace(study("sr_ste", 3, 1, 0.6), certificate=None, not_exact="x"),
        ]
        one, none, unknown = csv.DictReader(io.StringIO(csv_table(conditions(found))))
        names = [
            "exact_lr", "exact_loss", "attained", "exact_error", "regret", "regret_fraction",
            "descent_intervals",
            "descent_total", *(f"descent_{s}_{e}" for s in ("first", "smallest", "largest")
                               for e in ("lo", "hi")),
        ]  # fmt: skip
        assert list(one)[-14:] == names
        ends = [repr(end) for _ in range(3) for end in (fall.lo, fall.hi)]
        length, share = repr(fall.hi - fall.lo), repr(0.01 / (0.7 - 0.65))
        assert [one[n] for n in names] == [
            "1.2e-07",
            "0.65",
            "1",
            "0.0",
            "0.01",
            share,
            "1",
            length,
            *ends,
        ]
        assert [none[n] for n in names] == [
            "5e-324",
            "0.7",
            "0",
            "0.0",
            "0.1",
            "",
            "0",
            "0.0",
            *[""] * 6,
        ]
        assert {unknown[n] for n in names} == {""}


class TestNoteLog:
    def test_lines_are_the_note_s(self):
        assert note_line(study("ste", None, 1, 0.397872775, 0.714401245, 0.2647)) == (
            "[STE]Original loss is 0.714401245, and when lr is 0.2647, the best STE-loss is 0.397872775."
        )
        assert note_line(study("sr_ste", 3, 1, 0.38, 0.71, 0.2886)) == (
            "[stochastic STE]Original loss is 0.71, and when samples is 3 and lr is 0.2886, "
            "the best STE-loss is 0.38."
        )
        assert note_line(study("ste", None, 1, None)) is None

    def test_order_is_by_batch_then_ste_then_samples(self, tmp_path):
        write_note_log(reversed(sweep()), tmp_path / "log")
        lines = (tmp_path / "log").read_text().splitlines()
        heads = [re.findall(r"^\[(.*?)\]|samples is (\d+)", line) for line in lines]
        assert [h[0][0] for h in heads] == (["STE"] + ["stochastic STE"] * 3) * 2
        assert [h[1][1] for h in heads if len(h) > 1] == ["1", "2", "10"] * 2

    def test_variants_are_named(self, tmp_path):
        tanh = {"name": "ste", "surrogate": {"_target_": "x.Tanh", "beta": 1}}
        clip = {"name": "ste", "surrogate": {"_target_": "x.Clipped", "c": 1}}
        arranged = conditions(
            [study("ste", None, 1, 0.3, estimator=tanh), study("ste", None, 1, 0.2, estimator=clip)]
        )
        write_files(arranged, tmp_path)
        lines = (tmp_path / "note.log").read_text().splitlines()
        assert sorted(line.split("]")[0] for line in lines) == ["[STE Clipped", "[STE Tanh"]
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "figure.png", "figure.svg", "note.log", "results.csv", "table.txt",
        ]  # fmt: skip

    def test_of_many_conditions_the_first_get_a_figure(self, tmp_path, monkeypatch):
        monkeypatch.setattr("srste.report.launch_files.FIGURES_DRAWN", 2)
        write_files(conditions([r for seed in range(3) for r in sweep(seed=seed)]), tmp_path)
        drawn = sorted(p.name for p in tmp_path.glob("*.png"))
        assert drawn == ["figure_seed=0.png", "figure_seed=1.png"]
        assert len(list(tmp_path.glob("table*.txt"))) == 3
