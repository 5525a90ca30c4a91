"""The diagonal of the Fisher information: the mean of squared per-example gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher.squares import Squares
from gendyn_lite.measures.per_example import checks, guards, layers
from gendyn_lite.measures.per_example.layers import Layer, Use
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy, visit
from gendyn_lite.measures.per_example.unchanged import digests
from gendyn_lite.models.logits import tell_of_probabilities

KINDS = ("empirical", "true", "monte_carlo")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCH_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30}  # of activations; on a CPU small batches stay in the cache
FEWEST, MOST = 32, 1024  # examples in a batch, if memory allows


@torch.inference_mode(False)
def diagonal(
    model: nn.Module,
    x: Tensor | DataLoader[Any],
    y: Tensor | None = None,
    *,
    kind: str = "empirical",
    batch_size: int | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Compute the diagonal of the Fisher information: for each weight the mean over examples of its squared gradient.

    The gradient of each example's loss is squared *before* taking the mean. The square of a batch's mean gradient is
    something else, and much smaller. Per-example gradients of the whole network are never stored.

    Args:
        model: Any network, with batch-norm and dropout in eval mode; it is not changed.
        x: Preprocessed inputs [n, ...], or a DataLoader of inputs and labels.
        y: Labels int64 [n]; needed only for the empirical Fisher information.
        kind: ``"empirical"``: gradients at the observed labels. ``"true"``: the exact expectation over labels drawn
            from the network's output, with a backward pass for each class. ``"monte_carlo"``: the same expectation,
            estimated with `samples` draws for each example.
        batch_size: Examples at a time; by default as many as memory and cache suggest. It does not affect the result.
        **options: Options of `DiagonalSum`: samples, seed, precision, loss, output.

    Returns:
        Name of each trainable parameter → its diagonal, in the parameter's shape.

    Raises:
        UserError: The network is in train mode with batch-norm or dropout; a parameter gets no gradient; a gradient is
            not finite (the message names the example); or the labels do not fit.

    Source: Jiang, Eq. 7 and 9 (empirical); Martens (2020), New insights and perspectives on the natural gradient
        method, Sec. 5 and 11, on the difference of the kinds.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    >>> diagonal(model, x, y)["weight"].flatten()  # each gradient is ±x/2; the mean of squares is (1 + 9) / 8
    tensor([1.2500, 1.2500])
    """
    inputs, labels = guards.given(x, y)
    if labels is None:
        if kind == "empirical":
            raise UserError("the empirical Fisher needs the observed labels y; kind='true' does without")
        labels = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    checks.check_whole("batch_size", batch_size, optional=True)
    guards.check_examples(model, inputs, labels, least=1)
    total = DiagonalSum(model, kind=kind, **options)
    size = batch_size or _batch_size(model, inputs, total.squares_bytes)
    for part in zip(inputs.split(size), labels.split(size), strict=True):
        total._add_same(*part)
    return total.mean()


class DiagonalSum:
    """Accumulates the diagonal of the Fisher information batch by batch, for data that does not fit in memory.

    Args:
        model: The network, in eval mode.
        kind: As for `diagonal`.
        samples: Number of draws for each example.
        seed: Seed of the draws.
        precision: ``"float32"`` (the network's own precision), or ``"bfloat16"`` or ``"float16"`` for the forward and
            backward pass on a GPU. Squares are always summed in float32 (or float64).
        loss: ``loss(logits, y)`` returns the loss of each example, [n]; used for the empirical kind.
        output: Extracts the logits from the network's output, if that is a tuple or a dict.

    Attributes:
        count: Number of examples so far.
        squares_bytes: Bytes of the sums.

    Raises:
        UserError: As for `diagonal`.

    >>> total = DiagonalSum(nn.Linear(1, 2))
    >>> total.add(torch.ones(3, 1), torch.tensor([0, 1, 1]))
    >>> total.count, total.mean()["weight"].shape
    (3, torch.Size([2, 1]))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        kind: str = "empirical",
        samples: int = 1,
        seed: int = 0,
        precision: str = "float32",
        loss: Loss = cross_entropy,
        output: guards.Output = None,
    ) -> None:
        checks.check_name("kind of Fisher information", kind, KINDS)
        checks.check_name("precision", precision, PRECISIONS)
        checks.check_whole("samples", samples)
        guards.check_model(model)
        self.count, self._first = 0, dict[str, bytes]()
        self._model, self._kind, self._samples, self._loss, self._output = model, kind, samples, loss, output
        self._values = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._device = layers.first_trainable(model).device
        self._cast = PRECISIONS[precision]
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._plan, self._squares = layers.plan(model), Squares(self._values)
        self._unused = frozenset(self._values)  # as far as the batches show
        self.squares_bytes = sum(v.numel() * max(v.element_size(), 4) for v in self._values.values())

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a batch, which may be empty: inputs [b, ...] and labels [b] (ignored if the kind draws its own).

        Raises:
            UserError: The network has changed since the first batch; or as for `diagonal`.
        """
        if not len(x):
            return
        guards.check_eval(self._model)
        now = digests(self._model)
        self._first = now if self.count == 0 else self._first
        if moved := [name for name in {**self._first, **now} if self._first.get(name) != now.get(name)]:
            why = "make a new DiagonalSum for each state of the network"
            raise UserError(f"{moved[0]!r} of the network has changed since the first batch: {why}")
        self._add_same(x, y)

    def _add_same(self, x: Tensor, y: Tensor) -> None:
        """Add a batch without asking whether the network has changed, which takes a look at every weight."""
        x, y = checks.usable(x), checks.usable(y)
        with guards.reading(self._model, self._output):
            losses = self._losses(x)
            if self.count == 0 and losses[0] == self._drawn:
                # The checks of `visit` compare calls of the loss, and a drawn loss changes with each call.
                visit(self._model, x[:8], y[:8], self._plan, ignored, ignored, loss=_expected(0))
            for loss in losses:
                self._add(x, y, loss)
            if self._unused:
                self._unused -= self._used(x, y)
            self.count += len(x)
            if not self._squares.finite():
                self._name_culprit(x, y)

    def sums(self) -> dict[str, Tensor]:
        """Return the sums of squares over the examples so far; refuse a parameter on which no batch's loss depends."""
        if self.count and (unused := [name for name in self._values if name in self._unused]):
            why = "the loss does not depend on it; freeze it (requires_grad_(False)) or use it"
            raise UserError(f"parameter {unused[0]!r} gets no gradient: {why}")
        return self._squares.sums()

    def mean(self) -> dict[str, Tensor]:
        """Return the diagonal over the examples so far."""
        if self.count == 0:
            raise UserError("there is no example to take the Fisher information of, expected at least 1")
        repeats = self._samples if self._kind == "monte_carlo" else 1
        return {name: total / (self.count * repeats) for name, total in self.sums().items()}

    def _name_culprit(self, x: Tensor, y: Tensor) -> None:
        """Raise an error that names the first example of the last batch whose squared gradient is not finite."""
        norms = []
        for i in range(len(x)):
            found = self._gradients(x[i : i + 1], y[i : i + 1], self._losses(x))
            norms.append(torch.stack([g.square().sum() for g in found if g is not None]).sum())
        checks.check_finite(torch.stack(norms), first=self.count - len(x))
        raise UserError("the sum of squared gradients is beyond the range of its number format: has training diverged?")

    def _used(self, x: Tensor, y: Tensor) -> frozenset[str]:
        """Return the parameters that get a gradient, judged by one example, and by the batch where that has none."""
        used = self._plan.used
        if used is not None and used.issuperset(self._values):
            return used
        loss = self._loss if self._kind == "empirical" else _expected(0)
        count = len(x) if used is not None else 1
        found = zip(self._values, self._gradients(x[:count], y[:count], [loss]), strict=True)
        return frozenset(name for name, gradient in found if gradient is not None)

    def _gradients(self, x: Tensor, y: Tensor, losses: list[Loss]) -> tuple[Tensor | None, ...]:
        """Return the gradients of one example's summed losses, None for parameters that they do not depend on."""
        with torch.enable_grad():
            total = torch.cat([loss(self._model(x), y) for loss in losses]).sum()
            return torch.autograd.grad(total, list(self._values.values()), allow_unused=True)

    def _losses(self, x: Tensor) -> list[Loss]:
        """Return the losses whose squared gradients sum to this kind of Fisher information."""
        if self._kind == "empirical":
            return [self._loss]
        with torch.no_grad():
            logits = self._model(x[:1])
        checks.check_logits(logits, torch.zeros(1, dtype=torch.int64), True)
        tell_of_probabilities(self._model, logits)
        if self._kind == "monte_carlo":
            return [self._drawn] * self._samples
        return [_expected(label) for label in range(logits.shape[1])]

    def _drawn(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy at labels drawn from the network's output, which must be finite."""
        _check_outputs(logits)
        drawn = torch.multinomial(logits.detach().float().softmax(1), 1, generator=self._generator)
        return cross_entropy(logits, drawn[:, 0])

    def _add(self, x: Tensor, y: Tensor, loss: Loss) -> None:
        device, cast = self._device.type, self._cast

        def on_layer(layer: Layer, uses: list[Use]) -> None:
            with torch.autocast(device, enabled=False):  # inputs and gradients are float32
                self._squares.add(layer, uses)

        with torch.autocast(device, dtype=cast or torch.bfloat16, enabled=cast is not None):
            given = {"loss": loss, "drawn": loss == self._drawn}
            visit(self._model, x, y, self._plan, on_layer, self._squares.add_gradients, **given)


def ignored(*_: object) -> None:
    """Ignore all arguments: a callback of `visit` for calls that only run its checks."""


def _expected(label: int) -> Loss:
    """Return a loss whose squared gradient is P(label) times the squared gradient of −log P(label)."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        _check_outputs(logits)
        log_p = logits.log_softmax(1)[:, label]
        return -log_p * (log_p.detach() / 2).exp()

    return loss


def _check_outputs(logits: Tensor) -> None:
    wrong = (~torch.isfinite(logits.detach()).all(1)).nonzero().flatten().tolist()
    if wrong:
        raise UserError(f"the output of example {wrong[0]} is not finite: has training diverged?")


def _batch_size(model: nn.Module, x: Tensor, sums: int) -> int:
    """Return the number of examples at a time, so that they stay in the cache and fit in memory beside the sums."""
    each, device = layers.seen(model, x).bytes, x.device.type
    wanted = max(FEWEST, min(MOST, BATCH_BYTES.get(device, 256 << 20) // each))
    free = checks.available_memory(x.device)
    return max(1, min(wanted, max(0, free - sums) // (2 * each)))
