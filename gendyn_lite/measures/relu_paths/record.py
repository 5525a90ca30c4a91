"""Recording which units are on, and their activations, for every image at chosen layers with ReLU-like gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.guards import given
from gendyn_lite.measures.relu_paths.gated import CheckedBatch, Layers
from gendyn_lite.measures.relu_paths.gates import Gate, check_images, uncompiled
from gendyn_lite.measures.relu_paths.packed import PackedPaths, fingerprint, of_images

BATCH = 128
T = TypeVar("T")
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

    def keep(gate: Gate) -> Tensor:
        value, out = take(gate)
        found.setdefault(gate.name, []).append(value)
        return out

    known = False  # that no batch can mix images
    with torch.no_grad():
        for start in range(0, len(x), batch_size):
            known = CheckedBatch(model, x[start : start + batch_size], start, layers, known=known).run(keep)
    batches = -(-len(x) // batch_size)
    for name, parts in found.items():
        if len(parts) != batches:
            told = f"gate {name!r} is used {len(parts)} times in {batches} batches"
            raise UserError(f"{told}, so that its rows are not the images': leave it out with layers=[...]")
    return {name: join(parts) for name, parts in found.items()}
