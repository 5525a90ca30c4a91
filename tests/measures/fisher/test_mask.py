"""The gradient mask: exact thresholds, weights that do not move, controls of the same size, resume to the bit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.measures import fisher
from tests.measures.networks import refused

CONFIG = RunConfig(
    experiment="mask", model="mlp", model_options={"widths": [16]}, train_size=60, epochs=3, batch_size=20,
    learning_rate=0.05, momentum=0.9, weight_decay=0.01,
)  # fmt: skip


def loaded(config=CONFIG):
    found, _ = data.load_for_run(config)
    batches = list(data.batcher(found, config, split="train_eval").epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return found, x, y


def network(config=CONFIG):
    return models.build(config.model, num_classes=10, in_shape=(1, 8, 8), seed=0, **config.model_options)


def refreshed(model, examples=None, **options):
    mask = fisher.GradientMask(0.3, examples, **options)
    mask.epoch_end(model, 1)
    return mask


class Watched(fisher.GradientMask):
    """A mask that keeps the weights at the end of each epoch, and the momentum after each step."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.weights, self.all_masks, self.momentum = [], [], []

    def epoch_end(self, model, epoch):
        self.weights.append({name: value.detach().clone() for name, value in model.named_parameters()})
        super().epoch_end(model, epoch)
        self.all_masks.append(dict(self.masks))

    def after_step(self, model, optimizer):
        super().after_step(model, optimizer)
        self.momentum.append(
            {name: optimizer.state[value]["momentum_buffer"].clone() for name, value in model.named_parameters()}
        )


class TestSelection:
    """One exact threshold over many tensors."""

    @pytest.mark.parametrize("keep", [0.001, 0.25, 0.5, 0.7, 1.0])
    def test_it_is_that_of_a_sorted_list(self, keep):
        generator = torch.Generator().manual_seed(0)
        scores = {str(i): torch.rand(17, i + 1, generator=generator) for i in range(6)}
        flat = torch.cat([value.flatten() for value in scores.values()]).sort(descending=True).values
        count = math.ceil(keep * len(flat) - 1e-9)
        assert fisher.threshold(scores, keep) == flat[count - 1]
        masks = fisher.largest(scores, keep)
        assert sum(int(mask.sum()) for mask in masks.values()) == count
        assert all(mask.shape == scores[name].shape for name, mask in masks.items())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_signs_zeros_and_repeats(self, dtype):
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(999, generator=generator, dtype=dtype)
        values[::3], values[1::7] = 0.0, -0.0
        for keep in (0.1, 0.4, 0.6, 0.95):
            expected = values.sort(descending=True).values[math.ceil(keep * 999 - 1e-9) - 1]
            assert fisher.threshold({"a": values[:500], "b": values[500:]}, keep) == expected

    @pytest.mark.parametrize("keep", [1e-9, 1e-300])
    def test_the_smallest_share_keeps_one_entry(self, keep):
        assert fisher.largest({"a": torch.arange(10.0)}, keep)["a"].nonzero().tolist() == [[9]]

    def test_ties_are_treated_alike(self):
        masks = fisher.largest({"a": torch.tensor([1.0, 0.0, 0.0, 0.0])}, 0.5)
        assert masks["a"].all()


class TestMask:
    """What it chooses, and that the rest stands still."""

    def test_it_is_the_diagonal_at_the_end_of_the_epoch(self):
        model = network().train()
        _, x, y = loaded()
        mask = refreshed(model, (x, y))
        assert all(module.training for module in model.modules())
        expected = fisher.largest(fisher.diagonal(model.eval(), x, y), 0.3)
        total = sum(value.numel() for value in expected.values())
        different = sum(int((mask.masks[name] != value).sum()) for name, value in expected.items())
        assert different <= 2  # rounding at the threshold
        assert mask.kept == pytest.approx(0.3, abs=2 / total)

    def test_batches_by_a_function_and_sums_over_processes_change_nothing(self):
        model, (_, x, y) = network().eval(), loaded()
        whole = refreshed(model, (x, y))
        parts = refreshed(model, lambda: zip(x.split(32), y.split(32), strict=True))
        seen = []
        twice = refreshed(model, (x, y), reduce=lambda value: seen.append(value.shape) or 2 * value)
        assert len(seen) == len(list(model.parameters()))
        for mask in (parts, twice):
            assert all(torch.equal(mask.masks[name], value) for name, value in whole.masks.items())

    @pytest.mark.parametrize("by", ["fisher", "magnitude", "random"])
    def test_masked_weights_do_not_move_and_their_momentum_rests(self, by):
        found, x, y = loaded()
        hook, steps, moved = Watched(0.4, (x, y), by=by), 3, 0
        train.fit(network(), found, CONFIG, device="cpu", grad_hook=hook)
        for epoch, (mask, before, after) in enumerate(
            zip(hook.all_masks, hook.weights, hook.weights[1:], strict=False)
        ):
            for name, kept in mask.items():
                assert torch.equal(before[name][~kept], after[name][~kept])
                moved += int((before[name][kept] != after[name][kept]).sum())
                for momentum in hook.momentum[(epoch + 1) * steps : (epoch + 2) * steps]:
                    assert (momentum[name][~kept] == 0).all()
        assert moved > 100

    def test_keep_1_is_no_mask_to_the_bit(self):
        found, x, y = loaded()
        masked, plain = network(), network()
        rows = train.fit(masked, found, CONFIG, device="cpu", grad_hook=fisher.GradientMask(1, (x, y))).rows
        expected = train.fit(plain, found, CONFIG, device="cpu").rows
        assert all(torch.equal(a, b) for a, b in zip(masked.parameters(), plain.parameters(), strict=True))
        assert [row["test_loss"] for row in rows] == [row["test_loss"] for row in expected]

    def test_a_threshold_for_each_layer_keeps_its_share_of_each(self):
        model, (_, x, y) = network().eval(), loaded()
        mask, whole = refreshed(model, (x, y), scope="layer"), refreshed(model, (x, y))
        for layer in ("fc1", "fc2"):
            own = torch.cat([kept.flatten() for name, kept in mask.masks.items() if name.startswith(layer)])
            assert own.sum() >= 0.3 * len(own)  # weights of pixels that are always black tie at 0
        assert any(not torch.equal(whole.masks[name], mask.masks[name]) for name in mask.masks)

    def test_controls_have_the_same_size_and_their_own_choice(self):
        model = network()
        size = math.ceil(0.3 * sum(value.numel() for value in model.parameters()))
        magnitude, random, again = (refreshed(model, by=by, seed=1) for by in ("magnitude", "random", "random"))
        for mask in (magnitude, random):
            assert sum(int(kept.sum()) for kept in mask.masks.values()) == size
        values = [(value.detach().abs(), magnitude.masks[name]) for name, value in model.named_parameters()]
        assert min(float(v[kept].min()) for v, kept in values) >= max(float(v[~kept].max()) for v, kept in values)
        assert all(torch.equal(random.masks[name], again.masks[name]) for name in random.masks)
        again.epoch_end(model, 2)
        assert any(not torch.equal(random.masks[name], again.masks[name]) for name in random.masks)

    def test_a_resumed_run_goes_on_to_the_bit(self, tmp_path):
        found, x, y = loaded()
        whole = network()
        train.fit(whole, found, CONFIG, device="cpu", grad_hook=fisher.GradientMask(0.4, (x, y)))

        class Stop(fisher.GradientMask):
            def __call__(self, model, *, epoch, step):
                if step == 5:
                    raise KeyboardInterrupt
                super().__call__(model, epoch=epoch, step=step)

        options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
        with pytest.raises(KeyboardInterrupt):
            train.fit(network(), found, CONFIG, grad_hook=Stop(0.4, (x, y)), **options)
        resumed, hook = network(), fisher.GradientMask(0.4, (x, y))
        history = train.fit(resumed, found, CONFIG, grad_hook=hook, **options)
        assert history.resumed_at == [4]
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
        copied = copy.deepcopy(hook.state_dict())
        other = fisher.GradientMask(0.4, (x, y))
        other.load_state_dict(copied)
        assert other.kept == hook.kept and set(other.masks) == set(hook.masks)

    def test_batch_norm_in_train_mode_is_evaluated_for_the_fisher_information(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
        x, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 0, 1])
        mask = fisher.GradientMask(0.5, (x, y))
        mask.epoch_end(model, 1)
        assert model[1].training and set(mask.masks) == {name for name, _ in model.named_parameters()}


SCORES = {"a": torch.tensor([1.0, float("nan")])}
ONES = torch.ones(3, 2), torch.tensor([0, 1, 0])
DIVERGED = nn.Linear(2, 2)
DIVERGED.weight.data.fill_(float("nan"))
BAD = [
    (fisher.GradientMask, (1.5,), {}, r"keep is 1.5, expected a share in \(0, 1\]"),
    (fisher.GradientMask, (0.5,), {"by": "fischer"}, "unknown score of the mask 'fischer': did you mean 'fis"),
    (fisher.GradientMask, (0.5,), {"by": "random", "scope": "layers"}, "unknown scope of the mask 'layers'"),
    (fisher.GradientMask, (0.5,), {}, r"a mask by Fisher information needs examples=\(x, y\)"),
    (fisher.threshold, ({}, 0.5), {}, "there are no scores to choose from"),
    (fisher.threshold, ({"a": torch.zeros(0)}, 0.5), {}, "there are no scores to choose from"),
    (fisher.threshold, (SCORES, 0.5), {}, "a score is NaN, so that there is no order"),
    (refreshed, (DIVERGED, ONES), {}, "the gradient of example 0 and 2 more is not finite"),
]


test_bad_input_is_one_line = refused(dict(enumerate(BAD)))
