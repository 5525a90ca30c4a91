"""Influence: how far a step on one example moves the predictions for others, measured and as quadratic forms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher.information import diagonal
from gendyn_lite.measures.fisher.stepped import Steps, Values, check_steps, taken
from gendyn_lite.measures.per_example import checks, guards
from gendyn_lite.measures.per_example.alone import no_fast_path
from gendyn_lite.measures.per_example.copies import check_beside, copied
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy
from gendyn_lite.measures.stiffness.layer_gram import squared_norms

DIGITS = 60  # rounding errors by which a step must change log-probabilities, for a mean KL right to about a per cent
LOST = 1e-9  # if a step of size 1 changes a logit by more, a smaller step must change some prediction


class Influence(NamedTuple):
    """Influence of a step on each of n examples on the predictions for m others, in nats.

    Attributes:
        kl: The measured KL(P(x; θ) ‖ P(x; θ − ε g_i)), [n, m].
        true: ½ε² gᵢᵀF(x)gᵢ with the true Fisher information of each x (labels from the network), [n, m].
        empirical: The same with the empirical Fisher information (observed labels), [n, m]; None without labels.
        diagonal: ½ε² Σ_k a_k g_ik² with the diagonal a of the empirical Fisher information of all x, [n]; None without
            labels.
    """

    kl: Tensor
    true: Tensor
    empirical: Tensor | None
    diagonal: Tensor | None

    def means(self) -> dict[str, Tensor]:
        """Average over x, [n] each: ``kl``, ``quadratic_true``; with labels ``quadratic_empirical``, ``_diagonal``."""
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
    """Take a step θ − ε g_i on each of n examples, always from the same θ, and measure the change of predictions.

    The computation is in float64 on a copy, because in float32 the KL of a small step is mostly rounding error. No
    matrix is formed. With dz = J g_i (one forward-mode derivative), gᵀF_true g is the variance of dz under the
    network's P, and gᵀF_emp g is the square of (P − onehot(y))·dz. The diagonal form needs only the diagonal.

    Args:
        model: The network, in eval mode; it is not changed.
        x: Examples [n, ...] to step on, or a DataLoader of examples and labels (then y is None).
        y: Their labels int64 [n].
        x_eval: Inputs [m, ...] whose predictions are watched, or a DataLoader of inputs and labels.
        eps: Step size ε.
        y_eval: Labels of `x_eval`, for the empirical and the diagonal form.
        masks: Parameter → mask M of its entries (a gradient mask); the step is then θ − ε g_i ⊙ M.
        loss: ``loss(logits, y)`` returns the loss of each example; it defines g_i.
        output: Extracts the logits from the network's output, if that is a tuple or a dict.

    Returns:
        KL and quadratic forms in nats, float64.

    Raises:
        UserError: eps is not positive and finite, or so small that no prediction changes; the network is in train mode
            with batch-norm or dropout, or mixes examples; a gradient is not finite (the message names the example); or
            inputs and labels do not fit.

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
    twin = copied(model, on).double()
    on, watched = (checks.usable(part.double() if part.is_floating_point() else part) for part in (on, watched))
    with guards.reading(twin, output):
        check_beside(model, twin, on, targets, loss)
        fisher = {} if y_watched is None else diagonal(twin, watched, y_watched, loss=loss)
        steps = Steps(twin, watched, y_watched, eps=eps, fisher=fisher, masks=masks or {}, loss=loss)
        checks.check_logits(steps.logits[:1].expand(len(targets), -1), targets, loss is cross_entropy)
        check_steps(twin, on, targets, watched, loss)
        with warnings.catch_warnings(), no_fast_path(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore", FutureWarning)  # torch warns of its forward-mode derivatives
            found = taken(steps, on, checks.usable(targets))
    checks.check_finite(found["norm"])
    if not all(found[name].isfinite().all() for name in ("true", "moved")):
        raise UserError(f"after a step of eps = {eps} an output is not finite (NaN or infinity): take a smaller eps")
    rounding = checks.ROUNDING * max(1.0, float(steps.logits.abs().max()))
    if found["moved"].max() <= rounding and (found["change"] > LOST).any():
        raise UserError(f"a step of eps = {eps} is lost in the rounding of the weights: take a larger eps")
    if steps.noise and len(lost := (found["moved"] < DIGITS * steps.noise).nonzero().flatten()):
        told = "the network rounds what it computes (.float(), .half() or the like)"
        of = f"a step of eps = {eps} on example {int(lost[0])} is all but lost"
        raise UserError(f"{told}, in which {of}: leave the rounding out, take a larger eps or leave out the example")
    return Influence(found["kl"], found["true"], found.get("empirical"), found.get("diagonal"))


Probe = Callable[[nn.Module, int], dict[str, float]]


def influence_probe(x: Tensor, y: Tensor, x_eval: Tensor, y_eval: Tensor, *, eps: float) -> Probe:
    """Make a probe that records the mean influence of a step on the given examples at each evaluated epoch.

    Its values are ``kl``, ``quadratic_true``, ``quadratic_empirical`` and ``quadratic_diagonal``, means over examples
    and watched inputs, divided by ½ε² so that they do not depend on a small step size; ``median``, the median of
    ``quadratic_true`` over examples, which is robust to a few large gradients; and ``gradient``, the mean ‖g‖².

    Args:
        x: Preprocessed examples [n, ...] to step on.
        y: Their training labels [n].
        x_eval: Inputs [m, ...] whose predictions are watched.
        y_eval: Their training labels [m].
        eps: Step size ε.

    Returns:
        Function of (model, epoch) that returns the values by name.

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
        """Least-squares slope of log gap against log ε for each example, [n]; it is 3 by Theorem 1."""
        x = self.eps.log()
        x = (x - x.mean())[:, None]
        y = self.gap.log()
        return (x * (y - y.mean(0))).sum(0) / x.square().sum()


def remainder(model: nn.Module, x: Tensor, y: Tensor, x_eval: Tensor, *, eps: Sequence[float]) -> Remainder:
    """Compute KL and quadratic form of one example's step for several step sizes, in float64.

    A ReLU network is smooth only where no unit switches on or off. With steps so small that none does, its slope is 3
    too.

    Args:
        model: The network, in eval mode.
        x: Examples [n, ...] to step on.
        y: Their labels [n].
        x_eval: Inputs [m, ...] whose predictions are watched.
        eps: At least two step sizes.

    Returns:
        KL and quadratic form, float64 [steps, n] each.

    Raises:
        UserError: There are fewer than two step sizes; else as for `influence`.

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
