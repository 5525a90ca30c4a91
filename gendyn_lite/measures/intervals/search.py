"""Two methods with a guarantee to find the ends of intervals: exact and certified. The third is in `grid`.

The exact method cuts a line into segments. Segments on which bounds prove the class need no further work. Of the
others, long ones are cut again, and on short ones every linear piece of the network is followed. So no change of class
is missed, and the ends are exact up to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from gendyn_lite.measures.intervals.bounds import Bounds
from gendyn_lite.measures.intervals.knots import Crossings, Lines, chunks, crossings, margins, segments
from gendyn_lite.measures.intervals.network import Program, read
from gendyn_lite.measures.intervals.walk import TooManyKnotsError, Walk, along_lines

LINES = 128  # most lines at a time
BYTES = 2**26  # of the widest layer, at all points that are computed at a time
SAMPLES = 6  # segments on each side of α = 0 at the start of the exact search
CUTS = 4  # parts into which a segment is cut
MOST_STEPS = 200  # most segments of the certified search on each side of a line
SHARE = 0.01  # of the range: it gives up where all of them, as short as the present one, would not prove so much
FEW = 64  # with at most so many units that change sides, a segment's pieces are followed


class TooManyPiecesError(Exception):
    """A line has more pieces than allowed; the argument is how many were counted."""


class OutOfTimeError(Exception):
    """The search took longer than allowed."""


@dataclass
class Network:
    """A network and its steps; also in float64, for results that rounding leaves in doubt."""

    model: nn.Module
    program: Program
    widest: int  # bytes of the widest layer for one input
    until: float = math.inf  # end of the allowed time, by `time.monotonic`
    progress: bool = False

    def check_time(self) -> None:
        """Raise `OutOfTimeError` once the allowed time is over."""
        if time.monotonic() > self.until:
            raise OutOfTimeError("every linear piece would take longer than was allowed (seconds=)")

    def shown(self, parts: Iterable[Lines]) -> Iterable[Lines]:
        """Iterate over parts of the lines, with a progress bar if wanted."""
        return tqdm(list(parts), desc="lines", disable=not self.progress)

    @property
    def rows(self) -> int:
        """How many points to compute at a time."""
        return max(16, min(BYTES // self.widest, LINES * 2 * (SAMPLES + 1)))

    @cached_property
    def precise(self) -> Program:
        """The steps in float64."""
        return read(self.model, torch.float64) if self.program.dtype != torch.float64 else self.program


@torch.no_grad()
def exact_ends(network: Network, lines: Lines, max_pieces: int) -> Tensor:
    """Find the ends of every line by the exact method, float64 [m, 2].

    Raises:
        TooManyPiecesError: One line has more than `max_pieces`.
        OutOfTimeError: The search took longer than allowed.
    """
    parts = network.shown(lines.parts(max(1, network.rows // (2 * (SAMPLES + 1)))))
    return torch.cat([Search(network, part, max_pieces).ends for part in parts])


def class_at_origin(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class of each row (of tied classes, the first), and whether there is a tie.

    >>> class_at_origin(torch.tensor([[1.0, 2.0, 2.0]]))
    (tensor([1]), tensor([True]))
    """
    label = (logits == logits.amax(1, keepdim=True)).int().argmax(1)
    return label, (margins(logits, label) == 0).any(1)


class Search:
    """Exact search for the first change of class on both sides of each of a few lines.

    Attributes:
        ends: α of the first change, or of the end of the range, on both sides: float64 [m, 2].
    """

    def __init__(self, network: Network, lines: Lines, max_pieces: int) -> None:
        self.network, self.lines, self.max_pieces = network, lines, max_pieces
        self.start = along_lines(network.program, lines.x, lines.direction)
        self._looked = torch.zeros_like(lines.label)
        self._line = torch.arange(len(lines), device=lines.x.device).repeat_interleave(2)
        range_ends = lines.limits.flatten()
        self._reach = range_ends.abs()  # |α| of the nearest point of each ray known to have another class, or its end
        self._sign = range_ends.sign()
        self._found = self._reach.clone()  # |α| of the nearest change of class
        rays = torch.arange(len(range_ends), device=range_ends.device)
        self._search(rays, torch.zeros_like(range_ends), range_ends.abs(), SAMPLES)
        self.ends = (self._sign * self._found).view(-1, 2)

    def _search(self, ray: Tensor, near: Tensor, far: Tensor, parts: int) -> None:
        """Cut segments of rays, from |α| = near to far, until each is proved or short enough to be followed."""
        while len(ray):
            some = chunks(len(ray), max(1, self.network.rows // (parts + 1)))
            cut = [self._cut(ray[part], near[part], far[part], parts) for part in some]
            ray, near, far, changes = (torch.cat(each) for each in zip(*cut, strict=True))
            few = changes <= FEW
            self._follow(ray[few], near[few], far[few])
            rest = ~few & (near < self._reach[ray])
            ray, near, far, parts = ray[rest], near[rest], far[rest], CUTS

    def _cut(self, ray: Tensor, near: Tensor, far: Tensor, parts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cut segments; return the unproved parts before the known end: ray, both ends, units that change sides."""
        share = torch.linspace(0, 1, parts + 1, dtype=torch.float64, device=ray.device)
        places = torch.lerp(near[:, None], far[:, None], share)
        lines = self._line[ray]
        knots = segments(lines, places * self._sign[ray, None])
        bounds = Bounds(self.network.program, self.start, knots)
        self._count(parts * torch.bincount(lines, minlength=len(self._looked)))
        proved, lost = bounds.judge(self.lines.label[lines])
        self._reach.scatter_reduce_(0, ray[knots.ray[lost]], places.flatten()[lost], "amin")
        first = bounds.first
        owner, begin = ray[knots.ray[first]], places.flatten()[first]
        keep = ~proved & (begin < self._reach[owner])
        return owner[keep], begin[keep], places.flatten()[first + 1][keep], bounds.changes[keep]

    def _follow(self, ray: Tensor, near: Tensor, far: Tensor) -> None:
        """Follow every piece of short segments, nearer ones first, in halves if they do not fit into memory."""
        size = max(1, 8 * self.network.rows // FEW)
        if len(ray) > size:
            for part in near.argsort().split(size):
                some = part[near[part] < self._reach[ray[part]]]
                self._follow(ray[some], near[some], far[some])
            return
        if not len(ray):
            return
        sign, lines = self._sign[ray], self._line[ray]
        try:
            found = self._settled(lines, self._walk(lines, torch.stack([near * sign, far * sign], dim=1)))
        except TooManyKnotsError:
            if len(ray) == 1:
                return self._search(ray, near, far, CUTS)
            for half in torch.arange(len(ray), device=ray.device).tensor_split(2):
                self._follow(ray[half], near[half], far[half])
            return
        for nearest in (self._found, self._reach):
            nearest.scatter_reduce_(0, ray[found.found], found.end.abs()[found.found], "amin")

    def _walk(self, line: Tensor, ends: Tensor) -> Crossings:
        walk = Walk(self.network.program, self.start, segments(line, ends))
        found = torch.bincount(walk.knots.line[walk.knots.ray], minlength=len(self._looked))
        self._count(found - 2 * torch.bincount(line, minlength=len(found)))  # not counting both ends
        return crossings(walk.knots, walk.logits, self.lines.label[line])

    def _settled(self, line: Tensor, found: Crossings) -> Crossings:
        """Follow those parts of rays again in float64 in which float32 leaves the end in doubt."""
        program = self.network.precise
        unsure = (found.doubtful & (found.before != found.behind)).nonzero().squeeze(1)
        if program is self.network.program or not len(unsure):
            return found
        lines = line[unsure]
        start = along_lines(program, self.lines.x[lines].double(), self.lines.direction[lines].double())
        ends = torch.stack([found.before, found.behind], dim=1)[unsure]
        walk = Walk(program, start, segments(torch.arange(len(lines), device=line.device), ends))
        sure = crossings(walk.knots, walk.logits, self.lines.label[lines])
        return found.replaced(unsure, sure)

    def _count(self, looked: Tensor) -> None:
        """Count the pieces and segments visited on each line, and check the limits."""
        self.network.check_time()
        self._looked += looked
        if int(self._looked.max()) > self.max_pieces:
            raise TooManyPiecesError(int(self._looked.max()))


@torch.no_grad()
def sides_changed(program: Program, lines: Lines) -> float:
    """Return a lower bound on the linear pieces of a line, averaged over the first lines, from a few samples."""
    lines = next(lines.parts(4))
    start = along_lines(program, lines.x, lines.direction)
    line = torch.arange(len(lines), device=lines.x.device)
    places = torch.linspace(*lines.span, 2 * SAMPLES, dtype=torch.float64, device=lines.x.device)
    knots = segments(line, places.repeat(len(lines), 1))
    return float(Bounds(program, start, knots).changes.sum()) / len(lines)


@torch.no_grad()
def certified_ends(network: Network, lines: Lines, *, tolerance: float) -> tuple[Tensor, Tensor]:
    """Bracket the ends of every line between a point up to which the class is proved, and one that has lost it.

    Args:
        network: The network.
        lines: The lines.
        tolerance: Width of a bracket, in α, at which its search ends.

    Returns:
        Proved and lost points, float64 [m, 2] each. The lost point is the end of the range if no change was seen.
    """
    some = network.shown(lines.parts(max(1, network.rows // 4)))
    proved, refuted = zip(*(_march(network, part, tolerance) for part in some), strict=True)
    return torch.cat(proved), torch.cat(refuted)


def _march(network: Network, lines: Lines, tolerance: float) -> tuple[Tensor, Tensor]:
    """Go outwards on each ray with steps that are doubled after a proof and halved after a failure.

    A network with very many kinks allows only steps so short that next to nothing would be proved; then it stops.
    """
    program = network.program
    start = along_lines(program, lines.x, lines.direction)
    line = torch.arange(len(lines), device=lines.x.device).repeat_interleave(2)
    sign, reach = lines.limits.flatten().sign(), lines.limits.flatten().abs()
    safe, changed, stride = torch.zeros_like(reach), reach.clone(), reach / 16
    active = torch.arange(len(line), device=line.device)
    for _ in range(MOST_STEPS):
        if not len(active):
            break
        network.check_time()
        begin = safe[active]
        stop = torch.minimum(begin + stride[active], changed[active])
        ends = sign[active, None] * torch.stack([begin, stop], dim=1)
        bounds = Bounds(program, start, segments(line[active], ends))
        proved, lost = bounds.judge(lines.label[line[active]])
        safe[active] = torch.where(proved, stop, begin)
        changed[active] = torch.where(lost[1::2], stop, changed[active])
        stride[active] = torch.where(proved, stride[active] * 2, (stop - begin) / 2)
        worthwhile = safe + stride * MOST_STEPS >= SHARE * changed
        active = active[((changed - safe > tolerance) & (stride > 1e-13) & worthwhile)[active]]
    return (sign * safe).view(-1, 2), (sign * changed).view(-1, 2)
