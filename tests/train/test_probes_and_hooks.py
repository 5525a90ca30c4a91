"""Probes, gradient hooks and batch-norm's statistics: when they are called or taken, and what they may not do."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.train import fit, log_spaced
from gendyn_lite.train.probes import reestimated_statistics, running_statistics
from tests.train.conftest import Stop, make_network, plain, same, trained, weights

MEDDLING = {
    "mode": (lambda model: model.train(), "probe 'bad' left modules in another mode"),
    "mode of one layer": (lambda model: model[1].train(), "probe 'bad' left modules in another mode"),
    "weights": (lambda model: model[1].weight.data.mul_(2), "probe 'bad' changed fc1.weight: work on a copy"),
    "statistics": (lambda m: (m[4].train()(torch.ones(2, 10)), m.eval()), "probe 'bad' changed 4.running_mean"),
    "buffer": (lambda m: m.register_buffer("extra", torch.ones(1)), "changed the model's parameters or buffers"),
    "requires_grad": (lambda model: model.requires_grad_(False), "left requires_grad changed"),
    "hook": (lambda model: model[1].register_forward_hook(lambda *args: None), "left hooks behind"),
    "generator": (lambda model: torch.rand(1), "drew from torch's global random generator"),
    "no dict": (3.0, "probe 'bad' returned float, expected a dict of numbers"),
    "no JSON": ({"a": object()}, "probe value 'bad/a' is a object, expected numbers, text or lists"),
}
SHRINKING = {
    "its data": lambda p: setattr(p.grad, "data", p.grad[:1]),
    "the weight": lambda p: setattr(p, "data", p[:1]),
}


class TestProbes:
    """Called in eval mode, watched, flattened into the row."""

    def test_values_of_every_kind_end_in_the_row(self, network, digits, config):
        values = {"float": 1.5, "one": torch.tensor([2.0]), "array": np.arange(2), "numpy": np.float32(3), "text": "a"}
        history = fit(network, digits, config, device="cpu", probes={"p": lambda model, epoch: values | {"at": epoch}})
        expected = {"p/float": 1.5, "p/one": 2.0, "p/array": [0, 1], "p/numpy": 3.0, "p/text": "a", "p/at": 4}
        assert {key: value for key, value in history.last.items() if key.startswith("p/")} == expected

    def test_eval_mode_and_gradients_allowed(self, digits, config):
        network = nn.Sequential(nn.Dropout(), make_network(config, digits))

        def probe(model, epoch):
            assert not any(module.training for module in model.modules())
            model(torch.ones(1, 1, 8, 8)).sum().backward()
            return {"norm": float(sum(p.grad.norm() for p in model.parameters()))}

        history = fit(network, digits, config, device="cpu", probes={"gradient": probe})
        assert all(row["gradient/norm"] > 0 for row in history.rows)
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_chosen_epochs_are_evaluated_too_and_others_lack_the_probe(self, network, digits, config):
        config = config.replace(epochs=10, eval_every=4)
        probes = {"p": lambda model, epoch: {"at": epoch}}
        history = fit(network, digits, config, device="cpu", probes=probes, probe_epochs=log_spaced(10, 4))
        assert history.column("epoch") == [0, 1, 2, 4, 5, 8, 10]
        assert history.column("p/at") == [0, 1, 2, None, 5, None, 10]

    def test_the_early_schedule_looks_within_the_first_epoch_and_changes_no_number(self, digits, config):
        config = config.replace(train_size=None, epochs=12, batch_size=8)
        steps = math.ceil(len(digits.train.y) / 8)
        probes = {"p": lambda model, epoch: {"at": epoch}}
        early = trained(config.replace(eval_schedule="early"), digits, probes=probes)
        regular = trained(config, digits)
        expected = [step / steps for step in (1, 2, 5, 10)] + [*range(1, 9), 11, 12]
        assert early.history.column("epoch") == early.history.column("p/at") == [0, *expected]
        assert early.history.column("step")[1:5] == [1, 2, 5, 10]
        assert same(early.weights, regular.weights)
        known = {row["epoch"]: row for row in plain(regular.history.rows)}
        rows = [{key: row[key] for key in known[0]} for row in plain(early.history.rows) if row["epoch"] in known]
        assert rows == [known[row["epoch"]] for row in rows]

    def test_a_resume_within_the_first_epoch_has_every_row_once(self, digits, config, tmp_path):
        config = config.replace(eval_schedule="early", batch_size=8, epochs=2)
        whole, calls = trained(config, digits), []

        def stop(model, epoch):
            calls.append(epoch)
            if len(calls) == 4:
                raise Stop
            return {}

        with pytest.raises(Stop):
            options = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
            trained(config, digits, probes={"stop": stop}, **options)
        again = trained(config, digits, checkpoint_dir=tmp_path)
        assert 0 < calls[-1] < 1 and again.history.resumed_at
        assert again.same_as(whole)

    @pytest.mark.parametrize(("deed", "message"), MEDDLING.values(), ids=MEDDLING)
    def test_meddling_and_what_is_no_row_are_named(self, network, digits, config, deed, message):
        def bad(model, epoch):
            if not callable(deed):
                return deed
            deed(model)
            return {}

        network.append(nn.BatchNorm1d(10))
        good = {"good": lambda model, epoch: {"fine": 1}}
        with pytest.raises(UserError, match=message):
            fit(network, digits, config, device="cpu", probes=good | {"bad": bad})


class Recorder:
    """A gradient hook that notes when each of its methods is called."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, *, epoch, step):
        assert all(parameter.grad is not None for parameter in model.parameters())
        self.calls.append(("grad", epoch, step))

    def after_step(self, model, optimizer):
        assert isinstance(optimizer, torch.optim.SGD)
        assert all("momentum_buffer" in optimizer.state[parameter] for parameter in model.parameters())
        self.calls.append(("after",))

    def epoch_end(self, model, epoch):
        self.calls.append(("end", epoch))


class TestGradientHook:
    """Between backward and step; its further methods; shapes held."""

    def test_order_of_calls(self, network, digits, config):
        hook = Recorder()
        fit(network, digits, config.replace(epochs=2), device="cpu", grad_hook=hook)
        expected = []
        for step in range(1, 11):
            epoch = 1 + (step > 5)
            expected += [("grad", epoch, step), ("after",)] + [("end", epoch)] * (step % 5 == 0)
        assert hook.calls == expected

    def test_a_plain_function_changes_gradients_in_place(self, network, digits, config):
        before = weights(network)

        def freeze_first(model, *, epoch, step):
            model[1].weight.grad.zero_()

        fit(network, digits, config, device="cpu", grad_hook=freeze_first)
        assert torch.equal(network[1].weight, before["fc1.weight"])
        assert not torch.equal(network[3].weight, before["fc2.weight"])

    @pytest.mark.parametrize("deed", SHRINKING.values(), ids=SHRINKING)
    def test_changed_shapes_are_named(self, network, digits, config, deed):
        def shrink(model, *, epoch, step):
            deed(model[1].weight)

        with pytest.raises(UserError, match=r"grad_hook shrink changed shapes: "):
            fit(network, digits, config, device="cpu", grad_hook=shrink)


@pytest.mark.parametrize("sizes", [(10,), (4, 6), (3, 3, 4), (9, 1)], ids=str)
def test_averages_of_batches_by_their_examples(sizes):
    torch.manual_seed(1)
    x = torch.randn(10, 3, 2, 2) * 3 + 1
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    parts = [part for part in x.split(sizes) if len(part) > 1]
    total = sum(len(part) for part in parts)
    mean = sum(part.mean((0, 2, 3)) * len(part) for part in parts) / total
    variance = sum(part.transpose(0, 1).flatten(1).var(1) * len(part) for part in parts) / total
    with reestimated_statistics(model, [(part, None) for part in x.split(sizes)]):
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
        assert not any(module.training for module in model.modules())
        inside = model(x)
    torch.testing.assert_close(inside, (x - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt())
    with pytest.raises(ZeroDivisionError), reestimated_statistics(model, [(x, None)]):
        raise ZeroDivisionError  # it is put back after an error too
    assert same(norm.state_dict(), before)
    assert norm.momentum == 0.1


def test_two_layers_see_each_other_as_in_training():
    """The second layer's statistics are those of what the first one passes on when it normalizes by its batch."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3)).eval()
    x = torch.randn(20, 4)
    twin = copy.deepcopy(model).train()
    for module in twin:
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0
    twin(x)
    with reestimated_statistics(model, [(x, None)]):
        torch.testing.assert_close(model(x), twin.eval()(x))


def test_the_running_statistics_can_be_looked_at_meanwhile():
    norm, x = nn.BatchNorm1d(2).eval(), torch.randn(20, 2) + 3
    with running_statistics(norm):  # its own, where none are re-estimated
        assert norm.running_mean.tolist() == [0, 0]
    with reestimated_statistics(norm, [(x, None)]):
        with running_statistics(norm):
            assert norm.running_mean.tolist() == [0, 0]
        torch.testing.assert_close(norm.running_mean, x.mean(0))
    assert norm.running_mean.tolist() == [0, 0]


def test_of_a_run_training_is_the_same_and_what_is_measured_is_not(config, digits):
    def run(statistics):
        torch.manual_seed(2)
        layers = nn.BatchNorm2d(1, momentum=0.01), nn.Dropout(0.2), make_network(config, digits)
        probes = {"p": lambda model, epoch: {"mean": float(model[0].running_mean[0])}}
        return trained(config.replace(batch_norm_statistics=statistics), digits, nn.Sequential(*layers), probes=probes)

    running, anew = run("running"), run("re-estimated")
    assert same(running.weights, anew.weights)
    assert all(abs(value) < 1e-2 for value in anew.history.column("p/mean"))  # every image is standardized
    assert running.history.column("train_loss") != anew.history.column("train_loss")


@given(epochs=st.integers(1, 10_000), count=st.integers(1, 60))
def test_log_spaced_is_sorted_unique_and_has_both_ends(epochs, count):
    chosen = log_spaced(epochs, count)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[1] == 1 or epochs == 1 or count == 1
    assert chosen[-1] == epochs
    assert len(chosen) <= count + 2


@pytest.mark.parametrize(("epochs", "count"), [(0, 3), (3, 0)])
def test_log_spaced_refuses_nothing_to_space(epochs, count):
    with pytest.raises(UserError, match="expected at least one epoch and one probe"):
        log_spaced(epochs, count)
