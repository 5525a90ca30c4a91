"""Gradients of single examples by autograd: to check the formulas of layers, and for parameters without a formula."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import in_a_line, usable
from gendyn_lite.measures.per_example.guards import check_kept
from gendyn_lite.measures.per_example.layers import Layer, Use
from gendyn_lite.measures.per_example.unchanged import of_libraries

Loss = Callable[[Tensor, Tensor], Tensor]
MIXES = (
    "the network mixes the examples of a batch: an example's output depends on the others, so that it has no gradient "
    "of its own"
)
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # relative error allowed in a gradient; others are unchecked
# Below these losses a gradient is mostly rounding error: of the cross-entropy, and of others for outputs around 1.
FITTED = {torch.float64: 1e-9, torch.float32: 1e-4}
SQUARED = {torch.float64: 1e-16, torch.float32: 1e-8}


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the cross-entropy of each example in nats, float64 [n].

    It is the softplus of the lead of the other logits (their logsumexp minus the label's logit). So its derivative with
    respect to the label's logit is minus the sum of the other probabilities. The usual difference P(y) − 1 has the same
    value, but is mostly rounding error if an example is fitted well.

    >>> z = torch.tensor([[50.0, 0.0, 0.0]], requires_grad=True)
    >>> (-torch.autograd.grad(cross_entropy(z, torch.tensor([0])).sum(), z)[0][0, 0]).log().round(decimals=2)
    tensor(-49.3100)
    """
    wide, own = logits.double(), y[:, None]
    ahead = wide.scatter(1, own, -torch.inf).logsumexp(1) - wide.gather(1, own)[:, 0]
    return -F.logsigmoid(-ahead)


def fitted_below(loss: Loss, logits: Tensor, losses: Tensor) -> float:
    """Return the loss of an example below which its gradient is mostly rounding error.

    Other losses than the cross-entropy are taken to be in the units of a square of the outputs.

    >>> one = torch.ones(1)
    >>> fitted_below(cross_entropy, one, one.double()), fitted_below(F.mse_loss, one, one)
    (1e-09, 1e-08)
    """
    if loss is cross_entropy:
        return FITTED.get(losses.dtype, FITTED[torch.float32])
    return SQUARED[logits.dtype] * float(logits.detach().abs().max()) ** 2


def lone(model: nn.Module, x: Tensor) -> Tensor:
    """Return an example as a batch of one, [1, ...]; for a network with batch-norm twice, [2, ...].

    In a batch of one, the backward pass of torch's batch-norm misreads an output gradient with exchanged axes.

    >>> lone(nn.Linear(2, 3), torch.zeros(2)).shape, lone(nn.BatchNorm1d(2), torch.zeros(2)).shape
    (torch.Size([1, 2]), torch.Size([2, 2]))
    """
    twice = any(isinstance(module, _BatchNorm) for module in model.modules())
    return torch.stack([x, x]) if twice else x[None]


def lone_gradients(
    model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, loss: Loss, *, row: int = 0
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Compute the loss of one example of a batch and its gradient by plain autograd, which works for any network.

    Args:
        model: The network; no parameter of it requires a gradient.
        names: Names of the parameters.
        x: A batch with the example, as from `lone`. If it requires a gradient, this is returned under the name ``""``.
        y: Labels of that batch.
        loss: Function of (logits, y) that returns the loss of each example.
        row: Place of the example in that batch.

    Returns:
        The loss, and the gradient for each name; None if the loss does not depend on it.
    """
    with _requiring(model, names) as own:
        return _gradients_of(loss(model(x.clone()), y)[row], {**own, "": x} if x.requires_grad else own)


@contextmanager
def _requiring(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Let some parameters of a frozen network require a gradient, inside the context only; give them by name."""
    own = {name: value.requires_grad_(True) for name, value in model.named_parameters() if name in names}
    try:
        yield own
    finally:
        for value in own.values():
            value.requires_grad_(False)


def _gradients_of(total: Tensor, of: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    if not total.requires_grad:
        return total, dict.fromkeys(of)
    with in_a_line("the network has no backward pass", but=(RuntimeError,)):
        found = torch.autograd.grad(total, list(of.values()), allow_unused=True)
    dense = [each if each is None or each.layout == torch.strided else each.to_dense() for each in found]
    return total.detach(), dict(zip(of, dense, strict=True))


class _Originals(TorchFunctionMode):
    """A context that refuses operations on the parameters of a network, of which a copy is run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in model.named_parameters()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        for value in tree_leaves((args, kwargs or {})):
            if id(value) in self._names:
                told = f"a copy of the network still reads the original's {self._names[id(value)]!r}"
                raise UserError(f"{told} (in a hook, a closure, or a function set on a module): make it a method")
        return func(*args, **(kwargs or {}))


def copied(model: nn.Module, x: Tensor | None = None) -> nn.Module:
    """Copy a network, with dense gradients of embeddings; refuse one with weights computed before each call.

    Args:
        model: The network.
        x: Inputs; the copy is run on the first, and refused if it reads a weight of the original.
    """
    check_kept(model)
    try:
        twin = copy.deepcopy(model)
        for module in twin.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.sparse = False
        if x is not None and not of_libraries(model):
            with torch.no_grad(), _Originals(model):
                _few(twin, lone(twin, x[0]).clone())
        return twin
    except RuntimeError as error:
        computed = [
            f"{name!r} ({type(module).__name__})"
            for name, module in model.named_modules()
            if any(isinstance(value, Tensor) and not value.is_leaf for value in vars(module).values())
        ]
        where = computed[0] if computed else "the network"
        why = "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove gives it weights of its own"
        raise UserError(f"{where} holds a tensor that was computed, and cannot be copied: {why}") from error


def with_values(model: nn.Module, values: Mapping[str, Tensor], *args: Tensor) -> Tensor:
    """Call a network with other values of its parameters by `torch.func.functional_call`, and leave it unchanged.

    Shared parameters are resolved here. If a module is registered under two names (an activation that is used twice),
    torch's own handling (``tie_weights=True``) would replace the network's values by the given ones for good.

    >>> act = nn.PReLU()
    >>> model, weight = nn.Sequential(act, act), act.weight
    >>> with_values(model, {"0.weight": torch.zeros(1)}, -torch.ones(1)), act.weight is weight
    (tensor([-0.]), True)
    """
    names = {id(value): name for name, value in model.named_parameters()}
    every = {
        f"{path}.{role}".lstrip("."): values[names[id(value)]]
        for path, module in model.named_modules()
        for role, value in module.named_parameters(recurse=False, remove_duplicate=False)
        if names[id(value)] in values
    }
    return functional_call(model, every, args, tie_weights=False)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient, inside the context only."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for value in trainable:
            value.requires_grad_(True)


CHUNK_BYTES = 256 << 20


def gradients(model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, *, loss: Loss) -> dict[str, Tensor]:
    """Compute the gradient of each example's loss for some parameters: by vmap, or one by one if vmap fails.

    Args:
        model: The network.
        names: Names of the parameters.
        x: Inputs [n, ...].
        y: Labels [n].
        loss: Function of (logits, y) that returns the loss of each example.

    Returns:
        The gradients for each name, [n, entries].
    """
    own = {name: value.detach() for name, value in model.named_parameters() if name in names}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(with_values(model, values, lone(model, x)), lone(model, y))[0]

    def by_itself(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        found = lone_gradients(model, names, lone(model, x), lone(model, y), loss)[1]
        return {name: torch.zeros_like(own[name]) if of is None else of for name, of in found.items()}

    each = sum(value.numel() * value.element_size() for value in own.values()) or 1
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        found = for_each(partial(grad(one), own), by_itself, usable(x.detach()), usable(y), CHUNK_BYTES // each)
    return {name: value.reshape(len(x), own[name].numel()) for name, value in found.items()}


OfOne = Callable[[Tensor, Tensor], dict[str, Tensor]]


def for_each(function: OfOne, by_itself: OfOne, x: Tensor, y: Tensor, size: int) -> dict[str, Tensor]:
    """Apply a function to each example and its label, and stack the results: by vmap, or one by one if vmap fails.

    Args:
        function: Function of (x_i, y_i) that returns tensors by name.
        by_itself: Function with the same results that works without vmap.
        x: Inputs [n, ...].
        y: Labels [n].
        size: Examples in one call of vmap; below 2, vmap is not used.
    """
    found = None
    if min(size, len(x)) > 1:
        with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError):  # branches by data, random draws
            warnings.filterwarnings("ignore", "There is a performance drop")  # torch's warning of a missing vmap rule
            found = vmap(function, chunk_size=size)(x, y)
    if found is None:
        rows = [by_itself(*pair) for pair in zip(x, y, strict=True)]
        found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: value.detach() for name, value in found.items()}


class Lone:
    """Gradient of the example of a batch with the largest loss, run with its two neighbours only.

    The loss must not depend on the neighbours. Three examples take about as long as one, and torch's batch-norm is
    wrong for a single one (`lone`).

    Args:
        model: The network; no parameter of it requires a gradient.
        names: Names of the parameters to examine.
        batch: Inputs and labels of the whole batch.
        loss: Function of (logits, y).
        among: Logits and losses of the whole batch.

    Attributes:
        used: Names of the parameters on which the example's loss depends.
        rows: The outputs of the three examples, by their places in the batch.

    Raises:
        UserError: The example's loss differs from that in the whole batch, or depends on a neighbour; or the network
            does not take three examples.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        batch: tuple[Tensor, Tensor],
        loss: Loss,
        among: tuple[Tensor, Tensor],
    ) -> None:
        losses = among[1].detach()
        self._i, count = int(losses.argmax()), len(losses)
        places = [(self._i + step) % count for step in (-1, 0, 1)]
        x, y = (part[places] for part in batch)
        if x.is_floating_point():
            x.requires_grad_()
        with _requiring(model, names) as own:
            logits = _few(model, x.clone())
            alone, found = _gradients_of(loss(logits, y)[1], {**own, "": x} if x.requires_grad else own)
        self.rows = dict(zip(places, logits.detach(), strict=True))
        of_inputs = found.pop("", None)
        if of_inputs is not None and (of_inputs[[0, 2]].abs() > 0).any():
            raise UserError(MIXES)
        self.used = frozenset(name for name, gradient in found.items() if gradient is not None)
        self._gradients = {
            name: torch.zeros_like(model.get_parameter(name)) if gradient is None else gradient
            for name, gradient in found.items()
        }
        own_loss, tolerance = losses[self._i], TOLERANCE[next(model.parameters()).dtype]
        slack = tolerance * 1e-2 * float(losses.abs().max())
        if not torch.allclose(alone, own_loss, rtol=tolerance, atol=slack, equal_nan=True):
            told = f"the loss of example {self._i} is {float(own_loss):.4g} among others"
            why = "the network mixes the examples of a batch, or is another at each call"
            raise UserError(f"{told} and {float(alone):.4g} with two of them alone: {why}")
        self._norms = {name: gradient.norm() for name, gradient in self._gradients.items()}
        self._relative, self._absolute = tolerance, _norm(self._norms) * tolerance * 1e-2

    def agrees(self, layer: Layer, uses: Sequence[Use]) -> bool:
        """Return whether a layer's inputs and output gradients in the batch yield the gradient of the example alone.

        For an affine layer, that is tested by the product of the weight's gradient with a few random probes.
        """
        expected = {name: self._gradients[name] for name in layer.parameters}
        if any(gradient.dtype not in TOLERANCE for gradient in expected.values()):
            return False  # a half-precision layer in another network
        of_use, size = self._of_use, _norm({name: self._norms[name] for name in layer.parameters})
        if layer.kind == "affine" and uses:
            probes = _probes(uses[0].module, next(iter(expected.values())))
            of_use = partial(self._probed, probes=probes)
            if layer.weight is not None:
                expected[layer.weight] = _by_group(expected[layer.weight], len(probes)) @ probes.flatten(2).mT
        found = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
        for use in uses:
            for name, gradient in of_use(layer, use).items():
                found[name] += gradient
        wrong = _norm({name: found[name] - expected[name] for name in expected})
        return not wrong > self._relative * size + self._absolute  # true for NaN: another check reports it

    def check(self, name: str, found: Tensor) -> None:
        """Refuse gradients of a parameter without a formula, [n, entries], if that of the example is another one."""
        row, expected = found[min(self._i, len(found) - 1)], self._gradients[name].flatten()
        if expected.dtype in TOLERANCE and (row - expected).norm() > self._relative * expected.norm() + self._absolute:
            told = f"parameter {name!r} has another gradient by torch.func than by autograd"
            why = "the network or the loss reads it past its module (in a list, a closure or a view)"
            raise UserError(f"{told}: {why}, or the network mixes the examples of a batch")

    def _probed(self, layer: Layer, use: Use, *, probes: Tensor) -> Mapping[str, Tensor]:
        """Compute the weight's gradient times probes r, and the bias's gradient, from one use of an affine layer.

        The product is Σ_t z_t (u_t·r), where the layer itself computes u_t·r, with the probes as its weights.
        """
        last = isinstance(use.module, nn.Linear)
        z = _by_group(use.z[self._i].movedim(-1, 0) if last else use.z[self._i], len(probes))
        found = {} if layer.bias is None else {layer.bias: z.sum(2).flatten()}
        if layer.weight is not None:
            swapped = {"weight": probes.flatten(0, 1)}
            if use.module.bias is not None:
                swapped["bias"] = probes.new_zeros(len(probes) * PROBES)
            out = functional_call(use.module, swapped, (use.a[self._i : self._i + 1],))[0]
            found[layer.weight] = z @ _by_group(out.movedim(-1, 0) if last else out, len(probes)).mT
        return found

    def _of_use(self, layer: Layer, use: Use) -> Mapping[str, Tensor]:
        """Compute the example's gradient from one use of a layer's module, by autograd through that module alone."""
        roles = {"weight": layer.weight, "bias": layer.bias}
        with torch.inference_mode(False), torch.enable_grad():
            leaves = {
                role: getattr(use.module, role).detach().requires_grad_()
                for role, name in roles.items()
                if name is not None
            }
            out = functional_call(use.module, leaves, (lone(use.module, use.a[self._i]).clone(),))
            z = torch.stack([use.z[self._i], *(torch.zeros_like(use.z[self._i]) for _ in out[1:])])
            found = torch.autograd.grad(out, list(leaves.values()), z)
        return {str(roles[role]): gradient for role, gradient in zip(leaves, found, strict=True)}


def _few(model: nn.Module, x: Tensor) -> Tensor:
    """Run a few examples, refused in one line where the network does not take so few."""
    with in_a_line(f"the network does not take {len(x)} of the examples", but=(RuntimeError,)):
        return model(x)  # type: ignore[no-any-return]


PROBES = 4  # an error in a gradient is missed only if all of these are nearly orthogonal to it: once in 10⁸


def _probes(module: nn.Module, like: Tensor) -> Tensor:
    """Draw probes for an affine module, [groups, PROBES, further axes of its weight], which keep norms on average."""
    shape = [getattr(module, "groups", 1), PROBES, *cast(Tensor, module.weight).shape[1:]]
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn / PROBES**0.5).to(like)


def _by_group(values: Tensor, groups: int) -> Tensor:
    """Reshape [outputs, ...] to [groups, outputs of a group, entries]."""
    return values.reshape(groups, len(values) // groups, -1)


def _norm(parts: Mapping[str, Tensor]) -> float:
    return float(torch.stack([part.norm() for part in parts.values()]).norm())
