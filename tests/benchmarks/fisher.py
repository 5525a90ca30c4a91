"""The diagonal of the empirical Fisher information beside its peers: images a second and memory.

Run:      python tests/benchmarks/fisher.py [NETWORK …] [--rounds 3] [--threads 2] [--publish]
Takes:    about four minutes on two idle cores. Seconds are those of the processor with one thread, which other programs
          disturb little, and of the clock with more.
Peers:    nngeometry's PMatDiag; BackPACK's SumGradSquared; torch.func (vmap of grad); a loop over examples. One that is
          not installed (pip install -e .[bench]) or cannot do a network is named. Forward and backward of plain batches
          is no peer but the floor: what training itself takes. Each way takes the batch size that suits it best.
Goals:    beside the best peer at least 1.3 times as fast on MLP 3x512, 2 times on alexnet_small and on ResNet-18; at
          least 0.8 of the images a second of plain forward and backward.
Found:    on one core 1.3, 1.8 and 1.6 times the best peer; on ResNet-18 that is the loop, and the others are left three
          times behind. Of forward and backward 0.97, 0.94 and 0.88: twice the best peer would be faster than that.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.shared import each_way

CASES = {"mlp_3x512": ((3, 28, 28), 1024), "alexnet_small": ((3, 28, 28), 256), "resnet18": ((3, 32, 32), 64)}
GOALS = {"mlp_3x512": 1.3, "alexnet_small": 2.0, "resnet18": 2.0, "forward+backward": 0.8}
SIZES = (16, 32, 128, 512)  # batch sizes that are tried


def ours(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    from gendyn_lite.measures.fisher import diagonal

    return list(diagonal(model, x, y).values())  # its own choice of batches


def nngeometry(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    from nngeometry.layercollection import LayerCollection
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDiag
    from torch.utils.data import DataLoader, TensorDataset

    def root(x: Tensor, y: Tensor) -> Tensor:  # its 'regression' variant sums the squared gradients of this
        return F.cross_entropy(model(x), y, reduction="none")[:, None]

    batches, layers = DataLoader(TensorDataset(x, y), batch_size=size), LayerCollection.from_model(model)
    found = FIM(model, batches, PMatDiag, variant="regression", function=root, layer_collection=layers)
    return [found.get_diag()]


extended_once = lru_cache(each_way.backpack)


def backpack(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    from backpack import backpack as extended
    from backpack.extensions import SumGradSquared

    model, criterion = extended_once(model)
    total = [torch.zeros_like(value) for value in model.parameters()]
    for batch, labels in zip(x.split(size), y.split(size), strict=True):
        with extended(SumGradSquared()):
            criterion(model(batch), labels).backward()
        for part, parameter in zip(total, model.parameters(), strict=True):
            part.add_(parameter.sum_grad_squared)
            parameter.grad = None
    return [value / len(x) for value in total]


def torch_func(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    each = each_way.torch_func(model)
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for part, labels in zip(x.split(size), y.split(size), strict=True):
        for name, gradients in each(part, labels).items():
            total[name] += gradients.square().sum(0)
    return [value / len(x) for value in total.values()]


def loop(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    values = list(model.parameters())
    total = [torch.zeros_like(value) for value in values]
    for i in range(len(x)):
        found = torch.autograd.grad(F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), values)
        for part, g in zip(total, found, strict=True):
            part.addcmul_(g, g)
    return [value / len(x) for value in total]


def plain(model: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    for part, labels in zip(x.split(size), y.split(size), strict=True):
        model.zero_grad()
        F.cross_entropy(model(part), labels).backward()
    return []


WAYS: dict[str, each_way.Way] = {
    "gendyn_lite": ours,
    "nngeometry": nngeometry,
    "BackPACK": backpack,
    "torch.func": torch_func,
    "loop": loop,
    "forward+backward": plain,
}

if __name__ == "__main__":
    sizes = {"sizes": SIZES, "own_size": (each_way.OURS, "loop")}
    each_way.Benchmark("fisher", __file__, "images/s", CASES, GOALS, WAYS, **sizes).main(__doc__)
