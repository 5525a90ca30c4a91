"""Functions in isolation: networks whose weights are the update of one image (Image functions (n.d.), App. C)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import dtype_name
from gendyn_lite.measures.relu_paths.gates import check_images, uncompiled
from gendyn_lite.measures.relu_paths.image_functions import ImageFunctions, image_functions
from gendyn_lite.measures.relu_paths.similarity import of_pairs

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def isolated_network(model: nn.Module, update: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network, and replace its trainable dense and convolutional weights by the update of one image.

    Batch-norm, fixed weights and all other parts of the network are kept. The copy is in float64 and eval mode, because
    a product of small updates over many layers leaves the range of float32.

    Args:
        model: The network.
        update: Parameter → what the image adds, from ``image_functions(...).of(i)`` (one step) or ``history.image(i)``
            (all steps). Weights that are not in the update become 0.

    Returns:
        The copy.

    Raises:
        UserError: The update has a parameter that the network does not have, or has in another shape.

    Source: Image functions (n.d.), App. C.

    >>> network = isolated_network(nn.Linear(2, 1), {"weight": torch.tensor([[1.0, 2.0]])})
    >>> network(torch.tensor([[1.0, 1.0]], dtype=torch.float64)).item()
    3.0
    """
    network = copy.deepcopy(uncompiled(model)).double().eval()
    parameters = dict(network.named_parameters())
    for name, value in update.items():
        if name not in parameters or parameters[name].shape != value.shape:
            has = list(parameters[name].shape) if name in parameters else "no such parameter"
            raise UserError(f"the update has {name!r} {list(value.shape)}, the network {has}: it is of another network")
    with torch.no_grad():
        for path, module in network.named_modules():
            for role, value in module.named_parameters(recurse=False):
                if isinstance(module, AFFINE) and value.requires_grad:
                    name = f"{path}.{role}".lstrip(".")
                    value.copy_(update[name]) if name in update else value.zero_()
    return network


def isolated_outputs(model: nn.Module, functions: ImageFunctions, x: Tensor) -> Tensor:
    """Evaluate every image's function in isolation, each a network with its own gates.

    Args:
        model: The network at the step, in eval mode.
        functions: Image functions of the step.
        x: Inputs [m, ...] at which to evaluate them.

    Returns:
        float64 [b, m, outputs].

    >>> model, x = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(5, 2)
    >>> isolated_outputs(model, image_functions(model, x, torch.zeros(5, dtype=torch.int64)), x).shape
    torch.Size([5, 5, 3])
    """
    check_images(x)
    inputs = x.to(next(model.parameters()).device, torch.float64)
    networks = (isolated_network(model, functions.of(image)) for image in range(functions.count))
    with torch.no_grad():
        return torch.stack([network(inputs).flatten(1) for network in networks])


def function_correlation(outputs: Tensor, reference: Tensor) -> Tensor:
    """Compute the Pearson correlation of functions with a reference, over inputs and outputs.

    The mean over inputs is subtracted from each output first, because a constant does not distinguish inputs. The
    correlation is 0 if a function or the reference does not depend on the input.

    Args:
        outputs: Outputs of b functions at m inputs, [b, m, k].
        reference: Outputs of one reference [m, k], or of b references [b, m, k].

    Returns:
        float64 [b], in [−1, 1]; NaN where an output is not finite.

    Raises:
        UserError: The shapes do not fit, there are fewer than two inputs or no outputs, or values are not real numbers.

    >>> f = torch.tensor([[[0.0], [1.0], [2.0]], [[3.0], [2.0], [1.0]], [[1.0], [1.0], [1.0]]])
    >>> function_correlation(f, f[0]).round().tolist()
    [1.0, -1.0, 0.0]
    """
    _check_outputs(outputs)
    if reference.shape not in (outputs.shape, outputs.shape[1:]) or reference.is_complex():
        shapes = f"the reference is {_kind(reference)} and outputs {_kind(outputs)}"
        raise UserError(f"{shapes}, expected [b, m, k] or [m, k] with the same inputs and outputs, real numbers")
    return (_centred(outputs) * _centred(reference)).sum((-2, -1)).clamp(-1, 1)


def pairwise_correlation(outputs: Tensor) -> Tensor:
    """Compute `function_correlation` of every pair of b functions: how similar the functions of two images are.

    Args:
        outputs: Outputs of b functions at m inputs, [b, m, k].

    Returns:
        float64 [b, b], in [−1, 1]; 0 in the row and column of a function that does not depend on the input (where
        `numpy.corrcoef` gives NaN), and NaN in those of one with an output that is not finite.

    Raises:
        UserError: There are fewer than two inputs or no outputs, or values are not real numbers.

    >>> f = torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]])
    >>> pairwise_correlation(f).round().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    _check_outputs(outputs)
    flat = _centred(outputs).flatten(1)
    return (flat @ flat.T).clamp(-1, 1)


def alone(model: nn.Module, update: Mapping[str, Tensor]) -> nn.Module:
    """Return the `isolated_network` of an update without biases, with each weight scaled to its norm in the network.

    Updates are small, and biases would dominate a product of small weights over layers, so that the result would depend
    on the step size. Without biases a network of affine layers, ReLUs and poolings is homogeneous in each weight, so
    that correlations do not depend on the step size. Biases, and weights that are not in the update, are 0.

    Args:
        model: The network, in float64.
        update: Parameter → what the image adds.

    Returns:
        The isolated network.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    >>> update = {"0.weight": 1e-9 * torch.eye(2, dtype=torch.float64), "0.bias": torch.ones(2, dtype=torch.float64)}
    >>> network = alone(model, update)
    >>> bool(network[0].bias.eq(0).all()), torch.allclose(network[0].weight.norm(), model[0].weight.norm())
    (True, True)
    """
    own = dict(model.named_parameters())
    weights = {name: value for name, value in update.items() if value.dim() > 1 and bool(value.any())}
    return isolated_network(model, {k: value * (own[k].norm() / value.norm()) for k, value in weights.items()})


def isolation_probe(
    x: Tensor, y: Tensor, inputs: Tensor, *, seed: int = 0
) -> Callable[[nn.Module, int], dict[str, float]]:
    """Make a probe of the correlation of images' functions in isolation with the whole network.

    The functions are those of `alone`, all in float64. The values are ``mean``, ``least``, ``median`` and ``most`` of
    `function_correlation` with the network over the images; ``between``, the mean correlation of the functions of two
    images; ``random``, a baseline without learning: the mean correlation with the network of as many networks of random
    weights with equal norms; and ``zeros``, the number of functions that do not depend on the input, whose correlation
    is 0 by definition.

    Args:
        x: Images whose functions are followed, [b, ...].
        y: Their training labels [b].
        inputs: Inputs at which functions are evaluated, [m, ...], m ≥ 2.
        seed: Seed of the random networks.

    Returns:
        Function of (model, epoch) that returns the values by name.

    >>> probe = isolation_probe(torch.randn(3, 2), torch.tensor([0, 1, 0]), torch.randn(9, 2))
    >>> list(probe(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), 0))
    ['mean', 'least', 'median', 'most', 'between', 'random', 'zeros']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device
        network, at = copy.deepcopy(uncompiled(model)).double().eval(), inputs.to(device, torch.float64)
        functions = image_functions(network, x.to(device, torch.float64), y.to(device))
        generator = torch.Generator().manual_seed(seed)
        outputs, drawn = [], []
        with torch.no_grad():
            reference = network(at).flatten(1)
            for image in range(functions.count):
                own = functions.of(image)
                noise = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype).to(device) for k, v in own.items()}
                outputs.append(alone(network, own)(at).flatten(1))
                drawn.append(alone(network, noise)(at).flatten(1))
        each = torch.stack(outputs)
        found = function_correlation(each, reference)
        numbers = {"mean": found.mean(), "least": found.min(), "median": found.median(), "most": found.max()}
        if len(x) > 1:
            numbers["between"] = of_pairs(pairwise_correlation(each)).mean()
        numbers["random"] = function_correlation(torch.stack(drawn), reference).mean()
        zeros = int((_centred(each).flatten(1) == 0).all(1).sum())
        return {name: float(value) for name, value in numbers.items()} | {"zeros": zeros}

    return probe


def _centred(outputs: Tensor) -> Tensor:
    """Subtract the mean over inputs from outputs [..., m, k] and scale to norm 1; 0 if only rounding is left."""
    eps = torch.finfo(outputs.dtype if outputs.is_floating_point() else torch.float64).eps
    least = max(1e-12, 4 * eps * (outputs.shape[-2] * outputs.shape[-1]) ** 0.5)
    outputs = outputs.double()
    size = outputs.abs().amax((-2, -1), keepdim=True)
    scaled = outputs / torch.where(size > 0, size, 1.0)  # since squares of tiny outputs would underflow
    left = scaled - scaled.mean(-2, keepdim=True)
    norm = left.norm(dim=(-2, -1), keepdim=True)
    return torch.where(norm <= least, 0.0, left / torch.where(norm > 0, norm, 1.0))


def _check_outputs(outputs: Tensor) -> None:
    """Refuse outputs that are not real numbers [b, m, k] at two or more inputs."""
    good = isinstance(outputs, Tensor) and not outputs.is_complex() and outputs.dim() == 3
    if not good or outputs.shape[1] < 2 or not outputs.shape[2]:
        raise UserError(f"outputs are {_kind(outputs)}, expected real numbers [b, m, k] with at least two inputs m")


def _kind(values: object) -> str:
    """Return dtype and shape of a tensor, or another type's name."""
    return f"{dtype_name(values)} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
