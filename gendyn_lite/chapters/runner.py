"""Load or run: a complete run is loaded, an interrupted one resumed, an absent one trained, by one process or many."""

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
Plan = Callable[..., list[RunConfig]]  # of a chapter, as is the function that does one of its runs
RunOne = Callable[..., Run]


def load_or_run(
    config: RunConfig,
    *,
    profile: str,
    root: Root = None,
    data_root: Root = None,
    probe_version: int = 1,
    prepare: Callable[[ImageData], Mapping[str, Any]] | None = None,
) -> Run:
    """The complete run of a configuration: loaded if it is there, else trained (or resumed) and recorded.

    Under torchrun all processes train it together, and the first one records it.

    Args:
        config: What to train, on which data.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``; recorded with the run, no part of its key.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        probe_version: Version of what the probes measure; the configuration must name it.
        prepare: Gives options of `gendyn_lite.train.fit` by name: ``probes`` (measurements at each evaluated epoch),
            ``grad_hook`` (what changes gradients; the configuration must say so). Called with the run's data, and only
            if it has to be trained.

    Returns:
        The run, complete.

    Raises:
        UserError: The data, the network or a setting does not exist, before anything is trained.
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
        if ranks.broadcast(writer is None):  # another process has completed it meanwhile
            return run
        started = time.perf_counter()
        options |= {"checkpoint_dir": run.checkpoints, "device": device, "on_epoch": writer.write if writer else None}
        history = train.fit(network, loaded, config, **options)
        if writer:
            several = {"processes": ranks.world} if ranks.world > 1 else {}
            seconds = round(time.perf_counter() - started, 2)
            writer.finish(wall_seconds=seconds, resumed_at=history.resumed_at, **several)
            checkpoint.discard(run.checkpoints)
    ranks.broadcast(True)  # nobody leaves before the run is complete
    return run


def run_all(configs: Sequence[RunConfig], *, profile: str, root: Root = None) -> list[Run]:
    """The complete runs of many configurations; those of a few seconds are trained together, which takes a fraction.

    The data and the network of every kind of run are checked before the first run starts. Arguments as for
    `load_or_run`.
    """
    kinds = checked(configs)

    def quick(config: RunConfig) -> bool:
        return config.mask_keep == 1 and kinds[kind_of(config)].size * config.epochs < QUICK_RUN

    together = list(filter(quick, configs))
    done = iter(_train_together(together, profile=profile, root=root))
    runs = []
    with Progress(len(configs), enabled=True, label=f"{profile} runs", unit="run") as bar:
        for config in configs:
            runs.append(next(done) if quick(config) else load_or_run(config, profile=profile, root=root))
            bar.advance()
    return runs


def kind_of(config: RunConfig) -> tuple[Any, ...]:
    """What decides whether data and network of a run fit."""
    return config.dataset, config.train_size, config.test_size, config.model, canonical(config.model_options)


class Kind(NamedTuple):
    """Runs of one network on one data set.

    Attributes:
        fingerprint: Of the data.
        size: Parameters times training examples.
    """

    fingerprint: str
    size: int


def checked(configs: Iterable[RunConfig], *, data_root: Root = None) -> dict[tuple[Any, ...], Kind]:
    """Each kind of some runs, by `kind_of`, after its data have been loaded and its network built.

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
    """The complete runs of some configurations in their order, each done by a chapter's `run` with these options."""
    configs, runs = list(configs), list[Run]()
    with Progress(len(configs), enabled=True, label=f"{options['profile']} runs", unit="run") as bar:
        for config in configs:
            runs.append(run(config, **options))
            bar.advance()
    return runs


def check_version(config: RunConfig, probe_version: int) -> None:
    """Refuse a run whose probes measure something else than its configuration says."""
    if config.probe_version != probe_version:
        told = f"probe_version is {config.probe_version}, but the probes of {config.experiment} are version"
        raise UserError(f"{told} {probe_version}: plan the run with probe_version={probe_version}")


def of_kind(
    plan: Plan, run: RunOne, kind: str, profile: str = "smoke", *, root: Root = None, **options: Any
) -> list[Run]:
    """The complete runs of one kind that a chapter plans: its `plan` with the options, then its `run` for each."""
    return one_by_one(run, plan(kind, profile, **options), profile=profile, root=root)


def _train_together(configs: Sequence[RunConfig], *, profile: str, root: Root) -> list[Run]:
    """The complete runs of some configurations: those absent trained as batched networks, on one thread.

    Each is complete as soon as it is trained, so that whoever is stopped meanwhile loses those alone that were not.
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
    """The network of a configuration for some data, with weights seeded by the configuration.

    >>> build(RunConfig(experiment="demo", model="mlp_1x512"), data.load("digits"))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    in_shape = data.batcher(loaded, config, split="test").in_shape
    return models.build(
        config.model, num_classes=loaded.num_classes, in_shape=in_shape, seed=config.seed, **config.model_options
    )


def trained(config: RunConfig, loaded: ImageData, network: nn.Module | None = None, **options: Any) -> nn.Module:
    """The trained network of a configuration, recorded nowhere: what a page looks at. On the CPU, with one thread.

    Args:
        config: A training of seconds.
        loaded: Its data, labels as trained with.
        network: Its network, where something holds it before it is trained.
        **options: Of `gendyn_lite.train.fit`: probes, a gradient hook.

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
    """All inputs of a split as the network takes them, without augmentation, and their labels.

    Args:
        config: Crop and standardization are those of its training.
        loaded: Its data, labels as trained with.
        split: ``"train_eval"`` or ``"test"``.

    Returns:
        x [n, *in_shape] and y [n].

    >>> x, y = inputs(RunConfig(experiment="demo"), data.load("digits"))
    >>> x.shape[1:], len(x) == len(y)
    (torch.Size([1, 8, 8]), True)
    """
    return data.batcher(loaded, config, split=split).whole()


def provenance(config: RunConfig, loaded: ImageData, profile: str, device: torch.device) -> dict[str, Any]:
    """What env.json records of a run before it starts."""
    sizes = {"n_train": len(loaded.train.y), "n_test": len(loaded.test.y), "num_classes": loaded.num_classes}
    marks = {"criteria": registry.criteria(config.experiment), "data": loaded.description}
    return environment(profile=profile, device=device_name(device), threads=torch.get_num_threads(), **marks, **sizes)


def run_distributed(config: RunConfig, *, hook: Callable[..., Any] | None = None) -> Run:
    """The complete run of a configuration on a whole ImageNet, by this process or by all that torchrun started.

    Args:
        config: The run.
        hook: Makes its gradient hook of configuration, data and device.

    Returns:
        The run, with top-5 accuracies at its end.
    """
    device = choose_device(None)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        at_the_end = {"probes": {"top5": top5(loaded, config, device)}, "probe_epochs": [config.epochs]}
        return {**at_the_end, "grad_hook": hook and hook(config, loaded, device)}

    return load_or_run(config, profile="full", prepare=prepare)


def top5(loaded: ImageData, config: RunConfig, device: torch.device) -> Callable[[nn.Module, int], dict[str, float]]:
    """A probe: the share of training and of test images whose label is among the five largest outputs."""
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
