"""The Gram matrix of the per-example gradients of one layer, from its inputs u and output gradients z.

Two methods give the same numbers. The *ghost* method computes g_i·g_j = Σ_ts (u_it·u_js)(z_it·z_js) without any
gradient. The *instantiated* method computes the gradients, for a few output channels at a time, and multiplies them.
Which one is cheaper depends on the layer. Of a symmetric matrix only the upper triangle is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.measures.per_example.checks import check_finite
from gendyn_lite.measures.per_example.factors import Factors, Workspace, scale_gradients, tokens_of
from gendyn_lite.measures.per_example.guards import Output, check_examples, given, reading
from gendyn_lite.measures.per_example.layers import Layer, Use, plan, seen
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy, visit

Uses = list[Use]
BLOCK_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}  # of gradients or products in memory at a time
ACTIVATION_BYTES = 1 << 30  # of a forward and backward pass for squared norms
TRIANGLE = 64  # rows in a strip of the upper triangle, in `add_product`
GHOST_STRIP = 128  # rows in a strip of the upper triangle, in the ghost method


def add_gram(layer: Layer, workspaces: Sequence[Workspace], total: Tensor, uses: Uses, others: Uses | None) -> None:
    """Add a layer's Gram matrix to `total`.

    Args:
        layer: The layer.
        workspaces: Buffers for the rows and for the columns.
        total: [n, m], changed in place. If `others` is None, only its upper triangle is complete.
        uses: Uses of the layer on the n examples of the rows.
        others: Uses of the layer on the m examples of the columns; None if they are those of the rows.
    """
    if layer.kind == "affine":
        left = Factors(uses, workspaces[0])
        _add_affine(total, layer, left, None if others is None else Factors(others, workspaces[1]), workspaces[0])
    elif layer.kind == "scale":
        add_product(total, scale_gradients(layer, uses), None if others is None else scale_gradients(layer, others))
    else:
        _add_embedding(total, uses, others)


def squared_norms(
    model: nn.Module,
    x: Tensor | DataLoader[Any],
    y: Tensor | None = None,
    *,
    loss: Loss = cross_entropy,
    output: Output = None,
) -> Tensor:
    """Compute ‖g_i‖² of each example's loss gradient: the diagonal of `gradient_gram`, at a fraction of its cost.

    Args:
        model: Any network, with batch-norm and dropout in eval mode.
        x: Inputs [n, ...], or a DataLoader of inputs and labels.
        y: Labels int64 [n].
        loss: Function of (logits, y) that returns the loss of each example.
        output: As for `gradient_gram`.

    Returns:
        [n], in the precision of the network (float32 for half precision).

    Raises:
        UserError: As for `gradient_gram`, but one example is enough.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> squared_norms(model, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    tensor([0.5000, 2.0000])
    """
    inputs, labels = given(x, y)
    check_examples(model, inputs, labels, least=1)
    planned = plan(model)
    parts: list[Tensor] = []
    shares: list[Tensor] = []

    def on_layer(layer: Layer, uses: list[Use]) -> None:
        shares.append(squared_norms_of(layer, uses))

    def on_gradients(name: str, found: Tensor) -> None:
        shares.append(found.square().sum(1))

    with reading(model, output):
        step = max(1, ACTIVATION_BYTES // seen(model, inputs).bytes)
        for some in zip(inputs.split(step), labels.split(step), strict=True):
            shares.clear()
            visit(model, *some, planned, on_layer, on_gradients, loss=loss)
            parts.append(torch.stack(shares).sum(0) if shares else inputs.new_zeros(len(some[0])))
    norms = torch.cat(parts)
    check_finite(norms)
    return norms


def squared_norms_of(layer: Layer, uses: list[Use]) -> Tensor:
    """Compute a layer's share of each example's squared gradient norm, [n]."""
    if layer.kind == "scale":
        return scale_gradients(layer, uses).square().sum(1)
    if layer.kind == "embedding":
        tokens, z = tokens_of(uses)
        same = tokens[:, :, None] == tokens[:, None]
        return (torch.bmm(z, z.transpose(1, 2)) * same).sum((1, 2))
    factors = Factors(uses, Workspace())
    norms = factors.like.new_zeros(factors.count)
    ghost = factors.places * (factors.inputs + factors.outputs) < factors.inputs * factors.outputs
    for i, k in factors.chunks() if layer.weight is not None else ():
        if factors.places == 1:
            u, z = factors.patches(i, k), factors.outputs_of(i, k)
            norms[i:k] += (u.square().sum((2, 3)) * z.square().sum((2, 3))).sum(1)
        elif ghost:
            u, z = factors.patches(i, k), factors.outputs_of(i, k)
            norms[i:k] += ((u @ u.mT) * (z @ z.mT)).sum((1, 2, 3))
        else:
            norms[i:k] += factors.weight_gradients(i, k).square().flatten(1).sum(1)
    return norms + factors.bias_gradients().square().sum(1) if layer.bias is not None else norms


def add_product(total: Tensor, left: Tensor, right: Tensor | None) -> None:
    """Add left rightᵀ to `total`; without `right`, the upper triangle of left leftᵀ, in strips of rows."""
    if right is not None:
        total.addmm_(left, right.T)
        return
    n = len(left)
    strip = n if n < 2 * TRIANGLE else TRIANGLE
    for i in range(0, n, strip):
        total[i : i + strip, i:].addmm_(left[i : i + strip], left[i:].T)


def ghost_is_cheaper(left: Factors, right: Factors | None) -> bool:
    """Compare the multiplications of the two methods, for one group of channels."""
    n, t, d, p = left.count, left.places, left.inputs, left.outputs
    m, s = (n, t) if right is None else (right.count, right.places)
    both = 0.5 if right is None else 1.0  # the upper triangle only
    ghost = both * n * m * t * s * (d + p)
    made = n * t if right is None else n * t + m * s
    return ghost < d * p * (made + both * n * m)


def _add_affine(total: Tensor, layer: Layer, left: Factors, right: Factors | None, workspace: Workspace) -> None:
    bias = layer.bias is not None
    if layer.weight is not None:
        if ghost_is_cheaper(left, right):
            # A bias is a weight whose input is 1, so it costs only an addition.
            _add_ghost(total, left, right, workspace, ones=bias)
            return
        _add_instantiated(total, left, right)
    if bias:
        add_product(total, left.bias_gradients(), None if right is None else right.bias_gradients())


def _add_ghost(total: Tensor, left: Factors, right: Factors | None, workspace: Workspace, *, ones: bool) -> None:
    columns = left if right is None else right
    t, s, m = left.places, columns.places, columns.count
    rows = _budget(left) // (2 * m * t * s)
    strip = max(1, min(left.count, rows))
    if right is None and left.count * t >= 2 * GHOST_STRIP:
        strip = min(strip, -(-GHOST_STRIP // t))  # entries below a strip's first column are not computed
    sides = [(side.patches(0, side.count), side.outputs_of(0, side.count)) for side in dict.fromkeys((left, columns))]
    for group in range(left.groups):
        flat = [[part[:, group].reshape(-1, part.shape[-1]) for part in side] for side in sides]
        (ul, zl), (ur, zr) = flat[0], flat[-1]
        for i in range(0, left.count, strip):
            k, j = min(left.count, i + strip), i if right is None else 0
            shape = ((k - i) * t, (m - j) * s)
            h1, h2 = workspace.get("ghost u", shape, ul), workspace.get("ghost z", shape, ul)
            torch.mm(ul[i * t : k * t], ur[j * s :].T, out=h1)
            torch.mm(zl[i * t : k * t], zr[j * s :].T, out=h2)
            if ones:
                h1 += 1
            if t == s == 1:
                total[i:k, j:].addcmul_(h1, h2)
            else:
                total[i:k, j:] += h1.mul_(h2).view(k - i, t, m - j, s).sum((1, 3))


def _add_instantiated(total: Tensor, left: Factors, right: Factors | None) -> None:
    sides = [left] if right is None else [left, right]
    columns = left if right is None else right
    each = left.inputs * max(left.count, columns.count)
    if left.groups == 1:
        width = -(-left.outputs // -(-left.outputs // max(1, _budget(left) // each)))  # blocks of nearly equal size
        blocks = [(slice(0, 1), slice(q, min(left.outputs, q + width))) for q in range(0, left.outputs, width)]
    else:
        width = max(1, _budget(left) // (each * left.outputs))
        blocks = [(slice(g, min(left.groups, g + width)), slice(None)) for g in range(0, left.groups, width)]
    for groups, channels in blocks:
        made = [side.weight_gradients(0, side.count, groups=groups, channels=channels).flatten(1) for side in sides]
        add_product(total, made[0], None if right is None else made[1])


def _budget(factors: Factors) -> int:
    """Return how many numbers a block may hold."""
    return BLOCK_BYTES.get(factors.like.device.type, 256 << 20) // factors.like.element_size()


def _add_embedding(total: Tensor, uses: list[Use], others: list[Use] | None) -> None:
    """Add Σ_ts [token_it = token_js] z_it·z_js; the padding token has no gradient."""
    tokens, z = tokens_of(uses)
    tokens_right, z_right = (tokens, z) if others is None else tokens_of(others)
    _, t, p = z.shape
    m, s, _ = z_right.shape
    strip = max(1, BLOCK_BYTES.get(z.device.type, 256 << 20) // z.element_size() // (2 * m * t * s))
    for i in range(0, len(z), strip):
        same = tokens[i : i + strip].reshape(-1, 1) == tokens_right.reshape(1, -1)
        products = z[i : i + strip].reshape(-1, p) @ z_right.reshape(-1, p).T
        total[i : i + strip] += (products * same).view(-1, t, m, s).sum((1, 3))
