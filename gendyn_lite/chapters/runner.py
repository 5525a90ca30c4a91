"""Load or run: load a complete run, resume an interrupted one, or train a missing one, in one or several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite import data, models, train
from gendyn_lite.chapters import registry
from gendyn_lite.config import RunConfig, canonical
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import Run, environment, open_run, writing
from gendyn_lite.threads import threads
from gendyn_lite.train import checkpoint
from gendyn_lite.train.device import choose_device, device_name
from gendyn_lite.train.distributed import joined
from gendyn_lite.train.history import History, Progress

QUICK_RUN = 10**11  # parameters × examples × epochs of a run of a few seconds
Root = str | Path | None
Plan = Callable[..., list[RunConfig]]  # a chapter's `plan`
RunOne = Callable[..., Run]  # a chapter's `run`


def load_or_run(
    config: RunConfig,
    *,
    profile: str,
    root: Root = None,
    data_root: Root = None,
    probe_version: int = 1,
    prepare: Callable[[ImageData], Mapping[str, Any]] | None = None,
) -> Run:
    """Return the complete run of a configuration: loaded if it exists, else trained (or resumed) and recorded.

    Under torchrun all processes train together, and the first one records the run.

    Args:
        config: The network, the data and how to train.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``; recorded with the run but not part of its key.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        probe_version: Version of what the probes measure; the configuration must have the same one.
        prepare: Returns options for `gendyn_lite.train.fit`: ``probes`` (measurements at each evaluated epoch) and
            ``grad_hook`` (changes gradients; only for configurations with a mask). It is called with the run's data,
            and only if the run has to be trained.

    Returns:
        The complete run.

    Raises:
        UserError: The data set, the network or a setting does not exist; raised before anything is trained.
    """
    device = choose_device(None)
    loaded, _ = data.load_for_run(config, root=data_root)
    ranks = joined(device)
    run = open_run(config, loaded.fingerprint, root=root)
    if ranks.broadcast(run.complete):
        return run
    check_version(config, probe_version)
    options = dict(prepare(loaded)) if prepare else {}
    hook = options.get("grad_hook")
    if (config.mask_keep < 1) != (hook is not None):
        told = f"mask_keep is {config.mask_keep:g} and there is {'a' if hook else 'no'} gradient hook"
        raise UserError(f"{told}: chapters.fisher_mask.runs runs configurations with a mask")
    network = build(config, loaded)
    options["channels_last"] = any(isinstance(module, nn.Conv2d) for module in network.modules())
    with threads(train.threads_for(network, config)), ExitStack() as stack:
        writer = stack.enter_context(writing(run, provenance(config, loaded, profile, device))) if ranks.first else None
        if ranks.broadcast(writer is None):  # another process has completed the run in the meantime
            return run
        started = time.perf_counter()
        options |= {"checkpoint_dir": run.checkpoints, "device": device, "on_epoch": writer.write if writer else None}
        history = train.fit(network, loaded, config, **options)
        if writer:
            several = {"processes": ranks.world} if ranks.world > 1 else {}
            seconds = round(time.perf_counter() - started, 2)
            writer.finish(wall_seconds=seconds, resumed_at=history.resumed_at, **several)
            checkpoint.discard(run.checkpoints)
    ranks.broadcast(True)  # all processes wait until the run is complete
    return run


def run_all(configs: Sequence[RunConfig], *, profile: str, root: Root = None) -> list[Run]:
    """Return the complete runs of many configurations; short runs are trained together, which is several times faster.

    All data sets and networks are checked before the first run starts. Arguments as for `load_or_run`.
    """
    kinds = checked(configs)

    def quick(config: RunConfig) -> bool:
        return config.mask_keep == 1 and kinds[kind_of(config)].size * config.epochs < QUICK_RUN

    done = iter(_train_together(list(filter(quick, configs)), profile=profile, root=root))

    def run(config: RunConfig, **options: Any) -> Run:
        return next(done) if quick(config) else load_or_run(config, **options)

    return one_by_one(run, configs, profile=profile, root=root)


def kind_of(config: RunConfig) -> tuple[Any, ...]:
    """Return the settings that decide whether the data and the network of a run exist and fit each other."""
    return config.dataset, config.train_size, config.test_size, config.model, canonical(config.model_options)


class Kind(NamedTuple):
    """Runs of one network on one data set.

    Attributes:
        fingerprint: Fingerprint of the data.
        size: Number of parameters times number of training examples.
    """

    fingerprint: str
    size: int


def checked(configs: Iterable[RunConfig], *, data_root: Root = None) -> dict[tuple[Any, ...], Kind]:
    """Load the data and build the network of every kind of run, and return the kinds by `kind_of`.

    Raises:
        UserError: A data set is not prepared, or a network does not exist or does not fit.
    """
    found: dict[tuple[Any, ...], Kind] = {}
    for config in configs:
        if (kind := kind_of(config)) not in found:
            loaded, _ = data.load_for_run(config, root=data_root)
            size = models.parameter_count(build(config, loaded)) * len(loaded.train.y)
            found[kind] = Kind(loaded.fingerprint, size)
    return found


def one_by_one(run: RunOne, configs: Iterable[RunConfig], **options: Any) -> list[Run]:
    """Return the complete runs of configurations, in order; each is done by a chapter's `run` with these options."""
    configs, runs = list(configs), list[Run]()
    with Progress(len(configs), enabled=True, label=f"{options['profile']} runs", unit="run") as bar:
        for config in configs:
            runs.append(run(config, **options))
            bar.advance()
    return runs


def check_version(config: RunConfig, probe_version: int) -> None:
    """Refuse a configuration whose `probe_version` is not the version of the chapter's probes."""
    if config.probe_version != probe_version:
        told = f"probe_version is {config.probe_version}, but the probes of {config.experiment} are version"
        raise UserError(f"{told} {probe_version}: plan the run with probe_version={probe_version}")


def of_kind(
    plan: Plan, run: RunOne, kind: str, profile: str = "smoke", *, root: Root = None, **options: Any
) -> list[Run]:
    """Return the complete runs of one kind: a chapter's `plan` with these options, then its `run` for each."""
    return one_by_one(run, plan(kind, profile, **options), profile=profile, root=root)


def _train_together(configs: Sequence[RunConfig], *, profile: str, root: Root) -> list[Run]:
    """Return the complete runs of configurations; missing ones are trained as one batch of networks, on one thread.

    Each run is recorded as soon as it is trained, so that stopping early loses only the unfinished ones.
    """
    device = choose_device(None)
    loaded = [data.load_for_run(config)[0] for config in configs]
    runs = [open_run(config, each.fingerprint, root=root) for config, each in zip(configs, loaded, strict=True)]
    absent = {run.path: (run, each) for run, each in zip(runs, loaded, strict=True) if not run.complete}
    with ExitStack() as stack, threads(1):
        # Locks are taken in one order, so that two processes cannot wait for each other.
        opened = [
            (stack.enter_context(writing(run, provenance(run.config, each, profile, device))), each, run.config)
            for _, (run, each) in sorted(absent.items())
        ]
        ours = [(writer, each, config) for writer, each, config in opened if writer is not None]
        if ours:
            writers, sets, wanted = (list(column) for column in zip(*ours, strict=True))

            def finish(number: int, history: History) -> None:
                seconds = round(history.last["seconds"], 2)
                writers[number].finish(wall_seconds=seconds, trained_together=len(ours))

            options = {"on_epoch": lambda number, row: writers[number].write(row), "on_end": finish, "progress": True}
            train.fit_many(list(map(build, wanted, sets)), sets, wanted, device=device, **options)
    return runs


def build(config: RunConfig, loaded: ImageData) -> nn.Module:
    """Build the network of a configuration for a data set, with weights seeded by the configuration.

    >>> build(RunConfig(experiment="demo", model="mlp_1x512"), data.load("digits"))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    in_shape = data.batcher(loaded, config, split="test").in_shape
    return models.build(
        config.model, num_classes=loaded.num_classes, in_shape=in_shape, seed=config.seed, **config.model_options
    )


def trained(config: RunConfig, loaded: ImageData, network: nn.Module | None = None, **options: Any) -> nn.Module:
    """Train a network for a page, on the CPU with one thread; the run is not recorded.

    Args:
        config: The settings of a training that takes seconds.
        loaded: Its data, with the labels to train with.
        network: The untrained network, if the caller needs to hold it before training; else it is built.
        **options: Options for `gendyn_lite.train.fit`: probes, a gradient hook.

    Returns:
        The network, in eval mode.

    >>> trained(RunConfig(experiment="demo", model="mlp_1x512", epochs=1), data.load("digits", train_size=20)).training
    False
    """
    network = network or build(config, loaded)
    with threads(1):
        train.fit(network, loaded, config, device="cpu", **options)
    return network


def inputs(config: RunConfig, loaded: ImageData, split: str = "train_eval") -> tuple[Tensor, Tensor]:
    """Return all inputs of a split, preprocessed for the network but not augmented, and their labels.

    Args:
        config: The run, for its crop and standardization.
        loaded: Its data, with the labels that it trains with.
        split: ``"train_eval"`` or ``"test"``.

    Returns:
        x [n, *in_shape] and y [n].

    >>> x, y = inputs(RunConfig(experiment="demo"), data.load("digits"))
    >>> x.shape[1:], len(x) == len(y)
    (torch.Size([1, 8, 8]), True)
    """
    return data.batcher(loaded, config, split=split).whole()


def provenance(config: RunConfig, loaded: ImageData, profile: str, device: torch.device) -> dict[str, Any]:
    """Return what env.json records about a run before it starts."""
    sizes = {"n_train": len(loaded.train.y), "n_test": len(loaded.test.y), "num_classes": loaded.num_classes}
    marks = {"criteria": registry.criteria(config.experiment), "data": loaded.description}
    return environment(profile=profile, device=device_name(device), threads=torch.get_num_threads(), **marks, **sizes)


def run_distributed(config: RunConfig, *, hook: Callable[..., Any] | None = None) -> Run:
    """Return the complete run of a configuration on all of ImageNet, by this process or by all that torchrun started.

    Args:
        config: The run.
        hook: ``hook(config, data, device)`` makes its gradient hook.

    Returns:
        The run, with top-5 accuracies at its last epoch.
    """
    device = choose_device(None)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        at_the_end = {"probes": {"top5": top5(loaded, config, device)}, "probe_epochs": [config.epochs]}
        return {**at_the_end, "grad_hook": hook and hook(config, loaded, device)}

    return load_or_run(config, profile="full", prepare=prepare)


def top5(loaded: ImageData, config: RunConfig, device: torch.device) -> Callable[[nn.Module, int], dict[str, float]]:
    """Make a probe of top-5 accuracy: the share of images whose label is among the five largest outputs."""
    most = min(5, loaded.num_classes)

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        found = {}
        for name, split in (("train", "train_eval"), ("test", "test")):
            batches = data.batcher(loaded, config, split=split, device=device)
            with torch.no_grad():
                hits = [(model(x).topk(most).indices == y[:, None]).any(1) for x, y in batches.epoch(0)]
            found[f"{name}_accuracy"] = float(torch.cat(hits).double().mean())
        return found

    return probe
