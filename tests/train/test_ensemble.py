"""Many runs at once: the same numbers as one by one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.errors import UserError
from gendyn_lite.train import DivergedError, ensemble, fit, fit_many
from gendyn_lite.train.stack import Stack, layout
from tests.train.conftest import make_network, weights

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


def prepare(configs):
    datasets = [data.load_for_run(config)[0] for config in configs]
    return [make_network(config, one) for config, one in zip(configs, datasets, strict=True)], datasets


def close(one, other):
    """Rows equal but for rounding and time; accuracies to within two examples of 150."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=0.014 if "accuracy" in key else 1e-6), key


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("changes", [{}, {"momentum": 0.0, "weight_decay": 0.01, "eval_every": 3}], ids=["", "decayed"])
def test_same_as_one_by_one(sweep, options, changes):
    configs = [config.replace(model_options=options, **changes) for config in sweep]
    networks, datasets = prepare(configs)
    twins = copy.deepcopy(networks)
    histories = fit_many(networks, datasets, configs, device="cpu")
    for network, twin, one, config, history in zip(networks, twins, datasets, configs, histories, strict=True):
        close(history.rows, fit(twin, one, config, device="cpu").rows)
        assert not network.training
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_gradients_are_those_of_each_networks_own_mean_loss_in_float64(options):
    torch.manual_seed(0)
    networks = [models.build("mlp", num_classes=5, in_shape=(6,), **options).double() for _ in range(3)]
    x, y = torch.randn(3, 7, 6, dtype=torch.float64), torch.randint(5, (3, 7))
    check_gradients(Stack(networks), networks, x, y)


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
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1, 1, 2), (2, 5, 1, 1)], ids=str)
def test_gradients_at_awkward_shapes(sizes, runs, layout):
    torch.manual_seed(0)
    relu = nn.ReLU()  # one module for both, as many write it
    inputs, *widths, classes = sizes
    networks = [
        nn.Sequential(
            nn.Linear(inputs, widths[0]), relu, nn.Linear(widths[0], widths[1]), relu, nn.Linear(widths[1], classes)
        ).double()
        for _ in range(runs)
    ]
    stack = Stack(networks)
    for batch in (4, 1, 4, 3):  # buffers are used again
        x = layout(torch.randn(runs, batch, inputs, dtype=torch.float64))
        check_gradients(stack, networks, x, torch.randint(classes, (runs, batch)))
    kept = torch.arange(runs)[-1:]
    stack.keep(kept)
    check_gradients(stack, networks[-1:], x[-1:], torch.randint(classes, (1, 3)))


def test_runs_of_one_kind_really_train_together(sweep, monkeypatch):
    configs = [*sweep, sweep[0].replace(batch_size=16)]
    networks, datasets = prepare(configs)
    sizes = []
    original = ensemble.Together.train
    monkeypatch.setattr(ensemble.Together, "train", lambda self: (sizes.append(len(self.members)), original(self)))
    histories = fit_many(networks, datasets, configs, device="cpu")
    assert sizes == [6]
    assert [history.last["epoch"] for history in histories] == [4] * 7


def test_a_run_leaves_once_its_labels_are_fitted(sweep):
    options = {"widths": [64]}
    changes = {"stop_when_fitted": True, "epochs": 60, "schedule": "constant", "learning_rate": 0.1}
    configs = [config.replace(model_options=options, **changes) for config in sweep]
    networks, datasets = prepare(configs)
    twins = copy.deepcopy(networks)
    histories = fit_many(networks, datasets, configs, device="cpu")
    alone = [fit(*run, device="cpu") for run in zip(twins, datasets, configs, strict=True)]
    ends = [history.last["epoch"] for history in histories]
    assert len(set(ends)) > 1
    for history, twin in zip(histories, alone, strict=True):
        assert history.last["train_accuracy"] == 1
        assert abs(history.last["epoch"] - twin.last["epoch"]) <= 2  # rounding may move the last example's epoch
    for network, one, history in zip(networks, datasets, histories, strict=True):
        x = torch.cat(
            [x for x, _ in data.batcher(one, configs[0].replace(inputs=one.inputs), split="train_eval").epoch(0)]
        )
        assert (network(x).argmax(1) == one.train.y).all() == (history.last["train_accuracy"] == 1)


def test_augmented_runs_and_other_networks_train_alone(sweep):
    configs = [sweep[0].replace(random_crop=1), sweep[3].replace(random_crop=1), sweep[1].replace(epochs=1)]
    configs[2] = configs[2].replace(model="alexnet_small", model_options={})
    networks, datasets = prepare(configs)
    twins = copy.deepcopy(networks)
    for history, *run in zip(
        fit_many(networks, datasets, configs, device="cpu"), twins, datasets, configs, strict=True
    ):
        close(history.rows, fit(*run, device="cpu").rows)
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), twins[0].parameters(), strict=True))


def test_probes_and_on_epoch_see_each_run_as_it_stands(sweep):
    networks, datasets = prepare(sweep)
    seen = {}

    def norm(model, epoch):
        return {"norm": sum(p.detach().norm().item() for p in model.parameters())}

    histories = fit_many(
        networks, datasets, sweep, probes=[{"size": norm}] * 6, device="cpu",
        on_epoch=lambda run, row: seen.setdefault(run, []).append(row),
    )  # fmt: skip
    assert [seen[run] for run in range(6)] == [history.rows for history in histories]
    for network, history in zip(networks, histories, strict=True):
        assert history.last["size/norm"] == pytest.approx(norm(network, 4)["norm"])
        assert len({row["size/norm"] for row in history.rows}) == 5


def test_two_dimensional_points(config):
    configs = [
        config.replace(dataset="two_moons", train_size=None, standardize="none", seed=seed, label_corruption=0.0)
        for seed in (0, 1)
    ]
    datasets = [data.load_for_run(one)[0] for one in configs]
    networks = [models.build("mlp", num_classes=2, in_shape=(2,), seed=one.seed, widths=[16]) for one in configs]
    histories = fit_many(networks, datasets, configs, device="cpu")
    assert all(history.last["train_loss"] < history.rows[0]["train_loss"] for history in histories)


def test_groups_keep_to_the_cache_and_are_of_about_equal_size(sweep, monkeypatch):
    networks, datasets = prepare(sweep)
    members = [
        ensemble.Member(run, *one, {}, None) for run, one in enumerate(zip(networks, datasets, sweep, strict=True))
    ]
    cpu = torch.device("cpu")
    assert [len(group) for group in ensemble._groups(members, cpu)] == [6]
    per_network = 4 * (3 * models.parameter_count(networks[0]) + 2 * 32 * 26)
    monkeypatch.setattr(ensemble, "CPU_BYTES", 5 * per_network)
    assert [len(group) for group in ensemble._groups(members, cpu)] == [3, 3]
    monkeypatch.setattr(ensemble, "CPU_BYTES", 1)
    assert [len(group) for group in ensemble._groups(members, cpu)] == [1] * 6


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


@pytest.mark.parametrize(
    ("model", "stackable"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), True),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Linear(4, 3, bias=False)), False),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 3)), False),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Tanh()), False),
        (nn.Sequential(nn.Linear(4, 3)).requires_grad_(False), False),
        (nn.Linear(4, 3), False),
        (nn.Sequential(nn.Flatten(2), nn.Linear(2, 3), nn.Flatten(), nn.Linear(6, 2)), False),
        (nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(-0.5), nn.Linear(3, 2)), False),
        (shared(weights=False), False),
        (shared(weights=True), False),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))), False),
        (hooked(), False),
        (nn.Sequential(Doubled(4, 3)), False),
    ],
    ids=[
        *("mlp", "dropout", "no bias", "begins with relu", "two activations", "frozen", "no sequence", "places"),
        *("negative slope", "shared layer", "shared weights", "weight norm", "hook", "derived"),
    ],
)
def test_what_can_be_stacked(model, stackable):
    assert (layout(model) is not None) == stackable


def test_divergence_names_the_run(sweep):
    configs = [config.replace(learning_rate=1e18) for config in sweep]
    networks, datasets = prepare(configs)
    with pytest.raises(DivergedError, match=r"run 0 \(seed 0, label corruption 0\): loss is (nan|inf) at step \d"):
        fit_many(networks, datasets, configs, device="cpu")


def test_lengths_must_match(sweep):
    networks, datasets = prepare(sweep)
    with pytest.raises(UserError, match="6 models, 6 datasets, 5 configs, 6 probes: expected one of each"):
        fit_many(networks, datasets, sweep[:5])


def test_nothing_to_do():
    assert fit_many([], [], []) == []


def test_weights_of_the_caller_before_training_are_used(sweep):
    configs = [config.replace(learning_rate=1e-12) for config in sweep]
    networks, datasets = prepare(configs)
    before = [weights(network) for network in networks]
    fit_many(networks, datasets, configs, device="cpu")
    for network, kept in zip(networks, before, strict=True):
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, kept[name], rtol=0, atol=1e-7)
