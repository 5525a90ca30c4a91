"""Whether a network is unchanged since an earlier call, and whether it runs only the code of known libraries."""

from __future__ import annotations

from collections.abc import Collection
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

LIBRARIES = ("torch.nn.", "torchvision.", "gendyn_lite.models.")  # their modules depend on their own state only
GLOBAL = ("forward", "forward_pre", "backward", "backward_pre")  # kinds of global module hooks, in every torch version
PLAIN = (bool, int, float, str, tuple, type(None))  # types that are compared by value, not by identity
COLUMNS = 1021  # a prime, so that the rows of a weight fall into different sums


def state(model: nn.Module) -> tuple[object, ...] | None:
    """Return everything that determines what a network computes, to compare with a later call; see `digests` too.

    That is its modules, with their settings and code, the address and version of each tensor, and digests of buffers.

    Returns:
        None for a network that may change without a trace: one with hooks, or with code that is not of `LIBRARIES`.
        Patches of torch's own functions are not detected.

    >>> model = nn.Linear(2, 2)
    >>> before = state(model)
    >>> before == state(model), before == state(model.eval()), state(type("Own", (nn.ReLU,), {})())
    (True, False, None)
    """
    if not of_libraries(model):
        return None
    found: list[object] = []
    for name, module in model.named_modules(remove_duplicate=False):
        held = [value for value in (*module._parameters.values(), *module._buffers.values()) if value is not None]
        if any(value.is_inference() for value in held):  # tensors of inference mode have no version
            return None
        tensors = [(id(value), _address(value), value._version, value.requires_grad, value.dtype) for value in held]
        buffers = [_digest(value) for value in module._buffers.values() if value is not None]
        settings = [(key, _setting(value)) for key, value in vars(module).items()]
        found.append((name, ref(module), type(module), type(module).forward, settings, tensors, buffers))
    return tuple(found)


def of_libraries(model: nn.Module) -> bool:
    """Return whether a network runs only code of `LIBRARIES`, without hooks, so that it stores none of its inputs.

    >>> of_libraries(nn.Linear(2, 2)), of_libraries(type("Own", (nn.ReLU,), {})())
    (True, False)
    """
    if hooks_of_all():
        return False
    for module in model.modules():
        own = vars(module)
        hooks = any(own[kind] for kind in own if kind.endswith("_hooks"))
        of = type(module)
        if hooks or "forward" in own or not (of.__module__.startswith(LIBRARIES) and _of_library(of.forward)):
            return False
        if any(callable(value) and not _of_torch(value) for value in own.values()):
            return False
    return True


def _of_library(function: object) -> bool:
    """Return whether a method is a library's; torch's own are, whichever module they are in."""
    return (getattr(function, "__module__", None) or "").startswith(("torch.", *LIBRARIES))


def _setting(value: object) -> object:
    """What a setting is compared by: its value where that is plain, else which object it is."""
    held: Collection[object] = value if isinstance(value, list | set) else [value]
    return repr(value) if all(type(each) in PLAIN for each in held) else id(value)


def hooks_of_all() -> bool:
    """Return whether there are global hooks, which torch calls for every module."""
    return any(vars(every_module).get(f"_global_{kind}_hooks") for kind in GLOBAL)


def _of_torch(function: object) -> bool:
    return (getattr(function, "__module__", None) or "torch").startswith("torch")


def digests(model: nn.Module) -> dict[str, bytes]:
    """Return a digest of each parameter and buffer by name, which tells of changes that no version does.

    A fused optimizer's step and writes to ``.data`` are such changes.

    >>> model = nn.Linear(1, 1)
    >>> before = digests(model)
    >>> model.bias.data += 1
    >>> [name for name, value in digests(model).items() if value != before[name]]
    ['bias']
    """
    return {name: _digest(value) for held in (model.named_parameters(), model.named_buffers()) for name, value in held}


def _digest(value: Tensor) -> bytes:
    """A tensor's memory, of a large one sums of every `COLUMNS`th whole number in it: other ones if an entry is."""
    held = _dense(value.detach()).resolve_conj().resolve_neg().reshape(-1).view(torch.uint8)
    held = held if held.storage_offset() % 8 == 0 else held.clone()
    whole = len(held) // (8 * COLUMNS) * 8 * COLUMNS if len(held) > 16 * COLUMNS else 0
    sums = held[:whole].view(torch.int64).view(-1, COLUMNS).sum(0)  # many times as fast as a hash
    return bytes(sums.cpu().numpy()) + bytes(held[whole:].cpu().numpy())


def _address(value: Tensor) -> int:
    """Return where a dense tensor lies; a sparse one has no such place."""
    return value.data_ptr() if value.layout == torch.strided and not value.is_nested else 0


def _dense(value: Tensor) -> Tensor:
    """Return a tensor's numbers as a dense one, of one that is quantized, sparse or nested too."""
    if value.is_quantized:
        return value.int_repr()
    if value.is_nested:
        return torch.cat([each.reshape(-1) for each in value.unbind()])
    return value if value.layout == torch.strided else value.to_dense()
