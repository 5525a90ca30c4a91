"""fit(): the one training loop; and how long a run would take, before it starts."""

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

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, batcher
from gendyn_lite.data.batching import SPLITS
from gendyn_lite.threads import keep_freed_memory, threads
from gendyn_lite.train.device import Precision, choose_device, own_generator, repeatable, threads_for
from gendyn_lite.train.distributed import joined
from gendyn_lite.train.history import History, Row
from gendyn_lite.train.probes import Probe, check_network, evaluated_epochs, evaluated_steps, totals
from gendyn_lite.train.run import Options, Run
from gendyn_lite.train.step import Step, make_optimizer

CHECKPOINT_SECONDS = 25.0  # with the step or the evaluation that it waits for, and its writing: half a minute
LONG_STEP, FEW = 0.3, 256  # what an estimate times once on the CPU: seconds of a step, examples of an evaluation


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
    """Train a network by SGD with momentum on the cross-entropy (no label smoothing), as the configuration says.

    The numbers depend on the model, the data and the configuration only: random draws come from a generator seeded by
    ``config.seed``, and the caller's is left as it was. On a CPU they are the same to the bit, also after a resume (a
    small network is trained on one thread; a large one on torch's own number of threads, which must then be the same).

    A row has ``epoch`` (finished ones; 0 is before training; with ``eval_schedule="early"`` also parts of the first),
    ``step`` (taken), ``learning_rate`` (of that epoch), ``train_loss``, ``train_accuracy`` (over the whole training set
    in eval mode, without augmentation), ``test_loss``, ``test_accuracy`` (losses in nats, accuracies in [0, 1]),
    ``seconds`` (of training since the start, evaluations left out, resumed time included) and ``"<probe>/<key>"`` for
    each value of a probe.

    Under ``torchrun`` each process takes its share of every batch: the result is that of one process.

    On one CUDA GPU the training pass is captured in a CUDA graph where that cannot change what it does: networks of
    torch's, torchvision's and this library's modules without hooks. Each step then reuses the memory of its gradients.

    With glibc the process keeps freed memory from here on, for faster steps (`gendyn_lite.threads`).

    Args:
        model: The network; trained in place, moved to the device and left in eval mode.
        data: What `gendyn_lite.data.load_for_run` gives; its training labels are taken as they are.
        config: Everything that changes numbers. Its precision is used on every device.
        probes: Name → function of (model in eval mode, epoch) that returns a dict of numbers, text or lists of them; it
            must leave model and random generators as they were. Called at each evaluated epoch, or at `probe_epochs`.
        grad_hook: Called as ``grad_hook(model, epoch=, step=)`` (both from 1) between backward and optimizer step; may
            change gradients in place. If it has them, ``after_step(model, optimizer)`` and ``epoch_end(model, epoch)``
            are called too, and ``state_dict()``/``load_state_dict()`` (tensors and JSON values) go into checkpoints.
        checkpoint_dir: Folder of checkpoints. If it has one of this run, training goes on from there; the last two are
            kept. None for no checkpoints.
        device: ``"cpu"``, ``"cuda"``, …; by default the GPU if there is one.
        on_epoch: Called with every row, after a resume with the restored ones first.
        progress: Whether to show a progress bar with a time estimate.
        probe_epochs: Epochs at which to call the probes (these are evaluated too); see `log_spaced`.
        checkpoint_seconds: Seconds between two checkpoints, unless an evaluation takes longer; 0 for one after every
            step. The end always has one.
        channels_last: Whether images and convolutions are laid out with channels last (faster on GPUs).

    Returns:
        The rows, restored ones included.

    Raises:
        UserError: The network does not fit the data; a checkpoint is of another run, of a newer version, damaged or a
            pickle; a probe or hook changed what it must not; a device or option is not available.
        DivergedError: The loss is no longer finite (a UserError too).

    >>> from gendyn_lite import data, models
    >>> config = RunConfig(experiment="demo", model_options={"widths": [32]}, epochs=5)
    >>> digits, _ = data.load_for_run(config)
    >>> network = models.build("mlp", num_classes=10, in_shape=digits.in_shape, seed=config.seed, widths=[32])
    >>> history = fit(network, digits, config, device="cpu")
    >>> [row["epoch"] for row in history.rows], history.last["test_accuracy"] > 0.8
    ([0, 1, 2, 3, 4, 5], True)
    """
    check_network(model)
    place = choose_device(device)
    ranks = joined(place)
    probes, folder = dict(probes or {}), None if checkpoint_dir is None else Path(checkpoint_dir)
    when = None if probe_epochs is None else frozenset(probe_epochs)
    options = Options(  # in the order of the arguments above
        probes, grad_hook, folder, place, on_epoch, progress, when, checkpoint_seconds, channels_last
    )
    keep_freed_memory()
    plain = torch.autocast(place.type, enabled=False)  # the configuration's precision, whatever the caller's context is
    with plain, threads(threads_for(model, config)), own_generator(config.seed, place, rank=ranks.rank):
        return Run(model, data, config, options, ranks).train()


def estimate_seconds(
    model: nn.Module, data: ImageData, config: RunConfig, *, device: str | torch.device | None = None, steps: int = 3
) -> float:
    """Seconds that `fit` would take, from a few steps and one evaluation batch on a copy of the model.

    Probes, hooks and checkpoints are not counted. Model, data and random generators are left as they were.

    Args:
        model: The network.
        data: The data.
        config: The configuration.
        device: As for `fit`.
        steps: Steps to time, after one to warm up; on the CPU a single one where they are long.

    Returns:
        Seconds of all epochs and evaluations.

    Raises:
        UserError: The device is not available.

    >>> from gendyn_lite import data, models
    >>> digits, config = data.load("digits"), RunConfig(experiment="demo", epochs=5)
    >>> network = models.build("mlp_1x512", num_classes=10, in_shape=digits.in_shape)
    >>> 0 < estimate_seconds(network, digits, config, device="cpu") < 60
    True
    """
    place = choose_device(device)
    with own_generator(config.seed, place):
        twin = copy.deepcopy(model).to(place)
        training, evaluation, test = (batcher(data, config, split=split, device=place) for split in SPLITS)
        precision = Precision(config.precision, place)
        graph = place.type == "cuda" and repeatable(twin)
        step = Step(twin.train(), make_optimizer(twin.parameters(), config), precision, graph=graph)
        first, *others = islice(training.epoch(1), steps + 1)
        warm = _seconds(lambda: step(*first, epoch=1, step=1), place)
        timed = (others or [first])[: 1 if place.type == "cpu" and warm > LONG_STEP else None]
        a_step = _seconds(lambda: [step(x, y, epoch=1, step=2) for x, y in timed], place) / len(timed)
        twin.eval()
        x, y = (part[:FEW] if place.type == "cpu" else part for part in next(evaluation.epoch(0)))
        an_example = _seconds(lambda: totals(twin, [(x, y)], precision, place), place) / len(y)
    examples = training.num_examples + test.num_examples
    evaluated = (len(evaluated_epochs(config)) + len(evaluated_steps(config, len(training)))) * examples
    return config.epochs * len(training) * a_step + evaluated * an_example


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes on a device, whatever it was given before left out, and on a GPU its first time.

    That is when a pass is captured and kernels are loaded, which takes as long as thousands of small steps.
    """
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    if device.type == "cuda":
        work()
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started
