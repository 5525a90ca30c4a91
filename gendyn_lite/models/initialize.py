"""Initial weights: what 'random uniform' and its like mean here."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from gendyn_lite.errors import unknown_name

SMALL_UNIFORM = 0.05


def _random_uniform(weight: Tensor) -> None:
    nn.init.uniform_(weight, -SMALL_UNIFORM, SMALL_UNIFORM)


def _fan_in_uniform(weight: Tensor) -> None:
    bound = 1 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -bound, bound)


def _he_normal(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


# What each does to the weights of every linear and convolutional layer; biases become 0. "torch" changes nothing.
INITIALIZATIONS: dict[str, Callable[[Tensor], object] | None] = {
    "torch": None,
    "random_uniform": _random_uniform,
    "fan_in_uniform": _fan_in_uniform,
    "he_normal": _he_normal,
    "glorot_uniform": nn.init.xavier_uniform_,
}


def initialize(model: nn.Module, name: str) -> None:
    """Draw the weights of every linear and convolutional layer anew, in place, from torch's global generator.

    - ``"torch"``: as torch's layers come, weights and biases uniform in ±1/√fan_in.
    - ``"random_uniform"``: weights uniform in ±0.05, biases 0 (what Keras calls random uniform).
    - ``"fan_in_uniform"``: weights uniform in ±1/√fan_in, biases 0.
    - ``"he_normal"``: weights normal with variance 2/fan_in, biases 0 (He et al. 2015, eq. 10).
    - ``"glorot_uniform"``: weights uniform in ±√(6/(fan_in+fan_out)), biases 0 (Glorot and Bengio 2010, eq. 16).

    Batch-norm layers keep scale 1 and shift 0.

    Raises:
        UserError: The name is none of these.

    >>> layer = nn.Linear(4, 3)
    >>> initialize(layer, "random_uniform")
    >>> bool(layer.weight.abs().max() <= 0.05), layer.bias.tolist()
    (True, [0.0, 0.0, 0.0])
    """
    if name not in INITIALIZATIONS:
        raise unknown_name("init", name, INITIALIZATIONS)
    draw = INITIALIZATIONS[name]
    if draw is None:
        return
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
