"""Other functions of a network: p | H, its gates fixed to stored paths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.per_example.checks import check_logits
from gendyn_lite.measures.relu_paths.gates import Gate, check_images, uncompiled
from gendyn_lite.measures.relu_paths.packed import PackedPaths, Paths, check_paths
from gendyn_lite.measures.relu_paths.record import BATCH, run_gated


def forward_with_paths(model: nn.Module, x: Tensor, paths: Mapping[str, Paths], *, partial: bool = False) -> Tensor:
    """The network's output for x if every unit were on as `paths` says, whatever its pre-activation.

    With the paths that x takes itself, this is the network's own output. With those of an epoch before, it is what the
    weights of today make of x along the path on which x was last learned; with those of another image, what that path
    makes of x. Differentiable with respect to x and the weights. Along a path a network is affine in x if nothing but
    its gates bends: a max-pooling chooses its winners anew for every x, and a response normalization divides by x.

    Args:
        model: The network whose weights are the history H, in eval mode; left as it was.
        x: Images [n, ...].
        paths: Layer → bool [n, units], or packed; one row is taken for every image. As `record_paths` gives them.
        partial: Whether layers may be left out, which then follow their own gates.

    Returns:
        The output, [n, ...].

    Raises:
        UserError: A layer is missing or unknown, a path is of another network or another number of images.

    Source: Image functions (n.d.), Eq. 9.

    >>> from gendyn_lite.measures.relu_paths import record_paths
    >>> model, x = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)), torch.randn(4, 3)
    >>> torch.equal(forward_with_paths(model, x, record_paths(model, x)), model(x))
    True
    """
    check_images(x)
    seen: list[str] = []

    def visit(gate: Gate) -> Tensor:
        seen.append(gate.name)
        if gate.name not in paths:
            if partial:
                return gate.run()
            has = ", ".join(paths) or "none"
            raise UserError(f"paths has no layer {gate.name!r} (it has {has}): record all, or pass partial=True")
        return gate.with_path(_fitting(gate, paths[gate.name]))

    out = run_gated(uncompiled(model), x, visit)
    for name in paths:
        if name not in seen:
            raise unknown_name("gate layer", name, seen)
    return out


def loss_along(
    model: nn.Module, x: Tensor, y: Tensor, paths: Mapping[str, Paths], *, partial: bool = False
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy along stored paths: L(p | H) for the paths p of an epoch before.

    With the network's own paths it is the loss that a reader knows. With those of an epoch before, it says how far the
    function that an image was learned along still fits the image: what the paper calls a franken-function is one that
    was put together since, and trained along other images' paths.

    Args:
        model: The network, in eval mode.
        x: Images [n, ...].
        y: Labels [n].
        paths: See `forward_with_paths`.
        partial: See `forward_with_paths`.

    Returns:
        Loss in nats, and accuracy in [0, 1].

    Raises:
        UserError: As `forward_with_paths`; there is not one label for each image, or one is no class of the network.

    Source: Image functions (n.d.), Sec. 5.

    >>> from gendyn_lite.measures.relu_paths import record_paths
    >>> model, x = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)), torch.randn(4, 3)
    >>> y = model(x).argmax(1)
    >>> loss_along(model, x, y, record_paths(model, x))[1]
    1.0
    """
    if len(x) != len(y):
        raise UserError(f"x has {len(x)} images and y {len(y)} labels: expected one label for each image")
    loss, correct = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            part = slice(start, start + BATCH)
            logits = forward_with_paths(model, x[part], _rows(paths, part, len(x)), partial=partial)
            labels = y[part].to(logits.device)
            check_logits(logits, labels, labelled=True)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    return loss / len(x), correct / len(x)


def _rows(paths: Mapping[str, Paths], part: slice, count: int) -> dict[str, Paths]:
    """The paths of some of `count` images; a single path, or another number of them, as it is."""
    return {name: one[part] if one.shape[0] == count else one for name, one in paths.items()}


def _fitting(gate: Gate, paths: Paths) -> Tensor:
    """A stored path in the shape of the gate's pre-activation."""
    what = f"paths[{gate.name!r}]"
    check_paths(paths, what)
    stored = paths.unpack() if isinstance(paths, PackedPaths) else paths
    count, units = len(gate.z), gate.z[0].numel()
    if stored.shape[1] != units:
        raise UserError(f"{what} has {stored.shape[1]} units and the layer {units}: it is of another network")
    if len(stored) not in (1, count):
        raise UserError(f"{what} has {len(stored)} images and x {count}: expected one path for each")
    return torch.broadcast_to(stored.to(gate.z.device), (count, units)).reshape(gate.z.shape)
