"""A network as a list of steps, traced by torch.fx, each affine, with kinks, or a maximum; and checks of arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.intervals.layers import LAYERS, Action, NotPiecewiseLinearError, of_function, of_module
from gendyn_lite.measures.per_example.checks import check_number, dtype_name
from gendyn_lite.measures.per_example.copies import copied
from gendyn_lite.measures.per_example.guards import check_eval


class Step(NamedTuple):
    """One layer or operation.

    Attributes:
        name: Name in the network, for messages.
        node: Node of its result in the traced graph.
        action: How it acts on its arguments, or None if it reads a shape.
        call: Its function if it reads a shape, or None.
        frees: Results that no later step needs.
    """

    name: str
    node: fx.Node
    action: Action | None
    call: Callable[..., Any] | None
    frees: tuple[fx.Node, ...]

    def arguments(self, value: Callable[[fx.Node], Any]) -> tuple[Any, Any]:
        """Return its positional and keyword arguments, with `value(node)` in place of every node."""
        return fx.map_arg(self.node.args, value), fx.map_arg(self.node.kwargs, value)


class Program(NamedTuple):
    """A piecewise linear network as a list of steps.

    Attributes:
        steps: Steps in the order of execution.
        constants: Values that do not depend on the input, by node.
        input: Node of the input.
        output: Node of the logits.
        dtype: dtype of the computation.
    """

    steps: tuple[Step, ...]
    constants: dict[fx.Node, Any]
    input: fx.Node
    output: fx.Node
    dtype: torch.dtype

    def run(self, values: dict[fx.Node, Any], known: Collection[fx.Node], run: Callable[[Step], Any]) -> None:
        """Run every step that is not in `known`, keeping in `values` only results that later steps need."""
        for step in self.steps:
            if step.node in known:
                continue
            values[step.node] = run(step)
            for node in step.frees:
                if node not in self.constants:
                    values.pop(node, None)


class Count(int):
    """The batch size that the network reads: its number of points, which may differ in another pass."""


def read_shape(step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a step that reads a shape; the size of the first dimension becomes a `Count`."""
    assert step.call is not None
    found = step.call(*args, **kwargs)
    counts = step.node.args[1:] == (0,) or step.node.kwargs.get("dim") == 0
    return Count(found) if isinstance(found, int) and counts else found


def with_count(value: Any, count: int) -> Any:
    """Return a size or shape, for another number of points.

    >>> with_count(Count(3), 5), with_count(torch.Size((3, 2)), 5), with_count(7, 5)
    (5, torch.Size([5, 2]), 7)
    """
    if isinstance(value, Count):
        return Count(count)
    return torch.Size((count, *value[1:])) if isinstance(value, torch.Size) else value


class _Tracer(fx.Tracer):
    """Does not trace into known layers, nor into subclasses that inherit their forward."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        smooth = isinstance(m, nn.LocalResponseNorm)  # a leaf, so that the error names the layer
        if "forward" in vars(m):  # a forward set on the instance is traced
            return False
        return smooth or _is_known(m) or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def read(model: nn.Module, dtype: torch.dtype) -> Program:
    """Trace a network into steps.

    Args:
        model: The network, in eval mode. It is left unchanged.
        dtype: dtype to compute in; if it differs from the network's, a copy of the network is converted.

    Raises:
        NotPiecewiseLinearError: A layer is not known to be piecewise linear (the message names the first one), has a
            hook, or the forward cannot be traced.

    >>> program = read(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), torch.float32)
    >>> [type(step.action).__name__ for step in program.steps]
    ['Affine', 'Kinks', 'Affine']
    """
    if any(parameter.dtype != dtype for parameter in model.parameters()):
        model = copied(model).to(dtype)
    if _is_known(model):
        model = nn.Sequential(model)
    for name, module in model.named_modules():
        if any(getattr(module, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks")):
            raise NotPiecewiseLinearError(f"layer {name!r} ({type(module).__name__}) has a hook, which may do anything")
    try:
        graph = _Tracer().trace(model)
    except (TraceError, TypeError, AttributeError, NameError, ValueError, RuntimeError) as error:
        raise NotPiecewiseLinearError(
            f"the network's forward cannot be traced by torch.fx ({first_line(error)})"
        ) from error
    return _program(model, graph, dtype)


def _program(model: nn.Module, graph: fx.Graph, dtype: torch.dtype) -> Program:
    """Divide the nodes of a traced graph into constants and steps."""
    constants: dict[fx.Node, Any] = {}
    steps: list[Step] = []
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(output, fx.Node):
        raise NotPiecewiseLinearError("the network returns several results, expected one tensor of logits")
    evaluator = fx.Interpreter(model, graph=graph)
    evaluator.env = constants
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            if node is not inputs[0] and node.op == "placeholder":
                constants[node] = node.args[0] if node.args else None
        elif all(parent in constants for parent in node.all_input_nodes):  # a parameter has no inputs
            constants[node] = evaluator.run_node(node)
        else:
            steps.append(_step(model, node, constants, tuple(evaluator.user_to_last_uses.get(node, ()))))
    return Program(tuple(steps), constants, inputs[0], output, dtype)


def _step(model: nn.Module, node: fx.Node, constants: dict[fx.Node, Any], frees: tuple[fx.Node, ...]) -> Step:
    """Make the step of one node."""
    name = f"operation {getattr(node.target, '__name__', node.target)!r}"
    try:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            name = f"layer {str(node.target)!r} ({type(module).__name__})"
            return Step(name, node, of_module(module), None, frees)
        if _reads_shape(node):
            call = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
            return Step(name, node, None, call, frees)
        varying = [isinstance(arg, fx.Node) and arg not in constants for arg in node.args]
        if any(isinstance(arg, fx.Node) and arg not in constants for arg in node.kwargs.values()):
            raise NotPiecewiseLinearError("is given by name what varies along the line")
        return Step(name, node, of_function(node.target, varying, node.args, dict(node.kwargs)), None, frees)
    except NotPiecewiseLinearError as error:
        raise NotPiecewiseLinearError(f"{name} {error}") from error


def _reads_shape(node: fx.Node) -> bool:
    """Whether a node's value is a size, not a tensor."""
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return True
    parents = node.all_input_nodes
    return node.op == "call_function" and bool(parents) and all(map(_reads_shape, parents))


def _is_known(module: nn.Module) -> bool:
    own = type(module)
    if "forward" in vars(module) or own.__call__ is not nn.Module.__call__:  # not the code of its class
        return False
    return any(isinstance(module, kind) and own.forward is kind.forward for kind in LAYERS)


AROUND = ": the interval is looked for around α = 0"


def check_network(model: nn.Module) -> None:
    """Check that a network is in eval mode and its weights are finite."""
    check_eval(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"weights {name!r} are not finite (NaN or infinity): the network has no classes to follow")


def check_lines(model: nn.Module, x: Tensor, direction: Tensor, low: float, high: float) -> None:
    """Check that a range has 0 inside, the network passes `check_network`, and points and directions fit it."""
    check_number("low", low, f"a number below 0{AROUND}", lambda value: -math.inf < value < 0)
    check_number("high", high, f"a number above 0{AROUND}")
    check_network(model)
    parameter = next(model.parameters(), None)
    dtype = parameter.dtype if parameter is not None else x.dtype
    if dtype not in (torch.float32, torch.float64):
        told = f"the network computes in {dtype_name(dtype)}"
        raise UserError(f"{told}, expected float32 or float64: convert it by .float()")
    for name, tensor in (("x", x), ("direction", direction)):
        if not isinstance(tensor, Tensor):
            raise UserError(f"{name} is a {type(tensor).__name__}, expected a tensor [m, *in_shape]")
        if tensor.dtype != dtype:
            raise UserError(f"{name} is {dtype_name(tensor)}, expected {dtype_name(dtype)} like the network's weights")
        if parameter is not None and tensor.device != parameter.device:
            raise UserError(f"{name} is on {tensor.device}, expected {parameter.device} like the network's weights")
        if tensor.dim() < 2 or len(tensor) == 0:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected [m, *in_shape] with m of at least 1")
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} has entries that are not finite (NaN or infinity): drop those lines")
    if x.shape != direction.shape:
        shapes = f"x has shape {tuple(x.shape)} and direction {tuple(direction.shape)}"
        raise UserError(f"{shapes}, expected one direction for each point")
    zero = (direction.flatten(1) == 0).all(1).nonzero().squeeze(1).tolist()
    if zero:
        raise UserError(f"direction is zero for lines {zero[:5]} ({len(zero)} of {len(x)}): a line needs a direction")


def logits_at(model: nn.Module, x: Tensor) -> Tensor:
    """Compute the network's logits at x.

    Raises:
        UserError: The network does not take such points, or its output is not logits of at least two classes.
    """
    try:
        logits = model(x)
    except UserError:
        raise
    except Exception as error:  # a user's forward may raise anything
        shape = tuple(x.shape[1:])
        raise UserError(f"the network does not take points of shape {shape}: {first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wanted = f"logits [{len(x)}, classes] with at least two classes"
        wanted += " (of a tuple or dict by output=, or in a module around the network)"
        raise UserError(f"the network's output has shape {shape}, expected {wanted}")
    return logits


def no_nan(logits: Tensor) -> Tensor:
    """Return logits, and refuse NaN, which is no class and which a comparison would take for another one."""
    if logits.isnan().any():
        wrong = int(logits.isnan().any(1).sum())
        told = f"the network gives NaN at {wrong} of {len(logits)} points"
        raise UserError(f"{told}: leave them out, or narrow the range")
    return logits
