"""torchvision's ImageNet networks, rewritten so that every ReLU, pooling and sum can be hooked."""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from gendyn_lite.errors import UserError
from gendyn_lite.models.cifar import Add

# Functions called in the forward passes of torchvision's networks → modules that do the same.
MODULES: dict[Any, Callable[..., nn.Module]] = {
    operator.add: Add,
    operator.iadd: Add,
    torch.flatten: nn.Flatten,
    F.relu: nn.ReLU,
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
FUNCTION_ONLY = ("inplace", "return_indices")  # arguments that are not passed on to the modules


def torchvision_network(
    network: str, *, in_shape: tuple[int, ...], num_classes: int, dropout: float | None = None
) -> nn.Module:
    """Build a network of torchvision with random weights, whose ReLUs, poolings and residual sums are separate modules.

    Its state dict has torchvision's names, so that published weights can be loaded into it. inception_v3 has no
    auxiliary head and does not rescale its inputs.

    Args:
        network: ``"resnet18"``, ``"resnet50"``, ``"inception_v3"`` or ``"alexnet"``.
        in_shape: (3, H, W). The usual size is 224x224 (299x299 for inception_v3); smaller ones work down to a limit.
        num_classes: Number of logits.
        dropout: Probability that a feature is dropped, for inception_v3 and alexnet; None for torchvision's 0.5.

    Raises:
        UserError: The inputs do not have 3 channels.

    Source: Zhang et al. (2017), Table 2 (inception_v3, alexnet); the published layouts of torchvision.

    >>> network = torchvision_network("resnet18", in_shape=(3, 32, 32), num_classes=5)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    import torchvision

    if in_shape[0] != 3:
        raise UserError(f"in_shape is {in_shape}, but {network} takes colour images: expected 3 channels")
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if network == "inception_v3":
        options |= {"aux_logits": False, "transform_input": False, "init_weights": True}
    if dropout is not None:
        options["dropout"] = dropout
    return as_modules(getattr(torchvision.models, network)(**options))


def as_modules(model: nn.Module) -> fx.GraphModule:
    """Replace functional operations of a network by modules, each of which is used only once and not in place.

    Parameters, buffers and their names stay the same.

    Args:
        model: A network that torch.fx can trace.

    Returns:
        A network with the same outputs. The new modules are at its top level.

    >>> class Twice(nn.Module):
    ...     def forward(self, x):
    ...         return F.relu(x) + F.relu(-x)
    >>> sorted(type(m).__name__ for m in as_modules(Twice()).children())
    ['Add', 'ReLU', 'ReLU']
    """
    traced = fx.symbolic_trace(copy.deepcopy(model))
    used: set[str] = set()
    for node in list(traced.graph.nodes):
        if node.op == "call_module":
            _use_once(traced, node, used)
        elif node.op == "call_function" and (module := _module_for(node)) is not None:
            name = f"{node.name}_layer"
            traced.add_submodule(name, module)
            node.op, node.target, node.kwargs = "call_module", name, {}
            node.args = node.args[: 2 if isinstance(module, Add) else 1]
    traced.graph.lint()
    traced.recompile()
    return traced


def _use_once(traced: fx.GraphModule, node: fx.Node, used: set[str]) -> None:
    """Make the module that a node calls work out of place; if it was called before and has no parameters, copy it."""
    target = str(node.target)
    module = traced.get_submodule(target)
    if isinstance(module, nn.ReLU | nn.Dropout):
        module.inplace = False
    if target in used and not list(module.parameters()):
        target = f"{target}_{node.name.rsplit('_', 1)[-1]}"
        traced.add_submodule(target, copy.deepcopy(module))
        node.target = target
    used.add(target)


def _module_for(node: fx.Node) -> nn.Module | None:
    """The module that does the same as a function call in a traced network; None if the call can stay."""
    kind = MODULES.get(node.target)
    if kind is None or (kind is Add and not all(isinstance(arg, fx.Node) for arg in node.args)):
        return None  # sums with a constant stay too
    accepted = inspect.signature(kind).parameters
    settings = {key: value for key, value in node.kwargs.items() if key in accepted and key not in FUNCTION_ONLY}
    return kind(*(() if kind is Add else node.args[1:]), **settings)
