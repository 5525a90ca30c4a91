"""What benchmarks share: options, clocks, peers; and one network in several ways, each in its own process.

It stands in a folder of its own because `make bench` runs every file beside the benchmarks.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from gendyn_lite import models
from gendyn_lite.results import publish_benchmark

Row = dict[str, Any]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """A measure on some networks, in several ways.

    Attributes:
        name: Of the table that the book shows.
        script: The benchmark's file.
        unit: What speeds are in.
        cases: Network → shape of an input, number of examples.
        goals: Network, or way, → the least ratio of speeds that was set out for.
        ways: Ours, ``"gendyn_lite"``, and its peers.
        measure: Function of (network, way, rounds, threads) that gives a row with the `speed`.
        tell: One way's row in words.
        summarize: Shows the ratios of one network: its name, our row, those of the peers.
    """

    name: str
    script: str
    unit: str
    cases: Mapping[str, tuple[tuple[int, ...], int]]
    goals: Mapping[str, float]
    ways: Iterable[str]
    measure: Callable[[str, str, int, int], Row]
    tell: Callable[[Row], str]
    summarize: Callable[[str, Row, dict[str, Row]], None]

    def main(self, description: str | None) -> None:
        """Each network and way in a process of its own, so that peak memory is its own."""
        options = parser(description, rounds=3, threads=1)
        options.add_argument("networks", nargs="*", help=", ".join(self.cases))
        options.add_argument("--way", help=argparse.SUPPRESS)  # for the processes that this one starts
        given = parse(options)
        if given.way:
            print(json.dumps(self.measure(given.networks[0], given.way, given.rounds, given.threads)))
            return
        rows = []
        for network in given.networks or self.cases:
            found = self._compare(network, given)
            own = found.pop("gendyn_lite", None)
            if own:
                self.summarize(network, own, found)
                for way, peer in found.items():
                    rows.append(row(self._case(network), self.unit, way, own["speed"], peer["speed"]))
        if given.publish and not given.networks:
            goals = {self._case(name) if name in self.cases else name: goal for name, goal in self.goals.items()}
            publish(self.name, rows, goals, f"{Path(self.script).name}, best of {given.rounds} rounds")

    def _case(self, network: str) -> str:
        """How the published table names a network."""
        return f"{network}, {self.cases[network][1]} examples"

    def _compare(self, network: str, given: argparse.Namespace) -> dict[str, Row]:
        """One network in every way, shown line by line."""
        count = self.cases[network][1]
        print(f"{network}, {count} examples, {given.threads} thread(s), best of {given.rounds} rounds")
        options = ["--rounds", str(given.rounds), "--threads", str(given.threads)]
        found = {}
        for way in self.ways:
            command = [sys.executable, "-W", "ignore", self.script, network, "--way", way, *options]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                show(f"  {way:16} not measured: {run.stderr.strip().splitlines()[-1][:110]}")
                continue
            found[way] = json.loads(run.stdout.splitlines()[-1])
            show(f"  {way:16} {self.tell(found[way])}")
        return found


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


def prepare(threads: int) -> Clock:
    """No warnings, and arithmetic on that many threads: the clock to take, the processor's for one thread."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    return time.process_time if threads == 1 else time.perf_counter


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
