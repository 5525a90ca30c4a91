"""The figures of Zhang et al. (2017), Tables 1 and 2, in %: the one place where they are written down."""

from __future__ import annotations

from typing import NamedTuple


class PaperRow(NamedTuple):
    """A row of Table 1: a network on CIFAR-10, 50,000 images.

    Attributes:
        network: The network, as our tables name it.
        crop: Whether random crops are on.
        weight_decay: Whether weight decay is on.
        random_labels: Whether the labels are random.
        train: Train accuracy in %.
        test: Test accuracy in %.
    """

    network: str
    crop: bool
    weight_decay: bool
    random_labels: bool
    train: float
    test: float


PARAMETERS = {
    "inception_small": 1_649_402,
    "inception_small without batch-norm": 1_649_402,
    "alexnet_small": 1_387_786,
    "mlp_3x512": 1_735_178,
    "mlp_1x512": 1_209_866,
}
TABLE_1 = tuple(
    PaperRow(network, bool(crop), bool(decay), bool(random), train, test)
    for network, rows in {
        "inception_small": (
            *((1, 1, 0, 100.0, 89.05), (1, 0, 0, 100.0, 89.31), (0, 1, 0, 100.0, 86.03), (0, 0, 0, 100.0, 85.75)),
            (0, 0, 1, 100.0, 9.78),
        ),
        "inception_small without batch-norm": (
            *((0, 1, 0, 100.0, 83.00), (0, 0, 0, 100.0, 82.00), (0, 0, 1, 100.0, 10.12)),
        ),
        "alexnet_small": (
            *((1, 1, 0, 99.90, 81.22), (1, 0, 0, 99.82, 79.66), (0, 1, 0, 100.0, 77.36), (0, 0, 0, 100.0, 76.07)),
            (0, 0, 1, 99.82, 9.86),
        ),
        "mlp_3x512": ((0, 1, 0, 100.0, 53.35), (0, 0, 0, 100.0, 52.39), (0, 0, 1, 100.0, 10.48)),
        "mlp_1x512": ((0, 1, 0, 99.80, 50.39), (0, 0, 0, 100.0, 50.51), (0, 0, 1, 99.34, 10.61)),
    }.items()
    for crop, decay, random, train, test in rows
)


class ImageNetRow(NamedTuple):
    """A row of Table 2: Inception v3 on ImageNet, accuracies in %; `best` are those of the best epoch, or None."""

    augmentation: bool
    dropout: bool
    weight_decay: bool
    random_labels: bool
    train_top1: float
    train_top5: float
    test_top1: float
    test_top5: float
    best_top1: float | None = None
    best_top5: float | None = None


TABLE_2 = (
    ImageNetRow(True, True, True, False, 92.18, 99.21, 77.84, 93.92),
    ImageNetRow(True, False, False, False, 92.33, 99.17, 72.95, 90.43),
    ImageNetRow(False, False, True, False, 90.60, 100.0, 67.18, 86.44, 72.57, 91.31),
    ImageNetRow(False, False, False, False, 99.53, 100.0, 59.80, 80.38, 63.16, 84.49),
    ImageNetRow(False, True, True, True, 91.18, 97.95, 0.09, 0.49),
    ImageNetRow(False, False, True, True, 87.81, 96.15, 0.12, 0.50),
    ImageNetRow(False, False, False, True, 95.20, 99.14, 0.11, 0.56),
)
ALEXNET_TOP5 = 83.6  # Krizhevsky et al. (2012), given there for reference


def table_1_row(
    network: str, *, crop: bool = False, weight_decay: bool = False, random_labels: bool = False
) -> PaperRow | None:
    """The row of Table 1 of a network and its settings, or None where the paper has none.

    >>> table_1_row("alexnet_small", crop=True).test
    79.66
    """
    wanted = (network, crop, weight_decay, random_labels)
    return next((row for row in TABLE_1 if row[:4] == wanted), None)
