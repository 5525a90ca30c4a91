"""Exact ends: a network's linear pieces along a ray are followed wherever its class could change.

A line is cut into segments. Those on which bounds prove the class are done with; of the others the long ones are cut
again and on the short ones every linear piece is followed, so that nothing is missed and ends are those of the pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gendyn_lite.measures.intervals.bounds import Bounds
from gendyn_lite.measures.intervals.graph import Program, read
from gendyn_lite.measures.intervals.knots import Crossings, crossings, margins, segments
from gendyn_lite.measures.intervals.lines import Lines, chunks
from gendyn_lite.measures.intervals.walk import TooManyKnotsError, Walk, along_lines

LINES = 128  # at a time, at most
BYTES = 2**26  # of one layer, at all points that are computed at a time
SAMPLES = 6  # segments of the first look on each side of α = 0
CUTS = 4  # parts that a segment is cut into
FEW = 64  # units that change sides in a segment whose pieces are followed rather than cut again


class TooManyPiecesError(Exception):
    """A line has more pieces than were allowed: how many, at least."""


@dataclass
class Network:
    """A network as steps, and the same in float64 for what float32 leaves in doubt."""

    model: nn.Module
    program: Program
    widest: int  # bytes of the largest layer for one input

    @property
    def rows(self) -> int:
        """Points to compute at a time."""
        return max(16, min(BYTES // self.widest, LINES * 2 * (SAMPLES + 1)))

    @cached_property
    def precise(self) -> Program:
        """The steps in float64."""
        return read(self.model, torch.float64) if self.program.dtype != torch.float64 else self.program


@torch.no_grad()
def exact_ends(network: Network, lines: Lines, max_pieces: int) -> tuple[Tensor, Tensor]:
    """Ends of every line, float64 [m, 2], and how many of its pieces and segments were looked at, int64 [m].

    Raises:
        TooManyPiecesError: On one line there were more than `max_pieces`.
    """
    ends, looked = [], []
    for part in lines.parts(max(1, network.rows // (2 * (SAMPLES + 1)))):
        search = Search(network, part, max_pieces)
        ends.append(search.ends)
        looked.append(search.looked)
    return torch.cat(ends), torch.cat(looked)


def class_at_origin(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each row, the first of several with the largest logit, and whether there are several.

    >>> class_at_origin(torch.tensor([[1.0, 2.0, 2.0]]))
    (tensor([1]), tensor([True]))
    """
    label = (logits == logits.amax(1, keepdim=True)).int().argmax(1)
    return label, (margins(logits, label) == 0).any(1)


class Search:
    """The first change of class on both sides of each of a few lines.

    Attributes:
        ends: float64 [m, 2].
        looked: Pieces and segments looked at, int64 [m].
    """

    def __init__(self, network: Network, lines: Lines, max_pieces: int) -> None:
        self.network, self.lines, self.max_pieces = network, lines, max_pieces
        self.start = along_lines(network.program, lines.x, lines.direction)
        self.looked = torch.zeros_like(lines.label)
        self._line = torch.arange(len(lines), device=lines.x.device).repeat_interleave(2)
        range_ends = lines.limits.flatten()
        self._reach = range_ends.abs()  # the nearest point of each ray known to have lost its class, or its end
        self._sign = range_ends.sign()
        self._found = self._reach.clone()  # the nearest change of class
        self._search(
            torch.arange(len(range_ends), device=range_ends.device),
            torch.zeros_like(range_ends),
            range_ends.abs(),
            SAMPLES,
        )
        self.ends = (self._sign * self._found).view(-1, 2)

    def _search(self, ray: Tensor, near: Tensor, far: Tensor, parts: int) -> None:
        """Cut segments of rays (their ends in |α|) until each is proved, or short enough to be followed."""
        while len(ray):
            cut = [self._cut(ray[some], near[some], far[some], parts)
                   for some in chunks(len(ray), max(1, self.network.rows // (parts + 1)))]  # fmt: skip
            ray, near, far, changes = (torch.cat(each) for each in zip(*cut, strict=True))
            few = changes <= FEW
            self._follow(ray[few], near[few], far[few])
            rest = ~few & (near < self._reach[ray])
            ray, near, far, parts = ray[rest], near[rest], far[rest], CUTS

    def _cut(self, ray: Tensor, near: Tensor, far: Tensor, parts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The parts of segments that are not proved and lie before the end: ray, ends, units that change sides."""
        share = torch.linspace(0, 1, parts + 1, dtype=torch.float64, device=ray.device)
        places = torch.lerp(near[:, None], far[:, None], share)
        lines = self._line[ray]
        knots = segments(lines, places * self._sign[ray, None])
        bounds = Bounds(self.network.program, self.start, knots)
        self._count(lines.repeat_interleave(parts))
        proved, lost = bounds.judge(self.lines.label[lines])
        self._nearest(self._reach, ray[knots.ray[lost]], places.flatten()[lost])
        first = bounds.first
        owner, begin = ray[knots.ray[first]], places.flatten()[first]
        keep = ~proved & (begin < self._reach[owner])
        return owner[keep], begin[keep], places.flatten()[first + 1][keep], bounds.changes[keep]

    def _follow(self, ray: Tensor, near: Tensor, far: Tensor) -> None:
        """Follow every piece of short segments, nearer ones first; what does not fit into memory is halved."""
        size = max(1, 8 * self.network.rows // FEW)
        if len(ray) > size:
            order = near.argsort()
            for part in order.split(size):
                some = part[near[part] < self._reach[ray[part]]]
                self._follow(ray[some], near[some], far[some])
            return
        if not len(ray):
            return
        sign, lines = self._sign[ray], self._line[ray]
        try:
            found = self._settled(lines, self._walk(lines, near * sign, far * sign))
        except TooManyKnotsError:
            half = len(ray) // 2
            if half:
                self._follow(ray[:half], near[:half], far[:half])
                self._follow(ray[half:], near[half:], far[half:])
            else:
                self._search(ray, near, far, CUTS)
            return
        for nearest in (self._found, self._reach):
            self._nearest(nearest, ray[found.found], found.end.abs()[found.found])

    def _walk(self, line: Tensor, near: Tensor, far: Tensor) -> Crossings:
        walk = Walk(self.network.program, self.start, segments(line, torch.stack([near, far], dim=1)))
        self._count(walk.knots.line[walk.knots.ray[walk.is_new]])
        return crossings(walk.knots, walk.logits, self.lines.label[line])

    def _settled(self, line: Tensor, found: Crossings) -> Crossings:
        """Where float32 leaves the end in doubt, follow that part of the ray again in float64."""
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

    def _count(self, line: Tensor) -> None:
        self.looked += torch.bincount(line, minlength=len(self.looked))
        if int(self.looked.max()) > self.max_pieces:
            raise TooManyPiecesError(int(self.looked.max()))

    @staticmethod
    def _nearest(values: Tensor, ray: Tensor, place: Tensor) -> None:
        values.scatter_reduce_(0, ray, place, "amin")


@torch.no_grad()
def sides_changed(program: Program, lines: Lines) -> float:
    """The fewest linear pieces that these lines can have, on average: units that differ between a few samples."""
    start = along_lines(program, lines.x, lines.direction)
    line = torch.arange(len(lines), device=lines.x.device)
    places = torch.linspace(*lines.span, 2 * SAMPLES, dtype=torch.float64, device=lines.x.device)
    knots = segments(line, places.repeat(len(lines), 1))
    return Walk(program, start, knots, refine=False, count=True).crossings / len(lines)
