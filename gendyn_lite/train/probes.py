"""When a run is evaluated and what is measured then: loss, accuracy and the values of probes.

Also the check that a network fits the data, and batch-norm statistics that are re-estimated for an evaluation.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData
from gendyn_lite.errors import UserError, first_line
from gendyn_lite.models.logits import tell_of_chance, tell_of_probabilities, unwritten
from gendyn_lite.train.device import HOOKS, Precision, random_state
from gendyn_lite.train.history import Row

Probe = Callable[[nn.Module, Any], Mapping[str, Any]]
# Of the schedule "early": fractions of the first epoch, and up to which epoch every epoch is evaluated.
EARLY, EVERY = (1 / 16, 1 / 8, 1 / 4, 1 / 2), 8
Batch = tuple[Tensor, Tensor]
# For each network inside `reestimated_statistics`: its batch-norm buffers and their original values.
_running: WeakKeyDictionary[nn.Module, list[tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def check_fits(model: nn.Module, data: ImageData, x: Tensor) -> None:
    """Check that a network can be trained, accepts the data's inputs and gives one logit per class.

    Args:
        model: The network; it is left in eval mode.
        data: The data.
        x: A batch of inputs as the run will see them, [b, *in_shape], on the model's device.

    Raises:
        UserError: A label is not a class; no parameter is trainable, or one is an expanded tensor; the network changes
            its inputs in place; or the shape of the inputs or outputs is wrong.
    """
    data.check_labels()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the network has no parameter that requires a gradient: there is nothing to train")
    for name, parameter in model.named_parameters():
        if any(size > 1 and stride == 0 for size, stride in zip(parameter.shape, parameter.stride(), strict=True)):
            raise UserError(f"{name} is an expanded tensor, whose entries share memory: clone it before training")
    try:
        with torch.enable_grad(), unwritten(some := x[:2].clone()):
            logits = model.eval()(some)
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        remedy = " (train model.float())" if "dtype" in reason else ""
        raise UserError(f"the network does not take inputs of shape {tuple(x.shape[1:])}: {reason}{remedy}") from error
    if not isinstance(logits, Tensor) or logits.dim() == 0 or len(logits) != len(x[:2]):
        told = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"the network gives {told} for {len(x[:2])} inputs, expected logits for each of them")
    shape = tuple(logits.shape)
    if shape[1:] != (data.num_classes,):
        named = f"{data.name} has {data.num_classes} classes: build it with num_classes={data.num_classes}"
        raise UserError(f"the network gives outputs of shape {shape[1:]}, but {named}")
    if not logits.requires_grad:
        raise UserError("the network's outputs have no gradient (does it detach them?): there is nothing to train")
    tell_of_probabilities(model, logits)
    tell_of_chance(model, x, logits.detach())


def totals(model: nn.Module, batches: Iterable[Batch], precision: Precision, device: torch.device) -> Tensor:
    """Summed cross-entropy and number of correct predictions, without waiting for the GPU.

    Args:
        model: A network in eval mode.
        batches: Pairs of inputs [b, ...] and labels [b] on the device.
        precision: Precision of the forward pass; the loss is computed in float32.
        device: Device of the batches.

    Returns:
        Summed cross-entropy in nats and number of correct predictions, float64 [2] (float32 on mps), on the device.

    >>> x, y = torch.eye(2), torch.tensor([0, 0])
    >>> cpu = torch.device("cpu")
    >>> totals(nn.Identity(), [(x, y)], Precision("float32", cpu), cpu)
    tensor([1.6265, 1.0000], dtype=torch.float64)
    """
    exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPU has no float64
    total = torch.zeros(2, dtype=exact, device=device)
    with torch.no_grad():
        for x, y in batches:
            with precision.autocast():
                logits = model(x)
            logits = logits.float()
            total[0] += F.cross_entropy(logits, y, reduction="sum")
            total[1] += (logits.argmax(dim=1) == y).sum()
    return total


@contextmanager
def reestimated_statistics(model: nn.Module, batches: Iterable[Batch]) -> Iterator[None]:
    """Within the block, batch-norm uses statistics re-estimated with the current weights; afterwards the running ones.

    Running statistics are averages over earlier steps, when the weights were different. In short runs they lag so far
    behind the weights that measurements in eval mode reflect the lag rather than the network. Here, the mean and the
    (unbiased) variance of every layer are averages over the given examples. Everything except batch-norm stays in eval
    mode, so there is no dropout.

    Args:
        model: A network in eval mode.
        batches: Pairs of inputs and labels on the model's device. Batches of one example, which have no variance, are
            skipped.

    >>> norm = nn.BatchNorm1d(1).eval()
    >>> with reestimated_statistics(norm, [(torch.tensor([[1.0], [3.0]]), None)]):
    ...     norm.running_mean.item(), norm.running_var.item()
    (2.0, 2.0)
    >>> norm.running_mean.item()
    0.0
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.training = True
        seen = 0
        with torch.no_grad():
            for x, _ in batches if norms else ():
                if len(x) > 1:
                    seen += len(x)
                    for norm in norms:  # 1 at the first batch, which replaces the running statistics
                        norm.momentum = len(x) / seen
                    model(x)
        for norm in norms:
            norm.training = False
        _running[model] = kept
        yield
    finally:
        _running.pop(model, None)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
        for buffer, before in kept:
            buffer.copy_(before)


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Within the block, a network inside `reestimated_statistics` uses its running statistics again.

    So a probe can measure with both. Outside of `reestimated_statistics` this changes nothing.

    Args:
        model: The network.

    >>> norm = nn.BatchNorm1d(1).eval()
    >>> with reestimated_statistics(norm, [(torch.tensor([[1.0], [3.0]]), None)]), running_statistics(norm):
    ...     norm.running_mean.item()
    0.0
    """
    kept = _running.get(model, [])
    estimated = [(buffer, buffer.clone()) for buffer, _ in kept]
    try:
        for buffer, before in kept:
            buffer.copy_(before)
        yield
    finally:
        for buffer, value in estimated:
            buffer.copy_(value)


def log_spaced(epochs: int, count: int = 20) -> tuple[int, ...]:
    """Logarithmically spaced epochs at which to call probes: 0, 1, and on to `epochs` in equal ratios, rounded.

    Args:
        epochs: The last epoch, at least 1.
        count: Number of epochs after 0 to space, at least 1; epochs that round to the same number are counted once.

    Returns:
        The epochs in increasing order, at most `count` + 2 of them.

    Raises:
        UserError: `epochs` or `count` is less than 1.

    >>> log_spaced(100, 6)
    (0, 1, 3, 6, 16, 40, 100)
    """
    if epochs < 1 or count < 1:
        raise UserError(f"log_spaced({epochs}, {count}): expected at least one epoch and one probe")
    ratio = epochs ** (1 / max(count - 1, 1))
    spaced = {round(ratio**k) for k in range(count)}
    return tuple(sorted({0, epochs} | spaced))


def evaluated_epochs(config: RunConfig) -> frozenset[int]:
    """The numbers of finished epochs after which a run is evaluated: always at 0, before training, and at the end.

    Args:
        config: The run.

    >>> sorted(evaluated_epochs(RunConfig(experiment="demo", epochs=5, eval_every=2)))
    [0, 2, 4, 5]
    >>> sorted(evaluated_epochs(RunConfig(experiment="demo", epochs=40, eval_schedule="early")))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 23, 32, 40]
    """
    if config.eval_schedule == "regular":
        return frozenset(range(0, config.epochs, config.eval_every)) | {config.epochs}
    doublings = max(0, math.ceil(2 * math.log2(config.epochs / EVERY)))
    spaced = {round(EVERY * 2 ** (k / 2)) for k in range(doublings)}
    return frozenset(epoch for epoch in {*range(EVERY + 1), *spaced} if epoch < config.epochs) | {config.epochs}


def evaluated_steps(config: RunConfig, steps: int) -> frozenset[int]:
    """The steps within the first epoch after which a run is evaluated; empty for the regular schedule.

    Args:
        config: The run.
        steps: Number of steps per epoch.

    >>> sorted(evaluated_steps(RunConfig(experiment="demo", eval_schedule="early"), 63))
    [4, 8, 16, 32]
    """
    if config.eval_schedule == "regular":
        return frozenset()
    return frozenset(step for step in (round(part * steps) for part in EARLY) if 0 < step < steps)


def call_probes(probes: Mapping[str, Probe], model: nn.Module, epoch: float, device: torch.device) -> Row:
    """Call every probe and collect its values under keys ``"<probe>/<key>"``.

    Args:
        probes: Name → function of (model, epoch).
        model: The network, in eval mode.
        epoch: Number of finished epochs, or the finished fraction of the first one.
        device: Device of the model.

    Returns:
        The values: numbers, strings or lists.

    Raises:
        UserError: A probe changed the model or a random generator, or did not return a dict of JSON values.

    >>> probes = {"size": lambda model, epoch: {"norm": torch.tensor(2.0)}}
    >>> call_probes(probes, nn.Linear(1, 1).eval(), 0, torch.device("cpu"))
    {'size/norm': 2.0}
    """
    if not probes:
        return {}
    before = copy.deepcopy(_watched(model, device))
    values: Row = {}
    for name, probe in probes.items():
        found = probe(model, epoch)
        now = _watched(model, device)
        for what, value in before.items():
            if not (torch.equal(value, now[what]) if isinstance(value, Tensor) else value == now[what]):
                raise UserError(f"probe {name!r} {what}")
        for parameter in model.parameters():
            parameter.grad = None
        if not isinstance(found, Mapping):
            raise UserError(f"probe {name!r} returned {type(found).__name__}, expected a dict of numbers")
        values |= {f"{name}/{key}": _plain(value, f"{name}/{key}") for key, value in found.items()}
    return values


def _plain(value: Any, key: str) -> Any:
    """A tensor or array as a number or list; other values unchanged, if they are JSON values."""
    if hasattr(value, "tolist"):  # a tensor or an array
        value = value.tolist()
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise UserError(f"probe value {key!r} is a {type(value).__name__}, expected numbers, text or lists") from None
    return value


def _watched(model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Everything that a probe must not change, by the text of the error about a probe that did."""
    modules, tensors = list(model.modules()), [*model.named_parameters(), *model.named_buffers()]
    drawn = torch.cat(random_state(device))
    outside = {
        "left modules in another mode (call model.eval() last)": [module.training for module in modules],
        "left hooks behind": [len(getattr(module, name)) for module in modules for name in HOOKS],
        "changed the model's parameters or buffers": [(name, tensor.shape) for name, tensor in tensors],
        "left requires_grad changed": [parameter.requires_grad for parameter in model.parameters()],
    }
    return {
        **{f"{what}: a probe must leave the model as it found it": value for what, value in outside.items()},
        **{f"changed {name}: work on a copy (copy.deepcopy) instead": tensor.detach() for name, tensor in tensors},
        "drew from torch's global random generator: give it a torch.Generator of its own": drawn,
    }
