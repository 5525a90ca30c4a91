"""Rows of a run's evaluated epochs, its position in training, errors of divergence, and its progress bar."""

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
VARIABLE = "GENDYN_PROGRESS"  # environment variable: path of a small JSON file about all progress bars; unset: no file
DIVERGED = "training has diverged, lower learning_rate"
SECONDS = 0.5  # between two updates of that file
_counts: list[Progress] = []  # the bars that are open, outermost first


class DivergedError(UserError):
    """The loss is not finite; the message names the step, the epoch, the batch and the learning rate."""


@dataclass
class Place:
    """How far a run has got.

    Attributes:
        epoch: The current epoch, counted from 1.
        batch: Number of batches of that epoch that are finished.
        step: Number of steps taken since the start of the run.
        seconds: Seconds of training since the start of the run, without evaluations and checkpoints.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    seconds: float = 0.0


@dataclass
class History:
    """The evaluations of a run, in order; see `gendyn_lite.train.fit` for the keys of a row.

    Attributes:
        rows: One dict for each evaluated epoch; epoch 0 is before training.
        resumed_at: The step at which the run was resumed, for each time it was; empty if it was never interrupted.

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
        """The values of one key in all rows; None where a row lacks it, as between two calls of a probe."""
        return [row.get(key) for row in self.rows]


def make_row(sums: Sequence[float], counts: tuple[int, int], place: Place, rate: float, *, run: str = "") -> Row:
    """Make the row of an evaluation after ``place.epoch`` finished epochs.

    Args:
        sums: Summed loss (nats) and number of correct predictions on the training set, then both on the test set.
        counts: Number of training examples and number of test examples.
        place: Finished epochs, steps and seconds.
        rate: Learning rate of the epoch.
        run: Prefix of error messages.

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
            if place.step == 0:
                why = "are the weights and the inputs finite, and does the network keep them so?"
                raise DivergedError(f"{run}{split}_loss is {sums[at]} before training: {why}")
            when = f"after epoch {place.epoch} (step {place.step}, learning rate {rate:g})"
            raise DivergedError(f"{run}{split}_loss is {sums[at]} {when}: {DIVERGED}")
    return row | {"seconds": place.seconds}


def has_ended(config: RunConfig, row: Row) -> bool:
    """Whether a run stops early at this row because its labels are fitted or its training loss is low enough.

    >>> has_ended(RunConfig(experiment="demo", stop_at_loss=0.1), {"train_accuracy": 0.9, "train_loss": 0.1})
    True
    """
    fitted = config.stop_when_fitted and row["train_accuracy"] == 1
    return fitted or (config.stop_at_loss is not None and row["train_loss"] <= config.stop_at_loss)


def check_losses(losses: Sequence[float], *, place: Place, epoch: int, steps: int, rate: float, run: str = "") -> None:
    """Check that losses are finite.

    Args:
        losses: The losses of the last steps, all of the same epoch.
        place: How far the run has got after them.
        epoch: The epoch, counted from 1.
        steps: Number of batches per epoch.
        rate: Learning rate of the epoch.
        run: Prefix of error messages.

    Raises:
        DivergedError: A loss is not finite; the first such step is named.
    """
    for number, value in enumerate(losses):
        if not math.isfinite(value):
            ago = len(losses) - 1 - number
            when = f"(epoch {epoch}, batch {place.batch - ago} of {steps}, learning rate {rate:g})"
            raise DivergedError(f"{run}loss is {value} at step {place.step - ago} {when}: {DIVERGED}")


def in_words(told: dict[str, Any]) -> str:
    """The state of a progress bar in words.

    >>> in_words({"label": "mlp", "unit": "step", "steps": 9, "done": 4, "epoch": 1, "test": "0.912"})
    'mlp 4 of 9 steps (epoch 1, test 0.912)'
    """
    text = f"{told['label']} {told['done']} of {told['steps']} {told['unit']}s"
    return f"{text} (epoch {told['epoch']}, test {told['test']})" if "test" in told else text


class Progress:
    """A progress bar with a time estimate, and a file that tells another process how far this one is.

    The bar is shown only if `enabled`. A bar that is not shown itself appears as text beside the innermost one that is.
    The state of all open bars is written to the file that `VARIABLE` names, which `gendyn run` and `gendyn sweep` read.

    >>> with Progress(10, enabled=False) as bar:
    ...     bar.advance(3)
    """

    def __init__(
        self, steps: int, *, enabled: bool, done: int = 0, label: str = "training", unit: str = "step"
    ) -> None:
        """Prepare a bar of `steps` units, `done` of which are finished already."""
        self._told: dict[str, Any] = {"label": label, "unit": unit, "steps": steps, "done": done}
        self._file, self._written = os.environ.get(VARIABLE), 0.0
        bars = [each._bar for each in _counts if each._bar is not None]
        self._outer = None if enabled or not bars else bars[-1]
        self._bar: Any = None
        if enabled and os.environ.get("TQDM_DISABLE") != "1":  # tqdm's own variable; set for the pages of the book
            from tqdm import tqdm

            about = {"total": steps, "initial": done, "desc": label, "unit": unit, "mininterval": 0.2}
            self._bar = tqdm(**about, position=0, file=_output())

    def __enter__(self) -> Progress:
        """Open the bar."""
        _counts.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bar. Unless an error was raised it ends full, because a run may stop before its last step."""
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
        """Count finished steps."""
        self._change(done=self._told["done"] + steps)
        if self._bar is not None:
            self._bar.update(steps)

    def show(self, row: dict[str, Any]) -> None:
        """Show the accuracies of a row beside the bar."""
        values = {"epoch": row["epoch"], **{key: f"{row[f'{key}_accuracy']:.3f}" for key in ("train", "test")}}
        self._change(**values)
        if self._bar is not None:
            self._bar.set_postfix(**values, refresh=False)

    def _change(self, **values: Any) -> None:
        """Change the bar's values, and publish them at most every half second."""
        self._told.update(values)
        if (self._file or self._outer is not None) and time.monotonic() - self._written >= SECONDS:
            self._written = time.monotonic()
            if self._outer is not None:
                self._outer.set_postfix_str(in_words(self._told))
            if self._file:
                self._write(self._file)

    def _write(self, file: str) -> None:
        """Replace the file atomically. Errors are ignored: a full disk must not stop the training."""
        import torch

        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0
        aside = Path(f"{file}.{os.getpid()}")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps({"bars": [each._told for each in _counts], "gpu_bytes": gpu}))
            aside.replace(file)


class _NotebookOutput:
    """A file-like object for tqdm that shows the last line written, in one updated output of a notebook's cell.

    It is plain text, and a saved notebook shows its last state; of a widget it would show the first one.
    """

    encoding = "utf-8"  # read by tqdm

    def __init__(self, display: Any) -> None:
        self._shown = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if line := text.strip():
            self._shown.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Do nothing: `write` shows every line at once."""


def _output() -> _NotebookOutput | None:
    """The file that bars are written to: an output of the cell in a notebook; None, which means stderr, elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    from IPython.display import display

    return _NotebookOutput(display)
