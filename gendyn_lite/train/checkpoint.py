"""Checkpoint files: one safetensors file each, with its JSON state inside, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendyn_lite.errors import UserError

VERSION = 1
KEPT = 2
SUFFIX = ".safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
HEADER = "gendyn_lite"


class DamagedError(Exception):
    """A file is no whole checkpoint; the message is the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, step: int) -> Path:
    """Write a checkpoint beside its place, then move it there; of the older ones the last remains.

    A process killed here leaves at most a hidden file ``.*.part``, which `clean` removes.

    Args:
        folder: The folder of the run's checkpoints, made if absent.
        checkpoint: Tensors of any device; they are stored from the CPU.
        step: Number of steps taken, which names the file.

    Returns:
        The file.

    Raises:
        UserError: The folder cannot be written to.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    text = json.dumps(checkpoint.state)
    header = {"version": VERSION, "digest": _digest(tensors, text), "state": text}
    path = folder / f"step_{step:010d}{SUFFIX}"
    part = folder / f".{path.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(save(tensors, metadata={"format": "pt", HEADER: json.dumps(header)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        for old in listed(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error
    return path


def newest(folder: Path, *, run_id: str | None = None) -> Checkpoint | None:
    """The newest whole checkpoint, or None where there is none yet.

    A damaged one is renamed to ``*.damaged``, with a warning, and the one before it is taken.

    Args:
        folder: The folder of the run's checkpoints; it need not exist.
        run_id: The run's key; a checkpoint of another run is refused. None takes any.

    Raises:
        UserError: It belongs to another configuration or data, or was written by a newer version; a file is named like
            a pickle; or none of several is whole.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint_dir {folder} is a file, expected a folder")
    for path in sorted(folder.glob("*")) if folder.exists() else ():
        if path.suffix in PICKLES:
            raise UserError(f"{path} looks like a pickle, which could run any code: move it away, it is never loaded")
    damaged: list[tuple[Path, str]] = []
    for path in reversed(listed(folder)):
        try:
            found = read(path)
        except DamagedError as error:
            damaged.append((path, str(error)))
            continue
        other = found.state.get("run_id")
        if run_id not in (None, other):
            ids = f"belongs to run {other}, this configuration and data are run {run_id}"
            raise UserError(f"{path} {ids}: use another folder")
        for bad, reason in damaged:
            os.replace(bad, bad.with_name(f"{bad.name}.damaged"))
            warnings.warn(f"checkpoint {bad} is damaged ({reason}): went back to {path.name}", stacklevel=2)
        return found
    if damaged:
        path, reason = damaged[0]
        raise UserError(f"checkpoint {path} is damaged ({reason}) and none before it is whole: delete it to start over")
    return None


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        DamagedError: The file is truncated or altered.
        UserError: It is of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = "no checkpoint of gendyn_lite" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise DamagedError(reason) from error
    if header.get("version", 0) > VERSION:
        formats = f"format {header['version']}, this one reads {VERSION}"
        raise UserError(f"{path} was written by a newer version ({formats}): update gendyn_lite")
    if header.get("digest") != _digest(tensors, header.get("state", "")):
        raise DamagedError("its contents do not have the hash that it was written with")
    return Checkpoint(tensors, json.loads(header["state"]))


def listed(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, oldest first."""
    return sorted(folder.glob(f"step_*{SUFFIX}"))


def clean(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for part in folder.glob(f".*{SUFFIX}.*.part"):
        part.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove the checkpoints of a run that is complete, and their folder if nothing else is in it.

    >>> discard(Path("no_such_folder"))
    """
    clean(folder)
    for path in (*listed(folder), *folder.glob(f"step_*{SUFFIX}.damaged")):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
