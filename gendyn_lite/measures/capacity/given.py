"""Checks and conversions of the inputs of capacity measures: finite points, and one label or target for each."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.config import shown
from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import check_number, dtype_name, refuse_if_too_large


def as_points(x: Tensor, name: str = "x") -> Tensor:
    """Convert inputs to points in float64, on their device.

    Args:
        x: [n, ...]; uint8 is read as pixels and divided by 255, other values are unchanged.
        name: Name of x in messages.

    Returns:
        float64 [n, d].

    Raises:
        UserError: There are no points or no dimensions, or a value is not finite.

    >>> as_points(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[0., 1.]], dtype=torch.float64)
    """
    check_points(x, name)
    points = x.reshape(len(x), -1).to(torch.float64)
    return points / 255 if x.dtype == torch.uint8 else points


def check_points(x: Tensor, name: str = "x") -> None:
    """Refuse inputs that are not points [n, ...], without copying them to float64."""
    if not isinstance(x, Tensor):
        raise UserError(f"{name} is a {type(x).__name__}, expected a tensor [n, ...]")
    if x.ndim < 1 or x.shape[0] == 0:
        raise UserError(f"{name} has shape {tuple(x.shape)}, expected [n, ...] with at least one point (n ≥ 1)")
    if x.is_complex():
        raise UserError(f"{name} is {dtype_name(x)}, expected real numbers")
    if x.numel() == 0:
        raise UserError(f"{name} has shape {tuple(x.shape)}: its points have no dimension")
    if x.is_floating_point():
        finite = torch.isfinite(x).reshape(len(x), -1).all(dim=1)
        if not finite.all():
            raise UserError(f"{name}[{int((~finite).nonzero()[0])}] is not finite, expected finite numbers")


def check_pixels(x: Tensor, pixels: bool | None) -> None:
    """Refuse pixels where a model was fitted to other numbers, and the other way round: only pixels are divided by 255.

    >>> check_pixels(torch.zeros(2, 3), True)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: x is float32 and the training inputs were uint8 (pixels): convert them alike
    """
    if pixels is not None and isinstance(x, Tensor) and (x.dtype == torch.uint8) != pixels:
        were = "uint8 (pixels)" if pixels else "not, so that only x would be divided by 255"
        raise UserError(f"x is {dtype_name(x)} and the training inputs were {were}: convert them alike")


def check_length(x: Tensor, y: Tensor) -> None:
    """Refuse labels if there is not one for each point."""
    if not isinstance(y, Tensor):
        raise UserError(f"y is a {type(y).__name__}, expected a tensor: torch.as_tensor(y)")
    if y.ndim == 0 or len(y) != len(x):
        raise UserError(f"x holds {len(x)} points and y has shape {tuple(y.shape)}, expected one label for each point")


def check_classes(y: Tensor, num_classes: int | None = None) -> int:
    """Check integer labels, and return the number of classes.

    Args:
        y: [n], integers from 0.
        num_classes: Number of classes, or None for the largest label plus one (at least 2).

    Raises:
        UserError: The labels are not integers of shape [n], or are outside [0, num_classes).

    >>> check_classes(torch.tensor([0, 2, 1]))
    3
    """
    if y.is_floating_point() or y.is_complex() or y.ndim != 1:
        raise UserError(f"labels are {dtype_name(y)} of shape {tuple(y.shape)}, expected integers [n] such as y.long()")
    low, high = int(y.min()), int(y.max())
    classes = max(high + 1, 2) if num_classes is None else num_classes
    if low < 0 or high >= classes:
        raise UserError(f"labels lie in [{low}, {high}], expected classes in [0, {classes})")
    return classes


def as_targets(y: Tensor, num_classes: int | None = None) -> Tensor:
    """Return the right-hand sides of a least-squares problem.

    Args:
        y: Integer classes [n], or real targets [n] or [n, k].
        num_classes: Number of classes, for integer labels only.

    Returns:
        float64 [n, k]: one-hot rows for classes, else the targets themselves.

    Raises:
        UserError: `num_classes` is given with real targets, labels are out of range, their columns would not fit in
            memory, or a target is not finite.

    >>> as_targets(torch.tensor([1, 0]))
    tensor([[0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    if y.is_floating_point():
        if num_classes is not None:
            raise UserError(f"labels are {dtype_name(y)}, expected integers where num_classes is given: pass y.long()")
        if y.ndim not in (1, 2) or not y.numel() or not torch.isfinite(y).all():
            raise UserError(f"targets of shape {tuple(y.shape)}: expected finite numbers of shape [n] or [n, k]")
        return y.detach().reshape(len(y), -1).to(torch.float64)
    classes = check_classes(y, num_classes)
    what = f"a column for each of {shown(classes)} classes of {len(y):,} labels"
    advice = "number the classes 0, 1, 2, … without gaps, and take num_classes from them"
    refuse_if_too_large(16 * len(y) * classes, what, advice)
    return F.one_hot(y.long(), classes).to(torch.float64)


def squared_distances(a: Tensor, b: Tensor, *, largest: float = math.inf) -> Tensor:
    """Compute ‖a_i − b_j‖², [n, m], from inner products; negative results of rounding are set to 0.

    Rounding errors are relative to the largest squared norm, so points far from the origin are shifted to it first. If
    those norms are above `largest`, the distances are computed from differences, which takes longer.

    >>> squared_distances(torch.tensor([[1e6]]), torch.tensor([[1e6 - 1], [1e6 + 2]]))
    tensor([[1., 4.]])
    """
    mean = b.mean(0)
    if len(b) * mean.square().sum() > 0.9 * b.square().sum():  # the mean is far larger than the differences
        a, b = a - mean, b - mean
    of_a, of_b = a.square().sum(1), b.square().sum(1)
    if max(float(of_a.max()), float(of_b.max())) > largest:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.addmm(of_b[None], a, b.T, alpha=-2).add_(of_a[:, None]).clamp_(min=0)


def duplicates(x: Tensor) -> list[list[int]]:
    """Find groups of equal points, in O(n d).

    Args:
        x: [n, ...].

    Returns:
        The indices of each group of two or more equal points, in the order of the points.

    >>> duplicates(torch.tensor([[1.0], [2.0], [1.0]]))
    [[0, 2]]
    """
    rows = (as_points(x) + 0.0).cpu().numpy()  # −0.0 + 0.0 is 0.0: equal numbers get equal bytes
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[hashlib.blake2b(row.tobytes(), digest_size=16).digest()].append(index)
    return [group for group in groups.values() if len(group) > 1]


def check_distinct(points: Tensor, ridge: float) -> None:
    """Refuse equal points if there is no ridge, because they make the Gram matrix singular; the message names them."""
    if ridge == 0 and (groups := duplicates(points)):
        told = f"equal points make the Gram matrix singular: {name_groups(groups)} (indices)"
        raise UserError(f"{told}: drop the repeats or take ridge > 0")


def name_groups(groups: list[list[int]]) -> str:
    """Write the first three groups of indices as text.

    >>> name_groups([[3, 7], [12, 40, 41], [5, 6], [8, 9]])
    '3 = 7, 12 = 40 = 41, 5 = 6 and 1 more group'
    """
    shown = ", ".join(" = ".join(map(str, group[:4])) + (" = …" if len(group) > 4 else "") for group in groups[:3])
    rest = len(groups) - 3
    return shown + (f" and {rest} more group{'s' if rest > 1 else ''}" if rest > 0 else "")


@dataclass(frozen=True)
class Fitted:
    """A regression that was fitted to classes or to real targets.

    Attributes:
        is_classifier: Whether it was fitted to classes.
        flat: Whether the targets were of shape [n].
        pixels: Whether the training inputs were uint8; None if that is not known.
    """

    is_classifier: bool
    flat: bool
    pixels: bool | None = field(default=None, kw_only=True)

    def predict(self, x: Tensor) -> Tensor:
        """Return the outputs, float64 [m, k] (or [m] if the targets were [n]), on the device of the regression."""
        check_pixels(x, self.pixels)
        scores = self._scores(x)
        return scores.squeeze(1) if self.flat else scores

    def _scores(self, x: Tensor) -> Tensor:
        """Compute the outputs, [m, k]."""
        raise NotImplementedError

    def classify(self, x: Tensor) -> Tensor:
        """Return the class with the largest output, int64 [m]."""
        if not self.is_classifier:
            raise UserError("the regression was fitted to real targets: fit it to integer labels to classify")
        return self.predict(x).argmax(dim=1)

    def error(self, x: Tensor, y: Tensor) -> float:
        """Return the share of inputs that are classified wrongly, in [0, 1]."""
        predicted = self.classify(x)
        check_length(predicted, y)
        check_classes(y)
        return float((predicted != y.to(predicted.device)).double().mean())


def kind_of(y: Tensor) -> tuple[bool, bool]:
    """Return whether targets are classes, and whether they are real numbers of shape [n].

    >>> kind_of(torch.tensor([0, 1])), kind_of(torch.rand(2)), kind_of(torch.rand(2, 3))
    ((True, False), (False, True), (False, False))
    """
    return y.ndim == 1 and not y.is_floating_point(), y.ndim == 1 and y.is_floating_point()


def solving_device(device: torch.device | str | None) -> torch.device:
    """Return the device to solve on: by default the GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def check_ridge(ridge: float) -> None:
    """Refuse a ridge that is negative or not finite."""
    check_number("ridge", ridge, "a finite number of at least 0", lambda value: 0 <= value < math.inf)
