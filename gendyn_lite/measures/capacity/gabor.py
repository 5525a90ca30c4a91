"""Gabor features of images: responses of oriented wave packets, without their phase, averaged over a grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity._points import as_points


def gabor_features(
    images: Tensor,
    *,
    wavelengths: tuple[float, ...] = (4.0, 6.0),
    orientations: int = 8,
    grid: int = 7,
    chunk: int = 1000,
) -> Tensor:
    """|image ∗ Gabor filter| for every wavelength and orientation, averaged over the cells of a grid.

    Args:
        images: [n, C, H, W]; uint8 is divided by 255. Channels are filtered one by one.
        wavelengths: Of the filters, in pixels.
        orientations: Number of directions, equally spaced over 180 degrees.
        grid: Cells along each side.
        chunk: Images filtered at a time.

    Returns:
        float64 [n, C · wavelengths · orientations · grid²].

    Raises:
        UserError: The inputs are no images, a wavelength is below 2 pixels, or a number is below 1.

    Note:
        Zhang et al. (2017, Sec. 5) preprocess MNIST "with a Gabor wavelet transform" before the Gaussian kernel and
        give no parameters. These ones were chosen on 4,000 training images against 4,000 other training images.

    >>> gabor_features(torch.rand(2, 1, 28, 28), orientations=4).shape
    torch.Size([2, 392])
    """
    images = as_images(images, grid)
    if orientations < 1 or chunk < 1 or not wavelengths or min(wavelengths) < 2:
        raise UserError(
            f"orientations is {orientations}, chunk {chunk}, wavelengths {wavelengths}: expected at least one "
            "direction, one image at a time and wavelengths of at least 2 pixels"
        )
    banks = [gabor_bank(wavelength, orientations).to(images.device) for wavelength in wavelengths]
    parts = [torch.cat([_responses(part, bank, grid) for bank in banks], dim=1) for part in images.split(chunk)]
    return torch.cat(parts)


def gabor_bank(wavelength: float, orientations: int) -> Tensor:
    """Even and odd Gabor filters of zero mean and unit norm, in the field's usual bandwidth of one octave (σ = 0.56 λ).

    Args:
        wavelength: λ in pixels.
        orientations: Number of directions.

    Returns:
        float32 [2, orientations, side, side]: cosine filters, then sine filters.

    >>> bank = gabor_bank(4.0, 8)
    >>> bank.shape, bool(bank.sum(dim=(-2, -1)).abs().max() < 1e-5)
    (torch.Size([2, 8, 13, 13]), True)
    """
    sigma = 0.56 * wavelength
    radius = math.ceil(2.5 * sigma)
    line = torch.arange(-radius, radius + 1, dtype=torch.float64)
    row, column = torch.meshgrid(line, line, indexing="ij")
    angle = (torch.arange(orientations, dtype=torch.float64) * math.pi / orientations)[:, None, None]
    along = column * angle.cos() + row * angle.sin()
    envelope = torch.exp(-(row**2 + column**2) / (2 * sigma**2)).expand_as(along)
    phase = 2 * math.pi * along / wavelength
    bank = torch.stack([envelope * phase.cos(), envelope * phase.sin()])
    bank = bank - envelope * bank.sum(dim=(-2, -1), keepdim=True) / envelope.sum(dim=(-2, -1), keepdim=True)
    return (bank / bank.square().sum(dim=(-2, -1), keepdim=True).sqrt()).to(torch.float32)


def as_images(images: Tensor, grid: int = 1) -> Tensor:
    """Images in float32 in [0, 1] where they were uint8; [n, C, H, W].

    Raises:
        UserError: They are no images, hold values that are not finite, or are smaller than the grid.
    """
    points = as_points(images, "images")
    if images.ndim != 4:
        raise UserError(f"images have shape {tuple(images.shape)}, expected [n, C, H, W]")
    if not 1 <= grid <= min(images.shape[2:]):
        raise UserError(f"grid is {grid}, expected 1 to {min(images.shape[2:])}, the smaller side of the images")
    return points.reshape(images.shape).to(torch.float32)


def _responses(images: Tensor, bank: Tensor, grid: int) -> Tensor:
    """The averaged magnitudes of one bank, float64 [n, C · orientations · grid²]."""
    n, channels, height, width = images.shape
    single = images.reshape(n * channels, 1, height, width)
    even, odd = (F.conv2d(single, filters[:, None], padding=filters.shape[-1] // 2) for filters in bank)
    magnitude = (even.square() + odd.square()).sqrt()
    return F.adaptive_avg_pool2d(magnitude, grid).reshape(n, -1).to(torch.float64)
