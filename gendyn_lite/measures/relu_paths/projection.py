"""A network with its gates fixed to stored paths p, written p | H in the paper: its outputs and its loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.per_example.checks import check_logits
from gendyn_lite.measures.relu_paths.gated import run_gated
from gendyn_lite.measures.relu_paths.gates import Gate, Unseen, check_images, uncompiled
from gendyn_lite.measures.relu_paths.packed import PackedPaths, Paths, check_paths
from gendyn_lite.measures.relu_paths.record import BATCH
from gendyn_lite.models.logits import tell_of_probabilities


def forward_with_paths(model: nn.Module, x: Tensor, paths: Mapping[str, Paths], *, partial: bool = False) -> Tensor:
    """Compute the network's output for x with its units on or off as `paths` says, whatever their pre-activations.

    With the paths of x itself, this is the network's own output. With the paths of an earlier epoch, it is the output
    of today's weights along the path on which x was learned then. With the path of another image, it is the output for
    x along that image's path.

    The output is differentiable in x and the weights. Along fixed paths it is affine in x if the gates are the only
    non-linear parts: max-pooling still chooses its winners for every x, and response normalization divides by x.

    Args:
        model: The network whose weights are the history H, in eval mode. It is left unchanged.
        x: Images [n, ...].
        paths: Paths by layer, bool [n, units] or packed, as from `record_paths`. A single row [1, units] holds for
            every image.
        partial: Whether `paths` may leave out layers, which then use their own gates.

    Returns:
        The output, [n, ...].

    Raises:
        UserError: A layer is missing or unknown, or a path has another number of units or images.

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

    model = uncompiled(model)
    out = run_gated(model, x, visit, Unseen(model, x))
    for name in paths:
        if name not in seen:
            raise unknown_name("gate layer", name, seen)
    return out


def loss_along(
    model: nn.Module, x: Tensor, y: Tensor, paths: Mapping[str, Paths], *, partial: bool = False
) -> tuple[float, float]:
    """Compute the mean cross-entropy and accuracy along stored paths, L(p | H).

    With the network's own paths, this is its ordinary loss. With the paths of an earlier epoch, it measures how well
    the function along which an image was learned still fits the image. The paper calls the image's new function a
    franken-function: it was put together since, from training along other images' paths.

    Args:
        model: The network, in eval mode.
        x: Images [n, ...].
        y: Labels [n].
        paths: As for `forward_with_paths`.
        partial: As for `forward_with_paths`.

    Returns:
        Loss in nats, and accuracy in [0, 1].

    Raises:
        UserError: As for `forward_with_paths`; there is not one label for each image, or a label is not a class of the
            network.

    Source: Image functions (n.d.), Sec. 5.

    >>> from gendyn_lite.measures.relu_paths import record_paths
    >>> model, x = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)), torch.randn(4, 3)
    >>> y = model(x).argmax(1)
    >>> loss_along(model, x, y, record_paths(model, x))[1]
    1.0
    """
    if len(x) != len(y):
        raise UserError(f"x has {len(x)} images and y {len(y)} labels: expected one label for each image")
    check_images(x)
    loss, correct = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            part = slice(start, start + BATCH)
            logits = forward_with_paths(model, x[part], _rows(paths, part, len(x)), partial=partial)
            labels = y[part].to(logits.device)
            check_logits(logits, labels, labelled=True)
            tell_of_probabilities(model, logits)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    return loss / len(x), correct / len(x)


def _rows(paths: Mapping[str, Paths], part: slice, count: int) -> dict[str, Paths]:
    """Select the paths of a part of the `count` images; paths of another number of images are left as they are."""
    return {name: one[part] if one.shape[0] == count else one for name, one in paths.items()}


def _fitting(gate: Gate, paths: Paths) -> Tensor:
    """Return stored paths in the shape of the gate's pre-activations."""
    what = f"paths[{gate.name!r}]"
    check_paths(paths, what)
    stored = paths.unpack() if isinstance(paths, PackedPaths) else paths
    count, units = len(gate.z), gate.z[0].numel()
    if stored.shape[1] != units:
        raise UserError(f"{what} has {stored.shape[1]} units and the layer {units}: it is of another network")
    if len(stored) not in (1, count):
        raise UserError(f"{what} has {len(stored)} images and x {count}: expected one path for each")
    return torch.broadcast_to(stored.to(gate.z.device), (count, units)).reshape(gate.z.shape)
