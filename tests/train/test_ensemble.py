"""Many runs at once: the same numbers as one by one."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.errors import UserError
from gendyn_lite.train import DivergedError, History, ensemble, fit, fit_many
from gendyn_lite.train.stack import Stack, layout
from tests.train.conftest import make_network, same

ARCHITECTURES = {
    "one layer": {"widths": []},
    "relu": {"widths": [16]},
    "deep tanh": {"widths": [12, 8, 12], "activation": "tanh"},
    "leaky": {"widths": [16, 16], "activation": "leaky_relu"},
}


@pytest.fixture
def sweep(config):
    """Two seeds, three label corruptions, one of them with other inputs."""
    return [
        config.replace(seed=seed, label_corruption=q, inputs="gaussian" if q == 1 else "true")
        for seed in (0, 1)
        for q in (0.0, 0.5, 1.0)
    ]


class Many(NamedTuple):
    """Runs trained by fit_many(), and copies of their networks that are not trained yet."""

    networks: list[nn.Module]
    twins: list[nn.Module]
    datasets: list[data.ImageData]
    histories: list[History]

    def alone(self, configs):
        """The copies, each trained by itself."""
        runs = zip(self.twins, self.datasets, configs, strict=True)
        return [fit(*run, device="cpu") for run in runs]


def many(configs, **options):
    datasets = [data.load_for_run(config)[0] for config in configs]
    networks = list(map(make_network, configs, datasets))
    twins = copy.deepcopy(networks)
    return Many(networks, twins, datasets, fit_many(networks, datasets, configs, device="cpu", **options))


def close(one, other):
    """Rows equal but for rounding and time; accuracies to within two examples of 150."""
    for a, b in zip(one.rows, other.rows, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=0.014 if "accuracy" in key else 1e-6), key


POINTS = {"dataset": "two_moons", "train_size": None, "standardize": "none", "inputs": "true"}


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.0, "weight_decay": 0.01, "eval_every": 3}, POINTS], ids=["", "decayed", "points"]
)
def test_same_as_one_by_one(sweep, options, changes):
    configs = [config.replace(model_options=options, **changes) for config in sweep]
    found = many(configs)
    for history, alone in zip(found.histories, found.alone(configs), strict=True):
        close(history, alone)
    for network, twin in zip(found.networks, found.twins, strict=True):
        assert not network.training
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def check_gradients(stack, networks, x, y):
    """A stack against each network by itself."""
    losses = stack.gradients(x, y)
    for run, network in enumerate(networks):
        network.zero_grad()
        loss = F.cross_entropy(network(x[run]), y[run])
        loss.backward()
        assert losses[run].item() == pytest.approx(loss.item())
        for stacked, parameter in zip(stack.parameters, network.parameters(), strict=True):
            torch.testing.assert_close(stacked.grad[run].view_as(parameter), parameter.grad)


LAYOUTS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one for all runs": lambda x: x[:1].expand(x.shape),
    "examples that are one": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.LeakyReLU()], ids=str)
@pytest.mark.parametrize("sizes", [(6, 12, 8, 5), (1, 1, 1, 1), (3, 1, 1, 2), (2, 5, 1, 1)], ids=str)
@pytest.mark.parametrize("runs", [1, 3])
def test_gradients_are_those_of_each_networks_own_mean_loss_in_float64(sizes, runs, activation, layout):
    """One module of the activation for both layers, as many write it."""
    torch.manual_seed(0)
    a, b, c, classes = sizes
    layers = [[nn.Linear(a, b), activation, nn.Linear(b, c), activation, nn.Linear(c, classes)] for _ in range(runs)]
    networks = [nn.Sequential(*each).double() for each in layers]
    stack = Stack(networks)
    for batch in (4, 1, 4, 3):  # buffers are used again
        x = layout(torch.randn(runs, batch, a, dtype=torch.float64))
        check_gradients(stack, networks, x, torch.randint(classes, (runs, batch)))
    stack.keep(torch.tensor([runs - 1]))
    check_gradients(stack, networks[-1:], x[-1:], torch.randint(classes, (1, 3)))


def test_runs_of_one_kind_really_train_together_and_on_epoch_gets_every_row(sweep, monkeypatch):
    sizes, seen = [], {}
    original = ensemble.Together.train
    monkeypatch.setattr(ensemble.Together, "train", lambda self: (sizes.append(len(self.members)), original(self)))
    configs = [*sweep, sweep[0].replace(batch_size=16)]
    histories = many(configs, on_epoch=lambda run, row: seen.setdefault(run, []).append(row)).histories
    assert sizes == [6]
    assert [history.last["epoch"] for history in histories] == [4] * 7
    assert [seen[run] for run in range(7)] == [history.rows for history in histories]


def test_a_run_leaves_once_its_labels_are_fitted(sweep):
    changes = {"stop_when_fitted": True, "epochs": 60, "schedule": "constant", "learning_rate": 0.1}
    configs = [config.replace(model_options={"widths": [64]}, **changes) for config in sweep]
    found = many(configs)
    assert len({history.last["epoch"] for history in found.histories}) > 1
    for history, alone in zip(found.histories, found.alone(configs), strict=True):
        assert history.last["train_accuracy"] == 1
        assert abs(history.last["epoch"] - alone.last["epoch"]) <= 2  # rounding may move the last example's epoch
    for network, one in zip(found.networks, found.datasets, strict=True):
        batches = data.batcher(one, configs[0].replace(inputs=one.inputs), split="train_eval").epoch(0)
        assert all((network(x).argmax(1) == y).all() for x, y in batches)


def test_a_run_leaves_once_its_loss_is_low_enough(sweep):
    changes = {"stop_at_loss": 0.5, "epochs": 60, "schedule": "constant", "learning_rate": 0.1}
    found = many(configs := [config.replace(model_options={"widths": [64]}, **changes) for config in sweep])
    assert len({history.last["epoch"] for history in found.histories}) > 1
    for history, alone in zip(found.histories, found.alone(configs), strict=True):
        *before, last = history.column("train_loss")
        assert last <= 0.5 < min(before) and abs(history.last["epoch"] - alone.last["epoch"]) <= 2


def test_augmented_runs_and_other_networks_train_alone(sweep):
    configs = [sweep[0].replace(random_crop=1), sweep[3].replace(random_crop=1)]
    configs.append(sweep[1].replace(epochs=1, model="alexnet_small", model_options={}))
    found = many(configs)
    for history, alone in zip(found.histories, found.alone(configs), strict=True):
        close(history, alone)
    assert same(found.networks[0].state_dict(), found.twins[0].state_dict())


@pytest.mark.parametrize(("networks", "sizes"), [(20, [6]), (5, [3, 3]), (0, [1] * 6)])
def test_groups_keep_to_the_cache_and_are_of_about_equal_size(sweep, monkeypatch, networks, sizes):
    loaded = data.load_for_run(sweep[0])[0]
    network = make_network(sweep[0], loaded)
    members = [ensemble.Member(run, network, loaded, config, History()) for run, config in enumerate(sweep)]
    monkeypatch.setattr(ensemble, "CPU_BYTES", networks * 4 * (3 * models.parameter_count(network) + 2 * 32 * 26))
    assert [len(group) for group in ensemble._groups(members, torch.device("cpu"))] == sizes


def shared(*, weights: bool) -> nn.Sequential:
    """Two layers that are one, or whose weights are."""
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second if weights else first)


def hooked() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model[1].register_forward_hook(lambda module, args, out: 2 * out)
    return model


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


ALONE = {
    "dropout": nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2)),
    "no bias": nn.Sequential(nn.Linear(4, 3, bias=False)),
    "begins with relu": nn.Sequential(nn.ReLU(), nn.Linear(4, 3)),
    "two activations": nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Tanh()),
    "frozen": nn.Sequential(nn.Linear(4, 3)).requires_grad_(False),
    "no sequence": nn.Linear(4, 3),
    "places": nn.Sequential(nn.Flatten(2), nn.Linear(2, 3), nn.Flatten(), nn.Linear(6, 2)),
    "negative slope": nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(-0.5), nn.Linear(3, 2)),
    "shared layer": shared(weights=False),
    "shared weights": shared(weights=True),
    "weight norm": nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))),
    "hook": hooked(),
    "derived": nn.Sequential(Doubled(4, 3)),
}


@pytest.mark.parametrize("model", ALONE.values(), ids=ALONE)
def test_what_cannot_be_stacked(model):
    assert layout(model) is None
    assert layout(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))) is not None


def test_what_is_refused(sweep):
    with pytest.raises(DivergedError, match=r"run 0 \(seed 0, label corruption 0\): loss is (nan|inf) at step \d"):
        many([config.replace(learning_rate=1e18) for config in sweep])
    with pytest.raises(UserError, match="0 models, 0 datasets, 1 configs: expected one of each"):
        fit_many([], [], sweep[:1])
    assert fit_many([], [], []) == []
