"""fit() trains a network; estimate_seconds() says beforehand how long that would take."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, batcher
from gendyn_lite.data.batching import SPLITS
from gendyn_lite.errors import UserError
from gendyn_lite.threads import keep_freed_memory, threads
from gendyn_lite.train.device import Precision, choose_device, own_generator, repeatable, threads_for
from gendyn_lite.train.distributed import joined
from gendyn_lite.train.history import History, Row
from gendyn_lite.train.probes import Probe, evaluated_epochs, evaluated_steps, totals
from gendyn_lite.train.run import Options, Run
from gendyn_lite.train.step import Step, make_optimizer

# Together with the step or evaluation that has to end first, and with the writing, at most about half a minute.
CHECKPOINT_SECONDS = 25.0
# Of an estimate on the CPU: a step of more seconds is timed only once; examples of the evaluation that is timed.
LONG_STEP, FEW = 0.3, 256


def fit(
    model: nn.Module,
    data: ImageData,
    config: RunConfig,
    *,
    probes: Mapping[str, Probe] | None = None,
    grad_hook: Callable[..., Any] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    on_epoch: Callable[[Row], Any] | None = None,
    progress: bool = False,
    probe_epochs: Iterable[int] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    channels_last: bool = False,
) -> History:
    """Train a network with SGD and momentum on the cross-entropy (without label smoothing).

    The result depends only on the model, the data and the configuration. Random numbers come from generators seeded by
    ``config.seed``; the states of the caller's generators are restored. On a CPU the result is bit-identical, also
    after a resume. (A small network is trained on one thread, a large one on torch's current number of threads, which
    then has to be the same.)

    The keys of a row are ``epoch`` (number of finished epochs; 0 is before training; with ``eval_schedule="early"``
    also fractions of the first), ``step`` (number of steps taken), ``learning_rate`` (of that epoch), ``train_loss``
    and ``train_accuracy`` (over the whole training set, in eval mode and without augmentation), ``test_loss`` and
    ``test_accuracy``, ``seconds`` (of training since the start, including those before a resume, without evaluations),
    and ``"<probe>/<key>"`` for each value of a probe. Losses are in nats, accuracies in [0, 1].

    Under ``torchrun`` each process computes a share of every batch; the result is that of one process.

    On a single CUDA GPU the training pass is captured as a CUDA graph if that cannot change the result, that is, for
    networks without hooks made of modules of torch, torchvision and this library. Each step then overwrites the
    gradients of the one before.

    With glibc, the process keeps freed memory from now on, which makes steps faster: see `gendyn_lite.threads`.

    Args:
        model: The network; trained in place, moved to the device and left in eval mode.
        data: As returned by `gendyn_lite.data.load_for_run`; its training labels are used as they are.
        config: All settings that change the result. Its precision is used on every device.
        probes: Name → function of (model in eval mode, epoch) that returns a dict of numbers, strings or lists of them.
            It must not change the model or torch's global generators. Called at every evaluation, or at `probe_epochs`.
        grad_hook: Called as ``grad_hook(model, epoch=, step=)``, both counted from 1, between the backward pass and the
            optimizer step; may change gradients in place. If it has ``after_step(model, optimizer)`` or
            ``epoch_end(model, epoch)``, these are called too. If it has ``state_dict()`` and ``load_state_dict()``,
            its state (tensors and JSON values) is part of checkpoints.
        checkpoint_dir: Folder of checkpoints; the last two are kept. If it holds one of this run, training resumes from
            it. None for no checkpoints.
        device: ``"cpu"``, ``"cuda"``, …; by default the GPU if there is one.
        on_epoch: Called with every row; after a resume, first with the rows before it.
        progress: Whether to show a progress bar with a time estimate.
        probe_epochs: Epochs at which to call the probes; the network is evaluated at these too. See `log_spaced`.
        checkpoint_seconds: Seconds between two checkpoints, unless an evaluation takes longer; 0 for one after every
            step. One is always written at the end.
        channels_last: Whether images and convolutions use the channels-last memory layout (faster on GPUs).

    Returns:
        The rows, including those from before a resume.

    Raises:
        UserError: The network does not fit the data; a checkpoint is damaged, a pickle, of another run or of a newer
            version; a probe or the hook changed what it must not; a device or an option is not available.
        DivergedError: The loss is not finite (a UserError too).

    >>> from gendyn_lite import data, models
    >>> config = RunConfig(experiment="demo", model_options={"widths": [32]}, epochs=5)
    >>> digits, _ = data.load_for_run(config)
    >>> network = models.build("mlp", num_classes=10, in_shape=digits.in_shape, seed=config.seed, widths=[32])
    >>> history = fit(network, digits, config, device="cpu")
    >>> [row["epoch"] for row in history.rows], history.last["test_accuracy"] > 0.8
    ([0, 1, 2, 3, 4, 5], True)
    """
    _check_network(model)
    chosen = choose_device(device)
    ranks = joined(chosen)
    probes, folder = dict(probes or {}), None if checkpoint_dir is None else Path(checkpoint_dir)
    when = None if probe_epochs is None else frozenset(probe_epochs)
    options = Options(  # in the order of the arguments above
        probes, grad_hook, folder, chosen, on_epoch, progress, when, checkpoint_seconds, channels_last
    )
    keep_freed_memory()
    plain = torch.autocast(chosen.type, enabled=False)  # a caller's autocast must not change the precision
    with plain, threads(threads_for(model, config)), own_generator(config.seed, chosen, rank=ranks.rank):
        return Run(model, data, config, options, ranks).train()


def estimate_seconds(
    model: nn.Module, data: ImageData, config: RunConfig, *, device: str | torch.device | None = None, steps: int = 3
) -> float:
    """Estimate how long `fit` would take by timing a few steps and one evaluation batch on a copy of the model.

    Probes, hooks and checkpoints are not included. Model, data and random generators stay unchanged.

    Args:
        model: The network.
        data: The data.
        config: The configuration.
        device: As for `fit`.
        steps: Number of steps to time after one to warm up; on the CPU only one is timed if steps are slow.

    Returns:
        The estimated seconds of all epochs and evaluations.

    Raises:
        UserError: The device is not available.

    >>> from gendyn_lite import data, models
    >>> digits, config = data.load("digits"), RunConfig(experiment="demo", epochs=5)
    >>> network = models.build("mlp_1x512", num_classes=10, in_shape=digits.in_shape)
    >>> 0 < estimate_seconds(network, digits, config, device="cpu") < 60
    True
    """
    chosen = choose_device(device)
    with own_generator(config.seed, chosen):
        twin = copy.deepcopy(model).to(chosen)
        training, evaluation, test = (batcher(data, config, split=split, device=chosen) for split in SPLITS)
        precision = Precision(config.precision, chosen)
        graph = chosen.type == "cuda" and repeatable(twin)
        step = Step(twin.train(), make_optimizer(twin.parameters(), config), precision, graph=graph)
        first, *others = islice(training.epoch(1), steps + 1)
        warm = _seconds(lambda: step(*first, epoch=1, step=1), chosen)
        timed = (others or [first])[: 1 if chosen.type == "cpu" and warm > LONG_STEP else None]
        a_step = _seconds(lambda: [step(x, y, epoch=1, step=2) for x, y in timed], chosen) / len(timed)
        twin.eval()
        x, y = (part[:FEW] if chosen.type == "cpu" else part for part in next(evaluation.epoch(0)))
        an_example = _seconds(lambda: totals(twin, [(x, y)], precision, chosen), chosen) / len(y)
    examples = training.num_examples + test.num_examples
    evaluated = (len(evaluated_epochs(config)) + len(evaluated_steps(config, len(training)))) * examples
    return config.epochs * len(training) * a_step + evaluated * an_example


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time some work on a device, without what was queued there before.

    On a GPU the work is done once beforehand without timing it: the first time, kernels are loaded and the pass is
    captured, which takes as long as thousands of small steps.
    """
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    if device.type == "cuda":
        work()
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def _check_network(model: nn.Module) -> None:
    """Refuse what is not a module, has no weights yet, or gives sparse gradients, which the optimizer does not take.

    >>> _check_network(nn.Embedding(2, 3, sparse=True))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: '' (Embedding) gives sparse gradients, which SGD does not take here: make it ...
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the network is a {type(model).__name__}, expected a torch.nn.Module")
    for name, module in model.named_modules():
        told = f"{name!r} ({type(module).__name__})"
        if any(is_lazy(value) for value in module.parameters(recurse=False)):
            raise UserError(f"{told} has no weights yet: run the network on an example first")
        if any(value.is_meta for value in module.parameters(recurse=False)):
            raise UserError(f"{told} has no weights (device meta): give it some first, model.to_empty(device=...)")
        if any(value.is_inference() for value in module.parameters(recurse=False)):
            raise UserError(f"{told} was made under torch.inference_mode, and would not learn: make it outside of it")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            raise UserError(f"{told} gives sparse gradients, which SGD does not take here: make it with sparse=False")
