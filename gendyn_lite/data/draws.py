"""Random draws that are the same on every machine, device and version of a library.

Everything is derived from the raw 64-bit output of a counter-based generator, which NumPy guarantees to keep, and not
from a library's `randperm` or `normal`, whose algorithms have changed between versions. The key names what is drawn,
so no two draws share a stream and no generator state has to be stored to resume a run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The second part of a key: what is drawn.
SUBSET, LABELS, INPUTS, ORDER, AUGMENT = range(1, 6)


def source(*key: int) -> np.random.Philox:
    """The generator of a key such as ``(seed, ORDER, epoch)``; call its ``random_raw``."""
    return np.random.Philox(np.random.SeedSequence((len(key), *key)))  # its length, as zeros at the end do not count


def uniform(count: int, *key: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), multiples of 2⁻⁵³.

    >>> uniform(3, 0, LABELS).round(3).tolist()
    [0.72, 0.535, 0.838]
    """
    return (source(*key).random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(count: int, bound: int, *key: int) -> NDArray[np.int64]:
    """Uniform whole numbers in [0, bound)."""
    return (uniform(count, *key) * bound).astype(np.int64)


def permutation(count: int, *key: int) -> NDArray[np.int64]:
    """A uniform permutation of 0 … count−1."""
    return np.argsort(source(*key).random_raw(count), kind="stable")
