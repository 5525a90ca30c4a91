"""The largest of several affine functions along a segment: where it passes from one to the next.

Max-pooling, maxout and `torch.maximum` are this. Between two knots every entry is affine, so their maximum is convex
and piecewise linear: where one entry is the largest at both ends it is so between them; elsewhere the upper envelope
is followed from kink to kink.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Windows:
    """The entries that are compared, at every knot.

    Attributes:
        entries: [k, numel], all of a knot's entries.
        members: int64 [G, K], the entries of each window (one repeated where a window is smaller).
        winner: int64 [k, G], which entry is the largest.
        shape: Shape of the result for one knot.
    """

    entries: Tensor
    members: Tensor
    winner: Tensor
    shape: tuple[int, ...]

    @property
    def largest(self) -> Tensor:
        """[k, *shape]."""
        return self.entries.gather(1, self.winner).unflatten(1, self.shape)


def along(value: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Windows:
    """Windows along one dimension (not the first): what maxout and `amax` compare.

    >>> windows = along(torch.tensor([[[1.0, 3.0], [5.0, 2.0]]]), 2)
    >>> windows.largest.tolist()
    [[3.0, 5.0]]
    """
    (dim,) = dim if isinstance(dim, tuple | list) else (dim,)
    dim %= value.dim()
    index = torch.arange(value[0].numel(), device=value.device).view(value.shape[1:])
    members = index.movedim(dim - 1, -1)
    shape = members.shape[:-1]
    if keepdim:
        shape = index.narrow(dim - 1, 0, 1).shape
    return _from_members(value.flatten(1), members.flatten(0, -2), tuple(shape))


def pairwise_maximum(a: Tensor, b: Tensor) -> Windows:
    """Windows of two entries: `torch.maximum`."""
    return along(torch.stack(torch.broadcast_tensors(a, b), dim=-1), -1)


def pooled(pool: nn.MaxPool1d | nn.MaxPool2d, value: Tensor) -> Windows:
    """Windows of a max-pooling, its padding, dilation and ceil mode included.

    >>> pooled(nn.MaxPool2d(2), torch.arange(16.0).view(1, 1, 4, 4)).largest.tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    if isinstance(pool, nn.MaxPool1d):
        kernel, stride, dilation = ((1, _single(size)) for size in (pool.kernel_size, pool.stride, pool.dilation))
        flat = nn.MaxPool2d(kernel, stride, (0, _single(pool.padding)), dilation, ceil_mode=pool.ceil_mode)
        windows = pooled(flat, value.unsqueeze(-2))
        return Windows(windows.entries, windows.members, windows.winner, (windows.shape[0], windows.shape[2]))
    result, winner = F.max_pool2d(
        value, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    channels, height, width = value.shape[1:]
    plane = _plane_members(pool, (height, width), tuple(result.shape[2:])).to(value.device)
    offset = torch.arange(channels, device=value.device) * (height * width)
    members = (plane + offset[:, None, None]).flatten(0, 1)
    return Windows(value.flatten(1), members, (winner.flatten(2) + offset[:, None]).flatten(1), tuple(result.shape[1:]))


def kinks(windows: Windows, joined: Tensor) -> tuple[Tensor, Tensor]:
    """Where the largest entry changes between neighbouring knots.

    Args:
        windows: The entries at k knots.
        joined: Bool [k - 1], whether a knot and the next one bound a segment.

    Returns:
        Index of the segment's first knot, int64 [q], and the place within the segment in (0, 1), float64 [q].

    >>> entries = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 4.0]])
    >>> windows = along(entries[:, None], 2)
    >>> kinks(windows, torch.tensor([True]))[1].tolist()  # 2 - 2t meets 4t at 1/3; the middle entry just touches
    [0.3333...]
    """
    r, g = ((windows.winner[1:] != windows.winner[:-1]) & joined[:, None]).nonzero(as_tuple=True)
    members = windows.members[g]
    start, end = (windows.entries[at[:, None], members] for at in (r, r + 1))
    row, t = _follow(start.double(), end.double())
    return r[row], t


def _follow(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Kinks of the upper envelope of each row's K lines, start to end: row int64 [q] and t float64 [q]."""
    slope = end - start
    current = start.argmax(1)
    active = torch.arange(len(start), device=start.device)
    rows, places = [active[:0]], [start.new_empty(0)]
    for _ in range(start.shape[1] - 1):
        a, b = start[active], slope[active]
        ahead = current[active, None]
        steeper = b - b.gather(1, ahead)
        t = torch.where(steeper > 0, (a.gather(1, ahead) - a) / steeper, torch.inf)
        place = t.amin(1)
        # Of lines that cross at one place the steepest goes on.
        following = torch.where(t == place[:, None], b, -torch.inf).argmax(1)
        inside = place < 1
        active, place, following = active[inside], place[inside], following[inside]
        if not len(active):
            break
        current[active] = following
        kept = place > 0
        rows.append(active[kept])
        places.append(place[kept])
    return torch.cat(rows), torch.cat(places)


def _from_members(entries: Tensor, members: Tensor, shape: tuple[int, ...]) -> Windows:
    best = entries[:, members].argmax(2)
    winner = members.expand(len(entries), -1, -1).gather(2, best.unsqueeze(2)).squeeze(2)
    return Windows(entries, members, winner, shape)


def _plane_members(pool: nn.MaxPool2d, size: tuple[int, int], out: tuple[int, ...]) -> Tensor:
    """The places of each window in one channel, int64 [L, K]; a window cut by the border repeats one of its own."""
    kernel, stride, padding, dilation = (
        _pair(setting) for setting in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    )
    places = torch.arange(1, size[0] * size[1] + 1, dtype=torch.float64).view(1, 1, *size)
    needed = [(out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    behind = [needed[i] - size[i] - padding[i] for i in (0, 1)]
    places = F.pad(places, (padding[1], behind[1], padding[0], behind[0]))
    table = F.unfold(places, kernel, dilation=dilation, stride=stride)[0].T.long() - 1
    first = table.amax(1, keepdim=True)
    return torch.where(table < 0, first, table)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _single(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
