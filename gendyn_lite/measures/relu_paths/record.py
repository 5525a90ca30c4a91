"""Recording which units are on, and their activations, for every image at chosen layers with ReLU-like gates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.per_example.apart import ANOTHER, check_half, same_row
from gendyn_lite.measures.per_example.checks import unwritten
from gendyn_lite.measures.per_example.guards import check_eval, given
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.layers import hooked
from gendyn_lite.measures.per_example.unchanged import of_libraries
from gendyn_lite.measures.relu_paths.gates import Gate, Gates, Unseen, check_images, check_layers, uncompiled
from gendyn_lite.measures.relu_paths.packed import PackedPaths, fingerprint, of_images
from gendyn_lite.models.logits import unmoved

BATCH = 128
T = TypeVar("T")
Layers = Sequence[str] | None
Take = Callable[[Gate], tuple[T, Tensor]]  # returns what to record of a gate, and the gate's output
Join = Callable[[list[T]], T]


def record_paths(
    model: nn.Module, x: Tensor | DataLoader[Any], *, layers: Layers = None, batch_size: int = BATCH
) -> dict[str, Tensor]:
    """Record the path p_i of every image: which units are on (pre-activation above 0), layer by layer.

    Args:
        model: A network in eval mode with ReLU-like gates (modules, or functions such as ``F.relu``; in place or not).
            It is left unchanged. `gendyn_lite.measures.relu_paths.gates` says what is a gate and how layers are named.
        x: Images [n, ...] as the network takes them, or a DataLoader of images and labels; moved to its device.
        layers: Names of the layers, as in `gate_layers`; None for all.
        batch_size: Images per batch.

    Returns:
        Layer → bool [n, units], in forward order, on the model's device. A convolution's unit is a channel at a place.

    Raises:
        UserError: The network has no gates, is in train mode with dropout or batch-norm, does not take the images, or
            mixes them; a layer is unknown; the rows of a gate are not those of the images; the output is NaN.

    Source: Image functions (n.d.), above Eq. 2 (p_i^t).

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, -1]])), model[0].bias.data.zero_()
    >>> record_paths(model, torch.tensor([[2.0, -1.0], [0.0, 3.0]]))
    {'1': tensor([[ True, False, False],
            [False,  True, False]])}
    """

    def take(gate: Gate) -> tuple[Tensor, Tensor]:
        return gate.path().flatten(1), gate.run()  # in this order, as the gate may work in place

    images = given(x, None)[0]
    paths = _by_layer(model, images, take, torch.cat, layers=layers, batch_size=batch_size)
    known = fingerprint(images)
    return {name: of_images(found, layer=name, images=known) for name, found in paths.items()}


def record_activations(
    model: nn.Module, x: Tensor | DataLoader[Any], *, layers: Layers = None, batch_size: int = BATCH
) -> dict[str, Tensor]:
    """Record the activations a_i of every image after each gate, layer by layer.

    Args:
        model: The network, as in `record_paths`.
        x: Images [n, ...].
        layers: Names of the layers; None for all.
        batch_size: Images per batch.

    Returns:
        Layer → [n, units], in the network's precision and on its device.

    Raises:
        UserError: As for `record_paths`.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> _ = model[0].weight.data.copy_(torch.eye(2)), model[0].bias.data.zero_()
    >>> record_activations(model, torch.tensor([[2.0, -1.0]]))
    {'1': tensor([[2., 0.]])}
    """

    def take(gate: Gate) -> tuple[Tensor, Tensor]:
        out = gate.run()
        return out.detach().flatten(1).clone(), out  # a copy, as the next layer may work in place

    return _by_layer(model, given(x, None)[0], take, torch.cat, layers=layers, batch_size=batch_size)


def record_packed(
    model: nn.Module,
    x: Tensor | DataLoader[Any],
    *,
    layers: Layers = None,
    batch_size: int = BATCH,
    images: str | None = None,
) -> dict[str, PackedPaths]:
    """Record the paths of every image as in `record_paths`, packed batch by batch, in an eighth of the memory.

    Args:
        model: The network.
        x: Images.
        layers: Names of the layers; None for all.
        batch_size: Images per batch.
        images: Fingerprint of x, if it is already known.

    Returns:
        Layer → its packed paths.

    Raises:
        UserError: As for `record_paths`.

    >>> model = nn.Sequential(nn.Linear(2, 20), nn.ReLU())
    >>> packed = record_packed(model, torch.randn(5, 2))["1"]
    >>> packed.shape, packed.bits.nbytes
    ((5, 20), 15)
    """
    inputs: Tensor = given(x, None)[0]
    check_images(inputs)
    known = fingerprint(inputs) if images is None else images

    def take(gate: Gate) -> tuple[PackedPaths, Tensor]:
        return PackedPaths.pack(gate.path().flatten(1), layer=gate.name, images=known), gate.run()

    return _by_layer(model, inputs, take, PackedPaths.concatenate, layers=layers, batch_size=batch_size)


def gate_layers(model: nn.Module, x: Tensor) -> dict[str, int]:
    """List the layers whose paths can be recorded, with their numbers of units.

    Args:
        model: The network, in eval mode.
        x: Images [n, ...], of which only the first is run.

    Returns:
        Layer → number of units, in the order of the forward pass.

    >>> gate_layers(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()), torch.zeros(1, 1, 5, 5))
    {'1': 36}
    """
    return {name: found.shape[1] for name, found in record_paths(model, x[:1]).items()}


def _by_layer(
    model: nn.Module, x: Tensor, take: Take[T], join: Join[T], *, layers: Layers, batch_size: int
) -> dict[str, T]:
    """Call `take` at each gate, batch by batch, and join its results for each layer."""
    model = uncompiled(model)
    check_images(x, batch_size)
    found: dict[str, list[T]] = {}
    seen: list[str] = []
    rows: dict[str, Tensor] = {}
    largest: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}  # at the gates whose rows are not proved to be those of the images
    apart: Unseen | None = None

    def visit(gate: Gate) -> Tensor:
        seen.append(gate.name)
        if layers is not None and gate.name not in layers:
            return gate.run()
        if gate.z.shape[:1] != (count,) or gate.z.dim() < 2:
            told = f"gate {gate.name!r} sees {list(gate.z.shape)} for {count} images, expected [n, units, ...]"
            raise UserError(f"{told}: leave it out with layers=[...]")
        with nullcontext(gate) if apart is None else apart.aside(gate) as own:
            return looked(own)

    def looked(gate: Gate) -> Tensor:
        if gate.z.numel():
            largest[gate.name] = gate.z.detach().flatten(1).amax(1)  # NaN if an entry is
        if gate.name not in rows:
            rows[gate.name] = gate.z[list(_looked_at(count))].detach().clone()
            if apart is not None and not apart.holds(gate.z):
                sums[gate.name] = _sums(gate)
        value, out = take(gate)
        found.setdefault(gate.name, []).append(value)
        return out

    known = False  # that no batch can mix images
    with torch.no_grad():
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            count = len(batch)
            apart = None if known else Unseen(model, batch)
            rows.clear()
            sums.clear()
            with apart or nullcontext():
                out = run_gated(model, batch, visit, apart)
            _check_output(out, start)
            _check_gates(largest, start)
            if start == 0 and apart is not None:
                apart.warn()
                check_layers(model, seen, layers)
            if apart is not None:
                proved = not sums and (apart.holds(out) or not isinstance(out, Tensor))
                known = proved and of_libraries(model)
                if not known:
                    _check_rows(model, batch, out, rows, proved=proved)
                if not proved:
                    _check_all_rows(model, batch, out, sums)
    batches = -(-len(x) // batch_size)
    for name, parts in found.items():
        if len(parts) != batches:
            told = f"gate {name!r} is used {len(parts)} times in {batches} batches"
            raise UserError(f"{told}, so that its rows are not the images': leave it out with layers=[...]")
    return {name: join(parts) for name, parts in found.items()}


def _looked_at(count: int) -> tuple[int, ...]:
    """Return the places in a batch of the images that are run again: the middle one, the last and the first."""
    return count // 2, count - 1, 0


def _sums(gate: Gate) -> Tensor:
    """Return the sum of each row of a gate's pre-activations, [n]."""
    return gate.z.detach().flatten(1).sum(1)


def _check_all_rows(model: nn.Module, x: Tensor, out: object, sums: Mapping[str, Tensor]) -> None:
    """Refuse gates, or outputs, whose row for any image differs in half of the batch, run in reverse order."""
    few: dict[str, Tensor] = {}

    def note(gate: Gate) -> Tensor:
        if gate.name in sums:
            few[gate.name] = _sums(gate)
        return gate.run()

    for start in (0, 1) if len(x) > 2 else ():
        few.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            half = run_gated(model, x[start::2].flip(0), note)  # in reverse, to reveal images that are sorted
        for name, found in few.items():
            among = sums[name][start::2].flip(0)
            if found.shape != among.shape or not all(map(same_row, found, among)):
                raise UserError(OTHER_ROWS.format(name))
        check_half(model, x, out, half, start)


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


def run_gated(model: nn.Module, x: Tensor, visit: Callable[[Gate], Tensor], unseen: Unseen | None = None) -> Tensor:
    """Run a network with every gate passed to `visit`, and return its output; `unseen` as for `Gates`.

    Raises:
        UserError: Dropout or batch-norm is in train mode, or the network does not take the images, draws at random or
            changes its buffers.
    """
    check_eval(model)
    x = x.to(next((value.device for value in model.parameters()), x.device))
    try:
        gates = Gates(model, visit, unseen)
        hooks = hooked(model.modules(), gates.leave, gates.enter, always_call=True)
        with unmoved(model, x), unwritten(x), lag_is_told(model), gates, hooks:
            out = model(x)
        gates.warn()
        return out
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        told = f"the network does not take images of shape {tuple(x.shape[1:])}: {first_line(error)}"
        raise UserError(told) from error
