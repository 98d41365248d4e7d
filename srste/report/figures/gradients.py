"""Estimated gradients against the true ones: by the number of samples, and by depth."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from srste.report import palette
from srste.report.figures import style
from srste.report.gradients import GradientRow, at_most_samples, layers_of

MOST_LAYERS = 5
"""Of more layers the first and the last ones are drawn."""
_LEAST = 0.01
"""Errors below are not told apart: an estimate of the last layer is often exact."""
MOST_DRAWN = 10
"""Of more estimators those are drawn whose gradient is nearest to the truth."""


def gradients_figure(rows: Sequence[GradientRow], label: str) -> Figure:
    """Draw the cosine to the truth with the band from its 15 to its 85 % quantile, and the relative
    error, of all parameters and of each layer. label: of the setting."""
    layers = ["", *_shown(layers_of(rows))]
    series = _nearest(rows)
    figure = Figure(figsize=(2.9 * len(layers) + 0.8, 6.2), layout="constrained")
    axes = figure.subplots(2, len(layers), squeeze=False, sharex=True, sharey="row")
    drawn = [s for s in series if any(r.samples is not None for r in rows if r.series == s)]
    looks = palette.looks(drawn, [s for s in series if s not in drawn])
    counts = sorted({row.samples for row in rows if row.samples is not None})
    for place, layer in enumerate(layers):
        of_layer = [row for row in rows if row.layer == layer and row.series in series]
        axes[0][place].set_title(f"layer {layer}" if layer else "all parameters")
        _draw(axes[0][place], of_layer, "cosine", looks)
        _draw(axes[1][place], of_layer, "relative_error", looks)
        axes[1][place].set_yscale("log")
        axes[1][place].set_xlabel("samples N" if counts else "")
        _count_axis(axes[0][place], counts)
    errors = [row.numbers["relative_error"] for row in rows if row.series in series]
    shown = [error for error in errors if error >= _LEAST] or [1.0]
    axes[1][0].set_ylim(0.8 * min(shown), 1.25 * max(shown))
    axes[0][0].set_ylabel("cosine to the true gradient")
    axes[1][0].set_ylabel("relative error")
    style.shared_legend(figure, axes.flat)
    style.set_title(figure, "Estimated gradients against the true ones; bands: 15 to 85 %", label)
    return figure


_BY_DEPTH = {
    "norm": "length of the gradient",
    "signal_to_noise": "signal to noise",
    "flip_ratio": "fraction of the signs flipped",
}


_TRUTHS = ("-", ":", "--", "-.")


def depth_figure(rows: Sequence[GradientRow], label: str) -> Figure | None:
    """Draw by layer, at each estimator's largest number of samples, how long its gradient is, its signal
    to noise, and which fraction of the signs its best step flips; None for a single layer."""
    layers = layers_of(rows)
    if len(layers) < 2:
        return None
    series = _nearest(rows)
    at_most = [row for row in at_most_samples(rows) if row.series in series]
    drawn = [row.series for row in at_most if row.samples is not None and not row.layer]
    looks = palette.looks(drawn, [s for s in series if s not in drawn])
    figure = Figure(figsize=(12.2, 3.9), layout="constrained")
    axes = figure.subplots(1, len(_BY_DEPTH), squeeze=False)[0]
    places = range(len(layers))
    for panel, (quantity, words) in zip(axes, _BY_DEPTH.items(), strict=True):
        if quantity == "norm":
            for truth, dashes in zip(dict.fromkeys(row.truth for row in at_most), _TRUTHS, strict=False):
                true = {row.layer: row.numbers["true_norm"] for row in at_most if row.truth == truth}
                lengths = [true[name] for name in layers]
                panel.plot(places, lengths, color=style.GREY, lw=3, ls=dashes, label=truth)
        for name, look in looks.items():
            values = {row.layer: row.numbers[quantity] for row in at_most if row.series == name}
            shown = [values[layer] for layer in layers]
            panel.plot(places, shown, marker=look.marker, ms=4, lw=1.3, **style.line(name, look))
        panel.set(title=words, xlabel="layer")
        panel.set_xticks(places, layers)
        panel.grid(alpha=0.25)
        if quantity != "flip_ratio":
            panel.set_yscale("log")
    style.shared_legend(figure, axes)
    style.set_title(figure, "Gradients by depth, at each estimator's largest N", label)
    return figure


def _shown(layers: list[str]) -> list[str]:
    if len(layers) <= MOST_LAYERS:
        return layers
    return layers[: MOST_LAYERS - 2] + layers[-2:]


def _nearest(rows: Sequence[GradientRow]) -> list[str]:
    """Return the estimators that are drawn: all, or those of the largest cosines."""
    names = list(dict.fromkeys(row.series for row in rows))
    if len(names) <= MOST_DRAWN:
        return names
    last = {row.series: row.numbers["cosine"] for row in rows if not row.layer}
    nearest = sorted(names, key=lambda name: -last[name])[:MOST_DRAWN]
    return [name for name in names if name in nearest]


def _draw(
    axes: Axes, rows: Sequence[GradientRow], quantity: str, looks: dict[str, palette.Look]
) -> None:
    for name, look in looks.items():
        of_series = [row for row in rows if row.series == name]
        values = [row.numbers[quantity] for row in of_series]
        if [row.samples for row in of_series] == [None]:
            axes.axhline(values[0], lw=1.4, **style.line(name, look))
            continue
        counts = [row.samples or 1 for row in of_series]
        axes.plot(counts, values, marker=look.marker, ms=4, lw=1.3, **style.line(name, look))
        if quantity == "cosine":
            low, high = ([row.numbers[f"cosine_{end}"] for row in of_series] for end in ("low", "high"))
            axes.fill_between(counts, low, high, color=look.colour, alpha=0.18, lw=0)
    if quantity == "cosine":
        axes.axhline(0, color=style.GREY, lw=0.8)
    axes.grid(alpha=0.25)


def _count_axis(axes: Axes, counts: list[int]) -> None:
    """A logarithmic axis whose ticks are numbers of samples that there are."""
    if not counts:
        axes.set_xticks([])
        return
    axes.set_xscale("log")
    shown = counts if len(counts) <= 4 else [c for c in counts if c in (1, 2, 5, 10, 20, 50, 100, 1000)]
    axes.xaxis.set_major_locator(FixedLocator(shown or [counts[0], counts[-1]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
