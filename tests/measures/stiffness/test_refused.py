"""What stiffness and its averages refuse, each in one line."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite.measures import stiffness
from gendyn_lite.measures.per_example import checks
from tests.measures.networks import Centred, Net, check_refused, refused
from tests.measures.stiffness.test_stiffness import problem


def net(*layers):
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 3)).double()


def in_place(s, x):
    x = x.clone()
    return s.first(x)[:, :3] + s.out(torch.relu_(x))


# It reads the examples of a batch as the steps of one sequence.
IN_TIME = Net(lambda s, x: s.rnn(x[:, None])[0][:, 0], rnn=nn.RNN(4, 3)).double()
IN_PLACE = Net(in_place, first=nn.Linear(4, 4), out=nn.Linear(4, 3)).double()
NET, X, Y = problem(6)
X4, Y4 = torch.linspace(-1, 1, 12).view(3, 4), torch.tensor([0, 1, 2])
NAN, INFINITE = torch.full((2, 2), math.nan), X.clone().index_fill_(0, torch.tensor([4]), torch.inf)
BATCH_NORM = nn.BatchNorm1d(6, track_running_stats=False)
NO_GROUP = nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, (3, 1))).double()
NETWORKS_REFUSED = {
    "batch-norm": (net(nn.BatchNorm1d(6)), r"'1' \(BatchNorm1d\) is in train mode.*call model.eval\(\)"),
    "batch-norm-of-the-batch": (net(BATCH_NORM).eval(), "keeps no running statistics"),
    "dropout": (net(nn.Dropout(0.5)), r"'1' \(Dropout\) is in train mode and draws at random"),
    "frozen": (net().requires_grad_(False), "no parameter that requires a gradient"),
    "in-place": (IN_PLACE, "layer 'first': its input was changed in place"),
    "no-logits": (NO_GROUP, "logits of shape"),
    "mixed": (Centred(4, 3).double(), "the network mixes the examples of a batch"),
    "mixed-in-time": (IN_TIME, "the network mixes the examples of a batch"),
    "inference": (torch.inference_mode()(net)(), "the network was made under torch.inference_mode"),
}
EXAMPLES_REFUSED = {
    "one-example": (X[:1], Y[:1], {}, "x has 1 example, expected at least 2"),
    "no-example": (X[:0], Y[:0], {}, "x has 0 examples, expected at least 2"),
    "labels-missing": (X, Y[:2], {}, "x has 6 examples and y 2"),
    "label-too-large": (X, torch.full((6,), 3), {}, "labels span 3 to 3, expected 0 to 2"),
    "label-negative": (X, torch.full((6,), -1), {}, "labels span -1 to -1, expected 0 to 2"),
    "label-type": (X, torch.zeros(6), {}, r"labels are float32 \[6\], expected int64 \[n\]"),
    "precision": (X.float(), Y, {}, "x is float32 and the network float64"),
    "bytes": (torch.zeros(6, 4, dtype=torch.uint8), Y, {}, "x is uint8: standardize"),
    "device": (X.to("meta"), Y, {}, "x is on meta and the network on cpu: move one of them"),
    "infinite": (INFINITE, Y, {}, "gradient of example 4 is not"),
    "group": (X, Y, {"groups": {"all": ["00"]}}, "unknown layer '00': did you mean"),
    "loss": (X, Y, {"loss": F.cross_entropy}, r"the loss has shape \(\), expected one value for each of 6 examples"),
}


@pytest.mark.parametrize(("model", "message"), NETWORKS_REFUSED.values(), ids=NETWORKS_REFUSED)
@pytest.mark.parametrize("measure", [stiffness.gradient_gram, stiffness.squared_norms])
def test_a_network_without_gradients_of_its_own_is_refused_and_left_as_it_was(model, message, measure):
    needed = [value.requires_grad for value in model.parameters()]
    check_refused(measure, message, model, X, Y)
    assert [value.requires_grad for value in model.parameters()] == needed
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


test_bad_examples_are_refused = refused(
    {
        name: (stiffness.gradient_gram, (NET, x, y), options, message)
        for name, (x, y, options, message) in EXAMPLES_REFUSED.items()
    }
)


def test_a_matrix_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 10**6)
    x, y = X.repeat(1000, 1), Y.repeat(1000)
    message = "2 Gram matrices of 6,000 by 6,000 examples takes 1.2 GB, 1.0 MB are free on cpu: take fewer examples"
    check_refused(stiffness.gradient_gram, message, NET, x, y, per_layer=True)


@pytest.mark.parametrize(("scale", "message"), [(1e-22, "too small for float32"), (1e19, "is beyond float32")])
def test_gradients_beyond_float32_are_refused(scale, message):
    torch.manual_seed(0)
    check_refused(stiffness.gradient_gram, message, nn.Linear(4, 3, bias=False), scale * X4, Y4)


ONES = {(n, m): torch.ones(n, m) for n in (1, 2, 3) for m in (1, 2, 3)}
MATRICES_REFUSED = {
    "cosine-of-a-part": (stiffness.cosine, (ONES[2, 3],), {}, r"the Gram matrix is \[2, 3\], expected \[n, n\]"),
    "cosine-of-layers": (stiffness.cosine, ({"fc1": ONES[2, 2]},), {}, "expected a matrix; of a dict"),
    "cosine-of-nan": (stiffness.cosine, (NAN,), {}, "gram has values that are not finite"),
    "sign-of-nan": (stiffness.sign, (NAN,), {}, "gram has values that are not finite"),
    "average": (stiffness.average, (ONES[2, 3],), {}, r"stiffness has shape \(2, 3\), expected \[n, n\]"),
    "pairs": (stiffness.average, (ONES[2, 2], ONES[3, 3].bool()), {}, r"pairs has shape \(3, 3\)"),
    "resamples": (stiffness.average, (ONES[3, 3],), {"resamples": -1}, "resamples is -1, expected a whole number"),
    "many-resamples": (stiffness.average, (ONES[3, 3],), {"resamples": 10**12}, "a bootstrap of 1,.* takes .* GB"),
    "by-pair": (stiffness.by_pair, (ONES[2, 2], Y[:3]), {}, "3 and 3 labels for a matrix"),
    "class": (stiffness.by_class, (ONES[3, 3], Y[:3]), {"num_classes": 2}, r"labels are \[0, 1, 2\], expected .* to 1"),
    "class-count": (stiffness.by_class, (ONES[3, 3], Y[:2]), {"num_classes": 2}, "2 and 2 labels for a matrix"),
    "distance": (stiffness.pair_distances, (X,), {"kind": "euclid"}, "unknown distance 'euclid': did you mean"),
    "distance-nan": (stiffness.by_distance, (ONES[2, 2], NAN), {"bins": 1}, "a distance is NaN"),
    "bins": (stiffness.by_distance, (ONES[2, 2], ONES[2, 2]), {"bins": 2}, "bins is 2, expected .* from 1 to 1, the"),
    "no-pairs": (stiffness.by_distance, (ONES[1, 1], ONES[1, 1]), {}, "no pair of different examples"),
    "shapes": (stiffness.critical_length, (ONES[2, 2], ONES[3, 3]), {}, r"expected \[n, n\] both"),
}


test_bad_matrices_are_refused = refused(MATRICES_REFUSED)


STEPS_REFUSED = [
    ({"eps": 0}, "eps is 0, expected a step size above 0"),
    ({"eps": "a"}, "eps is 'a', expected"),
    ({"examples": []}, "examples is empty"),
    ({"examples": [0.5]}, "example is 0.5, expected a whole number from 0 to 11"),
    ({"examples": [12]}, "example is 12, expected a whole number from 0 to 11"),
]
MAPS_REFUSED = [
    ({"resolution": 2.5}, "resolution is 2.5, expected a whole number"),
    ({"resolution": 10**6}, "a map of 1,000,000 by 1,000,000 points with each other takes .* GB"),
    ({"radius": 0.1, "resolution": 5}, "radius is 0.1, expected at least 0.25"),
    ({"high": (0, 1)}, "the grid from .* is empty"),
]


@pytest.mark.parametrize(("options", "message"), STEPS_REFUSED)
def test_bad_steps_are_refused(options, message):
    check_refused(stiffness.loss_change, message, *problem(), **{"examples": [0], "eps": 1, **options})


@pytest.mark.parametrize(("options", "message"), MAPS_REFUSED)
def test_bad_maps_are_refused(options, message):
    grid = {"low": (0, 0), "high": (1, 1), "radius": 1, **options}
    check_refused(stiffness.neighbourhood_map, message, nn.Linear(2, 2), **grid)
