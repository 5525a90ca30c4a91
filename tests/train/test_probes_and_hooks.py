"""Probes and gradient hooks: when they are called, and what they may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.train import fit, log_spaced
from tests.train.conftest import make_network, same, weights


class TestProbes:
    """Called in eval mode, watched, flattened into the row."""

    def test_values_of_every_kind_end_in_the_row(self, network, digits, config):
        values = {
            "float": 1.5,
            "tensor": torch.tensor([2.0]),
            "array": np.arange(2),
            "numpy": np.float32(3),
            "text": "a",
        }
        history = fit(network, digits, config, device="cpu", probes={"p": lambda model, epoch: values | {"at": epoch}})
        expected = {"p/float": 1.5, "p/tensor": 2.0, "p/array": [0, 1], "p/numpy": 3.0, "p/text": "a", "p/at": 4}
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

    def test_gradients_of_a_probe_do_not_enter_the_training(self, digits, config):
        def probe(model, epoch):
            model(torch.ones(1, 1, 8, 8)).sum().backward()
            return {}

        probed, plain = make_network(config, digits), make_network(config, digits)
        fit(probed, digits, config, device="cpu", probes={"gradient": probe})
        fit(plain, digits, config, device="cpu")
        assert same(weights(probed), weights(plain))

    def test_chosen_epochs_are_evaluated_too(self, network, digits, config):
        config = config.replace(epochs=10, eval_every=10)
        probes = {"p": lambda model, epoch: {"at": epoch}}
        history = fit(network, digits, config, device="cpu", probes=probes, probe_epochs=log_spaced(10, 4))
        assert history.column("epoch") == history.column("p/at") == [0, 1, 2, 5, 10]

    def test_other_epochs_lack_the_probe(self, network, digits, config):
        probes = {"p": lambda model, epoch: {"at": epoch}}
        history = fit(network, digits, config, device="cpu", probes=probes, probe_epochs=[2])
        assert history.column("p/at") == [None, None, 2, None, None]

    @pytest.mark.parametrize(
        ("deed", "message"),
        [
            (lambda model: model.train(), "probe 'bad' left modules in another mode"),
            (lambda model: model[1].train(), "probe 'bad' left modules in another mode"),
            (lambda model: model[1].weight.data.mul_(2), r"probe 'bad' changed fc1.weight: work on a copy"),
            (lambda model: model.register_buffer("extra", torch.ones(1)), "changed the model's parameters or buffers"),
            (lambda model: model.requires_grad_(False), "left requires_grad changed"),
            (lambda model: model[1].register_forward_hook(lambda *args: None), "left hooks behind"),
            (lambda model: torch.rand(1), "drew from torch's global random generator"),
        ],
        ids=["mode", "mode of one layer", "weights", "buffer", "requires_grad", "hook", "generator"],
    )
    def test_meddling_is_named(self, network, digits, config, deed, message):
        def bad(model, epoch):
            deed(model)
            return {}

        good = {"good": lambda model, epoch: {"fine": 1}}
        with pytest.raises(UserError, match=message):
            fit(network, digits, config, device="cpu", probes=good | {"bad": bad})

    def test_changed_batch_norm_statistics_are_named(self, digits, config):
        network = nn.Sequential(nn.BatchNorm2d(1), make_network(config, digits))

        def bad(model, epoch):
            model.train()
            model(torch.ones(2, 1, 8, 8))
            model.eval()
            return {}

        with pytest.raises(UserError, match=r"probe 'bad' changed 0.running_mean"):
            fit(network, digits, config, device="cpu", probes={"bad": bad})

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (3.0, "probe 'p' returned float, expected a dict of numbers"),
            ({"a": object()}, "probe value 'p/a' is a object, expected numbers, text or lists"),
        ],
        ids=["no dict", "no JSON"],
    )
    def test_what_a_probe_may_return(self, network, digits, config, value, message):
        with pytest.raises(UserError, match=message):
            fit(network, digits, config, device="cpu", probes={"p": lambda model, epoch: value})


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
        for epoch in (1, 2):
            for step in range(1, 6):
                expected += [("grad", epoch, 5 * (epoch - 1) + step), ("after",)]
            expected.append(("end", epoch))
        assert hook.calls == expected

    def test_a_plain_function_changes_gradients_in_place(self, network, digits, config):
        before = weights(network)

        def freeze_first(model, *, epoch, step):
            model[1].weight.grad.zero_()

        fit(network, digits, config, device="cpu", grad_hook=freeze_first)
        assert torch.equal(network[1].weight, before["fc1.weight"])
        assert not torch.equal(network[3].weight, before["fc2.weight"])

    def test_a_hook_that_does_nothing_changes_nothing(self, digits, config):
        hooked, plain = make_network(config, digits), make_network(config, digits)
        fit(hooked, digits, config, device="cpu", grad_hook=lambda model, epoch, step: None)
        fit(plain, digits, config, device="cpu")
        assert same(weights(hooked), weights(plain))

    @pytest.mark.parametrize(
        "deed",
        [
            lambda p: setattr(p, "grad", p.grad[:1]),
            lambda p: setattr(p.grad, "data", p.grad[:1]),
            lambda p: setattr(p, "data", p[:1]),
        ],
        ids=["new gradient", "its data", "the weight"],
    )
    def test_changed_shapes_are_named(self, network, digits, config, deed):
        def shrink(model, *, epoch, step):
            deed(model[1].weight)

        with pytest.raises(UserError, match=r"grad_hook shrink changed shapes: "):
            fit(network, digits, config, device="cpu", grad_hook=shrink)

    def test_other_errors_of_a_hook_pass_unchanged(self, network, digits, config):
        def broken(model, *, epoch, step):
            raise RuntimeError("its own trouble")

        with pytest.raises(RuntimeError, match=r"^its own trouble$"):
            fit(network, digits, config, device="cpu", grad_hook=broken)
