"""The gradient mask: exact thresholds, weights that do not move, controls of the same size, resume to the bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.measures import fisher
from gendyn_lite.train.probes import reestimated_statistics
from tests.measures.networks import refused

CONFIG = RunConfig(
    experiment="mask", model="mlp", model_options={"widths": [16]}, train_size=60, epochs=3, batch_size=20,
    learning_rate=0.05, momentum=0.9, weight_decay=0.01,
)  # fmt: skip


def loaded():
    found, _ = data.load_for_run(CONFIG)
    batches = list(data.batcher(found, CONFIG, split="train_eval").epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return found, x, y


def network():
    return models.build("mlp", num_classes=10, in_shape=(1, 8, 8), seed=0, widths=[16])


def refreshed(model, examples=None, **options):
    mask = fisher.GradientMask(0.3, examples, **options)
    mask.epoch_end(model, 1)
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [1e-300, 1e-9, 0.001, 0.1, 0.4, 0.6, 0.95, 1.0])
def test_the_threshold_is_that_of_a_sorted_list(keep, dtype):
    """With zeros of both signs and equal values, which are treated alike."""
    values = torch.randn(999, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values[::3], values[1::7] = 0.0, -0.0
    scores = {"a": values[:500].view(20, 25), "b": values[500:]}
    count = max(1, math.ceil(keep * 999 - 1e-9))
    least = values.sort(descending=True).values[count - 1]
    assert fisher.threshold(scores, keep) == least
    masks = fisher.largest(scores, keep)
    assert {name: mask.shape for name, mask in masks.items()} == {name: value.shape for name, value in scores.items()}
    assert sum(int(mask.sum()) for mask in masks.values()) == count
    for name, value in scores.items():
        assert masks[name][value > least].all() and not masks[name][value < least].any()


def test_three_quarters_of_zeros_do_not_keep_everything():
    """The share is kept exactly: all that carry information, and of the others as many as it needs, by the seed."""
    scores = {"a": torch.tensor([0.0] * 750 + [1.0] * 250).view(10, 100)}
    quarter = fisher.largest(scores, 0.25)["a"]
    assert torch.equal(quarter, scores["a"] > 0)
    first, again, other = (fisher.largest(scores, 0.5, seed=seed)["a"] for seed in (0, 0, 1))
    assert int(first.sum()) == int(other.sum()) == 500 and first[quarter].all() and other[quarter].all()
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 100 < int(first.flatten()[:375].sum()) < 150  # not the first ones: drawn among all


def test_a_mask_draws_among_equal_weights_by_its_seed_and_keeps_its_share():
    """Most pixels of ten images are black in all of them: their weights have no information at all."""
    model, (_, x, y) = network().eval(), loaded()
    x = x * (torch.arange(64).view(1, 1, 8, 8) < 12)
    size = sum(value.numel() for value in model.parameters())
    same, again, other = (fisher.GradientMask(0.6, (x, y), seed=seed) for seed in (3, 3, 4))
    for mask in (same, again, other):
        mask.epoch_end(model, 1)
        assert mask.kept == pytest.approx(math.ceil(0.6 * size) / size)
    assert all(torch.equal(same.masks[name], value) for name, value in again.masks.items())
    assert not torch.equal(same.masks["fc1.weight"], other.masks["fc1.weight"])


def test_it_is_the_diagonal_at_the_end_of_the_epoch():
    _, x, y = loaded()
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).train()
    mask = refreshed(model, (x, y))
    assert all(module.training for module in model.modules())  # as it was
    expected = fisher.largest(fisher.diagonal(model.eval(), x, y), 0.3)
    total = sum(value.numel() for value in expected.values())
    different = sum(int((mask.masks[name] != value).sum()) for name, value in expected.items())
    assert different <= 2  # rounding at the threshold
    assert mask.kept == pytest.approx(0.3, abs=2 / total)


def test_batches_by_a_function_and_sums_over_processes_change_nothing():
    model, (_, x, y) = network().eval(), loaded()
    whole, seen = refreshed(model, (x, y)), []
    parts = refreshed(model, lambda: zip(x.split(32), y.split(32), strict=True))
    twice = refreshed(model, (x, y), reduce=lambda value: seen.append(value.shape) or 2 * value)
    assert len(seen) == len(list(model.parameters()))
    for mask in (parts, twice):
        assert all(torch.equal(mask.masks[name], value) for name, value in whole.masks.items())


class Watched(fisher.GradientMask):
    """After each step masked weights are where they were at the epoch's start, and their momentum rests."""

    start, moved = {}, 0

    def epoch_end(self, model, epoch):
        super().epoch_end(model, epoch)
        self.start = {name: value.detach().clone() for name, value in model.named_parameters()}

    def after_step(self, model, optimizer):
        super().after_step(model, optimizer)
        for name, kept in self.masks.items():
            value = model.get_parameter(name)
            assert torch.equal(value[~kept], self.start[name][~kept])
            assert (optimizer.state[value]["momentum_buffer"][~kept] == 0).all()
            self.moved += int((value[kept] != self.start[name][kept]).sum())


@pytest.mark.parametrize("by", ["fisher", "magnitude", "random", "random_fixed"])
def test_masked_weights_do_not_move_and_their_momentum_rests(by):
    found, x, y = loaded()
    hook = Watched(0.4, (x, y), by=by)
    train.fit(network(), found, CONFIG, device="cpu", grad_hook=hook)
    assert hook.moved > 100


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_keep_1_is_no_mask_to_the_bit():
    found, x, y = loaded()
    masked, plain = network(), network()
    for model, hook in ((masked, fisher.GradientMask(1, (x, y))), (plain, None)):
        train.fit(model, found, CONFIG, device="cpu", grad_hook=hook)
    assert equal(masked, plain)


def test_a_threshold_for_each_layer_keeps_its_share_of_each():
    model, (_, x, y) = network().eval(), loaded()
    mask, whole = refreshed(model, (x, y), scope="layer"), refreshed(model, (x, y))
    for layer in ("fc1", "fc2"):
        own = torch.cat([kept.flatten() for name, kept in mask.masks.items() if name.startswith(layer)])
        assert own.sum() == math.ceil(0.3 * len(own))  # though weights of pixels that are always black tie at 0
    assert any(not torch.equal(whole.masks[name], mask.masks[name]) for name in mask.masks)


def test_controls_have_the_same_size_and_their_own_choice():
    model = network()
    magnitude, random, again = (refreshed(model, by=by, seed=1).masks for by in ("magnitude", "random", "random"))
    size = math.ceil(0.3 * sum(value.numel() for value in model.parameters()))
    assert [sum(int(kept.sum()) for kept in masks.values()) for masks in (magnitude, random)] == [size, size]
    values = [(value.detach().abs(), magnitude[name]) for name, value in model.named_parameters()]
    assert min(float(v[kept].min()) for v, kept in values) >= max(float(v[~kept].max()) for v, kept in values)
    other = fisher.GradientMask(0.3, by="random", seed=1)
    other.epoch_end(model, 2)
    assert all(torch.equal(random[name], again[name]) for name in random)
    assert any(not torch.equal(random[name], other.masks[name]) for name in random)
    fixed = [fisher.GradientMask(0.3, by="random_fixed", seed=seed) for seed in (1, 1, 2)]
    for epoch, mask in enumerate(fixed, start=1):
        mask.epoch_end(model, epoch)
    same = [torch.equal(fixed[0].masks[name], fixed[1].masks[name]) for name in random]
    assert all(same) and not torch.equal(fixed[0].masks["fc1.weight"], fixed[2].masks["fc1.weight"])


def test_information_is_taken_within_the_context_that_is_given():
    """Such as batch-norm's statistics re-estimated: there the mask is that of the re-estimated network."""
    _, x, y = loaded()
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).eval()
    masks = [refreshed(model, (x, y), **options) for options in ({}, {"within": lambda model: anew(model, x)})]
    assert not torch.equal(masks[0].masks["2.weight"], masks[1].masks["2.weight"])
    with anew(model, x):
        assert torch.equal(refreshed(model, (x, y)).masks["2.weight"], masks[1].masks["2.weight"])


def anew(model, x):
    return reestimated_statistics(model, [(x, None)])


def test_a_resumed_run_goes_on_to_the_bit(tmp_path):
    class Stop(fisher.GradientMask):
        def __call__(self, model, *, epoch, step):
            if step == 5:
                raise KeyboardInterrupt
            super().__call__(model, epoch=epoch, step=step)

    found, x, y = loaded()
    whole, resumed, hook = network(), network(), fisher.GradientMask(0.4, (x, y))
    train.fit(whole, found, CONFIG, device="cpu", grad_hook=fisher.GradientMask(0.4, (x, y)))
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train.fit(network(), found, CONFIG, grad_hook=Stop(0.4, (x, y)), **options)
    assert train.fit(resumed, found, CONFIG, grad_hook=hook, **options).resumed_at == [4]
    assert equal(whole, resumed)
    other = fisher.GradientMask(0.4, (x, y))
    other.load_state_dict(hook.state_dict())
    assert other.kept == hook.kept and set(other.masks) == set(hook.masks)


SCORES = {"a": torch.tensor([1.0, float("nan")])}
ONES = torch.ones(3, 2), torch.tensor([0, 1, 0])
DIVERGED = nn.Linear(2, 2)
DIVERGED.weight.data.fill_(float("nan"))
BAD = [
    (fisher.GradientMask, (1.5,), {}, r"keep is 1.5, expected a share in \(0, 1\]"),
    (fisher.GradientMask, (0.5,), {"by": "fischer"}, "unknown score of the mask 'fischer': did you mean 'fis"),
    (fisher.GradientMask, (0.5,), {"by": "random", "scope": "layers"}, "unknown scope of the mask 'layers'"),
    (fisher.GradientMask, (0.5,), {}, r"a mask by Fisher information needs examples=\(x, y\)"),
    (fisher.threshold, ({"a": torch.zeros(0)}, 0.5), {}, "there are no scores to choose from"),
    (fisher.threshold, (SCORES, 0.5), {}, "a score is NaN, so that there is no order"),
    (fisher.largest, ({"a": torch.zeros(4)}, 0.25), {}, "all 4 scores are 0: they have no order by which to keep 25%"),
    (refreshed, (DIVERGED, ONES), {}, "the gradient of example 0 and 2 more is not finite"),
]


test_bad_input_is_one_line = refused(dict(enumerate(BAD)))


def test_a_process_without_a_share_of_the_examples_adds_nothing():
    _, x, y = loaded()
    model, own = network(), []
    whole = refreshed(model, lambda: [(x, y), (x[:0], y[:0])])
    assert all(torch.equal(refreshed(model, (x, y)).masks[name], mask) for name, mask in whole.masks.items())

    def summed(value):
        own.append(value)
        return value + torch.arange(value.numel()).view_as(value)  # what another process has

    refreshed(model, lambda: [(x[:0], y[:0])], reduce=summed)
    assert own and not any(value.any() for value in own)
