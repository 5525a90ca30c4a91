"""Train many small runs at once: seeds and label corruptions of one small network, as one batched network."""

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
# Memory of the networks that train together; more networks at once would be no faster. On a CPU the limit is what the
# cache can hold from one step to the next.
CPU_BYTES, GPU_BYTES = 8 * 2**20, 2 * 2**30
EVALUATED = 8192  # examples times networks in one batch of an evaluation


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        run: Its position in the arguments of `fit_many`.
        model: Its network.
        data: Its data.
        config: Its configuration.
        history: Collects its rows.
    """

    run: int
    model: nn.Module
    data: ImageData
    config: RunConfig
    history: History

    @property
    def name(self) -> str:
        """The beginning of an error message about this run."""
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
    """Train several networks. The results are those of `fit` on each of them, up to float32 rounding.

    Fully connected networks without augmentation whose configurations differ only in seed, label corruption and inputs
    are trained together, as one batched network. All others are trained one after another.

    Args:
        models: The networks; trained in place, moved to the device and left in eval mode.
        datasets: The data of each network; training labels are already corrupted.
        configs: The configuration of each network.
        device: As for `fit`.
        on_epoch: Called with the index of a run and each new row of it. Rows of different runs may interleave.
        on_end: Called with the index of a run and its history as soon as its network has its final weights; other runs
            may still be training.
        progress: Whether to show a progress bar with a time estimate.

    Returns:
        The history of each run. ``seconds`` of runs that trained together is an equal share of their common time.

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
    chosen = choose_device(device)
    members = [Member(*one, History()) for one in zip(range(len(models)), models, datasets, configs, strict=True)]
    report, ended = on_epoch or (lambda run, row: None), on_end or (lambda run, history: None)
    with Progress(sum(config.epochs for config in configs), enabled=progress, label="runs", unit="epoch") as bar:
        for group in _groups(members, chosen):
            if len(group) > 1:
                Together(group, chosen, report, ended, bar).train()
            else:
                _alone(group[0], chosen, report, bar)
                ended(group[0].run, group[0].history)
    return [member.history for member in members]


def _groups(members: Sequence[Member], device: torch.device) -> list[list[Member]]:
    """Split the runs into groups that train together; groups of one kind have about equal sizes."""
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
    """How many such networks fit `CPU_BYTES` or `GPU_BYTES`, with gradients, momenta and activations."""
    weights = sum(parameter.numel() for parameter in member.model.parameters())
    units = sum(layer.out_features for layer in member.model.modules() if isinstance(layer, nn.Linear))
    size = 4 * (3 * weights + 2 * member.config.batch_size * units)
    return max(1, (CPU_BYTES if device.type == "cpu" else GPU_BYTES) // size)


def _kind(member: Member) -> str:
    """A key that is equal for runs that can train together, and unique for a run that has to train alone."""
    config, data, layers = member.config, member.data, layout(member.model)
    if layers is None or config.random_crop or config.flip or config.precision != "float32":
        return f"alone {member.run}"
    if config.eval_schedule != "regular":  # the other schedule evaluates within the first epoch
        return f"alone {member.run}"
    shapes = [list(part.x.shape) for part in (data.train, data.test)]
    same = {key: value for key, value in config.as_dict().items() if key not in FREE}
    return digest([layers, shapes, data.num_classes, same])


def _alone(member: Member, device: torch.device, report: Callable[[int, Row], Any], bar: Progress) -> None:
    """Train one run by `fit`."""

    def on_epoch(row: Row) -> None:
        bar.advance(row["epoch"] - (rows[-1]["epoch"] if rows else 0))
        rows.append(row)
        report(member.run, row)

    rows = member.history.rows
    fit(member.model, member.data, member.config, device=device, on_epoch=on_epoch)
    bar.advance(member.config.epochs - rows[-1]["epoch"])


class Together:
    """Trains runs of one kind as one batched network; runs that stop early leave it."""

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        report: Callable[[int, Row], Any],
        ended: Callable[[int, History], Any],
        bar: Progress,
    ) -> None:
        """Move the networks and their data to the device and stack them."""
        self.members, self.device, self.report, self.ended, self.bar = list(members), device, report, ended, bar
        self.config, self.place = members[0].config, Place()
        self._gather_data()
        self.stack = Stack([member.model for member in members])
        self.optimizer = make_optimizer(self.stack.parameters, self.config)

    def _gather_data(self) -> None:
        """Set the inputs of distinct data sets [sets, n, d], which of these each run uses [R], and labels [R, n]."""
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
        """Train to the last epoch, or until every run has stopped early."""
        epochs, evaluated = self.config.epochs, evaluated_epochs(self.config)
        with torch.autocast(self.device.type, enabled=False):  # also if the caller is inside an autocast context
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
        """Train all remaining runs for one epoch, each on its examples in an order of its own."""
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
        """Append a row to each run's history; runs that are to stop here leave."""
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
        """Copy the weights of these runs into their networks, report their end, and keep only the others."""
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
    """Whether two data sets have the same training and test inputs."""
    return all(torch.equal(getattr(one, part).x, getattr(other, part).x) for part in ("train", "test"))
