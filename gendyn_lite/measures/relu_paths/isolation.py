"""An image's function in isolation: a network whose weights are one image's update, beside the end-to-end function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.relu_paths.gates import check_images, uncompiled
from gendyn_lite.measures.relu_paths.image_functions import ImageFunctions, image_functions
from gendyn_lite.measures.relu_paths.projection import forward_with_paths
from gendyn_lite.measures.relu_paths.record import record_packed

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def isolated_network(model: nn.Module, update: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a network in which the trainable dense and convolutional weights are one image's update alone.

    Batch-norm, fixed weights and whatever else the network has stay. It is in float64 and eval mode: a product over
    many layers of small updates leaves float32's range.

    Args:
        model: The network.
        update: Parameter → what the image adds, of ``image_functions(...).of(i)`` (one step) or
            ``history.image(i)`` (all of them); a weight that is not in it becomes 0.

    Raises:
        UserError: The update names a parameter that the network does not have, or in another shape.

    Source: Appendix C ("the whole function f_i^t applied in isolation").

    >>> network = isolated_network(nn.Linear(2, 1), {"weight": torch.tensor([[1.0, 2.0]])})
    >>> network(torch.tensor([[1.0, 1.0]], dtype=torch.float64)).item()
    3.0
    """
    network = copy.deepcopy(uncompiled(model)).double().eval()
    parameters = dict(network.named_parameters())
    for name, value in update.items():
        if name not in parameters or parameters[name].shape != value.shape:
            has = f"{list(parameters[name].shape)}" if name in parameters else "no such parameter"
            raise UserError(f"the update has {name!r} {list(value.shape)}, the network {has}: it is of another network")
    with torch.no_grad():
        for path, module in network.named_modules():
            for role, value in module.named_parameters(recurse=False):
                if isinstance(module, AFFINE) and value.requires_grad:
                    name = f"{path}.{role}".lstrip(".")
                    value.copy_(update[name]) if name in update else value.zero_()
    return network


def isolated_outputs(model: nn.Module, functions: ImageFunctions, x: Tensor, *, own_paths: bool = True) -> Tensor:
    """The outputs of every image's function in isolation.

    Args:
        model: The network at the step, in eval mode.
        functions: Image functions of the step.
        x: Inputs [m, ...] at which to evaluate them.
        own_paths: Whether an isolated function switches units by its own pre-activations (as a network of its own), or
            x follows the path it takes in the whole network (p_x of Eq. 4).

    Returns:
        float64 [b, m, outputs].

    >>> model, x = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(5, 2)
    >>> isolated_outputs(model, image_functions(model, x, torch.zeros(5, dtype=torch.int64)), x).shape
    torch.Size([5, 5, 3])
    """
    check_images(x)
    paths = None if own_paths else record_packed(model, x)
    device = next((value.device for value in model.parameters()), x.device)
    inputs = x.to(device, torch.float64)
    outputs = []
    with torch.no_grad():
        for image in range(functions.count):
            network = isolated_network(model, functions.of(image))
            found = network(inputs) if paths is None else forward_with_paths(network, inputs, paths)
            outputs.append(found.flatten(1))
    return torch.stack(outputs)


def function_correlation(outputs: Tensor, reference: Tensor) -> Tensor:
    """Pearson correlation of functions with a reference, over inputs and outputs.

    The mean over the inputs is taken from each output first: what is the same for every input tells no input from
    another. 0 where a function, or the reference, does not depend on the input.

    Args:
        outputs: Outputs of b functions at m inputs, [b, m, k].
        reference: Those of another one, [m, k], or of b others, [b, m, k].

    Returns:
        float64 [b], in [−1, 1]; NaN where an output is not finite.

    Raises:
        UserError: The shapes do not fit, or there are fewer than two inputs.

    >>> f = torch.tensor([[[0.0], [1.0], [2.0]], [[3.0], [2.0], [1.0]], [[1.0], [1.0], [1.0]]])
    >>> function_correlation(f, f[0]).round().tolist()
    [1.0, -1.0, 0.0]
    """
    if outputs.dim() != 3 or reference.shape[-2:] != outputs.shape[1:] or outputs.shape[1] < 2:
        raise UserError(
            f"outputs are {list(outputs.shape)} and the reference {list(reference.shape)}, expected [b, m, k] and "
            "[m, k] with at least two inputs m"
        )
    a, b = (_centred(one.double()) for one in (outputs, reference))
    return (a * b).sum((-2, -1))


def pairwise_correlation(outputs: Tensor) -> Tensor:
    """`function_correlation` of every two of b functions, float64 [b, b]: how alike are the functions of two images?

    >>> f = torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]])
    >>> pairwise_correlation(f).round().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if outputs.dim() != 3 or outputs.shape[1] < 2:
        raise UserError(f"outputs are {list(outputs.shape)}, expected [b, m, k] with at least two inputs m")
    flat = _centred(outputs.double()).flatten(1)
    return flat @ flat.T


def isolation_probe(
    x: Tensor, y: Tensor, inputs: Tensor, *, step_size: Callable[[int], float] | float = 1.0
) -> Callable[[nn.Module, int], dict[str, float]]:
    """A probe that follows the correlation of images' functions in isolation with the end-to-end function.

    Its values: ``mean``, ``least``, ``median``, ``most`` of `function_correlation` with the network over the images;
    ``between``, the mean correlation of the functions of two images; ``zeros``, functions that do not depend on the
    input, whose correlation is 0 by definition.

    Args:
        x: Images whose functions are followed, [b, ...].
        y: Their labels, as trained with.
        inputs: Where functions are evaluated, [m, ...], m ≥ 2.
        step_size: η/|B|, or a function of the epoch that gives it.

    >>> probe = isolation_probe(torch.randn(3, 2), torch.tensor([0, 1, 0]), torch.randn(9, 2))
    >>> list(probe(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), 0))
    ['mean', 'least', 'median', 'most', 'between', 'zeros']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device
        size = step_size(epoch) if callable(step_size) else step_size
        functions = image_functions(model, x.to(device), y.to(device), step_size=size)
        outputs = isolated_outputs(model, functions, inputs)
        with torch.no_grad():
            reference = model(inputs.to(device)).flatten(1)
        found = function_correlation(outputs, reference)
        between = pairwise_correlation(outputs)
        i, j = torch.triu_indices(len(x), len(x), 1, device=between.device)
        return {
            "mean": float(found.mean()),
            "least": float(found.min()),
            "median": float(found.median()),
            "most": float(found.max()),
            **({"between": float(between[i, j].mean())} if len(i) else {}),
            "zeros": int((_centred(outputs).flatten(1) == 0).all(1).sum()),
        }

    return probe


def _centred(outputs: Tensor) -> Tensor:
    """Outputs [..., m, k] without their mean over inputs, of norm 1; 0 where only rounding is left, NaN stays."""
    size = outputs.abs().amax((-2, -1), keepdim=True)
    scaled = outputs / torch.where(size > 0, size, 1.0)  # small updates, many layers: squares would underflow
    left = scaled - scaled.mean(-2, keepdim=True)
    norm = left.norm(dim=(-2, -1), keepdim=True)
    return torch.where(norm <= 1e-12, 0.0, left / torch.where(norm > 0, norm, 1.0))
