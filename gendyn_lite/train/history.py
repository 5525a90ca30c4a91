"""Where a run stands, the row of an evaluated epoch, and all of them: what a run leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gendyn_lite.errors import UserError

Row = dict[str, Any]


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

    >>> history = History([{"epoch": 0, "train_accuracy": 0.1, "test_accuracy": 0.1},
    ...                    {"epoch": 1, "train_accuracy": 0.9, "test_accuracy": 0.8},
    ...                    {"epoch": 2, "train_accuracy": 1.0, "test_accuracy": 0.7}])
    >>> history.fitted_epoch, history.best["epoch"], history.best_test_accuracy
    (2, 1, [0.1, 0.8, 0.8])
    """

    rows: list[Row] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)

    @property
    def resumed_from(self) -> int | None:
        """Steps that the checkpoint had from which the last call went on, or None if it started from the beginning."""
        return self.resumed_at[-1] if self.resumed_at else None

    @property
    def last(self) -> Row:
        """The row of the last evaluated epoch."""
        return self.rows[-1]

    @property
    def fitted_epoch(self) -> int | None:
        """The first evaluated epoch at which every training label was fitted, or None."""
        return next((row["epoch"] for row in self.rows if row["train_accuracy"] == 1), None)

    @property
    def best(self) -> Row:
        """The early-stopping record: the first row with the highest test accuracy.

        It is chosen by the test set, so it bounds from above what early stopping could gain.
        """
        return max(self.rows, key=lambda row: row["test_accuracy"])

    @property
    def best_test_accuracy(self) -> list[float]:
        """The highest test accuracy up to each row (the shaded areas of Zhang et al. 2017, figure 2)."""
        best = float("-inf")
        return [best := max(best, row["test_accuracy"]) for row in self.rows]

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
            raise DivergedError(
                f"{run}{split}_loss is {sums[at]} after epoch {place.epoch} (step {place.step}, learning rate "
                f"{rate:g}): training has diverged, lower learning_rate"
            )
    return row | {"seconds": place.seconds}


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
            raise DivergedError(
                f"{run}loss is {value} at step {place.step - ago} (epoch {epoch}, batch {place.batch - ago} of "
                f"{steps}, learning rate {rate:g}): training has diverged, lower learning_rate"
            )
