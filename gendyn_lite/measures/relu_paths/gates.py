"""ReLU-like gates of any network, seen as they are called: modules and functions, in place or not.

One look at every call of torch's functions finds them all, since ``nn.ReLU`` itself calls ``F.relu``. So a network that
calls ``F.relu``, ``torch.relu`` or ``x.relu_()`` needs no change; a gate written by hand (``x * (x > 0)``,
``x.clamp(min=0)``) is not seen: call ``F.relu`` there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.per_example.checks import check_whole

GATE_MODULES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Threshold)


@dataclass(frozen=True)
class Gate:
    """One call of a gate: z ↦ z (at most `cap`) where a unit is on, slope·z where it is off.

    Attributes:
        name: The layer's name.
        z: The pre-activation [n, ...]; read it before `run`, which may change it in place.
        run: Calls the gate as the network does and gives its output.
        slope: Factor of a unit that is off: 0, or LeakyReLU's and its like, broadcastable to z.
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
        """Which units are on, bool, in the shape of z."""
        return self.z > 0

    def with_path(self, path: Tensor) -> Tensor:
        """The output with units on as `path` says and not as z does (Eq. 9); in place if the network's call is."""
        on = self.z if self.cap is None else self.z.clamp(max=self.cap)
        out = torch.where(path, on, self.slope * self.z)
        return self.z.copy_(out) if self.inplace else out


def _value(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _rrelu(args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    if _value(args, kwargs, 3, "training", False):
        return None
    lower, upper = _value(args, kwargs, 1, "lower", 1 / 8), _value(args, kwargs, 2, "upper", 1 / 3)
    return (lower + upper) / 2, None


def _prelu(args: Any, kwargs: Any) -> tuple[Any, Any]:
    z, weight = _value(args, kwargs, 0, "input", None), _value(args, kwargs, 1, "weight", None)
    return weight.view(-1, *[1] * (z.dim() - 2)) if weight.numel() > 1 else weight, None


def _hardtanh(args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    low, high = _value(args, kwargs, 1, "min_val", -1.0), _value(args, kwargs, 2, "max_val", 1.0)
    return (0.0, high) if low == 0 else None


# A function of torch → what its arguments say of slope and cap, or None where this call is no gate at 0.
READERS: dict[Any, Callable[[Any, Any], tuple[Any, Any] | None]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), lambda args, kwargs: (0.0, None)),
    F.relu6: lambda args, kwargs: (0.0, 6.0),
    **dict.fromkeys(
        (F.leaky_relu, F.leaky_relu_), lambda args, kwargs: (_value(args, kwargs, 1, "negative_slope", 0.01), None)
    ),
    **dict.fromkeys((F.rrelu, torch.rrelu, torch.rrelu_), _rrelu),
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((F.threshold, torch.threshold), lambda args, kwargs: (0.0, None) if args[1:3] == (0, 0) else None),
}
DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


class Gates(TorchFunctionMode):
    """While entered, every gate that a network calls is handed to `visit`, whose result takes the place of its output.

    A gate that is a module has the module's name, with ``#2``, ``#3``, … at its further calls; a functional one has the
    name of the module whose forward calls it, then ``.relu``.

    Args:
        model: The network.
        visit: Receives each `Gate` in the order of the forward pass.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with Gates(model, lambda gate: print(gate.name, tuple(gate.z.shape)) or gate.run()):
    ...     _ = model(torch.zeros(1, 2))
    1 (1, 3)
    """

    def __init__(self, model: nn.Module, visit: Callable[[Gate], Tensor]) -> None:
        super().__init__()
        self._model, self._visit = model, visit
        self._calls: Counter[str] = Counter()
        self._inside: list[tuple[str, nn.Module]] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Gates:
        """Look at every function from here on."""
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._entering(name)))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Leave the network as it was."""
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `visit` for a gate, and everything else as it is."""
        kwargs = kwargs or {}
        reader = READERS.get(func)
        found = None if reader is None else reader(args, kwargs)
        if found is None:
            if func in DROPOUTS and _value(args, kwargs, 2, "training", True) and _value(args, kwargs, 1, "p", 0.5):
                where = self._inside[-1][0] if self._inside else ""
                raise UserError(f"dropout in {where or 'the network'!r} is in train mode: call model.eval() first")
            return func(*args, **kwargs)
        slope, cap = found
        gate = Gate(
            name=self._name(str(func.__name__).strip("_")),
            z=_value(args, kwargs, 0, "input", None),
            run=lambda: func(*args, **kwargs),
            slope=slope,
            cap=cap,
            inplace=str(func.__name__).endswith("_") or kwargs.get("inplace") is True,
        )
        return self._visit(gate)

    def _name(self, function: str) -> str:
        """The layer's name; of a further call with its number."""
        module_name, module = self._inside[-1] if self._inside else ("", self._model)
        base = module_name if isinstance(module, GATE_MODULES) else f"{module_name}.{function}".lstrip(".")
        base = base or function
        self._calls[base] += 1
        return base if self._calls[base] == 1 else f"{base}#{self._calls[base]}"

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            self._inside.append((name, module))

        return enter

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._inside and self._inside[-1][1] is module:
            self._inside.pop()


def uncompiled(model: nn.Module) -> nn.Module:
    """The network inside of ``torch.compile``, whose gates can be seen."""
    return getattr(model, "_orig_mod", model)


def check_images(x: Tensor, batch_size: int = 1) -> None:
    """Refuse what are no images in floating point."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        told = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"x is {told}, expected images [n, ...] with n ≥ 1")
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise UserError(f"x is {kind}: standardize it as in training (data.batcher gives such batches)")
    check_whole("batch_size", batch_size)


def check_eval(model: nn.Module) -> None:
    """Refuse a network whose gates depend on chance or on the batch."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, _DropoutNd | _BatchNorm):
            why = "drops units at random" if isinstance(module, _DropoutNd) else "depends on the batch"
            raise UserError(
                f"{name!r} ({type(module).__name__}) is in train mode, where a path {why}: call model.eval() first"
            )


def check_layers(model: nn.Module, seen: Sequence[str], layers: Sequence[str] | None) -> None:
    """Refuse a network without gates, and names of layers that it does not have."""
    if not seen:
        others = sorted(
            {type(m).__name__ for m in model.modules() if type(m).__module__.endswith("modules.activation")}
        )
        has = f" (its activations: {', '.join(others)})" if others else ""
        raise UserError(
            f"the network has no gates{has}: paths need ReLU, LeakyReLU or the like, as modules or as F.relu(...)"
        )
    for name in layers or ():
        if name not in seen:
            raise unknown_name("gate layer", name, seen)
