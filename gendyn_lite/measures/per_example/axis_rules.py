"""The rule of each operation of torch for the axis of the examples, by the operation's name in ATen."""

from __future__ import annotations

from collections.abc import Callable

from gendyn_lite.measures.per_example import axes
from gendyn_lite.measures.per_example.axes import Axis, Call, LostError, same_along


def _multiplied(call: Call) -> Axis:
    """A product of matrices, or of batches of matrices, with or without a summand."""
    axis = _of_factors(call)
    for value, own in list(zip(call.tensors, call.axes, strict=True))[:-2]:
        if own != axis if own is not None else not same_along(value, axis.dim - call.out.dim()):
            raise LostError
    return axis


def _of_factors(call: Call) -> Axis:
    """Return the axis of a product: rows of the left factor, columns of the right one, or a batch of matrices."""
    (left, right), size = call.axes[-2:], call.out.dim()
    if left is not None and right is not None:
        if left == right and left.dim == 0 < size - 2:
            return left
        raise LostError
    own, other, outside = (
        (left, call.tensors[-1], size - 2) if left is not None else (right, call.tensors[-2], size - 1)
    )
    if own is not None and (own.dim == outside or (own.dim == 0 < size - 2 and same_along(other, -size))):
        return own
    raise LostError


def _convolved(call: Call) -> Axis:
    axis = call.first()
    if axis.dim:
        raise LostError
    return axis


def _normed(call: Call) -> Axis:
    """Batch-norm in eval mode, by running statistics."""
    axis = call.first()
    if axis.dim or call.args[5] is True:
        raise LostError
    return axis


def _layer_normed(call: Call) -> Axis:
    axis = call.first()
    if axis.dim >= len(call.shapes[0]) - len(call.args[1]):
        raise LostError
    return axis


def _group_normed(call: Call) -> Axis:
    axis = call.first()
    if axis.dim or not axis.alone:
        raise LostError
    return axis


def _over_last(count: int) -> Callable[[Call], Axis]:
    """Make the rule of an operation over the last axes, such as pooling."""

    def rule(call: Call) -> Axis:
        axis = call.first()
        if axis.dim >= len(call.shapes[0]) - count:
            raise LostError
        return axis

    return rule


def _padded(call: Call) -> Axis:
    return _over_last(len(call.args[1]) // 2)(call)


def _attended(call: Call) -> Axis:
    """Attention: every tensor has the examples on its first axis, and a mask is the same for all examples."""
    if len({call.axes[0], *call.axes[1:3]}) != 1 or call.axes[0] is None or call.axes[0].dim != 0:
        raise LostError
    for value, own in list(zip(call.tensors, call.axes, strict=True))[3:]:
        if own is not None or not same_along(value, -len(call.shapes[0])):
            raise LostError
    return call.axes[0]


def _attended_whole(call: Call) -> Axis:
    """Attention with its linear layers, in one operation; a mask is not supported."""
    inputs = sum(axis is not None for axis in call.axes)
    if set(call.axes[:inputs]) != {Axis(0)} or len(call.tensors) > inputs + 4:
        raise LostError
    return Axis(0)


def _encoded(call: Call) -> Axis:
    """A whole layer of a transformer encoder; a mask, which would be one more tensor, is not supported."""
    axis = call.first()
    if axis != Axis(0) or len(call.shapes[0]) != 3 or len(call.tensors) > 13:
        raise LostError
    return axis


def _restrided(call: Call) -> Axis:
    """The same entries with other strides for axes of size 1 only, as for one-pixel images with channels last."""
    long = [(size, stride) for size, stride in zip(call.shapes[0], call.strides[0], strict=True) if size > 1]
    now = [(size, stride) for size, stride in zip(call.args[1], call.args[2], strict=True) if size > 1]
    if long != now or tuple(call.args[1]) != call.shapes[0] or len(call.args) > 3:
        raise LostError
    return call.first()


def _looked_up(call: Call) -> Axis:
    """An embedding of indices."""
    if call.axes[0] is not None or call.axes[1] is None:
        raise LostError
    return call.axes[1]


def _of_same_shape(call: Call) -> Axis:
    """A constant in the shape of a tensor, which has the examples on the same axis."""
    return call.first()


def _made(call: Call) -> None:
    """A new tensor with the dtype of another, without examples."""


BENT = ("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "softplus", "threshold", "_prelu_kernel", "mish",
        "softshrink", "hardshrink")  # fmt: skip
KEEP = ("alias", "clone", "detach", "_to_copy", "copy", "fill", "zero", "masked_fill")
POOLS = {1: ("max_pool1d", "avg_pool1d", "_adaptive_avg_pool1d", "upsample_nearest1d", "upsample_linear1d",
             "reflection_pad1d", "replication_pad1d"),
         2: ("max_pool2d_with_indices", "mkldnn_max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d",
             "mkldnn_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d",
             "upsample_bicubic2d", "reflection_pad2d", "replication_pad2d", "_upsample_nearest_exact2d"),
         3: ("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d")}  # fmt: skip
REDUCED = ("mean", "sum", "amax", "amin", "var", "var_mean", "std", "std_mean", "logsumexp", "max", "min", "argmax",
           "argmin", "any", "all", "prod", "select", "unbind", "median")  # fmt: skip
ALONG = ("_softmax", "_log_softmax", "cumsum", "sort", "flip", "glu")
PARTS = ("split", "split_with_sizes", "unsafe_split", "chunk", "topk", "roll")  # the axis is their third argument
ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
             "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
             "_scaled_dot_product_fused_attention_overrideable")  # fmt: skip
NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit_no_training")
# The rule of each operation, by its name in ATen. Operations that torch tags as pointwise need no entry.
RULES: dict[str, Callable[[Call], Axis | None]] = {
    **dict.fromkeys((*KEEP, *BENT), axes.pointwise),
    **{name: _over_last(count) for count, names in POOLS.items() for name in names},
    **{name: axes.along(1, keeps=False) for name in REDUCED},
    **dict.fromkeys(ALONG, axes.along(1)),
    **dict.fromkeys(PARTS, axes.along(2)),
    **dict.fromkeys(ATTENTION, _attended),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias"), axes.viewed),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _multiplied),
    **dict.fromkeys(("convolution", "cudnn_convolution", "mkldnn_convolution"), _convolved),
    **dict.fromkeys(NORMS, _normed),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), _of_same_shape),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), _made),
    **dict.fromkeys(("transpose", "t"), axes.swapped),
    "as_strided_": _restrided,
    "_native_multi_head_attention": _attended_whole,
    "_transformer_encoder_layer_fwd": _encoded,
    "native_layer_norm": _layer_normed,
    "native_group_norm": _group_normed,
    "constant_pad_nd": _padded,
    "permute": axes.permuted,
    "unsqueeze": axes.unsqueezed,
    "squeeze": axes.squeezed,
    "expand": axes.expanded,
    "slice": axes.sliced,
    "cat": axes.joined,
    "stack": axes.stacked,
    "embedding": _looked_up,
    "linalg_vector_norm": axes.along(2, keeps=False),
}
