"""The exact loss curve of networks of any build, against a float64 brute force by the model itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from srste.curve import NotExactError
from srste.networks.activations import BinaryActivation, BinaryStep
from tests.built import InputsTwice, Pooled, Residual, Tree, a_direction, assert_exact, conv, ready
from tests.lines import loss_curve


class TestExact:
    @pytest.mark.parametrize("width", [3, 8, 32, 40])
    @pytest.mark.parametrize("read", [(0,), (0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 2)])
    def test_trees(self, read, width):
        torch.manual_seed(2)
        model, x = ready(Tree(read, width), 5)
        assert_exact(model, a_direction(model), x, torch.randn(6, 3).double())

    @pytest.mark.parametrize("width", [8, 32, 40])
    def test_inputs_that_lie_the_other_way_round_in_memory(self, width):
        torch.manual_seed(2)
        model, x = ready(InputsTwice(width), width)
        x = x.t().contiguous().t()
        assert_exact(model, a_direction(model), x, torch.randn(6, 8).double())

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    def test_a_layer_without_units(self):
        layers = (
            nn.Linear(3, 0),
            BinaryActivation(),
            nn.Linear(0, 4),
            BinaryActivation(),
            nn.Linear(4, 2),
        )
        model, x = ready(nn.Sequential(*layers), 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 2).double())

    @pytest.mark.parametrize("act", [BinaryActivation, BinaryStep])
    @pytest.mark.parametrize(
        "options", [{}, {"padding": 1, "bias": False}, {"padding": "valid", "dilation": 2}]
    )
    def test_convolutions(self, act, options):
        model, x = ready(conv(act, **options), 1, 9, 9)
        assert_exact(model, a_direction(model), x, torch.randn(6, 3).double())

    @pytest.mark.parametrize("mode", ["reflect", "circular"])
    def test_padding_that_is_not_zero(self, mode):
        model, x = ready(conv(padding=1, padding_mode=mode), 1, 9, 9)
        assert_exact(model, a_direction(model), x, torch.randn(6, 3).double())

    def test_one_and_three_dimensions(self):
        model = nn.Sequential(nn.Conv1d(2, 4, 3), BinaryActivation(), nn.Conv1d(4, 2, 3), nn.Flatten())
        model, x = ready(model, 2, 9)
        assert_exact(model, a_direction(model), x, torch.randn(6, 10).double())
        model = nn.Sequential(nn.Conv3d(1, 2, 2), BinaryActivation(), nn.Conv3d(2, 1, 2), nn.Flatten())
        model, x = ready(model, 1, 4, 4, 4)
        assert_exact(model, a_direction(model), x, torch.randn(6, 8).double())

    def test_a_mean_of_signs_is_often_zero(self):
        act = BinaryActivation()
        model = nn.Sequential(nn.Linear(4, 12), act, nn.Unflatten(1, (3, 4)), nn.AvgPool1d(2), act)
        model, x = ready(model.append(nn.Flatten()).append(nn.Linear(6, 2)), 4)
        assert_exact(model, a_direction(model), x, torch.randn(6, 2).double(), ties=True)

    def test_outputs_of_any_shape(self):
        model = nn.Sequential(nn.Conv1d(2, 4, 3), BinaryActivation(), nn.Conv1d(4, 2, 3))
        model, x = ready(model, 2, 9)
        assert_exact(model, a_direction(model), x, torch.randn(6, 2, 5).double())

    def test_residual_sums(self):
        torch.manual_seed(3)
        model, x = ready(Residual(7), 5)
        assert_exact(model, a_direction(model), x, torch.randn(6, 2).double())

    def test_functions_and_methods(self):
        model, x = ready(Pooled(), 2, 7, 7)
        assert_exact(model, a_direction(model, still=["scale"]), x, torch.randn(6, 3).double())

    def test_batch_norm_in_evaluation_mode(self):
        model = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), BinaryActivation(), nn.Linear(8, 8), nn.BatchNorm1d(8),
            BinaryActivation(), nn.Linear(8, 1),
        )  # fmt: skip
        model, x = ready(model, 5)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.2, 2)
        still = ["1.weight", "4.weight"]  # their shifts may move
        assert_exact(model, a_direction(model, still=still), x, torch.randn(6, 1).double())

    def test_batch_norm_of_binary_units_may_move(self):
        model = nn.Sequential(
            nn.Linear(5, 8), BinaryActivation(), nn.BatchNorm1d(8), BinaryStep(), nn.Linear(8, 1)
        )
        model, x = ready(model, 5)
        assert_exact(model, a_direction(model), x, torch.randn(6, 1).double())

    def test_what_does_not_move_may_be_anything(self):
        model = nn.Sequential(
            nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), BinaryActivation(), nn.Linear(6, 2)
        )
        model, x = ready(model, 5)
        assert_exact(model, a_direction(model, still=["0."]), x, torch.randn(6, 2).double())

    def test_weights_that_do_not_move_take_inputs_that_do(self):
        model = nn.Sequential(
            nn.Linear(5, 6), nn.Linear(6, 7), BinaryActivation(), nn.Linear(7, 6), nn.Linear(6, 2)
        )
        model, x = ready(model, 5)
        assert_exact(model, a_direction(model, still=["1.", "4."]), x, torch.randn(6, 2).double())

    def test_layers_that_share_their_parameters(self):
        layer = nn.Linear(3, 3)
        model, x = ready(nn.Sequential(layer, BinaryActivation(), layer, BinaryActivation(), layer), 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 3).double())

    def test_subclasses_and_forwards_of_one_s_own(self):
        class Scaled(nn.Linear):
            def forward(self, x):
                return 0.5 * super().forward(x)

        class Past(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

        model, x = ready(Past(Scaled(3, 4), BinaryActivation(), nn.Linear(4, 3)), 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 3).double())

    def test_signs_first_and_last(self):
        model, x = ready(nn.Sequential(BinaryActivation(), nn.Linear(3, 4), BinaryActivation()), 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 4).double())
        model, x = ready(nn.Linear(3, 2), 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 2).double())

    def test_sequences(self):
        model, x = ready(nn.Sequential(nn.Linear(3, 4), BinaryActivation(), nn.Linear(4, 2)), 5, 3)
        assert_exact(model, a_direction(model), x, torch.randn(6, 5, 2).double())

    @pytest.mark.parametrize("batch", [1, 70, 300])
    def test_many_examples_in_float32(self, batch):
        torch.manual_seed(1)
        model, x = ready(conv(), 1, 9, 9, batch=batch)
        single = copy.deepcopy(model).float()
        direction = {name: p.float() for name, p in a_direction(model).items()}
        y = torch.randn(batch, 3)
        curve = loss_curve(single, direction, x.float(), y)
        double = assert_exact(
            copy.deepcopy(single).double(), {n: p.double() for n, p in direction.items()},
            x.float().double(), y.double(), count=8,
        )  # fmt: skip
        lrs = np.linspace(0, 0.5, 100)
        np.testing.assert_array_equal(curve(lrs), double(lrs))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 4),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    grouped=st.booleans(),
    pool=st.booleans(),
    norm=st.booleans(),
    residual=st.booleans(),
    step=st.booleans(),
    bias=st.booleans(),
)
def test_any_network_of_these_pieces(
    seed, channels, kernel, stride, padding, grouped, pool, norm, residual, step, bias
):
    act = BinaryStep if step else BinaryActivation
    groups = 2 if grouped else 1

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=groups, bias=bias)
            self.norm = nn.BatchNorm2d(2 * channels) if norm else nn.Identity()
            self.act = act()

        def forward(self, x):
            a = self.norm(self.conv(self.act(x)))
            return x + a if residual else a

    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 2 * channels, kernel, stride, padding, groups=groups), Block(), Block(),
        nn.AvgPool2d(2) if pool else nn.Identity(), act(), nn.Flatten(), nn.LazyLinear(2, bias=bias),
    )  # fmt: skip
    model, x = ready(model, 2, 6, 6, seed=seed, batch=4)
    direction = a_direction(model, scale=0.3, still=["norm.weight"])
    assert_exact(model, direction, x, torch.randn(4, 2).double(), count=12)


class TestNotExact:
    def refused(self, model, *shape, still=(), says):
        torch.manual_seed(0)
        x = torch.randn(3, *shape)
        y = torch.zeros_like(model(x)).detach()
        with pytest.raises(NotExactError, match=says):
            loss_curve(model, a_direction(model, still=still), x, y)

    def test_a_relu_whose_input_moves(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
        self.refused(model, 3, says=r"^module 1 \(ReLU\) has an input that moves$")

    def test_a_relu_of_binary_units(self):
        model = nn.Sequential(nn.Linear(3, 3), BinaryActivation(), nn.ReLU(), nn.Linear(3, 1))
        self.refused(model, 3, says=r"^module 2 \(ReLU\) has an input that moves$")

    def test_two_layers_that_both_move(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
        self.refused(model, 3, says=r"^1: its input moves and so do its weights$")

    def test_batch_norm_in_training_mode(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), BinaryActivation(), nn.Linear(3, 1))
        self.refused(model, 3, says=r"^module 1 \(BatchNorm1d\) is in training mode")

    def test_batch_norm_whose_scale_moves(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), BinaryActivation(), nn.Linear(3, 1))
        self.refused(model.eval(), 3, says=r"^1: its input moves and so do its weights$")

    def test_dropout_in_training_mode(self):
        model = nn.Sequential(nn.Linear(3, 3), BinaryActivation(), nn.Dropout(), nn.Linear(3, 1))
        self.refused(model, 3, says=r"^module 2 \(Dropout\) is in training mode")

    def test_a_function(self):
        class Squashed(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 1)

            def forward(self, x):
                return torch.tanh(self.linear(x))

        self.refused(Squashed(), 3, says="^tanh: tanh of a value that moves$")

    def test_a_product_of_two_that_depend_on_the_step(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.act = nn.Linear(3, 3), nn.Linear(3, 3), BinaryActivation()

            def forward(self, x):
                return self.act(self.a(x)) * self.act(self.b(x))

        self.refused(Gated(), 3, says="^mul: two values that both depend on the step are multiplied$")

    def test_a_forward_that_looks_at_its_values(self):
        class Choosing(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 1)

            def forward(self, x):
                return self.linear(x) if x.sum() > 0 else -self.linear(x)

        self.refused(Choosing(), 3, says=r"^Choosing: its forward cannot be traced \(")

    @pytest.mark.parametrize("binary", [False, True])
    def test_examples_that_depend_on_each_other(self, binary):
        class Centred(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.act = nn.Linear(3, 3), BinaryActivation() if binary else nn.Identity()

            def forward(self, x):
                h = self.act(self.linear(x))
                return h - h.mean(0, keepdim=True)

        self.refused(Centred(), 3, says="^an example's output depends on the other examples")

    def test_parameters_made_of_others(self):
        linear = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        self.refused(
            nn.Sequential(linear),
            3,
            says="^module 0 .* has hooks, parameters made of others, or another forward than its class$",
        )

    def test_hooks(self):
        linear = nn.Linear(3, 2)
        linear.register_forward_hook(lambda _, __, output: output**2)
        self.refused(nn.Sequential(linear), 3, says="has hooks")

    def test_inputs_that_do_not_fit_are_no_question_of_exactness(self):
        model, _ = ready(conv(), 1, 9, 9)
        direction = a_direction(model)
        with pytest.raises(ValueError, match="the model does not take these inputs"):
            loss_curve(model, direction, torch.zeros(2, 3, 9, 9).double(), torch.zeros(2, 3).double())
