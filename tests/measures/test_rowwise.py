"""The axis of the examples through operations: what keeps them apart is seen, and nothing that mixes them passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from gendyn_lite.measures.per_example.rowwise import RowWise

X = torch.linspace(-2, 2, 4 * 3 * 4).sin().view(4, 3, 4)
WEIGHT = torch.linspace(-1, 1, 16).view(4, 4)
APART = {
    "views": lambda x: x.reshape(12, 4).view(4, 12),
    "places first": lambda x: (x.transpose(0, 1).reshape(12, 4) @ WEIGHT.t().clone()).view(3, 4, 4).transpose(0, 1),
    "a product": lambda x: F.linear(x, WEIGHT),
    "attention": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0],
    "products of each": lambda x: x @ x.mT,
    "a token for all": lambda x: torch.cat([WEIGHT[:1].expand(len(x), 1, -1), x], 1),
    "a norm": lambda x: F.layer_norm(x, (3, 4)),
    "a mean over places": lambda x: x - x.mean(1, keepdim=True),
    "a part of places": lambda x: torch.stack(x.unbind(1)[:2], 1).squeeze().unsqueeze(1),
    "in place": lambda x: x.clone().mul_(2).add_(1).clamp_(max=1),
    "sorted places": lambda x: x.sort(dim=1)[0].flip(2).roll(1, 1),
    "constants like it": lambda x: x + torch.ones_like(x),
}  # fmt: skip
MIXED = {
    "a mean": lambda x: x - x.mean(0),
    "a mean of all": lambda x: x - x.mean(),
    "a variance of all, by a bool": lambda x: x / x.var(True),
    "a number": lambda x: x * x.sum().item(),
    "places": lambda x: x * torch.arange(4).view(4, 1, 1),
    "another order": lambda x: x[[1, 0, 2, 3]],
    "turned round": lambda x: x.flip(0),
    "rolled": lambda x: x.roll(1, 0),
    "rolled as a whole": lambda x: x.roll(1),
    "exchanged axes": lambda x: x + x.transpose(0, 2),
    "a part of the batch": lambda x: torch.cat([x[:2], x[:2]]),
    "one row": lambda x: x + x[0],
    "one row, in place": lambda x: x.clone().index_fill_(0, torch.tensor([1]), 0.0),
    "a part, in place": lambda x: (h := x.clone(), h[:1].mul_(2))[0],
    "a product over the batch": lambda x: (x.flatten(1).t() @ x.flatten(1)).sum() + x,
    "a product of all": lambda x: (x.flatten(1) @ x.flatten(1).t())[:, :, None],
    "softmax": lambda x: x.softmax(0),
    "a running sum": lambda x: x.cumsum(0),
    "cut otherwise": lambda x: x.reshape(6, 8).softmax(1).view(4, 3, 4),
    "a norm of all": lambda x: F.layer_norm(x, x.shape),
    "written elsewhere": lambda x: torch.zeros(4, 3, 4).copy_(x),
    "out=": lambda x: torch.add(x, 1, out=torch.empty(4, 3, 4)),
}  # fmt: skip


def follow(function):
    model = nn.Module()
    model.weight = nn.Parameter(WEIGHT)
    with RowWise(model, X) as rows:
        rows._axes[WEIGHT] = None
        out = function(X)
    return rows.holds(out)


@pytest.mark.parametrize("name", APART)
def test_what_keeps_examples_apart_is_seen_to(name):
    torch.testing.assert_close(APART[name](X)[2:3], APART[name](X[[2, 0, 1, 3]])[:1])
    assert follow(APART[name])


@pytest.mark.parametrize("name", MIXED)
def test_nothing_passes_that_may_mix_examples(name):
    assert not follow(MIXED[name])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "swin_t"])
def test_networks_of_torchvision_are_followed_to_the_end(name):
    model, x = getattr(torchvision.models, name)(num_classes=3).eval(), torch.zeros(2, 3, 32, 32)
    with torch.no_grad(), RowWise(model, x) as rows:
        out = model(x)
    assert rows.holds(out) and rows.lost is None
