"""Small networks and examples on which measures are compared with their slow twins, and what they refuse."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.errors import UserError


def check_refused(call, message, *given, **options):
    """A call ends in one line that matches."""
    with pytest.raises(UserError, match=message) as error:
        call(*given, **options)
    assert "\n" not in str(error.value)


def refused(cases):
    """The test of a table: calls, with or without arguments and options, and the message that each ends in."""

    @pytest.mark.parametrize("case", cases.values(), ids=cases)
    def test(case):
        call, *given, message = case
        args, options = given or ((), {})
        check_refused(call, message, *args, **options)

    return test


def examples(count, shape, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(dtype)
    return x, torch.randint(0, classes, (count,), generator=generator)


def scrambled(model: nn.Module, seed=0) -> nn.Module:
    """The model in float64 and eval mode, with running statistics and scales that are not those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name in ("running_mean", "weight", "bias"):
            value = getattr(module, name, None)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm) and value is not None:
                value.data += 0.3 * torch.randn(value.shape, generator=generator)
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.double().eval()


BUILT = {  # every network of `models`: shape of an input, number of examples, options
    "mlp": ((5,), 9, {"widths": [7, 6], "activation": "leaky_relu"}),
    "mlp_1x512": ((1, 4, 4), 5, {}),
    "mlp_3x512": ((1, 4, 4), 5, {}),
    "alexnet_small": ((3, 7, 7), 5, {}),
    "inception_small": ((3, 4, 4), 3, {"dropout": 0.5}),
    "resnet18": ((3, 8, 8), 3, {}),
    "vgg19": ((3, 32, 32), 2, {}),
    "resnet18_imagenet": ((3, 32, 32), 2, {}),
    "resnet50": ((3, 32, 32), 2, {}),
    "inception_v3": ((3, 75, 75), 2, {}),
    "alexnet": ((3, 63, 63), 2, {}),
}


def built(name):
    """A network of that table, scrambled, and examples."""
    shape, count, options = BUILT[name]
    model = models.build(name, num_classes=3, in_shape=shape, seed=0, **options)
    return scrambled(model), *examples(count, shape)


class Net(nn.Module):
    """A network made of a function over modules."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


class Centred(nn.Linear):
    """A layer that mixes the examples of its batch."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


class Gain(nn.Module):
    """A linear layer times a parameter without axes."""

    def __init__(self):
        super().__init__()
        self.linear, self.gain = nn.Linear(4, 3), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.gain * self.linear(x)


class Own(nn.Module):
    """A layer without a formula."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x):
        return x * self.scale.exp()


def convolution(*args, **options):
    """One convolution between the input and the logits."""
    layer = nn.Conv2d(*args, **options)
    size = layer(torch.zeros(1, args[0], 6, 5)).numel()
    return nn.Sequential(layer, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(size, 3))


CONVOLUTIONS = {
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "stride": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    "dilation": {"kernel_size": 2, "dilation": (2, 1), "padding": 1},
    "one-by-one": {"kernel_size": 1, "stride": 2},
    "whole-input-groups": {"kernel_size": (6, 5), "groups": 2},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "reflect": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"},
    "no-bias": {"kernel_size": 3, "bias": False},
    "everything": {"kernel_size": (3, 2), "stride": 2, "dilation": (1, 2), "padding": (2, 1), "groups": 2},
}


def shared_linear():
    return Net(lambda s, x: s.out(s.hidden(s.hidden(x).tanh())), hidden=nn.Linear(4, 4), out=nn.Linear(4, 3))


def shared_weight():
    layers = {"first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "out": nn.Linear(4, 3)}
    model = Net(lambda s, x: s.out(s.second(s.first(x).tanh())), **layers)
    model.second.weight = model.first.weight  # two biases, one weight
    return model


def shared_convolution():
    def forward(s, x):
        return s.out(F.max_pool2d(s.conv(F.max_pool2d(s.conv(x), 2)), 2)[..., 0, 0])

    return Net(forward, conv=nn.Conv2d(2, 2, 3, padding=1), out=nn.Linear(2, 3))


def in_place_sum():
    layers = {"a": nn.Linear(4, 5), "b": nn.Linear(4, 5), "out": nn.Linear(5, 3)}
    return Net(lambda s, x: s.out(s.b(x).add_(s.a(x)).relu_()), **layers)


def ends(*layers, size):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 3))


LAYERS = {  # how to make a network whose layers all have formulas, and the shape of its inputs
    "linear-model": (lambda: nn.Linear(4, 3), (4,)),
    "in-place-relu": (lambda: ends(nn.Linear(4, 6), nn.ReLU(inplace=True), size=6), (4,)),
    "in-place-sum": (in_place_sum, (4,)),
    "shared-module": (shared_linear, (4,)),
    "shared-weight": (shared_weight, (4,)),
    "shared-convolution": (shared_convolution, (2, 4, 4)),
    "batch-norm-1d": (lambda: ends(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), size=6), (4,)),
    "batch-norm-2d": (lambda: ends(nn.BatchNorm2d(3), size=48), (3, 4, 4)),
    "no-affine-batch-norm": (lambda: ends(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), size=36), (2, 5, 5)),
    "conv-1d": (lambda: ends(nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), size=12), (2, 6)),
    "sequence": (lambda: ends(nn.Linear(3, 4), nn.Tanh(), size=20), (5, 3)),
    "layer-norm": (lambda: ends(nn.LayerNorm((4, 4)), size=48), (3, 4, 4)),
    "layer-norm-over-places": (lambda: ends(nn.Linear(4, 6), nn.LayerNorm(6), size=18), (3, 4)),
    "group-norm": (lambda: ends(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), size=36), (2, 5, 5)),
    "float-view-of-input": (lambda: Net(lambda s, x: s.out(x[:, ::2]), out=nn.Linear(2, 3)), (4,)),
}


def lstm():
    layers = {"memory": nn.LSTM(4, 5, batch_first=True), "out": nn.Linear(5, 3)}
    return Net(lambda s, x: s.out(s.memory(x)[0][:, -1]), **layers)


def attention():
    layers = {"mix": nn.MultiheadAttention(4, 2, batch_first=True), "out": nn.Linear(4, 3)}
    return Net(lambda s, x: s.out(s.mix(x, x, x, need_weights=False)[0].mean(1)), **layers)


def tied():
    return Net(lambda s, x: F.linear(s.first(x).tanh(), s.first.weight)[:, :3], first=nn.Linear(4, 4))


def no_example_axis():
    layers = {"first": nn.Linear(2, 3), "out": nn.Linear(6, 3)}
    return Net(lambda s, x: s.out(s.first(x.reshape(-1, 2)).reshape(len(x), -1)), **layers)


def weight_norm():
    return ends(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), size=5)


WITHOUT = {  # the same with a layer that has no formula, and what the warning says of it
    "own-layer": (lambda: nn.Sequential(Own(), nn.Linear(4, 3)), (4,), r"no formula for 0 \(Own\)"),
    "lstm": (lstm, (3, 4), r"no formula for memory \(LSTM\)"),
    "attention": (attention, (3, 4), "no formula for mix"),
    "weight-used-outside": (tied, (4,), r"no formula for first \(Linear\)"),
    "no-example-axis": (no_example_axis, (4,), r"no formula for first \(Linear\)"),
    "weight-norm": (weight_norm, (4,), "no formula for"),
    "one-slope": (lambda: ends(nn.Linear(4, 6), nn.PReLU(), size=6), (4,), r"no formula for 1 \(PReLU\)"),
    "nothing-else": (lambda: Net(lambda s, x: s.pair(x, x), pair=nn.Bilinear(4, 4, 3)), (4,), r"pair \(Bilinear\)"),
}


def embedding(padding=None, tied=False):
    """An embedding, and an output that may share its weight."""
    out = nn.Linear(4, 6, bias=not tied)
    model = Net(
        lambda s, x: s.out(s.words(x).flatten(1, -2).sum(1)), words=nn.Embedding(6, 4, padding_idx=padding), out=out
    )
    if tied:
        out.weight = model.words.weight
    return model
