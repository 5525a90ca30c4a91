"""What the path measures ask of a network and its images: each refused in one line."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gendyn_lite.errors import UserError, unknown_name


def uncompiled(model: nn.Module) -> nn.Module:
    """The network inside of ``torch.compile``, whose gates can be seen."""
    return getattr(model, "_orig_mod", model)


def check_images(x: Tensor, batch_size: int = 1) -> None:
    """Refuse what are no images in floating point."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        told = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"x is {told}, expected images [n, ...] with n ≥ 1")
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise UserError(f"x is {kind}: standardize it as in training (data.batcher gives such batches)")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size is {batch_size!r}, expected a whole number of at least 1")


def check_eval(model: nn.Module) -> None:
    """Refuse a network whose gates depend on chance or on the batch."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, _DropoutNd | _BatchNorm):
            why = "drops units at random" if isinstance(module, _DropoutNd) else "depends on the batch"
            raise UserError(
                f"{name!r} ({type(module).__name__}) is in train mode, where a path {why}: call model.eval() first"
            )


def check_layers(model: nn.Module, seen: Sequence[str], layers: Sequence[str] | None) -> None:
    """Refuse a network without gates, and names of layers that it does not have."""
    if not seen:
        others = sorted(
            {type(m).__name__ for m in model.modules() if type(m).__module__.endswith("modules.activation")}
        )
        has = f" (its activations: {', '.join(others)})" if others else ""
        raise UserError(
            f"the network has no gates{has}: paths need ReLU, LeakyReLU or the like, as modules or as F.relu(...)"
        )
    for name in layers or ():
        if name not in seen:
            raise unknown_name("gate layer", name, seen)
