"""Which layers of a network have a formula for the gradient of one example's loss, and which parameters each holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d)
SCALE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Layer:
    """Parameters whose per-example gradient follows from the inputs and output gradients of the modules that use them.

    Attributes:
        name: The first module that holds them, as `named_modules` calls it; the network itself is ``"model"``.
        kind: ``"affine"`` (linear, convolution), ``"scale"`` (normalization) or ``"embedding"``.
        modules: Every module that uses them: more than one where parameters are shared.
        weight: Name of the weight that this layer stands for, or None.
        bias: Name of the bias, or None.
    """

    name: str
    kind: str
    modules: tuple[nn.Module, ...]
    weight: str | None
    bias: str | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of its parameters."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)


@dataclass(frozen=True)
class Plan:
    """How each trainable parameter of a network gets its per-example gradient.

    Attributes:
        layers: Layers with a formula.
        without_formula: Names of the parameters that need `torch.func`.
        names: Name of each trainable parameter, by its id.
        any_layout: Whether it has convolutions and takes pictures with channels last, which on a CPU costs less time.
        in_front: Whether a module reads and gives the examples along the first axis, of those that have been looked at.
        checked: ``"alone"`` once the network has been seen not to mix examples.
        announced: Names of the parameters without a formula that a warning has named.
    """

    layers: tuple[Layer, ...]
    without_formula: tuple[str, ...]
    names: dict[int, str]
    any_layout: bool = False
    in_front: dict[nn.Module, bool] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    announced: set[str] = field(default_factory=set)


def plan(model: nn.Module) -> Plan:
    """Sort the trainable parameters (those with requires_grad) of a network into layers.

    A weight and a bias that the same modules use are one layer; a parameter shared in any other way is one of its own.

    >>> [layer.name for layer in plan(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))).layers]
    ['0', '2']
    """
    names = {id(value): name for name, value in model.named_parameters() if value.requires_grad}
    users: defaultdict[int, list[nn.Module]] = defaultdict(list)
    roles: defaultdict[int, set[str]] = defaultdict(set)
    for module in model.modules():
        for role, value in _own_parameters(module):
            if id(value) in names:
                users[id(value)].append(module)
                roles[id(value)].add(f"{kind_of(module)} {role}")
    layers: dict[Any, Layer] = {}
    without = []
    for key, name in names.items():
        kind, _, role = next(iter(roles[key])).partition(" ")
        if len(roles[key]) > 1 or kind == "None" or role not in ("weight", "bias"):
            without.append(name)
            continue
        modules = tuple(users[key])
        # A weight and a bias of the same modules share an entry, unless two parameters would take one place in it.
        place = tuple(map(id, modules))
        found = layers.get(place) or Layer(layer_name(name), kind, modules, None, None)
        values = {"weight": found.weight, "bias": found.bias, role: name}
        layers[place] = Layer(found.name, kind, modules, values["weight"], values["bias"])
    return Plan(tuple(layers.values()), tuple(without), names, _takes_any_layout(model))


def _takes_any_layout(model: nn.Module) -> bool:
    """Whether a network has convolutions and only modules of torch and of ours; another's may call `Tensor.view`.

    >>> _takes_any_layout(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())), _takes_any_layout(nn.Linear(3, 8))
    (True, False)
    """
    modules = list(model.modules())
    known = all(type(module).__module__.startswith(("torch.nn.", "gendyn_lite.models.")) for module in modules)
    return known and any(isinstance(module, nn.Conv2d) for module in modules)


def kind_of(module: nn.Module) -> str | None:
    """``"affine"``, ``"scale"``, ``"embedding"``, or None for a module without a formula.

    A subclass counts as its base only while it computes as its base does.

    >>> kind_of(nn.Conv2d(3, 8, 3)), kind_of(nn.LSTM(3, 8))
    ('affine', None)
    """
    kinds = chain(((c, "affine") for c in AFFINE), ((c, "scale") for c in SCALE), [(nn.Embedding, "embedding")])
    for base, kind in kinds:
        if isinstance(module, base) and _computes_as(module, base):
            if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
                return None
            return kind
    return None


def fewest_axes(module: nn.Module) -> int:
    """Fewest axes of an input that has an example axis."""
    return {nn.Embedding: 1, nn.Conv1d: 3, nn.Conv2d: 4}.get(type(module), 2)


def places(module: nn.Module, shape: torch.Size) -> torch.Size:
    """Sizes of the axes of an input, the first one left out, along which a module does the same.

    >>> places(nn.Linear(5, 2), torch.Size((3, 4, 5))), places(nn.Conv2d(2, 1, 1), torch.Size((3, 2, 7, 8)))
    (torch.Size([4]), torch.Size([7, 8]))
    """
    if isinstance(module, nn.Linear):
        return shape[1:-1]
    if isinstance(module, nn.LayerNorm):
        return shape[1 : len(shape) - len(module.normalized_shape)]
    return shape[1 if isinstance(module, nn.Embedding) else 2 :]


def layer_name(parameter: str) -> str:
    """The module of a parameter: ``"block1.conv"`` for ``"block1.conv.weight"``; the network itself is ``"model"``."""
    return parameter.rpartition(".")[0] or "model"


def mixes_examples(module: nn.Module) -> bool:
    """Whether a module computes statistics over the batch, so that no example has a gradient of its own."""
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers with trainable parameters, in the order of the network.

    >>> layer_names(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    ('0', '2')
    """
    return tuple(Counter(layer_name(name) for name, value in model.named_parameters() if value.requires_grad))


def _computes_as(module: nn.Module, base: type[nn.Module]) -> bool:
    if "forward" in vars(module):
        return False
    names = ("forward", "_conv_forward")
    return all(getattr(type(module), name, None) is getattr(base, name, None) for name in names)


def _own_parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((role, value) for role, value in module.named_parameters(recurse=False, remove_duplicate=False))
