"""Which operations beside gates bend a network, so that a path does not fix what it computes."""

from __future__ import annotations

from typing import Any

import torch

from gendyn_lite.measures.per_example.axis_rules import ATTENTION, BENT, NORMS

# What bends beside gates, by names among ATen's operations: all that torch tags as pointwise, but for those of `LINEAR`
# (in any of their tensors) and `PRODUCTS` (in each of their factors); `PLACES` that depend on the images; and `CURVED`.
# Max-pooling and response normalization are not named; `forward_with_paths` tells of them.
LINEAR = ("add", "sub", "rsub", "neg", "positive", "clone", "_to_copy", "copy", "fill", "zero", "alias", "detach")
PRODUCTS = {  # which of their tensors are factors
    **dict.fromkeys(("mul", "mm", "bmm", "mv", "dot", "convolution", "_convolution"), slice(None)),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv", "addcmul"), slice(1, None)),
}
CHOICES = {"where": 0, "masked_fill": 1, "div": 1, "addcdiv": 2, "lerp": 2}  # bend by that one of their tensors
CONSTANT = ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
PLACES = {  # which of their tensors say where to read or to write
    **dict.fromkeys(
        ("gather", "scatter", "scatter_add", "index_select", "index_add", "index_copy", "take"), slice(1, 2)
    ),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d", "grid_sampler_2d", "grid_sampler_3d"), slice(1, 2)),
    **{"index": slice(1, None), "index_put": slice(1, -1)},
}
CURVED = (
    *(*BENT, *ATTENTION, "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "glu"),
    *("_softmax", "_log_softmax", "logsumexp", "native_layer_norm", "native_group_norm", "_fused_rms_norm"),
    *("linalg_vector_norm", "norm", "var", "std", "var_mean", "std_mean", "prod", "cumprod", "_cdist_forward"),
    *("amax", "amin", "max", "min", "aminmax", "median", "sort", "topk", "kthvalue", "cummax", "cummin", "mode"),
    *("mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "scatter_reduce"),
)


def bends(func: Any, name: str, moving: list[bool], args: Any, kwargs: Any) -> bool:
    """Return whether an operation is none that is affine in the tensors that depend on the images.

    Args:
        func: The operation of ATen.
        name: Its name, without a final underscore.
        moving: Which of the tensors among its arguments depend on the images.
        args: Its arguments.
        kwargs: Its arguments by name.

    >>> square, add = torch.ops.aten.square.default, torch.ops.aten.add.Tensor
    >>> bends(square, "square", [True], (), {}), bends(add, "add", [True, True], (), {})
    (True, False)
    """
    if name in PRODUCTS:
        return sum(moving[PRODUCTS[name]]) > 1
    if name in CHOICES and kwargs.get("rounding_mode") is None:
        return any(moving[CHOICES[name] : CHOICES[name] + 1])
    if name in NORMS:
        return args[5] is True
    if name in PLACES:
        return any(moving[PLACES[name]])
    return name in CURVED or (torch.Tag.pointwise in func.tags and name not in LINEAR)
