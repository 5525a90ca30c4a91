"""How a run is executed changes its speed, and its numbers by rounding only."""

from __future__ import annotations

import copy

import pytest
import torch

from gendyn_lite import models
from gendyn_lite.train import fit_many
from gendyn_lite.train.device import Precision
from tests.train.conftest import make_network, needs_gpu, plain, same, trained

HALF = ("bfloat16", "float16")


def close(one, other, *, rtol=1e-3, atol=1e-4):
    """Networks whose weights are the same but for rounding."""
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name].cpu(), other[name].cpu(), rtol=rtol, atol=atol, msg=name)


def small(config, digits, name="inception_small"):
    return models.build(name, num_classes=10, in_shape=digits.in_shape, seed=config.seed)


class TestPrecision:
    """The configuration's precision is that of matrix products; weights and losses stay float32."""

    @pytest.mark.parametrize(("name", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
    def test_forward_in_half_weights_in_float32_and_near_those_of_float32(self, config, digits, name, tolerance):
        seen, network = [], make_network(config, digits)
        network[1].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
        half, full = trained(config.replace(precision=name), digits, network), trained(config, digits)
        assert set(seen[2:]) == {getattr(torch, name)}  # the first two are the checks that the network fits
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
        close(half.model, full.model, rtol=tolerance, atol=tolerance)
        assert not same(half.weights, full.weights)

    @pytest.mark.parametrize("name", ["float32", "bfloat16"])
    def test_a_context_of_the_callers_does_not_keep_old_weights(self, name, config, digits):
        config = config.replace(precision=name, epochs=2)
        many = [make_network(config, digits) for _ in range(4)]
        theirs = trained(config, digits)
        rows = fit_many(many[:2], [digits] * 2, [config] * 2, device="cpu")[0].rows
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = trained(config, digits)
            inside = fit_many(many[2:], [digits] * 2, [config] * 2, device="cpu")[0].rows
        loss = ours.history.last["train_loss"]
        assert loss == pytest.approx(theirs.history.last["train_loss"], rel=1e-4)
        assert plain(inside) == plain(rows)
        close(ours.model, theirs.model, rtol=0.05, atol=0.01)
        assert loss < 0.99 * ours.history.rows[0]["train_loss"]  # every step sees the weights of the last

    def test_the_loss_is_scaled_for_float16_only_and_a_hook_sees_unscaled_gradients(self, config, digits):
        scaled, seen = [], {}
        for name in ("float32", *HALF):
            scaled.append(Precision(name, torch.device("cpu")).scaler.is_enabled())
            norms = seen.setdefault(name, [])

            def hook(model, *, epoch, step, norms=norms):
                norms.append(sum(p.grad.norm().item() for p in model.parameters()))

            trained(config.replace(precision=name), digits, grad_hook=hook)
        assert scaled == [False, False, True]
        assert seen["float16"] == pytest.approx(seen["float32"], rel=0.02)


@pytest.mark.parametrize("name", ["inception_small", "alexnet_small"])
def test_channels_last_on_the_cpu(config, digits, name, tmp_path):
    config = config.replace(epochs=1, batch_size=75)
    networks = [small(config, digits, name) for _ in range(2)]
    one = trained(config, digits, networks[0], channels_last=True, checkpoint_dir=tmp_path).model
    assert any(p.is_contiguous(memory_format=torch.channels_last) and p.dim() == 4 for p in one.parameters())
    close(one, trained(config, digits, networks[1]).model, rtol=1e-2, atol=1e-3)


class TestGPU:
    """The GPU against the CPU, and its faster ways against its plain one."""

    pytestmark = needs_gpu

    @pytest.mark.parametrize("name", ["mlp", "inception_small", "alexnet_small"])
    def test_same_as_the_cpu(self, config, digits, name):
        # Two steps: from the third on, batch-norm makes of a rounding error a tenth of the way that weights go.
        config = config.replace(epochs=1, batch_size=75, random_crop=1, flip=True)
        torch.backends.cudnn.allow_tf32 = False
        networks = [small(config, digits, name) for _ in range(2)]
        ours = trained(config, digits, networks[0], device="cuda")
        close(ours.model, trained(config, digits, networks[1]).model, rtol=1e-2, atol=1e-3)

    @pytest.mark.parametrize("way", ["channels_last", "graph"])
    def test_faster_ways_give_the_same(self, config, digits, way, monkeypatch):
        config = config.replace(epochs=2)  # the last batch is smaller: it cannot be replayed
        torch.backends.cudnn.allow_tf32 = False
        networks = [small(config, digits) for _ in range(2)]
        ours = trained(config, digits, networks[0], device="cuda", channels_last=way == "channels_last")
        monkeypatch.setattr("gendyn_lite.train.run.repeatable", lambda model: False)
        theirs = trained(config, digits, networks[1], device="cuda")
        close(ours.model, theirs.model, rtol=1e-2, atol=1e-3)
        assert ours.history.last["train_loss"] == pytest.approx(theirs.history.last["train_loss"], rel=1e-2)

    @pytest.mark.parametrize("name", HALF)
    def test_half_precision_learns(self, config, digits, name):
        rows = trained(config.replace(precision=name), digits, small(config, digits), device="cuda").history.rows
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]

    def test_no_step_waits_for_the_host(self, config, digits):
        def count(model, *, epoch, step):
            torch.cuda.set_sync_debug_mode("error" if 2 <= step < 4 else "default")

        try:
            trained(config, digits, small(config, digits), device="cuda", grad_hook=count)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_many_at_once(self, config, digits):
        ours = make_network(config, digits)
        fit_many([ours, copy.deepcopy(ours)], [digits, digits], [config, config], device="cuda")
        close(ours, trained(config, digits).model, rtol=1e-2, atol=1e-3)
