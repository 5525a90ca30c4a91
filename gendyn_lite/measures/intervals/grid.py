"""Samples along a line, then bisection: for any network, and without a guarantee."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gendyn_lite.measures.intervals.lines import Lines, chunks

POINTS = 4096  # in one forward pass


@torch.no_grad()
def grid_ends(
    network: Callable[[Tensor], Tensor],
    lines: Lines,
    *,
    samples: int,
    tolerance: float,
    between: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The first sampled change of class on both sides, bisected.

    A stretch of another class that lies between two samples is stepped over.

    Args:
        network: From [n, *in_shape] to logits [n, C].
        lines: The lines.
        samples: Points on each side.
        tolerance: To which a change is bisected.
        between: Where to sample, from and to, float64 [m, 2] each; from 0 to the range's ends unless given.

    Returns:
        Ends, float64 [m, 2].
    """
    begin, limit = between or (torch.zeros_like(lines.limits), lines.limits)
    begin, limit = begin.flatten(), limit.flatten()
    line = torch.arange(len(lines), device=limit.device).repeat_interleave(2)
    share = torch.linspace(0, 1, samples + 1, dtype=torch.float64, device=limit.device)[1:]
    ends = []
    for part in chunks(len(line), max(1, POINTS // samples)):
        places = begin[part, None] + share * (limit[part] - begin[part])[:, None]
        same = keeps(network, lines, line[part, None].expand_as(places), places)
        first = torch.where(same.all(1), samples, (~same).int().argmax(1))
        padded = torch.cat([begin[part, None], places, places[:, -1:]], dim=1)
        pair = padded.gather(1, torch.stack([first, first + 1], dim=1))
        ends.append(_bisect(network, lines, line[part], pair, tolerance))
    return torch.cat(ends).view(-1, 2)


def keeps(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, alpha: Tensor) -> Tensor:
    """Whether each point x + α d has the line's class (a tie counts), bool like `alpha`."""
    out = []
    for part in chunks(alpha.numel(), POINTS):
        at = line.flatten()[part]
        logits = network(lines.points(at, alpha.flatten()[part]))
        out.append(logits.gather(1, lines.label[at, None]).squeeze(1) >= logits.amax(1))
    return torch.cat(out).view_as(alpha)


def _bisect(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, pair: Tensor, tolerance: float) -> Tensor:
    """Halve [same, other] until it is narrower than the tolerance; both ends equal where nothing changed."""
    same, other = pair.unbind(1)
    while bool(((other - same).abs() > tolerance).any()):
        middle = (same + other) / 2
        stays = keeps(network, lines, line, middle)
        same, other = torch.where(stays, middle, same), torch.where(stays, other, middle)
    return same
