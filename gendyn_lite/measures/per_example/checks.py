"""Checks of memory, names, numbers, logits, labels and gradients; each error message is one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from gendyn_lite.config import shown
from gendyn_lite.errors import UserError, first_line, unknown_name

# Relative difference in float64 between what a network gives for an example in one batch and in another, at most.
ROUNDING = 8 * torch.finfo(torch.float64).eps


def available_memory(device: torch.device | str = "cpu") -> int:
    """Return the free memory of a device; on a CPU, at most what the limit of a container leaves.

    Args:
        device: ``"cpu"`` or a GPU.

    Returns:
        The number of bytes.

    >>> available_memory() > 0
    True
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def refuse_if_too_large(needed: int, what: str, advice: str, *, device: torch.device | str = "cpu") -> None:
    """Refuse work that does not fit into the free memory, with an estimate of its size and advice.

    Args:
        needed: Bytes that the work needs.
        what: What needs them, for instance ``"the Gram matrix of 60,000 points"``.
        advice: What to do instead.
        device: Where the work would run.

    Raises:
        UserError: More memory is needed than is free.

    >>> refuse_if_too_large(8 * 10**18, "the matrix", "use fewer points")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the matrix takes 8000000000.0 GB, ... GB are free on cpu: use fewer points
    """
    free = available_memory(device)
    if needed > free:
        sizes = f"{gigabytes(needed)}, {gigabytes(free)} are free on {torch.device(device)}"
        raise UserError(f"{what} takes {sizes}: {advice}")


def gigabytes(size: int) -> str:
    """Format a number of bytes in GB (10⁹ bytes), or in MB below 0.1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _number(path: str) -> int | None:
    """Read the number in a file of the control group; None if there is no such file, or no limit."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def check_name(kind: str, name: object, known: Collection[str]) -> None:
    """Refuse an unknown name, and list the valid ones.

    >>> check_name("precision", "float8", ["float32", "bfloat16"])
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: unknown precision 'float8': did you mean 'float32'? Valid: float32, bfloat16
    """
    if name not in known:
        raise unknown_name(kind, name, known)


def check_whole(
    name: str, value: object, *, least: int = 1, most: int | None = None, optional: bool = False, why: str = ""
) -> None:
    """Refuse anything but a whole number in a range, or None where that is allowed.

    Args:
        name: Name of the value in the message.
        value: The value.
        least: Smallest number allowed.
        most: Largest number allowed; None for no limit.
        optional: Whether None is allowed.
        why: What the message adds after the range.

    Raises:
        UserError: The value is anything else.

    >>> check_whole("block", 0, optional=True)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: block is 0, expected a whole number of at least 1, or None
    """
    if optional and value is None:
        return
    highest = math.inf if most is None else most
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= highest:
        span = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        told = f"expected a whole number {span}{why}{', or None' if optional else ''}"
        raise UserError(f"{name} is {shown(value)}, {told}")


def check_number(
    name: str, value: object, expected: str, fits: Callable[[Any], bool] = lambda value: 0 < value < math.inf
) -> None:
    """Refuse anything but a number in the expected range.

    Args:
        name: Name of the value in the message.
        value: The value.
        expected: The range in words.
        fits: Function that returns whether a number is in the range; by default, whether it is positive and finite.

    Raises:
        UserError: The value is anything else.

    >>> check_number("width", -1, "a number above 0")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: width is -1, expected a number above 0
    """
    if isinstance(value, bool) or not isinstance(value, Real | Tensor) or not fits(value):
        raise UserError(f"{name} is {shown(value)}, expected {expected}")


def usable(x: Tensor) -> Tensor:
    """Return the tensor, or a copy if it was made under ``torch.inference_mode``, which autograd cannot save."""
    return x.clone() if x.is_inference() else x


def check_logits(logits: Tensor, y: Tensor, labelled: bool) -> None:
    """Refuse logits that are not [n, classes] with two or more classes, and labels outside of these classes.

    Args:
        logits: The network's output.
        y: Labels [n].
        labelled: Whether y contains labels for the cross-entropy. If not, only the number of outputs is checked, and
            the custom loss must judge the rest.

    Raises:
        UserError: The logits or the labels do not fit.
    """
    if not isinstance(logits, Tensor) or logits.dim() < 1 or len(logits) != len(y):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        told = f"the network gives {shape} for {len(y)} examples, expected an output for each of them"
        raise UserError(f"{told}; of a tuple or dict take one with output=lambda out: out[0]")
    if not labelled:
        return
    if logits.dim() != 2:
        raise UserError(f"the network gives logits of shape {tuple(logits.shape)}, expected [n, classes]")
    if logits.shape[1] < 2:
        why = "whose softmax is 1 and whose cross-entropy is 0, whatever the label"
        raise UserError(f"the network has one output, {why}: measure with a loss= of your own")
    if y.dtype != torch.int64 or y.dim() != 1:
        raise UserError(f"labels are {dtype_name(y)} {list(y.shape)}, expected int64 [n]")
    low, high = (int(value) for value in torch.aminmax(y))
    if low < 0 or high >= logits.shape[1]:
        classes = logits.shape[1]
        raise UserError(f"labels span {low} to {high}, expected 0 to {classes - 1}: the network has {classes} classes")


def check_finite(squared_norms: Tensor, *, first: int = 0, resolved: bool = False) -> None:
    """Refuse gradients that are not finite, and name the first such example.

    Args:
        squared_norms: Squared norm of each example's gradient, [n].
        first: Number of the first of these examples.
        resolved: Whether to refuse also gradients that are all so small that the squares have lost digits.

    Raises:
        UserError: A gradient is not finite, or (if `resolved`) all are too small.
    """
    least, most = map(float, torch.aminmax(squared_norms)) if len(squared_norms) else (0.0, 0.0)
    if not (math.isfinite(least) and math.isfinite(most)):
        wrong = (~torch.isfinite(squared_norms)).nonzero().flatten().tolist()
        which = f"{first + wrong[0]} and {len(wrong) - 1} more" if len(wrong) > 1 else first + wrong[0]
        told, why = f"the gradient of example {which} is not finite", "has training diverged?"
        if squared_norms.dtype == torch.float64:
            raise UserError(f"{told}: {why}")
        beyond = f"or its square is beyond {dtype_name(squared_norms)}"
        raise UserError(f"{told}, {beyond}: {why} If not, measure in float64 (model.double())")
    if resolved and 0 < most < torch.finfo(squared_norms.dtype).tiny:
        told = f"the largest squared gradient is {most:.0e}, too small for {dtype_name(squared_norms)}"
        raise UserError(f"{told}: measure in float64 (model.double()), or in other units")


@contextmanager
def in_a_line(told: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Tell in one line whatever somebody's code raises inside the context.

    Args:
        told: What was wrong, before the error's own first line.
        but: Further kinds of errors that are left to the caller; ours and missing memory are.

    Raises:
        UserError: In place of another exception.

    >>> with in_a_line("the network has no backward pass"):
    ...     raise KeyError("x")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network has no backward pass: 'x'
    """
    try:
        yield
    except (UserError, torch.OutOfMemoryError, *but):
        raise
    except Exception as error:
        raise UserError(f"{told}: {first_line(error)}") from error


def dtype_name(value: Tensor | torch.dtype) -> str:
    """Return the name of a dtype, or of a tensor's dtype, without its module: ``float32``."""
    return str(getattr(value, "dtype", value)).removeprefix("torch.")
