"""How far one example's step moves the predictions for others: measured, and as quadratic forms."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.fisher.information import diagonal, ignored
from gendyn_lite.measures.per_example import checks, guards, layers
from gendyn_lite.measures.per_example.alone import for_each, lone
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy, visit
from gendyn_lite.measures.stiffness.layer_gram import squared_norms

STEP_BYTES = 64 << 20  # of weights of stepped networks held at a time
LARGE = 50  # a change of a log-probability whose exponential is not taken alone
LOST = 1e-9  # change of a logit by a step of size 1 that a step's size must not make vanish
Values = Mapping[str, Tensor]


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
    x: Tensor | DataLoader[Any],
    y: Tensor | None,
    x_eval: Tensor | DataLoader[Any],
    *,
    eps: float,
    y_eval: Tensor | None = None,
    masks: Values | None = None,
    loss: Loss = cross_entropy,
    output: guards.Output = None,
) -> Influence:
    """Take a step θ − ε g_i on each of some examples, each from the same θ, and see the predictions for others move.

    The network is copied to float64: in float32 the KL of a small step is mostly rounding. No matrix is made: with
    dz = J g_i (one forward-mode derivative), gᵀF_true g is the variance of dz under the network's own P, and gᵀF_emp g
    the square of (P − onehot(y))·dz. The diagonal form needs the diagonal alone.

    Args:
        model: The network, in eval mode; left as it was.
        x: Examples [n, ...] to step on; or a DataLoader of them and their labels, and None for y.
        y: Their labels int64 [n].
        x_eval: Inputs [m, ...] whose predictions are watched; or a DataLoader of them and their labels.
        eps: Step size ε.
        y_eval: Labels of `x_eval`, for the empirical and the diagonal form.
        masks: Entries of g_i to keep, by parameter (a gradient mask): the step is θ − ε g_i ⊙ M.
        loss: Loss of each example, for g_i.
        output: Function of what the network gives that gives the logits, for one that gives a tuple or a dict.

    Returns:
        KL and quadratic forms in nats, float64.

    Raises:
        UserError: eps is not above 0 and finite, or so small that no prediction moves; train mode with batch-norm or
            dropout; a network that mixes examples; a gradient that is not finite (naming the example); inputs and
            labels that do not fit.

    Source: Jiang, Eq. 3, 4, 7 and 9.

    >>> model = nn.Linear(2, 2)
    >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> found = influence(model, x, y, torch.eye(2), eps=1e-3)
    >>> found.kl.shape, bool((found.kl[0] / found.true[0] - 1).abs().max() < 1e-2)
    (torch.Size([1, 2]), True)
    """
    checks.check_number("eps", eps, "a step size above 0 and finite")
    (on, targets), (watched, y_watched) = guards.given(x, y), guards.given(x_eval, y_eval)
    guards.check_examples(model, on, targets, least=1)
    labels = torch.zeros(len(watched), dtype=torch.int64, device=watched.device) if y_watched is None else y_watched
    guards.check_examples(model, watched, labels, least=1, name="x_eval: ")
    twin = _copied(model).double()
    on, watched = (checks.usable(part.double() if part.is_floating_point() else part) for part in (on, watched))
    with guards.reading(twin, output):
        fisher = {} if y_watched is None else diagonal(twin, watched, y_watched, loss=loss)
        steps = _Steps(twin, watched, y_watched, eps=eps, fisher=fisher, masks=masks or {}, loss=loss)
        checks.check_logits(steps.logits[:1].expand(len(targets), -1), targets, loss is cross_entropy)
        _check_steps(twin, on, targets, watched, loss)
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):  # the attention that has forward derivatives
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its forward-mode derivatives
            found = _found(steps, on, checks.usable(targets))
    checks.check_finite(found["norm"])
    if not found["moved"].any() and (found["change"] > LOST).any():
        raise UserError(f"a step of eps = {eps} is lost in the rounding of the weights: take a larger eps")
    return Influence(found["kl"], found["true"], found.get("empirical"), found.get("diagonal"))


def _copied(model: nn.Module) -> nn.Module:
    """A network of its own; refused is one with weights that are computed before each call."""
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        computed = [
            f"{name!r} ({type(module).__name__})"
            for name, module in model.named_modules()
            if any(isinstance(value, Tensor) and not value.is_leaf for value in vars(module).values())
        ]
        where = computed[0] if computed else "the network"
        why = "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove gives it weights of its own"
        raise UserError(f"{where} holds a tensor that was computed, and cannot be copied: {why}") from error


def _found(steps: _Steps, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """What each step gives; refused is an operation without the derivatives that a step is compared with."""
    try:
        return for_each(steps.one, steps.one, x, y, STEP_BYTES // steps.bytes)
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        told = "influence needs forward derivatives, and an operation of the network has none"
        why = "take away parametrizations, hooks of the backward pass and autograd functions of your own"
        raise UserError(f"{told}: {why}; torch says: {first_line(error)}") from error


def _check_steps(model: nn.Module, x: Tensor, y: Tensor, watched: Tensor, loss: Loss) -> None:
    """Refuse what the measures of gradients refuse: they look at two of the examples."""
    planned = layers.plan(model)
    planned.announced.update(planned.names.values())  # formulas or not, here all goes by torch.func
    visit(model, x[:2], y[:2], planned, ignored, ignored, loss=loss)
    if len(x) < 2:
        guards.check_alone(model, watched)


class _Steps:
    """Stepped networks, and what they make of the watched inputs."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor | None, *, eps: float, fisher: Values, masks: Values, loss: Loss
    ) -> None:
        self._model, self._x, self._y, self._eps, self._loss = model, x, y, eps, loss
        self._fisher, self._masks = fisher, masks
        self._values = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        self.bytes = sum(value.numel() * value.element_size() for value in self._values.values())
        with torch.no_grad(), guards.unmoved(model, x), lag_is_told(model):
            self.logits = model(x)
        guards.check_rows(model, x, self.logits)
        checks.check_logits(self.logits, torch.zeros(len(x), dtype=torch.int64) if y is None else y, True)
        self._log_p = self.logits.log_softmax(1)

    def _logits(self, values: Values, x: Tensor) -> Tensor:
        return functional_call(self._model, dict(values), (x,))

    def one(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """A step on one example: KL and quadratic forms, ‖g‖², mean change of log P, largest entry of J g."""
        given, label = lone(self._model, x), lone(self._model, y)
        g = grad(lambda values: self._loss(self._logits(values, given), label)[0])(self._values)
        norm = torch.stack([part.square().sum() for part in g.values()]).sum()
        g = {name: part * self._masks[name] if name in self._masks else part for name, part in g.items()}
        stepped = {name: value - self._eps * g[name] for name, value in self._values.items()}
        dz = jvp(lambda values: self._logits(values, self._x), (self._values,), (g,))[1]
        moved = self._logits(stepped, self._x).log_softmax(1) - self._log_p
        p, half = self._log_p.exp(), self._eps**2 / 2
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


Probe = Callable[[nn.Module, int], dict[str, float]]


def influence_probe(x: Tensor, y: Tensor, x_eval: Tensor, y_eval: Tensor, *, eps: float) -> Probe:
    """A probe that records the mean influence of a step on the given examples at each evaluated epoch.

    Its values are ``kl``, ``quadratic_true``, ``quadratic_empirical``, ``quadratic_diagonal``: means over examples and
    watched inputs, divided by ½ε² so that they do not depend on the step size while it is small; ``median`` is the
    median over examples of ``quadratic_true``, which a few large gradients do not rule; ``gradient`` the mean ‖g‖².

    Args:
        x: Examples [n, ...] to step on, as the network takes them.
        y: Their labels, as trained with.
        x_eval: Inputs whose predictions are watched.
        y_eval: Their labels, as trained with.
        eps: Step size ε.

    Returns:
        Function of (model, epoch) that gives the values by name.

    Source: Jiang, Fig. 1 and 2 (a).

    >>> probe = influence_probe(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 1]), eps=1e-3)
    >>> sorted(probe(nn.Linear(2, 2), 0))
    ['gradient', 'kl', 'median', 'quadratic_diagonal', 'quadratic_empirical', 'quadratic_true']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        del epoch
        device = next(model.parameters()).device
        given = [part.to(device) for part in (x, y, x_eval, y_eval)]
        found = influence(model, given[0], given[1], given[2], y_eval=given[3], eps=eps).means()
        scaled = {name: value / (eps**2 / 2) for name, value in found.items()}
        row = {name: float(value.mean()) for name, value in scaled.items()}
        row["median"] = float(torch.median(scaled["quadratic_true"]))
        row["gradient"] = float(squared_norms(model, given[0], given[1]).mean())
        return row

    return probe


class Remainder(NamedTuple):
    """KL and quadratic form over step sizes, float64.

    Attributes:
        eps: Step sizes, [steps].
        kl: Mean KL over the watched inputs, [steps, n].
        quadratic: ½ε² gᵀFg with the true Fisher information, [steps, n].
    """

    eps: Tensor
    kl: Tensor
    quadratic: Tensor

    @property
    def gap(self) -> Tensor:
        """|KL − ½ε² gᵀFg|, [steps, n]."""
        return (self.kl - self.quadratic).abs()

    @property
    def slopes(self) -> Tensor:
        """Least-squares slope of log gap against log ε for each example, [n]; 3 by Theorem 1."""
        x = self.eps.log()
        x = (x - x.mean())[:, None]
        y = self.gap.log()
        return (x * (y - y.mean(0))).sum(0) / x.square().sum()


def remainder(model: nn.Module, x: Tensor, y: Tensor, x_eval: Tensor, *, eps: Sequence[float]) -> Remainder:
    """KL and quadratic form of one example's step for several step sizes, in float64.

    A ReLU network is smooth only while no unit changes its side; with steps small enough that none does, the slope is 3
    there too.

    Args:
        model: The network, in eval mode.
        x: Examples [n, ...] to step on.
        y: Their labels.
        x_eval: Inputs whose predictions are watched.
        eps: At least two step sizes.

    Returns:
        KL and quadratic form, float64 [steps, n] each.

    Raises:
        UserError: Fewer than two step sizes; else as `influence`.

    Source: Jiang, Theorem 1 (Eq. 4).

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    >>> x = torch.linspace(-1, 1, 15).view(5, 3)
    >>> found = remainder(model, x[:2], torch.tensor([0, 1]), x, eps=[0.01, 0.003, 0.001])
    >>> found.gap.shape, bool((found.slopes - 3).abs().max() < 0.5)
    (torch.Size([3, 2]), True)
    """
    if len(eps) < 2:
        raise UserError(f"eps has {len(eps)} step sizes, expected at least 2")
    parts = [influence(model, x, y, x_eval, eps=float(each)).means() for each in eps]
    kl, quadratic = (torch.stack([part[name] for part in parts]) for name in ("kl", "quadratic_true"))
    return Remainder(torch.tensor(list(eps), dtype=torch.float64), kl, quadratic)
