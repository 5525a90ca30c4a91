"""Path similarity of all pairs against its peers: pairs a second, exactness and memory, in one run on one machine.

Run:      python tests/benchmarks/relu_paths.py [--rounds 5] [--threads 1] [--publish]
Takes:    about two minutes on one core with 8-bit instructions, half of it for the 5,000 images.
Data:     512 images through AlexNet's first layer (50,176 units), two states of the network: random paths with 40 % of
          the units on, of which a tenth changes (speed does not depend on which).
Peers:    float32 GEMM: three products of float32 matrices and the quotient;
          pair loop: the formula pair by pair in float32, on some pairs.
Expected: at least 5 times the GEMM where int8 is fast (about as fast where it is not), 50 times the loop; counts equal
          to those of float64; 5,000 images of 50,000 units in less than 2 GB.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.relu_paths import PackedPaths, cross_paths, path_gram
from tests.benchmarks.shared.each_way import apart, in_turns, machine, parse, parser, peak, publish, row, show

GOALS = {"float32 GEMM": 5.0, "pair loop": 50.0}
IMAGES, UNITS, LOOP_PAIRS = 512, 50_176, 200
LARGE = (5_000, 50_000)


def main() -> None:
    """Every case and its peers, the best round of each; then the memory of a large one, in a process of its own."""
    given = parse(parser(__doc__, rounds=5))
    fast = relu_paths.int8_is_fast()
    show(f"{machine()}; int8 is {'fast' if fast else 'not fast'} here; best of {given.rounds} rounds")
    now, before = random_paths(IMAGES, UNITS)
    check(now, before)
    rows = paths(now, before, given.rounds) + activations(now, before, given.rounds)
    memory = apart(of_many)
    show(memory)
    if given.publish:
        told = f"relu_paths.py, best of {given.rounds} rounds"
        publish("paths", rows, GOALS if fast else {}, told, memory=memory)


def random_paths(count: int, units: int) -> tuple[Tensor, Tensor]:
    """Paths now and an epoch before, of which a tenth differs."""
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(count, units, generator=generator) < 0.4
    return before ^ (torch.rand(count, units, generator=generator) < 0.1), before


def check(now: Tensor, before: Tensor) -> None:
    """Counts are those of float64, and similarities are rounded once."""
    wide, both, past = (paths.double() for paths in (now, now & before, before))
    counts = wide @ wide.T
    assert torch.equal(path_gram(now).double(), counts)
    exact = (both @ both.T) / (counts * (past @ past.T)).sqrt()
    assert torch.equal(cross_paths(now, before).similarity, exact.float())
    off = float((gemm(now.float(), before.float()) - exact).abs().max())
    show(f"counts are exact; largest error of the float32 quotient: {off:.1e}")


def paths(now: Tensor, before: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Cross-path similarity of all pairs from bool paths, from packed ones, and with the Gram of the epoch before."""
    wide = now.float(), before.float()
    packed = PackedPaths.pack(now), PackedPaths.pack(before)
    kept = path_gram(before)
    peers = {"float32 GEMM": lambda: gemm(*wide), "pair loop": lambda: loop(*wide)}
    ours = {"bool": lambda: cross_paths(now, before), "packed": lambda: cross_paths(*packed)}
    ours["packed, last Gram kept"] = lambda: cross_paths(*packed, before_gram=kept)
    taken = in_turns({**peers, **ours}, rounds)
    taken["pair loop"] *= IMAGES * (IMAGES - 1) / 2 / LOOP_PAIRS
    told = f"cross-path, {IMAGES} images, {UNITS:,} units"
    return [compared(f"{told}, {case}", taken[case], peer, taken[peer]) for case in ours for peer in peers]


def activations(now: Tensor, before: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Cross-activation similarity, where int8 is of no use: half of each product is enough. A fifth of the units."""
    generator = torch.Generator().manual_seed(1)
    units = UNITS // 5
    a, b = (one[:, :units] * torch.rand(IMAGES, units, generator=generator) for one in (now, before))
    calls = {"ours": lambda: relu_paths.cross_activation_similarity(a, b), "theirs": lambda: gemm(a, b, squared=True)}
    taken = in_turns(calls, rounds)
    case = f"cross-activation, {IMAGES} images, {units:,} units"
    return [compared(case, taken["ours"], "float32 GEMM, activations", taken["theirs"])]


def of_many() -> str:
    """Peak memory and seconds of all pairs of many images, packed as a recorder keeps them."""
    count, units = LARGE
    generator = torch.Generator().manual_seed(0)
    shape = (4, count, units // 8)
    bits, *others = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    changed = others[0] & others[1] & others[2]  # an eighth of the units
    now, before = PackedPaths(bits, units), PackedPaths(bits ^ changed, units)
    floor = peak()
    started = time.perf_counter()
    found = cross_paths(now, before)
    seconds = time.perf_counter() - started
    assert found.similarity.shape == (count, count)
    told = f"peak {peak():.2f} GB of the whole process ({peak() - floor:.2f} GB above what it had before)"
    return f"{count:,} images of {units:,} units: {seconds:.0f} s, {told}"


def gemm(now: Tensor, before: Tensor, *, squared: bool = False) -> Tensor:
    """Three float32 products: what one writes first."""
    both = now * before
    a, b = (now * now, before * before) if squared else (now, before)
    return (both @ both.T) / ((a @ a.T) * (b @ b.T)).sqrt()


def loop(now: Tensor, before: Tensor) -> Tensor:
    """The formula of the paper for some pairs."""
    found = []
    for k in range(LOOP_PAIRS):
        i, j = k, (7 * k + 1) % IMAGES
        a, b = now[i] * now[j], before[i] * before[j]
        found.append((a @ b) / (a.norm() * b.norm()))
    return torch.stack(found)


def compared(case: str, ours: float, peer: str, theirs: float) -> dict[str, Any]:
    """A row of the table, shown: pairs a second of both."""
    pairs = IMAGES * (IMAGES - 1) / 2
    show(f"cpu {case:60} {ours:8.4f} s: {theirs / ours:8.2f} of {peer}")
    return row(case, "pairs/s", peer, pairs / ours, pairs / theirs)


if __name__ == "__main__":
    main()
