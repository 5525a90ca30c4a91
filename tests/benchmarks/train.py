"""Training speed against its peers: images a second, in one run on one machine.

Run:      python tests/benchmarks/train.py [--networks alexnet_small resnet18] [--rounds 3] [--threads 1] [--publish]
Takes:    about nine minutes on two idle cores; a GPU, if there is one, is measured too (a minute more).
Peers:    bare: forward, backward and step on one batch that is there already, with the arithmetic, memory layout,
          allocator and threads of ours (nothing can be faster);
          loader: a DataLoader with one worker, per-image transforms on the CPU and loss.item() in every step, as most
          training scripts have it (torchvision's ToTensor and Normalize, with crop and flip where we have them), in
          float32 also where ours is in bfloat16, as the case then says, and in a process of its own, because fit() sets
          up the allocator for its whole process.
Expected: on a CPU at least 0.9 of bare, and on small networks, where the loader matters, at least 3 times loader; with
          large ones only where the CPU has instructions for bfloat16. On a GPU at least 10 times loader on small ones.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData
from gendyn_lite.threads import threads
from gendyn_lite.train import fit, fit_many, threads_for
from gendyn_lite.train.device import Precision
from gendyn_lite.train.step import make_optimizer
from tests.benchmarks.shared.each_way import MEAN, STD, PerImage, machine, noise, parse, parser, publish, row, show

PEERS = {"bare": "bare step", "loader": "DataLoader loop", "alone": "one by one"}
GOALS = {"bare step": 0.9, "DataLoader loop": 3.0}
SHORT = 6_400  # images of an epoch of a small network


@dataclass(frozen=True)
class Case:
    """A network, its inputs, and how many images an epoch has on a CPU (a second or two of work)."""

    network: str
    in_shape: tuple[int, int, int]
    images: int
    batch_size: int = 128
    augmented: bool = True
    precision: str = "float32"

    @property
    def turns(self) -> int:
        """Measurements of a round, ours and bare: many of a network that takes a fraction of a second."""
        return 5 if self.images == SHORT else 1

    def epoch(self, device: torch.device) -> int:
        """Images of an epoch on a device."""
        return self.images if device.type == "cpu" else 51_200

    @property
    def name(self) -> str:
        """What the tables call it."""
        shape = "x".join(map(str, self.in_shape))
        half = "" if self.precision == "float32" else f", {self.precision}"
        return f"{self.network}, {shape}{', augmented' if self.augmented else ''}{half}"


LARGE = (
    Case("alexnet_small", (3, 28, 28), 1_280),
    Case("inception_small", (3, 28, 28), 256),
    Case("resnet18", (3, 32, 32), 128, batch_size=32),
    Case("vgg19", (3, 32, 32), 128, batch_size=32),
)
CASES = (
    Case("mlp_1x512", (1, 8, 8), SHORT, augmented=False),
    Case("mlp_1x512", (3, 28, 28), SHORT, augmented=False),
    Case("mlp_1x512", (3, 28, 28), SHORT),
    Case("mlp_3x512", (3, 28, 28), SHORT),
    *LARGE,
    *(replace(case, precision="bfloat16") for case in LARGE),
)


def main() -> None:
    """Every case on every device; the three ways take turns, and the best round of each counts."""
    options = parser("Training speed against its peers.", rounds=3)
    options.add_argument("--networks", nargs="*", help="only these networks")
    given = parse(options)
    gpus = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    show(f"{machine(*gpus)}; best of {given.rounds} rounds")
    chosen = [case for case in CASES if not given.networks or case.network in given.networks]
    rows = []
    # Another process, which no setting of this one reaches, for the loader.
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as apart:
        for device in ("cpu", "cuda") if gpus else ("cpu",):
            for case in chosen:
                rows += measure(case, torch.device(device), given.rounds, apart)
    if not given.networks:
        rows += together(given.rounds)
    if given.publish:
        publish("training", rows, GOALS, f"train.py, best of {given.rounds} rounds", *gpus)


def measure(case: Case, device: torch.device, rounds: int, apart: Executor) -> list[dict[str, Any]]:
    """Images a second of the three ways in turn, each at its best: a row for each peer."""
    network, loaded, config = problem(case, device)
    # What the experiments' runner chooses.
    options = {"channels_last": any(isinstance(module, nn.Conv2d) for module in network.modules())}
    speed = {"ours": 0.0, "bare": 0.0, "loader": 0.0}
    for _ in range(rounds):
        for _ in range(case.turns):
            speed["ours"] = max(speed["ours"], ours(network, loaded, config, device, options))
            speed["bare"] = max(speed["bare"], bare(network, case, config, device))
        speed["loader"] = max(speed["loader"], apart.submit(loader, case, device).result())
    peers = ("bare", "loader")
    rows = [row(case.name, "images/s", PEERS[way], speed["ours"], speed[way], device.type) for way in peers]
    show_row(rows)
    return rows


def problem(case: Case, device: torch.device) -> tuple[nn.Module, ImageData, RunConfig]:
    """A case's network, images and configuration."""
    config = RunConfig(
        experiment="bench", model=case.network, batch_size=case.batch_size, learning_rate=1e-3, schedule="constant",
        standardize="per_channel", random_crop=2 * case.augmented, flip=case.augmented, epochs=2, eval_every=2,
        precision=case.precision,
    )  # fmt: skip
    network = models.build(case.network, num_classes=10, in_shape=case.in_shape, seed=0).to(device)
    return network, noise(case.epoch(device), case.in_shape), config


def ours(network: nn.Module, loaded: ImageData, config: RunConfig, device: torch.device, options: Any) -> float:
    """The training seconds that fit() reports."""
    history = fit(copy.deepcopy(network), loaded, config, device=device, **options)
    return config.epochs * len(loaded.train.y) / history.last["seconds"]


def bare(network: nn.Module, case: Case, config: RunConfig, device: torch.device) -> float:
    """One batch on the device, again and again, with the arithmetic, layout and threads of ours (on a GPU a graph)."""
    network = copy.deepcopy(network).train()
    x = torch.randn(case.batch_size, *case.in_shape, device=device)
    if any(isinstance(module, nn.Conv2d) for module in network.modules()):
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network.parameters(), config)
    precision = Precision(config.precision, device)
    y = torch.randint(0, 10, (case.batch_size,), device=device)
    # As many steps as ours: the best of shorter runs would be luck.
    steps = config.epochs * math.ceil(case.epoch(device) / case.batch_size)

    def step() -> None:
        with precision.autocast():
            loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with threads(threads_for(network, config)):
        take = captured(step) if device.type == "cuda" else step
        wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            take()
        wait(device)
        return steps * case.batch_size / (time.perf_counter() - started)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """A step as one CUDA graph, its gradients and momenta kept in place: as fast as a bare step can be."""
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def loader(case: Case, device: torch.device) -> float:
    """The usual loop over a DataLoader; the start of its worker is not counted."""
    network, loaded, config = problem(case, device)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=config.momentum)
    channels, height, _ = loaded.in_shape
    augmentation = [transforms.RandomCrop(height, padding=2), transforms.RandomHorizontalFlip()]
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN[:channels], STD[:channels])]
    transform = transforms.Compose([transforms.ToPILImage(), *(augmentation if config.flip else []), *finish])
    images = PerImage(loaded.train.x[:SHORT], loaded.train.y[:SHORT], transform)
    options: dict[str, Any] = {"num_workers": 1, "pin_memory": device.type == "cuda"}
    total, done = 0.0, 0
    iterator = iter(DataLoader(images, batch_size=config.batch_size, shuffle=True, **options))
    next(iterator)
    started = time.perf_counter()
    for x, y in iterator:
        loss = F.cross_entropy(network(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        done += len(y)
    return done / (time.perf_counter() - started)  # loss.item() has waited for the device


def together(rounds: int) -> list[dict[str, Any]]:
    """The smoke sweep of chapter 1, one network: four label corruptions and four seeds, one by one and together."""
    rows = []
    base = RunConfig(experiment="bench", batch_size=32, epochs=3, eval_every=3)
    for widths in ([32], [128], [512], [128, 128, 128]):
        config = base.replace(model="mlp", model_options={"widths": widths})
        each = product((0, 1, 2, 3), (0.0, 0.5, 0.75, 1.0))
        configs = [config.replace(seed=seed, label_corruption=q) for seed, q in each]
        digits = [data.load_for_run(one)[0] for one in configs]
        options = {"num_classes": 10, "in_shape": (1, 8, 8), "widths": widths}
        networks = [models.build("mlp", seed=one.seed, **options) for one in configs]
        alone, joint = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            for run in zip(copy.deepcopy(networks), digits, configs, strict=True):
                fit(*run, device="cpu")
            between = time.perf_counter()
            fit_many(copy.deepcopy(networks), digits, configs, device="cpu")
            alone.append(between - started)
            joint.append(time.perf_counter() - between)
        rows.append(row(f"16 runs of an MLP {widths}", "runs/s", PEERS["alone"], 16 / min(joint), 16 / min(alone)))
        show_row(rows[-1:])
    return rows


def show_row(rows: list[dict[str, Any]]) -> None:
    """A case in a line: our speed, and its ratio to each peer."""
    ratios = ", ".join(f"{row['ours'] / row['theirs']:.2f} of {row['peer']}" for row in rows)
    show(f"{rows[0]['device']:5} {rows[0]['case']:40} {rows[0]['ours']:10,.1f} {rows[0]['unit']}: {ratios}")


def wait(device: torch.device) -> None:
    """Until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
