"""What a long training tells the process that started it: one small JSON file, replaced at most twice a second."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "GENDYN_PROGRESS"  # names the file; unset, nothing is written
SECONDS = 0.5
_bars: list[Bar] = []


class Bar:
    """One count of steps, as the file shows it; counts within it follow it there.

    >>> bar = Bar("training", "step", steps=10, done=3)
    >>> bar.change(done=4)
    >>> bar.shown["done"], _bars
    (4, [])
    """

    def __init__(self, label: str, unit: str, *, steps: int, done: int) -> None:
        """A count that stands at `done`."""
        self.shown: dict[str, Any] = {"label": label, "unit": unit, "steps": steps, "done": done}
        self._file = os.environ.get(VARIABLE)
        self._written = 0.0
        if self._file:
            _bars.append(self)

    def change(self, **values: Any) -> None:
        """Other values, in the file once half a second has passed since it was last written."""
        self.shown.update(values)
        if self._file and time.monotonic() - self._written >= SECONDS:
            self._write(self._file)

    def close(self) -> None:
        """Take the count out of the file."""
        if self in _bars:
            _bars.remove(self)
            self._write(str(self._file))

    def _write(self, file: str) -> None:
        """Replace the file; whoever reads it sees the old one or the new one. A full disk stops no training."""
        self._written = time.monotonic()
        aside = Path(f"{file}.{os.getpid()}")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps({"bars": [bar.shown for bar in _bars], "gpu_bytes": _gpu_bytes()}))
            aside.replace(file)


def _gpu_bytes() -> int:
    """Most GPU memory that tensors of this process have taken."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0
