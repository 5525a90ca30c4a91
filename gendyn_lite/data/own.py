"""Data sets made of the user's own arrays, or of a data set of torch, torchvision or Hugging Face."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from gendyn_lite.config import shown
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.decode import ONE_PICTURE
from gendyn_lite.errors import UserError, first_line

MOST_CLASSES = 1 << 20
IMAGE_KEYS, LABEL_KEYS = ("image", "img", "pixel_values", "x"), ("label", "labels", "fine_label", "y")


def from_arrays(
    x: Any, y: Any, *, test: tuple[Any, Any], name: str = "own", description: str = "", class_names: Sequence[str] = ()
) -> ImageData:
    """Make a data set of arrays. Its fingerprint is a hash of their content.

    Args:
        x: Training inputs, an array or tensor: uint8 images [n, C, H, W] or [n, H, W], which are later standardized as
            the configuration says; or floats [n, ...], which are used as they are.
        y: Training labels, whole numbers from 0, [n].
        test: Test inputs and labels, in the same form.
        name: Name of the data set.
        description: Description to show beside results (default: the name).
        class_names: Names of the classes (default: the numbers from 0 to the largest label).

    Returns:
        The data set, for instance for `gendyn_lite.train.fit`.

    Raises:
        UserError: Shapes, lengths or types do not fit, inputs are not finite, or a label is not a class.

    >>> images = np.zeros((4, 8, 8), dtype=np.uint8)
    >>> own = from_arrays(images, [0, 1, 1, 0], test=(images[:2], [0, 1]), description="black squares")
    >>> own.in_shape, own.num_classes, own.test.y.tolist()
    ((1, 8, 8), 2, [0, 1])
    """
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise UserError(f"test is a {type(test).__name__}, expected a pair of test inputs and their labels, (x, y)")
    train, held = (_own_split(part, *arrays) for part, arrays in (("", (x, y)), ("test: ", test)))
    if train.x.shape[1:] != held.x.shape[1:] or train.x.dtype != held.x.dtype:
        kinds = [f"{str(part.x.dtype).removeprefix('torch.')} {list(part.x.shape[1:])}" for part in (train, held)]
        raise UserError(f"training inputs are {kinds[0]} and test inputs {kinds[1]}: expected the same")
    largest = int(max(train.y.max(), held.y.max()))
    if largest >= MOST_CLASSES:
        raise UserError(f"labels reach {largest:,}, expected classes numbered from 0 to at most {MOST_CLASSES - 1:,}")
    names = list(class_names) or [str(number) for number in range(largest + 1)]
    found = ImageData.measured(name, description or name, names, train=train, test=held)
    found.check_labels()
    return found


def from_dataset(dataset: Any, *, test: Any, **options: Any) -> ImageData:
    """Make a data set of the examples of a `torch.utils.data.Dataset`, or of anything that is indexed like one.

    Args:
        dataset: Training examples. Each is a pair of an image (PIL, array or tensor) and a label, or a dict with both,
            as in Hugging Face's data sets. Its own transforms are applied once, so leave augmentation to the
            configuration.
        test: Test examples, in the same form.
        **options: Further arguments of `from_arrays`.

    Raises:
        UserError: An example is neither a pair nor such a dict; or as for `from_arrays`.

    >>> pairs = [(np.zeros((3, 8, 8), dtype=np.uint8), 1)] * 2
    >>> from_dataset(pairs, test=pairs).train.x.shape
    torch.Size([2, 3, 8, 8])
    """
    x, y = _stacked(dataset)
    return from_arrays(x, y, test=_stacked(test), **options)


def tensors(loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Concatenate the inputs and labels of all batches of a loader.

    Args:
        loader: Yields pairs of inputs [b, ...] and labels [b]; it must not shuffle, and leave no example out.

    Returns:
        Inputs [n, ...] and labels [n].

    Raises:
        UserError: The loader shuffles, leaves examples out (``drop_last``, or as one of several processes) or is empty;
            its data set draws at random, as augmentation does; or a batch is not a pair.

    >>> tensors(DataLoader(list(zip(torch.eye(3), torch.arange(3))), batch_size=2))[1]
    tensor([0, 1, 2])
    """
    samplers = loader.sampler, getattr(loader.batch_sampler, "sampler", None)
    if any(isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler) for sampler in samplers):
        raise UserError("the loader shuffles, so that rows would be other examples at each call: set shuffle=False")
    if any(getattr(sampler, "num_replicas", 1) > 1 for sampler in samplers):
        raise UserError("the loader gives one of several processes its share of the examples: make one of them all")
    if loader.drop_last or getattr(loader.batch_sampler, "drop_last", False):
        _refuse_leaving_out(loader)
    if isinstance(loader.sampler, SequentialSampler) and len(loader.sampler):
        before = generators()
        loader.dataset[0]
        if before != generators():
            why = "so that the inputs would be others at each call: take it without augmentation"
            raise UserError(f"the loader's data set draws at random when it is read, {why}")
    another = DataLoader(TensorDataset(torch.zeros(1)), generator=loader.generator and torch.Generator())
    with torch.random.fork_rng(devices=[]):
        iter(another)  # any loader draws a seed
        before = generators()
    pairs = [_pair(batch, number) for number, batch in enumerate(loader)]
    if before != generators():
        told = "the loader draws at random when it is read (in a sampler, a data set or a collate_fn)"
        raise UserError(f"{told}: rows would be other examples at each call; let it give the same ones in order")
    if not pairs:
        raise UserError("the loader is empty, expected at least one batch")
    try:
        x, y = (torch.cat([torch.as_tensor(pair[i]) for pair in pairs]) for i in (0, 1))
    except (TypeError, ValueError, RuntimeError) as error:
        told = f"the batches of the loader cannot be joined: {first_line(error)}"
        raise UserError(f"{told}; expected pairs of tensors, inputs [b, ...] and labels [b]") from error
    return x, y


def generators(device: torch.device | str = "cpu") -> list[object]:
    """The states of the global generators that work on a device may draw from: those of torch, Python and NumPy."""
    device = torch.device(device)
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    _, key, *place = cast("tuple[Any, ...]", np.random.get_state(legacy=True))
    return [*(bytes(state.numpy()) for state in states), random.getstate(), bytes(key), place]


def _refuse_leaving_out(loader: DataLoader[Any]) -> None:
    """Refuse a loader that drops its last batch, unless its number of examples is known and leaves none over."""
    batches = loader.batch_sampler if loader.batch_size is None else loader
    size = getattr(batches, "batch_size", None)
    sampler: Any = getattr(loader.batch_sampler, "sampler", None)
    if size is None or not hasattr(sampler, "__len__"):
        raise UserError("the loader may leave out some examples (drop_last=True): set drop_last=False")
    if left := len(sampler) % size:
        told = f"the loader leaves out {left} of {len(sampler):,} examples (drop_last=True)"
        raise UserError(f"{told}: set drop_last=False")


def _stacked(dataset: Any) -> tuple[Tensor, list[int]]:
    """The inputs [n, ...] and labels [n] of all examples."""
    if isinstance(dataset, Mapping):
        told = f"the data set is a {type(dataset).__name__} of {', '.join(map(str, dataset))}"
        raise UserError(f"{told}, expected examples: give its parts, dataset['train'] and test=dataset['test']")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        told = f"the data set is a {type(dataset).__name__}, which has no length or cannot be indexed"
        raise UserError(f"{told}: expected examples dataset[0], dataset[1], …; for a DataLoader, give loader.dataset")
    images, labels = [], []
    for number in range(len(dataset)):
        image, label = _pair(dataset[number], number)
        if getattr(image, "mode", None) == "P":  # numbers of colours, not colours
            raise UserError(f"example {number} is a picture with a palette: convert it, image.convert('RGB')")
        if getattr(image, "is_animated", False) and image.format not in ONE_PICTURE:
            raise UserError(
                f"example {number} is a picture with several frames or pages: take one, image.convert('RGB')"
            )
        values = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
        if not isinstance(image, Tensor | np.ndarray) and values.ndim == 3:  # PIL images have their channels last
            values = values.permute(2, 0, 1)
        images.append(values)
        labels.append(_whole(label, number))
    kinds = sorted({str(image.dtype).removeprefix("torch.") for image in images})
    if len(kinds) > 1:
        raise UserError(f"the examples are {' and '.join(kinds)}, expected one type: convert them alike")
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) != 1:
        raise UserError(f"the examples have {len(shapes)} shapes, expected one, and at least one example: resize them")
    return torch.stack(images), labels


def _whole(label: Any, number: int) -> int:
    """A label as a number of its class; what `int` would cut off or make of a text is none."""
    try:
        if not isinstance(label, str) and int(label) == label:
            return int(label)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    shape = list(getattr(label, "shape", ()))
    kind = f"of shape {shape}" if shape else shown(label)
    raise UserError(f"the label of example {number} is {kind}, expected the number of its class, a whole one from 0")


def _pair(example: Any, number: int) -> tuple[Any, Any]:
    """The image and the label of example `number`."""
    if isinstance(example, Mapping):
        known = [[key for key in keys if key in example] for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if all(known):
            return example[known[0][0]], example[known[1][0]]
        keys = ", ".join(map(str, example))
        expected = f"expected one of {', '.join(IMAGE_KEYS)} and one of {', '.join(LABEL_KEYS)}"
        raise UserError(f"example {number} has the keys {keys}: {expected}")
    if not isinstance(example, tuple | list) or len(example) != 2:
        raise UserError(f"example {number} is a {type(example).__name__}, expected a pair of an image and a label")
    return example[0], example[1]


def _own_split(part: str, x: Any, y: Any) -> Split:
    """Convert inputs and labels to the types that batches are made of.

    Args:
        part: Prefix of error messages.
        x: Inputs.
        y: Labels.

    Raises:
        UserError: They are not images or floats with one whole number each.
    """
    inputs, labels = _tensor(f"{part}x", x), _tensor(f"{part}y", y)
    if inputs.dtype == torch.uint8 and inputs.ndim == 3:
        inputs = inputs[:, None]
    if inputs.dtype == torch.uint8 and (inputs.ndim != 4 or (inputs.shape[1] > 4 and inputs.shape[3] <= 4)):
        told = f"{part}images have shape {list(inputs.shape)}, expected [n, C, H, W]"
        raise UserError(f"{told}: move channels first, x.transpose(0, 3, 1, 2)")
    if inputs.dtype != torch.uint8:
        if not inputs.is_floating_point() or inputs.ndim < 2:
            kind = f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
            raise UserError(f"{part}inputs are {kind}, expected uint8 images or floats [n, ...]")
        if inputs.ndim == 4 and min(inputs.shape[1:3]) > 4 and inputs.shape[3] in (1, 3):
            told = f"{part}inputs {list(inputs.shape)} are taken as {inputs.shape[1]} channels"
            warnings.warn(f"{told}: if channels are last, move them first, x.transpose(0, 3, 1, 2)", stacklevel=4)
        inputs = inputs.float()
        if not torch.isfinite(inputs).all():
            raise UserError(f"{part}inputs have entries that are not finite (NaN or infinity): drop those examples")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.ndim != 1 or len(labels) != len(inputs):
        kind = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
        raise UserError(f"{part}labels are {kind} for {len(inputs)} inputs, expected a whole number for each of them")
    if not len(labels):
        raise UserError(f"{part}there are no examples, expected at least one")
    return Split(inputs.contiguous(), labels.to(torch.int64))


def _tensor(name: str, value: Any) -> Tensor:
    """Copy a tensor, or convert anything that numpy can make an array of to one."""
    if isinstance(value, Tensor):
        return value.detach().clone()  # as below: what is done to the original is not seen by the fingerprint
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise UserError(f"{name} is an array with masked entries, which are no numbers: fill or drop them")
    try:
        array = np.ascontiguousarray(value)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is not an array of numbers ({error}): expected one, or a tensor") from None
