"""How far one example's step moves the predictions for others: measured, and as quadratic forms."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher.information import diagonal
from gendyn_lite.measures.per_example.checks import (
    check_alone,
    check_eps,
    check_examples,
    check_finite,
    check_logits,
    check_model,
    usable,
)
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy

STEP_BYTES = 64 << 20  # of weights of stepped networks held at a time
LARGE = 50  # a change of a log-probability whose exponential is not taken alone
LOST = 1e-9  # change of a logit by a step of size 1 that a step's size must not make vanish
ROUNDING = 16  # roundings of the largest logit that a difference of logits may carry
Values = dict[str, Tensor]
Entries = Mapping[str, Tensor] | None


class Influence(NamedTuple):
    """Influence of a step on each of n examples on the predictions for m others, in nats.

    Attributes:
        kl: KL(P(x; θ) ‖ P(x; θ − ε g_i)), [n, m]: measured.
        true: ½ε² gᵢᵀF(x)gᵢ with the true Fisher information of each x (labels from the network), [n, m].
        empirical: The same with the empirical one (observed labels), [n, m]; None without labels.
        diagonal: ½ε² Σ_k a_k g_ik² with the diagonal empirical Fisher a of all x together, [n]; None without labels.
    """

    kl: Tensor
    true: Tensor
    empirical: Tensor | None
    diagonal: Tensor | None

    def means(self) -> dict[str, Tensor]:
        """Means over x, [n] each: ``kl``, ``quadratic_true`` and, with labels, ``_empirical`` and ``_diagonal``."""
        found = {"kl": self.kl.mean(1), "quadratic_true": self.true.mean(1)}
        if self.empirical is not None and self.diagonal is not None:
            found |= {"quadratic_empirical": self.empirical.mean(1), "quadratic_diagonal": self.diagonal}
        return found


@torch.inference_mode(False)
def influence(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    x_eval: Tensor,
    *,
    eps: float,
    y_eval: Tensor | None = None,
    fisher: Entries = None,
    precision: str = "float64",
    masks: Entries = None,
    loss: Loss = cross_entropy,
) -> Influence:
    """Take a step θ − ε g_i on each of some examples, each from the same θ, and see the predictions for others move.

    No matrix is made: with dz = J g_i (one forward-mode derivative), gᵀF_true g is the variance of dz under the
    network's own P, and gᵀF_emp g the square of (P − onehot(y))·dz. The diagonal form needs the diagonal alone.

    Args:
        model: The network, in eval mode; left as it was.
        x: Examples [n, ...] to step on.
        y: Their labels int64 [n].
        x_eval: Inputs [m, ...] whose predictions are watched.
        eps: Step size ε.
        y_eval: Labels of `x_eval`, for the empirical and the diagonal form.
        fisher: A diagonal (of `diagonal`) to use instead of that of `x_eval` and `y_eval`.
        precision: ``"float64"``, on a copy; or ``"float32"``, refused where rounding would be more than about a tenth
            of the change of some logits: below that the KL would be noise.
        masks: Entries of g_i to keep, by parameter (a gradient mask): the step is θ − ε g_i ⊙ M.
        loss: Loss of each example, for g_i.

    Raises:
        UserError: eps is not above 0 and finite, or so small that no prediction moves; train mode with batch-norm or
            dropout; a network that mixes examples; a gradient that is not finite (naming the example); a step too small
            for float32; inputs and labels that do not fit.

    Source:
        Jiang, Eq. 3, 4, 7 and 9.

    >>> model = nn.Linear(2, 2)
    >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> found = influence(model, x, y, torch.eye(2), eps=1e-3)
    >>> found.kl.shape, bool((found.kl[0] / found.true[0] - 1).abs().max() < 1e-2)
    (torch.Size([1, 2]), True)
    """
    check_eps(eps)
    if precision not in ("float64", "float32"):
        raise UserError(f"precision is {precision!r}, expected 'float64' or 'float32'")
    check_model(model)
    check_examples(model, x, y, least=1)
    labels = torch.zeros(len(x_eval), dtype=torch.int64, device=x_eval.device) if y_eval is None else y_eval
    check_examples(model, x_eval, labels, least=1, name="x_eval: ")
    twin = copy.deepcopy(model).double() if precision == "float64" else model
    x, x_eval = (usable(part.to(_dtype(twin)) if part.is_floating_point() else part) for part in (x, x_eval))
    y = usable(y)
    if fisher is None and y_eval is not None:
        fisher = diagonal(twin, x_eval, y_eval, loss=loss)
    work = _Steps(twin, x_eval, eps=eps, fisher=fisher, masks=masks, loss=loss)
    check_logits(work.logits, labels, y_eval is not None)
    check_alone(twin, x_eval if len(x) < 2 else x)
    parts = [_reduced(part, work.log_p, y_eval, eps) for part in work.run(x, y)]
    if precision == "float32":
        _check_rounding(parts, work.logits)
    if not any(part[4].any() for part in parts) and any(part[5] > LOST for part in parts):
        raise UserError(f"a step of eps = {eps} is lost in the rounding of the weights: take a larger eps")
    kl, true, empirical, diagonals = (list(found) for found in zip(*(part[:4] for part in parts), strict=True))
    wide = [torch.cat(found).double() for found in (kl, true)]
    if y_eval is None:
        return Influence(wide[0], wide[1], None, None)
    return Influence(wide[0], wide[1], torch.cat(empirical).double(), torch.cat(diagonals).double())


class _Steps:
    """Stepped networks, some at a time, and what they make of the watched inputs."""

    def __init__(
        self, model: nn.Module, x_eval: Tensor, *, eps: float, fisher: Entries, masks: Entries, loss: Loss
    ) -> None:
        self._model, self._x, self._eps, self._loss = model, x_eval, eps, loss
        named = list(model.named_parameters())
        self._values: Values = {name: value.detach() for name, value in named if value.requires_grad}
        self._rest = {name: value.detach() for name, value in (*named, *model.named_buffers())}
        for name in self._values:
            del self._rest[name]
        self._fisher, self._masks = fisher or {}, masks or {}
        with torch.no_grad():
            self.logits = model(x_eval)
        self.log_p = self.logits.log_softmax(1)

    def run(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For groups of examples: stepped logits and Jg, [some, m, classes] each, and Σ a g², [some]."""
        each = sum(value.numel() * value.element_size() for value in self._values.values())
        size = max(1, STEP_BYTES // each)
        found = []
        for i in range(0, len(x), size):
            some = x[i : i + size], y[i : i + size]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its forward-mode derivatives
                after, change, form, norm = self._some(*some)
            check_finite(norm)
            found.append((after.detach(), change.detach(), form.detach()))
        return found

    def _some(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """All at once, or one by one where there is one, or an operation cannot be batched over networks."""
        if len(x) > 1:
            try:
                return cast("tuple[Tensor, ...]", vmap(self._one)(x, y))
            except (RuntimeError, ValueError):
                pass
        rows = [self._one(*pair) for pair in zip(x, y, strict=True)]
        return tuple(torch.stack(part) for part in zip(*rows, strict=True))

    def _logits(self, values: Values, x: Tensor) -> Tensor:
        return functional_call(self._model, {**self._rest, **values}, (x,))

    def _one(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g = grad(lambda values: self._loss(self._logits(values, x[None]), y[None]).sum())(self._values)
        norm = torch.stack([part.square().sum() for part in g.values()]).sum()
        g = {name: part * self._masks[name] if name in self._masks else part for name, part in g.items()}
        stepped = {name: value - self._eps * g[name] for name, value in self._values.items()}
        change = jvp(lambda values: self._logits(values, self._x), (self._values,), (g,))[1]
        shares = [(self._fisher[name] * part.square()).sum() for name, part in g.items() if name in self._fisher]
        form = torch.stack(shares).sum() if shares else norm.new_zeros(())
        return self._logits(stepped, self._x), change, form, norm


def _reduced(part: tuple[Tensor, Tensor, Tensor], log_p: Tensor, y: Tensor | None, eps: float) -> tuple[Any, ...]:
    """KL and quadratic forms of some steps, [some, m]; diagonal form [some]; change of log P; largest Jg."""
    after, dz, form = part
    p = log_p.exp()
    half = eps**2 / 2
    mean = (p * dz).sum(2)
    true = half * (p * (dz - mean[..., None]).square()).sum(2)
    moved = after.log_softmax(2) - log_p
    kl = divergence(log_p, moved)
    most = float(dz.abs().max())
    if y is None:
        return kl, true, true, form, moved, most
    own = dz.gather(2, y[None, :, None].expand(len(dz), -1, 1))[..., 0]
    return kl, true, half * (mean - own).square(), half * form, moved, most


def divergence(log_p: Tensor, moved: Tensor) -> Tensor:
    """KL(P ‖ Q) in nats from log P and log Q − log P, without cancellation: Σ P (e^m − 1 − m), over the last axis.

    Since Σ Q = Σ P = 1, this is −Σ P m; written so, every term is positive and a KL of 1e-12 keeps its digits.

    >>> p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    >>> q = torch.tensor([0.5, 0.5], dtype=torch.float64)
    >>> torch.allclose(divergence(p.log(), q.log() - p.log()), (p * (p / q).log()).sum())
    True
    """
    small = moved.abs() < 1e-2
    m = torch.where(small, moved, torch.zeros_like(moved))
    series = m * m * (0.5 + m * (1 / 6 + m * (1 / 24 + m * (1 / 120 + m / 720))))
    # −inf stands for a class that the step makes impossible: e^m − 1 − m is +inf there, as the KL is.
    p, large = log_p.exp(), moved > LARGE
    direct = p * torch.where(small, series, torch.expm1(moved) - moved)
    # P·e^m is at most 1 however small P is, while e^m alone may leave the number format.
    direct = torch.where(large, (log_p + moved).exp() - p * (1 + moved), direct)
    return torch.where((p == 0) & ~large & ~moved.isnan(), torch.zeros_like(p), direct).sum(-1)


def _check_rounding(parts: list[tuple[Any, ...]], logits: Tensor) -> None:
    """Refuse changes of logits that float32 cannot resolve."""
    rounding = ROUNDING * torch.finfo(torch.float32).eps * float(logits.abs().max())
    for part in parts:
        least = float(part[4].abs().amax(2).mean(1).min())
        if least < 10 * rounding:
            raise UserError(
                f"a step changes log-probabilities by {least:.1e} on average, and float32 rounds them by about "
                f"{rounding:.1e}: use precision='float64', or a larger eps"
            )


def _dtype(model: nn.Module) -> torch.dtype:
    return next(value for value in model.parameters() if value.requires_grad).dtype
