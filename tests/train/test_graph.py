"""A captured pass does what an ordinary one does, whatever batches and changes come between its replays.

On a CPU a recording stands in for CUDA's: the operations of the capture, which take effect in replays only, run again
on the same memory. It shows what the pass around a graph does, not what CUDA does.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gendyn_lite import models
from gendyn_lite.train import loop
from gendyn_lite.train.device import GraphedPass, Precision, repeatable
from gendyn_lite.train.step import Step, make_optimizer
from tests.train.conftest import needs_gpu


class Recording(TorchDispatchMode):
    """In place of torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}))
        if func._schema.is_mutable or "batch_norm" in str(func):  # whose schema does not say so
            self.before += [(each, each.clone()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, tree_map_only(Tensor, Tensor.detach, out)))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def recorded(recording: Recording, *, stream: SimpleNamespace, capture_error_mode: str):
    """In place of torch.cuda.graph: nothing of it is done yet.

    CUDA captures nothing on another device's stream; in any other mode what a reading thread pins would end it.
    """
    assert stream.device == torch.device("cpu") and capture_error_mode == "thread_local"
    random = torch.get_rng_state()
    with recording:
        yield
    for tensor, before in reversed(recording.before):
        tensor.copy_(before)
    torch.set_rng_state(random)


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=needs_gpu)])
def device(request, monkeypatch) -> torch.device:
    """Where passes are captured."""
    if request.param == "cuda":
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        return torch.device("cuda")
    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins = {
        "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: None, device=device),
        "current_stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda device: None,
        "get_rng_state": lambda device: torch.get_rng_state(),
        "set_rng_state": lambda state, device: torch.set_rng_state(state),
        "CUDAGraph": Recording,
        "graph": recorded,
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return torch.device("cpu")


def both(config, device, *, dropout=0.0, precision="float32", hook=None):
    """A captured and an ordinary step of two networks that are the same."""
    for graphed in (True, False):
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout), nn.Flatten()
        model = nn.Sequential(*layers, nn.Linear(96, 3)).to(device).to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model.parameters(), config)
        yield Step(model, optimizer, Precision(precision, device), grad_hook=hook, graph=graphed)


def idle(model, *, epoch, step):
    """A gradient hook: with one the optimizer is no part of the pass."""


def batches(sizes, device):
    generator = torch.Generator().manual_seed(1)
    for size in sizes:
        x = torch.randn(size, 2, 4, 4, generator=generator).to(device)
        yield x.contiguous(memory_format=torch.channels_last), torch.arange(size, device=device) % 3


def compare(one, other, sizes, device, *, tolerance=1e-4, between=None):
    """Train both on the same batches; after each, losses, weights, statistics and momenta are the same."""
    for number, (x, y) in enumerate(batches(sizes, device)):
        for each in (one, other):
            if between is not None:
                between(each._model, number)
        losses = [float(each(x, y, epoch=1, step=number + 1)) for each in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=tolerance)
        states = ((*t._model.state_dict().values(), *(s["momentum_buffer"] for s in t._optimizer.state.values()))
                  for t in (one, other))  # fmt: skip
        for ours, theirs in zip(*states, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("hook", [None, idle], ids=["whole step", "pass alone"])
@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 5, 8, 8), (3, 8, 8, 3, 8), (1, 9, 2, 9)], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_batches_of_any_size(sizes, momentum, hook, config, device):
    config = config.replace(weight_decay=0.01, momentum=momentum)
    compare(*both(config, device, hook=hook), [*sizes, *sizes], device)


def test_the_learning_rate_changes_between_replays(config, device):
    one, other = both(config, device)
    for rate in (0.05, 0.01, 0.0):
        one.set_rate(rate)
        other.set_rate(rate)
        compare(one, other, [8, 8, 5], device)


def test_momenta_that_come_back_from_a_checkpoint_are_the_ones_used(config, device):
    one, other = both(config, device)
    compare(one, other, [8, 8, 8], device)
    for step in (one, other):
        for state in step._optimizer.state.values():
            state["momentum_buffer"] = torch.full_like(state["momentum_buffer"], 0.1)
    compare(one, other, [8, 8], device)


def test_what_cannot_be_captured_runs_as_usual(config, device, monkeypatch):
    @contextmanager
    def refuses(graph, **options):
        with recorded(graph, **options):
            yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuses if device.type == "cpu" else torch.cuda.graph)
    steps = list(both(config, device))
    if device.type == "cuda":
        for step in steps:
            step._model.register_forward_pre_hook(lambda module, x: (x[0] + 0 * x[0].sum().item(),))
    with pytest.warns(UserWarning, match="training without a CUDA graph"):
        compare(*steps, [8, 8, 5, 8], device)


def hooked(network):
    network.register_forward_hook(lambda *_: None)
    return network


class Own(nn.ReLU):
    """A module that nothing is known of."""


def unknown() -> dict[str, nn.Module]:
    """Networks that may not do the same in every pass."""
    linear = nn.Linear(2, 2)
    linear.weight.register_hook(lambda grad: grad)
    (patched := nn.ReLU()).forward = lambda x: x  # type: ignore[method-assign]
    return {
        "hook": hooked(nn.Linear(2, 2)),
        "own": Own(),
        "inside": nn.Sequential(Own()),
        "gradient": linear,
        "patched": patched,
        "draws on the host": nn.Sequential(torchvision.transforms.RandomHorizontalFlip()),
        "counts on the host": nn.BatchNorm2d(2, momentum=None),
    }


@pytest.mark.parametrize("name", unknown())
def test_networks_that_are_run_as_they_are(name):
    assert not repeatable(unknown()[name])


def test_hooks_of_all_modules_are_called_in_every_pass():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not repeatable(nn.Linear(2, 2))
    handle.remove()
    assert repeatable(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["mlp_3x512", "alexnet_small", "inception_small", "resnet18", "vgg19"])
def test_the_networks_of_the_book_may_be_captured(name):
    assert repeatable(models.build(name, num_classes=10, in_shape=(3, 32, 32)))


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_sees_every_new_weight(precision, tolerance, config, device):
    steps = both(config.replace(learning_rate=0.1), device, precision=precision)
    compare(*steps, [8, 8, 5, 8], device, tolerance=tolerance)


def test_it_is_captured_for_whole_batches_even_if_a_smaller_one_comes_first(config, device, monkeypatch):
    one, _ = both(config, device, hook=idle)
    eager = []
    monkeypatch.setattr(one._whole, "_run", lambda x, y: eager.append(len(x)) or one._backward(x, y))
    for x, y in batches([3, 8, 8, 3, 8], device):
        one(x, y, epoch=1, step=1)
    assert eager[:4] == [3] * 4  # to warm up, and the capture
    assert eager[4:] == [8] * 4 + [3]


def move(model, number):
    if number == 2:
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()


def freeze(model, number):
    model[0].weight.requires_grad_(number % 3 != 2)


def change_mode(model, number):
    model[1].train(number % 3 != 2)


def other_statistics(model, number):
    model[1].running_mean = model[1].running_mean.clone()


def other_momentum(model, number):
    model[1].momentum = 0.1 * (number + 1)


def drop_all(model, number):
    model[3].p = float(number % 3 == 2)


@pytest.mark.parametrize("change", [move, freeze, change_mode, other_statistics, other_momentum, drop_all])
def test_what_a_graph_takes_for_granted_may_change(change, config, device):
    compare(*both(config, device), [8] * 6, device, between=change)


class Norms(list):
    """A gradient hook that is false as long as it has nothing."""

    def __call__(self, model, *, epoch, step):
        self.append(float(model[0].weight.grad.norm()))


def test_a_hook_that_is_an_empty_list_is_called_after_every_pass(config, device):
    step = next(both(config, device, hook=(norms := Norms())))
    for x, y in batches([8] * 4, device):
        step(x, y, epoch=1, step=1)
    assert len(norms) == 4


def test_dropout_draws_anew_and_as_an_ordinary_pass_does(config, device):
    (x, y), drawn = next(iter(batches([8], device))), {}
    for graphed, step in zip((True, False), both(config, device, dropout=0.5, hook=idle), strict=True):
        torch.manual_seed(3)
        drawn[graphed] = [float(step._whole(x, y)) for _ in range(4)]
    assert len(set(drawn[True])) == 4
    assert drawn[True] == pytest.approx(drawn[False], rel=1e-4)


def test_a_loss_and_gradients_are_not_those_of_the_next_batch(config, device):
    one, _ = both(config, device, hook=idle)
    (x, y), (other, _) = batches([8, 8], device)
    loss = one._whole(x, y)
    value, gradient = float(loss), one._model[0].weight.grad.clone()
    one._whole(other, y)
    assert float(loss) == value
    one._whole(x, y)  # in eval mode or not, the gradient of a batch does not depend on what was run before
    torch.testing.assert_close(one._model[0].weight.grad, gradient)


def test_lack_of_memory_leaves_statistics_and_random_numbers(config, device):
    model = next(both(config, device, dropout=0.5))._model
    before, random = copy.deepcopy(model.state_dict()), torch.cuda.get_rng_state(device)

    def fails(x, y):
        model(x)
        raise torch.cuda.OutOfMemoryError("out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        GraphedPass(model, fails)(*next(iter(batches([8], device))))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.cuda.get_rng_state(device))


def test_an_estimate_leaves_out_what_a_gpu_does_the_first_time(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("wait"))
    loop._seconds(lambda: done.append("work"), torch.device("cuda"))
    assert done == ["work", "wait", "work", "wait"]  # the capture, then what is timed
