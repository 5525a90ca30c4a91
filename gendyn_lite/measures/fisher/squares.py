"""Sums over examples of squared per-example gradients, layer by layer, without storing gradients.

If a layer is applied at one place, g_i = z_i u_iᵀ and the squares factorize: Σ_i g_i² = (Z²)ᵀ U², a matrix product.
Otherwise (convolutions, sequences) the gradient of one example (and, for large weights, of a few output channels) is
computed, added to the sum while it is in the cache, and overwritten by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn_lite.measures.per_example.factors import Factors, Workspace, scale_gradients, tokens_of
from gendyn_lite.measures.per_example.layers import Layer, Use, wide

GRADIENT_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}  # of gradients at a time; on a CPU they stay in the cache


class Squares:
    """Accumulated sums for every parameter, in float64 if the parameter is, else in float32."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._totals = {name: _zeros(value) for name, value in parameters.items()}
        self._workspace = Workspace()

    def add(self, layer: Layer, uses: list[Use]) -> None:
        """Add the squared gradients of a layer on a batch, given its uses."""
        if layer.kind == "affine":
            self._add_affine(layer, uses)
        elif layer.kind == "scale":
            self._add_scale(layer, uses)
        else:
            self._add_embedding(layer, uses)

    def add_gradients(self, name: str, gradients: Tensor) -> None:
        """Add the squares of explicit gradients [n, entries]."""
        self._totals[name] += gradients.to(self._totals[name].dtype).square().sum(0).view(self._totals[name].shape)

    def finite(self) -> bool:
        """Whether every sum is finite."""
        return bool(torch.isfinite(torch.stack([total.sum() for total in self._totals.values()])).all())

    def sums(self) -> dict[str, Tensor]:
        """Return Σ_i g_i² of each parameter, in its shape."""
        return {name: total.contiguous() for name, total in self._totals.items()}

    def _add_affine(self, layer: Layer, uses: list[Use]) -> None:
        factors = Factors(uses, self._workspace)
        if layer.bias is not None:
            self._totals[layer.bias] += factors.bias_gradients().square().sum(0)
        if layer.weight is None:
            return
        total = self._totals[layer.weight].movedim(1, -1).view(factors.groups, factors.outputs, factors.inputs)
        if factors.places == 1:
            _add_outer_products(total, factors)
        elif total.device.type == "cpu":
            _add_one_by_one(total, factors, self._workspace)
        else:
            _add_in_blocks(total, factors)

    def _add_scale(self, layer: Layer, uses: list[Use]) -> None:
        totals = [self._totals[name] for name in layer.parameters]
        squares = scale_gradients(layer, uses).square().sum(0).split([total.numel() for total in totals])
        for total, own in zip(totals, squares, strict=True):
            total.add_(own.view(total.shape))

    def _add_embedding(self, layer: Layer, uses: list[Use]) -> None:
        """Add the squares for an embedding; if an example has a token at several places, gradients are summed first."""
        assert layer.weight is not None
        total, (tokens, z) = self._totals[layer.weight], tokens_of(uses)
        count, places = tokens.shape
        keys = tokens + len(total) * torch.arange(count, device=tokens.device)[:, None]
        found, position = keys.unique(return_inverse=True)
        sums = z.new_zeros(len(found), z.shape[2])
        sums.index_add_(0, position.reshape(count * places), z.reshape(count * places, -1))
        total.index_add_(0, found % len(total), sums.square())


def _zeros(like: Tensor) -> Tensor:
    """Return zeros of that shape; for a convolution the channels are last in memory, as in its input patches."""
    dtype = wide(like.dtype)
    if like.dim() < 3:
        return like.new_zeros(like.shape, dtype=dtype)
    outputs, channels, *kernel = like.shape
    return like.new_zeros(outputs, *kernel, channels, dtype=dtype).movedim(-1, 1)


def _add_outer_products(total: Tensor, factors: Factors) -> None:
    """Add Σ_i (z_i u_iᵀ)² = (Z²)ᵀ U², for each group of channels."""
    for i, k in factors.chunks():
        u, z = factors.patches(i, k)[:, :, 0].square(), factors.outputs_of(i, k)[:, :, 0].square()
        if factors.groups == 1:
            total[0].addmm_(z[:, 0].T, u[:, 0])
        else:
            total.baddbmm_(z.permute(1, 2, 0), u.transpose(0, 1))


def _add_one_by_one(total: Tensor, factors: Factors, workspace: Workspace) -> None:
    """Add one example for each thread and a few output channels at a time, so that gradients stay in the cache."""
    groups, outputs, inputs = total.shape
    width = max(1, min(outputs, GRADIENT_BYTES["cpu"] // (groups * inputs * total.element_size())))
    threads = torch.get_num_threads()
    for i, k in factors.chunks(least=threads):
        patches, z = factors.patches(i, k), factors.outputs_of(i, k).transpose(2, 3)
        for start in range(0, outputs, width):
            part = total[:, start : start + width]
            own = z[:, :, start : start + width]
            for first in range(0, k - i, threads):
                u, v = patches[first : first + threads], own[first : first + threads]
                made = workspace.get("gradient", (len(u), *part.shape), part)
                torch.bmm(v.flatten(0, 1), u.flatten(0, 1), out=made.flatten(0, 1))
                for gradient in made:
                    part.addcmul_(gradient, gradient)


def _add_in_blocks(total: Tensor, factors: Factors) -> None:
    """Add several examples at a time, since on a GPU many small products are slower than one that needs memory."""
    room = GRADIENT_BYTES.get(total.device.type, 64 << 20)
    step = max(1, room // (total.numel() * total.element_size()))
    for i in range(0, factors.count, step):
        k = min(factors.count, i + step)
        total += factors.weight_gradients(i, k).square_().sum(0)
