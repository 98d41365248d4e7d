"""Means over networks of the loss and the gain over the baseline, against the number of samples."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srste.analysis.statistics.bootstrap import mean_interval
from srste.analysis.statistics.panel import Array, Panel, network_means
from srste.report import palette
from srste.report.figures import style
from srste.report.formatting import loss_words
from srste.report.panels import Setting, drawn, measures, panel

MOST_DRAWN = 10
"""Of more estimators some are drawn."""


def networks_figure(setting: Setting) -> Figure:
    """Draw how much lower the loss after the best step is than the baseline's on the same batch, and
    held out; below, the mean loss itself. Both with 95 % intervals over networks."""
    shown = [measure for measure in measures(setting) if measure.panel]
    baselines = setting.baselines
    rows = 2 if baselines else 1
    figure = Figure(figsize=(4.7 * len(shown) + 0.2, 3.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, len(shown), squeeze=False)
    best = _best(panel(setting), baselines)
    for column, measure in enumerate(shown):
        losses = _only(panel(setting, measure), best)
        _draw_losses(axes[-1][column], losses)
        axes[0][column].set_title(measure.panel)
        if baselines:
            _draw_gains(axes[0][column], losses, baselines)
        axes[-1][column].set_xlabel("samples N")
    axes[-1][0].set_ylabel(loss_words(next(iter(setting.networks.values())).common))
    if baselines:
        names = ", ".join(dict.fromkeys(baselines.values()))
        axes[0][0].set_ylabel(f"gain over {names}\n(> 0: lower loss)")
    style.shared_legend(figure, axes.flat)
    count = len(setting.networks)
    networks = f"{count} network{'s' if count > 1 else ''}"
    title = f"Mean over {networks}" + (", 95 % intervals over networks" if count > 2 else "")
    if len(best) < (number := len({column.series for column in setting.columns})):
        title += f"; {len(best)} of {number} estimators"
    style.set_title(figure, title, setting.label)
    return figure


def _best(losses: Panel, baselines: Mapping[str, str]) -> list[str]:
    """Return the estimators that are drawn: all, or of many the baselines and those with the lowest loss
    at their largest number of samples."""
    if len(losses.series) <= MOST_DRAWN:
        return list(losses.series)
    at_most = {name: _mean(series.at(series.samples[-1])) for name, series in losses.series.items()}
    needed = [name for name in losses.series if name in baselines.values()]
    others = sorted((name for name in losses.series if name not in needed), key=lambda n: at_most[n])
    with_samples = [name for name in others if name in drawn(losses)][: MOST_DRAWN // 2]
    without = [name for name in others if name not in drawn(losses)]
    return needed + with_samples + without[: MOST_DRAWN - len(needed) - len(with_samples)]


def _only(losses: Panel, names: Sequence[str]) -> Panel:
    series = {name: of for name, of in losses.series.items() if name in names}
    return Panel(losses.before, losses.zero, series)


def _draw_losses(axes: Axes, losses: Panel) -> None:
    names = drawn(losses)
    look = palette.looks(names, [name for name in losses.series if name not in names])
    shown: list[float] = []
    for name, series in losses.series.items():
        if name in names:
            shown += _draw(axes, losses, name, series.losses, look[name])
        else:
            shown.append(_mean(series.at(None)))
            axes.axhline(shown[-1], lw=1.4, **style.line(name, look[name]))
    shown.append(_mean(losses.before))
    style.level(axes, shown[-1], style.BEFORE)
    style.level_or_words(axes, shown, _mean(losses.zero), style.ZERO)
    style.sample_axes(axes)


def _draw_gains(axes: Axes, losses: Panel, baselines: Mapping[str, str]) -> None:
    names = drawn(losses)
    look = palette.looks(names, [])
    shown = [0.0]
    for name in (name for name in names if name in baselines):
        gains = losses.series[baselines[name]].losses - losses.series[name].losses
        shown += _draw(axes, losses, name, gains, look[name])
    axes.axhline(0, color=palette.BLACK, ls="--", lw=1.2)
    if len(several := set(baselines.values())) == 1:
        gain = _mean(losses.series[several.pop()].at(None) - losses.zero)
        style.level_or_words(axes, shown, gain, style.ZERO)
    style.sample_axes(axes)


def _draw(axes: Axes, losses: Panel, name: str, values: Array, look: palette.Look) -> list[float]:
    """Draw the means of an estimator's (networks, batches, sample counts) values with their
    intervals and return them."""
    by_network = [network_means(values[:, :, i]) for i in range(values.shape[2])]
    means = np.array([one.mean() if one.size else np.nan for one in by_network])
    ends = np.array([mean_interval(one) for one in by_network])
    names = drawn(losses)
    shift = names.index(name) - (len(names) - 1) / 2  # the bars of several do not hide each other
    width = min(0.12, 0.5 / len(names))
    places = np.array(losses.series[name].samples, dtype=float) + width * shift
    axes.errorbar(
        places, means, yerr=np.abs(np.nan_to_num(ends.T - means)),
        marker=look.marker, ms=4, lw=1.3, elinewidth=1, capsize=2, **style.line(name, look),
    )  # fmt: skip
    return [float(mean) for mean in means]


def _mean(values: Array) -> float:
    means = network_means(values)
    return float(means.mean()) if means.size else float("nan")
