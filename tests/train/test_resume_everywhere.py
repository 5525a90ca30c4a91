"""Every family of networks, layout and way of training, stopped at random steps: equal to the bit on a CPU."""

from __future__ import annotations

import random
import zlib
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from gendyn_lite import data, models
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.fisher_mask import runs as fisher_mask
from gendyn_lite.chapters.generalization_intervals import runs as generalization_intervals
from gendyn_lite.chapters.path_functions import runs as path_functions
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.stiffness import runs as stiffness
from gendyn_lite.config import RunConfig
from gendyn_lite.measures.fisher import GradientMask
from gendyn_lite.train import checkpoint, fit
from gendyn_lite.train.run import Run
from gendyn_lite.train.step import Step, make_optimizer
from tests.train.conftest import Stop, needs_gpu, plain, same, weights

LAYOUTS = {"contiguous": False, "channels_last": True}
# Networks, with the side of the images that they need.
FAMILIES = {
    "mlp_1x512": ({}, 8),
    "alexnet_small": ({}, 8),
    "inception_small": ({}, 8),
    "inception_small dropout": ({"dropout": 0.5}, 8),
    "inception_small plain": ({"batch_norm": False}, 8),
    "resnet18": ({}, 8),
    "vgg19": ({}, 32),
    "vgg19 plain": ({"batch_norm": False}, 32),
    "resnet18_imagenet": ({}, 32),
    "resnet50": ({}, 32),
}
WAYS = {
    "momentum": {},
    "no momentum": {"momentum": 0.0},
    "weight decay": {"weight_decay": 0.01},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "augmented": {"random_crop": 1, "flip": True},
    "mask": {"mask_keep": 0.5},
    "split": {},
    "re-estimated": {"batch_norm_statistics": "re-estimated"},
}
BATCH_NORM = ("inception_small", "inception_small dropout", "resnet18", "vgg19", "resnet18_imagenet", "resnet50")
COLOUR = ("resnet18_imagenet", "resnet50")  # networks that take three channels
QUICK = ("mlp_1x512", "alexnet_small", "inception_small dropout")


def cases():
    """Every family, layout and way that go together; of `make test` those of small networks."""
    minutes = pytest.mark.minutes("every network resumed in every way")
    for family in FAMILIES:
        for layout in LAYOUTS:
            for way in WAYS:
                norm = family in BATCH_NORM
                if (way == "split" and norm) or (way == "re-estimated" and not norm):
                    continue
                if family == "mlp_1x512" and layout == "channels_last":
                    continue
                quick = family in QUICK and (way in ("momentum", "mask", "split") or family == "alexnet_small")
                quick |= (family, layout, way) == ("resnet18", "channels_last", "momentum")
                yield pytest.param(family, layout, way, id=f"{family}-{layout}-{way}", marks=() if quick else minutes)


@pytest.fixture
def stops(monkeypatch):
    """Steps after which a run is interrupted, in order: with a checkpoint of that step, before the next."""
    steps: list[int] = []
    whole = Step.__call__

    def step_or_stop(self, x, y, *, epoch, step):
        if steps and step == steps[0] + 1:
            del steps[0]
            raise Stop
        return whole(self, x, y, epoch=epoch, step=step)

    monkeypatch.setattr(Step, "__call__", step_or_stop)

    def due(run, *, ahead=0.0):
        return bool(run.options.checkpoint_dir and steps and run.place.step == steps[0])

    monkeypatch.setattr(Run, "_save_is_due", due)
    return steps


def until_done(stops, train):
    """Call `train` again after each interruption; the steps at which it was interrupted."""
    planned = list(stops)
    while True:
        try:
            return train(), planned
        except Stop:
            continue


def drawn(name: str, steps: int, count: int = 2) -> list[int]:
    """Random steps of a run, the same for the same name."""
    return sorted(random.Random(zlib.crc32(name.encode())).sample(range(1, steps), count))


def setting(family: str, way: str) -> tuple[RunConfig, data.ImageData]:
    options, side = FAMILIES[family]
    name = family.split(maxsplit=1)[0]
    config = RunConfig(
        experiment="test", model=name, model_options=options, label_corruption=0.5, train_size=20, test_size=10,
        epochs=3, batch_size=8, learning_rate=0.01, seed=5,
    ).replace(**WAYS[way])  # fmt: skip
    digits, _ = data.load_for_run(config)
    if side != 8:
        times, colours = side // 8, 3 if name in COLOUR else 1
        large = [
            part._replace(x=part.x.repeat(1, colours, 1, 1).repeat_interleave(times, 2).repeat_interleave(times, 3))
            for part in (digits.train, digits.test)
        ]
        digits = replace(digits, train=large[0], test=large[1])
    return config, digits


def trained(config, digits, *, channels_last, device="cpu", folder=None, **options):
    network = models.build(config.model, num_classes=10, in_shape=digits.in_shape, seed=5, **config.model_options)
    hook = None
    if config.mask_keep < 1:
        x = next(iter(data.batcher(digits, config, split="train_eval", device=device).epoch(0)))
        hook = GradientMask(config.mask_keep, x, seed=config.seed)
    history = fit(
        network, digits, config, device=device, channels_last=channels_last, checkpoint_dir=folder, grad_hook=hook,
        **options,
    )  # fmt: skip
    return history, weights(network)


@pytest.mark.parametrize(("family", "layout", "way"), list(cases()))
def test_to_the_bit(family, layout, way, stops, tmp_path, monkeypatch):
    config, digits = setting(family, way)
    if way == "split":
        whole_batch = Step._backward

        def small_batch(step, x, y, share=1.0):
            if len(y) == config.batch_size:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return whole_batch(step, x, y, share)

        monkeypatch.setattr(Step, "_backward", small_batch)
    options = {"channels_last": LAYOUTS[layout]}
    with pytest.warns(UserWarning, match="out of memory") if way == "split" else nullcontext():
        expected, at_once = trained(config, digits, **options)
        stops += drawn(f"{family} {layout} {way}", 9)
        (found, resumed), planned = until_done(stops, lambda: trained(config, digits, folder=tmp_path, **options))
    assert found.resumed_at == planned
    assert same(resumed, at_once)
    assert plain(found.rows) == plain(expected.rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_momentum_lies_in_memory_as_its_weights(layout, stops, tmp_path):
    """What the fused step asks of it; to the bit, it would also be equal where the kernel copes with two layouts."""
    config, digits = setting("alexnet_small", "momentum")
    stops += [4]
    with pytest.raises(Stop):
        trained(config, digits, channels_last=LAYOUTS[layout], folder=tmp_path)
    network = models.build("alexnet_small", num_classes=10, in_shape=digits.in_shape, seed=5)
    if LAYOUTS[layout]:
        network.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network.parameters(), config)
    checkpoint.unpack(checkpoint.newest(tmp_path), network, optimizer, None, rank=0)
    momenta = [(p, optimizer.state[p]["momentum_buffer"]) for p in network.parameters()]
    assert all(momentum.stride() == parameter.stride() for parameter, momentum in momenta)
    assert any(not momentum.is_contiguous() for _, momentum in momenta) == LAYOUTS[layout]


# Of each chapter: its run function, its plan at the size that has convolutional networks, and what is changed.
CHAPTERS = {
    "random_labels": (runner.load_or_run, random_labels.plan("colab", dataset="cifar10"), {"center_crop": None}),
    "fisher_mask": (fisher_mask.run, fisher_mask.plan("colab", network="resnet18"), {"mask_keep": 0.5}),
    "path_functions": (path_functions.run, path_functions.plan("networks"), {"milestones": (1,)}),
    "stiffness": (stiffness.run, stiffness.plan("deep"), {}),
    "generalization_intervals": (  # whose measure takes minutes of a convolutional network
        generalization_intervals.run,
        generalization_intervals.plan("full", dataset="mnist"),
        {"center_crop": None, "probe_version": generalization_intervals.PROBE_VERSION["smoke"], "model": "mlp"},
    ),
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_through_the_runner_that_chapters_use(chapter, stops, tmp_path):
    run, configs, changes = CHAPTERS[chapter]
    small = {"dataset": "digits", "model": "alexnet_small", "model_options": {}, "train_size": 40, "test_size": 20}
    small |= {"epochs": 2, "batch_size": 8, "eval_every": 1}
    config = next(config for config in configs if not config.model.startswith("mlp")).replace(**small | changes)
    expected = run(config, profile="smoke", root=tmp_path / "whole")
    stops += drawn(chapter, 10)
    found, planned = until_done(stops, lambda: run(config, profile="smoke", root=tmp_path / "stopped"))
    assert plain(found.rows()) == plain(expected.rows())
    assert found.env()["resumed_at"] == planned
    assert expected.env()["resumed_at"] == []
    assert sorted(path.name for path in found.path.iterdir()) == [
        "complete.json", "config.json", "env.json", "metrics.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("way", ["momentum", "mask", "bfloat16", "augmented"])
@pytest.mark.parametrize("family", ["alexnet_small", "inception_small dropout", "resnet18"])
@pytest.mark.parametrize("layout", LAYOUTS)
class TestGPU:
    """On a GPU sums may come in another order: a resumed run is as near to a whole one as two whole ones are."""

    pytestmark = needs_gpu

    def test_as_near_as_another_whole_run(self, family, layout, way, graph, stops, tmp_path, monkeypatch):
        if not graph:
            monkeypatch.setattr("gendyn_lite.train.run.repeatable", lambda model: False)
        config, digits = setting(family, way)
        options = {"channels_last": LAYOUTS[layout], "device": "cuda"}
        (_, one), (_, other) = trained(config, digits, **options), trained(config, digits, **options)
        stops += drawn(f"{family} {layout} {way}", 9)
        (_, resumed), _ = until_done(stops, lambda: trained(config, digits, folder=tmp_path, **options))
        for name, value in one.items():
            noise = (value.double() - other[name].double()).abs().max()
            distance = (value.double() - resumed[name].double()).abs().max()
            assert distance <= 10 * noise + 1e-5 * value.double().abs().max() + 1e-7, name
