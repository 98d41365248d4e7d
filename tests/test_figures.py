"""Nothing of a figure is cut off at its edges: titles and legends are measured as they are drawn."""

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from srste.analysis.alarms import BestStep
from srste.report.conditions import conditions
from srste.report.figures.drift import drift_figure
from srste.report.figures.networks import networks_figure
from srste.report.figures.note import note_figure
from srste.report.figures.scatter import angle_figure, heldout_figure
from srste.report.panels import settings
from tests.records_by_hand import network


def with_long_names(records):
    """The same with two more estimators, of long names."""
    more = []
    for record in records:
        if record.estimator == "tilted_ste":
            for name in ("an_estimator_of_a_very_long_name", "another_estimator_of_a_long_name"):
                identity = record.identity | {"estimator": {"name": name, "_target_": "x.Z"}}
                key = f"{name} {record.key}"
                more.append(dataclasses.replace(record, identity=identity, key=key, group=f"{key} g"))
    return [*records, *more]


@pytest.fixture(scope="module")
def setting():
    generator = np.random.default_rng(3)
    records = [r for seed in range(3) for r in network(seed, generator)]
    (one,) = settings(conditions(with_long_names(records)))
    label = "pretraining=adam loss=cross_entropy model=residual sampling.lr_max=0.25"
    return dataclasses.replace(one, label=label)


def drift(setting):
    steps = [BestStep(1, "sr-STE", n, 0.7, 0.2, 0.4, None, (1e-4, 0.7 - 1e-5 * n)) for n in range(1, 11)]
    return drift_figure({"sr-STE": steps}, setting.label)


@pytest.mark.parametrize(
    "draw",
    [
        networks_figure,
        heldout_figure,
        angle_figure,
        lambda setting: note_figure(setting.networks[0]),
        drift,
    ],
    ids=["networks", "heldout", "angle", "note", "drift"],
)
def test_titles_and_legends_are_within_the_figure(setting, draw):
    figure = draw(setting)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    edges = figure.bbox
    titles = [figure._suptitle, *(axes.title for axes in figure.axes)]
    labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
    for artist in [*(t for t in titles if t is not None), *labels, *figure.legends]:
        box = artist.get_window_extent(canvas.get_renderer())
        words = artist.get_text() if hasattr(artist, "get_text") else "the legend"
        assert edges.x0 <= box.x0 and box.x1 <= edges.x1, words
        assert edges.y0 <= box.y0 and box.y1 <= edges.y1, words
    assert all(text.get_text() for legend in figure.legends for text in legend.get_texts())
