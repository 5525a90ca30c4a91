"""fit() against a slow, obvious twin, and what its rows hold."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.data import batcher
from gendyn_lite.errors import UserError
from gendyn_lite.train import DivergedError, fit, learning_rate
from tests.train.conftest import make_network, plain, same, weights

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

    def test_each_epoch_from_zero_with_the_keys_in_order(self, network, digits, config):
        history = fit(network, digits, config, device="cpu")
        assert [list(row) for row in history.rows] == [KEYS] * 5
        assert history.column("epoch") == [0, 1, 2, 3, 4]
        assert history.column("step") == [0, 5, 10, 15, 20]
        rates = [0.02, 0.02, 0.02 * 0.95, 0.02 * 0.95**2, 0.02 * 0.95**3]
        assert history.column("learning_rate") == pytest.approx(rates)

    def test_seconds_start_at_zero_and_grow(self, network, digits, config):
        seconds = fit(network, digits, config, device="cpu").column("seconds")
        assert seconds[0] == 0
        assert all(a < b for a, b in pairwise(seconds))

    @pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4]), (3, [0, 3, 4]), (2, [0, 2, 4]), (9, [0, 4])])
    def test_eval_every_and_always_the_last(self, network, digits, config, every, epochs):
        history = fit(network, digits, config.replace(eval_every=every), device="cpu")
        assert history.column("epoch") == epochs

    @pytest.mark.parametrize("augmented", [False, True], ids=["plain", "augmented"])
    def test_whole_training_set_in_eval_mode_without_augmentation(self, digits, config, augmented):
        config = config.replace(random_crop=augmented * 2, flip=augmented)
        network = torch.nn.Sequential(torch.nn.Dropout(0.5), make_network(config, digits))
        last = fit(network, digits, config, device="cpu").last
        for split, y in (("train_eval", digits.train.y), ("test", digits.test.y)):
            x = torch.cat([x for x, _ in batcher(digits, config, split=split).epoch(0)])
            logits = network.eval()(x).double()
            key = split.removesuffix("_eval")
            assert last[f"{key}_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
            assert last[f"{key}_accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item())

    def test_on_epoch_sees_every_row(self, network, digits, config):
        seen = []
        history = fit(network, digits, config, device="cpu", on_epoch=seen.append)
        assert seen == history.rows


class TestDeterminism:
    """The numbers depend on model, data and configuration alone."""

    @pytest.mark.parametrize("dropout", [0.0, 0.5], ids=["plain", "dropout"])
    def test_equal_to_the_bit_whatever_the_caller_drew(self, digits, config, dropout):
        found = []
        for draws in (1, 7):
            torch.manual_seed(draws)
            network = torch.nn.Sequential(torch.nn.Dropout(dropout), make_network(config, digits))
            history = fit(network, digits, config, device="cpu")
            found.append((weights(network), plain(history.rows)))
        assert same(found[0][0], found[1][0])
        assert found[0][1] == found[1][1]

    def test_the_callers_generator_is_left_alone(self, network, digits, config):
        before = torch.get_rng_state()
        fit(torch.nn.Sequential(torch.nn.Dropout(), network), digits, config, device="cpu")
        assert torch.equal(before, torch.get_rng_state())

    def test_evaluations_and_probes_do_not_change_the_training(self, digits, config):
        often, seldom = make_network(config, digits), make_network(config, digits)
        fit(often, digits, config, device="cpu", probes={"one": lambda model, epoch: {"one": 1.0}})
        fit(seldom, digits, config.replace(eval_every=9), device="cpu")
        assert same(weights(often), weights(seldom))

    def test_another_seed_gives_other_batches(self, network, digits, config):
        other = copy.deepcopy(network)
        fit(network, digits, config, device="cpu")
        fit(other, digits, config.replace(seed=4), device="cpu")
        assert not same(weights(network), weights(other))


class TestEnds:
    """How training ends."""

    def test_stops_at_the_first_fitted_evaluation(self, digits, config):
        config = config.replace(
            epochs=200, stop_when_fitted=True, schedule="constant", learning_rate=0.1, model_options={"widths": [128]}
        )
        history = fit(make_network(config, digits), digits, config, device="cpu")
        assert history.last["train_accuracy"] == 1
        assert history.fitted_epoch == history.last["epoch"] < 200
        assert max(history.column("train_accuracy")[:-1]) < 1

    def test_leaves_eval_mode_and_no_gradients(self, network, digits, config):
        fit(network, digits, config, device="cpu")
        assert not network.training
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_divergence_names_step_batch_and_rate(self, network, digits, config):
        config = config.replace(learning_rate=1e18, schedule="constant")
        message = r"loss is (nan|inf) at step \d+ \(epoch \d, batch \d of 5, learning rate 1e\+18\)"
        with pytest.raises(DivergedError, match=message):
            fit(network, digits, config, device="cpu")

    def test_divergence_in_the_very_last_step_is_seen_too(self, network, digits, config):
        def explode(model, *, epoch, step):
            if step == 20:
                next(model.parameters()).grad.fill_(math.nan)

        with pytest.raises(DivergedError, match=r"train_loss is nan after epoch 4 \(step 20, learning rate 0.0171"):
            fit(network, digits, config, device="cpu", grad_hook=explode)

    def test_the_step_that_diverged_is_named_exactly(self, network, digits, config):
        def explode(model, *, epoch, step):
            if step == 7:
                next(model.parameters()).grad.fill_(math.inf)

        with pytest.raises(DivergedError, match=r"at step 8 \(epoch 2, batch 3 of 5, learning rate 0.019\)"):
            fit(network, digits, config, device="cpu", grad_hook=explode)


class TestProgress:
    """Silent unless asked for."""

    def test_silent(self, network, digits, config, capfd):
        fit(network, digits, config, device="cpu")
        assert capfd.readouterr() == ("", "")

    def test_bar_with_an_estimate_on_a_terminal(self, network, digits, config, capfd, monkeypatch):
        import tqdm.auto
        import tqdm.std

        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        shown = []

        class Bar(tqdm.std.tqdm):
            def close(self):
                shown.append((self.n, self.total, self.postfix))
                super().close()

        monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
        fit(network, digits, config, device="cpu", progress=True)
        assert shown[0][:2] == (20, 20)
        assert "epoch=4" in shown[0][2]
        assert "step/s" in capfd.readouterr().err


def network_for(num_classes, side):
    return models.build("mlp", num_classes=num_classes, in_shape=(1, side, side))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, d: (network_for(9, 8), d), r"gives outputs of shape \(9,\), but digits has 10"),
        (lambda m, d: (network_for(10, 9), d), r"does not take inputs of shape \(1, 8, 8\): .*mat1"),
        (lambda m, d: (m, d.with_train_labels(d.train.y + 1)), "training labels span 1 to 10, expected 0 to 9"),
        (lambda m, d: (m.requires_grad_(False), d), "no parameter that requires a gradient"),
    ],
    ids=["classes", "inputs", "labels", "frozen"],
)
def test_what_does_not_fit_is_refused_before_training(network, digits, config, change, message):
    model, data = change(network, digits)
    before = weights(model)
    with pytest.raises(UserError, match=message):
        fit(model, data, config, device="cpu")
    assert same(before, weights(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
        ({"device": "cpu", "cuda_graph": True}, "cuda_graph needs one GPU"),
        ({"device": "cpu", "checkpoint_seconds": -1}, "checkpoint_seconds is -1, expected at least 0"),
    ],
    ids=["device", "cuda_graph", "checkpoint_seconds"],
)
def test_options_that_cannot_be_met(network, digits, config, options, message):
    with pytest.raises(UserError, match=message):
        fit(network, digits, config, **options)


def expanded(network):
    network[-1].bias = nn.Parameter(torch.zeros(1).expand(10))
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (expanded, "bias is an expanded tensor, whose entries share memory"),
        (lambda network: network.to("meta"), "is on the device 'meta', which holds no numbers"),
        (lambda network: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "1.weight has no shape yet"),
        (
            lambda network: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)),
            "batch-norm cannot normalize a batch of 1: choose batch_size or train_size",
        ),
    ],
    ids=["expanded", "meta", "lazy", "batch of one"],
)
def test_a_network_that_cannot_be_trained_is_one_line(network, digits, config, change, message):
    with pytest.raises(UserError, match=message):
        fit(change(network), digits, config.replace(batch_size=149), device="cpu")


def test_frozen_layers_stay(network, digits, config):
    first = network.get_submodule("fc1").requires_grad_(False)
    before = weights(first)
    fit(network, digits, config.replace(weight_decay=0.1), device="cpu")
    assert same(before, weights(first))
