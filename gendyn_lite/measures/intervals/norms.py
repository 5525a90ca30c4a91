"""The linear maps of a network's regions, and the ∞-norms of those and of its weights (Salman et al. 2019, App. A)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.directions import gradients


def linear_maps(model: nn.Module, x: Tensor) -> Tensor:
    """The Jacobian of the logits at each point, the linear map of its region; at a knot what torch gives (ReLU: 0).

    Args:
        model: In eval mode.
        x: Points [n, *in_shape].

    Returns:
        [n, C, numel of a point].

    >>> linear_maps(nn.Linear(3, 2), torch.zeros(5, 3)).shape
    torch.Size([5, 2, 3])
    """
    return torch.stack([found.flatten(1) for found in gradients(model, x, lambda logits: logits.unbind(1))], dim=1)


def infinity_norm(maps: Tensor) -> Tensor:
    """The largest row sum of absolute values: [..., C, D] to [...].

    >>> infinity_norm(torch.tensor([[1.0, -2.0], [0.5, 0.5]])).item()
    3.0
    """
    return maps.abs().sum(-1).amax(-1)


class WeightNorms(NamedTuple):
    """∞-norms of a network's weights.

    Attributes:
        without_relus: Of the product W_L … W_1, the network with its ReLUs taken out: the paper's ‖W‖∞.
        product: The product of the layers' norms, which bounds the norm of every region.
    """

    without_relus: float
    product: float


def weight_norms(model: nn.Sequential) -> WeightNorms:
    """‖W_L … W_1‖∞ and Π ‖W_l‖∞ of a network of fully connected layers.

    Args:
        model: Linear layers, with ReLU, LeakyReLU, Flatten or dropout between them.

    Raises:
        UserError: It has other layers.

    Source: Salman et al. (2019), App. A.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> network[0].weight.data, network[2].weight.data = torch.tensor([[1.0, 2], [-1, -2]]), torch.tensor([[1.0, 1]])
    >>> weight_norms(network)
    WeightNorms(without_relus=0.0, product=6.0)
    """
    total, product = None, 1.0
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double()
            total = weight if total is None else weight @ total
            product *= float(infinity_norm(weight))
        elif not isinstance(layer, nn.Flatten | nn.ReLU | nn.LeakyReLU | nn.Identity | nn.Dropout):
            what = f"layer {name!r} is a {type(layer).__name__}, expected a network of Linear and ReLU layers"
            raise UserError(f"{what}: take linear_maps for others")
    if total is None:
        raise UserError("the network has no Linear layer, expected at least one")
    return WeightNorms(float(infinity_norm(total)), product)
