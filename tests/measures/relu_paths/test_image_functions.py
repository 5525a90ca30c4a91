"""Image functions are the gradients of images one by one, and the weights are their sum over training."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures.relu_paths import WeightHistory, image_functions
from gendyn_lite.measures.relu_paths.weight_history import step_weights
from gendyn_lite.train import fit
from tests.measures.networks import refused
from tests.measures.relu_paths import nets
from tests.measures.relu_paths.nets import images, scrambled


def mixed():
    """Every kind of layer: convolutions in one and two dimensions, strides, groups, reflection, positions, norms."""
    first = nn.Conv2d(2, 4, 3, padding="same", padding_mode="reflect"), nn.ReLU(inplace=True)
    second = nn.Conv2d(4, 4, (3, 2), stride=(2, 1), dilation=(1, 2), bias=False), nn.GroupNorm(2, 4), nn.ReLU()
    third = nn.Flatten(2), nn.Conv1d(4, 6, 5, stride=3, groups=2), nn.ReLU()
    return nn.Sequential(*first, *second, *third, nn.Linear(5, 3), nn.Flatten(), nn.Linear(18, 3))


NETS = nets.NETS | {"mixed": (mixed, (2, 8, 8))}


def batch(shape, count=5, dtype=torch.float64):
    return images(count, shape, dtype=dtype), torch.arange(count) % 3


def test_equation_3_at_a_node():
    """The factors z_i p_i and a_i of a dense layer, written out."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    x, y = images(4, (2,), dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    z = F.one_hot(y, 2) - F.softmax(model(x), 1)  # −∂ℓ/∂logits
    path = (model[0](x) > 0).double()
    incoming = z @ model[2].weight  # z_i of each hidden node
    f = image_functions(model, x, y)
    assert torch.allclose(f.each("0.weight"), (incoming * path)[:, :, None] * x[:, None])
    assert torch.allclose(f.each("0.bias"), incoming * path)
    assert torch.allclose(f.each("2.weight"), z[:, :, None] * model[1](model[0](x))[:, None])


def steps(model, optimizer, history, x, y, count):
    """Training written out, a batch of 4 at a time."""
    for t in range(count):
        chosen = torch.arange(4 * t, 4 * t + 4) % len(x)
        history.record(model, x[chosen], y[chosen], images=chosen)
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
        history.after_step(model, optimizer)


SETTINGS = [{}, {"momentum": 0.9}, {"weight_decay": 0.05}, {"momentum": 0.9, "weight_decay": 0.05}]
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


# Every network with momentum and decay, in both precisions; the one of every kind of layer with each and without.
CASES = [*product(NETS, SETTINGS[-1:]), *product(["mixed"], SETTINGS[:-1])]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_the_weights_are_the_initial_ones_and_all_image_functions(name, options, dtype):
    torch.manual_seed(0)
    make, shape = NETS[name]
    model = scrambled(make()).to(dtype)
    x, y = batch(shape, 10, dtype)
    optimizer, history = torch.optim.SGD(model.parameters(), lr=0.05, **options), WeightHistory(model)
    initial = copy.deepcopy(model)
    steps(model, optimizer, history, x, y, 12)
    middle = copy.deepcopy(model)
    optimizer.param_groups[0]["lr"] = 0.02  # a decay
    steps(model, optimizer, history, x, y, 13)
    alpha, _ = step_weights(history.steps[:3])
    assert (alpha == 1.0) == ("weight_decay" not in options)
    shares = [history.image(i, upto=3) for i in range(10)]  # each is in a batch of these
    for parameter, value in history.weights(upto=3).items():
        total = alpha * initial.get_parameter(parameter).detach().double() + sum(share[parameter] for share in shares)
        assert torch.allclose(total, value, rtol=0, atol=1e-12)
    assert max(history.errors(model).values()) <= LIMITS[dtype]
    assert max(history.errors(middle, upto=12).values()) <= LIMITS[dtype]
    assert max(history.errors(initial, upto=0).values()) == 0
    assert any(not torch.equal(a, b) for a, b in zip(initial.parameters(), model.parameters(), strict=True))


def setting(**options):
    config = RunConfig(experiment="paths", model="mlp", model_options={"widths": [8]}, train_size=40)
    config = config.replace(batch_size=16, epochs=3, learning_rate=0.1, **options)
    digits, _ = data.load_for_run(config)
    return config, digits, models.build("mlp", num_classes=10, in_shape=digits.in_shape, seed=0, widths=[8])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_as_the_gradient_hook_of_fit(momentum):
    config, digits, model = setting(momentum=momentum)
    numbered = digits.with_train_labels(torch.arange(40))
    history = WeightHistory(model, batches=data.batcher(numbered, config), labels=digits.train.y)
    expected = fit(copy.deepcopy(model), digits, config, device="cpu").last["train_loss"]
    assert fit(model, digits, config, grad_hook=history, device="cpu").last["train_loss"] == expected
    assert len(history.steps) == 9
    assert sorted(torch.cat([step.images for step in history.steps[:3]]).tolist()) == list(range(40))
    assert max(history.errors(model).values()) <= 1e-5
    assert max(float(value.norm()) for value in history.image(7).values()) > 0


def test_batches_of_another_run_are_refused():
    config, digits, model = setting()
    numbered = digits.with_train_labels(torch.arange(40))
    other = data.batcher(numbered, config.replace(seed=1))
    history = WeightHistory(model, batches=other, labels=digits.train.y)
    with pytest.raises(UserError, match=r"at step 1 \(epoch 1\) the images' gradients do not add up .* must be those"):
        fit(model, digits, config, grad_hook=history, device="cpu")


def linear():
    return nn.Linear(6, 3).double()


def recorded(make=torch.optim.SGD, *, moved=0, times=1, **options):
    model = linear()
    history = WeightHistory(model)
    model.weight.data += moved
    for _ in range(times):
        history.record(model, *batch((6,), 4))
    history.after_step(model, make(model.parameters(), lr=0.1, **options))
    return history


HOOK = {"labels": torch.arange(3), "batches": ()}
REFUSED = {
    "adam": (lambda: recorded(torch.optim.Adam), "the optimizer is Adam: a history follows"),
    "nesterov": (lambda: recorded(momentum=0.9, nesterov=True), "SGD with nesterov"),
    "image": (lambda: recorded().image(9), "image 9 was in no batch of the 1 recorded steps"),
    "step": (lambda: recorded().weights(5), "step 5 is missing from the history: it has 1 steps"),
    "open": (lambda: recorded(times=2), "the step before was not closed: call after_step"),
    "between": (
        lambda: recorded().record(linear(), *batch((6,), 4)),
        "weight has changed since step 1 was recorded: record every step",
    ),
    "late": (lambda: recorded(moved=1), "weight has changed since the history was made"),
    "no-batches": (lambda: recorded()(linear(), epoch=1, step=1), "needs batches and labels"),
    "half": (lambda: WeightHistory(linear(), labels=torch.arange(3)), "give both batches and labels"),
    "resumed": (lambda: WeightHistory(linear(), **HOOK)(linear(), epoch=3, step=9), "the history begins at step 9"),
    "of": (lambda: image_functions(linear(), *batch((6,))).of(7), "image is 7, expected a whole number from 0 to 4"),
}


test_bad_input_is_one_line = refused(REFUSED)
