"""What the guards of the measures cost: a first call on a fresh network with them beside one without, in turns.

Run:      python tests/benchmarks/guards.py [MEASURE …] [--side 64] [--rounds 5] [--own]
Takes:    about four minutes on one core; for one measure half a minute.
Network:  torchvision's ResNet-18 with random weights, 128 examples. A second call on the same network is not checked
          again where its code is a library's; it is shown beside. With --own it is inside a module of other code, as
          a network of one's own is: what its operations prove is then looked at in numbers too.
Without:  checks of the network, its inputs and its loss, the example between its neighbours, the examples alone, and
          what remembers that they were made.
Goal:     a first call takes at most 1.05 times as long with the guards. Small images do not reach it: the weights are
          read once for one example as for 128, so that each run of a few examples has a cost that the others do not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest.mock import patch

import torch
import torchvision
from torch import nn

from gendyn_lite.measures.fisher import GradientMask, diagonal, influence, information, stepped
from gendyn_lite.measures.intervals import generalization_interval, interval
from gendyn_lite.measures.per_example import apart, guards, passes
from gendyn_lite.measures.relu_paths import gated, record_paths
from gendyn_lite.measures.stiffness import gradient_gram, squared_norms
from tests.benchmarks.shared.each_way import parse, parser, show

Measure = Callable[[nn.Module, torch.Tensor, torch.Tensor], object]
MEASURES: dict[str, Measure] = {
    "gradient_gram": gradient_gram,
    "squared_norms": squared_norms,
    "diagonal": diagonal,
    "GradientMask": lambda model, x, y: GradientMask(0.5, (x, y)).epoch_end(model, 1),
    "influence": lambda model, x, y: influence(model, x[:2], y[:2], x[:32], eps=1e-3),
    "record_paths": lambda model, x, y: record_paths(model, x),
    "generalization_interval": lambda model, x, y: generalization_interval(model, x, x.flip(0), method="grid",
                                                                           samples=2, tolerance=0.1),
}  # fmt: skip
SKIPPED = {  # by module: what does nothing without guards
    passes: (
        "check_alone",
        "check_rows",
        "check_all_rows",
        "check_loss",
        "check_graph",
        "_lone",
        "Memory",
        "RowWise",
    ),
    apart: ("check_alone", "check_rows"),
    guards: ("check_model",),
    gated: ("check_eval", "_check_rows", "_check_all_rows", "Unseen"),
    information.DiagonalSum: ("_used",),
    stepped: ("check_steps",),
}
AROUND = {passes: ("unmoved", "lag_is_told"), apart: ("unmoved",), gated: ("unmoved", "lag_is_told"),
          stepped: ("lag_is_told",)}  # fmt: skip
RUN = {apart: ("own_outputs",), interval: ("own_outputs",)}


class Own(nn.Module):
    """A network whose code is of no library that is known."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the network inside gives."""
        return self.inner(x)  # type: ignore[no-any-return]


def network(seed: int, *, own: bool) -> nn.Module:
    """The same weights for the same seed: how long an interval takes to find depends on them."""
    torch.manual_seed(seed)
    found = torchvision.models.resnet18(num_classes=10).eval()
    return Own(found) if own else found


@contextmanager
def nothing(*_: object) -> Iterator[None]:
    yield


def unguarded() -> ExitStack:
    """Measures without guards, until it is closed."""
    stack = ExitStack()
    for places, stands_in in (
        (SKIPPED, lambda *_, **__: None),
        (AROUND, nothing),
        (RUN, lambda model, x, run: run(x)),
    ):
        for place, names in places.items():
            for name in names:
                stack.enter_context(patch.object(place, name, stands_in))
    return stack


def main() -> None:
    """Each measure: seconds of the best first call, with and without, and of a second one."""
    options = parser(__doc__, rounds=5, threads=1)
    options.add_argument("measures", nargs="*", help=", ".join(MEASURES))
    options.add_argument("--side", type=int, default=64)
    options.add_argument("--examples", type=int, default=128)
    options.add_argument("--own", action="store_true")
    given = parse(options)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(given.examples, 3, given.side, given.side, generator=generator)
    y = torch.randint(0, 10, (given.examples,), generator=generator)
    for name in given.measures or MEASURES:
        best = {"first": float("inf"), "second": float("inf"), "without": float("inf")}
        for number in range(given.rounds + 1):  # one to warm up
            model, bare = (network(number, own=given.own) for _ in range(2))
            for case, measured in (("first", model), ("second", model), ("without", bare)):
                with unguarded() if case == "without" else nullcontext():
                    started = time.process_time()
                    MEASURES[name](measured, x, y)
                    seconds = time.process_time() - started
                if number > 0:
                    best[case] = min(best[case], seconds)
        first, second = (best[case] / best["without"] for case in ("first", "second"))
        told = f"{best['without']:7.3f} s without guards; first call {first:.3f} times, second {second:.3f} times"
        show(f"{name:24} {given.examples} images at {given.side} px: {told}")


if __name__ == "__main__":
    main()
