"""Which formula for per-example gradients a module has, if any."""

from __future__ import annotations

from torch import nn

KINDS: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d), "affine"),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm), "scale"),
    nn.Embedding: "embedding",
}
COMPUTING = ("forward", "_conv_forward")  # methods that a formula stands for


def kind_of(module: nn.Module) -> str | None:
    """Return ``"affine"``, ``"scale"``, ``"embedding"``, or None for a module without a formula.

    A subclass counts as its base class only if it inherits the code of its forward.

    >>> kind_of(nn.Conv2d(3, 8, 3)), kind_of(nn.LSTM(3, 8))
    ('affine', None)
    """
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
        return None
    if "bias" not in module._parameters and getattr(module, "bias", None) is not None:
        return None  # computed before each call, as by prune
    if not vars(module).keys().isdisjoint(COMPUTING) or not _as_built(module):
        return None
    for base, kind in KINDS.items():
        if isinstance(module, base):
            computes = [[getattr(of, name, None) for name in ("__call__", *COMPUTING)] for of in (type(module), base)]
            if computes[0] == computes[1] and all(of is None or of.__module__[:6] == "torch." for of in computes[0]):
                return kind
    return None


def _as_built(module: nn.Module) -> bool:
    """Return whether the settings that a formula reads are those that torch computes with.

    They are not if some were assigned later: `padding`, of which a convolution keeps a second form, or a weight of
    another size.

    >>> layer = nn.Conv2d(1, 1, 3, padding=1)
    >>> layer.padding, before = (0, 0), _as_built(layer)
    >>> before, _as_built(layer)
    (True, False)
    """
    if isinstance(module, nn.Embedding):
        return module.padding_idx is None or module.padding_idx >= 0
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return True
    kernel, sides = module.kernel_size, module.padding
    if isinstance(sides, str):
        total = [d * (k - 1) if sides == "same" else 0 for d, k in zip(module.dilation, kernel, strict=True)]
        pairs = [(each // 2, each - each // 2) for each in total]
    else:
        pairs = [(each, each) for each in sides] if isinstance(sides, tuple) else []
    expected = [each for pair in reversed(pairs) for each in pair]
    sizes = (module.out_channels, module.in_channels // module.groups, *kernel)
    whole = isinstance(module.stride, tuple) and isinstance(module.dilation, tuple)
    shape = None if module.weight is None else tuple(module.weight.shape)
    return whole and shape in (None, sizes) and list(module._reversed_padding_repeated_twice) == expected


def fewest_axes(module: nn.Module) -> int:
    """Return the fewest axes of an input that includes an axis of examples."""
    return {nn.Embedding: 1, nn.Conv1d: 3, nn.Conv2d: 4}.get(type(module), 2)
