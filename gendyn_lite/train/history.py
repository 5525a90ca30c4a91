"""What a training run leaves: one row for each evaluated epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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

    rows: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)

    @property
    def resumed_from(self) -> int | None:
        """Steps that the checkpoint had from which the last call went on, or None if it started from the beginning."""
        return self.resumed_at[-1] if self.resumed_at else None

    @property
    def last(self) -> dict[str, Any]:
        """The row of the last evaluated epoch."""
        return self.rows[-1]

    @property
    def fitted_epoch(self) -> int | None:
        """The first evaluated epoch at which every training label was fitted, or None."""
        return next((row["epoch"] for row in self.rows if row["train_accuracy"] == 1), None)

    @property
    def best(self) -> dict[str, Any]:
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
