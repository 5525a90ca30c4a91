"""What benchmarks share: options, clocks, peers; and one network in several ways, each in a process of its own.

It stands in a folder of its own because `make bench` runs every file beside the benchmarks.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from gendyn_lite import models
from gendyn_lite.data import ImageData, Split
from gendyn_lite.results import publish_benchmark

T = TypeVar("T")
Row = dict[str, Any]
Clock = Callable[[], float]
Way = Callable[[nn.Module, Tensor, Tensor, int], list[Tensor]]
OURS = "gendyn_lite"
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)  # of images
MOST_SECONDS = 30  # of a slow way


@dataclass(frozen=True)
class Benchmark:
    """A measure on some networks, in several ways.

    Attributes:
        name: Of the table that the book shows.
        script: The benchmark's file.
        unit: What speeds are in.
        cases: Network → shape of an input, number of examples.
        goals: Network, or way, → the least ratio of speeds that was set out for.
        ways: Ours and its peers: functions of network, inputs, labels and batch size that give what is measured.
        sizes: Batch sizes that are tried.
        own_size: Ways that take no batch size.
    """

    name: str
    script: str
    unit: str
    cases: Mapping[str, tuple[tuple[int, ...], int]]
    goals: Mapping[str, float]
    ways: Mapping[str, Way]
    sizes: Sequence[int] = (0,)
    own_size: Collection[str] = ()

    def main(self, description: str | None) -> None:
        """Each network in every way, shown line by line and then beside each peer."""
        options = parser(description, rounds=3, threads=1)
        options.add_argument("networks", nargs="*", help=", ".join(self.cases))
        given = parse(options)
        rows = []
        names = {network: f"{network}, {count} examples" for network, (_, count) in self.cases.items()}
        for network in given.networks or self.cases:
            show(f"{names[network]}, {given.threads} thread(s), best of {given.rounds} rounds")
            found = self._compare(network, given.rounds)
            own = found.pop(OURS, None)
            for way, peer in found.items() if own else ():
                rows.append(row(names[network], self.unit, way, own["speed"], peer["speed"]))
                memory = own["memory"] / max(peer["memory"], 1e-3)
                goal = self.goals.get(way, self.goals.get(network))
                show(f"  {own['speed'] / peer['speed']:.2f} times {way} (goal {goal}), {memory:.2f} of its memory")
        if given.publish and not given.networks:
            goals = {names.get(name, name): goal for name, goal in self.goals.items()}
            publish(self.name, rows, goals, f"{Path(self.script).name}, best of {given.rounds} rounds")

    def _compare(self, network: str, rounds: int) -> dict[str, Row]:
        """One network in every way that can do it."""
        found = {}
        for way in self.ways:
            try:
                found[way] = each = apart(self._measure, network, way, rounds)
            except Exception as error:
                show(f"  {way:16} not measured: {str(error)[:110]}")
                continue
            speed, size = f"{each['speed']:10,.1f} {self.unit}", f"batches of {each['size'] or 'its own'}"
            off = "" if each["error"] is None else f"off by {each['error']:.0e}"
            show(f"  {way:16} {speed}  {size:18} {each['memory']:6.2f} GB above the network  {off}")
        return found

    def _measure(self, network: str, way: str, rounds: int) -> Row:
        """Examples a second at the best batch size, peak memory above that before the first, error against float64."""
        warnings.simplefilter("ignore")
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        model, x, y = problem(network, *self.cases[network])
        ours, call, few = self.ways[OURS], self.ways[way], slice(0, 8)
        ours(model, x[few], y[few], 8)  # libraries are loaded
        found = call(model, x[few], y[few], 8)
        before, best, spent = peak(), (float("inf"), 0), 0.0
        for size in (0,) if way in self.own_size else self.sizes:
            seconds: list[float] = []
            while spent < MOST_SECONDS and (len(seconds) < rounds or sum(seconds) < 1):
                started = clock()
                call(model, x, y, size)
                seconds.append(clock() - started)
                spent += seconds[-1]
            best = min(best, (min(seconds, default=best[0]), size))
        memory = peak() - before
        exact = flat(ours(model.double(), x[few].double(), y[few], 8))
        error = float((flat(found) - exact).abs().max() / exact.abs().max()) if found else None
        return {"speed": len(x) / best[0], "memory": memory, "error": error, "size": best[1]}


def apart(function: Callable[..., T], *args: Any) -> T:
    """What a function gives in a process of its own, so that peak memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(function, *args).result()


def flat(parts: list[Tensor]) -> Tensor:
    """All numbers in float64, sorted: peers have their own order of parameters."""
    return torch.cat([part.detach().double().flatten() for part in parts]).sort().values


def parser(description: str | None, *, rounds: int, threads: int | None = None) -> argparse.ArgumentParser:
    """Options that benchmarks with a published table have; `parse` reads them."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--threads", type=int, default=threads, help="CPU threads; 1 is steadier beside other jobs")
    made.add_argument("--publish", action="store_true", help="write the table that the book shows")
    return made


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for; arithmetic takes as many threads."""
    given = options.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    return given


show = partial(print, flush=True)


def row(case: str, unit: str, peer: str, ours: float, theirs: float, device: str = "cpu") -> Row:
    """A row of a published table: speeds of ours and of a peer."""
    return {"case": case, "device": device, "unit": unit, "peer": peer, "ours": ours, "theirs": theirs}


def machine(*gpus: str) -> str:
    """What the figures were measured on."""
    return ", ".join([f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)", *gpus])


def publish(name: str, rows: list[Row], goals: Mapping[str, float], told: str, *gpus: str, **more: str) -> None:
    """Write the table that the book shows, with the command that made it."""
    command = f"python tests/benchmarks/{told}"
    show(publish_benchmark(name, rows, goals=dict(goals), command=command, machine=machine(*gpus), **more))


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int, *, clock: Clock | None = None) -> dict[str, float]:
    """Seconds of each call in its best round; they take turns, after a round to warm up.

    With one thread the time of that thread's own work counts, so that other jobs on the machine change little.
    """
    clock = clock or (time.thread_time if torch.get_num_threads() == 1 else time.perf_counter)
    taken = dict.fromkeys(calls, float("inf"))
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = clock()
            call()
            seconds = clock() - started
            if number > 0:
                taken[name] = min(taken[name], seconds)
    return taken


class PerImage(Dataset):
    """Images in memory, each transformed on its own, as torchvision's data sets are."""

    def __init__(self, x: Any, y: Any, transform: Callable[[Any], Any]) -> None:
        self.x, self.y, self.transform = x, y, transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.x[index]), int(self.y[index])


def noise(count: int, shape: tuple[int, ...]) -> ImageData:
    """Random images of ten classes: speed does not depend on what is in them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (count,), generator=generator)
    names, moments = tuple("0123456789"), (MEAN[: shape[0]], STD[: shape[0]])
    return ImageData("noise", "random images", Split(x, y), Split(x[:64], y[:64]), 10, names, *moments, "0" * 16)


def problem(network: str, shape: tuple[int, ...], count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network in eval mode and random examples with labels."""
    model = models.build(network, num_classes=10, in_shape=shape, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *shape, generator=generator)
    return model, x, torch.randint(0, 10, (count,), generator=generator)


def torch_func(model: nn.Module, *, chunk_size: int | None = None) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Gradients of every example's loss by parameter, by torch.func (vmap of grad)."""
    values = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values, x, y):
        return F.cross_entropy(torch.func.functional_call(model, (values, buffers), (x[None],)), y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), chunk_size=chunk_size)
    return lambda x, y: each(values, x, y)


def backpack(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The network and the summed loss as BackPACK extends them."""
    from backpack import extend

    residual = any("Add" in type(module).__name__ for module in model.modules())
    return extend(model, use_converter=residual, debug=False), extend(nn.CrossEntropyLoss(reduction="sum"))


def peak() -> float:
    """Largest memory of this process so far in GB (Linux; `ru_maxrss` would count the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6
