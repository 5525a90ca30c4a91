"""Networks and losses that people bring: every measure gives the right answer or refuses, by kind of trouble."""

from __future__ import annotations

import random
import re
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from gendyn_lite.errors import UserError
from gendyn_lite.measures import complexity
from gendyn_lite.measures.fisher import diagonal, influence
from gendyn_lite.measures.intervals import generalization_interval
from gendyn_lite.measures.per_example import passes
from gendyn_lite.measures.per_example.rowwise import RowWise
from gendyn_lite.measures.relu_paths import record_paths
from gendyn_lite.measures.stiffness import gradient_gram, squared_norms
from tests.measures import naive
from tests.measures.networks import Net, check_refused

X = torch.linspace(-2, 2, 96).view(12, 8).sin().double()
Y = torch.arange(12) % 3
LONE = passes._lone


def net(*layers):
    return nn.Sequential(nn.Linear(8, 6), *layers, nn.ReLU(), nn.Linear(6, 3)).double().eval()


def spectral():
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 6)), nn.ReLU(), nn.Linear(6, 3)).double().train()


def noisy(function):
    return Net(
        lambda s, x: s.out(function(torch.relu(s.first(x)))), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
    ).double()


class Counted(nn.Linear):
    """A layer that counts the examples that it has seen."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen.add_(len(x))
        return super().forward(x) * self.seen


RANDOM = "the network draws at random when it is run|dropout in .* is in train mode"
MOVES = r"the network changes its buffer '0.weight_u' when it"
NETWORKS = {
    "functional dropout": (noisy(lambda h: F.dropout(h, 0.5, True)), RANDOM),
    "noise": (noisy(lambda h: h + torch.randn_like(h)), RANDOM),
    "a layer left out by chance": (noisy(lambda h: h * (torch.rand(()) > 0.5)), RANDOM),
    "by Python's chance": (noisy(lambda h: h if random.random() < 0.5 else 2 * h), RANDOM),
    "a mask drawn by torch": (noisy(lambda h: h.bernoulli(0.5) * h), RANDOM),
    "a buffer that counts": (
        nn.Sequential(Counted(8, 6), nn.ReLU(), nn.Linear(6, 3)).double(),
        "changes its buffer '0.seen'",
    ),
    "by NumPy's chance": (noisy(lambda h: h * np.random.rand()), RANDOM),
    "spectral norm in train mode": (spectral(), MOVES),
}
MEASURES = {
    "gram": lambda model: gradient_gram(model, X, Y),
    "diagonal": lambda model: diagonal(model, X, Y),
    "true diagonal": lambda model: diagonal(model, X, kind="true"),
    "influence": lambda model: influence(model, X[:2], Y[:2], X, eps=1e-3),
    "paths": lambda model: record_paths(model, X),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_an_output_of_its_own_is_refused(name, measure):
    model, said = NETWORKS[name]
    check_refused(MEASURES[measure], said, model)


TARGETS = torch.linspace(0, 1, 12).double()
ONE_OUTPUT = "the network has one output, whose softmax is 1"
TOKENS = torch.arange(48).view(12, 4) % 7
PAIR = Net(lambda s, x: (s.out(x), x), out=nn.Linear(8, 3)).double()


def squares(outputs, targets):
    return ((outputs.flatten() - targets) ** 2).double()


def tokens(function):
    return Net(lambda s, x: s.out(function(s.words(x).sum(1))), words=nn.Embedding(7, 6), out=nn.Linear(6, 3)).double()


class Kept(nn.Linear):
    """A layer that keeps what it computes of its weights in eval mode, as the attention of LeViT keeps its biases."""

    cache = None

    def train(self, mode=True):
        self.cache = None
        return super().train(mode)

    def forward(self, x):
        self.cache = {} if self.training or self.cache is None else self.cache
        return x @ self.cache.setdefault("weight", self.weight.exp()).T + self.bias


def compiled_in_place():
    model = net()
    model.compile(backend="eager")
    return model


CHANGED_X = Net(lambda s, x: s.out(x.sub_(1)), out=nn.Linear(8, 3)).double()
KEPT = nn.Sequential(Kept(8, 6), nn.Linear(6, 3)).double().eval()
DETACHED = nn.Sequential(net(), Net(lambda s, x: x.detach()))
ONE = nn.Linear(8, 1).double()
REFUSED = {
    "an input in place": (lambda: gradient_gram(CHANGED_X, X.clone(), Y), "changes its input in place"),
    "an input in place, margin": (lambda: complexity.margin(CHANGED_X, X.clone(), Y), "changes its input in place"),
    "weights with a kept result": (lambda: gradient_gram(KEPT, X, Y), r"'0' \(Kept\) keeps 'cache', computed of"),
    "kept weights that move": (lambda: complexity.sharpness(KEPT, X, Y), r"'0' \(Kept\) keeps 'cache', computed of"),
    "no weight in the loss": (lambda: squared_norms(DETACHED, X, Y), "depends on none of the weights"),
    "compiled in place": (lambda: gradient_gram(compiled_in_place(), X, Y), r"its compile\(\)\): measure copy"),
    "no forward": (lambda: complexity.margin(net(), X[:, :5], Y), r"does not take examples \[5\]: mat1 and mat2"),
    "no backward": (lambda: gradient_gram(noisy(lambda h: h.exp().add_(1)), X, Y), "has no backward pass: one of the"),
    "the loss broadcasts": (
        lambda: gradient_gram(ONE, X, TARGETS, loss=lambda o, t: ((o - t) ** 2).mean(1)),
        r"the loss of example \d+ is .* among others and .* alone: it mixes examples \(do shapes broadcast",
    ),
    "the loss is centred": (
        lambda: diagonal(net(), X, Y, loss=lambda o, t: F.cross_entropy(o - o.mean(0), t, reduction="none")),
        r"the loss of example \d+ is .* it mixes examples",
    ),
    "one output, true": (lambda: diagonal(ONE, X, kind="true"), ONE_OUTPUT),
    "one output, drawn": (lambda: diagonal(ONE, X, kind="monte_carlo"), ONE_OUTPUT),
    "one output, cross-entropy": (lambda: gradient_gram(ONE, X, Y * 0), ONE_OUTPUT),
    "one output, influence": (lambda: influence(ONE, X, Y * 0, X, eps=1e-3, loss=squares), ONE_OUTPUT),
    "one output of several": (lambda: gradient_gram(net(), X, Y * 0, output=lambda o: o[:, :1]), ONE_OUTPUT),
    "one output without an axis": (
        lambda: diagonal(net(), X, Y * 0, output=lambda o: o[:, 0]),
        r"logits of shape \(12,\), expected \[n, classes\]",
    ),
    "the first depends on the last": (
        lambda: gradient_gram(noisy(lambda h: h - 1e-6 * h[-1:]), X, Y),
        "the network mixes the examples of a batch",
    ),
    "tokens are mixed": (
        lambda: diagonal(tokens(lambda h: h - h.mean(0)), TOKENS, Y),
        "among others and .* alone: the network mixes the examples of a batch",
    ),
    "tokens, the last alone": (
        lambda: gradient_gram(tokens(lambda h: h + h.flip(0)), TOKENS, Y),
        "the network mixes the examples of a batch",
    ),
    "NaN beside logits": (
        lambda: record_paths(Net(lambda s, x: {"logits": s.out(s.on(x))}, on=nn.ReLU(), out=nn.Linear(8, 3)).double(),
                             X.log()),
        "the network gives NaN for image 0",
    ),
    "a tuple": (lambda: gradient_gram(PAIR, X, Y), "gives tuple for 12 examples, .* output=lambda out: out"),
    "a tuple on lines": (lambda: generalization_interval(PAIR, X, X.flip(0)), "of a tuple or dict by output="),
    "wrapped": (lambda: record_paths(nn.DataParallel(net()), X), r"wrapped in DataParallel: .* model\.module"),
    "a compiled part": (
        lambda: generalization_interval(nn.Sequential(torch.compile(net()[0]), net()[1:]), X, X.flip(0)),
        r"'0' in the network is compiled .* model\.0\._orig_mod",
    ),
    "no weights": (lambda: gradient_gram(net().to("meta"), X, Y), r"has no weights \(device meta\)"),
    "arrays": (lambda: gradient_gram(net(), X.numpy(), Y), r"x is a ndarray, expected a tensor: torch.as_tensor\(x\)"),
    "a list": (lambda: gradient_gram(net(), X, Y.tolist()), r"y is a list, expected a tensor: torch.as_tensor\(y\)"),
    "compiled": (lambda: gradient_gram(torch.compile(net()), X, Y), r"is compiled .*: measure the one inside, model"),
    "a gate used twice in some batches": (
        lambda: record_paths(
            Net(lambda s, x: s.on(s.on(x) - 1) if x.sum() > 0 else s.on(x), on=nn.ReLU()),
            torch.cat([X.abs(), -X.abs()]), batch_size=12,
        ),
        "gate 'on#2' is used 1 times in 2 batches",
    ),
    "infinity less infinity": (
        lambda: record_paths(net(), X.clone().index_fill_(0, torch.tensor([3]), torch.inf)),
        "the network gives NaN for image 3",
    ),
    "the batch's largest value": (
        lambda: diagonal(noisy(lambda h: h / h.amax()), X, Y), "the network mixes the examples of a batch"
    ),
    "a batch of one size": (
        lambda: gradient_gram(noisy(lambda h: h.view(12, 6)), X, Y),
        r"does not take one example of shape \(8,\) \(float64\) by itself: shape '\[12, 6\]' is invalid",
    ),
    "examples of another shape": (
        lambda: influence(net(), X, Y, X[:, :5], eps=1e-3), r"does not take one example of shape \(5,\).*mat1 and mat2"
    ),
    "no network": (lambda: gradient_gram(torch.relu, X, Y), r"network is a builtin.*, expected a torch.nn.Module"),
    "no network for paths": (lambda: record_paths([net()], X), "network is a list, expected a torch.nn.Module"),
    "output gives nothing": (lambda: gradient_gram(PAIR, X, Y, output=lambda out: None), "does it lack a return"),
    "a mask of no parameter": (
        lambda: influence(net(), X, Y, X, eps=1e-3, masks={"weight": X}), "unknown parameter of masks= 'weight'"
    ),
    "a mask of another shape": (
        lambda: influence(net(), X, Y, X, eps=1e-3, masks={"0.weight": X}), r"masks\['0.weight'\] has shape \[12, 8\]"
    ),
    "a loss that counts": (
        lambda: gradient_gram(net(), X, Y, loss=lambda o, t: o.argmax(1) != t), "loss is bool, which has no gradient"
    ),
    "a loss that is a number": (lambda: gradient_gram(net(), X, Y, loss=lambda o, t: 1.0), "the loss has shape float"),
    "targets of NaN": (
        lambda: gradient_gram(net(), X, TARGETS * torch.nan, loss=lambda o, t: ((o - t[:, None]) ** 2).sum(1)),
        "the gradient of example 0 and 11 more is not finite",
    ),
    **{f"groups, {said}": (lambda given=given: gradient_gram(net(), X, Y, **given), said) for said, given in {
        "groups is a list, expected a dict alone": {"groups": ["0"]},
        "groups is empty, expected a dict alone": {"groups": {}},
        "groups is given with per_layer=True, expected a dict alone": {"groups": {"a": "0"}, "per_layer": True},
        r"group 'b' is \[\], expected names of layers, at least one": {"groups": {"a": ["0"], "b": []}},
        "group 'a' is None, expected names of layers": {"groups": {"a": None}},
        "unknown layer '0.weight': ": {"groups": {"a": ["0.weight"]}},
        "group 'a' is .*, at least one and none twice": {"groups": {"a": ["0", "2", "0"]}},
    }.items()},
    "examples as a sequence": (
        lambda: gradient_gram(Net(lambda s, x: s.memory(x)[0], memory=nn.GRU(8, 3)).double(), X, Y),
        "the network mixes the examples of a batch",
    ),
    "a gate of some batches": (
        lambda: record_paths(
            Net(lambda s, x: s.late(s.early(x)) if x.sum() > 0 else s.early(x), early=nn.ReLU(), late=nn.ReLU()),
            torch.cat([X.abs(), -X.abs()]), batch_size=12,
        ),
        "gate 'late' is used 1 times in 2 batches, so that its rows are not the images'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_silently_wrong_is_refused(case):
    check_refused(*REFUSED[case])


OWN, OTHER = torch.Generator().manual_seed(0), np.random.default_rng(0)


class Calls(nn.Module):
    """Another network at each call, by what no generator and no buffer tells of."""

    def __init__(self):
        super().__init__()
        self.first, self.out, self.calls = nn.Linear(8, 6), nn.Linear(6, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.out(self.first(x).relu() * (1 + 0.1 * self.calls))


UNSEEN = {  # what no derivative shows, no generator and no buffer
    "a generator of its own": noisy(lambda h: h + torch.randn(6, generator=OWN, dtype=torch.float64)),
    "a generator of NumPy's of its own": noisy(lambda h: h * OTHER.uniform(0.5, 1.5)),
    "a count of calls": Calls().double(),
    "places in the batch": noisy(lambda h: h * (torch.arange(len(h)) < 2)[:, None]),
    "how many there are": noisy(lambda h: h * (1 + 0.1 * (len(h) > 5))),
    "the batch's largest value, detached": noisy(lambda h: h / h.amax().detach()),
    "the place among others by size": noisy(lambda h: h * (1 + h.sum(1).argsort().argsort()[:, None].double())),
}


@pytest.mark.parametrize("measure", ["gram", "diagonal", "true diagonal", "influence"])
@pytest.mark.parametrize("name", UNSEEN)
def test_an_output_that_is_another_one_alone_is_refused(name, measure):
    check_refused(MEASURES[measure], "alone: the network mixes|alone than among others", UNSEEN[name])


@pytest.mark.parametrize("name", [*UNSEEN, *(name for name, (_, said) in NETWORKS.items() if said == RANDOM)])
def test_an_interval_of_a_network_without_an_output_of_its_own_is_refused(name):
    model = UNSEEN.get(name) or NETWORKS[name][0]
    said = f"{RANDOM}|alone than among others"
    check_refused(lambda: generalization_interval(model, X, X.flip(0)), said)


def test_paths_of_a_network_that_mixes_examples_are_refused():
    mix = nn.MultiheadAttention(8, 2)
    model = Net(lambda s, x: s.out(s.mix(x, x, x)[0].relu()), mix=mix, out=nn.Linear(8, 3)).double()
    check_refused(lambda: record_paths(model, X), "alone than among others")


def test_a_loss_that_takes_the_hardest_examples_alone_is_refused_wherever_they_are():
    def hardest(o, t):
        each = F.cross_entropy(o, t, reduction="none")
        return each * (each >= each.sort().values[-2 if len(t) > 1 else -1])

    x, y = torch.cat([3 * X[:1], X[:3], -3 * X[:1]]), torch.tensor([1, 0, 0, 0, 1])
    model, order = net(), F.cross_entropy
    each = order(model(x), y, reduction="none").argsort()
    swapped = each[[4, 0, 1, 2, 3]]  # the two hardest first and last
    check_refused(lambda: diagonal(model, x[swapped], y[swapped], loss=hardest), r"it mixes examples")


def test_one_output_without_an_axis_is_measured_with_a_loss():
    model = Net(lambda s, x: s.out(s.first(x).relu()).squeeze(1), first=nn.Linear(8, 6), out=nn.Linear(6, 1)).double()
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, TARGETS, squares)])
    torch.testing.assert_close(gradient_gram(model, X, TARGETS, loss=squares), rows @ rows.T, rtol=1e-9, atol=1e-12)


def test_an_influence_without_forward_derivatives_is_refused():
    wn = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    model = nn.Sequential(wn, nn.ReLU(), nn.Linear(6, 3)).double()
    check_refused(
        MEASURES["influence"], r"an operation of the network has none \(torch's own, a parametrization, ", model
    )
    pruned = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    check_refused(MEASURES["influence"], r"'0' \(Linear\) holds a tensor that was computed, .* prune.remove", pruned)


class Doubled(nn.Linear):
    """A layer that computes as its base does, and is called otherwise."""

    def __call__(self, x):
        return 2 * super().__call__(x).sin()


def scaled():
    model = net()
    model[0].forward = lambda x: F.linear(x, model[0].weight, model[0].bias) * x.abs().sum(1, keepdim=True)
    return model


def hooked():
    model = net()
    model[0].register_forward_hook(lambda module, given, out: torch.relu(out - 0.3))
    return model


NAMED = Net(
    lambda s, x: s.out(torch.sub(s.first(x), other=F.relu(s.first(x)))), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
)
GIVEN = Net(
    lambda s, x: s.out(F.linear(input=torch.relu(x), weight=s.first.weight)), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
)


def added(s, x):
    h = s.mid(s.first(x).relu())
    h.add_(h.relu())
    return s.out(h.relu())


BY_DATA = Net(
    lambda s, x: s.out(s.first(x).relu() * (x.abs().sum(1, keepdim=True) > 6)),
    first=nn.Linear(8, 6),
    out=nn.Linear(6, 3),
)
CALLED = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
CALLED[0].register_forward_pre_hook(lambda module, given: (given[0].sin(),))
MODELS = {
    "forward": scaled(),
    "call": nn.Sequential(Doubled(8, 6), nn.ReLU(), nn.Linear(6, 3)),
    "hook": hooked(),
    "hook before": CALLED,
    "other=": NAMED,
    "input=": GIVEN,
    "a comparison": BY_DATA,
    "a staircase": Net(
        lambda s, x: s.out(torch.div(s.first(x), 0.3, rounding_mode="trunc")),
        first=nn.Linear(8, 6), out=nn.Linear(6, 3),
    ),
    "a factor by name": Net(
        lambda s, x: s.out(torch.mul(s.first(x).relu(), other=-2)), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
    ),
    "a sum in place whose result is not taken": Net(added, **{
        name: nn.Linear(*sizes) for name, sizes in (("first", (8, 6)), ("mid", (6, 6)), ("out", (6, 3)))
    }),
    "a border of infinity": nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 6, 1), Net(lambda s, x: F.pad(x, (0, 1, 0, 1), value=-torch.inf)),
        nn.MaxPool2d(2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", [model.double() for model in MODELS.values()], ids=list(MODELS))
def test_an_interval_of_a_network_that_is_not_what_was_traced_is_found_by_samples(model):
    direction = X.flip(0)
    found = generalization_interval(model, X, direction)
    assert found.method == "grid"
    alpha = torch.linspace(-1, 2, 3001).double()
    classes = torch.stack([model(X + a * direction).argmax(1) for a in alpha])
    for i in range(len(X)):
        inside = (alpha > found.lower[i] + 2e-3) & (alpha < found.upper[i] - 2e-3)
        assert (classes[inside, i] == model(X)[i].argmax()).all()


def exchanged():
    """A layer that reads the examples in another order, as where sequences are sorted by their length."""

    def forward(s, x):
        order = x.abs().sum(1).argsort()
        return s.out(torch.relu(s.first(x[order]))[order.argsort()])

    return Net(forward, first=nn.Linear(8, 6), out=nn.Linear(6, 3))


def merged():
    """A layer that reads each example in two parts, which lie along the first axis."""
    return Net(
        lambda s, x: s.out(s.first(x.view(-1, 4)).relu().view(len(x), -1)), first=nn.Linear(4, 3), out=nn.Linear(6, 3)
    )


def checkpointed():
    from torch.utils.checkpoint import checkpoint

    return Net(
        lambda s, x: s.out(checkpoint(lambda h: torch.relu(s.first(h)), x, use_reentrant=False)),
        first=nn.Linear(8, 6), out=nn.Linear(6, 3),
    )  # fmt: skip


def pre_hooked():
    model = net()
    model[0].register_forward_pre_hook(lambda module, given: (given[0] * 2,))
    return model


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 6)), nn.ReLU(), nn.Linear(6, 3))


def pruned_bias():
    return nn.Sequential(prune.random_unstructured(nn.Linear(8, 6), "bias", 0.5), nn.ReLU(), nn.Linear(6, 3))


def along_places():
    """Places whose embedding is as long as the batch."""
    return Net(
        lambda s, x: s.out(s.first(x)[:, None] + s.places(torch.arange(12))).relu().mean(1),
        first=nn.Linear(8, 6), places=nn.Embedding(12, 6), out=nn.Linear(6, 3),
    )  # fmt: skip


def turned():
    """Tokens with places first, as many as there are examples."""
    return Net(
        lambda s, x: s.out(s.words((x.abs() * 3).long().repeat(1, 2)[:, :12].t()).mean(0)),
        words=nn.Embedding(7, 6), out=nn.Linear(6, 3),
    )  # fmt: skip


def by_channels():
    """A layer over the examples as if they were channels, there and back."""
    return Net(lambda s, x: s.out(s.first(x.t().contiguous().t()).relu()), first=nn.Linear(8, 6), out=nn.Linear(6, 3))


def along_queries():
    """Learned queries, as many as there are examples, by a layer that reads no example."""
    return Net(
        lambda s, x: s.out((s.first(x)[:, None] + s.queries(torch.eye(12, 4).to(x))).tanh().mean(1)),
        first=nn.Linear(8, 6), queries=nn.Linear(4, 6), out=nn.Linear(6, 3),
    )  # fmt: skip


CAUGHT = {
    "another call": lambda: nn.Sequential(Doubled(8, 6), nn.ReLU(), nn.Linear(6, 3)),
    "as many queries as examples": along_queries,
    "exchanged strides": by_channels,
    "a hook": hooked,
    "a hook before": pre_hooked,
    "another order": exchanged,
    "parts along the first axis": merged,
    "computed twice": checkpointed,
    "old weight norm": old_weight_norm,
    "a computed bias": pruned_bias,
    "as many places as examples": along_places,
    "exchanged axes": turned,
}


def shifted(model):
    with torch.no_grad():
        model[0].bias.add_(1)


def centred(model):
    model[1].forward = lambda x: (x - x.mean(0)).relu()


CHANGED = {  # after a network was checked: what happens to it
    "a hook": lambda model: model[0].register_forward_hook(lambda module, given, out: out - 0.3),
    "a hook before": lambda model: model[0].register_forward_pre_hook(lambda module, given: (given[0] * 2,)),
    "a forward of its own": centred,
    "another module": lambda model: model.__setitem__(1, nn.Tanh()),
    "a setting": lambda model: setattr(model[1], "inplace", True),
    "a module in train mode": lambda model: model[1].train(),
    "a step": shifted,
    "a frozen weight": lambda model: model[0].weight.requires_grad_(False),
}


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("change", CHANGED)
def test_a_network_is_checked_once_while_it_is_as_it_was(change, monkeypatch):
    model, checked = net(), []
    monkeypatch.setattr(passes, "RowWise", lambda *given: checked.append(given) or RowWise(*given))
    for number, count in ((12, 1), (12, 1), (7, 2), (12, 2)):  # another number of examples is another look
        gradient_gram(model, X[:number], Y[:number])
        assert len(checked) == count
    CHANGED[change](model)
    if change == "a forward of its own":
        return check_refused(gradient_gram, "the network mixes the examples of a batch", model, X, Y)
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y)])
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)
    assert len(checked) == 3


WRITTEN = {  # to a weight, without a new version of it
    "other values": lambda weight: weight.mul_(3),
    "a sign": lambda weight: weight[0].neg_(),
    "one bit of one entry": lambda weight: weight.view(torch.uint8)[-1, -1].bitwise_xor_(1),
}


@pytest.mark.parametrize("proved", [False, True])
@pytest.mark.parametrize("write", WRITTEN)
def test_what_is_written_to_data_has_the_network_checked_anew_unless_its_operations_prove_it(
    write, proved, monkeypatch
):
    model, checked = net(), []
    if not proved:
        monkeypatch.setattr(RowWise, "holds", lambda self, value: False)
    monkeypatch.setattr(passes, "RowWise", lambda *given: checked.append(given) or RowWise(*given))
    gradient_gram(model, X, Y)
    WRITTEN[write](model[0].weight.data)
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y)])
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)
    assert len(checked) == (1 if proved else 2)


@pytest.mark.parametrize("own", [False, True])
def test_examples_are_run_again_only_where_code_of_one_s_own_may_mix_them(own, monkeypatch):
    model, again = net(), []
    monkeypatch.setattr(passes, "_lone", lambda *given, **options: again.append(given))
    gradient_gram(type("Own", (nn.Sequential,), {"__module__": "own"})(model) if own else model, X, Y)
    assert len(again) == own


class Own(nn.Module):
    """Code of one's own, whose way through its layers can be set."""

    def __init__(self):
        super().__init__()
        self.first, self.out, self.way = nn.Linear(8, 6), nn.Linear(6, 3), "plain"
        self.register_buffer("scale", torch.ones(6))

    def forward(self, x):
        with torch.no_grad() if self.way == "without a gradient" else nullcontext():
            h = self.first(x * (3 if self.way == "scaled" else 2))
        if self.way == "centred":
            h = h - h.mean(0)
        if self.way == "weights of a module":
            h = h + F.linear(x, self.first.weight)
        return self.out(h.relu() * self.scale)


def test_code_of_one_s_own_is_checked_once_while_it_does_the_same(monkeypatch):
    model, again = Own().double().eval(), []
    monkeypatch.setattr(passes, "_lone", lambda *given: again.append(given) or LONE(*given))

    def measured(*, batch_size):
        expected = naive.gradients(model, X, Y)
        found = diagonal(model, X, Y, batch_size=batch_size)
        for name, value in found.items():
            mean = torch.stack([row[name] ** 2 for row in expected]).mean(0)
            torch.testing.assert_close(value.flatten(), mean, rtol=1e-9, atol=1e-12)
        return len(again)

    assert measured(batch_size=6) == 1  # the second half does what the first one did
    assert measured(batch_size=6) == 1
    assert measured(batch_size=7) == 3  # parts of 7 and of 5
    assert measured(batch_size=7) == 3
    model.scale.mul_(2)
    assert measured(batch_size=6) == 4
    model.out.weight.data[0, 0] += 1
    assert measured(batch_size=6) == 5
    for count, way in enumerate(("scaled", "plain"), start=6):
        model.way = way
        assert measured(batch_size=6) == count


@pytest.mark.filterwarnings("ignore:no formula for")
def test_code_of_one_s_own_that_takes_another_way_is_checked_anew():
    model = Own().double().eval()
    gradient_gram(model, X, Y)
    model.way = "weights of a module"
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y)])
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)
    model.way = "centred"
    check_refused(gradient_gram, "the network mixes the examples of a batch", model, X, Y)
    model.way = "without a gradient"
    check_refused(diagonal, "the loss does not depend on it", model, X, Y)


class Clipped(Own):
    """The gradient of a hidden layer is clipped over the batch, as far as that is large."""

    def forward(self, x):
        h = self.first(x).relu()
        if h.requires_grad:
            h.register_hook(lambda g: g * (self.most / g.norm()).clamp(max=1))
        return self.out(h)


class Centring(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, model):
        ctx.model = model
        return h.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient - gradient.mean(0) if ctx.model.way == "centred" else gradient, None


class Backward(Own):
    def forward(self, x):
        return self.out(Centring.apply(self.first(x).relu(), self))


class ByNumbers(Own):
    """Values leave torch and come back: by NumPy, or as a list."""

    def forward(self, x):
        h = self.first(x).relu()
        values = h.detach().numpy() if self.way == "numpy" else np.array(h.detach().tolist())
        return self.out(h / torch.tensor(max(4.0, float(values.max())), dtype=h.dtype))


class Listed(Own):
    """A weight is read through a list."""

    def __init__(self):
        super().__init__()
        self.free = nn.Parameter(torch.ones(6))
        self.held = [self.free]

    def forward(self, x):
        return self.out((self.first(x) * self.held[0]).relu())


def right_or_refused(model, x, y, match, **options):
    expected = naive.gradients(model, x, y)
    try:
        found = diagonal(model, x, y, **options)
    except UserError as error:
        assert re.search(match, str(error))
        return
    for name, value in found.items():
        mean = torch.stack([row[name] ** 2 for row in expected]).mean(0)
        torch.testing.assert_close(value.flatten(), mean, rtol=1e-7, atol=1e-12)


@pytest.mark.filterwarnings("ignore:no formula for")
def test_what_a_forward_pass_does_not_show_is_checked_in_every_batch():
    torch.manual_seed(0)
    clipped = Clipped().double().eval()
    sizes = torch.stack([torch.cat(list(row.values())).norm() for row in naive.gradients(clipped_not(clipped), X, Y)])
    order = sizes.argsort()
    clipped.most = 2.0 * float(sizes.max())
    right_or_refused(clipped, X[order], Y[order], "mixes", batch_size=6)
    backward = Backward().double().eval()
    gradient_gram(backward, X, Y)
    backward.way = "centred"
    check_refused(gradient_gram, "mixes", backward, X, Y)
    for way in ("numpy", "a list"):
        numbers = ByNumbers().double().eval()
        numbers.way = way
        x = X.clone()
        x[8] *= 30
        right_or_refused(numbers, x, Y, "mixes|another one", batch_size=6)
        right_or_refused(numbers, x[6:], Y[6:], "mixes|another one")


def clipped_not(model):
    model.most = float("inf")
    return model


@pytest.mark.filterwarnings("ignore:no formula for")
def test_a_weight_that_was_left_out_of_an_earlier_call_is_checked():
    for first in ("frozen", "left out"):
        model = Listed().double().eval()
        model.free.requires_grad_(first != "frozen")
        gradient_gram(model, X, Y, groups={"a": ["first"], "b": ["out"]})
        model.free.requires_grad_(True)
        check_refused(diagonal, "has another gradient by torch.func than by autograd", model, X, Y)


def test_mixing_that_a_zero_weight_hides_is_seen():
    model = nn.Sequential(nn.Linear(8, 6), nn.Softmax(0), nn.Linear(6, 3)).double().eval()
    model[2].weight.data.zero_()
    with pytest.warns(UserWarning, match="no formula for 2"):
        check_refused(diagonal, "or the network mixes the examples of a batch", model, X, Y)


def test_a_class_whose_forward_is_changed_is_checked_anew(monkeypatch):
    model = net()
    gradient_gram(model, X, Y)
    monkeypatch.setattr(nn.ReLU, "forward", lambda module, x: (x - x.mean(0)).relu())
    check_refused(gradient_gram, "the network mixes the examples of a batch", model, X, Y)


def test_a_function_of_one_s_own_inside_of_a_module_of_torch_is_checked_every_time():
    own = [torch.relu]

    def activation(h):
        return own[0](h)

    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 6, activation=activation, batch_first=True))
    model.append(nn.Flatten()).append(nn.Linear(16, 3)).double().eval()
    x = X.view(6, 2, 8)
    diagonal(model, x, Y[:6])
    own[0] = lambda h: (h - h.mean(0)).relu()
    check_refused(diagonal, "the network mixes the examples of a batch", model, x, Y[:6])


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("name", CAUGHT)
def test_a_layer_that_fits_no_formula_is_so_in_single_precision_too(name):
    """Where the loss is taken in double precision, the network is still compared in its own."""
    model, x = CAUGHT[name]().float().eval(), X.float()
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, x, Y)])
    torch.testing.assert_close(gradient_gram(model, x, Y), rows @ rows.T, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("name", CAUGHT)
def test_a_layer_that_fits_no_formula_is_differentiated_another_way(name):
    model = CAUGHT[name]().double().eval()
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y)])
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(squared_norms(model, X, Y), rows.square().sum(1), rtol=1e-9, atol=1e-12)
    for size in (1, 5, 12):
        flat = torch.cat([value.flatten() for value in diagonal(model, X, Y, batch_size=size).values()])
        torch.testing.assert_close(flat, rows.square().mean(0), rtol=1e-9, atol=1e-12)


NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.mark.parametrize("axes", NORMS)
def test_one_example_behind_batch_norm_and_exchanged_axes(axes):
    """Torch's own gradient of a batch of one is wrong for some of these layouts: the slow twin has it twice."""
    layers = {"norm": NORMS[axes](3), "out": nn.Linear(3 * 2**axes, 3)}
    model = Net(lambda s, x: s.out(s.norm(x).transpose(1, -1).flatten(1)), **layers).double()
    x = torch.linspace(-3, 3, 4 * 3 * 2**axes).sin().view(4, 3, *[2] * axes).double()
    model(x)
    model.eval()
    model.zero_grad()
    F.cross_entropy(model(x[[0, 0]]), Y[[0, 0]]).backward()  # twice the same, so that the mean is that of one
    expected = sum(value.grad.square().sum() for value in model.parameters())
    torch.testing.assert_close(squared_norms(model, x[:1], Y[:1])[0], expected, rtol=1e-9, atol=0)


def test_one_example_alone_is_what_it_is_beside_itself():
    cut, norm = nn.Conv2d(3, 6, 2, stride=2), nn.BatchNorm2d(6)
    model = Net(
        lambda s, x: s.out(s.norm(s.cut(x)).flatten(2).transpose(1, 2).relu().mean(1)),
        cut=cut, norm=norm, out=nn.Linear(6, 3),
    ).double().eval()  # fmt: skip
    x = torch.linspace(-3, 3, 4 * 48).sin().view(4, 3, 4, 4).double()
    alone = influence(model, x[:1], Y[:1], x, eps=1e-2, y_eval=Y[:4])
    twice = influence(model, x[[0, 0]], Y[[0, 0]], x, eps=1e-2, y_eval=Y[:4])
    for one, two in zip(alone, twice, strict=True):
        torch.testing.assert_close(one[0], two[0], rtol=1e-9, atol=0)


def test_a_last_batch_of_one_behind_batch_norm_is_right():
    model = Net(
        lambda s, x: s.out((s.cut(x) + s.norm(s.cut(x).tanh())).flatten(2).transpose(1, 2).tanh().mean(1)),
        cut=nn.Conv2d(3, 6, 2, stride=2), norm=nn.BatchNorm2d(6), out=nn.Linear(6, 3),
    ).double().eval()  # fmt: skip
    x = torch.linspace(-3, 3, 4 * 48).sin().view(4, 3, 4, 4).double()
    by_three = diagonal(model, x, Y[:4], batch_size=3)
    for name, whole in diagonal(model, x, Y[:4]).items():
        torch.testing.assert_close(by_three[name], whole, rtol=1e-9, atol=1e-15)


def test_the_influence_through_attention_is_measured():
    model = Net(
        lambda s, x: s.out(F.scaled_dot_product_attention(s.q(x[:, None]), s.k(x[:, None]), s.q(x[:, None])).mean(1)),
        q=nn.Linear(8, 6), k=nn.Linear(8, 6), out=nn.Linear(6, 3),
    ).double()  # fmt: skip
    found = influence(model, X[:2], Y[:2], X, eps=1e-4)
    torch.testing.assert_close(found.kl, found.true, rtol=1e-2, atol=0)


def test_a_loader_stands_for_inputs_and_labels():
    model, pairs = net(), TensorDataset(X, Y)
    loader = DataLoader(pairs, batch_size=5)
    torch.testing.assert_close(gradient_gram(model, loader), gradient_gram(model, X, Y), rtol=0, atol=0)
    torch.testing.assert_close(squared_norms(model, loader), squared_norms(model, X, Y), rtol=0, atol=0)
    torch.testing.assert_close(diagonal(model, loader)["0.bias"], diagonal(model, X, Y)["0.bias"], rtol=0, atol=0)
    assert torch.equal(record_paths(model, loader)["1"], record_paths(model, X)["1"])
    steps = [influence(model, *given, eps=1e-3, **labels).diagonal for given, labels in (
        ((loader, None, loader), {}), ((X, Y, X), {"y_eval": Y})
    )]  # fmt: skip
    torch.testing.assert_close(*steps, rtol=0, atol=0)
    ends = [generalization_interval(model, points, X.flip(0)).upper for points in (loader, X)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    shuffled = DataLoader(pairs, batch_size=5, shuffle=True)
    others = (
        lambda model, x: influence(model, x, None, X, eps=1e-3),
        lambda model, x: influence(model, X, Y, x, eps=1e-3),
        lambda model, x: generalization_interval(model, x, X),
    )
    by_batch = DataLoader(pairs, batch_sampler=BatchSampler(RandomSampler(pairs), 5, drop_last=False))
    for measure in (gradient_gram, squared_norms, diagonal, record_paths, *others):
        for loader in (shuffled, by_batch):
            check_refused(measure, "the loader shuffles, .* shuffle=False", model, loader)


def test_logits_of_a_tuple_are_measured_with_output():
    given = {"output": lambda out: out[0]}
    plain = PAIR.out
    torch.testing.assert_close(gradient_gram(PAIR, X, Y, **given), gradient_gram(plain, X, Y))
    torch.testing.assert_close(squared_norms(PAIR, X, Y, **given), squared_norms(plain, X, Y))
    torch.testing.assert_close(
        diagonal(PAIR, X, kind="true", **given)["out.bias"], diagonal(plain, X, kind="true")["bias"]
    )
    torch.testing.assert_close(influence(PAIR, X, Y, X, eps=1e-3, **given).kl, influence(plain, X, Y, X, eps=1e-3).kl)
    found = [generalization_interval(one, X, X.flip(0), **options) for one, options in ((PAIR, given), (plain, {}))]
    torch.testing.assert_close(found[0].upper, found[1].upper, atol=1e-5, rtol=0)
    assert [one.method for one in found] == ["grid", "exact"] and not PAIR._forward_hooks


def test_a_network_that_is_another_away_from_the_points_is_not_called_exact():
    model = net()
    model[1].forward = lambda x: torch.where(x < 3, x.relu(), 0)
    assert generalization_interval(model, X, 20 * X.flip(0)).method == "grid"


def test_an_interval_that_would_take_too_long_is_found_by_samples_or_refused():
    model, direction = net(), X.flip(0)
    found = generalization_interval(model, X, direction, seconds=1e-9)
    assert found.method == "grid" and "would take longer than was allowed" in found.guarantee
    expected = generalization_interval(model, X, direction)
    torch.testing.assert_close(found.upper, expected.upper, atol=1e-5, rtol=0)
    said = "every linear piece would take longer than was allowed"
    check_refused(lambda: generalization_interval(model, X, direction, seconds=1e-9, method="exact"), said)


def test_a_network_of_one_batch_size_is_refused_in_a_line():
    sizes = nn.Unflatten(0, (1, len(X))), nn.Flatten(0, 1)
    model = nn.Sequential(sizes[0], nn.Linear(8, 6), nn.BatchNorm1d(len(X)), sizes[1], nn.ReLU(), nn.Linear(6, 3))
    for measure in (record_paths, lambda model, x: generalization_interval(model, x, X.flip(0))):
        check_refused(measure, "the network does not take", model.double().eval(), X)
