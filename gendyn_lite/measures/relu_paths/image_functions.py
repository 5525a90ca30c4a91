"""Image functions f_i: what each image of a batch adds to a network's weights in one step of SGD."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from gendyn_lite.measures.per_example.checks import check_finite, check_whole
from gendyn_lite.measures.per_example.factors import Factors, Workspace
from gendyn_lite.measures.per_example.guards import check_examples
from gendyn_lite.measures.per_example.layers import Layer, Use, plan
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy, visit
from gendyn_lite.measures.relu_paths.gates import uncompiled


@dataclass(frozen=True)
class Factored:
    """Gradients of a dense or convolutional weight, stored as output gradients and input patches, not as products.

    The factors are the output gradient z_i·p_i and the activations a_i (or patches c_j) of Eq. 3 and 10.
    """

    uses: tuple[Use, ...]
    shape: torch.Size

    def each(self) -> Tensor:
        """Return the gradient of each image, [b, *shape]."""
        return self._as_weight(torch.cat([torch.einsum("igtp,igtd->igpd", z, u) for _, z, u in self._chunks()]))

    def weighted(self, coefficients: Tensor) -> Tensor:
        """Return the sum over images of coefficient times gradient, [*shape]."""
        scales = coefficients[:, None, None, None]
        parts = (torch.einsum("igtp,igtd->gpd", z * scales[rows].to(z), u) for rows, z, u in self._chunks())
        return self._as_weight(reduce(torch.add, parts)[None])[0]

    def _chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield some images at a time: output gradients [b, groups, places, outputs], patches [..., inputs]."""
        factors = _in_float64(self.uses)
        for start, stop in factors.chunks():
            yield slice(start, stop), factors.outputs_of(start, stop), factors.patches(start, stop)

    def _as_weight(self, products: Tensor) -> Tensor:
        """Reshape [b, groups, outputs, inputs], with inputs in the order (kernel, channels), to the weight's shape."""
        if len(self.shape) > 2:
            products = products.unflatten(3, (math.prod(self.shape[2:]), self.shape[1])).transpose(3, 4)
        return products.reshape(len(products), *self.shape)


@dataclass(frozen=True)
class Stored:
    """Gradients of a bias or any other parameter, stored explicitly."""

    values: Tensor

    def each(self) -> Tensor:
        """Return the gradient of each image, [b, *shape]."""
        return self.values.double()

    def weighted(self, coefficients: Tensor) -> Tensor:
        """Return the sum over images of coefficient times gradient, [*shape]."""
        return torch.tensordot(coefficients.to(self.values.device, torch.float64), self.each(), dims=1)


Part = Factored | Stored


def _in_float64(uses: Sequence[Use]) -> Factors:
    return Factors([use._replace(a=use.a.double(), z=use.z.double()) for use in uses], Workspace())


@dataclass(frozen=True)
class ImageFunctions:
    """The image functions f_i of a batch: what each image adds to each parameter in one step.

    At a node f_i(x) = (−s·z_i p_i a_i)·x − s·z_i, with the step size s = η/|B| for the mean loss of a batch B. (The
    paper omits −η/|B| in Eq. 3. With it, the functions of all steps add up to the network.)

    Attributes:
        parts: Parameter → its gradients by image.
        count: Number of images b.
        step_size: The step size s.
    """

    parts: dict[str, Part]
    count: int
    step_size: float

    def of(self, image: int) -> dict[str, Tensor]:
        """Return f_i of one image: parameter → what it adds, float64.

        Raises:
            UserError: The batch has no such image.
        """
        check_whole("image", image, least=0, most=self.count - 1, why=", its number in the batch")
        chosen = torch.zeros(self.count, dtype=torch.float64)
        chosen[image] = 1.0
        return self.total(chosen)

    def each(self, parameter: str) -> Tensor:
        """Return what every image adds to one parameter, float64 [b, *shape]."""
        return -self.step_size * self.parts[parameter].each()

    def total(self, coefficients: Tensor | None = None) -> dict[str, Tensor]:
        """Sum coefficient times f_i over images (coefficients are 1 by default): parameter → tensor, float64."""
        weights = torch.ones(self.count, dtype=torch.float64) if coefficients is None else coefficients
        return {name: -self.step_size * part.weighted(weights) for name, part in self.parts.items()}


def image_functions(
    model: nn.Module, x: Tensor, y: Tensor, *, step_size: float = 1.0, loss: Loss = cross_entropy
) -> ImageFunctions:
    """Compute the function that each image of a batch adds to a network in one step of SGD, layer by layer.

    Args:
        model: The network before the step, with batch-norm and dropout in eval mode; it is not changed.
        x: Images [b, ...].
        y: Labels [b].
        step_size: Learning rate over batch size, η/|B|, for a step on the batch's mean loss.
        loss: ``loss(logits, y)`` returns the loss of each image.

    Returns:
        What each image adds to each trainable parameter: ``each(parameter)``, ``of(image)`` or ``total()``.

    Raises:
        UserError: Batch-norm or dropout is in train mode, labels or images do not fit, or a function is not finite.

    Source: Image functions (n.d.), Eq. 2, 3 (dense layers) and 10 (convolutions).

    >>> model = nn.Linear(2, 2)
    >>> _ = model.weight.data.zero_(), model.bias.data.zero_()
    >>> functions = image_functions(model, torch.tensor([[2.0, 4.0]]), torch.tensor([0]), step_size=0.1)
    >>> functions.each("weight"), functions.each("bias")
    (tensor([[[ 0.1000,  0.2000],
             [-0.1000, -0.2000]]], dtype=torch.float64), tensor([[ 0.0500, -0.0500]], dtype=torch.float64))
    """
    model = uncompiled(model)
    check_examples(model, x, y, least=1)
    found = plan(model)
    factored = tuple(layer for layer in found.layers if layer.kind == "affine")
    others = tuple(name for layer in found.layers if layer.kind != "affine" for name in layer.parameters)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    layers = replace(found, layers=factored, without_formula=found.without_formula + others, announced=set(shapes))
    parts: dict[str, Part] = {}
    sums: list[Tensor] = []  # finite if all gradients are

    def factor(layer: Layer, uses: Sequence[Use]) -> None:
        kept = tuple(use._replace(a=use.a.clone(), z=use.z.clone()) for use in uses)  # since views may change
        sums.extend(part.double().flatten(1).sum(1) for use in kept for part in (use.a, use.z))
        if layer.weight is not None:
            parts[layer.weight] = Factored(kept, shapes[layer.weight])
        if layer.bias is not None:
            parts[layer.bias] = Stored(_in_float64(kept).bias_gradients())

    def store(name: str, values: Tensor) -> None:
        sums.append(values.double().sum(1))
        parts[name] = Stored(values.view(len(x), *shapes[name]))

    visit(model, x, y, layers, factor, store, loss=loss)
    check_finite(torch.stack(sums).sum(0))
    return ImageFunctions({name: parts[name] for name in shapes if name in parts}, len(x), step_size)
