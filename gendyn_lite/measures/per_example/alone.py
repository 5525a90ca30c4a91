"""One example by itself: its gradient by plain autograd, against which what layers show of it in a batch is checked."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import usable
from gendyn_lite.measures.per_example.layers import Layer, Use

Loss = Callable[[Tensor, Tensor], Tensor]
MIXES = (
    "the network mixes the examples of a batch: an example's output depends on the others, so that it has no gradient "
    "of its own"
)
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # of a gradient; no other precision is checked
FITTED = {torch.float64: 1e-9, torch.float32: 1e-4}  # a loss below which a gradient is mostly rounding


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example in nats, [n], in float64: the softplus of what the other logits are ahead by.

    Its gradient at the label, P(y) − 1, is the sum of the other probabilities: taken as a difference, rounding is most
    of it where an example is fitted well.

    >>> z = torch.tensor([[50.0, 0.0, 0.0]], requires_grad=True)
    >>> (-torch.autograd.grad(cross_entropy(z, torch.tensor([0])).sum(), z)[0][0, 0]).log().round(decimals=2)
    tensor(-49.3100)
    """
    wide, own = logits.double(), y[:, None]
    ahead = wide.scatter(1, own, -torch.inf).logsumexp(1) - wide.gather(1, own)[:, 0]
    return -F.logsigmoid(-ahead)


def lone(model: nn.Module, x: Tensor) -> Tensor:
    """An example as a batch, [1, ...]; twice, [2, ...], for a network with batch-norm.

    The backward pass of torch's batch-norm reads a gradient with exchanged axes wrongly where a batch has one example.

    >>> lone(nn.Linear(2, 3), torch.zeros(2)).shape, lone(nn.BatchNorm1d(2), torch.zeros(2)).shape
    (torch.Size([1, 2]), torch.Size([2, 2]))
    """
    twice = any(isinstance(module, _BatchNorm) for module in model.modules())
    return torch.stack([x, x]) if twice else x[None]


def lone_gradients(
    model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, loss: Loss, *, row: int = 0
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The loss of one example of a batch, and its gradient by plain autograd, which takes any network.

    Args:
        model: The network, no parameter of which requires a gradient.
        names: Parameters, by name.
        x: The example in a batch, of `lone` for instance; where it requires a gradient, that is found under ``""``.
        y: Labels, likewise.
        loss: Function of (logits, y) that gives the loss of each example.
        row: Its place.

    Returns:
        The loss, and for each name the gradient; None where the loss does not depend on it.
    """
    own = {name: value.requires_grad_(True) for name, value in model.named_parameters() if name in names}
    try:
        total = loss(model(x.clone()), y)[row]
        of = {**own, "": x} if x.requires_grad else own
        if not total.requires_grad:
            return total, dict.fromkeys(of)
        found = torch.autograd.grad(total, list(of.values()), allow_unused=True)
        return total.detach(), dict(zip(of, found, strict=True))
    finally:
        for value in own.values():
            value.requires_grad_(False)


def with_values(model: nn.Module, values: Mapping[str, Tensor], *args: Tensor) -> Tensor:
    """What a network gives with other parameters, by `torch.func.functional_call`, and leaves the network as it was.

    Of a module that is registered under two names, as an activation that is used twice, torch's own way with shared
    parameters puts the given values in place of the network's for good.

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
    """No parameter requires a gradient meanwhile."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for value in trainable:
            value.requires_grad_(True)


CHUNK_BYTES = 256 << 20


def gradients(model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, *, loss: Loss) -> dict[str, Tensor]:
    """Gradient of each example's loss with respect to some parameters, by vmap; example by example where it cannot.

    Args:
        model: The network.
        names: Names of the parameters.
        x: Inputs [n, ...].
        y: Labels [n].
        loss: Function of (logits, y) that gives the loss of each example.

    Returns:
        For each name the gradients, [n, entries].
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
    """What a function of one example and its label gives for each, stacked; by vmap, one by one where it cannot.

    Args:
        function: Function of (x_i, y_i) that gives tensors by name.
        by_itself: The same for a network that vmap does not take.
        x: Inputs [n, ...].
        y: Labels [n].
        size: Examples at a time.
    """
    found = None
    if min(size, len(x)) > 1:
        with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError):  # control flow by data, chance
            warnings.filterwarnings("ignore", "There is a performance drop")  # torch's own, of a rule it lacks
            found = vmap(function, chunk_size=size)(x, y)
    if found is None:
        rows = [by_itself(*pair) for pair in zip(x, y, strict=True)]
        found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: value.detach() for name, value in found.items()}


class Lone:
    """The example of a batch with the largest loss, run between its two neighbours, on which it must not depend.

    Three run at about the cost of one, and torch's batch-norm is wrong for one (`lone`).

    Args:
        model: The network, no parameter of which requires a gradient.
        names: The parameters to look at.
        batch: Inputs and labels.
        loss: Function of (logits, y).
        losses: The losses among all, [n].

    Attributes:
        used: The parameters that its loss depends on.

    Raises:
        UserError: The example has another loss there than among all, or one that depends on a neighbour.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        batch: tuple[Tensor, Tensor],
        loss: Loss,
        losses: Tensor,
    ) -> None:
        self._i, count = int(losses.detach().argmax()), len(losses)
        x, y = (part[[(self._i + step) % count for step in (-1, 0, 1)]] for part in batch)
        given = x.requires_grad_() if x.is_floating_point() else x
        alone, found = lone_gradients(model, names, given, y, loss, row=1)
        of_inputs = found.pop("", None)
        if of_inputs is not None and (of_inputs[[0, 2]].abs() > 0).any():
            raise UserError(MIXES)
        self.used = frozenset(name for name, gradient in found.items() if gradient is not None)
        self._gradients = {
            name: torch.zeros_like(model.get_parameter(name)) if gradient is None else gradient
            for name, gradient in found.items()
        }
        among, tolerance = losses[self._i].detach(), TOLERANCE[next(model.parameters()).dtype]
        if not torch.allclose(alone, among, rtol=tolerance, atol=tolerance * 1e-2, equal_nan=True):
            told = f"the loss of example {self._i} is {float(among):.4g} among others and {float(alone):.4g} with two"
            why = "the network mixes the examples of a batch, or is another at each call"
            raise UserError(f"{told} of them alone: {why}")
        self._norms = {name: gradient.norm() for name, gradient in self._gradients.items()}
        self._relative, self._absolute = tolerance, _norm(self._norms) * tolerance * 1e-2

    def agrees(self, layer: Layer, uses: Sequence[Use]) -> bool:
        """Whether what a layer showed of the example in the batch makes the gradient that it has alone."""
        expected = {name: self._gradients[name] for name in layer.parameters}
        if any(gradient.dtype not in TOLERANCE for gradient in expected.values()):
            return False  # a layer in half precision inside of another network
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
        return not wrong > self._relative * size + self._absolute  # NaN is another check's to name

    def _probed(self, layer: Layer, use: Use, *, probes: Tensor) -> Mapping[str, Tensor]:
        """The gradient times some probes, from one use of an affine layer: Σ_t z_t (u_t·r), by the layer itself."""
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
        """The example's gradient from one use of a layer's module."""
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


PROBES = 4  # a difference of gradients is seen unless all of these are nearly at right angles to it: once in 10⁸


def _probes(module: nn.Module, like: Tensor) -> Tensor:
    """Random inputs of an affine module, [groups, PROBES, its weight's further axes], such that norms are kept."""
    shape = [getattr(module, "groups", 1), PROBES, *cast(Tensor, module.weight).shape[1:]]
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn / PROBES**0.5).to(like)


def _by_group(values: Tensor, groups: int) -> Tensor:
    """[outputs, ...] as [groups, outputs of a group, entries]."""
    return values.reshape(groups, len(values) // groups, -1)


def _norm(parts: Mapping[str, Tensor]) -> float:
    return float(torch.stack([part.norm() for part in parts.values()]).norm())
