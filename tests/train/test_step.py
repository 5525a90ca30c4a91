"""One step: its rate as torch's schedulers', the fused kernel as the plain one, and what becomes of lack of memory."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.train import learning_rate
from gendyn_lite.train.device import Precision
from gendyn_lite.train.step import Step, make_optimizer
from tests.train.conftest import Stop, StopAt, make_network, same, trained

TWINS = {
    "constant": lambda opt: lr_scheduler.LambdaLR(opt, lambda epoch: 1.0),
    "exponential": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "step": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5], 0.9),
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 7),
}


@pytest.mark.parametrize("schedule", TWINS)
def test_same_as_torch(schedule):
    config = RunConfig(experiment="test", schedule=schedule, decay=0.9, milestones=(2, 5), epochs=7, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = TWINS[schedule](optimizer)
    assert learning_rate(config, 0) == learning_rate(config, 1)
    for epoch in range(1, 8):
        assert learning_rate(config, epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


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


class Narrow(nn.Module):
    """Passes at most `most` examples in train mode; beyond that the memory is said to be full, half of it used up."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        super().__init__()
        self.most, self.error, self.calls = most, error, []

    def forward(self, x):
        if self.training:
            self.calls.append(len(x))
            if len(x) > self.most:
                raise self.error
        return x


ERRORS = {
    "gpu": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."),
    "other": RuntimeError("device-side assert"),
}


def narrow(config, digits, most, kind="gpu"):
    return nn.Sequential(Narrow(most, ERRORS[kind]), make_network(config, digits))


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_batches_are_halved_once_with_the_same_gradient_and_it_is_said(config, digits, kind):
    with pytest.warns(UserWarning, match="out of memory: batches of 32 are now computed in two halves") as said:
        halved = trained(config, digits, narrow(config, digits, 16, kind))
    assert len(said) == 1
    whole = trained(config, digits)
    for a, b in zip(halved.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    # 150 examples: the fifth batch has 22
    assert halved.model[0].calls[:12] == [32, *[16] * 8, 11, 11, 16] and 32 not in halved.model[0].calls[1:]


def test_a_last_batch_of_one_needs_no_halving(config, digits):
    with pytest.warns(UserWarning, match="batches of 149"):
        halved = trained(config.replace(batch_size=149), digits, narrow(config, digits, 75))
    assert halved.history.last["step"] == 8


@pytest.mark.parametrize(
    ("most", "norm", "kind", "expected", "message"),
    [
        (8, False, "gpu", torch.cuda.OutOfMemoryError, "CUDA out of memory"),
        (16, True, "gpu", UserError, r"32 \(CUDA out of memory.*\), and cutting them would change batch-norm"),
        (16, False, "other", RuntimeError, "^device-side assert"),
    ],
    ids=["a second time", "batch-norm", "other errors"],
)
@pytest.mark.filterwarnings("ignore:out of memory")
def test_what_halving_does_not_help(config, digits, most, norm, kind, expected, message):
    layers = [nn.BatchNorm2d(1)] if norm else []
    with pytest.raises(expected, match=message):
        trained(config, digits, nn.Sequential(*layers, *narrow(config, digits, most, kind)))


def test_a_resumed_run_keeps_its_halves_and_its_bits(config, digits, tmp_path):
    whole, stopped, resumed = (narrow(config, digits, 16) for _ in range(3))
    options = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.warns(UserWarning, match="two halves"):
        expected = trained(config, digits, whole)
        with pytest.raises(Stop):
            trained(config, digits, stopped, **options, grad_hook=StopAt(9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(trained(config, digits, resumed, **options).weights, expected.weights)
