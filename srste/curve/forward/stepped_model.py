"""A model on its way along a direction: real forward passes after the step ``w - lr * g``."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from srste.curve.network.base import check_direction, check_model
from srste.curve.network.sequential import as_double
from srste.errors import first_line
from srste.losses import LossFunction

LOOKED_AT = 16
"""How many examples a pass has that only finds out what the model does."""


class SteppedModel:
    """A private copy of a model whose loss after a step of any size can be asked for.

    Each pass is the pass of the model that was given: from its buffers as they were, in its own dtype,
    on its own device, with random numbers that start from ``seed``, so that a layer that draws (dropout
    in training mode) draws the same at every learning rate. Running statistics that a pass in training
    mode would only write are not kept. The step is ``w - lr * g`` in the parameter's dtype, the
    outputs are brought to float64 and so are targets of a floating dtype: the loss is averaged there.

    Args: see :class:`srste.curve.forward.evaluated.EvaluatedCurve`.

    examples: how many. device: where the passes run.
    """

    def __init__(
        self,
        model: nn.Module,
        direction: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        loss: LossFunction,
        seed: int,
    ) -> None:
        check_model(model)
        parameters = dict(model.named_parameters())
        check_direction(parameters, direction, as_they_are=False)
        self.device = _only_device(parameters, inputs)
        self.examples = len(inputs)
        if not self.examples or len(targets) != self.examples:
            raise ValueError(f"{self.examples} inputs, {len(targets)} targets: must be as many, >= 1")
        self._copy = copy.deepcopy(model).requires_grad_(False)
        for module in self._copy.modules():
            # In training mode these normalise by the batch and only write their running statistics,
            # which batching could not do.
            is_torchs = type(module).__module__.startswith("torch.nn.")
            if isinstance(module, _NormBase) and module.training and is_torchs:
                module.track_running_stats = False
        self._moving = dict(self._copy.named_parameters())
        self._places = _places(self._copy)
        self._start = {name: p.clone() for name, p in self._moving.items()}
        self._direction = {
            name: direction[name].detach().to(p.device, p.dtype) for name, p in self._moving.items()
        }
        self._dtypes = list({p.dtype: None for p in self._moving.values()})
        floating = [dtype for dtype in self._dtypes if dtype.is_floating_point]
        dtype = floating[0] if floating and inputs.is_floating_point() else inputs.dtype
        self._inputs = inputs.detach().to(self.device, dtype)
        self._targets = as_double(targets.detach().to(self.device))
        self._loss_of = loss
        self._seed = seed
        self._look()

    def at(self, lr: float, examples: int) -> float:
        """The loss after the step, by plain passes over that many examples at a time."""
        with torch.no_grad(), self._same_draws():
            # As tensors, so that a learning rate beyond the dtype is infinite and not an exception.
            steps = {dtype: torch.tensor(lr, dtype=dtype) for dtype in self._dtypes}
            for name, p in self._moving.items():
                torch.mul(self._direction[name], steps[p.dtype], out=p)
                torch.sub(self._start[name], p, out=p)
            outputs = [self._forward(x) for x in torch.split(self._inputs, examples)]
            return float(self._loss(outputs[0] if len(outputs) == 1 else torch.cat(outputs)))

    def at_once(self, lrs: Sequence[float]) -> list[float]:
        """The losses after each of the steps, by one pass of all of them over the whole batch.

        Raises: whatever ``torch.vmap`` does with a model that it cannot run.
        """
        if len(lrs) == 1:
            # A batch of one goes through other kernels than one of more, and comes out in other bits.
            return self.at_once([*lrs, *lrs])[:1]
        steps = torch.tensor(lrs, dtype=torch.float64, device=self.device)
        with torch.no_grad(), self._same_draws(), warnings.catch_warnings():
            # What vmap runs in a loop of its own is better run in our loop.
            warnings.filterwarnings("error", message="There is a performance drop")
            losses: Tensor = vmap(self._loss_after, randomness="same")(steps)
        return losses.tolist()

    def _loss_after(self, lr: Tensor) -> Tensor:
        parameters = {
            name: w - self._direction[name] * lr.to(w.dtype) for name, w in self._start.items()
        }
        state = parameters | self._fresh_buffers()
        return self._loss(self._called(state, self._fresh(self._inputs)))

    def _called(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """The copy with other parameters and buffers, by name, in the place of its own."""
        # Told every place by itself: what `functional_call` ties to one that is given, it does not give
        # back to a module that stands in several places.
        everywhere = {place: state[name] for place, name in self._places.items() if name in state}
        return _one_tensor(functional_call(self._copy, everywhere, (inputs,), tie_weights=False))

    @cached_property
    def needs_all_examples(self) -> str | None:
        """Why the batch must not be cut into several passes; None if it may be."""
        for name, module in self._copy.named_modules():
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
                return f"{name or 'the model'} ({type(module).__name__}) normalises by the batch"
        if self._draws:
            return "the model draws random numbers for the whole batch"
        if self.examples < 2:
            return "there is one example"
        x = self._inputs[:LOOKED_AT]
        for name, p in self._moving.items():
            p.copy_(self._start[name])
        try:
            with torch.no_grad(), self._same_draws():
                together = self._forward(x)
                halves = torch.split(x, (len(x) + 1) // 2)
                parts = torch.cat([self._forward(half) for half in halves])
        except Exception as error:
            return f"the model does not take a part of it: {first_line(error)}"
        if together.shape != parts.shape or len(together) != len(x):
            return "the model does not give an output for each example"
        # Rounding may decide a sign otherwise for an example or two; what couples them changes most.
        together, parts = together.reshape(len(x), -1).double(), parts.reshape(len(x), -1).double()
        least = 1e-2 * float(together.abs().mean())
        same = torch.isclose(parts, together, rtol=1e-2, atol=least, equal_nan=True)
        if 2 * int(same.all(dim=1).sum()) < len(x):
            return "an example's output depends on the others"
        return None

    def _look(self) -> None:
        """Run a pass over a few examples, or over all if it must be, and note what it does."""
        self._writes_inputs = self._writes_buffers = True
        try:
            self._look_at(self._inputs[:LOOKED_AT])
        except Exception:
            # Batch norm on a single example, a batch size that is fixed in the model.
            self._look_at(self._inputs)

    def _look_at(self, examples: Tensor) -> None:
        x, buffers = examples.clone(), self._fresh_buffers()
        passed = dict(buffers)
        written, versions = x._version, {name: b._version for name, b in buffers.items()}
        with torch.no_grad(), self._same_draws():
            before = self._random_states()
            self._called(passed, x)
            after = self._random_states()
        self._draws = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        self._writes_inputs = x._version != written
        self._writes_buffers = any(
            passed[name] is not b or b._version != versions[name] for name, b in buffers.items()
        )

    def _forward(self, inputs: Tensor) -> Tensor:
        x = self._fresh(inputs)
        if self._writes_buffers:
            return self._called(self._fresh_buffers(), x)
        return _one_tensor(self._copy(x))

    def _fresh_buffers(self) -> dict[str, Tensor]:
        return {name: b.clone() for name, b in self._copy.named_buffers()}

    def _fresh(self, inputs: Tensor) -> Tensor:
        return inputs.clone() if self._writes_inputs else inputs

    def _loss(self, outputs: Tensor) -> Tensor:
        loss = self._loss_of(as_double(outputs), self._targets)
        if not isinstance(loss, Tensor) or loss.ndim:
            given = tuple(loss.shape) if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ValueError(f"loss(outputs, targets) must be a scalar tensor, not {given}")
        return loss.double()

    @contextmanager
    def _same_draws(self) -> Iterator[None]:
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            # Not torch.manual_seed, which seeds the other cards too.
            torch.default_generator.manual_seed(self._seed)
            for device in cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self._seed)
            yield

    def _random_states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states


def _one_tensor(output: Any) -> Tensor:
    """Raises: ValueError if a model's output is anything else."""
    if not isinstance(output, Tensor) or output.is_complex():
        kind = f"{output.dtype} tensor" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the model gives a {kind}, and a loss curve needs one real tensor: wrap the model in a "
            "module whose forward gives that"
        )
    return output


def _places(model: nn.Module) -> dict[str, str]:
    """Of every parameter and buffer: where it stands, in each module once, and its name in the lists."""
    names = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
    return {
        f"{prefix}.{name}".removeprefix("."): names[id(tensor)]
        for prefix, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def _only_device(parameters: Mapping[str, Tensor], inputs: Tensor) -> torch.device:
    devices = {p.device for p in parameters.values()} or {inputs.device}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"the model's parameters are on several devices: {names}")
    return devices.pop()
