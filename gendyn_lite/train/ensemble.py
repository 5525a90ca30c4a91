"""Many small runs at once: seeds and label corruptions of one small network, trained as one batched network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.config import RunConfig, digest
from gendyn_lite.data import ImageData, batcher, draws
from gendyn_lite.errors import UserError
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.history import History, Place, Progress, Row, check_losses, has_ended, make_row
from gendyn_lite.train.loop import fit
from gendyn_lite.train.probes import check_fits, evaluated_epochs
from gendyn_lite.train.stack import Stack, layout
from gendyn_lite.train.step import learning_rate, make_optimizer

FREE = ("seed", "label_corruption", "inputs")  # settings in which runs that train together may differ
# Beyond these a group gains nothing: on a CPU one network's weights no longer stay in the cache from step to step.
CPU_BYTES, GPU_BYTES = 8 * 2**20, 2 * 2**30
EVALUATED = 8192  # examples times networks evaluated at once


@dataclass(frozen=True)
class Member:
    """One of the runs: its number in the call, what it was given, and the rows that it gets."""

    run: int
    model: nn.Module
    data: ImageData
    config: RunConfig
    history: History

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"run {self.run} (seed {self.config.seed}, label corruption {self.config.label_corruption:g}): "


def fit_many(
    models: Sequence[nn.Module],
    datasets: Sequence[ImageData],
    configs: Sequence[RunConfig],
    *,
    device: str | torch.device | None = None,
    on_epoch: Callable[[int, Row], Any] | None = None,
    on_end: Callable[[int, History], Any] | None = None,
    progress: bool = False,
) -> list[History]:
    """Train several networks; the same numbers as `fit` on each, up to the rounding of float32.

    Fully connected networks whose configurations differ in seed, label corruption and inputs only, and augment
    nothing, are trained together as one batched network. The rest are trained one after another.

    Args:
        models: The networks, each trained in place and left in eval mode on the device.
        datasets: For each network its data, the training labels already corrupted.
        configs: For each network its configuration.
        device: As for `fit`.
        on_epoch: Called with the number of the run and its row. Rows of different runs interleave.
        on_end: Called with the number of a run and its history once it has its weights, while others are trained still.
        progress: Whether to show a progress bar with a time estimate.

    Returns:
        The rows of each run. ``seconds`` is a run's share of the time of those trained together.

    Raises:
        UserError: As for `fit`; or the arguments have different lengths.

    >>> from gendyn_lite import data, models
    >>> configs = [RunConfig(experiment="demo", label_corruption=q, epochs=5) for q in (0.0, 1.0)]
    >>> digits = [data.load_for_run(config)[0] for config in configs]
    >>> networks = [models.build("mlp_1x512", num_classes=10, in_shape=(1, 8, 8), seed=0) for _ in configs]
    >>> true, random = fit_many(networks, digits, configs, device="cpu")
    >>> true.last["test_accuracy"] > 0.9, random.last["test_accuracy"] < 0.3
    (True, True)
    """
    if not len(models) == len(datasets) == len(configs):
        lengths = f"{len(models)} models, {len(datasets)} datasets, {len(configs)} configs"
        raise UserError(f"fit_many got {lengths}: expected one of each for every run")
    place = choose_device(device)
    members = [Member(*one, History()) for one in zip(range(len(models)), models, datasets, configs, strict=True)]
    report, ended = on_epoch or (lambda run, row: None), on_end or (lambda run, history: None)
    with Progress(sum(config.epochs for config in configs), enabled=progress, label="runs", unit="epoch") as bar:
        for group in _groups(members, place):
            if len(group) > 1:
                Together(group, place, report, ended, bar).train()
            else:
                _alone(group[0], place, report, bar)
                ended(group[0].run, group[0].history)
    return [member.history for member in members]


def _groups(members: Sequence[Member], device: torch.device) -> list[list[Member]]:
    """The runs that train together, in the order of their first ones, in groups of about equal size."""
    kinds: dict[str, list[Member]] = {}
    for member in members:
        kinds.setdefault(_kind(member), []).append(member)
    groups = []
    for kind in kinds.values():
        parts = math.ceil(len(kind) / _most_together(kind[0], device))
        size = math.ceil(len(kind) / parts)
        groups += [kind[at : at + size] for at in range(0, len(kind), size)]
    return groups


def _most_together(member: Member, device: torch.device) -> int:
    """Networks whose weights, gradients, momenta and activations stay in the memory that is fast."""
    weights = sum(parameter.numel() for parameter in member.model.parameters())
    units = sum(layer.out_features for layer in member.model.modules() if isinstance(layer, nn.Linear))
    size = 4 * (3 * weights + 2 * member.config.batch_size * units)
    return max(1, (CPU_BYTES if device.type == "cpu" else GPU_BYTES) // size)


def _kind(member: Member) -> str:
    """Equal for runs that can train together; a name of its own for any other run."""
    config, data, layers = member.config, member.data, layout(member.model)
    if layers is None or config.random_crop or config.flip or config.precision != "float32":
        return f"alone {member.run}"
    if config.eval_schedule != "regular":  # which looks within an epoch
        return f"alone {member.run}"
    shapes = [list(part.x.shape) for part in (data.train, data.test)]
    same = {key: value for key, value in config.as_dict().items() if key not in FREE}
    return digest([layers, shapes, data.num_classes, same])


def _alone(member: Member, device: torch.device, report: Callable[[int, Row], Any], bar: Progress) -> None:
    def on_epoch(row: Row) -> None:
        bar.advance(row["epoch"] - (rows[-1]["epoch"] if rows else 0))
        rows.append(row)
        report(member.run, row)

    rows = member.history.rows
    fit(member.model, member.data, member.config, device=device, on_epoch=on_epoch)
    bar.advance(member.config.epochs - rows[-1]["epoch"])


class Together:
    """Runs of one kind as one batched network; a run whose labels are fitted leaves, if its configuration says so."""

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        report: Callable[[int, Row], Any],
        ended: Callable[[int, History], Any],
        bar: Progress,
    ) -> None:
        """Put the networks and their data on the device."""
        self.members, self.device, self.report, self.ended, self.bar = list(members), device, report, ended, bar
        self.config, self.place = members[0].config, Place()
        self._gather_data()
        self.stack = Stack([member.model for member in members])
        self.optimizer = make_optimizer(self.stack.parameters, self.config)

    def _gather_data(self) -> None:
        """Inputs of the distinct data sets, float32 [sets, n, d], which of them each run has, and labels [R, n]."""
        sets: list[tuple[ImageData, dict[str, Tensor]]] = []
        which = []
        for member in self.members:
            found = next((at for at, known in enumerate(sets) if _same_inputs(known[0], member.data)), len(sets))
            if found == len(sets):
                inputs = {}
                for part, split in (("train", "train_eval"), ("test", "test")):
                    inputs[part], _ = batcher(member.data, member.config, split=split, device=self.device).whole()
                sets.append((member.data, inputs))
            which.append(found)
            check_fits(member.model.to(self.device), member.data, sets[found][1]["train"])
        self.which, self.x, self.y = torch.tensor(which, device=self.device), {}, {}
        for split in ("train", "test"):
            self.x[split] = torch.stack([inputs[split].flatten(1) for _, inputs in sets])
            labels = [getattr(member.data, split).y for member in self.members]
            self.y[split] = torch.stack(labels).to(self.device)

    def train(self) -> None:
        """Train to the last epoch, or until every run has left."""
        epochs, evaluated = self.config.epochs, evaluated_epochs(self.config)
        with torch.autocast(self.device.type, enabled=False):  # whatever the caller's context is
            self._evaluate(0)
            for epoch in range(1, epochs + 1):
                if not self.members:
                    return
                started = time.perf_counter()
                self._train_epoch(epoch)
                self.place.seconds += (time.perf_counter() - started) / len(self.members)
                self.bar.advance(len(self.members))
                if epoch in evaluated:
                    self._evaluate(epoch)
            self._leave(range(len(self.members)), epochs)

    def _train_epoch(self, epoch: int) -> None:
        rate = learning_rate(self.config, epoch)
        self.optimizer.param_groups[0]["lr"] = rate
        runs, count = self.y["train"].shape
        seeds = [member.config.seed for member in self.members]
        orders = [torch.from_numpy(draws.permutation(count, seed, draws.ORDER, epoch)) for seed in seeds]
        order = torch.stack(orders).to(self.device)
        flat, where = self.x["train"].flatten(0, 1), order + (self.which * count)[:, None]
        labels = self.y["train"].gather(1, order)
        losses = []
        size = self.config.batch_size
        for rows, y in zip(where.split(size, dim=1), labels.split(size, dim=1), strict=True):
            x = flat.index_select(0, rows.reshape(-1)).view(runs, y.shape[1], -1)
            losses.append(self.stack.gradients(x, y))
            self.optimizer.step()
        self.place.batch, self.place.step = len(losses), self.place.step + len(losses)
        for member, values in zip(self.members, torch.stack(losses, dim=1).tolist(), strict=True):
            check_losses(values, place=self.place, epoch=epoch, steps=len(losses), rate=rate, run=member.name)

    def _evaluate(self, epoch: int) -> None:
        """A row for each run; those that have ended leave."""
        sums = torch.cat([self._totals("train"), self._totals("test")], dim=1).tolist()
        counts = (self.y["train"].shape[1], self.y["test"].shape[1])
        self.place.epoch = epoch
        ended = []
        for number, (member, values) in enumerate(zip(self.members, sums, strict=True)):
            row = make_row(values, counts, self.place, learning_rate(self.config, epoch), run=member.name)
            member.history.rows.append(row)
            self.report(member.run, row)
            if has_ended(self.config, row):
                ended.append(number)
        if ended:
            self._leave(ended, epoch)

    def _totals(self, split: str) -> Tensor:
        """Summed loss and number of correct predictions of each run, float64 [R, 2]."""
        runs = len(self.members)
        total = torch.zeros(runs, 2, dtype=torch.float64, device=self.device)
        size = max(EVALUATED // runs, 64)
        with torch.no_grad():
            for x, y in zip(self.x[split].split(size, dim=1), self.y[split].split(size, dim=1), strict=True):
                logits = self.stack.forward(x if len(x) == 1 else x[self.which])[-1]
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
                total[:, 0] += loss.view(runs, -1).sum(1)
                total[:, 1] += (logits.argmax(2) == y).sum(1)
        return total

    def _leave(self, numbers: Sequence[int], epoch: int) -> None:
        """Give these runs their weights, and go on with the others."""
        for number in numbers:
            self.stack.store(number, self.members[number].model.eval())
            self.bar.advance(self.config.epochs - epoch)
            self.ended(self.members[number].run, self.members[number].history)
        stay = [number for number in range(len(self.members)) if number not in set(numbers)]
        self.members = [self.members[number] for number in stay]
        if not stay or not numbers:
            return
        kept = torch.tensor(stay, device=self.device)
        self.which, self.y = self.which[kept], {split: y[kept] for split, y in self.y.items()}
        self.stack.keep(kept)
        for state in self.optimizer.state.values():
            state |= {key: value[kept] for key, value in state.items() if isinstance(value, Tensor)}


def _same_inputs(one: ImageData, other: ImageData) -> bool:
    return all(torch.equal(getattr(one, part).x, getattr(other, part).x) for part in ("train", "test"))
