"""The row of an evaluated epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gendyn_lite.train.guards import DivergedError
from gendyn_lite.train.place import Place

Row = dict[str, Any]


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
