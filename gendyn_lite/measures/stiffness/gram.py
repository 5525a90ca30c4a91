"""The Gram matrix of per-example loss gradients, without storing the gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gendyn_lite.errors import unknown_name
from gendyn_lite.measures.per_example.checks import (
    activation_bytes,
    available_memory,
    check_examples,
    check_finite,
    check_whole,
    refuse_if_too_large,
)
from gendyn_lite.measures.per_example.factors import Workspace
from gendyn_lite.measures.per_example.layers import Layer, layer_name, layer_names, plan
from gendyn_lite.measures.per_example.passes import Loss, Use, backward, cross_entropy, gradients, warn
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
    other: tuple[Tensor, Tensor] | None = None,
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

    Source:
        Fort et al. (2019), Stiffness: A New Perspective on Generalization in Neural Networks, Sec. 2.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 0])
    >>> gradient_gram(model, x, y)
    tensor([[ 0.5000, -0.5000,  0.0000],
            [-0.5000,  0.5000,  0.0000],
            [ 0.0000,  0.0000,  2.0000]])
    """
    check_examples(model, x, y, least=2 if other is None else 1)
    if other is not None:
        check_examples(model, *other, least=1, name="other: ")
    sets = (x, y), (other or (x, y))
    work = _Gram(model, sets, _targets(model, per_layer, groups), loss, symmetric=other is None)
    work.run(work.block_size(block, memory_limit))
    return work.totals if per_layer or groups is not None else work.totals[WHOLE]


def _targets(model: nn.Module, per_layer: bool, groups: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Layer → names of the matrices that it counts for, in network order of the matrices."""
    layers = layer_names(model)
    if groups is None:
        return {layer: [layer if per_layer else WHOLE] for layer in layers}
    found: dict[str, list[str]] = {layer: [] for layer in layers}
    for name, members in groups.items():
        for member in [members] if isinstance(members, str) else members:
            inside = [layer for layer in layers if layer == member or layer.startswith(f"{member}.")]
            if not inside:
                raise unknown_name("layer", member, layers)
            for layer in inside:
                if name not in found[layer]:
                    found[layer].append(name)
    return found


class _Gram:
    """The matrices in the making: blocks of rows against blocks of columns."""

    def __init__(
        self,
        model: nn.Module,
        sets: tuple[Examples, Examples],
        targets: dict[str, list[str]],
        loss: Loss,
        *,
        symmetric: bool,
    ) -> None:
        self.count = len(sets[0][0]), len(sets[1][0])
        self._model, self._sets, self._targets, self._loss, self._symmetric = model, sets, targets, loss, symmetric
        self._plan = plan(model)
        self._without = {name for name in self._plan.without_formula if targets[layer_name(name)]}
        self._workspace = Workspace()
        first = next(value for value in model.parameters() if value.requires_grad)
        dtype = first.dtype if first.dtype in (torch.float32, torch.float64) else torch.float32
        names = dict.fromkeys(name for members in targets.values() for name in members)
        self.totals = {name: torch.zeros(self.count, dtype=dtype, device=first.device) for name in names}

    def block_size(self, asked: int | None, limit: int | None) -> int:
        """Examples in memory at a time.

        Args:
            asked: What the caller wants; None for as many as fit.
            limit: Bytes to stay under instead of what is free.

        Raises:
            UserError: `asked` is below 1 or not a whole number, or the matrices would not fit.
        """
        check_whole("block", asked, optional=True)
        (n, m), matrices, x = self.count, len(self.totals), self._sets[0][0]
        first = next(value for value in self._model.parameters() if value.requires_grad)
        size = max(first.element_size(), 4)
        needed = (matrices + 2) * n * m * size  # two more for products on the way
        each = activation_bytes(self._model, x) * (1 if self._symmetric else 2)
        if needed >= SMALL or limit is not None:
            many = f"{matrices} Gram matrices" if matrices > 1 else "the Gram matrix"
            refuse_if_too_large(
                needed + each,
                f"{many} of {n:,} by {m:,} examples",
                "take fewer examples, or fewer layers at a time (groups=)",
                device=first.device,
                memory_limit=limit,
            )
        wanted = min(max(n, m), MOST) if asked is None else asked
        if asked is not None or (limit is None and wanted * each < SMALL):
            return wanted
        free = available_memory(first.device) if limit is None else limit
        left = LARGEST if free is None else min(LARGEST, max(free - needed, 0) // 2)
        most = max(1, min(wanted, left // each))
        return -(-max(n, m) // -(-max(n, m) // most))  # blocks of nearly one size

    def run(self, step: int) -> None:
        """Fill the matrices, `step` examples at a time."""
        rows, columns = (range(0, count, step) for count in self.count)
        for i in rows:
            kept: dict[Layer, list[Use]] = {}
            row = slice(i, i + step)
            if self._symmetric:
                self._pass(row, row, None, kept if i + step < self.count[0] else None)
            else:
                self._pass(row, None, None, kept)
            for j in columns:
                if not self._symmetric or j > i:
                    self._pass(slice(j, j + step), row, kept, None, columns=True)
        for total in self.totals.values():
            if self._symmetric:
                total.copy_(total.triu() + total.triu(1).T)
                check_finite(total.diagonal(), resolved=True)
            else:
                check_finite(total.abs().amax(1))

    def _pass(
        self,
        examples: slice,
        rows: slice | None,
        against: dict[Layer, list[Use]] | None,
        keep: dict[Layer, list[Use]] | None,
        *,
        columns: bool = False,
    ) -> None:
        """One forward and backward pass over some examples.

        Args:
            examples: Which, of the second set if `columns`.
            rows: The rows of the matrices to add to; None to add nothing.
            against: Uses on the examples of the rows; None if they are these examples.
            keep: Where to store the uses for later passes.
            columns: Whether these examples are the columns of an off-diagonal block.
        """
        x, y = (value[examples] for value in self._sets[1 if columns else 0])

        def on_layer(layer: Layer, uses: list[Use]) -> None:
            if keep is not None:
                keep[layer] = uses
            if rows is None or (against is not None and layer not in against):
                return
            if not self._without.isdisjoint(layer.parameters):  # as in an earlier pass, of another number of examples
                return
            for name in self._targets[layer.name]:
                part = self.totals[name][rows, examples]
                if against is None:
                    add_gram(part, layer, uses, None, self._workspace)
                else:
                    add_gram(part, layer, against[layer], uses, self._workspace)

        outside = backward(self._model, x, y, self._plan, on_layer, loss=self._loss)
        self._without |= {name for name in outside if self._targets[layer_name(name)]}
        if rows is not None:
            self._add_without_formula(rows, examples, columns)

    def _add_without_formula(self, rows: slice, examples: slice, columns: bool) -> None:
        """Parameters whose gradients are made one by one."""
        if not self._without:
            return
        names = sorted(self._without)
        if self._without - self._plan.announced:
            warn(names, self._model)
            self._plan.announced.update(names)

        def made(given: tuple[Tensor, Tensor], part: slice) -> dict[str, Tensor]:
            return gradients(self._model, names, given[0][part], given[1][part], loss=self._loss)

        right = made(self._sets[1], examples) if columns else None
        for name, gradient in made(self._sets[0], rows).items():
            for target in self._targets[layer_name(name)]:
                part = self.totals[target][rows, examples]
                add_product(part, gradient.to(part.dtype), None if right is None else right[name].to(part.dtype))
