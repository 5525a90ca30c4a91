"""The method without a guarantee to find the ends of intervals: samples along each line, then bisection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gendyn_lite.measures.intervals.knots import Lines, chunks

POINTS = 4096  # most samples in one forward pass
INPUTS = {"cpu": 2**20, "cuda": 2**26}  # bytes of them; on a CPU the layers of a small batch stay in the cache
STRETCH = 32  # samples on a ray that are looked at before it is known whether more are needed


@torch.no_grad()
def grid_ends(
    network: Callable[[Tensor], Tensor],
    lines: Lines,
    *,
    samples: int,
    tolerance: float,
    between: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Find the first change of class between samples on both sides, and bisect it.

    It misses another class that lies wholly between two samples.

    Args:
        network: Function from points [n, *in_shape] to logits [n, C].
        lines: The lines.
        samples: Number of samples on each side.
        tolerance: Width in α to which a change is bisected.
        between: α from which and to which to sample, float64 [m, 2] each; from 0 to the ends of the range by default.

    Returns:
        Ends, float64 [m, 2].
    """
    begin, limit = between or (torch.zeros_like(lines.limits), lines.limits)
    begin, limit = begin.flatten(), limit.flatten()
    line = torch.arange(len(lines), device=limit.device).repeat_interleave(2)
    share = torch.linspace(0, 1, samples + 1, dtype=torch.float64, device=limit.device)[1:]
    ends = []
    for part in chunks(len(line), POINTS // STRETCH):
        places = begin[part, None] + share * (limit[part] - begin[part])[:, None]
        first = torch.full_like(line[part], samples)
        for start in range(0, samples, STRETCH):
            still = (first == samples).nonzero().squeeze(1)
            some = places[still, start : start + STRETCH]
            lost = ~keeps(network, lines, line[part][still, None].expand_as(some), some)
            first[still] = torch.where(lost.any(1), start + lost.int().argmax(1), samples)
        padded = torch.cat([begin[part, None], places, places[:, -1:]], dim=1)
        pair = padded.gather(1, torch.stack([first, first + 1], dim=1))
        ends.append(_bisect(network, lines, line[part], pair, tolerance))
    return torch.cat(ends).view(-1, 2)


def keeps(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, alpha: Tensor) -> Tensor:
    """Return whether each point x + α d has the line's class (or is tied), bool in the shape of `alpha`."""
    out = [torch.empty(0, dtype=torch.bool, device=alpha.device)]
    each = lines.x[0].numel() * lines.x.element_size()
    fit = INPUTS.get(lines.x.device.type, INPUTS["cuda"]) // each
    for part in chunks(alpha.numel(), min(POINTS, max(16, fit))):
        at = line.flatten()[part]
        logits = network(lines.points(at, alpha.flatten()[part]))
        out.append(logits.gather(1, lines.label[at, None]).squeeze(1) >= logits.amax(1))
    return torch.cat(out).view_as(alpha)


def _bisect(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, pair: Tensor, tolerance: float) -> Tensor:
    """Halve intervals [same, other] until they are narrower than the tolerance; equal ends stand for no change."""
    same, other = pair.unbind(1)
    while bool(((other - same).abs() > tolerance).any()):
        middle = (same + other) / 2
        stays = keeps(network, lines, line, middle)
        same, other = torch.where(stays, middle, same), torch.where(stays, other, middle)
    return same
