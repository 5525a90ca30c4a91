"""Complexity measures from the literature: norms of the weights, margins, flatness of the loss.

Norms that are products over layers are given as logarithms. The selection follows the survey of Jiang et al. (2020),
'Fantastic generalization measures and where to find them'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.apart import own_outputs
from gendyn_lite.measures.per_example.checks import check_logits, check_number, check_whole
from gendyn_lite.measures.per_example.copies import copied
from gendyn_lite.measures.per_example.guards import check_eval, check_pairs
from gendyn_lite.measures.per_example.layers import has_hooks, hooked
from gendyn_lite.models.logits import tell_of_probabilities

# Modules without weights that norms over layers allow.
PLAIN = (nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.Sequential)
ROUNDS = 200  # most steps of the power iteration
CLOSE = 1e-6  # relative change of a norm at which the power iteration stops


def frobenius(model: nn.Module) -> float:
    """Compute ‖θ‖₂, the Euclidean norm of all weights and biases together.

    Args:
        model: The network.

    Raises:
        UserError: A weight is not finite, or is computed from other parameters (a parametrization).

    Source: Jiang et al. (2020), Appendix C, 'frobenius norm'.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data, layer.bias.data = torch.tensor([[2.0, 3.0]]), torch.tensor([6.0])
    >>> frobenius(layer)
    7.0
    """
    _check_plain(model)
    total = sum(float(value.detach().abs().double().square().sum()) for value in model.parameters())
    return math.sqrt(_finite(total))


def distance(model: nn.Module, start: Mapping[str, Tensor]) -> float:
    """Compute ‖θ − θ₀‖₂, the distance of all weights and biases from their values before training.

    Args:
        model: The network.
        start: The parameters before training, by name.

    Raises:
        UserError: A parameter is missing in `start`, has another shape there, or is the network's own and not a copy;
            or a weight is computed from other parameters.

    Source: Jiang et al. (2020), Appendix C, 'distance from initialization'.

    >>> layer = nn.Linear(2, 1)
    >>> round(distance(layer, {name: value.detach() + 1 for name, value in layer.named_parameters()}) ** 2, 3)
    3.0
    """
    _check_plain(model)
    total = 0.0
    for name, value in model.named_parameters():
        before = start.get(name)
        if before is None or before.shape != value.shape:
            told = "missing" if before is None else f"of shape {tuple(before.shape)}, expected {tuple(value.shape)}"
            raise UserError(f"parameter {name!r} is {told} in what the network was: give that of this network")
        if before.device == value.device and before.data_ptr() == value.data_ptr() and value.numel():
            told = f"parameter {name!r} in what the network was is that of the network, and moves with it"
            raise UserError(f"{told}: keep copies before training, value.detach().clone()")
        wide = torch.promote_types(value.dtype, torch.float64)  # complex128 of complex weights
        total += float((value.detach().to(wide) - before.detach().to(value).to(wide)).abs().square().sum())
    return math.sqrt(_finite(total))


def _check_plain(model: nn.Module) -> None:
    """Refuse weights that are computed from other parameters, whose norm is not that of the weights."""
    for name, module in model.named_modules():
        old = any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in module._forward_pre_hooks.values())
        if old or is_parametrized(module):
            told = f"layer {name!r} ({type(module).__name__}) computes its weights from other parameters"
            raise UserError(f"{told}: take that off first, with torch.nn.utils.parametrize.remove_parametrizations")


def _finite(total: float) -> float:
    if not math.isfinite(total):
        raise UserError("the network has weights that are not finite (NaN or infinity): has training diverged?")
    return total


def path_norm(model: nn.Module, in_shape: tuple[int, ...]) -> float:
    """Compute the path norm: the square root of the sum over paths of the product of squared weights, with biases.

    It takes one forward pass of an input of ones through a copy of the network with squared weights.

    Args:
        model: The network, in eval mode, of linear and convolutional layers, ReLU and pooling. A max-pooling passes on
            only the largest value of a window; an average-pooling has the weights 1/k, for a window of k values.
        in_shape: Shape of one input.

    Raises:
        UserError: The network has another kind of layer.

    Source: Neyshabur et al. (2015), 'Path-SGD', Eq. 4; Jiang et al. (2020), Appendix C, 'path norm'.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data, layer.bias.data = torch.tensor([[2.0, 3.0]]), torch.tensor([6.0])
    >>> path_norm(layer, (2,))
    7.0
    """
    check_eval(model)
    _check_layers(model, PLAIN)
    squared = copied(model).double()
    with torch.no_grad():
        for value in squared.parameters():
            value.square_()
        for pooling in (module for module in squared.modules() if isinstance(module, nn.AvgPool2d)):
            pooling.register_forward_hook(_squared_weights)
        ones = torch.ones(1, *in_shape, dtype=torch.float64, device=next(squared.parameters()).device)
        return math.sqrt(float(squared(ones).sum()))


def _squared_weights(pooling: nn.AvgPool2d, args: tuple[Tensor], out: Tensor) -> Tensor:
    """Square the weights of an average-pooling, which differ at the edges if it does not count its padding."""
    squares = nn.AvgPool2d(pooling.kernel_size, pooling.stride, pooling.padding, pooling.ceil_mode, divisor_override=1)
    ones = torch.ones_like(args[0])
    return squares(args[0]) * (pooling.forward(ones) / squares(ones)).square()


def spectral(model: nn.Module, in_shape: tuple[int, ...]) -> float:
    """Sum log ‖W‖₂ over layers, with the largest singular value ‖W‖₂ of each layer as a linear map of its inputs.

    For a convolution this is the map between whole images of the size that the layer sees, by power iteration. A layer
    that is used twice counts twice, as its norm is twice a factor of the bound.

    Args:
        model: The network, in eval mode.
        in_shape: Shape of one input.

    Raises:
        UserError: The network has no linear or convolutional layer, or has another kind of layer.

    Source: Bartlett et al. (2017), Eq. 1.2; Jiang et al. (2020), Appendix C, 'spectral'.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> network[0].weight.data, network[2].weight.data = torch.diag(torch.tensor([1.0, 2.0])), torch.ones(1, 2)
    >>> round(math.exp(2 * spectral(network, (2,))), 6)
    8.0
    """
    check_eval(model)
    _check_layers(model, PLAIN)
    calls: list[tuple[nn.Module, tuple[int, ...]]] = []
    weighted = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not weighted:
        raise UserError("the network has no linear and no convolutional layer, expected at least one")

    def note(module: nn.Module, args: tuple[Tensor, ...], *_: object) -> None:
        calls.append((module, tuple(args[0].shape[1:])))

    with torch.no_grad(), hooked(weighted, note):
        model(torch.zeros(1, *in_shape).to(next(model.parameters())))
    largest = [_largest_singular_value(*call) for call in calls]
    return sum(math.log(value) if value > 0 else -math.inf for value in largest)


def _largest_singular_value(module: nn.Module, in_shape: tuple[int, ...]) -> float:
    if isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), ord=2))
    alone = deepcopy(module).double().requires_grad_(False)
    alone.bias = None  # type: ignore[assignment]
    drawn = torch.randn(1, *in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, found = drawn.to(next(module.parameters()).device), 0.0
    for _ in range(ROUNDS):
        x = (x / x.norm()).requires_grad_()
        out = alone(x)
        before, found = found, float(out.detach().norm())
        if abs(found - before) <= CLOSE * found:
            break
        (x,) = torch.autograd.grad(out, x, out.detach())  # Wᵀ W x
    return found


def _check_layers(model: nn.Module, plain: tuple[type[nn.Module], ...]) -> None:
    """Refuse a network with a layer that is not linear, convolutional or of the kinds in `plain`, or that has hooks."""
    for name, module in model.named_modules():
        if has_hooks(module):
            raise UserError(f"layer {name!r} ({type(module).__name__}) has a hook, which may do anything: remove it")
        kinds = [kind for kind in (nn.Linear, nn.Conv2d, *plain) if isinstance(module, kind)]
        if not any(type(module).forward is kind.forward and "forward" not in vars(module) for kind in kinds):
            what = f"layer {name!r} is a {type(module).__name__}" if name else f"it is a {type(module).__name__}"
            raise UserError(f"norms over layers are of networks of linear and convolutional ones, and {what}")


@torch.no_grad()
def margin(model: nn.Module, x: Tensor, y: Tensor, *, quantile: float = 0.1) -> float:
    """Compute a low quantile over examples of the margin: the label's logit minus the largest other logit.

    Args:
        model: The network, in eval mode.
        x: Inputs [n, *in_shape].
        y: Labels [n].
        quantile: The quantile, in [0, 1]; 0 is the smallest margin, which depends on a single example.

    Raises:
        UserError: There is only one class, or no example; the network mixes examples, draws random numbers or gives
            what is not finite; inputs and labels do not fit.

    Source: Jiang et al. (2020), Appendix C, where γ is the 10th percentile.

    >>> margin(nn.Identity(), torch.tensor([[2.0, 0.5], [0.0, 3.0]]), torch.tensor([0, 1]), quantile=0)
    1.5
    """
    check_eval(model)
    check_number("quantile", quantile, "a number in [0, 1]", lambda value: 0 <= value <= 1)
    check_pairs(x, y, next(model.parameters(), None))
    parts = [own_outputs(model, part, model) for part in x.split(500)]
    if isinstance(parts[0], Tensor) and parts[0].dim() == 2 and parts[0].shape[1] < 2:
        raise UserError("the network has one output, and a margin is between two: expected logits of two classes")
    logits = _of_labels(parts, y)
    tell_of_probabilities(model, logits)
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margins = own - others
    if not margins.isfinite().all():
        raise UserError("a logit is not finite (infinity), so that there is no margin: has training diverged?")
    return float(margins.quantile(quantile))


@torch.no_grad()
def sharpness(model: nn.Module, x: Tensor, y: Tensor, *, sigma: float = 0.1, draws: int = 5, seed: int = 0) -> float:
    """Compute the mean increase of the loss, in nats, if every weight w becomes w (1 + σ ξ) with standard normal ξ.

    Noise proportional to the weights gives the same result for networks that differ only by a rescaling of units. Each
    draw is used as ξ and as −ξ, so that the slope of the loss cancels.

    Args:
        model: The network, in eval mode; it is not changed.
        x: Training inputs [n, *in_shape].
        y: Their labels [n].
        sigma: Relative size of the noise, σ.
        draws: Number of draws of the noise.
        seed: Seed of the draws.

    Raises:
        UserError: σ is not a positive number, there is no draw or no example; the network mixes examples or draws
            random numbers; inputs and labels do not fit.

    Source: Jiang et al. (2020), Appendix C, 'magnitude-aware' flatness by noise; they search the σ of a given rise.

    >>> network = nn.Linear(2, 2, bias=False)
    >>> _ = network.weight.data.fill_(1.0)  # noise can only hurt where each logit is as good as the other
    >>> sharpness(network, torch.eye(2), torch.tensor([0, 1])) > 0
    True
    """
    check_eval(model)
    check_number("sigma", sigma, "a number above 0")
    check_whole("draws", draws)
    check_pairs(x, y, next(model.parameters(), None))
    outputs = [own_outputs(model, part, model) for part in x.split(500)]
    moved, generator = copied(model, x), torch.Generator().manual_seed(seed)
    before, rises = _loss(outputs, y), []
    tell_of_probabilities(model, torch.cat(outputs))
    if not math.isfinite(before):
        raise UserError(f"the loss is {before}, of which there is no rise: has training diverged?")
    for _ in range(draws):
        noise = [torch.randn(value.shape, generator=generator).to(value) for value in model.parameters()]
        for way in (sigma, -sigma):
            for new, value, one in zip(moved.parameters(), model.parameters(), noise, strict=True):
                new.copy_(value * (1 + way * one))
            rises.append(_loss([moved(part) for part in x.split(500)], y) - before)
    return sum(rises) / len(rises)


def _loss(outputs: list[Tensor], y: Tensor) -> float:
    """The mean loss of the outputs of some batches."""
    logits = _of_labels(outputs, y)
    parts = zip(logits.split(500), y.split(500), strict=True)
    return sum(float(F.cross_entropy(part, labels, reduction="sum")) for part, labels in parts) / len(y)


def _of_labels(parts: list[Tensor], y: Tensor) -> Tensor:
    """The logits in float64, refused where they, or the labels, are none; NaN too, which would pass for a number."""
    for part, labels in zip(parts, y.split(500), strict=True):
        check_logits(part, labels, True)
    logits = torch.cat(parts).double()
    if logits.isnan().any():
        raise UserError("the network gives NaN: are its weights and the examples finite?")
    return logits


def gradient_noise(gram: Tensor) -> float:
    """Compute tr Cov(g) / ‖E g‖², the variance of the examples' gradients over the square of their mean.

    Args:
        gram: Dot products of the gradients of n examples, [n, n], as from `gradient_gram`.

    Returns:
        0 if all gradients are equal; infinity if they cancel.

    Raises:
        UserError: There are fewer than two examples.

    Source: Jiang et al. (2020), Appendix C, 'variance of gradients'; over the mean, as in McCandlish et al. (2018).

    >>> gradient_noise(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    2.0
    """
    if not isinstance(gram, Tensor) or gram.dim() != 2 or gram.shape[0] != gram.shape[1]:
        told = list(gram.shape) if isinstance(gram, Tensor) else type(gram).__name__
        raise UserError(f"the Gram matrix is {told}, expected [n, n]; of a dict of layers take one")
    n = len(gram)
    if n < 2:
        raise UserError(f"the spread of {n} gradient is not defined: expected at least two examples")
    if not torch.isfinite(gram).all():
        raise UserError("the Gram matrix has values that are not finite: take it of gradients that are")
    gram = gram.double()
    mean = float(gram.mean())
    spread = (float(gram.diagonal().mean()) - mean) * n / (n - 1)
    return spread / mean if mean > 0 else float("inf")
