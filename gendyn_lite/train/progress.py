"""Progress with a time estimate: a bar in a notebook or terminal, and for the process that started this one, a file."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "GENDYN_PROGRESS"  # names the small JSON file; unset, nothing is written
SECONDS = 0.5  # between two of its versions
_counts: list[Progress] = []


class Progress:
    """Counts steps; silent unless asked for. Whoever runs a chapter (`gendyn run`) sees every count.

    >>> with Progress(10, enabled=False) as bar:
    ...     bar.advance(3)
    """

    def __init__(
        self, steps: int, *, enabled: bool, done: int = 0, label: str = "training", unit: str = "step"
    ) -> None:
        """A bar over `steps` units of which `done` are done."""
        self._shown: dict[str, Any] = {"label": label, "unit": unit, "steps": steps, "done": done}
        self._file, self._written = os.environ.get(VARIABLE), 0.0
        if self._file:
            _counts.append(self)
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
        if self._file:
            _counts.remove(self)
            self._write(self._file)
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: int = 1) -> None:
        """Count steps."""
        self._change(done=self._shown["done"] + steps)
        if self._bar is not None:
            self._bar.update(steps)

    def show(self, row: dict[str, Any]) -> None:
        """Put a row's accuracies beside the bar."""
        values = {"epoch": row["epoch"], **{key: f"{row[f'{key}_accuracy']:.3f}" for key in ("train", "test")}}
        self._change(**values)
        if self._bar is not None:
            self._bar.set_postfix(**values, refresh=False)

    def _change(self, **values: Any) -> None:
        """Other values, in the file once half a second has passed since it was last written."""
        self._shown.update(values)
        if self._file and time.monotonic() - self._written >= SECONDS:
            self._write(self._file)

    def _write(self, file: str) -> None:
        """Replace the file; whoever reads it sees the old one or the new one. A full disk stops no training."""
        import torch

        self._written = time.monotonic()
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0
        aside = Path(f"{file}.{os.getpid()}")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps({"bars": [each._shown for each in _counts], "gpu_bytes": gpu}))
            aside.replace(file)
