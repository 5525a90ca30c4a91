"""Build networks by name with chosen options and initialization; fully connected networks are defined here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.models.cifar import Shape, alexnet_small, inception_small, resnet18, vgg19
from gendyn_lite.models.imagenet import torchvision_network

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}


def downsampled(in_shape: Shape, downsample: object) -> tuple[int, ...]:
    """The shape of inputs after averaging over squares of side `downsample`.

    Args:
        in_shape: Shape of one input; (C, H, W) if `downsample` is above 1.
        downsample: Side of the squares in pixels.

    Returns:
        (C, H // downsample, W // downsample), or `in_shape` if `downsample` is 1.

    Raises:
        UserError: `downsample` is not a positive whole number, or it is above 1 and the inputs are not images or are
            smaller than a square.

    >>> downsampled((3, 33, 32), 2), downsampled((2,), 1)
    ((3, 16, 16), (2,))
    """
    if type(downsample) is not int or downsample < 1 or (downsample > 1 and len(in_shape) != 3):
        expected = "expected a positive whole number, which is 1 unless inputs are images (C, H, W)"
        raise UserError(f"downsample is {downsample!r}, {expected}")
    if min(in_shape[1:], default=1) < downsample:
        raise UserError(f"downsample is {downsample}, expected at most the side of the images {in_shape}")
    return in_shape if downsample == 1 else (in_shape[0], *(side // downsample for side in in_shape[1:]))


def mlp(
    *, in_shape: Shape, num_classes: int, widths: Sequence[int] = (512,), activation: str = "relu", downsample: int = 1
) -> nn.Sequential:
    """Flatten, then a linear layer and an activation for each width, then a linear layer to the logits.

    Args:
        in_shape: Shape of one input; any shape.
        num_classes: Number of logits.
        widths: Number of units of each hidden layer; an empty sequence gives a linear model.
        activation: ``"relu"``, ``"tanh"`` or ``"leaky_relu"`` (slope 0.01).
        downsample: Images are first averaged over squares of this side.

    Raises:
        UserError: A width is not a positive whole number, the activation is unknown, or `downsample` does not fit.

    Source: Zhang et al. (2017), Appendix A (1x512 and 3x512).

    >>> mlp(in_shape=(2,), num_classes=2, widths=(8, 8), activation="tanh")
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
      (fc1): Linear(in_features=2, out_features=8, bias=True)
      (act1): Tanh()
      ...
      (fc3): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if not isinstance(widths, Sequence) or any(type(width) is not int or width < 1 for width in widths):
        raise UserError(f"widths is {widths!r}, expected positive whole numbers such as [128, 128]")
    network = nn.Sequential()
    shape = downsampled(in_shape, downsample)
    if downsample > 1:
        network.add_module("pool", nn.AvgPool2d(downsample))
    network.add_module("flatten", nn.Flatten())
    sizes = [math.prod(shape), *widths]
    for depth, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        network.add_module(f"fc{depth}", nn.Linear(fan_in, fan_out))
        network.add_module(f"act{depth}", ACTIVATIONS[activation]())
    network.add_module(f"fc{len(sizes)}", nn.Linear(sizes[-1], num_classes))
    return network


# name → (function of in_shape, num_classes and options; default initialization; smallest side of its images, or 0 if it
# takes inputs of any shape)
NETWORKS: dict[str, tuple[Any, str, int]] = {
    "mlp": (mlp, "torch", 0),
    "mlp_1x512": (partial(mlp, widths=(512,)), "torch", 0),
    "mlp_3x512": (partial(mlp, widths=(512, 512, 512)), "torch", 0),
    "alexnet_small": (alexnet_small, "glorot_uniform", 4),
    "inception_small": (inception_small, "he_normal", 4),
    "resnet18": (resnet18, "he_normal", 8),
    "vgg19": (vgg19, "he_normal", 32),
    "resnet18_imagenet": (partial(torchvision_network, "resnet18", dropout=None), "torch", 32),
    "resnet50": (partial(torchvision_network, "resnet50", dropout=None), "torch", 32),
    "inception_v3": (partial(torchvision_network, "inception_v3"), "torch", 75),
    "alexnet": (partial(torchvision_network, "alexnet"), "torch", 63),
}


# Functions that initialize the weights of a linear or convolutional layer; biases become 0. "torch" changes nothing.
INITIALIZATIONS: dict[str, Callable[[Tensor], object] | None] = {
    "torch": None,
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "glorot_uniform": nn.init.xavier_uniform_,
}


def names() -> tuple[str, ...]:
    """The names of the networks that `build` knows.

    >>> names()[:3]
    ('mlp', 'mlp_1x512', 'mlp_3x512')
    """
    return tuple(NETWORKS)


def build(
    name: str, *, num_classes: int, in_shape: Sequence[int], seed: int | None = None, **options: Any
) -> nn.Module:
    """Build a freshly initialized network that maps float32 inputs [n, *in_shape] to logits [n, num_classes].

    Every ReLU, pooling and flattening is a module of its own, used once and not in place, so that measures can hook it.
    ``"resnet18"`` and ``"vgg19"`` are the variants for CIFAR; ``"resnet18_imagenet"``, ``"resnet50"``,
    ``"inception_v3"`` and ``"alexnet"`` are torchvision's (3 channels, random weights, no auxiliary head).

    Args:
        name: One of `names`.
        num_classes: Number of logits, at least 2.
        in_shape: Shape of one input, (C, H, W) for images; fully connected networks take any shape.
        seed: Seed of the initial weights, which are then the same on every device, and torch's global generator stays
            unchanged. None to draw from the global generator.
        **options: ``init`` (one of `gendyn_lite.models.INITIALIZATIONS`) for every network; ``activation`` ("relu",
            "tanh", "leaky_relu") for MLPs and ``widths`` for ``"mlp"``; ``batch_norm`` for inception_small and vgg19;
            ``dropout`` for inception_small, inception_v3 and alexnet; ``downsample`` for MLPs and resnet18;
            ``response_norm`` and ``more_convolutions`` for alexnet_small.

    Returns:
        The network, on the CPU and in train mode.

    Raises:
        UserError: The name or an option is unknown, a value is invalid, or inputs are too small for the network.

    Source: Zhang et al. (2017), Appendix A (MLPs, AlexNet, Inception); He et al. (2015) and Simonyan and Zisserman
    (2015) in their common CIFAR forms (ResNet-18, VGG-19).

    >>> network = build("mlp_1x512", num_classes=10, in_shape=(3, 28, 28), seed=0)
    >>> parameter_count(network)
    1209866
    >>> build("resnet81", num_classes=10, in_shape=(3, 32, 32))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: unknown network 'resnet81': did you mean 'resnet18'? Valid: mlp, mlp_1x512, ...
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    construct, init, min_side = NETWORKS[name]
    init = options.pop("init", init)
    _check_options(name, construct, options)
    shape = tuple(in_shape) if isinstance(in_shape, Sequence) else ()
    if not shape or any(type(size) is not int or size < 1 for size in shape):
        raise UserError(f"in_shape is {in_shape!r}, expected positive whole numbers such as (3, 28, 28)")
    if min_side and len(shape) != 3:
        expected = "expected (channels, height, width); an mlp takes any shape"
        raise UserError(f"in_shape is {shape}, but {name} takes images: {expected}")
    seen = downsampled(shape, options.get("downsample", 1))
    if min(seen[1:], default=min_side) < min_side:
        expected = f"expected images of at least {min_side}x{min_side}"
        advice = "enlarge or pad them, or choose a smaller network"
        raise UserError(f"in_shape {seen} is too small for {name}: {expected} ({advice})")
    if type(num_classes) is not int or num_classes < 2:
        raise UserError(f"num_classes is {num_classes!r}, expected a whole number of at least 2")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        network = construct(in_shape=shape, num_classes=num_classes, **options)
        initialize(network, init)
    return network


def initialize(model: nn.Module, name: str) -> None:
    """Initialize the weights of every linear and convolutional layer in place, from torch's global generator.

    - ``"torch"``: nothing is changed; torch's own initialization is uniform in ±1/√fan_in for weights and biases.
    - ``"he_normal"``: weights normal with variance 2/fan_in, biases 0 (He et al., 2015, Eq. 10).
    - ``"glorot_uniform"``: weights uniform in ±√(6/(fan_in+fan_out)), biases 0 (Glorot and Bengio, 2010, Eq. 16).

    Batch-norm layers keep scale 1 and shift 0.

    Args:
        model: The network.
        name: The initialization.

    Raises:
        UserError: The name is unknown.

    >>> layer = nn.Linear(4, 3)
    >>> initialize(layer, "glorot_uniform")
    >>> bool(layer.weight.abs().max() <= (6 / 7) ** 0.5), layer.bias.tolist()
    (True, [0.0, 0.0, 0.0])
    """
    if name not in INITIALIZATIONS:
        raise unknown_name("init", name, INITIALIZATIONS)
    draw = INITIALIZATIONS[name]
    for layer in model.modules():
        if draw and isinstance(layer, nn.Linear | nn.Conv2d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def parameter_count(model: nn.Module) -> int:
    """The number of parameters, trainable and frozen; shared ones count once, and buffers do not count.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def _check_options(name: str, construct: Any, options: dict[str, Any]) -> None:
    """Check that the network has all these options, and the values of those that it does not check itself.

    Raises:
        UserError: An option is unknown (the valid ones are listed), or a value is invalid.
    """
    given = {"in_shape", "num_classes", *getattr(construct, "keywords", ())}  # such as the widths of mlp_1x512
    parameters = inspect.signature(construct).parameters.values()
    options_only = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in given]
    known = {each.name: each.default for each in options_only}
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of {name}", option, [*known, "init"])
        if option == "batch_norm" and not isinstance(value, bool):
            raise UserError(f"batch_norm is {value!r}, expected True or False")
        if option == "more_convolutions" and not (type(value) is int and value >= 0):
            raise UserError(f"more_convolutions is {value!r}, expected a whole number of at least 0")
        if option == "dropout" and value is not known[option] and not (type(value) in (int, float) and 0 <= value < 1):
            raise UserError(f"dropout is {value!r}, expected a number in [0, 1)")
