"""How clearly a network decides on its training examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import check_number
from gendyn_lite.measures.per_example.guards import check_eval


@torch.no_grad()
def margin(model: nn.Module, x: Tensor, y: Tensor, *, quantile: float = 0.1) -> float:
    """A low quantile, over examples, of the logit of the label minus the largest other one.

    Args:
        model: In eval mode.
        x: Inputs [n, *in_shape].
        y: Labels [n].
        quantile: Which: the smallest margin of all hangs on one example.

    Raises:
        UserError: There is one class alone, or no example.

    Source: Jiang et al. (2020), Appendix C, where γ is the 10th percentile.

    >>> margin(nn.Identity(), torch.tensor([[2.0, 0.5], [0.0, 3.0]]), torch.tensor([0, 1]), quantile=0)
    1.5
    """
    check_eval(model)
    check_number("quantile", quantile, "a number in [0, 1]", lambda value: 0 <= value <= 1)
    if not len(x):
        raise UserError("x has no example, expected at least one")
    logits = torch.cat([model(part) for part in x.split(500)]).double()
    if logits.shape[1] < 2:
        raise UserError("the network has one output, and a margin is between two: expected logits of two classes")
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return float((own - others).quantile(quantile))
