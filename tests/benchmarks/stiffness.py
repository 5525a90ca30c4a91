"""The Gram matrix of per-example gradients beside its peers: seconds and memory.

Run:      python tests/benchmarks/stiffness.py [NETWORK …] [--rounds 3] [--threads 2] [--publish]
Takes:    about two minutes on two idle cores. Seconds are those of the processor with one thread, which other programs
          disturb little, and of the clock with more.
Peers:    nngeometry's GramMatrix; TorchJD's autogram; torch.func (vmap of grad) and BackPACK (BatchGrad), which store
          every gradient and multiply; a loop over examples. One that is not installed (pip install -e .[bench]) or
          cannot do a network is named.
Expected: beside the best peer, at least 2.5 times as fast on MLP 3x512 (256 examples), 3 times on alexnet_small (256)
          and on ResNet-18 (128); there with at most a fifth of the memory of stored gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.shared import each_way

CASES = {"mlp_3x512": ((3, 28, 28), 256), "alexnet_small": ((3, 28, 28), 256), "resnet18": ((3, 32, 32), 128)}
GOALS = {"mlp_3x512": 2.5, "alexnet_small": 3.0, "resnet18": 3.0}


def ours(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    from gendyn_lite.measures.stiffness import gradient_gram

    return [gradient_gram(model, x, y)]


def nngeometry(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    from nngeometry.gram import GramMatrix
    from torch.utils.data import DataLoader, TensorDataset

    batches = DataLoader(TensorDataset(x, y), batch_size=len(x))
    found = GramMatrix(model, batches, function=lambda x, y: F.cross_entropy(model(x), y, reduction="none")[:, None])
    return [found.to_torch()]


def torchjd(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    from torchjd.autogram import Engine

    engine = Engine(model, batch_dim=0)
    return [engine.compute_gramian(F.cross_entropy(model(x), y, reduction="none"))]


def torch_func(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    found = each_way.torch_func(model, chunk_size=32)(x, y)
    return product([value.flatten(1) for value in found.values()])


def backpack(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    from backpack import backpack as extended
    from backpack.extensions import BatchGrad

    model, criterion = each_way.backpack(model)
    with extended(BatchGrad()):
        criterion(model(x), y).backward()
    return product([value.grad_batch.flatten(1) for value in model.parameters()])


def loop(model: nn.Module, x: Tensor, y: Tensor, _: int) -> list[Tensor]:
    values = list(model.parameters())
    rows = [torch.autograd.grad(F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), values) for i in range(len(x))]
    return product([torch.stack([row[k].flatten() for row in rows]) for k in range(len(values))])


def product(gradients: list[Tensor]) -> list[Tensor]:
    """The Gram matrix of stored gradients."""
    total = gradients[0].new_zeros(len(gradients[0]), len(gradients[0]))
    for gradient in gradients:
        total.addmm_(gradient, gradient.T)
    return [total]


WAYS: dict[str, each_way.Way] = {
    "gendyn_lite": ours,
    "nngeometry": nngeometry,
    "TorchJD": torchjd,
    "torch.func": torch_func,
    "BackPACK": backpack,
    "loop": loop,
}


if __name__ == "__main__":
    each_way.Benchmark("stiffness", __file__, "examples/s", CASES, GOALS, WAYS).main(__doc__)
