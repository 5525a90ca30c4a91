"""What was found on a network in an earlier call, so that it is not checked again while it is as it was."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gendyn_lite.measures.per_example.layers import Plan
from gendyn_lite.measures.per_example.unchanged import digests, state


class Known(NamedTuple):
    """What was found on a network.

    Attributes:
        state: Its state, or None where its code can change without a trace in it.
        weights: Digests of its weights, or None where these have no say in whether it mixes examples.
        trace: The operations of a batch that was checked, or None.
        outside: Names of the parameters without a formula.
        used: Names of the parameters in use, if known.
    """

    state: object
    weights: dict[str, bytes] | None
    trace: list[object] | None
    outside: frozenset[str]
    used: frozenset[str] | None


_checked: WeakKeyDictionary[nn.Module, dict[object, Known]] = WeakKeyDictionary()


class Memory:
    """Results of earlier checks, so that an unchanged network is not checked again on a batch of the same shape."""

    def __init__(self, model: nn.Module, x: Tensor, plan: Plan) -> None:
        self._state, self._known = state(model), _checked.setdefault(model, {})
        handed = tuple(layer.parameters for layer in plan.layers)
        self._key = x.shape, x.dtype, handed, torch.is_autocast_enabled(x.device.type)
        known = self._known.get(self._key)
        if known is None or known.state != self._state or (known.weights and known.weights != digests(model)):
            return
        # Code of one's own runs with its operations recorded, and is not checked again if they are the same.
        plan.alone, plan.used = self._state is not None, known.used
        plan.outside.update(known.outside)
        if known.trace:
            plan.traces[x.shape] = known.trace

    def keep(self, model: nn.Module, plan: Plan, *, proved: bool) -> None:
        """Record that the network was checked, which parameters have no formula after all, and which are used."""
        trace = plan.traces.get(self._key[0])
        if self._state is not None or trace:
            weights = None if proved else digests(model)  # writes to `.data` do not change the version
            self._known[self._key] = Known(self._state, weights, trace, frozenset(plan.outside), plan.used)
