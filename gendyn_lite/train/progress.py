"""A progress bar with a time estimate: a widget in a notebook, a line on a terminal."""

from __future__ import annotations

import os
from typing import Any

from gendyn_lite.train.report import Bar


class Progress:
    """Counts steps; silent unless asked for. Whoever runs a chapter (`gendyn run`) sees every count.

    >>> with Progress(10, enabled=False) as bar:
    ...     bar.advance(3)
    """

    def __init__(
        self, steps: int, *, enabled: bool, done: int = 0, label: str = "training", unit: str = "step"
    ) -> None:
        """A bar over `steps` units of which `done` are done."""
        self._report = Bar(label, unit, steps=steps, done=done)
        self._bar: Any = None
        # tqdm's notebook bars overlook this variable of tqdm's own; a page has no use for a bar.
        if enabled and os.environ.get("TQDM_DISABLE") != "1":
            from tqdm.auto import tqdm

            self._bar = tqdm(total=steps, initial=done, desc=label, unit=unit, leave=False, mininterval=0.2)

    def __enter__(self) -> Progress:
        """The bar."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._report.close()
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: int = 1) -> None:
        """Count steps."""
        self._report.change(done=self._report.shown["done"] + steps)
        if self._bar is not None:
            self._bar.update(steps)

    def show(self, row: dict[str, Any]) -> None:
        """Put a row's accuracies beside the bar."""
        accuracies = {key: f"{row[f'{key}_accuracy']:.3f}" for key in ("train", "test")}
        self._report.change(epoch=row["epoch"], **accuracies)
        if self._bar is not None:
            self._bar.set_postfix(epoch=row["epoch"], **accuracies, refresh=False)
