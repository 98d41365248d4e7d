"""Over networks: the mean loss and the mean gain over the baseline against the number of samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from srste.report.figures.style import BEFORE, ZERO, level, level_or_words, looks, shared_legend
from srste.report.panels import BATCH, HELDOUT, Setting, drawn, panel
from srste.statistics.bootstrap import mean_interval
from srste.statistics.panel import Array, Panel, Series


def networks_figure(setting: Setting) -> Figure:
    """Above: the mean loss after the best step, on the batch and held out. Below: how much lower that
    is than the baseline's on the same batch, with 95 % intervals over networks."""
    measures = [BATCH, HELDOUT]
    baseline = setting.baseline
    rows = 2 if baseline else 1
    figure = Figure(figsize=(9.6, 3.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, len(measures), squeeze=False)
    for column, measure in enumerate(measures):
        of = panel(setting, measure)
        top = axes[0][column]
        _draw_losses(top, of)
        top.set_title(f"on the {measure.short} data" if measure is HELDOUT else "on the batch")
        if baseline:
            _draw_gains(axes[1][column], of, baseline)
        axes[-1][column].set_xlabel("samples N")
    axes[0][0].set_ylabel("mean squared error")
    if baseline:
        axes[1][0].set_ylabel(f"gain over {baseline}\n(> 0: lower loss)")
    shared_legend(figure, axes.flat)
    count = len(setting.networks)
    networks = f"{count} network{'s' if count > 1 else ''}"
    title = f"Mean over {networks} and their batches, 95 % intervals over networks"
    figure.suptitle(f"{title}\n({setting.label})" if setting.label else title)
    return figure


def _draw_losses(axes: Axes, of: Panel) -> None:
    look = looks(drawn(of), [name for name in of.series if name not in drawn(of)])
    shown: list[float] = []
    for name, series in of.series.items():
        style = look[name]
        means = [_mean(series.losses[:, :, i]) for i in range(len(series.samples))]
        shown += means
        if series.samples == (None,):
            axes.axhline(means[0], color=style.colour, ls=style.line, lw=1.4, label=name)
        else:
            axes.plot(
                _counts(series), means, color=style.colour, marker=style.marker, ls=style.line,
                ms=4, lw=1.4, label=name,
            )  # fmt: skip
    shown += [_mean(of.before)]
    level(axes, shown[-1], BEFORE)
    level_or_words(axes, shown, _mean(of.zero), ZERO)
    _finish(axes)


def _draw_gains(axes: Axes, of: Panel, baseline: str) -> None:
    names = drawn(of)
    look = looks(names, [name for name in of.series if name not in names])
    against = of.series[baseline].at(None)
    for shift, name in enumerate(names):
        series, style = of.series[name], look[name]
        gains = [_by_network(against - series.losses[:, :, i]) for i in range(len(series.samples))]
        means = np.array([g.mean() if g.size else np.nan for g in gains])
        ends = np.array([mean_interval(g) for g in gains])
        # Side by side, or the bars of several estimators hide each other.
        x = np.array(_counts(series)) + 0.12 * (shift - (len(names) - 1) / 2)
        bars = np.abs(np.nan_to_num(ends.T - means))
        axes.errorbar(
            x, means, yerr=bars, color=style.colour, marker=style.marker, ls=style.line, ms=4, lw=1.2,
            elinewidth=1, capsize=2,
        )  # fmt: skip
    axes.axhline(0, color=look[baseline].colour, ls=look[baseline].line, lw=1.2)
    _finish(axes)


def _counts(series: Series) -> list[int]:
    return [n for n in series.samples if n is not None]


def _by_network(values: Array) -> Array:
    """(networks,) the means over batches of those that have any."""
    some = values[~np.isnan(values).all(axis=1)]
    means: Array = np.nanmean(some, axis=1) if some.size else np.empty(0)
    return means


def _mean(values: Array) -> float:
    means = _by_network(values)
    return float(means.mean()) if means.size else float("nan")


def _finish(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.25)
