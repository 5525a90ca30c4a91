"""What the networks ask of their inputs and options."""

from __future__ import annotations

from gendyn_lite.errors import UserError


def require_images(in_shape: tuple[int, ...], *, network: str, min_side: int) -> tuple[int, int, int]:
    """The shape as (C, H, W).

    Raises:
        UserError: It is no image shape, or a side is below `min_side`.

    >>> require_images((3, 28, 28), network="alexnet_small", min_side=4)
    (3, 28, 28)
    """
    if len(in_shape) != 3:
        raise UserError(
            f"in_shape is {in_shape}, but {network} takes images: expected (channels, height, width); "
            "an mlp takes any shape"
        )
    if min(in_shape[1:]) < min_side:
        raise UserError(
            f"in_shape {in_shape} is too small for {network}: expected images of at least {min_side}x{min_side} "
            "(enlarge or pad them, or choose a smaller network)"
        )
    return in_shape


def downsampled(in_shape: tuple[int, ...], downsample: object) -> tuple[int, ...]:
    """The shape of inputs once they are averaged over squares of side `downsample`.

    Raises:
        UserError: It is no positive whole number, or above 1 and the inputs are no images that have such squares.

    >>> downsampled((3, 33, 32), 2), downsampled((2,), 1)
    ((3, 16, 16), (2,))
    """
    if type(downsample) is not int or downsample < 1 or (downsample > 1 and len(in_shape) != 3):
        raise UserError(f"downsample is {downsample!r}, expected a positive whole number, and above 1 images (C, H, W)")
    if min(in_shape[1:], default=1) < downsample:
        raise UserError(f"downsample is {downsample}, expected at most the side of the images {in_shape}")
    if downsample == 1:
        return in_shape
    return (in_shape[0], in_shape[1] // downsample, in_shape[2] // downsample)


def require_flag(value: object, *, option: str) -> bool:
    """The value of an option that is True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{option} is {value!r}, expected True or False")
    return value


def require_probability(value: object, *, option: str) -> float:
    """The value of an option in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"{option} is {value!r}, expected a number in [0, 1)")
    return float(value)
