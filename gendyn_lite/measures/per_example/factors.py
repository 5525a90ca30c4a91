"""Per-example gradients of linear and convolutional layers as sums of outer products, g_i = Σ_t z_it u_itᵀ.

t runs over the places at which a layer is applied (1 for a plain linear layer, H·W for a convolution), and over all
uses of shared weights. u_it is the patch that the layer reads there, and z_it the gradient of its output there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.measures.per_example.layers import Layer, Use

ALL = slice(None)
PATCH_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}  # of a chunk of patches; on a CPU it fits into the cache


class Workspace:
    """Reusable buffers, as allocating memory costs more time than the arithmetic on it."""

    def __init__(self) -> None:
        self._buffers: dict[object, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return an uninitialized tensor; the next call with the same name returns the same memory."""
        count = math.prod(shape)
        key = (name, like.dtype, like.device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < count:
            self._buffers[key] = buffer = like.new_empty(count)
        return buffer[:count].view(shape)


class Factors:
    """The factors u and z of one layer for all examples of a batch; patches u are computed chunk by chunk.

    Attributes:
        count: Number of examples n.
        groups: Number of channel groups of a convolution (1 for linear layers).
        places: Number of places T over all uses.
        inputs: Number of entries d of a patch, in one group.
        outputs: Number of output channels p in one group.
        z: Output gradients of each use, [n, groups, outputs, places of the use].
    """

    def __init__(self, uses: list[Use], workspace: Workspace) -> None:
        """Take the uses of one layer, without computing anything yet."""
        self._parts = [_Linear(use) if isinstance(use.module, nn.Linear) else _Conv(use, workspace) for use in uses]
        first = self._parts[0]
        self.count, self.groups, self.outputs, _ = first.z.shape
        self.inputs = first.inputs
        self.places = sum(part.z.shape[3] for part in self._parts)
        self.z = [part.z for part in self._parts]
        self.like, self._workspace = first.z, workspace

    def patches(self, start: int, stop: int) -> Tensor:
        """Compute u of some examples, [stop − start, groups, places, inputs]; the next call may overwrite it."""
        if len(self._parts) == 1:
            return self._parts[0].patches(start, stop)
        return torch.cat([part.patches(start, stop).clone() for part in self._parts], dim=2)

    def outputs_of(self, start: int, stop: int) -> Tensor:
        """Return z of some examples, [stop − start, groups, places, outputs]."""
        parts = [part.z[start:stop].transpose(2, 3) for part in self._parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def bias_gradients(self) -> Tensor:
        """Compute the gradient of each example's loss with respect to the bias, [n, groups · outputs]."""
        sums = [part.z.sum(3).flatten(1) for part in self._parts]
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)

    def weight_gradients(self, start: int, stop: int, *, channels: slice = ALL, groups: slice = ALL) -> Tensor:
        """Compute gradients of some examples with respect to some of the weights; the next call overwrites them.

        Args:
            start: First example.
            stop: One after the last example.
            channels: Which output channels of each group.
            groups: Which groups.

        Returns:
            [stop − start, number of groups, number of channels, inputs].
        """
        counts = [len(range(*part.indices(of))) for part, of in ((groups, self.groups), (channels, self.outputs))]
        out = self._workspace.get("gradients", (stop - start, *counts, self.inputs), self.like)
        for i, k in self.chunks(start, stop):
            target = out[i - start : k - start].flatten(0, 1)
            for number, part in enumerate(self._parts):
                z = part.z[i:k, groups, channels].flatten(0, 1)
                u = part.patches(i, k)[:, groups].flatten(0, 1)
                if number == 0:
                    torch.bmm(z, u, out=target)
                else:
                    target.baddbmm_(z, u)
        return out

    def chunks(self, start: int = 0, stop: int | None = None, *, least: int = 1) -> Iterator[tuple[int, int]]:
        """Iterate over (start, stop) of chunks of examples whose patches fit `PATCH_BYTES`, at least `least` each."""
        stop = self.count if stop is None else stop
        step = max(least, PATCH_BYTES.get(self.like.device.type, 64 << 20) // self._patch_bytes())
        return ((i, min(i + step, stop)) for i in range(start, stop, step))

    def _patch_bytes(self) -> int:
        """Return the bytes of one example's patches, for the use with the most places."""
        places = max(part.z.shape[3] for part in self._parts)
        return self.groups * self.inputs * places * self.like.element_size()


class _Linear:
    """A linear layer over the last axis; the axes between the first and the last are places."""

    def __init__(self, use: Use) -> None:
        self.inputs = use.a.shape[-1]
        places = math.prod(use.a.shape[1:-1])
        self._a = use.a.reshape(len(use.a), 1, places, self.inputs)
        self.z = use.z.reshape(len(use.z), 1, places, use.z.shape[-1]).transpose(2, 3)

    def patches(self, start: int, stop: int) -> Tensor:
        return self._a[start:stop]


class _Conv:
    """A convolution in one or two dimensions; its places are the positions of its kernel."""

    def __init__(self, use: Use, workspace: Workspace) -> None:
        module = cast("nn.Conv1d | nn.Conv2d", use.module)
        flat = isinstance(module, nn.Conv1d)  # treated as an image of height 1
        self._a = use.a[:, :, None] if flat else use.a
        self._kernel, self._stride, self._dilation = (
            (1, size[0]) if flat else cast("tuple[int, int]", size)
            for size in (module.kernel_size, module.stride, module.dilation)
        )
        # Left, right, top, bottom. For padding="same" an odd pixel is at the end, as in torch.
        self._padding = (*module._reversed_padding_repeated_twice, *((0, 0) if flat else ()))
        self._mode, self._groups, self._workspace = module.padding_mode, module.groups, workspace
        self._shape = (1, use.z.shape[2]) if flat else use.z.shape[2:]
        self.z = use.z.reshape(len(use.z), module.groups, module.out_channels // module.groups, -1)
        self._plain = self._kernel == (1, 1) and not any(self._padding) and module.groups == 1
        self.inputs = module.in_channels // module.groups * self._kernel[0] * self._kernel[1]

    def patches(self, start: int, stop: int) -> Tensor:
        """Return [b, groups, places, kernel height · width · channels of a group]; the next call may overwrite it."""
        if self._plain:  # patches are single pixels: a view
            pixels = self._a[start:stop, :, :: self._stride[0], :: self._stride[1]]
            return pixels.flatten(2).transpose(1, 2)[:, None]
        x = self._padded(self._a[start:stop])
        count, (height, width), groups = stop - start, self._shape, self._groups
        channels = x.shape[3] // groups
        steps, s, d = x.stride(), self._stride, self._dilation
        windows = x.as_strided(
            (count, groups, height, width, *self._kernel, channels),
            (steps[0], channels, steps[1] * s[0], steps[2] * s[1], steps[1] * d[0], steps[2] * d[1], 1),
        )
        made = self._workspace.get("patches", windows.shape, x)
        return made.copy_(windows).view(count, groups, height * width, self.inputs)

    def _padded(self, a: Tensor) -> Tensor:
        """[b, H, W, C], contiguous, with its border."""
        if self._mode != "zeros":
            return F.pad(a, self._padding, mode=self._mode).permute(0, 2, 3, 1).contiguous()
        last = a.permute(0, 2, 3, 1)
        return (F.pad(last, (0, 0, *self._padding)) if any(self._padding) else last).contiguous()


def scale_gradients(layer: Layer, uses: list[Use]) -> Tensor:
    """Compute gradients with respect to scale and shift of a normalization layer, [n, entries]."""
    return torch.stack([_of_use(layer, use) for use in uses]).sum(0)


def _of_use(layer: Layer, use: Use) -> Tensor:
    parts = [use.z * _normalized(use.module, use.a)] if layer.weight is not None else []
    parts += [use.z] if layer.bias is not None else []
    return torch.cat([_over_places(use.module, part) for part in parts], dim=1)


def _normalized(module: nn.Module, a: Tensor) -> Tensor:
    """Normalize an input: by the running statistics for batch-norm, else by the example's own statistics."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, None, None, module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, None, None, module.eps)
    norm = cast(nn.BatchNorm2d, module)
    return F.batch_norm(a, norm.running_mean, norm.running_var, None, None, False, 0.0, norm.eps)


def _over_places(module: nn.Module, value: Tensor) -> Tensor:
    """Sum over all axes along which scale and shift are the same, [n, entries]."""
    if isinstance(module, nn.LayerNorm):
        return value.reshape(len(value), -1, *module.normalized_shape).sum(1).flatten(1)
    return value.flatten(2).sum(2) if value.dim() > 2 else value


def tokens_of(uses: list[Use]) -> tuple[Tensor, Tensor]:
    """Return tokens [n, places] and output gradients [n, places, width] over all uses, 0 at padding tokens."""
    tokens, gradients = [], []
    for use in uses:
        given = use.a.flatten(1) if use.a.dim() > 1 else use.a[:, None]
        z = use.z.reshape(len(use.z), -1, use.z.shape[-1])
        padding = cast(nn.Embedding, use.module).padding_idx
        tokens.append(given)
        gradients.append(z if padding is None else z * (given != padding)[..., None])
    return torch.cat(tokens, dim=1), torch.cat(gradients, dim=1)
