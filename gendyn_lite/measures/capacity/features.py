"""Fixed features of images: Gabor filters, and a layer of random filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import as_points, duplicates
from gendyn_lite.measures.per_example.checks import check_number, check_whole

IMAGES = 256  # images at a time


def gabor_features(
    images: Tensor, *, wavelengths: tuple[float, ...] = (4.0, 6.0), orientations: int = 8, grid: int = 7
) -> Tensor:
    """Compute |image ∗ Gabor filter| for every wavelength and orientation, averaged over the cells of a grid.

    Args:
        images: [n, C, H, W]; uint8 is divided by 255. Each channel is filtered separately.
        wavelengths: Wavelengths of the filters, in pixels.
        orientations: Number of directions, equally spaced over 180 degrees.
        grid: Cells along each side.

    Returns:
        float64 [n, C · wavelengths · orientations · grid²].

    Raises:
        UserError: The inputs are not images, a wavelength is below 2 pixels, or a number is below 1.

    Note:
        Zhang et al. (2017, Sec. 5) preprocess MNIST "with a Gabor wavelet transform" before the Gaussian kernel but
        give no parameters. Ours were chosen by training on 4,000 training images and validating on 4,000 others.

    >>> gabor_features(torch.rand(2, 1, 28, 28), orientations=4).shape
    torch.Size([2, 392])
    """
    images = as_images(images, grid)
    if orientations < 1 or not wavelengths or min(wavelengths) < 2:
        told = f"orientations is {orientations}, wavelengths {wavelengths}"
        raise UserError(f"{told}: expected at least one direction and wavelengths of at least 2 pixels")
    banks = [gabor_bank(wavelength, orientations).to(images.device) for wavelength in wavelengths]
    parts = [torch.cat([_responses(part, bank, grid) for bank in banks], dim=1) for part in images.split(IMAGES)]
    return torch.cat(parts)


def gabor_bank(wavelength: float, orientations: int) -> Tensor:
    """Return even and odd Gabor filters of zero mean and unit norm, with a bandwidth of one octave (σ = 0.56 λ).

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
    """Return images [n, C, H, W] in float32; uint8 is divided by 255.

    Raises:
        UserError: The inputs are not images, have values that are not finite, or are smaller than the grid.
    """
    points = as_points(images, "images")
    if images.ndim != 4:
        raise UserError(f"images have shape {tuple(images.shape)}, expected [n, C, H, W]")
    check_whole("grid", grid, most=min(images.shape[2:]), why=", the smaller side of the images")
    return points.reshape(images.shape).to(torch.float32)


def _responses(images: Tensor, bank: Tensor, grid: int) -> Tensor:
    """Return the averaged magnitudes of one bank, float64 [n, C · orientations · grid²]."""
    n, channels, height, width = images.shape
    single = images.reshape(n * channels, 1, height, width)
    even, odd = (F.conv2d(single, filters[:, None], padding=filters.shape[-1] // 2) for filters in bank)
    magnitude = (even.square() + odd.square()).sqrt()
    return F.adaptive_avg_pool2d(magnitude, grid).reshape(n, -1).to(torch.float64)


MOST_FILTERS = 32_000
CONTRAST = (10 / 255) ** 2  # added to a patch's variance, so that flat patches stay small
WHITENING = 0.1  # added to the variances of normalized patches
MOST_PATCHES = 50_000
RESPONSES = {"cpu": 2**20, "cuda": 2**27}  # float32 numbers at a time, to stay in the cache or to fill a GPU


def random_conv_features(
    images: Tensor, num_filters: int, *, patch: int = 6, grid: int = 2, threshold: float = 0.25, seed: int = 0
) -> ConvFeatures:
    """Draw the filters of a random convolutional layer, which is not trained and uses no labels.

    The filters are whitened patches of the training images, with unit norm. Each patch of an image is normalized (mean
    0, contrast 1), whitened with the statistics of the training patches and multiplied with every filter. The response
    r is rectified to max(r − t, 0) and max(−r − t, 0) and averaged over the cells of a grid.

    Args:
        images: [n, C, H, W] training images, for the statistics and the patches; uint8 is divided by 255.
        num_filters: Number of filters, 1 to 32,000. Each gives 2 · grid² features.
        patch: Side of a filter, in pixels.
        grid: Cells along each side of the pooling.
        threshold: The threshold t.
        seed: Seed of the filters and of the patches.

    Returns:
        The feature map.

    Raises:
        UserError: A number is out of range, there are too few different patches, or the inputs are not images.

    Source: Zhang et al. (2017), Sec. 5, "random convolutional neural net with 32,000 random filters", without
        parameters; these are those of Coates and Ng (2012), Learning Feature Representations with K-means.

    >>> features = random_conv_features(torch.rand(8, 3, 32, 32), 16)
    >>> features.num_features, features(torch.rand(2, 3, 32, 32)).shape
    (128, torch.Size([2, 128]))
    """
    check_whole("num_filters", num_filters, most=MOST_FILTERS)
    check_number("threshold", threshold, "a number of at least 0", lambda value: value >= 0)
    images = as_images(images)
    if not 2 <= patch <= min(images.shape[2:]) - grid + 1 or grid < 1:
        told = f"patch is {patch}, grid {grid}"
        raise UserError(f"{told}: expected filters and cells that fit {tuple(images.shape[2:])} pixels")
    generator = torch.Generator().manual_seed(seed)
    patches = _normalize(_draw_patches(images, max(num_filters, MOST_PATCHES), patch, generator))
    mean, whitener = _whitening(patches)
    drawn = (_distinct(patches, num_filters) - mean) @ whitener
    filters = drawn / drawn.norm(dim=1, keepdim=True).clamp(min=1e-12) @ whitener
    as_map = filters.reshape(num_filters, images.shape[1], patch, patch).to(images)
    return ConvFeatures(as_map, (filters @ mean).to(images), grid, float(threshold))


@dataclass(frozen=True)
class ConvFeatures:
    """A random convolutional layer; called on images [n, C, H, W] it returns features float64 [n, num_features].

    Attributes:
        filters: Filters that include the whitening, float32 [m, C, p, p].
        offsets: Responses of the filters to the mean patch, float32 [m].
        grid: Cells along each side of the pooling.
        threshold: Threshold of the rectifiers.
    """

    filters: Tensor
    offsets: Tensor
    grid: int
    threshold: float

    @property
    def groups(self) -> int:
        """Number of filters; features are computed for a range of filters at a time."""
        return len(self.filters)

    @property
    def per_group(self) -> int:
        """Features of one filter: two signs for each cell."""
        return 2 * self.grid**2

    @property
    def num_features(self) -> int:
        """Number of features."""
        return self.groups * self.per_group

    def __call__(self, images: Tensor) -> Tensor:
        """Compute all features."""
        return torch.cat([self.part(part, 0, self.groups) for part in images.split(IMAGES)])

    def part(self, images: Tensor, first: int, last: int) -> Tensor:
        """Compute features of the filters from `first` up to `last`, float64 [n, (last − first) · per_group]."""
        images = as_images(images)
        filters, offsets = self.filters[first:last].to(images), self.offsets[first:last].to(images)
        if images.shape[1] != filters.shape[1]:
            raise UserError(f"images have {images.shape[1]} channels, expected the {filters.shape[1]} of the filters")
        places = (images.shape[-2] - filters.shape[-2] + 1) * (images.shape[-1] - filters.shape[-1] + 1)
        batch = max(1, RESPONSES.get(images.device.type, 2**24) // (len(filters) * places))
        return torch.cat([self._pooled(part, filters, offsets) for part in images.split(batch)])

    def _pooled(self, images: Tensor, filters: Tensor, offsets: Tensor) -> Tensor:
        """Compute the features of a few images."""
        side = filters.shape[-1]
        mean = F.avg_pool2d(images.mean(1, keepdim=True), side, stride=1)
        square = F.avg_pool2d(images.square().mean(1, keepdim=True), side, stride=1)
        contrast = ((square - mean.square()).clamp(min=0) + CONTRAST).sqrt()
        response = F.conv2d(images, filters).sub_(mean * filters.sum(dim=(1, 2, 3))[:, None, None])
        response.div_(contrast).sub_(offsets[:, None, None])
        signs = [F.adaptive_avg_pool2d((sign * response - self.threshold).relu_(), self.grid) for sign in (1, -1)]
        return torch.stack(signs, dim=2).flatten(1).to(torch.float64)


def _draw_patches(images: Tensor, count: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw patches at random places of random images, float64 [count, C · side²]."""
    n, channels, height, width = images.shape
    which = torch.randint(n, (count,), generator=generator)
    top = torch.randint(height - side + 1, (count,), generator=generator)
    left = torch.randint(width - side + 1, (count,), generator=generator)
    line = torch.arange(side)
    rows, columns = top[:, None, None] + line[:, None], left[:, None, None] + line
    patches = images.cpu()[which[:, None, None], :, rows, columns]  # [count, side, side, C]
    return patches.permute(0, 3, 1, 2).reshape(count, channels * side * side).to(torch.float64)


def _normalize(patches: Tensor) -> Tensor:
    """Normalize each patch to mean 0 and contrast 1."""
    centred = patches - patches.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + CONTRAST).sqrt()


def _distinct(patches: Tensor, count: int) -> Tensor:
    """Return the first patches that are neither flat nor repeated; flat ones would all give the same filter."""
    useful = patches[patches.square().sum(dim=1) > 0]
    repeats = {index for group in duplicates(useful) for index in group[1:]} if len(useful) else set()
    chosen = [index for index in range(len(useful)) if index not in repeats][:count]
    if len(chosen) < count:
        found = f"only {len(chosen)} different patches that are not flat were found in {len(patches):,} places"
        raise UserError(f"num_filters is {count}, and {found}: take fewer filters or more images")
    return useful[chosen]


def _whitening(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the symmetric whitening matrix of normalized patches: float64 [d], [d, d]."""
    mean = patches.mean(dim=0)
    centred = patches - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
    return mean, (vectors / (values.clamp(min=0) + WHITENING).sqrt()) @ vectors.T
