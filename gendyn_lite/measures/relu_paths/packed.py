"""Bit-packed paths, in memory and in files: eight units in a byte, an eighth of the size of a bool tensor."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.per_example.checks import dtype_name

T = TypeVar("T")
FORMAT = "relu_paths 1"  # of a file of paths


@dataclass(frozen=True)
class PackedPaths:
    """The paths of n images through one layer, bit-packed along the units.

    Attributes:
        bits: uint8 [n, ⌈units/8⌉]; unit 8k + j is bit j (of value 2ʲ) of byte k, and bits past the last unit are 0.
        units: Number of units N of the layer.
        layer: Name of the layer, or "" if it is not known.
        images: `fingerprint` of the images, or "" if it is not known.

    >>> paths = torch.tensor([[True, False, True], [False, False, True]])
    >>> packed = PackedPaths.pack(paths, layer="relu1")
    >>> packed.bits.tolist(), packed.shape, torch.equal(packed.unpack(), paths)
    ([[5], [4]], (2, 3), True)
    """

    bits: Tensor
    units: int
    layer: str = ""
    images: str = ""

    @classmethod
    def pack(cls, paths: Tensor, *, layer: str = "", images: str = "") -> PackedPaths:
        """Pack bool paths [n, units].

        Raises:
            UserError: They are not a bool matrix.
        """
        check_paths(paths)
        if paths.device.type == "cpu":
            bits = torch.from_numpy(np.packbits(paths.numpy(), axis=1, bitorder="little"))
        else:
            bits = pack_anywhere(paths)
        return cls(bits, paths.shape[1], layer, images)

    @classmethod
    def concatenate(cls, parts: Sequence[PackedPaths]) -> PackedPaths:
        """Concatenate the paths of several batches of images through one layer."""
        first = parts[0]
        return cls(torch.cat([part.bits for part in parts]), first.units, first.layer, first.images)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, units)."""
        return len(self.bits), self.units

    def __getitem__(self, images: slice) -> PackedPaths:
        """Return the packed paths of some of the images."""
        return replace(self, bits=self.bits[images])

    def unpack(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Return units start to stop of every image as bool [n, stop − start]; `start` must be a multiple of 8."""
        stop = self.units if stop is None else min(stop, self.units)
        bits = self.bits[:, start // 8 : (stop + 7) // 8]
        if bits.device.type == "cpu":
            paths = torch.from_numpy(np.unpackbits(bits.numpy(), axis=1, bitorder="little").view(np.bool_))
        else:
            paths = unpack_anywhere(bits)
        return paths[:, : stop - start]


Paths = Tensor | PackedPaths


def block_of(paths: Paths, start: int, stop: int) -> Tensor:
    """Return units start to stop of every image, bool [n, stop − start]; `start` must be a multiple of 8."""
    return paths.unpack(start, stop) if isinstance(paths, PackedPaths) else paths[:, start:stop]


def check_paths(paths: Paths, what: str = "paths") -> None:
    """Check that a value is the paths of one layer.

    Raises:
        UserError: It is neither `PackedPaths` nor a bool tensor [n, units] with at least one unit.
    """
    if isinstance(paths, PackedPaths):
        return
    if not isinstance(paths, Tensor):
        expected = "expected one layer's paths, bool [n, units], such as record_paths(model, x)['relu1']"
        raise UserError(f"{what} is a {type(paths).__name__}, {expected}")
    if paths.dtype != torch.bool or paths.dim() != 2 or paths.shape[1] == 0:
        told = f"{dtype_name(paths)} {list(paths.shape)}"
        raise UserError(f"{what} is {told}, expected bool [n, units]: which units are on (activations > 0)")


def of_images(paths: Tensor, *, layer: str, images: str) -> Tensor:
    """Attach the layer and the images' fingerprint to paths, for `check_pair`; void once they are changed in place."""
    vars(paths).update(layer=layer, images=images, marked=_version(paths))
    return paths


def _known(paths: Paths, name: str) -> str:
    """Return the attached ``layer`` or ``images`` of paths; "" if there is none, or the paths were changed since."""
    changed = isinstance(paths, Tensor) and vars(paths).get("marked") != _version(paths)
    return "" if changed else getattr(paths, name, "")


def _version(paths: Tensor) -> int:
    """Return how often a tensor was changed in place; 0 for one of inference mode, which does not keep count."""
    return 0 if paths.is_inference() else paths._version


def check_pair(now: Paths, before: Paths, *, least: int) -> None:
    """Check that the paths of two epochs can be compared.

    Args:
        now: Paths of an epoch.
        before: Paths of an earlier epoch.
        least: Fewest images allowed.

    Raises:
        UserError: One is not the paths of a layer; their networks, layers or images differ; or there are too few
            images.
    """
    check_paths(now, "now")
    check_paths(before, "before")
    layers, images = ([_known(paths, name) for paths in (now, before)] for name in ("layer", "images"))
    if all(layers) and layers[0] != layers[1]:
        raise UserError(f"now is layer {layers[0]!r} and before {layers[1]!r}: compare paths of one layer")
    if all(images) and images[0] != images[1]:
        raise UserError("now and before are paths of different images: record one fixed set, in one order")
    check_shapes(now.shape, before.shape, least=least)


def check_shapes(now: tuple[int, ...], before: tuple[int, ...], *, least: int) -> None:
    """Check that two shapes [n, units] are equal, with at least `least` images."""
    if now[0] != before[0]:
        raise UserError(f"now has {now[0]} images and before {before[0]}: record one fixed set, in one order")
    if now[1] != before[1]:
        told = f"now has {now[1]} units and before {before[1]}"
        raise UserError(f"{told}: paths of different networks or layers cannot be compared")
    if now[0] < least:
        raise UserError(f"there {'is 1 image' if now[0] == 1 else f'are {now[0]} images'}, expected at least {least}")


def fingerprint(x: Tensor) -> str:
    """Return 16 hexadecimal digits of a SHA-256 of shape, dtype and values: equal for equal images in equal order.

    >>> fingerprint(torch.zeros(2)) == fingerprint(torch.zeros(2)), fingerprint(torch.zeros(2, 1)) == fingerprint(
    ...     torch.zeros(2))
    (True, False)
    """
    raw = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{tuple(x.shape)} {x.dtype} ".encode() + raw.tobytes()).hexdigest()[:16]


def pack_anywhere(paths: Tensor) -> Tensor:
    """Pack bool [n, units] with torch operations only, on any device."""
    padded = torch.nn.functional.pad(paths, (0, -paths.shape[1] % 8))
    values = padded.unflatten(1, (-1, 8)).to(torch.uint8) << torch.arange(8, dtype=torch.uint8, device=paths.device)
    return values.sum(-1, dtype=torch.uint8)


def unpack_anywhere(bits: Tensor) -> Tensor:
    """Unpack whole bytes to bool [n, 8·bytes] with torch operations only, on any device."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits[:, :, None] >> places) & 1).bool().flatten(1)


def write_paths(path: Path, paths: Mapping[str, PackedPaths]) -> None:
    """Write the packed paths of one epoch to a safetensors file, atomically."""
    from safetensors.torch import save

    about = {name: {"units": one.units, "images": one.images} for name, one in paths.items()}
    bits = {name: one.bits.cpu().contiguous() for name, one in paths.items()}
    content = save(bits, metadata={"format": FORMAT, "layers": json.dumps(about)})
    aside = path.with_suffix(f".tmp{os.getpid()}")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def read_paths(path: Path, layer: str | None) -> dict[str, PackedPaths]:
    """Read a file of `write_paths`: every layer, or one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is no recording of paths, or of another version (expected {FORMAT!r})")
            about = chosen(json.loads(metadata["layers"]), layer)
            return {k: PackedPaths(file.get_tensor(k), one["units"], k, one["images"]) for k, one in about.items()}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and record the epoch anew") from error


def chosen(layers: dict[str, T], layer: str | None) -> dict[str, T]:
    """Return every layer (None), or only the one of that name.

    >>> chosen({"relu1": 1, "relu2": 2}, "relu2")
    {'relu2': 2}
    """
    if layer is None:
        return layers
    if layer not in layers:
        raise unknown_name("gate layer", layer, layers)
    return {layer: layers[layer]}
