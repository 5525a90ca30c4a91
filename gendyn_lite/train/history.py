"""What a run tells: where it stands, the rows of its evaluated epochs, and its progress bar."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError

Row = dict[str, Any]
VARIABLE = "GENDYN_PROGRESS"  # names the small JSON file of all bars; unset, nothing is written
DIVERGED = "training has diverged, lower learning_rate"
SECONDS = 0.5  # between two of its versions
_counts: list[Progress] = []  # at present, outermost first


class DivergedError(UserError):
    """The loss is no longer finite; the message has the step, the learning rate and the batch."""


@dataclass
class Place:
    """Where a run stands.

    Attributes:
        epoch: The epoch in progress, counted from 1.
        batch: Batches of it that are done.
        step: Steps taken in the whole run.
        seconds: Training seconds of the whole run, evaluations and checkpoints left out.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    seconds: float = 0.0


@dataclass
class History:
    """The rows of a run, in order; see `gendyn_lite.train.fit` for their keys.

    Attributes:
        rows: One dict for each evaluated epoch, the epoch before training (0) included.
        resumed_at: Steps that the run had taken at each of its resumes, in order; empty if it was never interrupted.

    >>> history = History([{"epoch": 0, "test_accuracy": 0.1}, {"epoch": 1, "test_accuracy": 0.8}])
    >>> history.last["epoch"], history.column("test_accuracy")
    (1, [0.1, 0.8])
    """

    rows: list[Row] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)

    @property
    def last(self) -> Row:
        """The row of the last evaluated epoch."""
        return self.rows[-1]

    def column(self, key: str) -> list[Any]:
        """One key over the rows; None where a row lacks it (a probe that was not due)."""
        return [row.get(key) for row in self.rows]


def make_row(sums: Sequence[float], counts: tuple[int, int], place: Place, rate: float, *, run: str = "") -> Row:
    """The row of ``place.epoch`` finished epochs.

    Args:
        sums: Summed loss and number of correct predictions on the training set, then on the test set.
        counts: Number of training and of test examples.
        place: Finished epochs, steps and seconds.
        rate: Learning rate of the epoch.
        run: What to call the run in an error.

    Raises:
        DivergedError: A loss is not finite.

    >>> make_row([4.0, 1, 2.0, 2], (4, 2), Place(epoch=1, step=3, seconds=0.5), 0.1)
    {'epoch': 1, 'step': 3, 'learning_rate': 0.1, 'train_loss': 1.0, 'train_accuracy': 0.25, 'test_loss': 1.0,
     'test_accuracy': 1.0, 'seconds': 0.5}
    """
    row: Row = {"epoch": place.epoch, "step": place.step, "learning_rate": rate}
    for split, at, count in (("train", 0, counts[0]), ("test", 2, counts[1])):
        row |= {f"{split}_loss": sums[at] / count, f"{split}_accuracy": sums[at + 1] / count}
        if not math.isfinite(sums[at]):
            when = f"after epoch {place.epoch} (step {place.step}, learning rate {rate:g})"
            raise DivergedError(f"{run}{split}_loss is {sums[at]} {when}: {DIVERGED}")
    return row | {"seconds": place.seconds}


def has_ended(config: RunConfig, row: Row) -> bool:
    """Whether a run stops at this row, before its last epoch: its labels are fitted, or its loss is low enough.

    >>> has_ended(RunConfig(experiment="demo", stop_at_loss=0.1), {"train_accuracy": 0.9, "train_loss": 0.1})
    True
    """
    fitted = config.stop_when_fitted and row["train_accuracy"] == 1
    return fitted or (config.stop_at_loss is not None and row["train_loss"] <= config.stop_at_loss)


def check_losses(losses: Sequence[float], *, place: Place, epoch: int, steps: int, rate: float, run: str = "") -> None:
    """Refuse a loss that is not finite.

    Args:
        losses: The losses of the last steps, all of one epoch.
        place: Where the run stands after them.
        epoch: The epoch, counted from 1.
        steps: Batches an epoch.
        rate: Learning rate of the epoch.
        run: What to call the run in an error.

    Raises:
        DivergedError: Naming the first such step.
    """
    for number, value in enumerate(losses):
        if not math.isfinite(value):
            ago = len(losses) - 1 - number
            when = f"(epoch {epoch}, batch {place.batch - ago} of {steps}, learning rate {rate:g})"
            raise DivergedError(f"{run}loss is {value} at step {place.step - ago} {when}: {DIVERGED}")


def in_words(told: dict[str, Any]) -> str:
    """What a count tells, in words.

    >>> in_words({"label": "mlp", "unit": "step", "steps": 9, "done": 4, "epoch": 1, "test": "0.912"})
    'mlp 4 of 9 steps (epoch 1, test 0.912)'
    """
    text = f"{told['label']} {told['done']} of {told['steps']} {told['unit']}s"
    return f"{text} (epoch {told['epoch']}, test {told['test']})" if "test" in told else text


class Progress:
    """A bar with a time estimate, silent unless asked for; and a file for the process that started this one.

    A count within one that is shown is told beside that one's bar. `gendyn run` reads every count from the file.

    >>> with Progress(10, enabled=False) as bar:
    ...     bar.advance(3)
    """

    def __init__(
        self, steps: int, *, enabled: bool, done: int = 0, label: str = "training", unit: str = "step"
    ) -> None:
        """A bar over `steps` units of which `done` are done."""
        self._told: dict[str, Any] = {"label": label, "unit": unit, "steps": steps, "done": done}
        self._file, self._written = os.environ.get(VARIABLE), 0.0
        bars = [each._bar for each in _counts if each._bar is not None]
        self._outer = None if enabled or not bars else bars[-1]
        self._bar: Any = None
        if enabled and os.environ.get("TQDM_DISABLE") != "1":  # tqdm's own variable: a page has no use for a bar
            from tqdm import tqdm

            about = {"total": steps, "initial": done, "desc": label, "unit": unit, "mininterval": 0.2}
            self._bar = tqdm(**about, position=0, file=_output())

    def __enter__(self) -> Progress:
        """The bar."""
        _counts.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        """End the bar: full unless something was raised, since a run may end before its last step."""
        _counts.remove(self)
        if self._outer is not None:
            self._outer.set_postfix_str("", refresh=False)
        if self._file:
            self._write(self._file)
        if self._bar is not None:
            if error[0] is None:
                self._bar.update(self._bar.total - self._bar.n)
            self._bar.close()

    def advance(self, steps: int = 1) -> None:
        """Count steps."""
        self._change(done=self._told["done"] + steps)
        if self._bar is not None:
            self._bar.update(steps)

    def show(self, row: dict[str, Any]) -> None:
        """Put a row's accuracies beside the bar."""
        values = {"epoch": row["epoch"], **{key: f"{row[f'{key}_accuracy']:.3f}" for key in ("train", "test")}}
        self._change(**values)
        if self._bar is not None:
            self._bar.set_postfix(**values, refresh=False)

    def _change(self, **values: Any) -> None:
        """Other values, told once half a second has passed since they were last told."""
        self._told.update(values)
        if (self._file or self._outer is not None) and time.monotonic() - self._written >= SECONDS:
            self._written = time.monotonic()
            if self._outer is not None:
                self._outer.set_postfix_str(in_words(self._told))
            if self._file:
                self._write(self._file)

    def _write(self, file: str) -> None:
        """Replace the file; whoever reads it sees the old one or the new one. A full disk stops no training."""
        import torch

        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0
        aside = Path(f"{file}.{os.getpid()}")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps({"bars": [each._told for each in _counts], "gpu_bytes": gpu}))
            aside.replace(file)


class _Place:
    """A file for tqdm: in a notebook's output the last line written stands in its place.

    It is plain text, which is kept in the notebook as it was at the end; a widget is kept as it was when it was made.
    """

    encoding = "utf-8"  # tqdm asks

    def __init__(self, display: Any) -> None:
        self._shown = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if line := text.strip():
            self._shown.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing is kept back."""


def _output() -> _Place | None:
    """Where bars are written: a place of their own in a notebook; None is stderr."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    from IPython.display import display

    return _Place(display)
