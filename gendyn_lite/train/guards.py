"""Misuse that would falsify a run, detected and named: divergence, meddling probes and hooks, misfitting labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gendyn_lite.data import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.train.place import Place


class DivergedError(UserError):
    """The loss is no longer finite; the message has the step, the learning rate and the batch."""


def check_losses(losses: Sequence[float], *, place: Place, epoch: int, steps: int, rate: float, run: str = "") -> None:
    """Refuse a loss that is not finite.

    Args:
        losses: The losses of the last steps, all of one epoch.
        place: Where the run stands after them.
        epoch: The epoch, counted from 1.
        steps: Batches an epoch.
        rate: Learning rate of the epoch.
        run: What to call the run in an error.

    Raises:
        DivergedError: Naming the first such step.
    """
    for number, value in enumerate(losses):
        if not math.isfinite(value):
            ago = len(losses) - 1 - number
            raise DivergedError(
                f"{run}loss is {value} at step {place.step - ago} (epoch {epoch}, batch {place.batch - ago} of "
                f"{steps}, learning rate {rate:g}): training has diverged, lower learning_rate"
            )


def check_trainable(model: nn.Module) -> None:
    """Refuse a network whose parameters are not all there, each in memory of its own."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise UserError(f"{name} has no shape yet (a lazy layer): call the network on a batch once before training")
        if parameter.is_meta:
            raise UserError(f"{name} is on the device 'meta', which holds no numbers: build the network on a real one")
        if any(size > 1 and stride == 0 for size, stride in zip(parameter.shape, parameter.stride(), strict=True)):
            raise UserError(f"{name} is an expanded tensor, whose entries share memory: clone it before training")


def check_fits(model: nn.Module, data: ImageData, x: Tensor) -> None:
    """Refuse a network that does not take the data's inputs, or whose logits are not its classes.

    Args:
        model: The network.
        data: The data.
        x: A batch of its inputs as the run will see them, on the model's device.
    """
    for name, y in (("training", data.train.y), ("test", data.test.y)):
        if len(y) == 0:
            raise UserError(f"{data.name} has no {name} examples")
        if y.min() < 0 or y.max() >= data.num_classes:
            raise UserError(
                f"{name} labels span {int(y.min())} to {int(y.max())}, expected 0 to {data.num_classes - 1} "
                f"({data.name} has {data.num_classes} classes)"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the network has no parameter that requires a gradient: there is nothing to train")
    modes = [module.training for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            shape = tuple(model(x[:1]).shape)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the network does not take inputs of shape {tuple(x.shape[1:])}: {reason}") from error
    finally:
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
    if shape != (1, data.num_classes):
        raise UserError(
            f"the network gives outputs of shape {shape[1:]}, but {data.name} has {data.num_classes} classes: "
            f"build it with num_classes={data.num_classes}"
        )


class Untouched:
    """What a probe must leave as it found it: mode, weights, buffers, gradients' flags, hooks and random generators."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Remember the state of the model and of the generators."""
        self._model, self._device = model, device
        self._outside = self._describe()
        self._tensors = [(name, tensor.detach().clone()) for name, tensor in _tensors(model)]
        self._random = random_state(device)

    def check(self, probe: str) -> None:
        """Raise, naming the probe, if anything is different now.

        Raises:
            UserError: The probe changed something.
        """
        for (what, before), (_, now) in zip(self._outside, self._describe(), strict=True):
            if before != now:
                raise UserError(f"probe {probe!r} {what}: a probe must leave the model as it found it")
        for (name, before), (_, now) in zip(self._tensors, _tensors(self._model), strict=True):
            if not torch.equal(before, now):
                raise UserError(f"probe {probe!r} changed {name}: work on a copy (copy.deepcopy) instead")
        if any(not torch.equal(a, b) for a, b in zip(self._random, random_state(self._device), strict=True)):
            raise UserError(
                f"probe {probe!r} drew from torch's global random generator: give it a torch.Generator of its own"
            )

    def _describe(self) -> list[tuple[str, object]]:
        modules = list(self._model.modules())
        return [
            ("left modules in another mode (call model.eval() last)", [module.training for module in modules]),
            ("left hooks behind", [_hooks(module) for module in modules]),
            (
                "changed the model's parameters or buffers",
                [(name, tuple(t.shape)) for name, t in _tensors(self._model)],
            ),
            ("left requires_grad changed", [parameter.requires_grad for parameter in self._model.parameters()]),
        ]


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _hooks(module: nn.Module) -> int:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, name)) for name in names)


def random_state(device: torch.device) -> list[Tensor]:
    """State of torch's global generators that a run on this device may use: the CPU's, and the GPU's."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
    elif device.type == "cuda":  # a run that began on a CPU: other numbers than those of its beginning
        torch.cuda.manual_seed(int(torch.randint(2**62, ())))


def laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A gradient or momentum on the parameter's device and, if it has its shape, in its memory layout.

    Fused optimizers walk through memory, not through indices. One whose layout differs from that of its weights, as a
    contiguous one does from channels-last weights, would silently be added to the wrong ones.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


class GradientShapes:
    """Checks that a gradient hook leaves every weight and gradient in its shape, and each gradient in its layout."""

    def __init__(self, model: nn.Module, hook: object) -> None:
        """Remember the shapes of the model's parameters."""
        self._hook = hook_name(hook)
        self._expected = [(name, parameter, parameter.shape) for name, parameter in model.named_parameters()]

    def check(self) -> None:
        """Raise, naming hook and weight, if a shape has changed; lay out gradients that the hook made anew.

        Raises:
            UserError: A weight or its gradient has another shape than before.
        """
        for name, parameter, shape in self._expected:
            grad = parameter.grad
            if parameter.shape != shape or (grad is not None and grad.shape != shape):
                found = parameter.shape if grad is None else grad.shape
                raise self.error(f"{name} has a gradient of shape {tuple(found)}, expected {tuple(shape)}")
            if grad is not None and grad.stride() != parameter.stride():
                parameter.grad = laid_out_as(parameter, grad)

    def error(self, what: str) -> UserError:
        """An error that names the hook."""
        return UserError(f"grad_hook {self._hook} changed shapes: {what}")


def hook_name(hook: object) -> str:
    """The name by which messages call a hook."""
    return getattr(hook, "__name__", type(hook).__name__)
