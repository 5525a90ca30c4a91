"""Gradients of single examples by autograd: to check the formulas of layers, and for parameters without a formula."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.measures.per_example.checks import in_a_line, usable

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
    with requiring(model, names) as own:
        return gradients_of(loss(model(x.clone()), y)[row], {**own, "": x} if x.requires_grad else own)


def run_few(model: nn.Module, x: Tensor) -> Tensor:
    """Run a few examples, refused in one line where the network does not take so few."""
    with in_a_line(f"the network does not take {len(x)} of the examples", but=(RuntimeError,)):
        return model(x)  # type: ignore[no-any-return]


@contextmanager
def requiring(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Let some parameters of a frozen network require a gradient, inside the context only; give them by name."""
    own = {name: value.requires_grad_(True) for name, value in model.named_parameters() if name in names}
    try:
        yield own
    finally:
        for value in own.values():
            value.requires_grad_(False)


def gradients_of(total: Tensor, of: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return a loss, and its dense gradient for each name; None where it does not depend on that.

    >>> x = torch.ones(2, requires_grad=True)
    >>> gradients_of(x.sum(), {"x": x})[1]
    {'x': tensor([1., 1.])}
    """
    if not total.requires_grad:
        return total, dict.fromkeys(of)
    with in_a_line("the network has no backward pass", but=(RuntimeError,)):
        found = torch.autograd.grad(total, list(of.values()), allow_unused=True)
    dense = [each if each is None or each.layout == torch.strided else each.to_dense() for each in found]
    return total.detach(), dict(zip(of, dense, strict=True))


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
def no_fast_path() -> Iterator[None]:
    """Let attention run as it is written, inside the context: its fast path has no derivatives, and drops padding."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient, and attention take no fast path, inside the context only."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    model.requires_grad_(False)
    try:
        with no_fast_path():
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
