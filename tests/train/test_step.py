"""The fused step of SGD against the plain one, for weights and gradients that lie in memory in every way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gendyn_lite.config import RunConfig
from gendyn_lite.train.device import Precision
from gendyn_lite.train.step import Step, make_optimizer

CONFIG = RunConfig(experiment="test", learning_rate=0.1, momentum=0.9, weight_decay=0.01)
WEIGHTS = {
    "one": lambda: torch.randn(1, 1),
    "one unit": lambda: torch.randn(1, 7),
    "one input": lambda: torch.randn(7, 1),
    "odd": lambda: torch.randn(17, 33),
    "transposed": lambda: torch.randn(6, 4).t(),
    "every other column": lambda: torch.randn(4, 6)[:, ::2],
    "part of a larger one": lambda: torch.randn(9, 9)[2:6, 3:8],
    "channels last": lambda: torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last),
    "channels last, one channel": lambda: torch.randn(4, 1, 3, 3).contiguous(memory_format=torch.channels_last),
    "channels last, one by one": lambda: torch.randn(4, 3, 1, 1).contiguous(memory_format=torch.channels_last),
}
HOOKS = {
    "none": None,
    "contiguous": lambda grad: grad.contiguous().clone(memory_format=torch.contiguous_format) * 0.5,
    "expanded": lambda grad: grad.mean(0, keepdim=True).expand_as(grad),
    "transposed": lambda grad: grad.transpose(0, 1).contiguous().transpose(0, 1),
}


class Layer(nn.Module):
    """A dense or convolutional layer of which the weight is given, with the tensor that it lies in."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return logits(self.weight, x)


def logits(weight, x):
    return nn.functional.conv2d(x, weight).mean((2, 3)) if weight.dim() == 4 else x @ weight.t()


@pytest.mark.parametrize("layout", WEIGHTS)
def test_a_first_step_that_overflows_leaves_no_trace(layout, monkeypatch):
    """In float16 it is skipped; memory that nobody has written must not become momentum."""
    nothing = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda like, **options: nothing(like, **options).fill_(float("nan")))
    torch.manual_seed(3)
    weight = nn.Parameter(WEIGHTS[layout]())
    twin = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    optimizer = make_optimizer([weight], CONFIG.replace(precision="float16"))
    plain = torch.optim.SGD([twin], lr=0.1, momentum=0.9, weight_decay=0.01)
    scaler = torch.amp.GradScaler("cpu")
    for size in (1e37, 1.0, 1.0):  # the first is infinite once it is scaled
        optimizer.zero_grad()
        scaler.scale((size * weight.square()).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if size == 1.0:
            plain.zero_grad()
            twin.square().sum().backward()
            plain.step()
    torch.testing.assert_close(weight.detach(), twin.detach())


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("layout", WEIGHTS)
def test_fused_as_plain(layout, hook):
    torch.manual_seed(3)
    layer = Layer(WEIGHTS[layout]())
    outputs, inputs, *_ = layer.weight.shape
    twin = layer.weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    change = HOOKS[hook]

    def grad_hook(model, *, epoch, step):
        model.weight.grad = change(model.weight.grad)

    optimizer = make_optimizer(layer.parameters(), CONFIG)
    step = Step(layer, optimizer, Precision("float32", torch.device("cpu")), grad_hook=change and grad_hook)
    plain = torch.optim.SGD([twin], lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False, fused=False)
    for number in range(3):
        x = torch.randn(5, inputs, *[4] * (layer.weight.dim() - 2))
        y = torch.randint(outputs, (5,))
        step(x, y, epoch=1, step=number + 1)
        nn.functional.cross_entropy(logits(twin, x), y).backward()
        if change is not None:
            twin.grad = change(twin.grad).contiguous()
        plain.step()
        plain.zero_grad()
        torch.testing.assert_close(layer.weight.detach(), twin.detach())
