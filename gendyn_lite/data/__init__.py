"""Data sets, label corruption, input randomization and batches on the device."""

from gendyn_lite.data.augmentation import standardize
from gendyn_lite.data.batching import Batcher, batcher
from gendyn_lite.data.corruption import corrupt_labels
from gendyn_lite.data.gallery import save_images
from gendyn_lite.data.loading import balanced_order, data_root, load, load_for_run, names
from gendyn_lite.data.randomization import channel_statistics, randomize, randomize_inputs
from gendyn_lite.data.types import ImageData, Split

__all__ = [
    "Batcher",
    "ImageData",
    "Split",
    "balanced_order",
    "batcher",
    "channel_statistics",
    "corrupt_labels",
    "data_root",
    "load",
    "load_for_run",
    "names",
    "randomize",
    "randomize_inputs",
    "save_images",
    "standardize",
]
