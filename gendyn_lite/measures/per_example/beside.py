"""A check of each layer in a batch against the same layer when one example is run beside only one other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import MIXES, TOLERANCE, cross_entropy
from gendyn_lite.measures.per_example.apart import ANOTHER, same_row
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use
from gendyn_lite.measures.per_example.taps import Taps


class Beside:
    """Layer inputs and output gradients of the example with the largest loss, run in a batch of two.

    It replaces `Lone` if it is proved that no operation mixes examples, and that each layer has them on the first axis
    of its input and output. Then a layer's formula is right if the input and output gradient that it uses are the
    example's own. So no gradient of a weight is computed.

    Args:
        model: The network; no parameter of it requires a gradient.
        plan: Its layers.
        batch: Inputs and labels of the whole batch.
        among: Logits and losses of the whole batch.

    Attributes:
        used: Names of the parameters on which the example's loss depends.

    Raises:
        UserError: An output differs from that in the whole batch, or the derivative of the example's loss with respect
            to the other example is not 0.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, batch: tuple[Tensor, Tensor], among: tuple[Tensor, Tensor]
    ) -> None:
        self._i, count = int(among[1].argmax()), len(among[1])
        places = [self._i, (self._i + count // 2) % count]
        x, y = (part[places] for part in batch)
        x.requires_grad_()
        self._uses: dict[Layer, list[Use]] = {}
        taps = Taps(plan, frozenset(), 2, self._uses.__setitem__)
        logits = taps.run(model, x.clone())
        for i, row in zip(places, logits.detach(), strict=True):
            if not same_row(row, among[0][i]):
                raise UserError(ANOTHER.format(i))
        taps.forward_is_done()
        of_inputs, _ = torch.autograd.grad(cross_entropy(logits[:1], y[:1]), [x, taps.source], allow_unused=True)
        if of_inputs is not None and (of_inputs[1].abs() > 0).any():
            raise UserError(MIXES)
        taps.hand_over_the_rest()
        self.used = frozenset(name for layer, uses in self._uses.items() if uses for name in layer.parameters)
        self._relative = TOLERANCE[logits.dtype]
        largest = [float(use.z[0].norm()) for uses in self._uses.values() for use in uses]
        self._absolute = self._relative * 1e-2 * max(largest, default=0.0)

    def agrees(self, layer: Layer, uses: list[Use]) -> bool:
        """Return whether the example's inputs and output gradients in the batch are those found here, for one layer."""
        own = self._uses.get(layer, [])
        if len(own) != len(uses):
            return False
        return all(
            self._close(use.z[self._i], other.z[0]) and same_row(use.a[self._i], other.a[0])
            for use, other in zip(uses, own, strict=True)
        )

    def _close(self, found: Tensor, expected: Tensor) -> bool:
        wrong = (found - expected).norm()
        return not wrong > self._relative * expected.norm() + self._absolute  # true for NaN: another check reports it
