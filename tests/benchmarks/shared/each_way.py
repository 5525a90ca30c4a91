"""What benchmarks of measures of per-example gradients share: one network in several ways, each in its own process.

It stands in a folder of its own because `make bench` runs every file beside the benchmarks.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite import models
from gendyn_lite.results import publish_benchmark

Row = dict[str, Any]


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
        summarize: Shows the ratios of one network.
    """

    name: str
    script: str
    unit: str
    cases: Mapping[str, tuple[tuple[int, ...], int]]
    goals: Mapping[str, float]
    ways: Iterable[str]
    measure: Callable[[str, str, int, int], Row]
    tell: Callable[[Row], str]
    summarize: Callable[[str, dict[str, Row]], None]

    def main(self, description: str | None) -> None:
        """Each network and way in a process of its own, so that peak memory is its own."""
        given = parser(description, self.cases).parse_args()
        if given.way:
            print(json.dumps(self.measure(given.networks[0], given.way, given.rounds, given.threads)))
            return
        rows = []
        for network in given.networks or self.cases:
            found = compare(self.script, network, self.cases[network][1], self.ways, given, self.tell)
            self.summarize(network, found)
            rows += [
                {"case": self._case(network), "device": "cpu", "unit": self.unit, "peer": way,
                 "ours": found["gendyn_lite"]["speed"], "theirs": row["speed"]}
                for way, row in found.items()
                if way != "gendyn_lite"
            ]  # fmt: skip
        if given.publish and not given.networks:
            goals = {self._case(name) if name in self.cases else name: goal for name, goal in self.goals.items()}
            command = f"python tests/benchmarks/{Path(self.script).name}, best of {given.rounds} rounds"
            machine = f"{platform.machine()} CPU, {given.threads} thread(s)"
            print(publish_benchmark(self.name, rows, goals=goals, command=command, machine=machine))

    def _case(self, network: str) -> str:
        """How the published table names a network."""
        return f"{network}, {self.cases[network][1]} examples"


def parser(description: str | None, networks: Iterable[str]) -> argparse.ArgumentParser:
    """Options that every such benchmark has; ``--way`` is for the processes that it starts."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("networks", nargs="*", help=", ".join(networks))
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--publish", action="store_true", help="write the table that the book shows")
    made.add_argument("--way", help=argparse.SUPPRESS)
    return made


def compare(
    script: str, network: str, count: int, ways: Iterable[str], given: argparse.Namespace, tell: Callable[[Row], str]
) -> dict[str, Row]:
    """One network in every way, shown line by line; each in a process of its own, so that peak memory is its own."""
    print(f"{network}, {count} examples, {given.threads} thread(s), best of {given.rounds} rounds")
    options = ["--rounds", str(given.rounds), "--threads", str(given.threads)]
    found = {}
    for way in ways:
        command = [sys.executable, "-W", "ignore", script, network, "--way", way, *options]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"  {way:16} not measured: {run.stderr.strip().splitlines()[-1][:110]}", flush=True)
            continue
        found[way] = json.loads(run.stdout.splitlines()[-1])
        print(f"  {way:16} {tell(found[way])}", flush=True)
    return found


def prepare(threads: int) -> Callable[[], float]:
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


def peak() -> float:
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
