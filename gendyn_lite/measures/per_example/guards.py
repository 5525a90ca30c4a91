"""What measures ask of a network, its inputs and its loss before they trust them: one line for each refusal."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from gendyn_lite.data.own import tensors
from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import MIXES, TOLERANCE, lone
from gendyn_lite.measures.per_example.checks import dtype_name, usable
from gendyn_lite.measures.per_example.layers import first_trainable, of_libraries
from gendyn_lite.measures.per_example.rowwise import RowWise, mixing


def check_eval(model: nn.Module) -> None:
    """Refuse a network in train mode whose output depends on chance or on the batch, or one that hides its modules.

    Args:
        model: The network.

    Raises:
        UserError: Batch-norm, dropout or a randomized ReLU is in train mode; a part is compiled, scripted, wrapped for
            several devices or without weights.

    >>> check_eval(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: '1' (Dropout) is in train mode and draws at random: call model.eval() first
    """
    for name, module in model.named_modules():
        _check_plain(name, module)
        if module.training and isinstance(module, _BatchNorm):
            why = ", where an example's output depends on its batch"
        elif module.training and (isinstance(module, nn.RReLU) or (isinstance(module, _DropoutNd) and module.p > 0)):
            why = " and draws at random"
        else:
            continue
        raise UserError(f"{name!r} ({type(module).__name__}) is in train mode{why}: call model.eval() first")


Output = Callable[[Any], Tensor] | None


@contextmanager
def reading(model: nn.Module, output: Output) -> Iterator[None]:
    """Meanwhile the network gives what a function makes of its output; without one what it gives.

    >>> with reading(network := nn.Linear(2, 3), lambda out: out[:, :1]):
    ...     network(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """
    if output is None:
        yield
        return
    handle = model.register_forward_hook(lambda module, given, out: output(out))
    try:
        yield
    finally:
        handle.remove()


def _check_plain(name: str, module: nn.Module) -> None:
    """Refuse a module that is not what it computes with."""
    whole = f"{name!r} in the network" if name else "the network"
    path = f"{name}." if name else ""
    if hasattr(module, "_orig_mod"):
        raise UserError(f"{whole} is compiled (torch.compile): measure the one inside, model.{path}_orig_mod")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UserError(f"{whole} is wrapped in {type(module).__name__}: measure the one inside, model.{path}module")
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(f"{whole} is a program of torch.jit: measure the module that it was made of")
    if any(is_lazy(value) for value in module.parameters(recurse=False)):
        raise UserError(f"{whole} ({type(module).__name__}) has no weights yet: run the network on an example first")
    if any(value.is_meta for value in module.parameters(recurse=False)):
        raise UserError(f"{whole} has no weights (device meta): give it some first, model.to_empty(device=...)")


def check_model(model: nn.Module) -> None:
    """Refuse a network in which an example has no gradient of its own, or that draws at random.

    Args:
        model: The network.

    Raises:
        UserError: As `check_eval`; batch-norm without running statistics; nothing to train; a parameter that is
            complex, has a hook of its own, or lies in the memory of another.

    >>> check_model(nn.Linear(2, 3).requires_grad_(False))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network has no parameter that requires a gradient: ...
    """
    check_eval(model)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            told = f"{name!r} ({type(module).__name__})"
            raise UserError(f"{told} keeps no running statistics, so each example depends on its batch: replace it")
    if any(value.is_inference() for value in model.parameters()):
        raise UserError("the network was made under torch.inference_mode: make it outside of it")
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trained:
        raise UserError("the network has no parameter that requires a gradient: there is no gradient to measure")
    _check_parameters(trained)


def _check_parameters(trained: Mapping[str, Tensor]) -> None:
    """Refuse parameters whose gradient is not what the loss alone makes it, or that are two in name only."""
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
    """Inputs and labels as they are, or those of a loader that stands for both.

    >>> given(torch.eye(2), None)[1] is None
    True
    """
    return tensors(x) if isinstance(x, DataLoader) else (x, y)


def check_examples(model: nn.Module, x: Tensor, y: Tensor, *, least: int = 2, name: str = "") -> None:
    """`check_model`, and refuse inputs and labels that do not fit together, or not to the network.

    Args:
        model: The network.
        x: Inputs [n, ...].
        y: Labels [n], or targets [n, ...] of a loss of one's own.
        least: Fewest examples.
        name: What to call the set in an error, for instance ``"other: "``.
    """
    for what, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise UserError(f"{name}{what} is a {type(value).__name__}, expected a tensor: torch.as_tensor({what})")
    check_model(model)
    if len(x) != len(y):
        raise UserError(f"{name}x has {len(x)} examples and y {len(y)}: expected one label for each example")
    if len(x) < least:
        raise UserError(f"{name}x has {len(x)} example{'' if len(x) == 1 else 's'}, expected at least {least}")
    first = first_trainable(model)
    for what, value in (("x", x), ("y", y)):
        if value.device != first.device:
            places = f"on {value.device} and the network on {first.device}"
            raise UserError(f"{name}{what} is {places}: move one of them (.to(...))")
    if x.is_floating_point() and x.dtype != first.dtype:
        raise UserError(f"{name}x is {dtype_name(x)} and the network {dtype_name(first)}: convert one of them")
    if x.dtype == torch.uint8:
        raise UserError(f"{name}x is uint8: standardize it as in training (data.batcher gives such batches)")


def check_alone(model: nn.Module, x: Tensor, *, seen: bool = False) -> None:
    """Refuse a network that mixes the examples of a batch, so that none has a gradient of its own.

    The output of neither of two examples may depend on the other: its derivative is exactly 0, to the bit, which no
    rounding spoils. Of integer inputs a few are run one by one; a single example cannot show it.

    Args:
        model: The network.
        x: Inputs.
        seen: Whether a `Lone` has shown as much of derivatives already.

    >>> class Centred(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x - x.mean(0))
    >>> check_alone(Centred(2, 3), torch.eye(2))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network mixes the examples of a batch: ...
    """
    if len(x) < 2 or (seen and x.is_floating_point()):
        return
    if not x.is_floating_point():
        with torch.no_grad():
            among, alone = model(x[:8]), torch.cat([model(one) for one in x[:8].split(1)])
        loose = 1e-2 if alone.dtype in TOLERANCE else 0.1  # in half precision a batch rounds otherwise
        if not torch.allclose(among, alone, rtol=loose, atol=loose * float(alone.abs().mean()), equal_nan=True):
            raise UserError(MIXES)
        return
    with torch.inference_mode(False), torch.enable_grad():
        two = x[:2].detach().clone().requires_grad_()
        try:
            out = model(two.clone()).reshape(2, -1)
            sums = out @ torch.linspace(1, 2, out.shape[1]).to(out)
            rows = [torch.autograd.grad(sums[i], two, retain_graph=True, allow_unused=True)[0] for i in (1, 0)]
        except RuntimeError:  # an operation without a derivative with respect to the inputs
            return
    if any(row is not None and (row[other].abs() > 0).any() for other, row in enumerate(rows)):
        raise UserError(MIXES)


ANOTHER = (
    "the output of example {} is another one alone than among others: the network mixes the examples of a batch, "
    "or is another at each call"
)


@torch.no_grad()
def check_rows(model: nn.Module, x: Tensor, among: object) -> None:
    """Refuse outputs of a batch that are not those of its examples alone: mixed examples, or another network each time.

    The first example, the last and one between are run by themselves. Chance that no generator tells of is seen too,
    and a network that does something else where gradients are recorded.

    Args:
        model: The network.
        x: Inputs.
        among: What it gave for them; what is no tensor of rows is left to others.

    Raises:
        UserError: An output alone is another one.

    >>> class Capped(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x) * (torch.arange(len(x)) < 2)[:, None]
    >>> check_rows(network := Capped(2, 3), torch.eye(4)[:, :2], network(torch.eye(4)[:, :2]))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the output of example 2 is another one alone than among others: ...
    """
    if not isinstance(among, Tensor) or among.dim() < 1 or len(among) != len(x) or among.is_complex():
        return
    chosen = sorted({0, len(x) // 2, len(x) - 1})
    expected = among[chosen].detach()
    with torch.inference_mode(False), torch.enable_grad():
        given = usable(x[chosen])
        alone = _by_vmap(model, given)
        if alone is not None and all(map(same_row, alone, expected)):
            return
        for i, one, row in zip(chosen, given, expected, strict=True):
            if not same_row(model(lone(model, one))[0], row):
                raise UserError(ANOTHER.format(i))


@torch.no_grad()
def check_all_rows(model: nn.Module, x: Tensor, among: object) -> None:
    """Refuse outputs of a batch where any is another one among every second of its examples.

    It takes as long as the batch did, and is for a network with an operation that may mix examples: a few of them may
    be mixed where nobody looks, in large batches alone.

    Args:
        model: The network.
        x: Inputs.
        among: What it gave for them; what is no tensor of rows is left to others.

    Raises:
        UserError: An output is another one, with the operation and its module.

    >>> class Paired(nn.Linear):
    ...     def forward(self, x):
    ...         h = super().forward(x)
    ...         return torch.cat([h[:6], h[[7, 6]], h[8:]]) if len(x) > 8 else h
    >>> check_all_rows(network := Paired(2, 3), x := torch.randn(16, 2), network(x))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the output of example 6 is another one among fewer examples: ... by slice in its forward: ...
    """
    if len(x) < 3 or not isinstance(among, Tensor) or len(among) != len(x) or among.is_complex():
        return
    for start in (0, 1):
        with torch.inference_mode(False):
            half = model(usable(x[start::2]))
        check_half(model, x, among, half, start)


def check_half(model: nn.Module, x: Tensor, among: object, half: object, start: int) -> None:
    """Refuse outputs of a batch that are not those of every second of its examples, from `start` on: `check_all_rows`.

    >>> check_half(nn.Identity(), x := torch.eye(4), x, x[1::2], 1)
    """
    if not isinstance(among, Tensor) or not isinstance(half, Tensor) or half.shape != among[start::2].shape:
        return
    expected = among[start::2]
    wrong = (~_same_rows(half, expected.detach())).nonzero().flatten().tolist()
    if wrong:
        told = f"the output of example {start + 2 * wrong[0]} is another one among fewer examples"
        why = "make that work on each example by itself"
        raise UserError(f"{told}: the network mixes the examples of a batch, maybe by {mixing(model, x)}: {why}")


def own_outputs(model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """The outputs for some inputs, refused unless each is that of its example alone, and the same at each call.

    Args:
        model: The network.
        x: Inputs.
        run: How it is called.

    >>> own_outputs(network := nn.Linear(2, 3), torch.eye(2), network).shape
    torch.Size([2, 3])
    """
    with unmoved(model, x), RowWise(model, x) as rows:
        out = run(x)
    check_rows(model, x, out)
    if not rows.holds(out):
        check_all_rows(model, x, out)
    return out


def _by_vmap(model: nn.Module, x: Tensor) -> Tensor | None:
    """The outputs of examples, each a batch of its own, at about the cost of one; None where vmap cannot.

    Nor where something may keep a tensor, which is of no use outside of vmap.
    """
    if not of_libraries(model):
        return None
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError, TypeError):
        warnings.filterwarnings("ignore", "There is a performance drop")  # torch's own, of a rule it lacks
        return vmap(lambda one: model(one[None])[0])(x)
    return None


def same_row(alone: Tensor, among: Tensor) -> bool:
    """Whether an example's row of outputs is that among others, up to rounding."""
    return alone.shape == among.shape and bool(_same_rows(alone[None], among[None]))


def _same_rows(found: Tensor, expected: Tensor) -> Tensor:
    """Which rows [n, ...] are the same up to rounding, bool [n]."""
    found, expected = (value.reshape(len(value), -1) for value in (found, expected))
    rtol = TOLERANCE.get(expected.dtype, 0.1)  # in half precision a batch rounds otherwise
    size = expected.abs().nan_to_num(0.0, 0.0).mean(1, keepdim=True)  # what is not finite is named elsewhere
    near = (found - expected).abs() <= rtol * (expected.abs() + size)
    return (near | (found == expected) | (found.isnan() & expected.isnan())).all(1)


@contextmanager
def unmoved(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Refuse a network that draws at random or changes its buffers while it is run: it has no output of its own.

    Args:
        model: The network, which is run inside.
        x: Its inputs, on whose device it draws.

    Raises:
        UserError: A generator of torch, Python or NumPy, or a buffer, is not as it was.

    >>> class Noisy(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(torch.nn.functional.dropout(x, 0.5))
    >>> with unmoved(network := Noisy(2, 3), torch.eye(2)):
    ...     _ = network(torch.eye(2))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network draws at random when it is run, so that it has no output of its own: ...
    """
    places = {name: (buffer, buffer._version) for name, buffer in model.named_buffers() if not buffer.is_inference()}
    before = _generators(x.device)
    yield
    if before != _generators(x.device):
        why = "so that it has no output of its own: switch that off (F.dropout needs training=self.training)"
        raise UserError(f"the network draws at random when it is run, {why}")
    for name, buffer in model.named_buffers():
        if name in places and (buffer is not places[name][0] or buffer._version != places[name][1]):
            raise UserError(f"the network changes its buffer {name!r} when it is run: call model.eval() first")


def _generators(device: torch.device) -> list[object]:
    """The states of the generators that a network on a device may draw from: torch's, Python's and NumPy's."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    _, key, *place = cast("tuple[Any, ...]", np.random.get_state(legacy=True))
    return [*(bytes(state.numpy()) for state in states), random.getstate(), bytes(key), place]


ASKED = 32  # examples, of which a loss is asked one by one


def check_loss(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, y: Tensor, losses: Tensor) -> None:
    """Refuse a loss that mixes examples: that of one example alone must be what it is among the others.

    Every example is asked of a small batch, `ASKED` of a large one, the first and the last among them.

    Args:
        loss: Function of (logits, y).
        logits: Of all examples.
        y: Their labels or targets.
        losses: Their losses.

    >>> outputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 5.0])
    >>> squares = lambda o, t: ((o - t) ** 2).mean(1)  # [2, 1] - [2] is [2, 2]
    >>> check_loss(squares, outputs, targets, squares(outputs, targets))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the loss of example 0 is 8 among others and 0 alone: ...
    """
    for i in dict.fromkeys(torch.linspace(0, len(y) - 1, min(len(y), ASKED)).round().int().tolist()):
        alone = loss(logits[i : i + 1].detach(), y[i : i + 1]).flatten()
        among = losses[i].detach()
        if alone.shape != (1,) or not torch.allclose(alone[0], among, rtol=1e-2, atol=1e-4):
            told = f"the loss of example {i} is {float(among):.4g} among others and {float(alone.sum()):.4g} alone"
            raise UserError(f"{told}: it mixes examples (do shapes broadcast, [n, 1] with [n]?)")
