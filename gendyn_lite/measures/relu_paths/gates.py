"""Finding the ReLU-like gates of any network when they are called: modules and functions, in place or not.

All calls of torch's functions are intercepted, which finds modules too, since ``nn.ReLU`` calls ``F.relu``. So networks
that call ``F.relu``, ``torch.relu`` or ``x.relu_()`` work unchanged. A gate written by hand (``x * (x > 0)``,
``x.clamp(min=0)``) is not found; call ``F.relu`` there. Whatever else bends (GELU, softmax, a product of activations,
…) is no gate; if a network has such functions beside gates, a warning names them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from gendyn_lite.errors import UserError, shown, unknown_name
from gendyn_lite.measures.per_example.axes import Call, tensors_in
from gendyn_lite.measures.per_example.checks import check_whole, dtype_name
from gendyn_lite.measures.per_example.rowwise import RowWise
from gendyn_lite.measures.relu_paths.bending import CONSTANT, bends

GATE_MODULES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Threshold)


class Gate(NamedTuple):
    """One call of a gate: z ↦ z (at most `cap`) where a unit is on, and slope·z where it is off.

    Attributes:
        name: The layer's name.
        z: The pre-activation [n, ...]; read it before calling `run`, which may change it in place.
        run: Calls the gate as the network does, and returns its output.
        slope: Factor for units that are off: 0, or that of LeakyReLU and the like, broadcastable to z.
        cap: Largest output (ReLU6), or None.
        inplace: Whether the call overwrites z.
    """

    name: str
    z: Tensor
    run: Callable[[], Tensor]
    slope: Tensor | float
    cap: float | None
    inplace: bool

    def path(self) -> Tensor:
        """Return which units are on, bool in the shape of z."""
        return self.z > 0

    def with_path(self, path: Tensor) -> Tensor:
        """Return the output if `path` instead of z decides which units are on (Eq. 9); in place if the call is."""
        on = self.z if self.cap is None else self.z.clamp(max=self.cap)
        out = torch.where(path, on, self.slope * self.z)
        return self.z.copy_(out) if self.inplace else out


# Slope and cap of a gate, or None if the call is no gate with its kink at 0. The readers below have the signatures of
# torch's functions.
Found = tuple[Any, float | None] | None


def _rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, **_: Any) -> Found:
    return None if training else ((lower + upper) / 2, None)


def _prelu(input: Tensor, weight: Tensor) -> Found:
    return weight.view(-1, *[1] * (input.dim() - 2)) if weight.numel() > 1 else weight, None


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Found:
    return (0.0, max_val) if min_val == 0 else None


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Found:
    return (0.0, None) if threshold == value == 0 else None


READERS: dict[Any, Callable[..., Found]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), lambda *_, **__: (0.0, None)),
    F.relu6: lambda *_, **__: (0.0, 6.0),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), lambda input, negative_slope=0.01, *_, **__: (negative_slope, None)),
    **dict.fromkeys((F.rrelu, torch.rrelu, torch.rrelu_), _rrelu),
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((F.threshold, torch.threshold), _threshold),
}
OPERATIONS = ("relu", "relu6", "leaky_relu", "prelu", "_prelu_kernel")  # names of gates among ATen's operations
DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


def _drops(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: bool = True) -> bool:
    return p > 0 and training and train  # torch.dropout calls it `train`


class Gates(TorchFunctionMode):
    """A context that passes every gate that a network calls to `visit`, whose result replaces the gate's output.

    Its `enter` and `leave` must be hooks of all modules meanwhile, as in `gated.run_gated`.

    A gate that is a module has the module's name, followed by ``#2``, ``#3``, … at further calls. A gate that is a
    function has the name of the module whose forward calls it, followed by ``.relu``.

    Args:
        model: The network.
        visit: Called with each `Gate` in the order of the forward pass.
        unseen: A context, entered before, that sees what bends beside the gates; None to look for nothing.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> gates = Gates(model, lambda gate: print(gate.name, tuple(gate.z.shape)) or gate.run())
    >>> from gendyn_lite.measures.per_example.layers import hooked
    >>> with gates, hooked(model.modules(), gates.leave, gates.enter):
    ...     _ = model(torch.zeros(1, 2))
    1 (1, 3)
    """

    def __init__(self, model: nn.Module, visit: Callable[[Gate], Tensor], unseen: Unseen | None = None) -> None:
        super().__init__()
        self._visit, self._unseen = visit, unseen
        self._calls: Counter[str] = Counter()
        self._names = {module: name for name, module in model.named_modules()}
        self._inside = [model]
        self.gates, self.others = 0, dict[str, None]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `visit` for a gate, and any other function unchanged."""
        kwargs = kwargs or {}
        if func in DROPOUTS and _drops(*args, **kwargs):
            where = self._names[self._inside[-1]]
            why = "call model.eval() first, and F.dropout with training=self.training"
            raise UserError(f"dropout in {where or 'the network'!r} is in train mode: {why}")
        found = READERS[func](*args, **kwargs) if func in READERS else None
        if found is None:
            out = func(*args, **kwargs)
            if self._unseen is not None and self._unseen.bent():
                module = self._inside[-1]
                if func is not F.local_response_norm and not isinstance(module, nn.LocalResponseNorm):
                    where = self._names[module] or "the network"
                    self.others[f"{where} ({str(func.__name__).strip('_')})"] = None
            return out
        self.gates += 1
        z, function = args[0] if args else kwargs["input"], str(func.__name__)
        inplace = function.endswith("_") or kwargs.get("inplace") is True
        gate = Gate(self._name(function.strip("_")), z, partial(func, *args, **kwargs), *found, inplace)
        with nullcontext() if self._unseen is None else self._unseen.at_a_gate():
            return self._visit(gate)

    def _name(self, function: str) -> str:
        """Return the layer's name, with a number at further calls."""
        module = self._inside[-1]
        name = self._names[module]
        base = name if isinstance(module, GATE_MODULES) else f"{name}.{function}".lstrip(".")
        base = base or function
        self._calls[base] += 1
        return base if self._calls[base] == 1 else f"{base}#{self._calls[base]}"

    def warn(self) -> None:
        """Warn of nonlinear functions beside the gates, which paths do not describe."""
        if self.gates and self.others:
            told = f"paths tell of gates alone, and the network bends elsewhere too: {', '.join(self.others)}"
            warnings.warn(f"{told}: a path does not fix what the network computes", stacklevel=5)

    def enter(self, module: nn.Module, args: Any) -> None:
        """Note that a module is being called."""
        self._inside.append(module)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        """Note that the module's call has ended, with or without an error."""
        self._inside.pop()


class Unseen(RowWise):
    """A context that follows the images, and notes gates that `Gates` cannot intercept, and operations that bend.

    >>> with Unseen(nn.Identity(), x := torch.zeros(2, 3)) as unseen:
    ...     _ = torch.ops.aten.relu(x).square()
    >>> list(unseen.found), unseen.bent(), unseen.bent()
    (['relu'], True, False)
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__(model, x)
        self.found, self.inside, self._bent = dict[str, None](), False, False
        self._moving = WeakIdKeyDictionary({x: True})  # tensors that depend on the images

    def _look(self, func: Any, call: Call) -> None:
        """Note whether an operation is a gate or bends."""
        name = func.overloadpacket.__name__.rstrip("_")
        moving = [value in self._moving for value in call.tensors]
        made = list(tensors_in(call.out)) if any(moving) and name not in CONSTANT else []
        for value in made:
            self._moving[value] = True
        if not self.inside:
            if name in OPERATIONS:
                self.found[name] = None
            elif any(value.is_floating_point() for value in made):
                steps = not any(value in self._moving and value.is_floating_point() for value in call.tensors)
                self._bent |= steps or bends(func, name, moving, call.args, call.kwargs)

    def bent(self) -> bool:
        """Return whether an operation has bent since the last call of this."""
        found, self._bent = self._bent, False
        return found

    @contextmanager
    def aside(self, gate: Gate) -> Iterator[Gate]:
        """Follow the call of a gate alone inside the context; what else is computed does not reach the network."""

        def run() -> Tensor:
            self._aside = False
            try:
                return gate.run()
            finally:
                self._aside = True

        self._aside = True
        try:
            yield gate._replace(run=run)
        finally:
            self._aside = False

    @contextmanager
    def at_a_gate(self) -> Iterator[None]:
        """Mark that a gate is run that `Gates` has intercepted."""
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def warn(self) -> None:
        """Warn of the recorded operations."""
        if self.found:
            told = f"the network calls {', '.join(self.found)} where gates are not seen (torch.jit, torch.ops)"
            warnings.warn(f"{told}: paths leave them out; call F.relu or the like there", stacklevel=5)


def uncompiled(model: nn.Module) -> nn.Module:
    """Return the original network inside ``torch.compile``, whose gates can be intercepted."""
    if not isinstance(model, nn.Module):
        raise UserError(f"the network is a {type(model).__name__}, expected a torch.nn.Module")
    return getattr(model, "_orig_mod", model)


def check_images(x: Tensor, batch_size: int = 1) -> None:
    """Refuse x unless it is a tensor [n, ...] of floating point with n ≥ 1."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        told = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"x is {told}, expected images [n, ...] with n ≥ 1")
    if not x.is_floating_point():
        raise UserError(f"x is {dtype_name(x)}: standardize it as in training (data.batcher gives such batches)")
    check_whole("batch_size", batch_size)


def check_layers(model: nn.Module, seen: Sequence[str], layers: Sequence[str] | None) -> None:
    """Refuse a network without gates, unknown names of layers, and no names."""
    if not seen:
        others = {type(m).__name__ for m in model.modules() if type(m).__module__.endswith("modules.activation")}
        has = f" (its activations: {', '.join(sorted(others))})" if others else ""
        raise UserError(f"the network has no gates{has}: paths need ReLU, LeakyReLU or the like (modules, or F.relu)")
    if isinstance(layers, str) or (layers is not None and not layers):
        raise UserError(f"layers is {shown(layers)}, expected a list of names, at least one, or None for all")
    for name in layers or ():
        if name not in seen:
            raise unknown_name("gate layer", name, seen)
