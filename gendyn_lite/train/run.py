"""One training run: its epochs, evaluations and checkpoints. `gendyn_lite.train.fit` is the public entry point."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, batcher
from gendyn_lite.data.batching import SPLITS
from gendyn_lite.errors import UserError
from gendyn_lite.train import checkpoint, probes
from gendyn_lite.train.device import Precision, random_state, repeatable, set_random_state
from gendyn_lite.train.distributed import Ranks, wrapped
from gendyn_lite.train.history import History, Place, Progress, Row, check_losses, has_ended, make_row
from gendyn_lite.train.probes import Probe, call_probes, check_fits, reestimated_statistics, totals
from gendyn_lite.train.step import Step, learning_rate, make_optimizer

CHECK_STEPS = 200  # steps between two checks that the losses are finite; each check waits for the device


# What a checkpoint must agree in with the run that resumes from it, beside the run's key: words for an error message,
# and what to do if it does not agree.
OWN = {
    "labels": ("labels", "corrupt them with the configuration's seed, as data.load_for_run does"),
    "network": ("layers", "build the one that was trained, or use another checkpoint_dir"),
    "settings": ("settings of layers", "build the network that was trained, or use another checkpoint_dir"),
    "images": ("images", "give other data another fingerprint, or use another checkpoint_dir"),
}


@dataclass(frozen=True)
class Options:
    """The arguments of `gendyn_lite.train.fit` other than model, data and configuration; see there."""

    probes: Mapping[str, Probe]
    grad_hook: Callable[..., Any] | None
    checkpoint_dir: Path | None
    device: torch.device
    on_epoch: Callable[[Row], Any] | None
    progress: bool
    probe_epochs: frozenset[int] | None
    checkpoint_seconds: float
    channels_last: bool


class Run:
    """A training run, which `train` carries from its newest checkpoint, or from the start, to its end."""

    def __init__(self, model: nn.Module, data: ImageData, config: RunConfig, options: Options, ranks: Ranks) -> None:
        """Move model and data to the device and check that they fit each other."""
        _check_options(options, config, ranks)
        self.model, self.config, self.options, self.ranks = model.to(options.device), config, options, ranks
        if options.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = {split: batcher(data, config, split=split, device=options.device) for split in SPLITS}
        self.steps = len(self.batches["train"])  # per epoch
        check_fits(model, data, next(self.batches["train_eval"].epoch(0))[0])
        self.optimizer = make_optimizer(model.parameters(), config)
        if options.checkpoint_dir is not None:  # raises an error before training if something cannot be saved
            checkpoint.pack(model, self.optimizer, options.grad_hook, [], {})
        self.precision = Precision(config.precision, options.device)
        self.place, self.rows, self.resumed_at = Place(), list[Row](), list[int]()
        self._report = options.on_epoch if options.on_epoch and ranks.first else lambda row: None
        self.identity = {"run_id": config.run_id(data.fingerprint), "world": ranks.world, **_digests(model, data)}
        self._epochs_seen = probes.evaluated_epochs(config) | (options.probe_epochs or frozenset())
        self._steps_seen = probes.evaluated_steps(config, self.steps)
        self.saved: tuple[Place, int] | None = None  # place and number of rows at the last checkpoint
        self.saved_at = time.monotonic()
        self._evaluation = 0.0  # seconds that the last evaluation took

    def train(self) -> History:
        """Train to the last epoch, or until the configuration says to stop early."""
        with wrapped(self.model, self.ranks) as forward:
            options, parts = self.options, (self.model, self.optimizer, self.precision, forward)
            graph = options.device.type == "cuda" and self.ranks.world == 1 and repeatable(self.model)
            self.step = Step(*parts, grad_hook=options.grad_hook, ranks=self.ranks, graph=graph)
            self._restore()
            for row in self.rows:
                self._report(row)
            shown = options.progress and self.ranks.first
            total = self.config.epochs * self.steps
            with Progress(total, enabled=shown, done=self.place.step, label=self.config.model) as bar:
                self._epochs(bar)
        self.model.eval()
        return History(self.rows, self.resumed_at)

    def _epochs(self, bar: Progress) -> None:
        """Train and evaluate all epochs that are left, and save the end."""
        self._evaluate_where_due(bar)  # at epoch 0, or after a resume from a checkpoint that preceded an evaluation
        while self.place.epoch <= self.config.epochs:
            self._save_if_due()
            if self.place.batch == 0 and has_ended(self.config, self.rows[-1]):  # never stops within an epoch
                break
            self._train_epoch(self.place.epoch, bar)
            self.place.epoch, self.place.batch = self.place.epoch + 1, 0
            self._evaluate_where_due(bar)
        if self.saved != (self.place, len(self.rows)):
            self._save()

    def _evaluate_where_due(self, bar: Progress) -> None:
        """Evaluate if an evaluation is due here; before a long one, save if a checkpoint would be due during it."""
        within, finished = self.place.batch > 0, self.place.epoch - 1
        wanted = self.place.step in self._steps_seen if within else finished in self._epochs_seen
        if not wanted or (self.rows and self.rows[-1]["step"] >= self.place.step):
            return
        if self.rows:
            self._save_if_due(ahead=self._evaluation)
        started = time.monotonic()
        self._evaluate(self.place.step / self.steps if within else finished)
        self._evaluation = time.monotonic() - started
        bar.show(self.rows[-1])

    def _train_epoch(self, epoch: int, bar: Progress) -> None:
        """Train the rest of an epoch, starting after the batches that are already finished."""
        rate = learning_rate(self.config, epoch)
        self.step.set_rate(rate)
        self.model.train()
        losses: list[Tensor] = []
        started = time.perf_counter()
        for x, y in islice(self.batches["train"].epoch(epoch), self.place.batch, None):
            self.place.step += 1
            self.place.batch += 1
            if self.options.channels_last and x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)  # noqa: PLW2901
            losses.append(self.step(x, y, epoch=epoch, step=self.place.step))
            bar.advance()
            if len(losses) == CHECK_STEPS:
                self._check(losses, epoch, rate)
            evaluated = self.place.step in self._steps_seen
            if self.place.batch < self.steps and (evaluated or self._save_is_due()):
                self._check(losses, epoch, rate)
                self.place.seconds += time.perf_counter() - started
                self._evaluate_where_due(bar)
                self._save_if_due()
                self.model.train()
                started = time.perf_counter()
        self._check(losses, epoch, rate)
        self.place.seconds += time.perf_counter() - started
        if hasattr(self.options.grad_hook, "epoch_end"):
            self.options.grad_hook.epoch_end(self.model, epoch)  # type: ignore[union-attr]

    def _check(self, losses: list[Tensor], epoch: int, rate: float) -> None:
        """Raise an error if a loss since the last check is not finite; then empty the list."""
        if losses:
            values = (self.ranks.sum(torch.stack(losses)) / self.ranks.world).tolist()
            check_losses(values, place=self.place, epoch=epoch, steps=self.steps, rate=rate)
            losses.clear()

    def _evaluate(self, epoch: float) -> None:
        """Evaluate after a number of epochs, or a fraction of the first one; append the row and report it."""
        self.model.eval()
        running = self.config.batch_norm_statistics == "running"
        batches = self.batches["train_eval"].epoch(0)
        with nullcontext() if running else reestimated_statistics(self.model, batches):
            sums = [self._totals("train_eval"), self._totals("test")]
            counts = self.batches["train"].num_examples, self.batches["test"].num_examples
            place = replace(self.place, epoch=epoch)
            rate = learning_rate(self.config, math.ceil(epoch))
            row = make_row(self.ranks.sum(torch.cat(sums)).tolist(), counts, place, rate)
            wanted = self.options.probe_epochs
            if wanted is None or epoch in wanted:
                row |= call_probes(self.options.probes, self.model, epoch, self.options.device)
        self.rows.append(row)
        self._report(row)

    def _totals(self, split: str) -> Tensor:
        """Summed loss and number of correct predictions over this process's batches of a split."""
        batches = islice(self.batches[split].epoch(0), self.ranks.rank, None, self.ranks.world)
        return totals(self.model, batches, self.precision, self.options.device)

    def _save_is_due(self, *, ahead: float = 0.0) -> bool:
        """Whether a checkpoint is due now, or will be in `ahead` seconds, and would differ from the last one."""
        if self.options.checkpoint_dir is None or self.saved == (self.place, len(self.rows)):
            return False
        return self.ranks.broadcast(time.monotonic() + ahead - self.saved_at >= self.options.checkpoint_seconds)

    def _save_if_due(self, *, ahead: float = 0.0) -> None:
        if self._save_is_due(ahead=ahead):
            self._save()

    def _save(self) -> None:
        """Write a checkpoint, if the run keeps any."""
        folder = self.options.checkpoint_dir
        if folder is None:
            return
        random = self.ranks.gather(random_state(self.options.device))
        if self.ranks.first:
            known = self.identity | {"config": self.config.as_dict(), "place": asdict(self.place), "rows": self.rows}
            known |= {"resumed_at": self.resumed_at, "splits": self.step.splits}
            known["scaler"] = self.precision.scaler.state_dict()
            packed = checkpoint.pack(self.model, self.optimizer, self.options.grad_hook, random, known)
            checkpoint.write(folder, packed, step=self.place.step)
        self.saved, self.saved_at = (replace(self.place), len(self.rows)), time.monotonic()

    def _restore(self) -> None:
        """Load the newest checkpoint, if there is one."""
        folder = self.options.checkpoint_dir
        if folder is None:
            return
        if self.ranks.first:  # only one process may rename damaged files
            checkpoint.clean(folder)
            checkpoint.newest(folder, run_id=self.identity["run_id"])
        self.ranks.broadcast(True)
        found = checkpoint.newest(folder, run_id=self.identity["run_id"])
        if found is None:
            return
        known = found.state
        self._check_own(known, "labels", "images")
        if known["world"] != self.ranks.world:
            raise UserError(f"the checkpoint in {folder} is of {known['world']} processes, now {self.ranks.world}")
        random = checkpoint.unpack(found, self.model, self.optimizer, self.options.grad_hook, rank=self.ranks.rank)
        self._check_own(known, "network", "settings")
        set_random_state(random, self.options.device)
        self.place, self.rows, self.step.splits = Place(**known["place"]), known["rows"], known["splits"]
        if known["scaler"]:
            self.precision.scaler.load_state_dict(known["scaler"])
        self.resumed_at = [*known.get("resumed_at", []), self.place.step]
        self.saved = replace(self.place), len(self.rows)

    def _check_own(self, known: Mapping[str, Any], *names: str) -> None:
        """Refuse a checkpoint whose labels, images, layers or settings of layers differ from those of this run."""
        for name in names:
            what, remedy = OWN[name]
            # Checkpoints of earlier versions record only the labels.
            then, now = known.get(name, self.identity[name]), self.identity[name]
            if then != now:
                raise UserError(f"the checkpoint was trained on other {what} ({then}, now {now}): {remedy}")


PLAIN = (bool, int, float, str, tuple, type(None))  # types of module attributes that count as settings


def _digests(model: nn.Module, data: ImageData) -> dict[str, str]:
    """Hashes, 16 hexadecimal digits each, of what the configuration and the data's fingerprint may not tell apart.

    They are of the names and classes of the network's modules, of the settings of these modules, of the training
    labels, and of about 256 training images.
    """
    modules = [(name, type(module).__name__) for name, module in model.named_modules()]
    plain = [
        [(k, v) for k, v in vars(each).items() if isinstance(v, PLAIN) and k != "training"] for each in model.modules()
    ]
    x, y = data.train.x, data.train.y.cpu().contiguous()
    some = x[:: max(1, len(x) // 256)].cpu().contiguous().numpy().data if isinstance(x, Tensor) else b""
    parts = {
        "network": repr(modules).encode(),
        "settings": (repr(plain) + re.sub("0x[0-9a-f]+", "", repr(model))).encode(),
        "labels": y.numpy().data,
        "images": some,
    }
    return {name: hashlib.sha256(part).hexdigest()[:16] for name, part in parts.items()}


def _check_options(options: Options, config: RunConfig, ranks: Ranks) -> None:
    """Refuse options that contradict the configuration or the number of processes."""
    statistics = config.batch_norm_statistics
    if statistics != "running" and ranks.world > 1:
        needed = f"needs one process, there are {ranks.world}"
        raise UserError(f"batch_norm_statistics={statistics!r} {needed}: use 'running'")
    if options.checkpoint_seconds < 0:
        raise UserError(f"checkpoint_seconds is {options.checkpoint_seconds}, expected at least 0")
