"""The Gram matrix of per-example gradients beside its peers: seconds and memory.

Run:      python tests/benchmarks/stiffness.py [NETWORK …] [--rounds 3] [--threads 2] [--publish]
Takes:    about two minutes on two idle cores. Seconds are those of the processor with one thread, which other programs
          disturb little, and of the clock with more.
Peers:    nngeometry's GramMatrix; torch.func (vmap of grad) and BackPACK (BatchGrad), which store every gradient and
          multiply; a loop over examples. One that is not installed (pip install -e .[bench]) or cannot do a network is
          named.
Expected: beside the best peer, at least 2.5 times as fast on MLP 3x512 (256 examples), 3 times on alexnet_small (256)
          and on ResNet-18 (128); there with at most a fifth of the memory of stored gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.shared import each_way
from tests.benchmarks.shared.each_way import peak

CASES = {"mlp_3x512": ((3, 28, 28), 256), "alexnet_small": ((3, 28, 28), 256), "resnet18": ((3, 32, 32), 128)}
GOALS = {"mlp_3x512": 2.5, "alexnet_small": 3.0, "resnet18": 3.0}


def ours(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from gendyn_lite.measures.stiffness import gradient_gram

    return gradient_gram(model, x, y)


def nngeometry(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from nngeometry.gram import GramMatrix
    from torch.utils.data import DataLoader, TensorDataset

    batches = DataLoader(TensorDataset(x, y), batch_size=len(x))
    found = GramMatrix(model, batches, function=lambda x, y: F.cross_entropy(model(x), y, reduction="none")[:, None])
    return found.to_torch().reshape(len(x), len(x))


def torch_func(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    found = each_way.torch_func(model, chunk_size=32)(x, y)
    return product([value.flatten(1) for value in found.values()])


def backpack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from backpack import backpack as extended
    from backpack.extensions import BatchGrad

    model, criterion = each_way.backpack(model)
    with extended(BatchGrad()):
        criterion(model(x), y).backward()
    return product([value.grad_batch.flatten(1) for value in model.parameters()])


def loop(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    values = list(model.parameters())
    rows = [torch.autograd.grad(F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), values) for i in range(len(x))]
    return product([torch.stack([row[k].flatten() for row in rows]) for k in range(len(values))])


def product(gradients: list[Tensor]) -> Tensor:
    """The Gram matrix of stored gradients."""
    total = torch.zeros(len(gradients[0]), len(gradients[0]))
    for gradient in gradients:
        total.addmm_(gradient, gradient.T)
    return total


WAYS = {"gendyn_lite": ours, "nngeometry": nngeometry, "torch.func": torch_func, "BackPACK": backpack, "loop": loop}


def told(row: dict[str, Any]) -> str:
    """One way's line."""
    return f"{row['seconds']:8.4f} s   {row['memory']:6.2f} GB above the network   off by {row['error']:.0e}"


def summary(network: str, own: each_way.Row, peers: dict[str, each_way.Row]) -> None:
    """Ratios to the best peer, and memory beside stored gradients."""
    if not peers:
        return
    best = min(peers, key=lambda way: peers[way]["seconds"])
    print(f"  {peers[best]['seconds'] / own['seconds']:.2f} times the best peer ({best}); goal {GOALS[network]}")
    stored = [peers[way]["memory"] for way in ("torch.func", "BackPACK", "loop") if way in peers]
    if stored:
        print(f"  memory {own['memory'] / min(stored):.2f} of that of stored gradients")


def measure(network: str, way: str, rounds: int, threads: int) -> dict[str, float]:
    """Seconds of the best round, peak memory above that before the first, and the error against float64."""
    clock = each_way.prepare(threads)
    shape, count = CASES[network]
    model, x, y = each_way.problem(network, shape, count)
    ours(model, x[:2], y[:2])  # libraries are loaded
    before = peak()
    seconds: list[float] = []
    wanted = rounds * (10 if network.startswith("mlp") else 1)
    while len(seconds) < wanted and sum(seconds) < 10 * rounds:
        started = clock()
        found = WAYS[way](model, x, y)
        seconds.append(clock() - started)
    memory = peak() - before
    few = slice(0, 8)
    exact = ours(model.double(), x[few].double(), y[few])
    error = float((found[few, few] - exact).abs().max() / exact.abs().max())
    return {"speed": count / min(seconds), "seconds": min(seconds), "memory": memory, "error": error}


if __name__ == "__main__":
    each_way.Benchmark("stiffness", __file__, "examples/s", CASES, GOALS, WAYS, measure, told, summary).main(__doc__)
