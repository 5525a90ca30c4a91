"""Runs that are trained together, as one batched network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, draws
from gendyn_lite.train.batches import Batches
from gendyn_lite.train.guards import check_fits, check_losses
from gendyn_lite.train.history import History
from gendyn_lite.train.place import Place
from gendyn_lite.train.precision import Precision
from gendyn_lite.train.probes import Probe, call_probes
from gendyn_lite.train.progress import Progress
from gendyn_lite.train.rows import Row, make_row
from gendyn_lite.train.schedules import learning_rate
from gendyn_lite.train.stack import Stack
from gendyn_lite.train.step import make_optimizer

EVALUATED = 8192  # examples times networks evaluated at once


@dataclass(frozen=True)
class Member:
    """One of the runs: its number in the call, what it was given, and the rows that it gets."""

    run: int
    model: nn.Module
    data: ImageData
    config: RunConfig
    probes: Mapping[str, Probe]
    history: History


class Together:
    """Runs of one kind as one batched network; a run whose labels are fitted leaves, if its configuration says so."""

    def __init__(
        self, members: Sequence[Member], device: torch.device, report: Callable[[int, Row], Any], bar: Progress
    ) -> None:
        """Put the networks and their data on the device."""
        self.members, self.device, self.report, self.bar = list(members), device, report, bar
        self.config, self.place = members[0].config, Place()
        self._gather_data()
        self.stack = Stack([member.model for member in members])
        self.optimizer = make_optimizer(self.stack.parameters, self.config)

    def _gather_data(self) -> None:
        """Inputs of the distinct data sets, float32 [sets, n, d], which of them each run has, and labels [R, n]."""
        sets: list[tuple[ImageData, Tensor, Tensor]] = []
        which = []
        for member in self.members:
            found = next((at for at, known in enumerate(sets) if _same_inputs(known[0], member.data)), len(sets))
            if found == len(sets):
                batches = Batches(member.data, member.config, self.device)
                train, test = (batches.inputs(split) for split in ("train_eval", "test"))
                sets.append((member.data, train, test))
            which.append(found)
            check_fits(member.model.to(self.device), member.data, sets[found][1])
        self.which = torch.tensor(which, device=self.device)
        self.x = {
            "train": torch.stack([train.flatten(1) for _, train, _ in sets]),
            "test": torch.stack([test.flatten(1) for _, _, test in sets]),
        }
        self.y = {
            "train": torch.stack([member.data.train.y for member in self.members]).to(self.device),
            "test": torch.stack([member.data.test.y for member in self.members]).to(self.device),
        }

    def train(self) -> None:
        """Train to the last epoch, or until every run has left."""
        with Precision("float32", self.device).autocast():
            self._epochs()

    def _epochs(self) -> None:
        epochs = self.config.epochs
        seconds = 0.0
        self._evaluate(0, seconds)
        for epoch in range(1, epochs + 1):
            if not self.members:
                return
            started = time.perf_counter()
            self._train_epoch(epoch)
            seconds += (time.perf_counter() - started) / len(self.members)
            self.bar.advance(len(self.members))
            if epoch % self.config.eval_every == 0 or epoch == epochs:
                self._evaluate(epoch, seconds)
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
        self.place = Place(epoch, len(losses), self.place.step + len(losses))
        for member, values in zip(self.members, torch.stack(losses, dim=1).tolist(), strict=True):
            check_losses(values, place=self.place, epoch=epoch, steps=len(losses), rate=rate, run=_name(member))

    def _evaluate(self, epoch: int, seconds: float) -> None:
        """A row for each run; those that have fitted their labels leave."""
        sums = torch.cat([self._totals("train"), self._totals("test")], dim=1).tolist()
        counts = (self.y["train"].shape[1], self.y["test"].shape[1])
        place = Place(epoch, 0, self.place.step, seconds)
        fitted = []
        for number, (member, values) in enumerate(zip(self.members, sums, strict=True)):
            row = make_row(values, counts, place, learning_rate(self.config, epoch), run=_name(member))
            if member.probes:
                self.stack.store(number, member.model.eval())
                row |= call_probes(member.probes, member.model, epoch, self.device)
            member.history.rows.append(row)
            self.report(member.run, row)
            if self.config.stop_when_fitted and row["train_accuracy"] == 1:
                fitted.append(number)
        if fitted:
            self._leave(fitted, epoch)

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
        stay = [number for number in range(len(self.members)) if number not in set(numbers)]
        self.members = [self.members[number] for number in stay]
        if not stay or not numbers:
            return
        kept = torch.tensor(stay, device=self.device)
        self.which, self.y = self.which[kept], {split: y[kept] for split, y in self.y.items()}
        momentum = [self.optimizer.state[parameter] for parameter in self.stack.parameters]
        self.stack.keep(kept)
        self.optimizer = make_optimizer(self.stack.parameters, self.config)
        for parameter, state in zip(self.stack.parameters, momentum, strict=True):
            for key, value in state.items():
                self.optimizer.state[parameter][key] = value[kept] if isinstance(value, Tensor) else value


def _same_inputs(one: ImageData, other: ImageData) -> bool:
    return all(torch.equal(getattr(one, part).x, getattr(other, part).x) for part in ("train", "test"))


def _name(member: Member) -> str:
    return f"run {member.run} (seed {member.config.seed}, label corruption {member.config.label_corruption:g}): "
