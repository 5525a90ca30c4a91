"""What per-example measures ask of memory, of a network, its inputs and its labels: each refused in one line."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable
from numbers import Real
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gendyn_lite.config import shown
from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.layers import mixes_examples


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be taken on a device, or None where the system does not say.

    On a CPU: what the kernel calls available, and no more than a container's limit leaves.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _linux_available()
    if free is None:
        try:
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
        except (AttributeError, ValueError, OSError):
            return None
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def refuse_if_too_large(
    needed: int, what: str, advice: str, *, device: torch.device | str = "cpu", memory_limit: int | None = None
) -> None:
    """Refuse work that would not fit, with the estimate and what to do.

    Args:
        needed: Bytes that the work takes.
        what: What takes them, for instance ``"the Gram matrix of 60,000 points"``.
        advice: What to do instead.
        device: Where the work would run.
        memory_limit: Bytes to stay under instead of what is free on the device.

    Raises:
        UserError: More is needed than there is.

    >>> refuse_if_too_large(8 * 10**9, "the matrix", "use fewer points", memory_limit=10**9)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the matrix takes 8.0 GB, 1.0 GB are free on cpu: use fewer points
    """
    free = available_memory(device) if memory_limit is None else memory_limit
    if free is not None and needed > free:
        raise UserError(
            f"{what} takes {gigabytes(needed)}, {gigabytes(free)} are free on {torch.device(device)}: {advice}"
        )


def gigabytes(size: int) -> str:
    """Bytes as text in GB (10⁹ bytes), with MB below a tenth of one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _linux_available() -> int | None:
    """MemAvailable of Linux in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(values[0]) * 1024 if values else None


def _number(path: str) -> int | None:
    """The number in a file of the control group, or None where there is no file or no limit."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


COPIES = 2  # what autograd keeps of a layer's output, and what is on its way

_known: WeakKeyDictionary[nn.Module, dict[object, int]] = WeakKeyDictionary()


def activation_bytes(model: nn.Module, x: Tensor) -> int:
    """About how many bytes one example takes between the forward and the backward pass.

    >>> activation_bytes(nn.Linear(3, 2), torch.zeros(5, 3))
    40
    """
    sizes, key = _known.setdefault(model, {}), (x.shape[1:], x.dtype)
    if key not in sizes:
        outputs: list[int] = []

        def look(module: nn.Module, args: Any, kwargs: Any, out: object) -> None:
            if isinstance(out, Tensor):
                outputs.append(out.numel() * out.element_size())

        _run_one(model, x, [part for part in model.modules() if not list(part.children())], look)
        sizes[key] = COPIES * (sum(outputs) + x[0].numel() * x.element_size())
    return sizes[key]


def check_model(model: nn.Module) -> None:
    """Refuse a network in which an example has no gradient of its own, or that draws at random.

    Raises:
        UserError: Batch-norm or dropout in train mode, batch-norm without running statistics, or nothing to train.

    >>> check_model(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: '1' (Dropout) is in train mode and draws at random: call model.eval() first
    """
    for name, module in model.named_modules():
        told = f"{name!r} ({type(module).__name__})"
        if mixes_examples(module):
            if module.training:
                raise UserError(
                    f"{told} is in train mode, where an example's loss depends on its batch and has no gradient of its "
                    "own: call model.eval() first"
                )
            raise UserError(f"{told} keeps no running statistics, so each example depends on its batch: replace it")
        if module.training and ((isinstance(module, _DropoutNd) and module.p > 0) or isinstance(module, nn.RReLU)):
            raise UserError(f"{told} is in train mode and draws at random: call model.eval() first")
    if any(value.is_inference() for value in model.parameters()):
        raise UserError("the network was made under torch.inference_mode: make it outside of it")
    if not any(value.requires_grad for value in model.parameters()):
        raise UserError("the network has no parameter that requires a gradient: there is no gradient to measure")


def check_whole(name: str, value: object, *, least: int = 1, optional: bool = False) -> None:
    """Refuse what is no whole number of at least `least` (or None, where that is allowed).

    >>> check_whole("block", 0, optional=True)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: block is 0, expected a whole number of at least 1, or None
    """
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(
            f"{name} is {shown(value)}, expected a whole number of at least {least}{', or None' if optional else ''}"
        )


def check_examples(model: nn.Module, x: Tensor, y: Tensor, *, least: int = 2, name: str = "") -> None:
    """`check_model`, and refuse inputs and labels that do not fit together, or not to the network.

    Args:
        model: The network.
        x: Inputs [n, ...].
        y: Labels [n], or targets [n, ...] of a loss of one's own.
        least: Fewest examples.
        name: What to call the set in an error, for instance ``"other: "``.
    """
    check_model(model)
    if len(x) != len(y):
        raise UserError(f"{name}x has {len(x)} examples and y {len(y)}: expected one label for each example")
    if len(x) < least:
        raise UserError(f"{name}x has {len(x)} example{'' if len(x) == 1 else 's'}, expected at least {least}")
    first = next(value for value in model.parameters() if value.requires_grad)
    for what, value in (("x", x), ("y", y)):
        if value.device != first.device:
            raise UserError(
                f"{name}{what} is on {value.device} and the network on {first.device}: move one of them (.to(...))"
            )
    if x.is_floating_point() and x.dtype != first.dtype:
        raise UserError(f"{name}x is {_short(x.dtype)} and the network {_short(first.dtype)}: convert one of them")
    if x.dtype == torch.uint8:
        raise UserError(f"{name}x is uint8: standardize it as in training (data.batcher gives such batches)")


def check_alone(model: nn.Module, x: Tensor) -> None:
    """Refuse a network that mixes the examples of a batch, so that none has a gradient of its own.

    The output of the second of two examples must not depend on the first: its derivative is exactly 0, to the bit,
    which no rounding spoils. Inputs that are no floating-point numbers, or one example, show nothing.

    >>> class Centred(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x - x.mean(0))
    >>> check_alone(Centred(2, 3), torch.eye(2))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network mixes the examples of a batch: ...
    """
    if len(x) < 2 or not x.is_floating_point():
        return
    with torch.inference_mode(False), torch.enable_grad():
        two = x[:2].detach().clone().requires_grad_()
        try:
            second = model(two.clone())[1].flatten()
            found = torch.autograd.grad(second @ torch.linspace(1, 2, len(second)).to(second), two, allow_unused=True)
        except RuntimeError:  # an operation without a derivative with respect to the inputs
            return
    if found[0] is not None and (found[0][0].abs() > 0).any():
        raise UserError(
            "the network mixes the examples of a batch: an example's output depends on the others, so that it has no "
            "gradient of its own"
        )


def check_eps(eps: float) -> None:
    """Refuse what is no step size."""
    if isinstance(eps, bool) or not isinstance(eps, Real | Tensor) or not 0 < eps < math.inf:
        raise UserError(f"eps is {eps!r}, expected a step size above 0 and finite")


def usable(x: Tensor) -> Tensor:
    """The tensor, or a copy where it was made under ``torch.inference_mode`` and autograd could not save it."""
    return x.clone() if x.is_inference() else x


def check_logits(logits: Tensor, y: Tensor, classes: bool) -> None:
    """Refuse logits that are no [n, classes], and labels that are no class of theirs.

    Args:
        logits: What the network gave.
        y: Labels.
        classes: Whether y are labels of the cross-entropy; else a loss of one's own judges.
    """
    if not isinstance(logits, Tensor) or logits.dim() < 1 or len(logits) != len(y):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"the network gives {shape} for {len(y)} examples, expected an output for each of them")
    if not classes:
        return
    if logits.dim() != 2:
        raise UserError(f"the network gives logits of shape {tuple(logits.shape)}, expected [n, classes]")
    if y.dtype != torch.int64 or y.dim() != 1:
        raise UserError(f"labels are {_short(y.dtype)} {list(y.shape)}, expected int64 [n]")
    low, high = (int(value) for value in torch.aminmax(y))
    if low < 0 or high >= logits.shape[1]:
        raise UserError(
            f"labels span {low} to {high}, expected 0 to {logits.shape[1] - 1}: the network has {logits.shape[1]} "
            "classes"
        )


def examples_in_front(model: nn.Module, x: Tensor, modules: Collection[nn.Module]) -> dict[nn.Module, bool]:
    """Whether modules read and give the examples along the first axis, seen by what one example alone gives them.

    A batch does not tell: in sequences [length, examples, width] of as many places as there are examples it looks so.

    >>> model = nn.Linear(3, 2)
    >>> list(examples_in_front(model, torch.zeros(5, 3), [model]).values())
    [True]
    """
    found = dict.fromkeys(modules, True)

    def look(module: nn.Module, args: Any, kwargs: Any, out: Tensor) -> None:
        given = args[0] if args else next(iter(kwargs.values()))
        found[module] &= len(given) == len(out) == 1

    if modules:
        _run_one(model, x, modules, look)
    return found


def _run_one(model: nn.Module, x: Tensor, modules: Iterable[nn.Module], look: Callable[..., None]) -> None:
    """Run the network on the first example and let `look` see every call of the modules."""
    handles = [module.register_forward_hook(look, with_kwargs=True) for module in modules]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()


def check_finite(squared_norms: Tensor, *, what: str = "gradient", resolved: bool = False) -> None:
    """Refuse gradients that are not finite, naming the first example.

    Args:
        squared_norms: Squared norm of each example's gradient, [n].
        what: What they are the norms of.
        resolved: Whether to refuse too that all are so small that the number format has lost their digits.
    """
    wrong = (~torch.isfinite(squared_norms)).nonzero().flatten().tolist()
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        if squared_norms.dtype == torch.float64:
            raise UserError(f"the {what} of example {wrong[0]}{more} is not finite: has training diverged?")
        raise UserError(
            f"the {what} of example {wrong[0]}{more} is not finite, or its square is beyond "
            f"{_short(squared_norms.dtype)}: has training diverged? If not, measure in float64 (model.double())"
        )
    if resolved and 0 < (most := float(squared_norms.max())) < torch.finfo(squared_norms.dtype).tiny:
        raise UserError(
            f"the largest squared {what} is {most:.0e}, too small for {_short(squared_norms.dtype)}: measure in "
            "float64 (model.double()), or in other units"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
