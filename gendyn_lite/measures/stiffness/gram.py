"""The Gram matrix of per-example loss gradients, without storing the gradients; sign and cosine stiffness from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.per_example import checks, layers
from gendyn_lite.measures.per_example.factors import Workspace
from gendyn_lite.measures.per_example.layers import Layer
from gendyn_lite.measures.per_example.passes import Loss, Use, cross_entropy, gradients, visit
from gendyn_lite.measures.stiffness.layer_gram import add_gram, add_product

MOST = 1024  # examples at a time: more is no faster
SMALL = 64 << 20  # bytes that are always taken to be there
LARGEST = 4 << 30  # bytes that activations may take where there is more
WHOLE = "network"
Examples = tuple[Tensor, Tensor]


@torch.inference_mode(False)
def gradient_gram(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    other: Examples | None = None,
    per_layer: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    loss: Loss = cross_entropy,
    block: int | None = None,
    memory_limit: int | None = None,
) -> Tensor | dict[str, Tensor]:
    """G_ij = g_i · g_j, where g_i = ∇_θ L(f(x_i), y_i) is the gradient of one example's loss.

    The gradients are over the parameters with requires_grad; none is stored. A linear or convolutional layer's share
    follows from its inputs and output gradients. Parameters without such a formula go through `torch.func`, and a
    warning names their layers. The network, its gradients and its hooks are left as they were.

    Args:
        model: Any network, batch-norm and dropout in eval mode.
        x: Inputs [n, ...], as the network takes them (standardized).
        y: Labels int64 [n].
        other: A second set (x, y) with m examples: G is then [n, m], g_i from the first and g_j from the second.
        per_layer: Whether to return one matrix for each layer (a module with parameters of its own, weight and bias
            together; shared parameters count for the first module that holds them). Their sum is the whole G.
        groups: Name → layers, to return one matrix for each group: a module's name stands for it and all inside.
        loss: Function of (logits, y) that gives the loss of each example, [n]; by default the cross-entropy in nats.
        block: Examples in memory at a time; by default as many as fit.
        memory_limit: Bytes to stay under instead of what is free on the device.

    Returns:
        [n, n] (or [n, m]) in the precision of the network, or a dict of them by layer or group, in network order.

    Raises:
        UserError: Train mode with batch-norm or dropout; fewer than two examples; labels out of range; a network on
            another device; a gradient that is not finite; a matrix that would not fit, with an estimate and advice.

    Source: Fort et al. (2019), Stiffness: A New Perspective on Generalization in Neural Networks, Sec. 2.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 0])
    >>> gradient_gram(model, x, y)
    tensor([[ 0.5000, -0.5000,  0.0000],
            [-0.5000,  0.5000,  0.0000],
            [ 0.0000,  0.0000,  2.0000]])
    """
    checks.check_examples(model, x, y, least=2 if other is None else 1)
    if other is not None:
        checks.check_examples(model, *other, least=1, name="other: ")
    sets = (x, y), (other or (x, y))
    work = _Gram(model, sets, _targets(model, per_layer, groups), loss, other is not None)
    work.run(work.block_size(block, memory_limit))
    return work.totals if per_layer or groups is not None else work.totals[WHOLE]


def _targets(model: nn.Module, per_layer: bool, groups: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Layer → names of the matrices that it counts for, in network order of the matrices."""
    known = layers.layer_names(model)
    if groups is None:
        return {layer: [layer if per_layer else WHOLE] for layer in known}
    found: dict[str, list[str]] = {layer: [] for layer in known}
    for name, members in groups.items():
        for member in [members] if isinstance(members, str) else members:
            inside = [layer for layer in known if layer == member or layer.startswith(f"{member}.")]
            if not inside:
                raise unknown_name("layer", member, known)
            for layer in inside:
                if name not in found[layer]:
                    found[layer].append(name)
    return found


class _Gram:
    """The matrices in the making: blocks of rows against blocks of columns."""

    def __init__(
        self, model: nn.Module, sets: tuple[Examples, Examples], targets: dict[str, list[str]], loss: Loss, two: bool
    ) -> None:
        self.count = len(sets[0][0]), len(sets[1][0])
        self._model, self._sets, self._targets, self._loss, self._two = model, sets, targets, loss, two
        self._plan = layers.plan(model, [layer for layer, names in targets.items() if names])
        self._workspaces = Workspace(), Workspace()
        first = layers.first_trainable(model)
        self._device, self._dtype = first.device, layers.wide(first.dtype)
        names = dict.fromkeys(name for members in targets.values() for name in members)
        self.totals = {name: torch.zeros(self.count, dtype=self._dtype, device=self._device) for name in names}

    def block_size(self, asked: int | None, limit: int | None) -> int:
        """Examples in memory at a time.

        Args:
            asked: What the caller wants; None for as many as fit.
            limit: Bytes to stay under instead of what is free.

        Raises:
            UserError: `asked` is below 1 or not a whole number, or the matrices would not fit.
        """
        checks.check_whole("block", asked, optional=True)
        (n, m), matrices = self.count, len(self.totals)
        needed = (matrices + 2) * n * m * self._dtype.itemsize  # two more for products on the way
        each = layers.activation_bytes(self._model, self._sets[0][0]) * (2 if self._two else 1)
        if needed >= SMALL or limit is not None:
            many = f"{matrices} Gram matrices" if matrices > 1 else "the Gram matrix"
            what, advice = f"{many} of {n:,} by {m:,} examples", "take fewer examples, or fewer layers (groups=)"
            checks.refuse_if_too_large(needed + each, what, advice, device=self._device, memory_limit=limit)
        if asked is not None:
            return asked
        wanted = min(max(n, m), MOST)
        if limit is None and wanted * each < SMALL:
            return wanted
        free = checks.available_memory(self._device) if limit is None else limit
        most = max(1, min(wanted, min(LARGEST, max(free - needed, 0) // 2) // each))
        return -(-max(n, m) // -(-max(n, m) // most))  # blocks of nearly one size

    def run(self, step: int) -> None:
        """Fill the matrices, `step` examples at a time."""
        n, m = self.count
        for i in range(0, n, step):
            rows = slice(i, i + step)
            columns = [slice(j, j + step) for j in range(0 if self._two else i + step, m, step)]
            kept: dict[object, Any] = {}
            self._pass(rows, rows, kept, keep=bool(columns))
            for part in columns:
                self._pass(rows, part, kept, second=True)
        for total in self.totals.values():
            if self._two:
                checks.check_finite(total.abs().amax(1))
            else:
                total.copy_(total.triu() + total.triu(1).T)
                checks.check_finite(total.diagonal(), resolved=True)

    def _pass(
        self, rows: slice, examples: slice, kept: dict[object, Any], *, keep: bool = False, second: bool = False
    ) -> None:
        """One forward and backward pass over some examples.

        Args:
            rows: The rows of the matrices to add to.
            examples: Which examples: those of the rows, or of the second set to set against them.
            kept: The uses or gradients of the rows, by layer or parameter.
            keep: Whether to add to them.
            second: Whether the examples are of the second set.
        """
        x, y = (value[examples] for value in self._sets[int(second)])

        def meet(key: object, layer: str, found: Any, add: Callable[[Tensor, Any, Any], None]) -> None:
            if keep:
                kept[key] = found
            left = kept.get(key) if second else found
            if left is not None and (second or not self._two):
                for name in self._targets[layer]:
                    add(self.totals[name][rows, examples], left, found if second else None)

        def on_layer(layer: Layer, uses: list[Use]) -> None:
            meet(layer, layer.name, uses, partial(add_gram, layer, self._workspaces))

        def on_gradients(name: str, found: Tensor) -> None:
            if second and name not in kept:  # a formula served for the rows, of another number of examples
                left = (value[rows] for value in self._sets[0])
                kept[name] = gradients(self._model, [name], *left, loss=self._loss)[name].to(self._dtype)
            meet(name, layers.layer_name(name), found.to(self._dtype), add_product)

        visit(self._model, x, y, self._plan, on_layer, on_gradients, loss=self._loss)


def sign(gram: Tensor) -> Tensor:
    """sign(g_i · g_j): 1 if a small step on one example lowers the other's loss, −1 if it raises it, 0 if neither.

    Args:
        gram: [n, n] or [n, m], of `gradient_gram`.

    Returns:
        −1, 0 or 1, in the shape of the matrix.

    Raises:
        UserError: It is no matrix, or a value is not finite.

    Source: Fort et al. (2019), Eq. 4; Walker, Definition 1.1.

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

    Returns:
        In [−1, 1], in the shape of the matrix.

    Raises:
        UserError: The matrix is not square and no norms are given, they do not fit it, or a value is not finite.

    Source: Fort et al. (2019), Eq. 5; Walker, Definition 1.2.

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

    Args:
        gram: [n, n], of `gradient_gram`.

    Returns:
        A number of examples, 0 to n.

    Raises:
        UserError: It is no matrix, or a value is not finite.

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
