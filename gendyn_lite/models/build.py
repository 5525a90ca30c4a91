"""From a name and options to a freshly initialized network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.models.alexnet import alexnet_small
from gendyn_lite.models.imagenet import torchvision_network
from gendyn_lite.models.inception import inception_small
from gendyn_lite.models.initialize import initialize
from gendyn_lite.models.mlp import mlp
from gendyn_lite.models.resnet import resnet18
from gendyn_lite.models.vgg import vgg19

# name -> (function of in_shape, num_classes and its options; initialization unless `init` says otherwise)
NETWORKS: dict[str, tuple[Any, str]] = {
    "mlp": (mlp, "torch"),
    "mlp_1x512": (partial(mlp, widths=(512,)), "torch"),
    "mlp_3x512": (partial(mlp, widths=(512, 512, 512)), "torch"),
    "alexnet_small": (alexnet_small, "glorot_uniform"),
    "inception_small": (inception_small, "he_normal"),
    "resnet18": (resnet18, "he_normal"),
    "vgg19": (vgg19, "he_normal"),
    "resnet18_imagenet": (partial(torchvision_network, "resnet18"), "torch"),
    "resnet50": (partial(torchvision_network, "resnet50"), "torch"),
    "inception_v3": (partial(torchvision_network, "inception_v3"), "torch"),
    "alexnet": (partial(torchvision_network, "alexnet"), "torch"),
}
# Fixed by the network's name: no option of it.
FIXED_WIDTHS = ("mlp_1x512", "mlp_3x512")


def names() -> tuple[str, ...]:
    """The networks that `build` knows.

    >>> names()[:3]
    ('mlp', 'mlp_1x512', 'mlp_3x512')
    """
    return tuple(NETWORKS)


def build(
    name: str, *, num_classes: int, in_shape: Sequence[int], seed: int | None = None, **options: Any
) -> nn.Module:
    """A freshly initialized network, in train mode, that maps [n, *in_shape] float32 to logits [n, num_classes].

    Every ReLU, pooling and flattening is a module of its own, used once and out of place, so that measures can hook it.
    `resnet18` and `vgg19` are the CIFAR ones; `resnet18_imagenet`, `resnet50`, `inception_v3` and `alexnet` are
    torchvision's (3 channels, random weights, no auxiliary head).

    Args:
        name: One of `names`.
        num_classes: Number of logits, at least 2.
        in_shape: Shape of one input, (C, H, W) for images; networks of fully connected layers take any shape.
        seed: Seed of the initial weights (the global random generator is left as it was), or None to draw from the
            global generator. The same seed gives the same weights on every device.
        **options: ``init`` (one of `gendyn_lite.models.INITIALIZATIONS`) for every network; ``activation`` ("relu",
            "tanh", "leaky_relu") for MLPs and ``widths`` for ``"mlp"``; ``batch_norm`` for inception_small and vgg19;
            ``dropout`` for inception_small, inception_v3 and alexnet.

    Returns:
        The network, on the CPU.

    Raises:
        UserError: The name, an option or its value is unknown, or inputs are too small for the network.

    Source: Zhang et al. 2017, appendix A (MLPs, AlexNet, Inception); He et al. 2015 and Simonyan and Zisserman 2015 in
    their common CIFAR forms (ResNet-18, VGG-19).

    >>> network = build("mlp_1x512", num_classes=10, in_shape=(3, 28, 28), seed=0)
    >>> parameter_count(network)
    1209866
    >>> build("resnet81", num_classes=10, in_shape=(3, 32, 32))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: unknown network 'resnet81': did you mean 'resnet18'? Valid: mlp, mlp_1x512, ...
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    construct, init = NETWORKS[name]
    init = options.pop("init", init)
    _check_options(name, construct, options)
    shape = _checked_shape(in_shape)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise UserError(f"num_classes is {num_classes!r}, expected a whole number of at least 2")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        network = construct(in_shape=shape, num_classes=num_classes, **options)
        initialize(network, init)
    return network


def parameter_count(model: nn.Module) -> int:
    """Number of trainable and frozen parameters, each shared one once (buffers are no parameters).

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def _check_options(name: str, construct: Any, options: dict[str, Any]) -> None:
    """Refuse an option that the network does not have, naming those it has."""
    known = [
        key
        for key, parameter in inspect.signature(construct).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in ("in_shape", "num_classes")
    ]
    if name in FIXED_WIDTHS:
        known.remove("widths")
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, [*known, "init"])


def _checked_shape(in_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple of positive whole numbers."""
    shape = tuple(in_shape) if isinstance(in_shape, Sequence) else ()
    if not shape or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise UserError(f"in_shape is {in_shape!r}, expected positive whole numbers such as (3, 28, 28)")
    return shape
