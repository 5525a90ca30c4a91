"""How a run is executed changes its speed, and its numbers by rounding only."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gendyn_lite import models
from gendyn_lite.train import fit, fit_many
from gendyn_lite.train.device import Precision
from tests.train.conftest import make_network, needs_gpu, plain, same, weights
from tests.train.test_resume import Stop, StopAt


def close(one, other, *, rtol=1e-3, atol=1e-4):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name].cpu(), other[name].cpu(), rtol=rtol, atol=atol, msg=name)


def small(config, digits, name="inception_small"):
    return models.build(name, num_classes=10, in_shape=digits.in_shape, seed=config.seed)


class TestPrecision:
    """The configuration's precision is that of matrix products; weights and losses stay float32."""

    @pytest.mark.parametrize("name", ["bfloat16", "float16"])
    def test_forward_in_half_weights_in_float32(self, config, digits, name):
        seen = []
        network = make_network(config, digits)
        network[1].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
        history = fit(network, digits, config.replace(precision=name), device="cpu")
        assert set(seen[1:]) == {getattr(torch, name)}  # the first is the check that the network fits
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
        assert history.last["train_loss"] < history.rows[0]["train_loss"]

    @pytest.mark.parametrize(("name", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
    def test_near_float32(self, config, digits, name, tolerance):
        half, full = make_network(config, digits), make_network(config, digits)
        fit(half, digits, config.replace(precision=name), device="cpu")
        fit(full, digits, config, device="cpu")
        close(weights(half), weights(full), rtol=tolerance, atol=tolerance)
        assert not same(weights(half), weights(full))

    @pytest.mark.parametrize("name", ["float32", "bfloat16"])
    def test_a_context_of_the_callers_does_not_keep_old_weights(self, name, config, digits):
        config = config.replace(precision=name, epochs=2)
        networks = [make_network(config, digits) for _ in range(6)]
        one, other, *many = networks
        theirs = fit(other, digits, config, device="cpu")
        rows = fit_many(many[:2], [digits] * 2, [config] * 2, device="cpu")[0].rows
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = fit(one, digits, config, device="cpu")
            inside = fit_many(many[2:], [digits] * 2, [config] * 2, device="cpu")[0].rows
        assert ours.last["train_loss"] == pytest.approx(theirs.last["train_loss"], rel=1e-4)
        assert plain(inside) == plain(rows)
        close(weights(one), weights(other), rtol=0.05, atol=0.01)
        assert ours.last["train_loss"] < 0.99 * ours.rows[0]["train_loss"]  # every step sees the weights of the last

    def test_the_loss_is_scaled_for_float16_only(self):
        cpu = torch.device("cpu")
        assert [Precision(name, cpu).scaler.is_enabled() for name in ("float32", "bfloat16", "float16")] == [
            False,
            False,
            True,
        ]

    def test_a_gradient_hook_sees_unscaled_gradients(self, config, digits):
        seen = {}
        for name in ("float32", "float16"):
            norms = seen.setdefault(name, [])

            def hook(model, *, epoch, step, norms=norms):
                norms.append(sum(p.grad.norm().item() for p in model.parameters()))

            fit(make_network(config, digits), digits, config.replace(precision=name), device="cpu", grad_hook=hook)
        assert seen["float16"] == pytest.approx(seen["float32"], rel=0.02)


@pytest.mark.parametrize("name", ["inception_small", "alexnet_small"])
def test_channels_last_on_the_cpu(config, digits, name, tmp_path):
    config = config.replace(epochs=1, batch_size=75)
    one, other = small(config, digits, name), small(config, digits, name)
    fit(one, digits, config, device="cpu", channels_last=True, checkpoint_dir=tmp_path)
    fit(other, digits, config, device="cpu")
    assert any(p.is_contiguous(memory_format=torch.channels_last) and p.dim() == 4 for p in one.parameters())
    close(weights(one), weights(other), rtol=1e-2, atol=1e-3)


def test_compiled_is_the_same_training(config, digits, tmp_path):
    one, other = make_network(config, digits), make_network(config, digits)
    history = fit(one, digits, config, device="cpu", compiled="eager", checkpoint_dir=tmp_path)
    expected = fit(other, digits, config, device="cpu")
    assert same(weights(one), weights(other))
    assert plain(history.rows) == plain(expected.rows)


@pytest.mark.minutes("torch.compile's own compiler")
def test_compiled_by_inductor(config, digits):
    one, other = make_network(config, digits), make_network(config, digits)
    fit(one, digits, config, device="cpu", compiled=True)
    fit(other, digits, config, device="cpu")
    close(weights(one), weights(other))


class TestGPU:
    """The GPU against the CPU, and its faster ways against its plain one."""

    pytestmark = needs_gpu

    @pytest.mark.parametrize("name", ["mlp", "inception_small", "alexnet_small"])
    def test_same_as_the_cpu(self, config, digits, name):
        # Two steps: from the third on, batch-norm makes of a rounding error a tenth of the way that weights go.
        config = config.replace(epochs=1, batch_size=75, random_crop=1, flip=True)
        one = small(config, digits, name)
        other = copy.deepcopy(one)
        torch.backends.cudnn.allow_tf32 = False
        fit(one, digits, config, device="cuda")
        fit(other, digits, config, device="cpu")
        close(weights(one), weights(other), rtol=1e-2, atol=1e-3)

    @pytest.mark.parametrize(
        "options",
        [{"channels_last": True}, {"cuda_graph": True}, {"compiled": True}],
        ids=["nhwc", "graph", "inductor"],
    )
    def test_faster_ways_give_the_same(self, config, digits, options):
        config = config.replace(epochs=2)  # the last batch is smaller: it cannot be replayed
        one = small(config, digits)
        other = copy.deepcopy(one)
        torch.backends.cudnn.allow_tf32 = False
        ours = fit(one, digits, config, device="cuda", **options)
        theirs = fit(other, digits, config, device="cuda")
        close(weights(one), weights(other), rtol=1e-2, atol=1e-3)
        assert ours.last["train_loss"] == pytest.approx(theirs.last["train_loss"], rel=1e-2)

    @pytest.mark.parametrize("name", ["bfloat16", "float16"])
    def test_half_precision_learns(self, config, digits, name):
        network = small(config, digits)
        history = fit(network, digits, config.replace(precision=name), device="cuda")
        assert history.last["train_loss"] < history.rows[0]["train_loss"]

    def test_no_step_waits_for_the_host(self, config, digits):
        def count(model, *, epoch, step):
            torch.cuda.set_sync_debug_mode("error" if 2 <= step < 4 else "default")

        try:
            fit(small(config, digits), digits, config, device="cuda", grad_hook=count)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_resume_with_the_gpus_generator(self, config, digits, tmp_path):
        whole, stopped, resumed = (nn.Sequential(nn.Dropout(0.3), make_network(config, digits)) for _ in range(3))
        options = {"device": "cuda", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
        fit(whole, digits, config, device="cuda")
        with pytest.raises(Stop):
            fit(stopped, digits, config, **options, grad_hook=StopAt(8))
        fit(resumed, digits, config, **options)
        close(weights(resumed), weights(whole), rtol=1e-4, atol=1e-6)

    def test_many_at_once(self, config, digits):
        configs = [config, config.replace(seed=config.seed)]
        ours, theirs = make_network(config, digits), make_network(config, digits)
        twin = copy.deepcopy(ours)
        fit_many([ours, twin], [digits, digits], configs, device="cuda")
        fit(theirs, digits, config, device="cpu")
        close(weights(ours), weights(theirs), rtol=1e-2, atol=1e-3)
