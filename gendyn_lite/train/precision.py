"""Arithmetic of the forward and backward pass: float32, bfloat16, or float16 with loss scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Autocast and loss scaling for one device; weights, batch-norm statistics and losses stay float32.

    Attributes:
        scaler: The gradient scaler, disabled unless the arithmetic is float16.

    >>> precision = Precision("bfloat16", torch.device("cpu"))
    >>> with precision.autocast():
    ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
    torch.bfloat16
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Arithmetic `name` ("float32", "bfloat16" or "float16") on `device`."""
        self._type, self._dtype = device.type, DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which matrix products and convolutions run in the chosen arithmetic, whatever the caller's is.

        Within a context of the caller's, torch would keep the half-precision copies of the weights from step to step.
        """
        if self._dtype is not None:
            return torch.autocast(self._type, dtype=self._dtype, cache_enabled=False)
        inside = torch.is_autocast_enabled(self._type)
        return torch.autocast(self._type, enabled=False) if inside else nullcontext()
