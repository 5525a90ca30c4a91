"""The Gram matrix of per-example loss gradients, without storing the gradients; sign and cosine stiffness from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError, shown, unknown_name
from gendyn_lite.measures.per_example import checks, guards, layers
from gendyn_lite.measures.per_example.alone import gradients
from gendyn_lite.measures.per_example.factors import Workspace
from gendyn_lite.measures.per_example.layers import Layer, Use
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy, visit
from gendyn_lite.measures.stiffness.layer_gram import add_gram, add_product

MOST = 1024  # examples at a time; more are not faster
SMALL = 64 << 20  # bytes assumed to be free without asking
LARGEST = 4 << 30  # most bytes for activations, even if more is free
MIRRORED = 128  # rows and columns of a block that is mirrored
WHOLE = "network"


@torch.inference_mode(False)
def gradient_gram(
    model: nn.Module,
    x: Tensor | DataLoader[Any],
    y: Tensor | None = None,
    *,
    per_layer: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    loss: Loss = cross_entropy,
    output: guards.Output = None,
) -> Tensor | dict[str, Tensor]:
    """Compute the Gram matrix G_ij = g_i · g_j of the gradients g_i = ∇_θ L(f(x_i), y_i) of each example's loss.

    Gradients are with respect to all parameters with requires_grad, and are not stored: the share of a linear or
    convolutional layer follows from its inputs and output gradients. Parameters of other layers go through
    `torch.func`, and a warning names their layers. The network, its ``.grad`` and its hooks are left unchanged.

    Args:
        model: Any network, with batch-norm and dropout in eval mode.
        x: Inputs [n, ...], as the network takes them (standardized); or a DataLoader of inputs and labels.
        y: Labels int64 [n].
        per_layer: Whether to return one matrix for each layer: a module with parameters of its own, weight and bias
            together. Shared parameters count for the first module that holds them. The matrices add up to G.
        groups: Layers by name of a group, to return one matrix for each group. The name of a module stands for it and
            all modules inside.
        loss: Function of (logits, y) that returns the loss of each example, [n]; the cross-entropy in nats by default.
        output: Function from the network's output to its logits, for a network that returns a tuple or a dict.

    Returns:
        [n, n] in the precision of the network, or a dict of such matrices by layer or group, in network order.

    Raises:
        UserError: Batch-norm or dropout is in train mode; there are fewer than two examples; a label is out of range;
            the network is on another device; a gradient is not finite; the matrix would not fit in memory; or a group
            is empty, or has a name twice or one that is of no layer.

    Source: Fort et al. (2019), Stiffness: A New Perspective on Generalization in Neural Networks, Sec. 2.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 0])
    >>> gradient_gram(model, x, y)
    tensor([[ 0.5000, -0.5000,  0.0000],
            [-0.5000,  0.5000,  0.0000],
            [ 0.0000,  0.0000,  2.0000]])
    """
    examples = guards.given(x, y)
    guards.check_examples(model, *examples)
    with guards.reading(model, output):
        work = _Gram(model, *examples, _targets(model, per_layer, groups), loss)
        work.run()
    return work.totals if per_layer or groups is not None else work.totals[WHOLE]


def _targets(model: nn.Module, per_layer: bool, groups: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Return, by layer, the names of the matrices to which it adds."""
    known = layers.layer_names(model)
    if groups is None:
        return {layer: [layer if per_layer else WHOLE] for layer in known}
    if per_layer or not isinstance(groups, Mapping) or not groups:
        told = "given with per_layer=True" if per_layer else f"a {type(groups).__name__}" if groups else "empty"
        raise UserError(f"groups is {told}, expected a dict alone: name of a group → names of layers")
    found: dict[str, list[str]] = {layer: [] for layer in known}
    for name, held in groups.items():
        members = [held] if isinstance(held, str) else held
        if not isinstance(members, Collection) or not 0 < len(set(members)) == len(members):
            raise UserError(f"group {name!r} is {shown(held)}, expected names of layers, at least one and none twice")
        for member in members:
            inside = [layer for layer in known if layer == member or layer.startswith(f"{member}.")]
            if not inside:
                raise unknown_name("layer", member, known)
            for layer in inside:
                if name not in found[layer]:
                    found[layer].append(name)
    return found


class _Gram:
    """Computes the matrices block by block: some examples as rows, against some as columns."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, targets: dict[str, list[str]], loss: Loss) -> None:
        self._model, self._x, self._y, self._targets, self._loss = model, x, y, targets, loss
        self._plan = layers.plan(model, [layer for layer, names in targets.items() if names])
        self._workspaces = Workspace(), Workspace()
        first = layers.first_trainable(model)
        self._dtype = layers.wide(first.dtype)
        names = dict.fromkeys(name for members in targets.values() for name in members)
        self._step = _block_size(model, x, len(names), first)
        self.totals = {name: first.new_zeros(len(x), len(x), dtype=self._dtype) for name in names}
        self._kept: dict[object, Any] = {}  # uses or gradients of the rows' examples, by layer or parameter

    def run(self) -> None:
        """Compute the upper blocks of the matrices, and mirror them."""
        for i in range(0, len(self._x), self._step):
            rows = slice(i, i + self._step)
            self._kept.clear()
            for j in range(i, len(self._x), self._step):
                self._pass(rows, slice(j, j + self._step))
        for total in self.totals.values():
            _mirror(total)
            checks.check_finite(total.diagonal(), resolved=True)

    def _pass(self, rows: slice, columns: slice) -> None:
        """Run the columns' examples forward and backward, and add the products with the rows' examples.

        In a block on the diagonal both are the same, and are kept for the columns that follow.
        """
        own, last = rows == columns, columns.stop >= len(self._x)

        def meet(key: object, layer: str, found: Any, add: Callable[[Tensor, Any, Any], None]) -> None:
            if own and not last:
                self._kept[key] = found
            left = found if own else self._kept.get(key)
            if left is not None:
                for name in self._targets[layer]:
                    add(self.totals[name][rows, columns], left, None if own else found)

        def on_layer(layer: Layer, uses: list[Use]) -> None:
            meet(layer, layer.name, uses, partial(add_gram, layer, self._workspaces))

        def on_gradients(name: str, found: Tensor) -> None:
            if not own and name not in self._kept:  # the rows, with another number of examples, used a formula
                left = gradients(self._model, [name], self._x[rows], self._y[rows], loss=self._loss)
                self._kept[name] = left[name].to(self._dtype)
            meet(name, layers.layer_name(name), found.to(self._dtype), add_product)

        x, y = self._x[columns], self._y[columns]
        visit(self._model, x, y, self._plan, on_layer, on_gradients, loss=self._loss)


def _mirror(total: Tensor) -> None:
    """Copy the upper triangle of a matrix to its lower one, in blocks that stay in the cache."""
    for i in range(0, len(total), MIRRORED):
        k = i + MIRRORED
        block = total[i:k, i:k]
        block.copy_(block.triu() + block.triu(1).T)
        total[k:, i:k] = total[i:k, k:].T


def _block_size(model: nn.Module, x: Tensor, matrices: int, first: nn.Parameter) -> int:
    """Return how many examples to take at a time.

    Raises:
        UserError: The matrices would not fit in memory.
    """
    n, device = len(x), first.device
    needed = (matrices + 2) * n * n * layers.wide(first.dtype).itemsize  # two more for intermediate products
    each = layers.seen(model, x).bytes
    if needed >= SMALL:
        many = f"{matrices} Gram matrices" if matrices > 1 else "the Gram matrix"
        what, advice = f"{many} of {n:,} by {n:,} examples", "take fewer examples, or fewer layers (groups=)"
        checks.refuse_if_too_large(needed + each, what, advice, device=device)
    most = min(n, MOST)
    if most * each >= SMALL:
        room = min(LARGEST, max(checks.available_memory(device) - needed, 0) // 2)
        most = max(1, min(most, room // each))
    return -(-n // -(-n // most))  # blocks of nearly equal size


def sign(gram: Tensor) -> Tensor:
    """Compute sign(g_i · g_j): 1 if a small step on one example lowers the other's loss, −1 if it raises it, else 0.

    Args:
        gram: [n, n], from `gradient_gram`, or a part of it.

    Returns:
        −1, 0 or 1, in the shape of the matrix.

    Raises:
        UserError: It is not a matrix, or a value is not finite.

    Source: Fort et al. (2019), Eq. 4; Walker, Definition 1.1.

    >>> sign(torch.tensor([[2.0, -1.0], [-1.0, 3.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    _check(gram)
    return gram.sign()


def cosine(gram: Tensor) -> Tensor:
    """Compute cos(g_i, g_j) = g_i · g_j / (‖g_i‖ ‖g_j‖); 0 where a gradient is zero (`zero_gradients` counts them).

    Args:
        gram: [n, n], from `gradient_gram`. To compare two sets of examples, take the matrix of both together, and the
            part [:n, n:] of its cosines.

    Returns:
        [n, n], in [−1, 1].

    Raises:
        UserError: It is not a square matrix, or a value is not finite.

    Source: Fort et al. (2019), Eq. 5; Walker, Definition 1.2.

    >>> cosine(torch.tensor([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000,  0.0000],
            [-0.5000,  1.0000,  0.0000],
            [ 0.0000,  0.0000,  0.0000]])
    """
    _check(gram)
    if gram.shape[0] != gram.shape[1]:
        raise UserError(f"the Gram matrix is {list(gram.shape)}, expected [n, n], whose diagonal has the norms")
    scale = torch.where(_has_gradient(gram), gram.diagonal().clamp(min=0).rsqrt(), 0)
    return (gram * scale[:, None] * scale[None]).clamp(-1, 1)


def zero_gradients(gram: Tensor) -> int:
    """Count the examples with a zero gradient, whose stiffness is defined as 0.

    A gradient counts as zero if its squared norm is below the smallest normal number of the dtype. In float32 that is a
    norm below 1.1e-19, which very well fitted examples reach; in float64 (`model.double()`), one below 1.5e-154.

    Args:
        gram: [n, n], from `gradient_gram`.

    Returns:
        The number of examples, 0 to n.

    Raises:
        UserError: It is not a matrix, or a value is not finite.

    >>> zero_gradients(torch.diag(torch.tensor([1.0, 0.0, 0.0])))
    2
    """
    _check(gram)
    return int((~_has_gradient(gram)).sum())


def _has_gradient(gram: Tensor) -> Tensor:
    """Return where a squared norm is a normal number, bool [n]; smaller numbers have lost digits."""
    return gram.diagonal() >= torch.finfo(gram.dtype if gram.is_floating_point() else torch.float32).tiny


def _check(gram: Tensor) -> None:
    if not isinstance(gram, Tensor):
        raise UserError(f"gram is a {type(gram).__name__}, expected a matrix; of a dict of layers take one")
    if gram.dim() != 2:
        raise UserError(f"gram has shape {tuple(gram.shape)}, expected a matrix [n, n] or a part of one")
    if not torch.isfinite(gram).all():
        raise UserError("gram has values that are not finite: take it of gradients that are")
