"""Several fully connected networks with the same layers as one batched network."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gendyn_lite.train.device import is_modified

ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.LeakyReLU)
LETTERS: dict[type, str] = {nn.Linear: "L", **dict.fromkeys(ELEMENTWISE, "a")}


def layout(model: nn.Module) -> tuple[str, ...] | None:
    """The layers of a fully connected network as text; networks with equal layouts can be stacked.

    Networks that a stack would not compute correctly have no layout: those with other layers, shared layers or weights,
    frozen weights, hooks, or classes derived from torch's.

    Returns:
        One string for each layer, or None if the network cannot be stacked.

    >>> layout(nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU()))
    ('Linear(in_features=2, out_features=3, bias=True)', 'ReLU()')
    >>> layout(nn.Sequential(nn.Conv2d(1, 1, 1))) is None
    True
    """
    layers = _layers(model) if type(model) is nn.Sequential else []
    kinds = "".join(LETTERS.get(type(layer), "?") for layer in layers)
    if not re.fullmatch("(La?)+", kinds) or is_modified(model):
        return None
    rising = all(layer.negative_slope >= 0 for layer in layers if isinstance(layer, nn.LeakyReLU))
    plain = all(layer._parameters.keys() == {"weight", "bias"} and layer.bias is not None for layer in _linear(model))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not (rising and plain) or len(trained) != 2 * kinds.count("L"):  # frozen, or shared by several layers
        return None
    return tuple(map(str, layers))


def _layers(model: nn.Module) -> list[nn.Module]:
    """The layers in the order of the forward pass, without the default ``Flatten``; reused layers are repeated."""
    assert isinstance(model, nn.Sequential)
    return [layer for layer in model if type(layer) is not nn.Flatten or str(layer) != str(nn.Flatten())]


class Stack:
    """R networks of the same `layout`, with weights stacked to [R, out, in] and biases to [R, 1, out].

    The backward pass is written by hand and reuses its buffers: for small networks on a CPU, the allocations of
    autograd would take as long as the arithmetic.

    Attributes:
        parameters: Weight and bias of each layer in turn.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        """Copy the networks' weights."""
        linear = [_linear(model) for model in models]
        self.parameters: list[Tensor] = []
        for layers in zip(*linear, strict=True):
            self.parameters.append(torch.stack([layer.weight.detach() for layer in layers]).requires_grad_())
            self.parameters.append(torch.stack([layer.bias.detach()[None] for layer in layers]).requires_grad_())
        inner = _layers(models[0])
        after = [layer if isinstance(layer, ELEMENTWISE) else None for layer in [*inner[1:], None]]
        followed = zip(inner, after, strict=True)
        self._activations = [activation for layer, activation in followed if isinstance(layer, nn.Linear)]
        self._buffers: dict[tuple[int, int], list[Tensor]] = {}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the output of each linear layer after its activation.

        Args:
            x: Inputs [R, b, d], or [1, b, d] to give all networks the same.

        Returns:
            Tensors [R, b, units], the last of which are the logits. The next call with the same b overwrites them.
        """
        weights, biases = self.parameters[::2], self.parameters[1::2]
        runs = len(weights[0])
        x = x.expand(runs, -1, -1)
        buffers = self._buffers.get((runs, x.shape[1]))
        if buffers is None:
            buffers = [x.new_empty(runs, x.shape[1], weight.shape[1]) for weight in weights]
            self._buffers[runs, x.shape[1]] = buffers
        with torch.no_grad():
            for weight, bias, activation, out in zip(weights, biases, self._activations, buffers, strict=True):
                torch.baddbmm(bias, x, weight.transpose(1, 2), out=out)
                x = _apply_(activation, out)
        return buffers

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Set the gradient of each network's own mean cross-entropy in the stacked parameters.

        Args:
            x: Inputs [R, b, d].
            y: Labels, int64 [R, b].

        Returns:
            The mean cross-entropy of each network [R], in nats.
        """
        outputs = self.forward(x)
        with torch.no_grad():
            scores = torch.log_softmax(outputs[-1], dim=2)
            labels = y[..., None]
            losses = -scores.gather(2, labels).mean(dim=(1, 2))
            delta = scores.exp_().scatter_add_(2, labels, torch.full_like(labels, -1, dtype=scores.dtype))
            delta /= y.shape[1]  # softmax − one-hot, over the batch's size
            for number in reversed(range(len(outputs))):
                weight, bias = self.parameters[2 * number : 2 * number + 2]
                delta = _derivative_(self._activations[number], outputs[number], delta)
                before = outputs[number - 1] if number else x
                torch.bmm(delta.transpose(1, 2), before, out=_gradient(weight))
                torch.sum(delta, dim=1, keepdim=True, out=_gradient(bias))
                if number:
                    delta = torch.bmm(delta, weight)
        return losses

    def keep(self, rows: Tensor) -> None:
        """Keep only the networks with these indices, int64 [k]."""
        for parameter in self.parameters:
            parameter.data, parameter.grad = parameter.data[rows], None
        self._buffers.clear()

    def store(self, row: int, model: nn.Module) -> None:
        """Copy the weights of network number `row` into a module of the same layout."""
        with torch.no_grad():
            for number, layer in enumerate(_linear(model)):
                layer.weight.copy_(self.parameters[2 * number][row])
                layer.bias.copy_(self.parameters[2 * number + 1][row, 0])


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def _gradient(parameter: Tensor) -> Tensor:
    """The parameter's gradient, allocated if there is none."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def _apply_(activation: nn.Module | None, z: Tensor) -> Tensor:
    """Apply an activation to z in place; None is the identity."""
    if isinstance(activation, nn.ReLU):
        return z.clamp_(min=0)
    if isinstance(activation, nn.LeakyReLU):
        return torch.nn.functional.leaky_relu_(z, activation.negative_slope)
    return z.tanh_() if activation is not None else z


def _derivative_(activation: nn.Module | None, a: Tensor, delta: Tensor) -> Tensor:
    """Turn `delta`, the gradient at an activation's output `a`, into that at its input, in place where possible."""
    if isinstance(activation, nn.ReLU):
        return delta.mul_(a.sign())  # five times as fast as by a mask
    if isinstance(activation, nn.LeakyReLU):
        return torch.where(a > 0, delta, delta * activation.negative_slope)
    return delta.mul_(1 - a.square()) if activation is not None else delta
