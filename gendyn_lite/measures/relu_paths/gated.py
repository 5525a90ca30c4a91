"""Running a network gate by gate, and checks that the rows of each gate are those of the images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.per_example.apart import ANOTHER, check_half, parts_of, same_row
from gendyn_lite.measures.per_example.guards import check_eval
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.layers import hooked
from gendyn_lite.measures.per_example.unchanged import of_libraries
from gendyn_lite.measures.relu_paths.gates import Gate, Gates, Unseen, check_layers
from gendyn_lite.models.logits import unmoved, unwritten

Layers = Sequence[str] | None
Visit = Callable[[Gate], Tensor]


def run_gated(model: nn.Module, x: Tensor, visit: Callable[[Gate], Tensor], unseen: Unseen | None = None) -> Tensor:
    """Run a network with every gate passed to `visit`, inside `unseen` (as for `Gates`), and return its output.

    Raises:
        UserError: Dropout or batch-norm is in train mode, or the network does not take the images, draws at random or
            changes its buffers.
    """
    check_eval(model)
    x = x.to(next((value.device for value in model.parameters()), x.device))
    try:
        gates = Gates(model, visit, unseen)
        hooks = hooked(model.modules(), gates.leave, gates.enter, always_call=True)
        with unmoved(model, x), unwritten(x), lag_is_told(model), unseen or nullcontext(), gates, hooks:
            out = model(x)
        gates.warn()
        return out
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's forward may raise anything
        told = f"the network does not take images of shape {tuple(x.shape[1:])}: {first_line(error)}"
        raise UserError(told) from error


class CheckedBatch:
    """A batch of images, run gate by gate, with checks of what each gate sees.

    Args:
        model: The network.
        x: Images of the batch.
        first: Number of the first of them; at 0, what gates cannot tell is said, and names of layers are checked.
        layers: Names of the layers that are visited; None for all.
        known: Whether it is known that no batch can mix images, so that this is not checked.
    """

    def __init__(self, model: nn.Module, x: Tensor, first: int, layers: Layers, *, known: bool) -> None:
        self._model, self._x, self._first, self._layers = model, x, first, layers
        self._unseen = None if known else Unseen(model, x)
        self._seen: list[str] = []
        self._rows: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}  # at the gates whose rows are not proved to be those of the images

    def run(self, keep: Visit) -> bool:
        """Run the batch, with `keep` in place of each gate; return whether no other batch can mix images either."""
        unseen = self._unseen
        out = run_gated(self._model, self._x, partial(self._visit, keep), unseen)
        _check_output(out, self._first)
        _check_gates(self._largest, self._first)
        if unseen is None:
            return True
        if self._first == 0:
            unseen.warn()
            check_layers(self._model, self._seen, self._layers)
        proved = not self._sums and (unseen.holds(out) or not isinstance(out, Tensor))
        known = proved and of_libraries(self._model)
        if not known:
            _check_rows(self._model, self._x, out, self._rows, proved=proved)
        if not proved:
            _check_all_rows(self._model, self._x, out, self._sums)
        return known

    def _visit(self, keep: Visit, gate: Gate) -> Tensor:
        self._seen.append(gate.name)
        if self._layers is not None and gate.name not in self._layers:
            return gate.run()
        count = len(self._x)
        if gate.z.shape[:1] != (count,) or gate.z.dim() < 2:
            told = f"gate {gate.name!r} sees {list(gate.z.shape)} for {count} images, expected [n, units, ...]"
            raise UserError(f"{told}: leave it out with layers=[...]")
        with nullcontext(gate) if self._unseen is None else self._unseen.aside(gate) as own:
            self._note(own)
            return keep(own)

    def _note(self, gate: Gate) -> None:
        """Note what the checks need of a gate."""
        if gate.z.numel():
            self._largest[gate.name] = gate.z.detach().flatten(1).amax(1)  # NaN if an entry is
        if self._unseen is not None and gate.name not in self._rows:
            self._rows[gate.name] = gate.z[list(_looked_at(len(self._x)))].detach().clone()
            if not self._unseen.holds(gate.z):
                self._sums[gate.name] = _sums(gate)


def _looked_at(count: int) -> tuple[int, ...]:
    """Return the places in a batch of the images that are run again: the middle one, the last and the first."""
    return count // 2, count - 1, 0


def _sums(gate: Gate) -> Tensor:
    """Return the sum of each row of a gate's pre-activations, [n]."""
    return gate.z.detach().flatten(1).sum(1)


def _check_all_rows(model: nn.Module, x: Tensor, out: object, sums: Mapping[str, Tensor]) -> None:
    """Refuse gates, or outputs, whose row for any image differs in a half of the batch (`parts_of`)."""
    few: dict[str, Tensor] = {}

    def note(gate: Gate) -> Tensor:
        if gate.name in sums:
            few[gate.name] = _sums(gate)
        return gate.run()

    for places in parts_of(len(x)) if len(x) > 2 else ():
        few.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            half = run_gated(model, x[places], note)
        for name, found in few.items():
            among = sums[name][places]
            if found.shape != among.shape or not all(map(same_row, found, among)):
                raise UserError(OTHER_ROWS.format(name))
        check_half(model, x, out, half, places)


OTHER_ROWS = (
    "gate {!r} has other rows for some images alone than among others: their order or their axis is another there, or "
    "the network mixes them: leave it out with layers=[...]"
)


def _check_rows(model: nn.Module, x: Tensor, out: object, rows: Mapping[str, Tensor], *, proved: bool) -> None:
    """Refuse gates, or outputs, whose rows for a few images change if these are run alone, or beside only one other.

    Args:
        model: The network.
        x: Images of a batch.
        out: Output for the whole batch.
        rows: Pre-activations at each gate from the whole batch, of the images that are run again (`_looked_at`).
        proved: Whether it is proved that no operation mixes images; then two images, in one run, suffice.
    """
    chosen = _looked_at(len(x))
    for part in (slice(0, 2),) if proved else (slice(0, 1), slice(1, 3)):
        few: dict[str, Tensor] = {}

        def note(gate: Gate, few: dict[str, Tensor] = few) -> Tensor:
            few[gate.name] = gate.z.detach().clone()
            return gate.run()

        numbers = list(chosen[part])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the whole batch has given the warnings
            alone = run_gated(model, x[numbers], note)
        for name, own in few.items():
            among = rows[name][part] if name in rows else own
            if own.shape != among.shape or not all(map(same_row, own, among)):
                raise UserError(OTHER_ROWS.format(name))
        if isinstance(out, Tensor) and isinstance(alone, Tensor) and len(out) == len(x):
            for i, row in zip(numbers, alone, strict=True):
                if not same_row(row, out[i]):
                    raise UserError(ANOTHER.format(i))


def _check_output(out: object, first: int) -> None:
    """Refuse NaN, and name the image: at a gate NaN would count as off. From any gate it reaches the output."""
    several = out.values() if isinstance(out, Mapping) else out if isinstance(out, tuple | list) else ()
    for part in several:
        _check_output(part, first)
    if isinstance(out, Tensor) and out.isnan().any():
        image = first + int(out.flatten(1).isnan().any(1).nonzero()[0]) if out.dim() > 1 else first
        raise UserError(f"the network gives NaN for image {image}: are its weights and the images finite?")


def _check_gates(largest: Mapping[str, Tensor], first: int) -> None:
    """Refuse NaN at a gate, behind which the network hides it; `largest` has the largest entry of each image there."""
    for name, values in largest.items():
        if values.isnan().any():
            told = f"the network gives NaN for image {first + int(values.isnan().nonzero()[0])} at gate {name!r}"
            raise UserError(f"{told}: are its weights and the images finite? If so, leave it out with layers=[...]")
