"""The league: a critical-difference diagram, and performance profiles."""

import warnings

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from srste.report import palette
from srste.report.figures import style
from srste.report.league import League, profile

_SHOWN = 8
"""Of more entrants the others are grey."""


def ranks_figure(league: League) -> Figure | None:
    """Draw the mean ranks of the entrants over networks, with a bar over those that the Nemenyi test
    after Friedman's does not tell apart at 5 %; None where there are too few networks.

    References: Demsar (2006), "Statistical comparisons of classifiers over multiple data sets".
    """
    losses, entrants = league.complete
    if not league.decides or len(entrants) < 3:
        return None
    import scikit_posthocs  # by way of seaborn, a second to import

    names = [one.name for one in entrants]
    table = pd.DataFrame(losses, columns=names)
    figure = Figure(figsize=(9.6, 1.6 + 0.16 * len(names)), layout="constrained")
    axes = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas and SciPy, within the library
        told_apart = scikit_posthocs.posthoc_nemenyi_friedman(table)
        told_apart.index = told_apart.columns = names
        scikit_posthocs.critical_difference_diagram(
            table.rank(axis=1).mean(), told_apart, ax=axes,
            label_fmt_left="{label} ({rank:.1f})", label_fmt_right="({rank:.1f}) {label}",
            label_props={"fontsize": "x-small"}, elbow_props={"linewidth": 0.7},
            color_palette=dict.fromkeys(names, palette.BLACK),
        )  # fmt: skip
    style.set_title(
        figure, f"Mean rank over {len(losses)} networks, 1 is best; bars join what does not differ",
        _label(league),
    )  # fmt: skip
    return figure


def profile_figure(league: League) -> Figure:
    """Draw on which part of the batches each entrant has at least a fraction of the largest decrease of
    the loss that any of them has there."""
    fractions = np.linspace(0, 1, 201)
    profiles = profile(league, fractions)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    named = [one.name for one in league.entrants if not one.control][:_SHOWN]
    if not any(name.startswith(league.baseline) for name in named):
        named.append(next(one.name for one in league.entrants if one.series == league.baseline))
    looks = palette.looks([n for n in named if n != league.baseline], [league.baseline])
    for name, part in profiles.items():
        if name not in named:
            axes.plot(fractions, part, color="#bbbbbb", lw=0.8, zorder=1)
    for name in named:
        axes.plot(fractions, profiles[name], lw=1.6, zorder=2, **style.line(name, looks[name]))
    if len(named) < len(profiles):
        axes.plot([], [], color="#bbbbbb", lw=0.8, label=f"{len(profiles) - len(named)} others")
    axes.set_xlabel("fraction of the largest decrease of the loss")
    axes.set_ylabel("part of the batches with at least that")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.set_title(figure, "Performance profiles", _label(league))
    return figure


def _label(league: League) -> str:
    return ", ".join(filter(None, (league.setting, league.title)))
