"""Exact counts of the units that are on for both images of each pair, by matrix products in blocks.

A matrix product of 0/1 entries counts. Sums in float32 are exact up to 2²⁴, so no block has more units; ``bfloat16`` is
never used, because its counts are wrong by up to 64. Where possible, products are in 8-bit integers.

`torch._int_mm` gives wrong results for some operands (a single column, rows that share memory) in some versions of
torch, and refuses others on GPUs. So it is called only with blocks that are `padded` with zeros to whole multiples, and
only if it gave correct results for such blocks on the device.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.measures.relu_paths.packed import PackedPaths, Paths, block_of, check_paths
from gendyn_lite.threads import threads

EXACT_UNITS = 1 << 24  # float32 counts exactly up to here
# 8-bit products need multiples of these numbers of images and units, and a minimum of images, on GPUs.
IMAGES, UNITS, FEWEST = 8, 16, 24
BLOCK_BYTES = {"cpu": 32 << 20, "cuda": 1 << 30}  # of unpacked paths in one block of units
# Columns at a time, so that only the upper half of the symmetric matrix is computed; on a CPU they fit in the cache.
TILE = {"cpu": {True: 128, False: 64}, "cuda": {True: 1 << 30, False: 1 << 30}}

# Numbers of images and units for which 8-bit products are tried: one, whole multiples, one more, several strips.
TRIED = ((1, 1), (2, 17), (9, 16), (24, 48), (25, 1), (128, 1000), (129, 32), (137, 4096))

Product = Callable[[Tensor, Tensor], Tensor]


def path_gram(paths: Paths) -> Tensor:
    """Count the units that are on for both images of each pair, p_i·p_j; the diagonal counts those on for one image.

    Args:
        paths: bool [n, units] of one layer, or `PackedPaths`.

    Returns:
        int32 [n, n] (int64 from 2³¹ units).

    Raises:
        UserError: The argument is neither of these.

    Source: Image functions (n.d.), Fig. 4 and 6 (the overlap p_i·p_j).

    >>> path_gram(torch.tensor([[True, True, False], [False, True, True]]))
    tensor([[2, 1],
            [1, 2]], dtype=torch.int32)
    """
    check_paths(paths)
    return grams([paths], lambda block: [block])[0]


def grams(paths: list[Paths], parts: Callable[..., list[Tensor]]) -> list[Tensor]:
    """Count several combinations of paths, block by block of units.

    Args:
        paths: Paths of equal shape.
        parts: Returns the 0/1 matrices to count, int8 [n, block], given a block of each of `paths`. It must map zeros
            to zeros.

    Returns:
        The counts of each part, [n, n].
    """
    count, units = paths[0].shape
    device = paths[0].bits.device if isinstance(paths[0], PackedPaths) else paths[0].device
    narrow, dtype = int8_is_fast(device), torch.int32 if units < 1 << 31 else torch.int64

    def blocks(start: int, stop: int) -> Iterator[Tensor]:
        found = parts(*(block_of(one, start, stop).view(torch.int8) for one in paths))
        return (padded(part) if narrow else part.float() for part in found)

    empty = torch.zeros(count, count, dtype=dtype, device=device)
    return products(empty, units, blocks, multiply=_int8 if narrow else float_product)


def products(
    empty: Tensor, units: int, blocks: Callable[[int, int], Iterable[Tensor]], *, multiply: Product
) -> list[Tensor]:
    """Multiply each of several matrices with its transpose, block by block of units.

    Args:
        empty: Zeros in the shape of a product, [n, n].
        units: Number of columns of the matrices.
        blocks: Returns the columns from one unit up to another of every matrix, [n, block] each or with more rows.
        multiply: Returns rows · columnsᵀ of two blocks.
    """
    kind, narrow = "cuda" if empty.is_cuda else "cpu", multiply is not float_product
    most = BLOCK_BYTES[kind] // (max(1, len(empty)) * (1 if narrow else 4))
    size = min(EXACT_UNITS, max(UNITS, most // UNITS * UNITS))
    totals: list[Tensor] = []
    for start in range(0, units, size):
        for number, part in enumerate(blocks(start, start + size)):
            if start == 0:
                totals.append(empty.clone())
            add_upper(totals[number], part, multiply, tile=TILE[kind][narrow])
    for total in totals:
        mirror(total)
    return totals


def add_upper(total: Tensor, block: Tensor, multiply: Product, *, tile: int) -> None:
    """Add the upper triangle of block·blockᵀ, in strips of `tile` columns.

    If the block has more rows than the total, the additional ones are ignored.
    """
    count = len(total)
    for left in range(0, count, tile):
        product = multiply(block[: left + tile], block[left : left + tile])
        total[: left + tile, left : left + tile] += product[:count, : count - left].to(total.dtype)


def mirror(total: Tensor) -> None:
    """Copy the upper triangle to the lower one, in place and a strip at a time."""
    for top in range(0, len(total), 1024):
        stop = min(top + 1024, len(total))
        corner = total[top:stop, top:stop]
        corner.copy_(corner.triu() + corner.triu(1).T)
        total[stop:, top:stop] = total[top:stop, stop:].T


def padded(block: Tensor) -> Tensor:
    """Pad a block of 0/1 entries, int8 [n, units], with zeros, which do not change counts.

    The result has whole multiples of `IMAGES` and `UNITS` and is contiguous; it is the block itself if that is so.

    >>> padded(torch.ones(3, 1, dtype=torch.int8)).shape
    torch.Size([24, 16])
    """
    images, units = max(-len(block) % IMAGES, FEWEST - len(block)), -block.shape[1] % UNITS
    if images == units == 0 and block.is_contiguous() and block.storage_offset() == 0:
        return block
    return F.pad(block, (0, units, 0, images))  # a new tensor


@lru_cache
def int8_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether `torch._int_mm` is exact and faster than float32 on a device; it is tried once and remembered.

    The choice affects only how long a count takes, never its result.

    Args:
        device: The device of the paths.

    Returns:
        Whether counts use it on this device.

    >>> type(int8_is_fast())
    <class 'bool'>
    """
    generator = torch.Generator().manual_seed(0)
    paths = torch.rand(*TRIED[-1], generator=generator) < 0.5
    paths[0], paths[1], paths[2, ::2] = True, False, True  # for the largest possible sums
    paths = paths.to(device)
    tile = TILE["cuda" if paths.is_cuda else "cpu"][True]
    try:
        for count, units in TRIED:
            block, total = paths[:count, :units], torch.zeros(count, count, dtype=torch.int32, device=device)
            add_upper(total, padded(block.view(torch.int8)), _int8, tile=tile)
            if not torch.equal(total.triu().float(), float_product(block.float(), block.float()).triu()):
                return False
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    some = paths[:128]
    return _seconds(_int8, some.view(torch.int8)) < _seconds(float_product, some.float())


def _seconds(multiply: Product, block: Tensor) -> float:
    """Return the best time of five; on a CPU processor time of one thread, which other programs hardly affect."""
    clock = time.thread_time if block.device.type == "cpu" else time.perf_counter
    with threads(1):  # reading a number waits for the device
        return min(timeit.repeat(lambda: float(multiply(block, block)[0, 0]), timer=clock, number=1, repeat=5))


def _int8(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows · columnsᵀ of `padded` blocks, in int32."""
    return torch.ops.aten._int_mm(rows, columns.T)


def float_product(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows · columnsᵀ in their own precision."""
    with torch.autocast(rows.device.type, enabled=False):  # half precision would round the counts
        return rows @ columns.T
