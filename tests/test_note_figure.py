"""The note's figure: what is drawn for each batch, from records made by hand."""

import pytest

from srste.report.conditions import conditions
from srste.report.figures.note import note_figure
from srste.report.figures.style import save
from tests.test_report import study, sweep


class TestFigure:
    def drawn(self, records):
        (condition,) = conditions(records)
        return note_figure(condition)

    def test_a_panel_a_batch_with_all_three_lines(self):
        figure = self.drawn(sweep(batches=3))
        titles = [a.get_title() for a in figure.axes if a.get_title()]
        assert titles == ["batch 1", "batch 2", "batch 3"]
        assert [t.get_text() for t in figure.legends[0].get_texts()] == [
            "STE",
            "sr-STE",
            "zero output",
            "loss before",
        ]
        panel = next(a for a in figure.axes if a.get_xlabel() == "samples N")
        by_label = {line.get_label(): line for line in panel.get_lines()}
        assert list(by_label["sr-STE"].get_xdata()) == [1, 2, 10]
        assert list(by_label["sr-STE"].get_ydata()) == pytest.approx([0.40, 0.39, 0.31])
        assert set(by_label["STE"].get_ydata()) == {0.4}

    def test_the_loss_before_is_drawn_near_or_far(self):
        for pre_loss in (0.42, 5.0):
            records = [
                study("ste", None, 1, 0.4, pre_loss),
                *(study("sr_ste", n, 1, 0.35, pre_loss) for n in (1, 2)),
            ]
            figure = self.drawn(records)
            levels = [
                set(line.get_ydata())
                for a in figure.axes
                for line in a.get_lines()
                if line.get_label() == "loss before"
            ]
            assert {pre_loss} in levels
            assert len(figure.axes) == (2 if pre_loss == 5.0 else 1)

    def test_one_sample_count_is_drawn_against_the_batches(self):
        for pre_loss in (0.42, 5.0):
            losses = {1: 0.41, 2: 0.42, 3: 0.43}
            records = [study("ste", None, b, loss, pre_loss) for b, loss in losses.items()]
            records += [study("sr_ste", 1, b, 0.35, pre_loss) for b in (1, 2, 3)]
            (axes,) = self.drawn(records).axes
            drawn = {line.get_label(): [*line.get_ydata()] for line in axes.get_lines()}
            assert drawn["STE"] == [*losses.values()]
            assert drawn["sr-STE"] == [0.35] * 3
            assert drawn.get("loss before") == (None if pre_loss == 5.0 else [0.42] * 3)
            assert [text.get_text() for text in axes.texts] == (
                ["loss before 5 to 5, above"] if pre_loss == 5.0 else []
            )
            assert axes.get_ylim()[1] < 1

    @pytest.mark.parametrize("post_loss", [None, 0.7, 0.0])
    def test_odd_ones_are_drawn_too(self, tmp_path, post_loss):
        png, svg = save(self.drawn([study("ste", None, 1, post_loss)]), tmp_path / "f")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in svg.read_bytes()
