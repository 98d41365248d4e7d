"""The pages that are made from the configuration and the code, not written by hand.

    python docs/generate.py

writes choices.md, estimators.md and the plots in images/estimators/. tests/test_site.py holds both pages
to what this would write.
"""

import csv
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from docstrings import EQUATIONS, part, sentence
from hydra import compose, initialize_config_dir
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from srste.estimators import Cost, cost_of
from srste.launch.choices import part as choice
from srste.launch.choices_help import first_sentence
from srste.networks.draws import Draw, DrawSurrogate
from srste.networks.models.mlp import MLP
from srste.networks.rounding import Sign, StochasticUnits, sign
from srste.networks.surrogates import GradientSurrogate, matched_units
from srste.networks.units import Logistic
from srste.randomness import stream
from srste.report.conditions import Column
from srste.report.figures.style import same_everywhere

DOCS = Path(__file__).resolve().parent
CONF = DOCS.parent / "conf"
IMAGES = DOCS / "images" / "estimators"
WRITTEN = (
    "<!-- Written by `python docs/generate.py`; edit that, the configuration or the docstrings. -->"
)

# Choices


def choices_page() -> str:
    """Return choices.md: every key of config.yaml, and every choice of every group with its keys."""
    keys = "\n".join(f"| `{key}` | `{value}` | {words} |" for key, value, words in _top_level())
    groups = "\n\n".join(_group(folder) for folder in _groups())
    return f"""{WRITTEN}

# Choices

`group=choice` selects, `group.key=value` sets a key, and `-m` sweeps either: `estimator=ste,sr_ste`,
`sampling.step=1e-4,1e-5`. A choice within a group is made with a slash, `estimator/surrogate=tanh`, and
its keys are set with dots, `estimator.surrogate.beta=2`. `python train.py --help` says the same in a
terminal.

## Keys at the top

| key | default | meaning |
|---|---|---|
{keys}

{groups}

## Choices of a package

`--config-dir=FOLDER` adds the choices of a folder that is laid out as `conf/` is, see
[Extending srste](extending.md).
"""


def _top_level() -> Iterator[tuple[str, str, str]]:
    for line in (CONF / "config.yaml").read_text().splitlines():
        key, _, rest = line.partition(": ")
        if key.isidentifier() and rest:
            value, _, words = rest.partition(" # ")
            yield key, value.strip(), words


def _groups() -> list[Path]:
    folders = {file.parent for file in CONF.rglob("*.yaml")} - {CONF, CONF / "hydra" / "help"}
    first = ["estimator", "model", "data", "loss", "pretraining", "sampling", "tracking"]
    return sorted(folders, key=lambda f: (first.index(n) if (n := _name(f)[0]) in first else 99, f))


def _name(folder: Path) -> tuple[str, ...]:
    return folder.relative_to(CONF).parts


def _group(folder: Path) -> str:
    group = "/".join(_name(folder))
    default = _default(folder)
    lines = [f"## `{group}`", ""]
    if default:
        lines += [f"Default: `{default}`.", ""]
    lines += ["| choice | what it is | keys and their values |", "|---|---|---|"]
    for file in sorted(folder.glob("*.yaml")):
        keys = ", ".join(f"`{key}={value}`" for key, value in _keys(file)) or "-"
        lines.append(f"| `{file.stem}` | {_escaped(first_sentence(file))} | {keys} |")
    return "\n".join(lines)


def _default(folder: Path) -> str:
    """Return the choice of a group that is made without a word, "" if there is none."""
    name = _name(folder)
    if name[-1] == "launcher":
        return ""
    file = CONF / "config.yaml" if len(name) == 1 else CONF / name[0] / "sr_ste.yaml"
    made = [d for d in yaml.safe_load(file.read_text())["defaults"] if isinstance(d, dict)]
    return next((str(d[name[-1]]) for d in made if d.get(name[-1])), "")


def _keys(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a choice that a person sets."""
    made = yaml.safe_load(file.read_text()) or {}
    for key, value in made.items():
        plain = not isinstance(value, dict | list) and not str(value).startswith("${")
        if plain and key not in ("name", "control", "_target_", "_partial_"):
            yield (
                key,
                "null" if value is None else str(value).lower() if value in (True, False) else value,
            )


def _escaped(words: str) -> str:
    return words.replace("|", "\\|")


# The gallery of estimators


def estimators_page() -> str:
    """Return estimators.md: equations, plot, source and cost of each estimator, and each surrogate."""
    estimators = "\n\n".join(_estimator(name) for name in _order())
    surrogates = "\n\n".join(_surrogate(file) for file in _surrogates())
    return f"""{WRITTEN}

# Estimators

An estimator gives a *direction* `g` for a network with sign activations, whose true gradient is zero
almost everywhere; the step is `w - lr * g`. Most estimators replace two things: the activation in the
forward pass, by a *quantiser*, and its derivative in the backward pass, by a *surrogate*. Both can be
exchanged. Others estimate the gradient of a *stochastic* network, whose units are drawn and whose mean
loss has a gradient; and some take differences of the loss itself.

```bash
python train.py estimator=sr_ste estimator/surrogate=tanh estimator.surrogate.beta=2 batches=2
```

Every direction is normalised, by default to length 1 over each parameter tensor
(`estimator/normalisation`), so that a learning rate means the same step length for all. In the equations
`a` is a pre-activation, `q` the binary activation and `N` the number of samples (`samples`). The cost is
that of a direction for the default network, of 96 units and 3,104 weights: a pass is a forward and a
backward pass through all of it. Passes through some of its layers are named among the properties.
*League*: the place among all on twenty networks at N = 10, and by how much the loss after the step is
lower than after STE's, on the batch; [findings](findings.md#thirty-estimators-one-step) has the whole
table, and what to use when.

{estimators}

## Surrogates

What stands in the place of sign's derivative, `estimator/surrogate=...`. A surrogate with *matched
noise* is, up to a factor, the exact straight-through estimator of units that are the sign of a
pre-activation and of noise of that distribution: for them its bias has a meaning. `matched`, `reinmax`,
`gumbel_st` and `gumbel_rao` need such units: `estimator/quantiser=logistic`, `hard_sigmoid`,
`triangular` or `stochastic_rounding`.

{surrogates}
"""


def _order() -> list[str]:
    """Return the names of the estimators, controls last."""
    names = [file.stem for file in (CONF / "estimator").glob("*.yaml")]
    made = {name: _composed(name) for name in names}
    return sorted(names, key=lambda n: (n == "never_zeroed", "control" in made[n], n != "ste", n))


def _composed(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return dict(compose("config", overrides=[f"estimator={name}"])["estimator"])


def _class(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _estimator(name: str) -> str:
    config = _composed(name)
    kind = _class(config["_target_"])
    used = [kind] + [_class(config[p]["_target_"]) for p in ("quantiser", "surrogate") if p in config]
    if "srste.estimators.straight_through" in config["_target_"]:
        equations = [f"Forward:   {part(used[1], 'Forward')}", f"Backward:  {part(used[2], 'Backward')}",
                     f"Direction: {part(kind, 'Direction')}"]  # fmt: skip
        references = [part(one, "References") for one in used]
        properties = part(used[2], "Properties") or part(kind, "Properties")
    else:
        equations = [f"{label + ':':10} {text}" for label in EQUATIONS if (text := part(kind, label))]
        references, properties = [part(kind, "References")], part(kind, "Properties")
    lines = [f"## `{name}`", "", f"{first_sentence(CONF / 'estimator' / f'{name}.yaml')}.", ""]
    lines += ["```text", *(_hanging(e).replace("``", "") for e in equations), "```", ""]
    if (plot := _plot_of(config)) is not None:
        lines += [f"![Forward and backward of {name}](images/estimators/{plot}.svg)", ""]
    sources = " ".join(dict.fromkeys(" ".join(r.split()) for r in references if r))
    lines += [f"- **Cost**: {_cost(name)}", f"- **Properties**: {_cell(properties)}"]
    lines += [f"- **Source**: {sources}"] if sources else []
    if standing := _standing(name):
        lines += [f"- **League**: {standing}"]
    lines += [f"- **Class**: `{config['_target_']}`"]
    if config.get("control"):
        lines += ["- **Control**: the report compares the other estimators with it."]
    return "\n".join(lines)


LEAGUE = DOCS / "league.csv"
"""The table that `python train.py -m experiment=league` wrote, as `league.csv` of its report."""


@cache
def _league() -> list[dict[str, str]]:
    with LEAGUE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["league"] == "at N = 10"]


def _standing(name: str) -> str:
    """Return an estimator's place and gain, on raw and on pretrained networks; "" if it is not in it."""
    shown = Column(name, "", None).series
    places = []
    for words, setting in (("raw", "pretraining=none"), ("pretrained", "pretraining=adam")):
        of_setting = [row for row in _league() if row["setting"] == setting]
        for row in of_setting:
            if row["estimator"] == shown:
                verdict = row["verdict"].split(" ", 1)[-1]
                gain = "" if verdict == "baseline" else f" {row['mean gain [95 %]']}"
                places.append(f"{words} {row['place']} of {len(of_setting)}, {verdict}{gain}")
    return "; ".join(places)


def _hanging(equation: str) -> str:
    first, *rest = equation.splitlines()
    return "\n".join([first, *(" " * 11 + line for line in rest)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _cost(name: str) -> str:
    """Return how many passes a direction takes at N = 1 and N = 10 for the default network."""
    if cost_of(choice("estimator", name), MLP(), 1) is None:
        return "as many passes as batches so far"
    at_one, at_ten = (cost_of(choice("estimator", name), MLP(), samples) for samples in (1, 10))
    assert at_one is not None and at_ten is not None
    if at_one == at_ten:
        return f"{_counted(at_one)}, whatever N"
    return f"{_counted(at_one)} at N = 1; {_counted(at_ten)} at N = 10"


def _counted(cost: Cost) -> str:
    if cost.forward == cost.backward:
        return {0: "no pass", 1: "1 pass"}.get(cost.forward, f"{cost.forward} passes")
    at_most = "at most " if cost.at_most else ""
    return f"{at_most}{cost.forward} forward, {cost.backward} backward"


def _surrogates() -> list[Path]:
    return sorted((CONF / "estimator" / "surrogate").glob("*.yaml"))


def _surrogate(file: Path) -> str:
    config = yaml.safe_load(file.read_text())
    kind = _class(config["_target_"])
    keys = ", ".join(f"`{key}={value}`" for key, value in _keys(file))
    lines = [f"### `{file.stem}`", "", sentence(kind), "", "```text", part(kind, "Backward"), "```", ""]
    lines += [f"![The surrogate {file.stem} and its integral](images/estimators/{file.stem}.svg)", ""]
    lines += [f"- **Source**: {_cell(part(kind, 'References'))}", f"- **Keys**: {keys or 'none'}"]
    if (units := matched_units(_made(config))) is not None:
        lines.append(f"- **Matched noise**: the slope of the mean of `{type(units).__name__}` units")
    elif properties := part(kind, "Properties"):
        lines.append(f"- **Properties**: {_cell(properties)}")
    return "\n".join(lines)


# Plots

A = torch.linspace(-2.5, 2.5, 1001)
BLUE, RED, GREY = "#0072B2", "#D55E00", "#777777"
NOISES = 10_000
"""Draws that a slope is averaged over where it depends on the noise."""


def _plot_of(config: dict[str, Any]) -> str | None:
    """Return the name of an estimator's plot: its own if it draws, else that of its surrogate; None if
    it replaces no derivative."""
    if "srste.estimators.straight_through" not in config["_target_"]:
        return None
    draws = config["quantiser"]["_target_"] != "srste.networks.rounding.Sign"
    surrogate = config["surrogate"]["_target_"]
    of_surrogate = {yaml.safe_load(f.read_text())["_target_"]: f.stem for f in _surrogates()}
    return config["name"] if draws else of_surrogate[surrogate]


def draw() -> None:
    """Write the plots of forward and backward passes."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in _order():
        config = _composed(name)
        if _plot_of(config) == name:
            _plot(name, _made(config["surrogate"]), _made(config["quantiser"]))
    for file in _surrogates():
        surrogate = _made(yaml.safe_load(file.read_text()))
        units = Logistic() if isinstance(surrogate, DrawSurrogate) else Sign()
        _plot(file.stem, surrogate, units)


def _made(config: Any) -> Any:
    return _class(config["_target_"])(**{k: v for k, v in config.items() if k != "_target_"})


def _slopes(surrogate: Any, quantiser: Any) -> dict[str, torch.Tensor]:
    """Return the slopes at `A`, by what they depend on besides."""
    if isinstance(surrogate, GradientSurrogate):
        by_gradient = {}
        for g in (1, -1):
            by_gradient[f"incoming gradient {g:+d}"] = surrogate(A, sign(A), g * torch.ones_like(A)) / g
        return by_gradient
    if not isinstance(surrogate, DrawSurrogate):
        return {"": surrogate(A)}
    draw = Draw.of(quantiser, A.repeat(NOISES, 1), stream(0))
    slope = surrogate(draw)
    by_value = {}
    for value in (1, -1):
        there = draw.values == value
        mean = torch.where(there, slope, 0.0).sum(0) / there.sum(0)  # nan where it is never drawn
        by_value[f"where q = {value:+d} was drawn"] = mean
    up, down = by_value.values()
    either = torch.where(up.isnan(), down, up)
    same = torch.allclose(either, torch.where(down.isnan(), up, down))
    return {"": either} if same else by_value


def _plot(name: str, surrogate: Any, quantiser: Any) -> None:
    slopes = _slopes(surrogate, quantiser)
    with same_everywhere():
        figure = Figure(figsize=(7.2, 2.4), layout="constrained")
        FigureCanvasAgg(figure)
        forward, backward = figure.subplots(1, 2)
        if isinstance(quantiser, StochasticUnits):
            forward.plot(A, 2 * quantiser.probability(A) - 1, color=BLUE, label="mean of q(a)")
            for level in (-1, 1):
                forward.axhline(level, color=GREY, lw=0.8, ls=":")
            forward.plot([], [], color=GREY, ls=":", label="its two values")
            forward.set_title("forward: random, +1 or -1", fontsize="medium")
        else:
            forward.plot(A, sign(A), color=BLUE, label="q(a)")
            forward.set_title("forward: sign", fontsize="medium")
        if len(slopes) == 1 and not isinstance(surrogate, DrawSurrogate):
            (slope,) = slopes.values()
            integral = np.cumsum(slope.numpy()) * float(A[1] - A[0])
            integral -= integral[len(A) // 2]
            forward.plot(A, integral, color=RED, ls="--", label="what the surrogate is the slope of")
        forward.legend(fontsize="x-small", loc="upper left")
        forward.set_ylim(-2.6, 2.6)
        highest = 2.0
        for (label, slope), style in zip(slopes.items(), ("-", "--"), strict=False):
            backward.plot(A, slope, color=RED, ls=style, label=label or None)
            highest = max(highest, float(slope.nan_to_num().max()))
        if len(slopes) > 1:
            backward.legend(fontsize="x-small", loc="upper center")
        backward.set_title("backward: dq/da", fontsize="medium")
        backward.set_ylim(0, min(1.1 * highest, 4.5))
        for axes in (forward, backward):
            axes.set_xlabel("pre-activation a")
            axes.grid(alpha=0.25)
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


PAGES = {"choices.md": choices_page, "estimators.md": estimators_page}


def main() -> None:
    draw()
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
