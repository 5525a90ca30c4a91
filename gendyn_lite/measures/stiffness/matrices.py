"""Sign and cosine stiffness from a Gram matrix, squared norms beside it, and what a step really does to the losses."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import activation_bytes, check_eps, check_examples, check_finite, usable
from gendyn_lite.measures.per_example.layers import Layer, plan
from gendyn_lite.measures.per_example.passes import Loss, Use, cross_entropy, visit
from gendyn_lite.measures.stiffness.gram import gradient_gram
from gendyn_lite.measures.stiffness.layer_gram import squared_norms_of


def sign(gram: Tensor) -> Tensor:
    """sign(g_i · g_j): 1 if a small step on one example lowers the other's loss, −1 if it raises it, 0 if neither.

    Args:
        gram: [n, n] or [n, m], of `gradient_gram`.

    Source:
        Fort et al. (2019), Eq. 4; Walker, Definition 1.1.

    >>> sign(torch.tensor([[2.0, -1.0], [-1.0, 3.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    _check(gram)
    return gram.sign()


def cosine(gram: Tensor, *, norms: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """cos(g_i, g_j) = g_i · g_j / (‖g_i‖ ‖g_j‖); 0 where a gradient is zero (`zero_gradients` counts them).

    Args:
        gram: [n, n], or [n, m] with `norms`.
        norms: Squared norms [n] and [m] of the gradients (`squared_norms`) of a matrix between two sets.

    Raises:
        UserError: The matrix is not square and no norms are given, they do not fit it, or a value is not finite.

    Source:
        Fort et al. (2019), Eq. 5; Walker, Definition 1.2.

    >>> cosine(torch.tensor([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000,  0.0000],
            [-0.5000,  1.0000,  0.0000],
            [ 0.0000,  0.0000,  0.0000]])
    """
    _check(gram)
    if norms is None:
        if gram.shape[0] != gram.shape[1]:
            raise UserError(
                f"the Gram matrix is {list(gram.shape)}, between two sets: give norms=(squared_norms of the rows, of "
                "the columns)"
            )
        norms = gram.diagonal(), gram.diagonal()
    if tuple(map(len, norms)) != tuple(gram.shape):
        raise UserError(f"norms have {len(norms[0])} and {len(norms[1])} values, the matrix is {list(gram.shape)}")
    for part in norms:
        _check_finite(part, "norms")
    left, right = (torch.where(part > 0, part.clamp(min=0).rsqrt(), part.new_zeros(())) for part in norms)
    return (gram * left[:, None] * right[None]).clamp(-1, 1)


def zero_gradients(gram: Tensor) -> int:
    """How many examples have a zero gradient: their loss is at its least, and their stiffness is defined as 0.

    >>> zero_gradients(torch.diag(torch.tensor([1.0, 0.0, 0.0])))
    2
    """
    _check(gram)
    return int((gram.diagonal() <= 0).sum())


def _check(gram: Tensor) -> None:
    if not isinstance(gram, Tensor):
        raise UserError(f"gram is a {type(gram).__name__}, expected a matrix; of a dict of layers take one")
    if gram.dim() != 2:
        raise UserError(f"gram has shape {tuple(gram.shape)}, expected a matrix [n, n] or [n, m]")
    _check_finite(gram, "gram")


def _check_finite(values: Tensor, name: str) -> None:
    if not torch.isfinite(values).all():
        raise UserError(f"{name} has values that are not finite: take it of gradients that are")


CHUNK_BYTES = 1 << 30


def squared_norms(model: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = cross_entropy) -> Tensor:
    """‖g_i‖² of each example's loss gradient, [n]: the diagonal of `gradient_gram`, at a fraction of its cost.

    Args:
        model: Any network, batch-norm and dropout in eval mode.
        x: Inputs [n, ...].
        y: Labels int64 [n].
        loss: Function of (logits, y) that gives the loss of each example.

    Raises:
        UserError: As `gradient_gram`.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> squared_norms(model, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    tensor([0.5000, 2.0000])
    """
    check_examples(model, x, y, least=1)
    planned = plan(model)
    step = max(1, CHUNK_BYTES // activation_bytes(model, x))
    parts: list[Tensor] = []
    shares: list[Tensor] = []

    def on_layer(layer: Layer, uses: list[Use]) -> None:
        shares.append(squared_norms_of(layer, uses))

    def on_gradients(name: str, found: Tensor) -> None:
        shares.append(found.square().sum(1))

    for some in zip(x.split(step), y.split(step), strict=True):
        shares.clear()
        visit(model, *some, planned, on_layer, on_gradients, loss=loss)
        parts.append(torch.stack(shares).sum(0) if shares else x.new_zeros(len(some[0])))
    norms = torch.cat(parts)
    check_finite(norms)
    return norms


class LossChange(NamedTuple):
    """Changes of every example's loss by a step on one: predicted −ε g_i·g_j and actual, float64 [steps, n]."""

    predicted: Tensor
    actual: Tensor

    @property
    def slope(self) -> float:
        """Least-squares slope of actual against predicted change, through the origin: 1 for small steps."""
        return float((self.predicted * self.actual).sum() / self.predicted.square().sum())


@torch.inference_mode(False)
def loss_change(
    model: nn.Module, x: Tensor, y: Tensor, *, examples: Sequence[int], eps: float, loss: Loss = cross_entropy
) -> LossChange:
    """Take a step θ − ε g_i on each of some examples, each from the same θ, and see every loss change.

    The steps are taken on a copy in float64: in float32 the change of a loss by a small step is mostly rounding.

    Args:
        model: The network; left as it was.
        x: Inputs [n, ...].
        y: Labels int64 [n].
        examples: Which examples i to take a step on.
        eps: Step size ε.
        loss: Function of (logits, y) that gives the loss of each example.

    Raises:
        UserError: eps is no step size, there are no examples, or one does not exist.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> x, y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0, 0, 0])
    >>> found = loss_change(model, x, y, examples=[0], eps=1e-4)
    >>> (found.actual < 0).tolist(), round(found.slope, 3)
    ([[True, True, False]], 1.0)
    """
    check_eps(eps)
    examples = examples.tolist() if isinstance(examples, Tensor) else list(examples)
    if not examples:
        raise UserError("examples is empty: give at least one example to take a step on")
    wrong = [i for i in examples if not isinstance(i, Integral) or not 0 <= int(i) < len(x)]
    if wrong:
        raise UserError(f"example {wrong[0]!r} does not exist: there are {len(x)}, counted from 0")
    check_examples(model, x, y)
    twin = copy.deepcopy(model).double()
    inputs, y = usable(x.double() if x.is_floating_point() else x), usable(y)
    gram = gradient_gram(twin, inputs, y, loss=loss)
    assert isinstance(gram, Tensor)
    values = [value for value in twin.parameters() if value.requires_grad]
    with torch.no_grad():
        before = loss(twin(inputs), y)
    rows = []
    for i in examples:
        gradients = torch.autograd.grad(loss(twin(inputs[i : i + 1]), y[i : i + 1]).sum(), values, allow_unused=True)
        with torch.no_grad():
            saved = [value.clone() for value in values]
            for value, gradient in zip(values, gradients, strict=True):
                if gradient is not None:
                    value.sub_(gradient, alpha=eps)
            rows.append(loss(twin(inputs), y) - before)
            for value, old in zip(values, saved, strict=True):
                value.copy_(old)
    return LossChange(-eps * gram[examples], torch.stack(rows))
