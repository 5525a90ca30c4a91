"""Checkpoints: one safetensors file holds a run's tensors and, as JSON in its header, everything else.

A run resumed from a checkpoint gives the same numbers, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.results.files import PARTIAL, write_bytes
from gendyn_lite.train.step import hook_name, laid_out_as

VERSION = 1
KEPT = 2
SUFFIX = ".safetensors"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
HEADER = "gendyn_lite"


class DamagedError(Exception):
    """A file is not a complete, unaltered checkpoint; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        tensors: Weights, buffers, momenta and states of random generators, by name.
        state: Everything else, as JSON values.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, step: int) -> Path:
    """Write a checkpoint atomically, then delete all but the newest two.

    If the process is killed meanwhile, at most a hidden temporary file is left, which `clean` removes.

    Args:
        folder: Folder of the run's checkpoints; created if absent.
        checkpoint: Its tensors may be on any device; they are copied to the CPU.
        step: Number of training steps taken so far; part of the file name.

    Returns:
        Path of the new file.

    Raises:
        UserError: The folder cannot be written to.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    text = json.dumps(checkpoint.state)
    header = {"version": VERSION, "digest": _digest(tensors, text), "state": text}
    path = folder / f"step_{step:010d}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(tensors, metadata={"format": "pt", HEADER: json.dumps(header)}))
        for old in listed(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error
    return path


def newest(folder: Path, *, run_id: str | None = None) -> Checkpoint | None:
    """The newest intact checkpoint in a folder, or None if there are no checkpoints.

    If the newest file is damaged, it is renamed to ``*.damaged`` with a warning, and the one before it is returned.

    Args:
        folder: Folder of the run's checkpoints; it need not exist.
        run_id: Key of the run; a checkpoint of another run is refused. None accepts any run.

    Raises:
        UserError: The checkpoint belongs to another configuration or other data, or was written by a newer version;
            the folder contains a file named like a pickle; or every checkpoint is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint_dir {folder} is a file, expected a folder")
    for path in sorted(folder.glob("*")) if folder.exists() else ():
        if path.suffix in PICKLES:
            raise UserError(f"{path} looks like a pickle, which could run any code, and is never loaded: move it away")
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
            bad.replace(bad.with_name(f"{bad.name}.damaged"))
            warnings.warn(f"checkpoint {bad} is damaged ({reason}): went back to {path.name}", stacklevel=2)
        return found
    if damaged:
        path, reason = damaged[0]
        raise UserError(f"checkpoint {path} is damaged ({reason}), and so are all older ones: delete it to start over")
    return None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        DamagedError: The file is truncated or altered.
        UserError: The file was written by a newer version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = "not written by gendyn_lite" if isinstance(error, KeyError) else first_line(error)
        raise DamagedError(reason) from error
    if header.get("version", 0) > VERSION:
        formats = f"format {header['version']}, this one reads {VERSION}"
        raise UserError(f"{path} was written by a newer version ({formats}): update gendyn_lite")
    if header.get("digest") != _digest(tensors, header.get("state", "")):
        raise DamagedError("its hash differs from the one recorded in it")
    return Checkpoint(tensors, json.loads(header["state"]))


def listed(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, oldest first."""
    return sorted(folder.glob(f"step_*{SUFFIX}"))


def clean(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while writing."""
    for part in folder.glob(f".*{SUFFIX}.*.{PARTIAL}"):
        part.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove the checkpoints of a complete run, and their folder if it is then empty.

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


def pack(
    model: nn.Module, optimizer: Optimizer, hook: object, random: list[list[Tensor]], state: dict[str, Any]
) -> Checkpoint:
    """Collect the state of the model, the optimizer, the gradient hook and the random generators in a checkpoint.

    Args:
        model: The network.
        optimizer: Its optimizer; the tensors it keeps (momenta) are stored.
        hook: The gradient hook; its ``state_dict()`` is stored, if it has one.
        random: For each rank, the states of its random generators.
        state: Everything else, as JSON values.

    Raises:
        UserError: The state dict of the network or the hook holds a value that cannot be restored exactly.
    """
    tensors = {f"model/{name}": tensor for name, tensor in _stored(model).items()}
    tensors |= {f"buffer/{name}": tensor for name, tensor in _other_buffers(model).items()}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
    for rank, generators in enumerate(random):
        tensors |= {f"random/{rank}/{number}": value for number, value in enumerate(generators)}
    kept = _kept(hook)
    tensors |= {f"hook/{key}": value for key, value in kept.items() if isinstance(value, Tensor)}
    rest = {key: value for key, value in kept.items() if not isinstance(value, Tensor)}
    return Checkpoint(tensors, state | {"hook": rest})


def unpack(found: Checkpoint, model: nn.Module, optimizer: Optimizer, hook: object, *, rank: int) -> list[Tensor]:
    """Load a checkpoint into the model, the optimizer and the gradient hook, in place.

    Args:
        found: The checkpoint.
        model: A network with the same parameter names and shapes as the one that was saved.
        optimizer: Its optimizer.
        hook: The gradient hook; it needs ``load_state_dict()`` if the saved one had a state.
        rank: Number of this process.

    Returns:
        The saved states of this rank's random generators.

    Raises:
        UserError: Names or shapes of the weights differ, or the hook cannot load the saved state.
    """
    stored, own = _under(found, "model/"), _stored(model)
    for name in sorted(stored.keys() ^ own.keys()):
        where = "the checkpoint" if name in stored else "the network"
        raise UserError(f"the network and the checkpoint differ: only {where} has {name!r}")
    for name, tensor in own.items():
        there, here = tuple(stored[name].shape), tuple(tensor.shape)
        if there != here:
            raise UserError(f"{name} has shape {there} in the checkpoint, {here} in the network")
    stored |= _under(found, "buffer/")
    with torch.no_grad():
        for name, tensor in (own | _other_buffers(model)).items():
            if name in stored:  # checkpoints of earlier versions lack non-persistent buffers
                tensor.copy_(stored[name])
    device = next(model.parameters()).device
    for name, value in _under(found, "optimizer/").items():
        index, key = name.split("/")
        parameter = optimizer.param_groups[0]["params"][int(index)]
        optimizer.state[parameter][key] = laid_out_as(parameter, value)
    if hasattr(hook, "load_state_dict"):
        kept = {key: value.to(device) for key, value in _under(found, "hook/").items()}
        hook.load_state_dict(kept | found.state["hook"])  # type: ignore[attr-defined]
    elif _under(found, "hook/") or found.state["hook"]:
        raise UserError(f"the checkpoint holds the state of a grad_hook, but {hook_name(hook)} has no load_state_dict")
    states = _under(found, f"random/{rank}/")
    return [states[key] for key in sorted(states, key=int)]


def _stored(model: nn.Module) -> dict[str, Tensor]:
    """The network's state dict, once it is known to hold tensors only."""
    found = model.state_dict()
    for name, value in found.items():
        if not isinstance(value, Tensor):
            told = f"the network's state_dict holds {name!r}, a {type(value).__name__}, but checkpoints hold tensors"
            raise UserError(f"{told} only: register it as a buffer, or train without checkpoint_dir")
    return found


def _other_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The non-persistent buffers: they are not in the state dict, but training may still change them."""
    stored = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in stored}


def _kept(hook: object) -> dict[str, Any]:
    """The gradient hook's ``state_dict()``, once it is known to be dense tensors and JSON values; {} if it has none."""
    if not hasattr(hook, "state_dict"):
        return {}
    kept = hook.state_dict()  # type: ignore[attr-defined]
    if not isinstance(kept, Mapping) or not all(isinstance(key, str) for key in kept):
        raise UserError(f"state_dict() of grad_hook {hook_name(hook)} is not a dict with strings as keys")
    for key, value in kept.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not plain and not _survives_json(value):
            kind = f"{key!r}, a {type(value).__name__} that a checkpoint cannot restore exactly"
            expected = "expected a dense tensor, or numbers, strings, lists and dicts with strings as keys"
            raise UserError(f"state_dict() of grad_hook {hook_name(hook)} has {kind}: {expected}")
    return dict(kept)


def _survives_json(value: Any) -> bool:
    """Whether a value is the same after it was written as JSON and read again.

    >>> _survives_json({"a": [1, 2.5, None]}), _survives_json({1: 2}), _survives_json((1, 2)), _survives_json(True)
    (True, False, False, True)
    """
    try:
        return repr(json.loads(json.dumps(value))) == repr(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _under(found: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in found.tensors.items() if name.startswith(prefix)}
