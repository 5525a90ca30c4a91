"""The gradient mask: in each epoch only the weights with the largest Fisher information are updated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from gendyn_lite.data.own import tensors
from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher.information import DiagonalSum
from gendyn_lite.measures.per_example.checks import check_name, check_number
from gendyn_lite.measures.per_example.guards import check_pairs
from gendyn_lite.measures.per_example.layers import layer_name, wide


def check_keep(keep: float) -> float:
    """Return the share of entries to keep; refuse it outside (0, 1]."""
    check_number("keep", keep, "a share in (0, 1]", lambda value: 0 < value <= 1)
    return float(keep)


def threshold(scores: Mapping[str, Tensor], keep: float) -> Tensor:
    """Return the smallest of the ⌈keep·m⌉ largest of m scores, over all tensors together.

    Args:
        scores: Tensors of any shapes, on one device.
        keep: Share in (0, 1].

    Returns:
        0-dimensional, float32 or float64 like the scores.

    Raises:
        UserError: keep is outside (0, 1], there are no scores, or a score is NaN.

    Source: Jiang, Eq. 10: k, chosen from the sorted diagonal.

    >>> threshold({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([[3.0], [2.0]])}, 0.5)
    tensor(3.)
    """
    check_keep(keep)
    total = sum(value.numel() for value in scores.values())
    if total == 0:
        raise UserError("there are no scores to choose from, expected at least one entry")
    flat = torch.cat([value.detach().flatten().to(wide(value.dtype)) for value in scores.values()])
    if torch.isnan(flat).any():
        raise UserError("a score is NaN, so that there is no order: has training diverged?")
    below = total - _count(keep, total)
    if flat.device.type == "cuda":
        return flat.kthvalue(below + 1).values
    values = flat.cpu().numpy()
    values.partition(below)  # linear time for any order and ties, where torch's kthvalue can take quadratic time
    return torch.tensor(values[below], device=flat.device)


def largest(scores: Mapping[str, Tensor], keep: float, *, seed: int = 0) -> dict[str, Tensor]:
    """Return masks of exactly ⌈keep·m⌉ entries with the largest of m scores, even if scores are equal.

    Among entries that are equal to the `threshold` as many as needed are drawn at random. Such entries are common: the
    weights of pixels that are always black have zero Fisher information. The threshold alone would keep all of them; if
    three quarters of the scores are zero, a share of a third would keep everything.

    Args:
        scores: Tensors of any shapes, on one device.
        keep: Share in (0, 1].
        seed: Seed of the draw among equal scores.

    Returns:
        For each name a bool tensor in the shape of its scores.

    Raises:
        UserError: As for `threshold`; or all scores are equal and not all of them are to be kept.

    >>> largest({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([3.0, 2.0])}, 0.5)
    {'a': tensor([ True, False]), 'b': tensor([ True, False])}
    >>> int(largest({"a": torch.tensor([7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])}, 0.25)["a"].sum())
    2
    """
    least = threshold(scores, keep)
    flat = torch.cat([value.detach().flatten().to(least.dtype) for value in scores.values()])
    chosen, wanted = flat > least, _count(keep, len(flat))
    tied = (flat == least).nonzero()[:, 0]
    missing = wanted - int(chosen.sum())
    if len(tied) == len(flat) > wanted:
        told = f"all {len(flat):,} scores are {float(least):g}: they have no order by which to keep {keep:.0%}"
        raise UserError(f"{told}; has the network stopped learning?")
    if missing < len(tied):
        order = torch.randperm(len(tied), generator=torch.Generator().manual_seed(seed))
        tied = tied[order[:missing].to(tied.device)]
    chosen[tied] = True
    parts = chosen.split([value.numel() for value in scores.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(scores.items(), parts, strict=True)}


def _count(keep: float, total: int) -> int:
    """Return how many entries a share is, rounded up and at least one."""
    return max(1, math.ceil(round(keep * total, 6)))


Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
BY = ("fisher", "magnitude", "random", "random_fixed")
SCOPES = ("network", "layer")


class GradientMask:
    """A gradient hook for `gendyn_lite.train.fit`, which replaces the update g by g ⊙ M with a mask M.

    M keeps exactly the share `keep` of the entries, those with the largest scores (`largest`), and is renewed after
    each epoch; the first epoch has no mask. The score is the diagonal of the empirical Fisher information of the
    training set at the end of the epoch. A masked weight does not move at all, not even by momentum or weight decay.
    Its momentum is set to zero, so that it starts from rest if a later mask keeps it. ``keep=1`` changes no bit.

    Args:
        keep: Share of entries that are updated, in (0, 1]. It is the paper's coefficient, or 1 minus it if that is the
            share that is masked (Sec. 4.1 and 4.2 do not say which).
        examples: Inputs and labels (x, y) for the Fisher information, a DataLoader of them, or a function that returns
            batches of them.
        by: ``"fisher"``, or a control that the paper lacks: ``"magnitude"`` (the largest weights), ``"random"`` (as
            many entries, drawn anew after each epoch) or ``"random_fixed"`` (drawn once).
        scope: ``"network"``: one threshold for all parameters. ``"layer"``: one for each layer.
        seed: Seed of the random controls, and of the choice among equal scores.
        within: Makes a context for the network in which the Fisher information is taken, for instance one with
            re-estimated batch-norm statistics, since running ones lag behind the weights.
        reduce: Sums a tensor over processes, if each has a share of the examples.
        options: Options of `DiagonalSum` (kind, precision, …).

    Attributes:
        kept: Share of entries that are updated; 1 before the first mask.

    Raises:
        UserError: keep is outside (0, 1], the score or the scope is unknown, or there are no examples for the Fisher
            information; when called, as for `diagonal` and `largest`.

    Source: Jiang, Eq. 10 and Sec. 4.

    >>> model = nn.Linear(2, 2)
    >>> mask = GradientMask(0.5, (torch.tensor([[1.0, 0.0]]), torch.tensor([0])))
    >>> mask.epoch_end(model, 1)
    >>> mask.masks["weight"]  # the second input is always 0: those weights carry no information
    tensor([[ True, False],
            [ True, False]])
    """

    def __init__(
        self,
        keep: float,
        examples: tuple[Tensor, Tensor] | DataLoader[Any] | Batches | None = None,
        *,
        by: str = "fisher",
        scope: str = "network",
        seed: int = 0,
        reduce: Callable[[Tensor], Tensor] | None = None,
        within: Callable[[nn.Module], AbstractContextManager[Any]] = nullcontext,
        **options: Any,
    ) -> None:
        self.keep = check_keep(keep)
        check_name("score of the mask", by, BY)
        check_name("scope of the mask", scope, SCOPES)
        if by == "fisher" and examples is None and self.keep < 1:
            raise UserError("a mask by Fisher information needs examples=(x, y) to take it of")
        if isinstance(examples, DataLoader):
            examples = tensors(examples)
        if examples is not None and not callable(examples):
            examples = _pair(examples)
        self.masks: dict[str, Tensor] = {}
        self.kept = 1.0
        self._by, self._scope, self._seed, self._reduce, self._options = by, scope, seed, reduce, options
        self._examples, self._within = examples, within
        self._before: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, *, epoch: int, step: int) -> None:
        """Zero the masked gradients and remember the masked weights, after backward and before the optimizer's step."""
        del epoch, step
        for name, value in self._masked(model):
            if value.grad is not None:
                value.grad.mul_(self.masks[name])
            self._before[name] = value.detach().clone()

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Undo changes of masked weights by momentum or weight decay, and set their momentum to zero."""
        with torch.no_grad():
            for name, value in self._masked(model):
                mask = self.masks[name]
                value.copy_(torch.where(mask, value, self._before.pop(name)))
                momentum = optimizer.state.get(value, {}).get("momentum_buffer")
                if momentum is not None:
                    momentum.mul_(mask)

    def epoch_end(self, model: nn.Module, epoch: int) -> None:
        """Choose the mask of the next epoch."""
        if self.keep == 1:
            return
        scores = self._scores(model, epoch)
        if self._scope == "network":
            self.masks = largest(scores, self.keep, seed=self._seed)
        else:
            self.masks = {}
            for layer in dict.fromkeys(map(layer_name, scores)):
                own = {name: value for name, value in scores.items() if layer_name(name) == layer}
                self.masks |= largest(own, self.keep, seed=self._seed)
        entries = sum(mask.numel() for mask in self.masks.values())
        self.kept = sum(int(mask.sum()) for mask in self.masks.values()) / entries

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to resume to the bit."""
        return {**{f"mask/{name}": mask for name, mask in self.masks.items()}, "kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.kept = float(state["kept"])
        prefix = "mask/"
        self.masks = {name.removeprefix(prefix): mask for name, mask in state.items() if name.startswith(prefix)}

    def _masked(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in model.named_parameters() if name in self.masks)

    def _scores(self, model: nn.Module, epoch: int) -> dict[str, Tensor]:
        if self._by == "fisher":
            return self._fisher(model)
        values = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        if self._by == "magnitude":
            return {name: value.abs() for name, value in values.items()}
        epoch = epoch if self._by == "random" else 0
        generator = torch.Generator().manual_seed(self._seed * 2**20 + epoch)
        return {
            name: torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value.device)
            for name, value in values.items()
        }

    def _fisher(self, model: nn.Module) -> dict[str, Tensor]:
        """Return sums of squared gradients, which have the same order as the diagonal."""
        assert self._examples is not None
        given = self._examples
        batches = zip(*(part.split(32) for part in given), strict=True) if isinstance(given, tuple) else given()
        with evaluated(model), self._within(model):
            total = DiagonalSum(model, **self._options)
            device = next(model.parameters()).device
            for x, y in batches:
                total.add(x.to(device), y.to(device))
            if not total.count and self._reduce is None:  # of several processes, one may have no share
                raise UserError("examples= gave no batch, expected at least one at each call")
            sums = total.sums()
        return sums if self._reduce is None else {name: self._reduce(value) for name, value in sums.items()}


def _pair(examples: Any) -> tuple[Tensor, Tensor]:
    """Return inputs and labels, after checking that they are two tensors of one length."""
    if not isinstance(examples, tuple | list) or len(examples) != 2:
        told = f"examples is a {type(examples).__name__}"
        raise UserError(f"{told}, expected (x, y), a DataLoader, or a function that returns batches")
    check_pairs(examples[0], examples[1], None)
    return examples[0], examples[1]


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode inside the block, and restore every module's mode afterwards.

    If several processes train together, batch-norm has a forward function of its own to share statistics. It is removed
    inside the block, because eval mode computes no statistics.
    """
    modes = [(module, module.training) for module in model.modules()]
    own = [(m, vars(m).pop("forward")) for m in model.modules() if isinstance(m, _BatchNorm) and "forward" in vars(m)]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, forward in own:
            module.forward = forward
