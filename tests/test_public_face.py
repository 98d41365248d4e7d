"""What `srste` itself promises: functions and classes for one's own models and data."""

from __future__ import annotations

import copy
import doctest
import inspect
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

import srste
from srste import api
from srste.estimators.base import no_norm
from srste.estimators.controls.random import Random
from srste.networks import activations, converting
from srste.networks.surrogates import Identity
from tests import oracle
from tests.shapes import checked
from tests.support import SMALL, train


@pytest.fixture
def case():
    """(model, inputs, targets) of two binary layers."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6),
        srste.BinaryActivation(),
        nn.Linear(6, 6),
        srste.BinaryActivation(),
        nn.Linear(6, 2),
    )
    return model, torch.randn(30, 4), torch.randn(30, 2)


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A folder in which a launch of two sample counts has run."""
    folder = tmp_path_factory.mktemp("launched")
    done = train(folder, "-m", "estimator=sr_ste", "samples=1,2", "tracking=none", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


def flat(direction):
    return torch.cat([tensor.flatten() for tensor in direction.values()])


def test_importing_it_imports_no_library():
    code = (
        "import srste, sys; dir(srste); print(sorted({'torch', 'numpy', 'hydra'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", srste.__all__)
def test_all_of_it_is_there_and_documented(name):
    value = getattr(srste, name)
    assert inspect.getdoc(value)
    assert name in dir(srste)


def test_nothing_else_is():
    with pytest.raises(AttributeError, match="module 'srste' has no attribute 'nothing'"):
        _ = srste.nothing


def test_the_examples_run(launched, monkeypatch):
    monkeypatch.chdir(launched)
    tried = [doctest.testmod(module) for module in (api, activations, converting)]
    assert sum(result.failed for result in tried) == 0
    with_examples = set(srste.__all__) - {"testing"}
    assert all(">>>" in inspect.getdoc(getattr(srste, name)) for name in with_examples)


class TestShapes:
    """What `tests.shapes` does with the annotations of all functions while the tests run."""

    @staticmethod
    def halved(targets):
        return targets[::2]

    def test_a_result_of_another_shape(self):
        shapes = {"targets": Float[Tensor, " batch"], "return": Float[Tensor, " batch"]}
        halved = checked(self.halved, shapes)
        with pytest.raises(AssertionError, match=r"return is torch\.float32 \(2,\), and not"):
            halved(torch.zeros(4))

    def test_an_argument_of_another_dtype(self):
        with pytest.raises(AssertionError, match=r"a is torch\.int64"):
            Identity()(torch.ones(3, dtype=torch.int64))


class TestEstimate:
    def test_ste_is_the_gradient_by_hand(self, case):
        model, inputs, targets = case
        direction = srste.estimate("ste", model, inputs, targets)
        network = oracle.network_of(model.state_dict(), bias=True)
        x, y = inputs.double().numpy(), targets.double().numpy()
        gradient = oracle.backward(network, x, y, oracle.sign)
        expected = [t for pair in oracle.per_tensor(gradient) for t in pair]
        for tensor, array in zip(direction.values(), expected, strict=True):
            np.testing.assert_allclose(tensor.numpy(), array, rtol=0, atol=2e-6)  # float32

    def test_seed_samples_and_overrides_matter(self, case):
        given = srste.estimate("sr_ste", *case, samples=2)
        assert torch.equal(flat(srste.estimate("sr_ste", *case, samples=2)), flat(given))
        for other in ({"seed": 1}, {"samples": 3}, {"overrides": ["estimator/surrogate=tanh"]}):
            options = {"samples": 2} | other
            assert not torch.equal(flat(srste.estimate("sr_ste", *case, **options)), flat(given))

    def test_an_object_of_anyone_s(self, case):
        direction = srste.estimate(Random(no_norm), *case, seed=3)
        assert direction.keys() == dict(case[0].named_parameters()).keys()

    def test_any_loss(self, case):
        model, inputs, _ = case
        classes = torch.randint(2, (30,))
        by_name = srste.estimate("ste", model, inputs, classes, loss="cross_entropy")
        by_object = srste.estimate("ste", model, inputs, classes, loss=nn.CrossEntropyLoss())
        torch.testing.assert_close(flat(by_name), flat(by_object))

    @pytest.mark.parametrize(
        ("estimator", "options", "says"),
        [
            ("sr_stee", {}, r"estimator='sr_stee': did you mean sr_ste\? must be one of approx_sign, "),
            ("ste", {"loss": "squared"}, "loss='squared': .*must be one of absolute_error, "),
            ("ste", {"samples": 0}, "samples=0: must be a whole number >= 1"),
            ("ste", {"samples": True}, "samples=True: must be a whole number >= 1"),
            (
                "ste",
                {"overrides": ["estimator.c=1"]},
                r"estimator=ste, estimator\.c=1: Key 'c' is not in",
            ),
            (Random(no_norm), {"overrides": ["x=1"]}, "only with the name of a choice of estimator"),
            ("tilted_ste", {"overrides": ["estimator.angle=200"]}, r"angle=200\.?0?.* at most 180"),
        ],
    )
    def test_refused(self, case, estimator, options, says):
        with pytest.raises(ValueError, match=says) as error:
            srste.estimate(estimator, *case, **options)
        assert "\n" not in str(error.value)

    def test_a_network_in_which_there_is_nothing_to_act_on(self, case):
        _, inputs, targets = case
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        with pytest.raises(
            ValueError, match=r"no srste\.BinaryActivation or BinaryStep .*srste\.convert"
        ):
            srste.estimate("ste", model, inputs, targets)


def stepped(model, lr):
    """The model after a step along a direction of ones."""
    moved = copy.deepcopy(model).requires_grad_(False)
    for parameter in moved.parameters():
        parameter.sub_(lr)
    return moved


class TestLossCurve:
    def test_against_brute_force(self, case):
        model, inputs, targets = case
        direction = srste.estimate("sr_ste", *case)
        curve = srste.loss_curve(model, direction, inputs, targets, lr_max=0.4)
        lrs = np.linspace(0, 0.4, 50)
        parts = (oracle.network_of(t, bias=True) for t in (model.state_dict(), direction))
        x, y = inputs.double().numpy(), targets.double().numpy()
        np.testing.assert_allclose(curve(lrs), oracle.brute_force(*parts, x, y, lrs), rtol=1e-12)
        assert curve.exact
        assert curve.why_not == ""
        lowest = curve.minimum()
        assert repr(curve) == (
            f"<exact loss curve on [0, 0.4]: {curve.pre_loss:.6g} before the step, "
            f"lowest {lowest.loss:.6g} at learning rate 0.4, the largest: a larger lr_max may lower it "
            "further>"
        )
        assert lowest.lr == 0.4
        assert f"{lowest.loss:.6g}" in curve._repr_html_()
        assert "<svg" in curve._repr_html_()

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_a_direction_without_names_is_in_the_order_of_the_parameters(self, case, kind):
        model, inputs, targets = case
        loss = nn.functional.mse_loss(model(inputs), targets)
        last = [*model.parameters()][-2:]
        gradients = torch.autograd.grad(loss, last)
        zeros = [torch.zeros_like(p) for p in [*model.parameters()][:-2]]
        names = [name for name, _ in model.named_parameters()]
        unnamed = kind([*zeros, *gradients])
        lrs = np.linspace(0, 0.5, 7)
        of_list = srste.loss_curve(model, unnamed, inputs, targets)
        of_dict = srste.loss_curve(model, dict(zip(names, unnamed, strict=True)), inputs, targets)
        np.testing.assert_array_equal(of_list(lrs), of_dict(lrs))
        assert of_list.minimum().loss < of_list.pre_loss

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"direction": []}, "the direction has 0 tensors, the model 6 parameters"),
            ({"direction": [None] * 6}, r"direction\['0.weight'\] is None: no gradient has reached"),
            (
                {"direction": {"a": torch.ones(1)}},
                "the direction lacks 0.weight, 0.bias, 2.weight, 2.bias, 4.weight, 4.bias and has a, wh",
            ),
            ({"inputs": np.ones((30, 4))}, r"inputs must be a tensor, .*; torch\.as_tensor\(inputs\)"),
            ({"targets": [1.0] * 30}, r"targets must be a tensor, not a list; torch\.as_tensor\(t"),
        ],
    )
    def test_what_people_pass_by_mistake(self, case, changed, says):
        model, inputs, targets = case
        arguments = {"inputs": inputs, "targets": targets} | changed
        arguments.setdefault("direction", srste.estimate("ste", *case))
        with pytest.raises(ValueError, match=says):
            srste.loss_curve(model, **arguments)

    @pytest.mark.parametrize(
        ("weights", "says"),
        [
            (lambda w: w.sign(), "linear: .*: weights that are binarised have no exact form"),
            (lambda w: w.abs(), "abs of weights that move with the step"),
        ],
    )
    def test_binary_weights_are_named_as_such(self, case, weights, says):
        class BinaryWeights(nn.Linear):
            def forward(self, x):
                return nn.functional.linear(x, weights(self.weight), self.bias)

        _, inputs, targets = case
        model = nn.Sequential(BinaryWeights(4, 3), srste.BinaryActivation(), nn.Linear(3, 2))
        direction = [torch.ones_like(p) for p in model.parameters()]
        assert re.search(says, srste.loss_curve(model, direction, inputs, targets).why_not)

    def test_it_never_raises_for_lack_of_an_exact_form(self, case):
        _, inputs, targets = case
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        direction = {name: torch.ones_like(p) for name, p in model.named_parameters()}
        curve = srste.loss_curve(model, direction, inputs, targets)
        assert not curve.exact
        assert curve.why_not == "module 1 (Tanh) has an input that moves"
        assert repr(curve).endswith(
            "before the step; not exact, since module 1 (Tanh) has an input that moves>"
        )
        assert "<svg" not in curve._repr_html_()
        lrs = [0.3, 0.1, 0.1, 0.2]
        losses = [float(nn.functional.mse_loss(stepped(model, lr)(inputs), targets)) for lr in lrs]
        best = curve.lowest(lrs)
        assert (best.lr, best.loss) == (lrs[np.argmin(losses)], pytest.approx(min(losses), rel=1e-5))
        assert curve.lowest().loss == min(curve(np.arange(1, 201) * 0.5 / 200))
        for ask in (curve.minimum, curve.descent, curve.descents, lambda: curve.breakpoints):
            with pytest.raises(TypeError, match=r"only an exact loss curve has .*\(Tanh\) has"):
                ask()

    def test_a_direction_that_nothing_helps_along_is_said_to_be_one(self, case):
        model, inputs, targets = case
        up = {name: -g for name, g in srste.estimate("ste", *case).items()}
        curve = srste.loss_curve(model, up, inputs, targets, lr_max=1e-3)
        assert not curve.descent().exists
        assert "no learning rate lowers it; is the direction minus the gradient?" in repr(curve)
        assert not any("minimum" in t.get_text() for t in curve.plot().get_legend().get_texts())
        down = {name: -g for name, g in up.items()}
        short = srste.loss_curve(model, down, inputs, targets, lr_max=1e-3)
        at_end = short.minimum().lr == 1e-3
        assert ("a larger lr_max may lower it further" in repr(short)) == at_end

    def test_targets_of_another_shape_are_refused_and_not_broadcast(self, case):
        model, inputs, _ = case
        classes = torch.zeros(30, dtype=torch.int64)
        for call in (
            lambda: srste.estimate("ste", model, inputs, classes),
            lambda: srste.loss_curve(model, [*model.parameters()], inputs, classes),
        ):
            with pytest.raises(
                ValueError, match='not \\(30,\\); for classes the loss is "cross_entropy"'
            ):
                call()

    @pytest.mark.parametrize("name", ["sign", "tanh"])
    def test_plot(self, case, name):
        _, inputs, targets = case
        activation = srste.BinaryActivation() if name == "sign" else nn.Tanh()
        model = nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 2))
        direction = {name: torch.ones_like(p) for name, p in model.named_parameters()}
        curve = srste.loss_curve(model, direction, inputs, targets)
        ax = curve.plot(points=300)
        lrs, losses = ax.lines[0].get_data()
        np.testing.assert_array_equal(losses, curve(lrs))
        assert len(lrs) == (300 if curve.exact else 200)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss of the batch")
        words = [text.get_text() for text in ax.get_legend().get_texts()]
        assert words[-1] == f"before the step: {curve.pre_loss:.4g}"
        colours = {line.get_color() for line in curve.plot(ax, label="again").lines}
        words = [text.get_text() for text in ax.get_legend().get_texts()]
        assert len(colours) == 3, "two curves, and the loss before once"
        assert sum(word.startswith("again (") for word in words) == 1
        assert sum(word.startswith("before") for word in words) == 1
        with pytest.raises(ValueError, match="points=1 must be >= 2"):
            curve.plot(ax, points=1)


class TestRunStudy:
    def test_the_best_step_of_a_grid(self, case):
        model, inputs, targets = case
        study = srste.run_study(
            *case, estimator="ste", heldout=(inputs + 1, targets), baseline="ste",
            overrides=["sampling.step=1e-3", "sampling.lr_max=0.3"],
        )  # fmt: skip
        parts = (
            oracle.network_of(t, bias=True) for t in (model.state_dict(), srste.estimate("ste", *case))
        )
        lrs = np.arange(1, 301) / 1000
        losses = oracle.brute_force(*parts, inputs.double().numpy(), targets.double().numpy(), lrs)
        np.testing.assert_allclose(study.trials.post_loss, losses, rtol=1e-9)
        assert study.best.lr == lrs[np.argmin(losses)]
        assert study.regret == pytest.approx(losses.min() - study.curve.minimum().loss, abs=1e-9)
        assert study.heldout.examples == 30
        assert study.angles[""] == 0
        assert study.to_optuna().best_params == {"lr": study.best.lr}
        for shown in (repr(study), study._repr_html_()):
            assert f"{study.best.post_loss:.6g} at learning rate {study.best.lr:.6g}" in shown
            assert "held-out" in shown

    def test_a_model_without_an_exact_curve(self, case):
        _, inputs, targets = case
        model = nn.Sequential(
            nn.Linear(4, 3), nn.BatchNorm1d(3), srste.BinaryActivation(), nn.Linear(3, 2)
        )
        study = srste.run_study(
            model, inputs, targets, sampling="random", overrides=["sampling.n_trials=5"]
        )
        assert len(study.trials) == 5
        assert study.regret is None
        assert "not known: module 1 (BatchNorm1d) is in training mode" in repr(study)

    def test_none_of_its_trials(self, case):
        model, *_ = case
        with torch.no_grad():
            model[0].weight[0, 0] = torch.inf
        study = srste.run_study(*case, estimator=Random(no_norm), overrides=["sampling.step=0.1"])
        assert study.best is None
        assert "none: all 5 trials failed" in repr(study)


class TestLoad:
    def test_the_frame(self, launched):
        results = srste.load(launched / "multirun")
        frame = results.frame()
        assert len(frame) == len(results) == len(results.studies) == 6
        assert frame["estimator"].tolist() == ["sr_ste"] * 4 + ["ste"] * 2
        assert frame["samples"].tolist()[:4] == [1, 1, 2, 2]
        assert frame["samples"].isna().tolist()[4:] == [True, True]
        np.testing.assert_array_equal(frame["decrease"], frame["pre_loss"] - frame["post_loss"])
        for study, lr in zip(results.studies, frame["lr"], strict=True):
            assert study.to_optuna().best_params["lr"] == lr
            assert study.trials().best() == study.record.best.number
        assert repr(results) == "<6 studies of sr_ste, ste>"
        assert "<table" in results._repr_html_()
        assert repr(results.studies[0]).startswith("<stored study sr_ste N=1 batch 1: loss ")

    def test_verdicts_and_report(self, launched, tmp_path):
        results = srste.load(launched / "multirun")
        verdicts = results.verdicts()
        assert isinstance(verdicts, pd.DataFrame)
        assert {"sr-STE", "STE"} <= set(verdicts["first"])
        assert set(verdicts["verdict"]) <= {"too few networks", "-", "nothing to compare"}
        page = results.report(tmp_path / "page.html")
        assert "sr-STE" in page.read_text()
        with pytest.raises(ValueError, match=r"page\.txt: must end in \.html"):
            results.report(tmp_path / "page.txt")
        with pytest.raises(ValueError, match="must be one of 1, 2"):
            results.report(tmp_path / "page.html", samples=3)

    def test_damaged_records_are_named_and_passed_over(self, launched, tmp_path, caplog):
        copy = shutil.copytree(launched / "multirun", tmp_path / "copy")
        record = next(copy.rglob("record.json"))
        record.write_text("{")
        results = srste.load(copy)
        assert len(results) == 5
        assert results.damaged == [record.parent]
        assert f"Damaged records passed over: 1, first {record.parent}" in caplog.text

    def test_refused(self, tmp_path):
        with pytest.raises(ValueError, match="holds no records of studies"):
            srste.load(tmp_path)
        with pytest.raises(ValueError, match="there is no such folder"):
            srste.load(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="takes the folders of launches"):
            srste.load()
