"""Every network: exact counts, shapes, seeds, what can be hooked, and what is refused."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.models import INITIALIZATIONS, build, names, parameter_count
from gendyn_lite.models.build import ACTIVATIONS
from gendyn_lite.models.cifar import ResponseNorm
from tests.measures.networks import refused

# name, options, in_shape, classes, parameters, source of the count
COUNTS = [
    ("mlp_1x512", {}, (3, 28, 28), 10, 1_209_866),  # Zhang et al. 2017, table 1
    ("mlp_3x512", {}, (3, 28, 28), 10, 1_735_178),
    ("alexnet_small", {}, (3, 28, 28), 10, 1_387_786),
    ("alexnet_small", {"more_convolutions": 2}, (3, 28, 28), 10, 1_387_786 + 2 * (9 * 64 * 64 + 64)),
    ("inception_small", {}, (3, 28, 28), 10, 1_649_402),
    ("inception_small", {"batch_norm": False}, (3, 28, 28), 10, 1_649_402),
    ("mlp", {"widths": []}, (2,), 2, 6),
    ("mlp", {"widths": [128, 128, 128], "activation": "tanh"}, (1, 28, 28), 10, 134_794),
    ("resnet18", {}, (3, 32, 32), 10, 11_173_962),
    ("vgg19", {}, (3, 32, 32), 10, 20_040_522),
    ("vgg19", {"batch_norm": False}, (3, 32, 32), 10, 20_029_514),
    ("resnet18_imagenet", {}, (3, 64, 64), 1000, 11_689_512),  # torchvision's documentation
    ("resnet50", {}, (3, 64, 64), 1000, 25_557_032),
    ("alexnet", {}, (3, 64, 64), 1000, 61_100_840),
    ("inception_v3", {}, (3, 96, 96), 1000, 23_834_568),  # 27,161,264 less the auxiliary head's 3,326,696
]
RELUS = {"mlp": 1, "mlp_1x512": 1, "mlp_3x512": 3, "alexnet_small": 4, "inception_small": 19, "resnet18": 17}
RELUS |= {"vgg19": 16, "resnet18_imagenet": 17, "resnet50": 49, "alexnet": 7, "inception_v3": 94}
SMALLEST = {"alexnet_small": 4, "inception_small": 4, "resnet18": 8, "vgg19": 32}
SMALLEST |= {"resnet18_imagenet": 32, "resnet50": 32, "alexnet": 63, "inception_v3": 75}
FOUNDATION = ("mlp", "mlp_1x512", "mlp_3x512", "alexnet_small", "inception_small")


@cache
def large(name: str) -> nn.Module:
    """Each network once, at a size that all of them take."""
    return build(name, num_classes=4, in_shape=(3, 96, 96), seed=0).eval()


def label(value: object) -> str | None:
    return "-".join(f"{k}={v}" for k, v in value.items()) or "plain" if isinstance(value, dict) else None


@pytest.mark.parametrize(("name", "options", "in_shape", "classes", "count"), COUNTS, ids=label)
def test_count_and_output_shape(name, options, in_shape, classes, count):
    network = build(name, num_classes=classes, in_shape=in_shape, seed=0, **options)
    assert parameter_count(network) == count
    assert network.training
    with torch.no_grad():
        assert network.eval()(torch.randn(1, *in_shape)).shape == (1, classes)


def test_every_network_has_a_count():
    assert {row[0] for row in COUNTS} == set(names())


@pytest.mark.parametrize("in_shape", [(1, 8, 8), (1, 5, 9)], ids=str)
@pytest.mark.parametrize("name", FOUNDATION)
def test_foundation_takes_every_image_size(name, in_shape):
    assert build(name, num_classes=7, in_shape=in_shape, seed=0)(torch.randn(3, *in_shape)).shape == (3, 7)


@pytest.mark.parametrize(("name", "side"), SMALLEST.items(), ids=str)
def test_smallest_side_works_and_one_less_is_refused(name, side):
    network = build(name, num_classes=4, in_shape=(3, side, side), seed=0).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, side, side)).shape == (1, 4)
    with pytest.raises(UserError, match=rf"too small for {name}: .*at least {side}x{side}"):
        build(name, num_classes=4, in_shape=(3, side, side - 1))


@pytest.mark.parametrize("name", [*FOUNDATION, "resnet18", "resnet18_imagenet"])
def test_seed_fixes_weights_and_leaves_the_generator_alone(name):
    shape = (3, 64, 64)
    state = torch.get_rng_state()
    one, again, other = (build(name, num_classes=3, in_shape=shape, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(one.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_without_a_seed_the_global_generator_is_used():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = build("mlp", num_classes=3, in_shape=(4,))
    again = build("mlp", num_classes=3, in_shape=(4,), seed=1)
    assert torch.equal(one.get_submodule("fc1").weight, again.get_submodule("fc1").weight)


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_a_downsampling_network_is_that_of_averaged_images(name):
    network = build(name, num_classes=3, in_shape=(1, 17, 16), seed=0, downsample=2).eval()
    rest = build(name, num_classes=3, in_shape=(1, 8, 8), seed=0).eval()
    x = torch.randn(2, 1, 17, 16)
    means = x[:, :, :16].unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    assert torch.allclose(network(x), rest(means), atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_each_relu_pool_and_flatten_is_a_module_called_once_and_out_of_place(name):
    """What the measures rely on: nothing is functional, as the number of ReLUs shows."""
    network, calls, saved = large(name), Counter(), []

    def record(module, inputs, output):
        calls[module] += 1
        saved.extend((tensor, tensor._version) for tensor in (*inputs, output))

    handles = [module.register_forward_hook(record) for module in network.modules() if not list(module.children())]
    with torch.no_grad():
        network(torch.randn(1, 3, 96, 96))
    for handle in handles:
        handle.remove()
    assert set(calls.values()) == {1}
    assert all(tensor._version == version for tensor, version in saved)
    assert sum(isinstance(module, nn.ReLU) for module in calls) == RELUS[name]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_activations(activation):
    network = build("mlp", num_classes=2, in_shape=(2,), widths=(3, 4), activation=activation)
    kind = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}[activation]
    assert [type(m) for m in network] == [nn.Flatten, nn.Linear, kind, nn.Linear, kind, nn.Linear]


@pytest.mark.parametrize("name", ["resnet18_imagenet", "resnet50", "inception_v3", "alexnet"])
def test_same_function_as_torchvision(name):
    import torchvision

    network = large(name)
    options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    twin = getattr(torchvision.models, name.removesuffix("_imagenet"))(weights=None, num_classes=4, **options)
    twin.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(network(x), twin.eval()(x))


def test_places_after_each_downsampling_of_inception():
    network = build("inception_small", num_classes=10, in_shape=(3, 28, 28), seed=0).eval()
    found = [network[:at](torch.randn(1, 3, 28, 28)).shape[1:] for at in (4, 9, 11)]
    assert found == [(160, 14, 14), (240, 7, 7), (336, 7, 7)]
    assert all(bool((norm.weight == 1).all()) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))


def test_dropout_acts_in_train_mode_only():
    network, x = build("inception_small", num_classes=10, in_shape=(1, 8, 8), dropout=0.5), torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


SPREADS = {  # standard deviation of the 512x2352 matrix of mlp_1x512
    "torch": 1 / (3 * 2352) ** 0.5,
    "he_normal": (2 / 2352) ** 0.5,
    "glorot_uniform": (2 / (2352 + 512)) ** 0.5,
}


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_standard_deviation_and_biases(init):
    network = build("mlp_1x512", num_classes=10, in_shape=(3, 28, 28), seed=0, init=init)
    layer = network.get_submodule("fc1")
    assert layer.weight.std().item() == pytest.approx(SPREADS[init], rel=0.01)
    assert bool((layer.bias == 0).all()) == (init != "torch")


REFUSED = [
    ({"name": "alexnet_smal"}, "unknown network 'alexnet_smal': did you mean 'alexnet_small'"),
    ({"name": "mlp", "width": [3]}, "unknown option of mlp 'width': did you mean 'widths'"),
    ({"name": "resnet18", "dropout": 0.1}, "unknown option of resnet18 'dropout': Valid: downsample, init"),
    ({"name": "mlp", "widths": [3, 0]}, r"widths is \[3, 0\], expected positive whole numbers"),
    ({"name": "mlp", "widths": 3}, "widths is 3, expected"),
    ({"name": "mlp", "activation": "rellu"}, "unknown activation 'rellu': did you mean 'relu'"),
    ({"name": "mlp", "init": "he_norm"}, "unknown init 'he_norm': did you mean 'he_normal'"),
    ({"name": "mlp", "num_classes": 1}, "num_classes is 1, expected"),
    ({"name": "mlp", "num_classes": True}, "num_classes is True, expected"),
    ({"name": "mlp", "in_shape": (3, 0)}, r"in_shape is \(3, 0\), expected"),
    ({"name": "mlp", "in_shape": 784}, "in_shape is 784, expected"),
    ({"name": "alexnet_small", "in_shape": (2,)}, r"in_shape is \(2,\), but alexnet_small takes images"),
    ({"name": "inception_small", "batch_norm": "yes"}, "batch_norm is 'yes', expected True or False"),
    ({"name": "inception_small", "dropout": 1.0}, r"dropout is 1.0, expected a number in \[0, 1\)"),
    ({"name": "resnet50", "in_shape": (1, 64, 64)}, "resnet50 takes colour images"),
    ({"name": "mlp", "downsample": 0}, "downsample is 0, expected a positive whole number"),
    ({"name": "mlp", "downsample": 2, "in_shape": (5,)}, r"downsample is 2, expected .* images \(C, H, W\)"),
    ({"name": "mlp", "downsample": 33}, "downsample is 33, expected at most the side of the images"),
    ({"name": "resnet18", "downsample": 0.5}, "downsample is 0.5, expected a positive whole number"),
    (
        {"name": "alexnet_small", "more_convolutions": -1},
        "more_convolutions is -1, expected a whole number of at least 0",
    ),
    ({"name": "resnet18", "downsample": 5}, r"in_shape \(3, 6, 6\) is too small for resnet18"),
]
GIVEN = {"num_classes": 10, "in_shape": (3, 32, 32)}
test_what_is_refused = refused({row[1][:40]: (build, (), GIVEN | row[0], row[1]) for row in REFUSED})


def test_response_norm_is_that_of_torch():
    """Values and gradients, also where fewer channels than its window are there."""
    for channels in (3, 64):
        x = torch.randn(2, channels, 5, 4, dtype=torch.float64).mul_(30).requires_grad_()
        upstream = torch.randn_like(x)
        found, expected = (
            (layer(x), *torch.autograd.grad(layer(x), x, upstream))
            for layer in (ResponseNorm(channels).double(), nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0))
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
