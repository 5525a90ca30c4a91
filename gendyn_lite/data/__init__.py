"""Data sets, label corruption, input randomization and batches on the device."""

from gendyn_lite.data.batching import Batcher, batcher
from gendyn_lite.data.draws import balanced_order, corrupt_labels, randomize, randomize_inputs
from gendyn_lite.data.gallery import save_images
from gendyn_lite.data.loading import data_root, load, load_for_run, names
from gendyn_lite.data.own import from_arrays, from_dataset, tensors
from gendyn_lite.data.types import ImageData, Split, channel_statistics, standardize
