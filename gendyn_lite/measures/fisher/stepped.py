"""Networks after a step on one example each, and their outputs at watched inputs; checks of what supports steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, jvp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from gendyn_lite.errors import UserError, first_line, unknown_name
from gendyn_lite.measures.fisher.information import ignored
from gendyn_lite.measures.per_example import apart, checks, layers
from gendyn_lite.measures.per_example.alone import for_each, lone, with_values
from gendyn_lite.measures.per_example.axes import tensors_in
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.passes import Loss, visit
from gendyn_lite.measures.per_example.unchanged import of_libraries
from gendyn_lite.models.logits import tell_of_probabilities

FEW = 4  # watched inputs at which forward derivatives are compared with gradients
DIFFERENT = 1e-6  # relative difference of the two that rounding in float64 does not make
STEP_BYTES = 64 << 20  # of weights of stepped networks at a time
LARGE = 50  # change of a log-probability from which its exponential could overflow
# Words in torch's messages about operations without the needed derivatives; other errors are raised unchanged.
WORDS = r"forward|jvp|vmap|derivative|functorch|torch\.func|hook|setup_context|have storage"
NO_DERIVATIVE = re.compile(WORDS, re.IGNORECASE)
Values = Mapping[str, Tensor]


def taken(steps: Steps, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Take all steps; refuse networks with operations that lack forward-mode derivatives."""
    try:
        steps.check_derivatives()
        return for_each(steps.one, steps.one, x, y, STEP_BYTES // steps.bytes)
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not NO_DERIVATIVE.search(str(error)):
            raise
        told = "influence needs forward derivatives, and an operation of the network has none"
        why = "torch's own, a parametrization, a hook of the backward pass, a checkpoint or an autograd function"
        raise UserError(f"{told} ({why}): take it away; torch says: {first_line(error)}") from error


def check_steps(model: nn.Module, x: Tensor, y: Tensor, watched: Tensor, loss: Loss) -> None:
    """Refuse what other measures of gradients refuse, by a pass over two of the examples."""
    planned = layers.plan(model)
    planned.announced.update(planned.names.values())  # no warning of missing formulas, which are not used here
    visit(model, x[:2], y[:2], planned, ignored, ignored, loss=loss)
    if len(x) < 2:
        apart.check_alone(model, watched)


class Rounding(TorchDispatchMode):
    """A context that notes how coarsely a network in float64 rounds what depends on its trainable weights.

    Args:
        model: The network.

    Attributes:
        precision: Relative rounding error of the coarsest dtype to which such a value is converted.

    >>> with Rounding(layer := nn.Linear(2, 2).double()) as rounding:
    ...     _ = layer(torch.zeros(1, 2, dtype=torch.float64)).float()
    >>> rounding.precision == torch.finfo(torch.float32).eps
    True
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.precision = torch.finfo(torch.float64).eps
        trained = [value for value in model.parameters() if value.requires_grad]
        self._moving = WeakIdKeyDictionary(dict.fromkeys(trained, True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note whether its result is rounded more coarsely than what it was computed from."""
        moving = [value for value in tensors_in((args, kwargs or {})) if value in self._moving]
        of = [torch.finfo(value.dtype).eps for value in moving if value.is_floating_point()]
        out = func(*args, **(kwargs or {}))
        for made in tensors_in(out) if moving else ():
            self._moving[made] = True
            if of and made.is_floating_point() and (eps := torch.finfo(made.dtype).eps) > max(of):
                self.precision = max(self.precision, eps)
        return out


class Steps:
    """Networks after a step on one example, compared with the original at the watched inputs."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor | None, *, eps: float, fisher: Values, masks: Values, loss: Loss
    ) -> None:
        self._model, self._x, self._y, self._eps, self._loss = model, x, y, eps, loss
        self._fisher, self._masks = fisher, masks
        layers.seen(model, x)  # whose error names the shape
        self._values = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        _check_masks(masks, self._values)
        self.bytes = sum(value.numel() * value.element_size() for value in self._values.values())
        with torch.no_grad(), lag_is_told(model), Rounding(model) as rounding:
            self.logits = apart.own_outputs(model, x, model)
        checks.check_logits(self.logits, torch.zeros(len(x), dtype=torch.int64) if y is None else y, True)
        if not self.logits.isfinite().all():
            first = int((~self.logits.isfinite()).any(1).nonzero()[0])
            raise UserError(f"the output of watched input {first} is not finite (NaN or infinity): it has no KL")
        tell_of_probabilities(model, self.logits)
        self.logits = self.logits.double()
        self._log_p = self.logits.log_softmax(1)
        self._precision = rounding.precision
        self.noise = self._noise(rounding.precision) if rounding.precision > torch.finfo(torch.float64).eps else 0.0

    @torch.no_grad()
    def _noise(self, precision: float) -> float:
        """Return how much rounding inside of the network changes the log-probabilities of an input.

        It is half the second difference over steps so short that the network is all but linear, along which what is
        rounded moves nevertheless: the largest of an input, and of these the median, as a kink of a ReLU may be near.
        """
        generator = torch.Generator(self.logits.device).manual_seed(0)
        drawn = {name: torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
                 for name, value in self._values.items()}  # fmt: skip
        total = -2 * self._log_p
        for step in (precision**0.75, -(precision**0.75)):
            moved = {name: value * (1 + step * drawn[name]) for name, value in self._values.items()}
            total = total + self._logits(moved, self._x).log_softmax(1)
        return float(total.abs().amax(1).median()) / 2

    def check_derivatives(self) -> None:
        """Refuse a network whose forward derivatives are others than its gradients: u·(J v) must be (Jᵀu)·v.

        Of a library's code, only embeddings have such (of the padding, where their weight has another use).
        """
        modules = self._model.modules()
        if of_libraries(self._model) and not any(isinstance(module, nn.Embedding) for module in modules):
            return
        places = torch.linspace(0, len(self._x) - 1, min(len(self._x), FEW)).round().long()
        x = self._x[places]
        generator = torch.Generator(x.device).manual_seed(1)

        def drawn(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)

        u, v = drawn(self.logits[places]), {name: drawn(value) for name, value in self._values.items()}
        ahead = (u * jvp(lambda values: self._logits(values, x), (self._values,), (v,))[1]).sum()
        back = grad(lambda values: (u * self._logits(values, x)).sum())(self._values)
        along = torch.stack([(back[name] * v[name]).sum() for name in v]).sum()
        size = torch.stack([part.norm() for part in back.values()]).norm() + ahead.abs()
        if (ahead - along).abs() > max(DIFFERENT, 1e3 * self._precision) * size:
            told = "forward derivatives of the network, on which influence rests, are others than its gradients"
            why = "a part under torch.no_grad (take .detach() instead), a shared embedding with padding_idx"
            raise UserError(f"{told}: is there {why}, or an autograd function with another jvp?")

    def _logits(self, values: Values, x: Tensor) -> Tensor:
        return with_values(self._model, values, x).double()

    def one(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Take a step on one example: KL and quadratic forms, ‖g‖², change of log P, largest entry of J g."""
        given, label = lone(self._model, x), lone(self._model, y)
        g = grad(lambda values: self._loss(self._logits(values, given), label)[0])(self._values)
        norm = torch.stack([part.square().sum() for part in g.values()]).sum()
        g = {name: part * self._masks[name] if name in self._masks else part for name, part in g.items()}
        stepped = {name: value - self._eps * g[name] for name, value in self._values.items()}
        dz = jvp(lambda values: self._logits(values, self._x), (self._values,), (g,))[1]
        moved = self._logits(stepped, self._x).log_softmax(1) - self._log_p
        p, half = self._log_p.exp(), self._eps * self._eps / 2
        mean = (p * dz).sum(1)
        row = {
            "kl": divergence(self._log_p, moved),
            "true": half * (p * (dz - mean[:, None]).square()).sum(1),
            "norm": norm,
            "moved": moved.abs().amax(1).mean(),
            "change": dz.abs().max(),
        }
        if self._y is not None:
            row["empirical"] = half * (mean - dz.gather(1, self._y[:, None])[:, 0]).square()
            shares = [(self._fisher[name] * part.square()).sum() for name, part in g.items()]
            row["diagonal"] = half * torch.stack(shares).sum()
        return row


def _check_masks(masks: Values, values: Values) -> None:
    for name, mask in masks.items():
        if name not in values:
            raise unknown_name("parameter of masks=", name, list(values))
        if mask.shape != values[name].shape:
            shapes = f"has shape {list(mask.shape)}, expected {list(values[name].shape)} as the parameter"
            raise UserError(f"masks[{name!r}] {shapes}")
        if not mask.isfinite().all():
            raise UserError(f"masks[{name!r}] has entries that are not finite (NaN or infinity)")


def divergence(log_p: Tensor, moved: Tensor) -> Tensor:
    """Compute KL(P ‖ Q) in nats over the last axis, from log P and m = log Q − log P, as Σ P (e^m − 1 − m).

    This equals −Σ P m, since Σ Q = Σ P = 1. But here every term is positive, so that a KL of 1e-12 keeps its digits.

    >>> p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    >>> q = torch.tensor([0.5, 0.5], dtype=torch.float64)
    >>> torch.allclose(divergence(p.log(), q.log() - p.log()), (p * (p / q).log()).sum())
    True
    """
    small = moved.abs() < 1e-2
    m = torch.where(small, moved, torch.zeros_like(moved))
    series = m * m * (0.5 + m * (1 / 6 + m * (1 / 24 + m * (1 / 120 + m / 720))))
    # m is −inf for a class that becomes impossible; then e^m − 1 − m is +inf, as the KL is.
    p, large = log_p.exp(), moved > LARGE
    direct = p * torch.where(small, series, torch.expm1(moved) - moved)
    # P·e^m is at most 1 however small P is, while e^m alone may overflow.
    direct = torch.where(large, (log_p + moved).exp() - p * (1 + moved), direct)
    return torch.where((p == 0) & ~large & ~moved.isnan(), torch.zeros_like(p), direct).sum(-1)
