"""One example beside another: what layers show of it there, against which what they show in a batch is checked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import MIXES, TOLERANCE, cross_entropy
from gendyn_lite.measures.per_example.apart import ANOTHER, same_row
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use
from gendyn_lite.measures.per_example.taps import Taps


class Beside:
    """The example of a batch with the largest loss beside another one, and what its layers show there.

    It stands in for a `Lone` where it is proved that no operation mixes examples, and that each layer reads and gives
    them along the first axis: then a layer's formula is right if its input and output gradient are the example's own.
    No weight's gradient is taken.

    Args:
        model: The network, no parameter of which requires a gradient.
        plan: Its layers.
        batch: Inputs and labels.
        among: The logits and the losses among all.

    Attributes:
        used: The parameters that its loss depends on.

    Raises:
        UserError: An output is another one there than among all, or the loss has a derivative by the other example.
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
        """Whether a layer read and gave in the batch what it does here."""
        own = self._uses.get(layer, [])
        if len(own) != len(uses):
            return False
        return all(
            self._close(use.z[self._i], other.z[0]) and same_row(use.a[self._i], other.a[0])
            for use, other in zip(uses, own, strict=True)
        )

    def _close(self, found: Tensor, expected: Tensor) -> bool:
        wrong = (found - expected).norm()
        return not wrong > self._relative * expected.norm() + self._absolute  # NaN is another check's to name
