"""The layers of a network that have a formula for per-example gradients, and their parameters."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.per_example.alone import no_fast_path
from gendyn_lite.measures.per_example.checks import dtype_name, in_a_line
from gendyn_lite.measures.per_example.kinds import kind_of
from gendyn_lite.models.logits import unwritten


class Layer(NamedTuple):
    """A weight and bias whose per-example gradients follow from the inputs and output gradients of their modules.

    Attributes:
        name: Name in `named_modules` of the first module that holds them; the network itself is ``"model"``.
        kind: ``"affine"`` (linear, convolution), ``"scale"`` (normalization) or ``"embedding"``.
        modules: All modules that use them; more than one if the parameters are shared.
        weight: Name of the weight, or None.
        bias: Name of the bias, or None.
    """

    name: str
    kind: str
    modules: tuple[nn.Module, ...]
    weight: str | None = None
    bias: str | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the layer's parameters."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)


class Use(NamedTuple):
    """One call of a module: its input and the gradient of the summed loss at its output, example axis first."""

    module: nn.Module
    a: Tensor
    z: Tensor


@dataclass
class Plan:
    """How to compute the per-example gradient of each trainable parameter of a network.

    Attributes:
        layers: Layers with a formula.
        without_formula: Names of the parameters that need `torch.func`.
        names: Name of each trainable parameter, by its id.
        any_layout: Whether the network has convolutions and accepts channels-last images, which are faster on a CPU.
        outside: Names of further parameters that were found, in a pass, to need `torch.func`.
        alone: Whether the network was found not to mix examples.
        used: Names of the parameters on which the loss of an example depends, or None if none was examined.
        traces: The operations of a batch that was checked (`RowWise.trace`), by the shape of its inputs.
        announced: Names of the parameters without a formula that a warning has already named.
    """

    layers: tuple[Layer, ...]
    without_formula: tuple[str, ...]
    names: dict[int, str]
    any_layout: bool = False
    outside: set[str] = field(default_factory=set)
    alone: bool = False
    used: frozenset[str] | None = None
    traces: dict[torch.Size, list[object]] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)


def plan(model: nn.Module, only: Collection[str] | None = None) -> Plan:
    """Group the trainable parameters (those with requires_grad) of a network into layers.

    A weight and a bias used by the same modules form one layer. A parameter that is shared in any other way is a layer
    of its own.

    Args:
        model: The network.
        only: Names of the layers to include; None for all.

    >>> [layer.name for layer in plan(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))).layers]
    ['0', '2']
    """
    trainable = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    names = {id(value): name for name, value in trainable if only is None or layer_name(name) in only}
    users: defaultdict[int, list[tuple[nn.Module, str | None, str]]] = defaultdict(list)
    for module in model.modules():
        kind = None if module._forward_hooks else kind_of(module)  # a hook may change the output
        for role, value in module.named_parameters(recurse=False, remove_duplicate=False):
            users[id(value)].append((module, kind, role))
    empty = {id(value) for _, value in trainable if not value.numel()}
    layers: dict[tuple[nn.Module, ...], Layer] = {}
    without = []
    for key, name in names.items():
        modules, kinds, roles = zip(*users[key], strict=True)
        kind, role = kinds[0], roles[0]
        groups = [getattr(module, "groups", 1) for module in modules]
        several = len(set(zip(kinds, roles, groups, strict=True))) > 1
        if several or kind is None or role not in ("weight", "bias") or key in empty:
            without.append(name)
        else:  # a weight and a bias of the same modules share an entry
            layers[modules] = layers.get(modules, Layer(layer_name(name), kind, modules))._replace(**{role: name})
    return Plan(tuple(layers.values()), tuple(without), names, _takes_any_layout(model))


def _takes_any_layout(model: nn.Module) -> bool:
    """Return whether a network has convolutions and only modules of torch and ours; others may call `Tensor.view`.

    >>> _takes_any_layout(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())), _takes_any_layout(nn.Linear(3, 8))
    (True, False)
    """
    modules = list(model.modules())
    known = all(type(module).__module__.startswith(("torch.nn.", "gendyn_lite.models.")) for module in modules)
    return known and any(isinstance(module, nn.Conv2d) for module in modules)


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module has hooks of its forward pass, which may compute anything."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def layer_name(parameter: str) -> str:
    """Return the name of a parameter's module; the network itself is ``"model"``.

    >>> layer_name("block1.conv.weight"), layer_name("weight")
    ('block1.conv', 'model')
    """
    return parameter.rpartition(".")[0] or "model"


def first_trainable(model: nn.Module) -> nn.Parameter:
    """Return the first parameter with requires_grad, which has the device and dtype of the network."""
    return next(value for value in model.parameters() if value.requires_grad)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which products of gradients are summed: float64 for float64, else float32.

    >>> wide(torch.bfloat16), wide(torch.float64)
    (torch.float32, torch.float64)
    """
    return dtype if dtype == torch.float64 else torch.float32


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers with trainable parameters, in the order of the network.

    Args:
        model: The network.

    Returns:
        Names as in `named_modules`; the network itself is ``"model"``.

    >>> layer_names(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    ('0', '2')
    """
    return tuple(dict.fromkeys(layer_name(name) for name, value in model.named_parameters() if value.requires_grad))


def warn(names: Sequence[str], model: nn.Module) -> None:
    """Warn that the gradients of some parameters are computed by `torch.func` and stored; name their layers."""
    modules = dict(model.named_modules())
    layers = dict.fromkeys(map(layer_name, names))
    told = ", ".join(f"{layer} ({type(modules.get(layer, model)).__name__})" for layer in layers)
    message = f"no formula for {told}: per-example gradients there by torch.func, which is slower and stores them"
    warnings.warn(message, stacklevel=4)


Hook = Callable[..., Any]


@contextmanager
def hooked(modules: Iterable[nn.Module], after: Hook, before: Hook | None = None, **options: bool) -> Iterator[None]:
    """Register `before(module, args)` and `after(module, args, kwargs, output)` as hooks, inside the context only."""
    with ExitStack() as stack:
        for module in modules:
            if before:
                stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after, with_kwargs=True, **options).remove)
        yield


COPIES = 2  # of a layer's output: one that autograd keeps, and one in use


class Seen(NamedTuple):
    """What running one example alone shows about a network.

    Attributes:
        bytes: Approximate memory of the example between the forward and the backward pass.
        elsewhere: Ids of the modules that do not have the examples on the first axis of their input and output. A batch
            would not show this: in [length, examples, width] the first axis can have the size of the batch by chance.
    """

    bytes: int
    elsewhere: frozenset[int]


def _run_one(model: nn.Module, x: Tensor) -> None:
    """Run the first example by itself, refused in one line where the network does not take it."""
    one = x[:1].clone()
    told = f"the network does not take one example of shape {tuple(x.shape[1:])} ({dtype_name(x)}) by itself"
    with in_a_line(told), unwritten(one):
        try:
            model(one)
        except RuntimeError as error:
            if x.dtype == torch.float64 and "dtype" in str(error):  # of influence's copy, where the network has another
                why = "make what it computes with like its input (x.new_zeros, not torch.zeros), without .float()"
                raise UserError(f"{told}: {first_line(error)}: {why}") from error
            raise


_known: WeakKeyDictionary[nn.Module, dict[object, Seen]] = WeakKeyDictionary()


def seen(model: nn.Module, x: Tensor) -> Seen:
    """Run the first example through a network and inspect every module, once for each shape of inputs.

    >>> seen(nn.Linear(3, 2), torch.zeros(5, 3))
    Seen(bytes=40, elsewhere=frozenset())
    """
    key = x.shape[1:], x.dtype, tuple(map(id, model.modules()))
    known = _known.setdefault(model, {})
    if key not in known:
        sizes, elsewhere = [x[0].numel() * x.element_size()], set()

        def look(module: nn.Module, args: Any, kwargs: Any, out: object) -> None:
            if isinstance(out, Tensor) and not list(module.children()):
                sizes.append(out.numel() * out.element_size())
            if isinstance(out, Tensor) and kind_of(module) is not None:
                given = args[0] if args else next(iter(kwargs.values()))
                if not given.shape[:1] == out.shape[:1] == (1,):
                    elsewhere.add(id(module))

        with torch.no_grad(), no_fast_path(), hooked(model.modules(), look):
            _run_one(model, x)
        known[key] = Seen(COPIES * sum(sizes), frozenset(elsewhere))
    return known[key]
