"""One example of a batch, run with its neighbours, whose gradients by autograd each layer must reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import MIXES, TOLERANCE, Loss, gradients_of, lone, requiring, run_few
from gendyn_lite.measures.per_example.layers import Layer, Use


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
        with requiring(model, names) as own:
            logits = run_few(model, x.clone())
            alone, found = gradients_of(loss(logits, y)[1], {**own, "": x} if x.requires_grad else own)
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
