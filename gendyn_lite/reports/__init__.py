"""A report on a network of your own: the five lenses, each with its numbers, intervals, charts and pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gendyn_lite
from gendyn_lite.data import ImageData, balanced_order, standardize
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.errors import Failed, UserError, named_path
from gendyn_lite.measures.intervals.network import check_network, logits_at
from gendyn_lite.measures.per_example.checks import check_name, check_whole
from gendyn_lite.measures.per_example.guards import Output, reading
from gendyn_lite.reports.lenses import LENSES, Lens, Sample, fisher, fit, intervals, looked, paths, share, stiffness
from gendyn_lite.results.files import json_text, write_text

STANDARDS = {
    "per_channel": "mean and standard deviation of each channel over the training images",
    "per_image": "mean and standard deviation of each image",
    "imagenet": "ImageNet's means and standard deviations, as torchvision's weights expect them",
    "none": "grey levels divided by 255",
}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST = 1000  # most images of each set for the accuracy
SIDE = 96  # largest side of a picture on the page, in pixels


def report(
    model: nn.Module,
    data: ImageData,
    *,
    out: str | os.PathLike[str] = "report.html",
    name: str = "",
    fresh: bool = False,
    standard: str = "per_channel",
    few: int = 64,
    lines: int = 12,
    seconds: float = 15.0,
    output: Output = None,
    on_lens: Callable[[Lens], object] = lambda lens: None,
) -> Path:
    """Measure a network with the five lenses, and write the results as one HTML file and a JSON file beside it.

    The page loads nothing from other hosts, and names and labels are escaped. A lens that cannot be computed says why;
    the others go on.

    Args:
        model: The network. It is measured in eval mode, and its mode is restored.
        data: Images and labels, as from `gendyn_lite.data.load` or `from_arrays`.
        out: The HTML file to write.
        name: Name of the network on the page (default: its class).
        fresh: Whether its weights are known to be untrained.
        standard: How images were turned into inputs in training: ``"per_channel"``, ``"per_image"``, ``"imagenet"`` or
            ``"none"``. Inputs in floating point are used unchanged.
        few: Number of training images for the costly lenses.
        lines: Number of lines for the intervals.
        seconds: Longest time for exact intervals, before they are sampled instead.
        output: Function that takes the network's output and returns the logits, for a network that returns a tuple or
            a dict.
        on_lens: Called with each lens when it is done.

    Returns:
        The path of the HTML file.

    Raises:
        UserError: The network does not take the images, has another number of classes, or has weights that are not
            finite; or an argument is out of range.
        Failed: The file cannot be written.

    >>> import tempfile
    >>> from gendyn_lite import data, models
    >>> network = models.build("mlp", num_classes=10, in_shape=(1, 8, 8), widths=[8], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = report(network, data.load("digits"), out=f"{folder}/mlp.html", few=20, lines=2)
    ...     sorted(path.name for path in written.parent.iterdir())
    ['mlp.html', 'mlp.json']
    """
    from gendyn_lite.reports.among import among
    from gendyn_lite.reports.page import page

    path = named_path(out, what="out")
    _check_place(path)
    check_name("standard", standard, STANDARDS)
    check_whole("few", few, least=4)
    check_whole("lines", lines)
    modes = [(module, module.training) for module in model.modules()]
    try:
        sample = sample_of(model.eval(), data, standard)._replace(few=few, lines=lines, seconds=seconds)
        with reading(model, output):
            _check(model, sample, data)
            found = list(looked(model, sample, on_lens=on_lens))
    finally:
        for module, mode in modes:
            module.training = mode
    about = _about(model, data, sample, found, name=name or type(model).__name__, fresh=fresh, standard=standard)
    lenses = [lens.as_dict() for lens in found]
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    placed = among(lenses, dataset=data.name, convolutional=convolutional)
    text = page(about, lenses, _pictures(data, lenses), placed)
    result = {**about, "lenses": lenses, "among": placed.as_dict() if placed else None}
    aside = path.with_name(f".{path.name}.new")
    try:
        write_text(aside, text)
        write_text(path.with_suffix(".json"), json_text(_plain(result)))
        aside.replace(path)
    except OSError as error:
        told = f"cannot write {path}: {error.strerror or error}"
        raise Failed(f"{told}: free some space, or choose another place with --out (out=)") from None
    finally:
        aside.unlink(missing_ok=True)
    return path


def _check_place(path: Path) -> None:
    """Refuse a path that a report cannot be written to, before anything is computed."""
    if path.suffix not in (".html", ".htm"):
        raise UserError(f"the report is to be {path}, expected a name that ends in .html")
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"is in a folder that does not exist ({path.parent})"
        raise UserError(f"{path} {why}: choose another place")
    if not os.access(path.parent, os.W_OK):
        raise Failed(f"{path.parent} cannot be written to: choose another place with --out (out=)")


def _order(data: ImageData) -> Tensor:
    """Return the indices of the training images that are measured, balanced by class; equal for all reports."""
    return balanced_order(data.train.y, seed=0)[:MOST]


def sample_of(model: nn.Module, data: ImageData, standard: str = "per_channel") -> Sample:
    """Preprocess images for a network, in an order balanced by class.

    Args:
        model: The network, for its device and precision.
        data: The data; at most 1,000 training and 1,000 test images are used.
        standard: As for `report`.

    Returns:
        The inputs of the lenses.

    Raises:
        UserError: ImageNet's statistics are asked for images without three channels, or any for inputs in floating
            point.

    >>> from gendyn_lite import data
    >>> sample_of(nn.Linear(2, 2), data.load("two_moons")).x.shape
    torch.Size([300, 2])
    """
    first = next(model.parameters(), None)
    device, dtype = ("cpu", torch.float32) if first is None else (first.device, first.dtype)

    def inputs(x: Tensor) -> Tensor:
        if x.dtype == torch.uint8:
            mean, std = IMAGENET if standard == "imagenet" else (data.mean, data.std)
            if standard == "imagenet" and x.shape[1] != len(mean):
                raise UserError(f"standard 'imagenet' is for 3 channels, the images have {x.shape[1]}")
            kind = "per_channel" if standard == "imagenet" else standard
            x = standardize(x, kind, mean=torch.tensor(mean), std=torch.tensor(std))
        elif standard != "per_channel":
            told = f"standard is {standard!r}, and the inputs are in floating point, which are taken as they are"
            raise UserError(f"{told}: leave it out, or give images as uint8")
        return x.to(device, dtype)

    order, test = _order(data), balanced_order(data.test.y, seed=0)[:MOST]
    train = data.train.x[order], data.train.y[order].to(device)
    return Sample(inputs(train[0]), train[1], inputs(data.test.x[test]), data.test.y[test].to(device))


def _check(model: nn.Module, sample: Sample, data: ImageData) -> None:
    """Refuse a network that does not fit these data."""
    check_network(model)
    if data.num_classes < 2:
        raise UserError("the data have one class alone, expected at least two")
    with torch.no_grad():
        outputs = logits_at(model, sample.x[:2].clone()).shape[1]
    if outputs != data.num_classes:
        told = f"the network has {outputs:,} classes and the data {data.num_classes:,}"
        raise UserError(f"{told}: give it a head of {data.num_classes:,} (for a network of torchvision --classes)")


def _about(
    model: nn.Module, data: ImageData, sample: Sample, found: list[Lens], *, name: str, fresh: bool, standard: str
) -> dict[str, Any]:
    """Return the facts on network and data that the page lists, and a warning if the network seems untrained."""
    warning = ""
    most = float(sample.y.bincount().max()) / len(sample.y)
    accuracy = found[0].numbers.get("training accuracy")
    if fresh:
        warning = "This network is untrained: its weights are drawn at random. What follows is said of such a network."
    elif accuracy is not None and accuracy.low <= most:
        warning = (
            f"This network does no better than chance on the training images ({accuracy.mean:.2f}, where the largest "
            f"class alone is {most:.2f}): it is untrained, or was trained on other labels or other inputs."
        )
    weights = sum(value.numel() for value in model.parameters())
    facts = {
        "network": f"{name}, {weights:,} weights",
        "data": f"{data.description}: {len(data.train.y):,} training and {len(data.test.y):,} test images",
        "classes": f"{data.num_classes}: {', '.join(data.class_names[:20])}" + ("…" if data.num_classes > 20 else ""),
        "inputs": f"{list(data.in_shape)}, "
        + (STANDARDS[standard] if data.train.x.dtype == torch.uint8 else "as they are"),
        "looked at": f"accuracy on {len(sample.y):,} training and {len(sample.test_y):,} test images; "
        f"the other lenses on {min(sample.few, len(sample.y))} training images",
        "made with": f"gendyn_lite {gendyn_lite.__version__}, torch {torch.__version__}, {sample.x.device}",
        "fingerprint of the data": data.fingerprint,
    }
    return {"model": name, "data": data.description, "warning": warning, "facts": facts}


def _pictures(data: ImageData, lenses: list[dict[str, Any]]) -> dict[int, tuple[str, str]]:
    """Return picture and label of the images that the lenses show, by number; empty for data that are not images."""
    shown = {row[key] for lens in lenses for row in lens["examples"] for key in ("i", "j") if key in row}
    order = _order(data)
    if data.train.x.dtype != torch.uint8 or data.in_shape[0] not in (1, 3):
        return {}
    step = max(1, math.ceil(max(data.in_shape[1:]) / SIDE))
    pictures = {}
    for i in sorted(shown):
        label = data.class_names[int(data.train.y[order[i]])]
        pictures[i] = data_uri(data.train.x[int(order[i])][:, ::step, ::step]), label
    return pictures


def _plain(value: Any) -> Any:
    """Replace NaN and infinity by None, since JSON has neither."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
