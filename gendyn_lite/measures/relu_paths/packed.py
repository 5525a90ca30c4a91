"""Paths with eight units a byte, in memory and in a file: an eighth of the memory of a bool tensor."""

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
    """Paths of n images through one layer, bit-packed along the units.

    Attributes:
        bits: uint8 [n, ⌈units/8⌉]; unit 8k + j is bit j (of value 2ʲ) of byte k, and bits past the last unit are 0.
        units: Number of units N of the layer.
        layer: The layer's name, or "" where it is not known.
        images: Fingerprint of the images, or "" where it is not known.

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
            UserError: They are no bool matrix.
        """
        check_paths(paths)
        if paths.device.type == "cpu":
            bits = torch.from_numpy(np.packbits(paths.numpy(), axis=1, bitorder="little"))
        else:
            bits = pack_anywhere(paths)
        return cls(bits, paths.shape[1], layer, images)

    @classmethod
    def concatenate(cls, parts: Sequence[PackedPaths]) -> PackedPaths:
        """The images of several recordings of one layer, one after the other."""
        first = parts[0]
        return cls(torch.cat([part.bits for part in parts]), first.units, first.layer, first.images)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, units)."""
        return len(self.bits), self.units

    def __getitem__(self, images: slice) -> PackedPaths:
        """The paths of some images, still packed."""
        return replace(self, bits=self.bits[images])

    def unpack(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Units start to stop of every image as bool [n, stop − start]; `start` is a multiple of 8."""
        stop = self.units if stop is None else min(stop, self.units)
        bits = self.bits[:, start // 8 : (stop + 7) // 8]
        if bits.device.type == "cpu":
            paths = torch.from_numpy(np.unpackbits(bits.numpy(), axis=1, bitorder="little").view(np.bool_))
        else:
            paths = unpack_anywhere(bits)
        return paths[:, : stop - start]


Paths = Tensor | PackedPaths


def block_of(paths: Paths, start: int, stop: int) -> Tensor:
    """Units start to stop of every image, bool [n, stop − start]; `start` is a multiple of 8."""
    return paths.unpack(start, stop) if isinstance(paths, PackedPaths) else paths[:, start:stop]


def check_paths(paths: Paths, what: str = "paths") -> None:
    """Refuse what are no paths.

    Raises:
        UserError: Neither `PackedPaths` nor bool [n, units] with at least one unit.
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
    """Paths that know their layer and their images' fingerprint, as long as they are not changed: `check_pair` asks."""
    vars(paths).update(layer=layer, images=images, marked=_version(paths))
    return paths


def _known(paths: Paths, name: str) -> str:
    """Layer or images of some paths, nothing where that is not known or no longer true."""
    changed = isinstance(paths, Tensor) and vars(paths).get("marked") != _version(paths)
    return "" if changed else getattr(paths, name, "")


def _version(paths: Tensor) -> int:
    """How often it was changed in place; a tensor of inference mode does not count."""
    return 0 if paths.is_inference() else paths._version


def check_pair(now: Paths, before: Paths, *, least: int) -> None:
    """Refuse paths that cannot be compared.

    Args:
        now: Paths of an epoch.
        before: Paths of the epoch before.
        least: Fewest images.

    Raises:
        UserError: They are no paths, of different networks, layers or images, or of too few images.
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
    """Refuse shapes [n, units] that differ, or fewer than `least` images."""
    if now[0] != before[0]:
        raise UserError(f"now has {now[0]} images and before {before[0]}: record one fixed set, in one order")
    if now[1] != before[1]:
        told = f"now has {now[1]} units and before {before[1]}"
        raise UserError(f"{told}: paths of different networks or layers cannot be compared")
    if now[0] < least:
        raise UserError(f"there {'is 1 image' if now[0] == 1 else f'are {now[0]} images'}, expected at least {least}")


def fingerprint(x: Tensor) -> str:
    """16 hexadecimal digits of the SHA-256 of shape, dtype and values: equal for equal images in equal order.

    >>> fingerprint(torch.zeros(2)) == fingerprint(torch.zeros(2)), fingerprint(torch.zeros(2, 1)) == fingerprint(
    ...     torch.zeros(2))
    (True, False)
    """
    raw = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{tuple(x.shape)} {x.dtype} ".encode() + raw.tobytes()).hexdigest()[:16]


def pack_anywhere(paths: Tensor) -> Tensor:
    """Pack by torch alone, on any device."""
    padded = torch.nn.functional.pad(paths, (0, -paths.shape[1] % 8))
    values = padded.unflatten(1, (-1, 8)).to(torch.uint8) << torch.arange(8, dtype=torch.uint8, device=paths.device)
    return values.sum(-1, dtype=torch.uint8)


def unpack_anywhere(bits: Tensor) -> Tensor:
    """Unpack by torch alone, on any device; whole bytes."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits[:, :, None] >> places) & 1).bool().flatten(1)


def write_paths(path: Path, paths: Mapping[str, PackedPaths]) -> None:
    """Write the packed paths of one epoch as one safetensors file, whole or not at all."""
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
    """Read what `write_paths` wrote, all of it or one layer."""
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
    """Every layer (None), or the one of that name.

    >>> chosen({"relu1": 1, "relu2": 2}, "relu2")
    {'relu2': 2}
    """
    if layer is None:
        return layers
    if layer not in layers:
        raise unknown_name("gate layer", layer, layers)
    return {layer: layers[layer]}
