"""fit() against a slow, obvious twin: its rows, what changes no number, what is refused, how long it takes."""

from __future__ import annotations

import copy
import math
import random
import re
import time
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.data import batcher
from gendyn_lite.errors import UserError
from gendyn_lite.train import DivergedError, estimate_seconds, fit, learning_rate
from tests.train.conftest import make_network, same, trained, weights

KEYS = ["epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]
SETTINGS = {
    "plain": {"momentum": 0.0, "schedule": "constant"},
    "momentum": {},
    "weight decay": {"weight_decay": 0.01},
    "step": {"schedule": "step", "decay": 0.1, "milestones": (1, 3)},
    "cosine": {"schedule": "cosine", "momentum": 0.5},
    "augmented": {"random_crop": 1, "flip": True},
    "cropped": {"center_crop": 6, "standardize": "per_channel"},
}


def twin(model, digits, config):
    """SGD as the textbook writes it: v ← μv + (g + λw), w ← w − ηv."""
    velocity = {name: torch.zeros_like(w) for name, w in model.named_parameters()}
    batches = batcher(digits, config)
    for epoch in range(1, config.epochs + 1):
        for x, y in batches.epoch(epoch):
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for name, w in model.named_parameters():
                    velocity[name] = config.momentum * velocity[name] + w.grad + config.weight_decay * w
                    w.sub_(learning_rate(config, epoch) * velocity[name])


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_same_weights_as_the_textbook_loop(config, digits, changes):
    config = config.replace(**changes)
    in_shape = batcher(digits, config).in_shape
    ours = models.build("mlp", num_classes=10, in_shape=in_shape, seed=0, widths=[16])
    theirs = copy.deepcopy(ours)
    fit(ours, digits, config, device="cpu")
    twin(theirs, digits, config)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


class TestRows:
    """Which epochs have a row, and what is in it."""

    def test_each_epoch_from_zero_with_the_keys_in_order(self, digits, config):
        model, history, _ = trained(config, digits)
        assert [list(row) for row in history.rows] == [KEYS] * 5
        assert history.column("epoch") == [0, 1, 2, 3, 4]
        assert history.column("step") == [0, 5, 10, 15, 20]
        rates = [0.02, 0.02, 0.02 * 0.95, 0.02 * 0.95**2, 0.02 * 0.95**3]
        assert history.column("learning_rate") == pytest.approx(rates)
        seconds = history.column("seconds")
        assert seconds[0] == 0 and all(a < b for a, b in pairwise(seconds))
        assert not model.training and all(parameter.grad is None for parameter in model.parameters())

    @pytest.mark.parametrize(("every", "epochs"), [(3, [0, 3, 4]), (2, [0, 2, 4]), (9, [0, 4])])
    def test_eval_every_and_always_the_last(self, digits, config, every, epochs):
        assert trained(config.replace(eval_every=every), digits).history.column("epoch") == epochs

    @pytest.mark.parametrize("augmented", [False, True], ids=["plain", "augmented"])
    def test_whole_training_set_in_eval_mode_without_augmentation(self, digits, config, augmented):
        config = config.replace(random_crop=augmented * 2, flip=augmented)
        network = nn.Sequential(nn.Dropout(0.5), make_network(config, digits))
        last = fit(network, digits, config, device="cpu").last
        for split, y in (("train_eval", digits.train.y), ("test", digits.test.y)):
            x = torch.cat([x for x, _ in batcher(digits, config, split=split).epoch(0)])
            logits = network.eval()(x).double()
            key = split.removesuffix("_eval")
            assert last[f"{key}_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
            assert last[f"{key}_accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item())


def backward(model, epoch):
    model(torch.ones(1, 1, 8, 8)).sum().backward()
    return {}


NO_NUMBER = {
    "checkpoints": {"checkpoint_dir": True, "checkpoint_seconds": 0},
    "probe": {"probes": {"p": lambda model, epoch: {}}},
    "probe with gradients": {"probes": {"p": backward}},
    "hook": {"grad_hook": lambda model, epoch, step: None},
}


class TestDeterminism:
    """The numbers depend on model, data and configuration alone."""

    def test_equal_to_the_bit_whatever_the_caller_drew(self, digits, config):
        found = []
        for seed in (1, 7):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(trained(config, digits, nn.Sequential(nn.Dropout(), make_network(config, digits))))
            assert torch.equal(before, torch.get_rng_state())
        assert found[0].same_as(found[1])

    @pytest.mark.parametrize("options", NO_NUMBER.values(), ids=NO_NUMBER)
    def test_what_changes_no_number(self, digits, config, tmp_path, options):
        models = [nn.Sequential(nn.Dropout(0.2), make_network(config, digits)) for _ in range(2)]
        options = {key: tmp_path if key == "checkpoint_dir" else value for key, value in options.items()}
        assert trained(config, digits, models[0], **options).same_as(trained(config, digits, models[1]))


class TestEnds:
    """How training ends."""

    def test_stops_at_the_first_fitted_evaluation_and_stays_so(self, digits, config, tmp_path):
        changes = {"epochs": 200, "schedule": "constant", "learning_rate": 0.1, "model_options": {"widths": [128]}}
        config = config.replace(stop_when_fitted=True, **changes)
        history, again = (trained(config, digits, checkpoint_dir=tmp_path).history for _ in range(2))
        assert history.last["train_accuracy"] == 1
        assert history.last["epoch"] < 200
        assert max(history.column("train_accuracy")[:-1]) < 1
        assert again.rows == history.rows

    def test_stops_at_the_first_evaluation_with_a_loss_low_enough(self, digits, config, tmp_path):
        changes = {"epochs": 200, "eval_every": 3, "schedule": "constant", "model_options": {"widths": [128]}}
        config = config.replace(stop_at_loss=0.3, **changes)
        history, again = (trained(config, digits, checkpoint_dir=tmp_path).history for _ in range(2))
        *before, last = history.column("train_loss")
        assert last <= 0.3 < min(before) and history.last["epoch"] % 3 == 0 and again.rows == history.rows
        longer = trained(config.replace(stop_at_loss=None, epochs=history.last["epoch"]), digits).history
        assert [row["train_loss"] for row in longer.rows] == history.column("train_loss")

    @pytest.mark.parametrize(
        ("at", "value", "rate", "message"),
        [
            (None, 0, 1e18, r"^loss is (nan|inf) at step \d+ \(epoch \d, batch \d of 5, learning rate 1e\+18\)"),
            (20, math.nan, 0.02, r"^train_loss is nan after epoch 4 \(step 20, learning rate 0.0171"),
            (7, math.inf, 0.02, r"at step 8 \(epoch 2, batch 3 of 5, learning rate 0.019\)"),
        ],
        ids=["rate", "very last step", "one step"],
    )
    def test_divergence_names_step_batch_and_rate(self, digits, config, at, value, rate, message):
        def explode(model, *, epoch, step):
            if step == at:
                next(model.parameters()).grad.fill_(value)

        schedule = "exponential" if at else "constant"
        with pytest.raises(DivergedError, match=message):
            trained(config.replace(learning_rate=rate, schedule=schedule), digits, grad_hook=explode)

    def test_frozen_layers_stay(self, network, digits, config):
        first = network.get_submodule("fc1").requires_grad_(False)
        before = weights(first)
        fit(network, digits, config.replace(weight_decay=0.1), device="cpu")
        assert same(before, weights(first))


class TestProgress:
    """Silent unless asked for."""

    def test_silent(self, digits, config, capfd):
        trained(config, digits)
        assert capfd.readouterr() == ("", "")


def test_gradients_that_a_network_comes_with_are_not_taken_for_the_first_step(digits, config):
    ours, theirs = (mlp(10, 8) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    ours(torch.ones(2, 1, 8, 8)).sum().backward()
    fit(ours, digits, config, device="cpu")
    fit(theirs, digits, config, device="cpu")
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_complex_weights_are_trained(digits, config):
    class Modulus(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1).cfloat()).abs()

    losses = fit(Modulus(64, 10, dtype=torch.complex64), digits, config, device="cpu").column("train_loss")
    assert losses[-1] < losses[0]


def mlp(num_classes, side):
    return models.build("mlp", num_classes=num_classes, in_shape=(1, side, side))


def expanded(network):
    network[-1].bias = nn.Parameter(torch.zeros(1).expand(10))
    return network


class Given(nn.Sequential):
    """A layer, and a function of what it gives."""

    def __init__(self, function):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.function = function

    def forward(self, x):
        return self.function(super().forward(x))


class Counted(nn.BatchNorm1d):
    """A batch-norm that stays in train mode."""

    def train(self, mode=True):
        return super().train(True)


PROBABILITIES = "outputs are probabilities, and the cross-entropy takes them for logits"
CHANCE = (
    "in eval mode too, the network draws at random when it is run,{} so that .* all losses and accuracies depend on it"
)
OTHERS = "in eval mode too, an example's outputs depend on the others of its batch"
TOLD = {
    "softmax": (lambda: Given(lambda x: x.softmax(1)), PROBABILITIES),
    "sigmoid": (lambda: Given(torch.sigmoid), PROBABILITIES),
    "dropout": (lambda: nn.Sequential(Given(nn.functional.dropout)), CHANCE.format(r" in '0' \(Given\),")),
    "noise": (lambda: Given(lambda x: x + torch.randn_like(x)), CHANCE.format("")),
    "Python's chance": (lambda: Given(lambda x: x * random.random()), CHANCE.format("")),
    "the batch": (lambda: Given(lambda x: x - x.mean(0)), OTHERS),
    "batch-norm": (lambda: Given(nn.BatchNorm1d(10, track_running_stats=False)), OTHERS),
    "buffer": (lambda: Given(Counted(10)), "in eval mode too, the network changes its buffer 'function.num_batches"),
}


@pytest.mark.parametrize("case", TOLD)
def test_outputs_that_are_no_logits_of_an_example_are_told_of(digits, config, case):
    make, said = TOLD[case]
    with pytest.warns(UserWarning, match=said):
        fit(make(), digits, config, device="cpu")


@pytest.mark.parametrize("function", [lambda x: x.log_softmax(1), nn.Dropout(), nn.BatchNorm1d(10)])
def test_logits_of_an_example_are_not_told_of(digits, config, recwarn, function):
    fit(Given(function), digits, config, device="cpu")
    assert not [one for one in recwarn if re.search("probabilities|eval mode", str(one.message))]


NORM = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
REFUSED = {  # what becomes of the network and of the labels; options; message
    "classes": (lambda m: mlp(9, 8), 0, {}, r"gives outputs of shape \(9,\), but digits has 10"),
    "double": (lambda m: m.double(), 0, {}, r"does not take inputs .* dtype.*\(train model.float\(\)\)"),
    "in place": (lambda m: nn.Sequential(nn.ReLU(inplace=True), mlp(10, 8)), 0, {}, "changes its input in place"),
    "inputs": (lambda m: mlp(10, 9), 0, {}, r"does not take inputs of shape \(1, 8, 8\): .*mat1"),
    "labels": (lambda m: m, 1, {}, "labels span 1 to 10, expected 0 to 9"),
    "frozen": (lambda m: m.requires_grad_(False), 0, {}, "no parameter that requires a gradient"),
    "no network": (lambda m: torch.relu, 0, {}, "network is a builtin_function_or_method, expected a torch.nn.Module"),
    "a tuple": (lambda m: Given(lambda x: (x, x)), 0, {}, "the network gives tuple for 2 inputs, expected logits"),
    "over the batch": (lambda m: Given(lambda x: x.mean(0, keepdim=True)), 0, {}, r"gives \(1, 10\) for 2 inputs"),
    "detached": (lambda m: Given(lambda x: x.detach()), 0, {}, "the network's outputs have no gradient"),
    "lazy": (lambda m: nn.Sequential(nn.LazyLinear(10)), 0, {}, r"'0' \(LazyLinear\) has no weights yet"),
    "meta": (lambda m: m.to("meta"), 0, {}, r"has no weights \(device meta\): give it some first"),
    "inference": (
        torch.inference_mode()(lambda m: mlp(10, 8)),
        0,
        {},
        "inference_mode, and would not learn",
    ),
    "NaN": (lambda m: Given(lambda x: (x - 9).sqrt()), 0, {}, "train_loss is nan before training: are the weights and"),
    "sparse": (lambda m: nn.Sequential(m, nn.Embedding(2, 3, sparse=True)), 0, {}, r"'1' \(Embedding\) gives sparse"),
    "expanded": (expanded, 0, {}, "bias is an expanded tensor, whose entries share memory"),
    "batch of one": (lambda m: NORM, 0, {}, "batch-norm cannot normalize a batch of 1: choose batch_size or"),
    "device": (lambda m: m, 0, {"device": "gpu"}, "device 'gpu' cannot be used"),
    "seconds": (lambda m: m, 0, {"checkpoint_seconds": -1}, "checkpoint_seconds is -1, expected at least 0"),
}


@pytest.mark.parametrize(("change", "shift", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_training(network, digits, config, change, shift, options, message):
    model, digits = change(network), digits.with_train_labels(digits.train.y + shift)
    steps = []
    options = {"device": "cpu", "grad_hook": lambda model, epoch, step: steps.append(step)} | options
    with pytest.raises(UserError, match=message):
        fit(model, digits, config.replace(batch_size=149), **options)
    assert steps == ([1] if model is NORM else [])


class TestEstimate:
    """The time that a run would take."""

    def test_within_a_factor_of_the_truth(self, config, digits):
        class Slow(nn.Module):
            def forward(self, x):
                time.sleep(0.02 if self.training else 0.002)
                return x

        model = nn.Sequential(Slow(), make_network(config, digits))
        started = time.perf_counter()
        fit(model, digits, config, device="cpu")
        taken = time.perf_counter() - started
        assert taken / 3 < estimate_seconds(model, digits, config, device="cpu") < 3 * taken

    def test_times_a_long_step_once_and_a_part_of_an_evaluation(self, config, digits, monkeypatch):
        monkeypatch.setattr("gendyn_lite.train.loop.LONG_STEP", 0.0)
        monkeypatch.setattr("gendyn_lite.train.loop.FEW", 40)
        seen = []

        class Counted(nn.Module):
            def forward(self, x):
                seen.append((self.training, len(x)))
                return x

        model, config = nn.Sequential(Counted(), make_network(config, digits)), config.replace(batch_size=32)
        estimate_seconds(model, digits, config, device="cpu")
        assert seen == [(True, 32), (True, 32), (False, 40)]

    @pytest.mark.parametrize("batch_size", [32, 4096])
    def test_leaves_everything_as_it_was(self, config, digits, batch_size):
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), make_network(config, digits))
        before, generator = weights(model), torch.get_rng_state()
        assert estimate_seconds(model, digits, config.replace(batch_size=batch_size), device="cpu") > 0
        assert same(weights(model), before)
        assert model.training
        assert torch.equal(torch.get_rng_state(), generator)
