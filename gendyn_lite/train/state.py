"""What a run is at one moment: enough to go on to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gendyn_lite.errors import UserError
from gendyn_lite.train.checkpoint import Checkpoint
from gendyn_lite.train.step import hook_name, laid_out_as


def pack(
    model: nn.Module, optimizer: Optimizer, hook: object, random: list[list[Tensor]], state: dict[str, Any]
) -> Checkpoint:
    """A checkpoint of the model, the optimizer, the gradient hook and the random generators.

    Args:
        model: The network.
        optimizer: Its optimizer, whose tensors (momentum) are stored.
        hook: The gradient hook; what its ``state_dict()`` gives is stored, if it has one.
        random: States of the generators, for each rank.
        state: Everything else, JSON values.

    Raises:
        UserError: The network or the hook keeps something that would not come back as it is.
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
    """Put a checkpoint's tensors back, in place; the network must have the layout of the one that was trained.

    Returns:
        The states of this rank's random generators.

    Raises:
        UserError: The network has other weights than the checkpoint.
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
            if name in stored:  # checkpoints of earlier versions have no other buffers
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
        raise UserError(f"the checkpoint has a state of a grad_hook, but {hook_name(hook)} has no load_state_dict")
    states = _under(found, f"random/{rank}/")
    return [states[key] for key in sorted(states, key=int)]


def _stored(model: nn.Module) -> dict[str, Tensor]:
    """The network's state dict, all of it tensors."""
    found = model.state_dict()
    for name, value in found.items():
        if not isinstance(value, Tensor):
            kept = f"the network keeps {name!r}, a {type(value).__name__}, in its state_dict"
            advice = "register it as a buffer, or train without checkpoint_dir"
            raise UserError(f"{kept}, and checkpoints hold tensors: {advice}")
    return found


def _other_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that the state dict leaves out; training may change them all the same."""
    stored = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in stored}


def _kept(hook: object) -> dict[str, Any]:
    """What a gradient hook's ``state_dict()`` gives, if it has one: dense tensors, and values that survive JSON."""
    if not hasattr(hook, "state_dict"):
        return {}
    kept = hook.state_dict()  # type: ignore[attr-defined]
    if not isinstance(kept, Mapping) or not all(isinstance(key, str) for key in kept):
        raise UserError(f"state_dict() of grad_hook {hook_name(hook)} is not a dict with text as keys")
    for key, value in kept.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not plain and not _survives_json(value):
            raise UserError(
                f"state_dict() of grad_hook {hook_name(hook)} has {key!r}, a {type(value).__name__} that would not "
                "come back from a checkpoint as it is: expected a dense tensor, or numbers, text, lists and dicts with "
                "text as keys"
            )
    return dict(kept)


def _survives_json(value: Any) -> bool:
    """Whether a value comes back from JSON as it is.

    >>> _survives_json({"a": [1, 2.5, None]}), _survives_json({1: 2}), _survives_json((1, 2)), _survives_json(True)
    (True, False, False, True)
    """
    try:
        return repr(json.loads(json.dumps(value))) == repr(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _under(found: Checkpoint, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in found.tensors.items() if name.startswith(prefix)}
