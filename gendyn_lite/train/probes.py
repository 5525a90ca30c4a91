"""Measurements during training: called on time, watched, and flattened into a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.train.guards import Untouched
from gendyn_lite.train.rows import Row

Probe = Callable[[nn.Module, int], Mapping[str, Any]]


def call_probes(probes: Mapping[str, Probe], model: nn.Module, epoch: int, device: torch.device) -> Row:
    """Call every probe on the model in eval mode; its values as ``"<probe>/<key>"``.

    Args:
        probes: Name → function of (model, epoch).
        model: The network, in eval mode.
        epoch: The epoch just finished.
        device: Where the model is.

    Raises:
        UserError: A probe changed the model or a generator, or returned something other than a dict of JSON values.

    >>> probes = {"size": lambda model, epoch: {"norm": torch.tensor(2.0)}}
    >>> call_probes(probes, nn.Linear(1, 1).eval(), 0, torch.device("cpu"))
    {'size/norm': 2.0}
    """
    if not probes:
        return {}
    before = Untouched(model, device)
    values: Row = {}
    for name, probe in probes.items():
        found = probe(model, epoch)
        before.check(name)
        for parameter in model.parameters():
            parameter.grad = None
        if not isinstance(found, Mapping):
            raise UserError(f"probe {name!r} returned {type(found).__name__}, expected a dict of numbers")
        values |= {f"{name}/{key}": _plain(value, f"{name}/{key}") for key, value in found.items()}
    return values


def _plain(value: Any, key: str) -> Any:
    """A tensor or array of one number as that number, a longer one as a list; JSON values as they are."""
    if hasattr(value, "tolist"):  # a tensor or an array
        value = value.tolist()
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise UserError(f"probe value {key!r} is a {type(value).__name__}, expected numbers, text or lists") from None
    return value
