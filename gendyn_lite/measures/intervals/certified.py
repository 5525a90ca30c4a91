"""Certified bisection: long stretches are proved to keep their class, only where that fails it is looked closer."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn_lite.measures.intervals.bounds import Bounds
from gendyn_lite.measures.intervals.graph import Program
from gendyn_lite.measures.intervals.knots import segments
from gendyn_lite.measures.intervals.lines import Lines
from gendyn_lite.measures.intervals.walk import along_lines


@torch.no_grad()
def certified_ends(
    program: Program, lines: Lines, *, tolerance: float, max_steps: int, at_a_time: int = 32
) -> tuple[Tensor, Tensor]:
    """How far from α = 0 every line is proved to keep its class, and where it has beyond doubt lost it.

    Args:
        program: The network.
        lines: The lines.
        tolerance: A line whose proved and refuted points lie closer together than this is done.
        max_steps: Most segments to look at on each side of a line.
        at_a_time: Lines to work on together.

    Returns:
        Both float64 [m, 2]; the second one is the range's end where the class was not seen to change.
    """
    parts = [_march(program, part, tolerance, max_steps) for part in lines.parts(at_a_time)]
    proved, refuted = (torch.cat(each) for each in zip(*parts, strict=True))
    return proved, refuted


def _march(program: Program, lines: Lines, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor]:
    """Outwards on each ray: twice as far after a proof, half as far after none."""
    start = along_lines(program, lines.x, lines.direction)
    line = torch.arange(len(lines), device=lines.x.device).repeat_interleave(2)
    sign, reach = lines.limits.flatten().sign(), lines.limits.flatten().abs()
    safe, changed, stride = torch.zeros_like(reach), reach.clone(), reach / 16
    active = torch.arange(len(line), device=line.device)
    for _ in range(max_steps):
        if not len(active):
            break
        begin = safe[active]
        stop = torch.minimum(begin + stride[active], changed[active])
        ends = sign[active, None] * torch.stack([begin, stop], dim=1)
        bounds = Bounds(program, start, segments(line[active], ends))
        proved, lost = bounds.judge(lines.label[line[active]])
        safe[active] = torch.where(proved, stop, begin)
        changed[active] = torch.where(lost[1::2], stop, changed[active])
        stride[active] = torch.where(proved, stride[active] * 2, (stop - begin) / 2)
        active = active[(changed[active] - safe[active] > tolerance) & (stride[active] > 1e-13)]
    return (sign * safe).view(-1, 2), (sign * changed).view(-1, 2)
