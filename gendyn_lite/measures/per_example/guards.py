"""Checks of a network, its inputs and its labels before a measure uses them; each error message is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader

from gendyn_lite.data.own import tensors
from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import dtype_name
from gendyn_lite.measures.per_example.layers import first_trainable


def check_eval(model: nn.Module) -> None:
    """Refuse a network whose output, in train mode, depends on chance or on the batch, or that hides its modules.

    Args:
        model: The network.

    Raises:
        UserError: It is not a module; batch-norm, dropout or a randomized ReLU is in train mode; a part is compiled,
            scripted, wrapped for several devices, or has no weights yet.

    >>> check_eval(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: '1' (Dropout) is in train mode and draws at random: call model.eval() first
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the network is a {type(model).__name__}, expected a torch.nn.Module")
    for name, module in model.named_modules():
        _check_plain(name, module)
        if module.training and isinstance(module, _BatchNorm):
            why = ", where an example's output depends on its batch"
        elif module.training and (isinstance(module, nn.RReLU) or (isinstance(module, _DropoutNd) and module.p > 0)):
            why = " and draws at random"
        else:
            continue
        raise UserError(f"{name!r} ({type(module).__name__}) is in train mode{why}: call model.eval() first")


SPREAD = ("FullyShardedDataParallel", "FSDPModule")  # names of classes, whose modules take seconds to import
Output = Callable[[Any], Tensor] | None


@contextmanager
def reading(model: nn.Module, output: Output) -> Iterator[None]:
    """Replace a network's output by a function of it, inside the context only; with None nothing is replaced.

    Args:
        model: The network.
        output: Function that takes the network's output and returns the logits, or None.

    Raises:
        UserError: The function returns None; raised when the network is called.

    >>> with reading(network := nn.Linear(2, 3), lambda out: out[:, :1]):
    ...     network(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """
    if output is None:
        yield
        return

    def read(module: nn.Module, given: object, out: Any) -> Tensor:
        logits = output(out)
        if logits is None:  # by which a hook tells torch to keep the output
            raise UserError("output= gives None of what the network gives, expected the logits: does it lack a return?")
        return logits

    handle = model.register_forward_hook(read)
    try:
        yield
    finally:
        handle.remove()


def _check_plain(name: str, module: nn.Module) -> None:
    """Refuse a module that is compiled, wrapped or scripted, and one that has no weights yet."""
    whole = f"{name!r} in the network" if name else "the network"
    path = f"{name}." if name else ""
    if hasattr(module, "_orig_mod"):
        raise UserError(f"{whole} is compiled (torch.compile): measure the one inside, model.{path}_orig_mod")
    if getattr(module, "_compiled_call_impl", None) is not None:
        raise UserError(f"{whole} is compiled (its compile()): measure copy.deepcopy(model), which is not")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UserError(f"{whole} is wrapped in {type(module).__name__}: measure the one inside, model.{path}module")
    if any(of.__name__ in SPREAD for of in type(module).__mro__):
        raise UserError(
            f"{whole} is spread over devices (FSDP): gather its weights into a plain copy, and measure that"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(f"{whole} is a program of torch.jit: measure the module that it was made of")
    for value in [value for value in module._parameters.values() if value is not None]:
        if is_lazy(value):
            told = f"{whole} ({type(module).__name__})"
            raise UserError(f"{told} has no weights yet: run the network on an example first")
        if value.is_meta:
            raise UserError(f"{whole} has no weights (device meta): give it some first, model.to_empty(device=...)")


def check_model(model: nn.Module) -> None:
    """Refuse a network in which an example has no gradient of its own, or that draws random numbers.

    Args:
        model: The network.

    Raises:
        UserError: As for `check_eval`; batch-norm keeps no running statistics; a parameter was made under
            ``torch.inference_mode``; no parameter is trainable, or one that is trainable is complex, has a gradient
            hook or shares memory with another.

    >>> check_model(nn.Linear(2, 3).requires_grad_(False))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network has no parameter that requires a gradient: ...
    """
    check_eval(model)
    if parametrize._cache_enabled:
        raise UserError("inside parametrize.cached() weights keep no gradient of their own: measure outside of it")
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            told = f"{name!r} ({type(module).__name__})"
            raise UserError(f"{told} keeps no running statistics, so each example depends on its batch: replace it")
        if getattr(module, "scale_grad_by_freq", False):
            told = f"{name!r} ({type(module).__name__}) has scale_grad_by_freq=True"
            raise UserError(f"{told}, which divides gradients by counts of the batch: set it to False")
    if any(value.is_inference() for value in model.parameters()):
        raise UserError("the network was made under torch.inference_mode: make it outside of it")
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trained:
        raise UserError("the network has no parameter that requires a gradient: there is no gradient to measure")
    _check_parameters(trained)


def check_kept(model: nn.Module) -> None:
    """Refuse weights of which a module keeps a result from call to call, so that it sees no change of them.

    Such modules, as of LeViT, TinyViT and EfficientFormer, forget it in train mode, by a method of their own.

    Args:
        model: The network, after it has been run.

    Raises:
        UserError: A module with weights and its own `train` keeps tensors beside its parameters and buffers.
    """
    for name, module in model.named_modules():
        if type(module).train is nn.Module.train or not any(True for _ in module.parameters(recurse=False)):
            continue
        for key, value in vars(module).items():
            held = value.values() if isinstance(value, dict) else [value]
            if key not in ("_parameters", "_buffers") and any(isinstance(one, Tensor) for one in held):
                told = f"{name!r} ({type(module).__name__}) keeps {key!r}, computed of its weights, from call to call"
                raise UserError(f"{told}, and sees no change of them: let its forward compute it each time")


def _check_parameters(trained: Mapping[str, Tensor]) -> None:
    """Refuse parameters with a hook that may change their gradient, complex ones, and two that share memory."""
    places: dict[tuple[object, int], str] = {}
    for name, value in trained.items():
        if value._backward_hooks:
            why = "what the measures take is the gradient without it: remove the hook (its handle.remove()) first"
            raise UserError(f"parameter {name!r} has a hook that may change its gradient, and {why}")
        if value.is_complex():
            raise UserError(f"parameter {name!r} is complex: hold its real and its imaginary part as two parameters")
        first = places.setdefault((value.device, value.data_ptr()), name)
        if first != name and value.numel():
            why = "a step on one moves the other unseen: make them one parameter, or give one memory of its own (clone)"
            raise UserError(f"parameters {first!r} and {name!r} lie in the same memory, and {why}")


def given(x: Tensor | DataLoader[Any], y: Tensor | None) -> tuple[Any, Any]:
    """Return inputs and labels as they are, or read both from a DataLoader that is given in place of the inputs.

    >>> given(torch.eye(2), None)[1] is None
    True
    """
    return tensors(x) if isinstance(x, DataLoader) else (x, y)


def check_examples(model: nn.Module, x: Tensor, y: Tensor, *, least: int = 2, name: str = "") -> None:
    """Apply `check_model`, and refuse inputs and labels that do not fit together, or do not fit the network.

    Args:
        model: The network.
        x: Inputs [n, ...].
        y: Labels [n], or targets [n, ...] of a custom loss.
        least: Fewest examples allowed.
        name: Prefix of x and y in error messages, for instance ``"other: "``.

    Raises:
        UserError: As for `check_model`; x or y is not a tensor, or is on another device than the network; their
            lengths differ; there are too few examples; x has another precision than the network or is uint8.
    """
    check_model(model)
    check_pairs(x, y, first_trainable(model), least=least, name=name)


def check_pairs(x: Tensor, y: Tensor, like: Tensor | None, *, least: int = 1, name: str = "") -> None:
    """Refuse inputs and labels that do not fit together, or do not fit a parameter of the network, as `check_examples`.

    >>> check_pairs(torch.eye(2), torch.tensor([0]), None)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: x has 2 examples and y 1: expected one label for each example
    """
    for what, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise UserError(f"{name}{what} is a {type(value).__name__}, expected a tensor: torch.as_tensor({what})")
        if value.layout != torch.strided or value.is_nested:
            raise UserError(f"{name}{what} is sparse or nested, expected a dense tensor: {what}.to_dense() or padded")
        if not value.dim():
            raise UserError(f"{name}{what} is a single number, expected [n, ...]")
    if len(x) != len(y):
        raise UserError(f"{name}x has {len(x)} examples and y {len(y)}: expected one label for each example")
    if len(x) < least:
        raise UserError(f"{name}x has {len(x)} example{'' if len(x) == 1 else 's'}, expected at least {least}")
    for what, value in (("x", x), ("y", y)):
        if like is not None and value.device != like.device:
            places = f"on {value.device} and the network on {like.device}"
            raise UserError(f"{name}{what} is {places}: move one of them (.to(...))")
    if like is not None and x.is_floating_point() and x.dtype != like.dtype:
        raise UserError(f"{name}x is {dtype_name(x)} and the network {dtype_name(like)}: convert one of them")
    if x.dtype == torch.uint8:
        raise UserError(f"{name}x is uint8: standardize it as in training (data.batcher gives such batches)")
