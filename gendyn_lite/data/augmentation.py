"""What is done to 8-bit images on the device: windows are cut, mirrored and standardized."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def cut_windows(x: Tensor, side: tuple[int, ...], pad: int, draw: Tensor | None, *, flip: bool) -> Tensor:
    """The centre window of each image, moved by at most `pad` pixels and perhaps mirrored; outside it is black.

    Args:
        x: Images, [b, C, H, W].
        side: Height and width of the window.
        pad: Largest move.
        draw: Vertical and horizontal moves plus `pad`, and flips, int64 [3, b]; None for neither.
        flip: Whether images are mirrored where the flip is 1.

    Returns:
        [b, C, *side].
    """
    height, width = side
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    if draw is None or (pad == 0 and not flip):
        return x[:, :, top : top + height, left : left + width]
    x = F.pad(x, (pad, pad, pad, pad))
    tops, lefts, flips = top + draw[0], left + draw[1], draw[2] * flip
    cut = _cut_by_windows if x.device.type == "cpu" else _cut_by_gather
    return cut(x, (height, width), tops, lefts, flips)


def _cut_by_gather(x: Tensor, side: tuple[int, int], tops: Tensor, lefts: Tensor, flips: Tensor) -> Tensor:
    """The window of each image, mirrored where `flips` is 1, in one operation (for a GPU)."""
    rows = tops[:, None] + torch.arange(side[0], device=x.device)  # [b, height]
    columns = lefts[:, None] + torch.arange(side[1], device=x.device)  # [b, width]
    columns = torch.where(flips[:, None].bool(), columns.flip(1), columns)
    places = (rows[:, :, None] * x.shape[3] + columns[:, None, :]).flatten(1)[:, None]  # [b, 1, height · width]
    return x.flatten(2).gather(2, places.expand(-1, x.shape[1], -1)).unflatten(2, side)


def _cut_by_windows(x: Tensor, side: tuple[int, int], tops: Tensor, lefts: Tensor, flips: Tensor) -> Tensor:
    """As `_cut_by_gather`: on a CPU four times faster, as rows are copied whole."""
    windows = np.lib.stride_tricks.sliding_window_view(x.numpy(), side, axis=(2, 3))
    out = windows[np.arange(len(x)), :, tops.numpy(), lefts.numpy()]
    flipped = flips.numpy().astype(bool)
    out[flipped] = _mirrored(out[flipped])
    return torch.from_numpy(out)


def _mirrored(images: np.ndarray) -> np.ndarray:
    """8-bit images, rows backwards: where it can be four pixels at a time, each four read in the other byte order."""
    if images.shape[-1] % 4:
        return images[..., ::-1]
    return images.view(">u4")[..., ::-1].astype("<u4").view(np.uint8)


def standardize(x: Tensor, kind: str, *, mean: Tensor, std: Tensor) -> Tensor:
    """8-bit images as float32 [b, C, H, W].

    Args:
        x: Images, uint8 [b, C, H, W].
        kind: ``"per_image"``: (x − mean)/max(std, 1/√N) over the N values of each image, with grey levels 0 … 255 as
            Zhang et al. (2017) had them (TensorFlow's per_image_standardization). ``"per_channel"``: x/255, minus
            `mean`, over `std`. ``"none"``: x/255.
        mean: Mean per channel in [0, 1], float32 [C].
        std: Standard deviation per channel, float32 [C]; where it is 0 the channel is only centred.

    >>> standardize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), "per_image", mean=None, std=None).tolist()
    [[[[-1.0, 1.0]]]]
    """
    x = x.float()  # a copy, changed in place from here on
    if kind == "none":
        return x.div_(255)
    if kind == "per_channel":
        scale = torch.where(std > 0, std, torch.ones_like(std))
        return x.sub_(255 * mean[:, None, None]).div_(255 * scale[:, None, None])
    flat = x.flatten(1)
    flat -= flat.mean(1, keepdim=True)
    deviation = torch.linalg.vector_norm(flat, dim=1, keepdim=True) / flat.shape[1] ** 0.5
    flat /= deviation.clamp_min_(flat.shape[1] ** -0.5)
    return flat.unflatten(1, x.shape[1:])
