"""More networks, losses and wrappers that people bring, by the kinds of `test_own_networks`: right, or refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from gendyn_lite.measures.complexity import margin, sharpness
from gendyn_lite.measures.fisher import GradientMask, diagonal, influence
from gendyn_lite.measures.intervals import generalization_interval
from gendyn_lite.measures.relu_paths import record_paths
from gendyn_lite.measures.stiffness import gradient_gram, loss_change, squared_norms
from tests.measures import naive
from tests.measures.networks import Net, check_refused, refused
from tests.measures.test_own_networks import X, Y, net

pytestmark = pytest.mark.filterwarnings("ignore:no formula for", "ignore:There is a performance drop")


def over(forward: Callable[..., Any], **modules: nn.Module) -> nn.Module:
    """A function over two layers, and more."""
    return Net(forward, **{"first": nn.Linear(8, 6), "out": nn.Linear(6, 3), **modules}).double().eval()


torch.manual_seed(0)  # the networks below are the same whatever was imported before


class Reversal(Function):
    """The identity, whose gradient is turned round."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return -0.1 * gradients[0]


class Centring(Function):
    """The identity, whose gradient mixes the examples."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] - gradients[0].mean(0)


class Bounded(nn.Module):
    def forward(self, w):
        return w.tanh()


class Scaled(nn.Linear):
    """Its weight is made of a parameter before each call."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        weight = self.weight.detach().clone()
        del self.weight
        self.raw, self.weight = nn.Parameter(weight), weight
        self.register_forward_pre_hook(lambda module, given: setattr(module, "weight", module.raw / 2))


class Weighed(nn.Conv1d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Unregistered(nn.Module):
    """A layer in a plain list, whose weights are nobody's parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.out, self.hidden = nn.Linear(8, 6), nn.Linear(6, 3), [nn.Linear(6, 6).double()]

    def forward(self, x):
        h = self.first(x).relu()
        for layer in self.hidden:
            h = layer(h).relu()
        return self.out(h)


def parametrized():
    model = net()
    parametrize.register_parametrization(model[0], "weight", Bounded())
    return model


def hooked_backward():
    model = net()
    model[1].register_full_backward_hook(lambda module, given, out: (given[0] * 2,))
    return model


def hooked_tensor(change):
    def forward(s, x):
        h = s.first(x)
        if h.requires_grad:
            h.register_hook(change)
        return s.out(h.relu())

    return over(forward)


def lazy():
    model = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))
    model(torch.zeros(2, 8))
    return model


def twice(module, *, width=6):
    """One module under two names."""
    return nn.Sequential(nn.Linear(8, width), module, nn.Linear(width, width), module, nn.Linear(width, 3))


def by_row(s, x):
    return s.out(torch.cat([s.first(r[None]).relu() if r.sum() > 0 else s.first(r[None]).tanh() for r in x]))


def by_mask(s, x):
    h, chosen = x.new_zeros(len(x), 6), x.sum(1) > 0
    h[chosen], h[~chosen] = s.first(x[chosen]), s.other(x[~chosen])
    return s.out(h.relu())


def view_in_place(s, x):
    h = s.first(x)
    h[:, :3].mul_(2)
    return s.out(h.relu())


def own_derivative(s, x):
    with torch.enable_grad():
        given = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(s.first(given).tanh().sum(), given, create_graph=True)
    return s.back(slope) + s.out(s.first(x).relu())


def fixed_point(s, x):
    z = x.new_zeros(len(x), 6)
    with torch.no_grad():
        for _ in range(20):
            z = torch.tanh(0.3 * s.mid(z) + s.first(x))
    return s.out(torch.tanh(0.3 * s.mid(z) + s.first(x)))


def without_gradient(s, x):
    h = s.first(x)
    with torch.no_grad():
        gate = s.first(x).relu()
    return s.out(h * gate)


def tokens(**options):
    return Net(lambda s, x: s.out(s.words((x.abs() * 3).long()).sum(1).relu()),
               words=nn.Embedding(7, 6, **options), out=nn.Linear(6, 3))  # fmt: skip


def put_back(s, x):
    """Two rows, of which neither is the hardest, are exchanged for a layer, as where nearly sorted ones are sorted."""
    order = [*range(7), 8, 7, *range(9, len(x))] if len(x) == 12 else list(range(len(x)))
    return s.out(s.first(x[order]).relu()[order])


def by_key(s, x):
    """Examples that are sorted, and put back."""
    order = (x.argmax(1) + torch.arange(0, 1, 1 / 64)[: len(x)]).argsort()
    return s.out(s.first(x[order]).relu()[order.argsort()])


RIGHT = {
    "an autograd function": lambda: over(lambda s, x: s.out(Reversal.apply(s.first(x)).relu())),
    "a parametrization": parametrized,
    "a weight made before each call": lambda: nn.Sequential(Scaled(8, 6), nn.ReLU(), nn.Linear(6, 3)),
    "another convolution inside": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), Weighed(2, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(8, 3)
    ),
    "a weight and its transpose": lambda: over(
        lambda s, x: s.out(F.linear(s.first(x).tanh(), s.first.weight.t())), out=nn.Linear(8, 3)
    ),
    "a module under two names": lambda: twice(nn.PReLU()),
    "a norm under two names": lambda: twice(nn.BatchNorm1d(6)),
    "lazy modules": lazy,
    "a layer in a list": Unregistered,
    "a hook of the backward pass": hooked_backward,
    "a hook of a tensor": lambda: hooked_tensor(lambda g: 3 * g),
    "a choice for each row": lambda: over(by_row),
    "rows of a mask": lambda: over(by_mask, other=nn.Linear(8, 6)),
    "a view changed in place": lambda: over(view_in_place),
    "a derivative inside": lambda: over(own_derivative, back=nn.Linear(8, 3)),
    "vmap inside": lambda: over(lambda s, x: s.out(torch.func.vmap(lambda r: s.first(r).relu())(x))),
    "a fixed point": lambda: over(fixed_point, mid=nn.Linear(6, 6)),
    "one use without gradient": lambda: over(without_gradient),
    "a detached weight": lambda: over(lambda s, x: s.out((s.first(x) + F.linear(x, s.first.weight.detach())).relu())),
    "an embedding of bounded norm": lambda: tokens(max_norm=10.0),
    "two rows exchanged": lambda: over(put_back),
    "sorted, and put back": lambda: over(by_key),
    "no outputs": lambda: over(lambda s, x: s.out(torch.cat([s.first(x).relu(), s.none(x)], 1)), none=nn.Linear(8, 0)),
    "axes turned": lambda: over(lambda s, x: s.out(s.first(x.flip(1)).relu().flip(1))),
    "an expanded input": lambda: over(lambda s, x: s.out(s.first(x[:, None].expand(-1, 4, -1)).relu().sum(1))),
    "an instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.InstanceNorm1d(2, affine=True), nn.Flatten(), nn.Linear(8, 3)
    ),
    "a false quantization": lambda: over(
        lambda s, x: s.out(torch.fake_quantize_per_tensor_affine(s.first(x), 0.05, 0, -128, 127).relu())
    ),
}  # fmt: skip


def rows_of(model, x=X, y=Y, loss=None):
    return torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, x, y, loss)])


def check_all(model, rows, x=X, y=Y, **options):
    """Gram matrix, norms and diagonal are those of some gradients."""
    torch.testing.assert_close(gradient_gram(model, x, y, **options), rows @ rows.T, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(squared_norms(model, x, y, **options), rows.square().sum(1), rtol=1e-9, atol=1e-12)
    flat = torch.cat([value.flatten() for value in diagonal(model, x, y, batch_size=5, **options).values()])
    torch.testing.assert_close(flat, rows.square().mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RIGHT)
def test_a_sibling_is_measured_rightly_and_left_as_it_was(name):
    torch.manual_seed(0)
    model = RIGHT[name]().double().eval()
    before = {name: (value, value.clone()) for name, value in model.named_parameters()}
    rows = rows_of(model)
    check_all(model, rows)
    check_all(model, rows, X.clone().requires_grad_())
    for key, value in model.named_parameters():
        assert value is before[key][0] and torch.equal(value, before[key][1])


def _each(logits, y):
    return F.cross_entropy(logits, y, reduction="none")


LOSSES = {
    "smoothed": lambda o, t: F.cross_entropy(o, t, reduction="none", label_smoothing=0.1),
    "weighted": lambda o, t: F.cross_entropy(o, t, reduction="none", weight=torch.tensor([0.2, 1, 3]).double()),
    "some left out": lambda o, t: F.cross_entropy(o, t, reduction="none", ignore_index=1),
    "focal": lambda o, t: (1 - o.softmax(1).gather(1, t[:, None])[:, 0]) * F.cross_entropy(o, t, reduction="none"),
    "of one output": lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], (t > 0).double(), reduction="none"),
    "zero for all": lambda o, t: F.relu(F.cross_entropy(o, t, reduction="none") - 9),
}
MIXED = "it mixes examples"
BAD_LOSSES = {
    "summed": (lambda o, t: F.cross_entropy(o, t, reduction="sum"), r"the loss has shape \(\), expected one value"),
    "averaged": (F.cross_entropy, r"the loss has shape \(\), expected one value for each of 12"),
    "a column": (lambda o, t: ((o - F.one_hot(t, 3)) ** 2).sum(1, keepdim=True), r"the loss has shape \(12, 1\)"),
    "over the batch's weights": (
        lambda o, t: F.cross_entropy(o, t, reduction="none") / (1 + t).double().mean(), MIXED,
    ),
    "over those that count": (lambda o, t: F.cross_entropy(o, t, reduction="none") / (t != 1).sum(), "alone"),
    "by rank": (lambda o, t: _each(o, t) * (1 + 0.1 * _each(o, t).detach().argsort().argsort()), MIXED),
    "mixed in the gradient alone": (
        lambda o, t: _each(o, t) + _each(o, t).mean() - _each(o, t).mean().detach(), "the network mixes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_measured_rightly(name):
    model = net()
    check_all(model, rows_of(model, loss=LOSSES[name]), loss=LOSSES[name])


@pytest.mark.parametrize("measure", [gradient_gram, squared_norms, diagonal])
@pytest.mark.parametrize("name", BAD_LOSSES)
def test_a_loss_that_is_none_of_one_example_is_refused(name, measure):
    loss, said = BAD_LOSSES[name]
    check_refused(measure, said, net(), X, Y, loss=loss)


def hooked_parameter():
    model = net()
    model[0].weight.register_hook(lambda g: 3 * g)
    return model


def in_one_memory():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3)).double()
    model[2].weight.data = model[0].weight.data
    return model


def reentrant(s, x):
    return s.out(checkpoint(lambda h: s.mid(h).relu(), s.first(x), use_reentrant=True))


class Kept(nn.Module):
    """A network that keeps what it has seen where no buffer tells."""

    def __init__(self, keep):
        super().__init__()
        self.first, self.out, self.seen, self._keep = nn.Linear(8, 6), nn.Linear(6, 3), [], keep

    def forward(self, x):
        h = self.first(x).relu()
        self._keep(self, h.detach().mean(0))
        return self.out(h - 0.1 * sum(self.seen) / len(self.seen))


COMPLEX = Net(lambda s, x: s.out(s.turn(s.first(x).cfloat().to(torch.complex128)).real),
              first=nn.Linear(8, 6).double(), turn=nn.Linear(6, 6, dtype=torch.complex128),
              out=nn.Linear(6, 3).double())  # fmt: skip
SIBLINGS = {
    "a hook of a parameter": (hooked_parameter(), r"parameter '0.weight' has a hook .* handle.remove\(\)"),
    "two parameters in one memory": (in_one_memory(), "'0.weight' and '2.weight' lie in the same memory"),
    "complex weights": (COMPLEX, "parameter 'turn.weight' is complex"),
    "no weights yet": (nn.Sequential(nn.LazyLinear(6), nn.ReLU()), r"'0' .*\(LazyLinear\) has no weights yet"),
    "computed again by another call": (over(reentrant, mid=nn.Linear(6, 6)), "use_reentrant=False"),
    "computed again from the input": (
        over(lambda s, x: s.out(checkpoint(s.first, x.clone().requires_grad_(), use_reentrant=True).relu())),
        "use_reentrant=False",
    ),
    "a gradient that mixes": (over(lambda s, x: s.out(Centring.apply(s.first(x)).relu())), "mixes the examples"),
    "a hook that mixes": (hooked_tensor(lambda g: g - g.mean(0)), "mixes the examples"),
    "kept in a list": (Kept(lambda s, h: s.seen.append(h)).double(), "alone"),
    "kept in an attribute": (Kept(lambda s, h: setattr(s, "seen", [*s.seen[-1:], h])).double(), "alone"),
    "straight through the batch": (
        over(lambda s, x: s.out(s.first(x).relu() + (s.first(x) - s.first(x).detach()).sum(0))), "mixes the examples",
    ),
    "a place for some": (
        over(lambda s, x: s.out(s.first(x).relu() * (x[:, :1] >= x[:, 0].sort().values[-min(len(x), 7)]))), "alone",
    ),
    "softmax over the batch": (nn.Sequential(nn.Linear(8, 6), nn.Softmax(0), nn.Linear(6, 3)).double(), "mixes the"),
    "a norm of the whole": (
        over(lambda s, x: s.out(F.layer_norm(s.first(x), s.first(x).shape).relu())), "mixes the examples",
    ),
    "a running sum": (over(lambda s, x: s.out(s.first(x).cumsum(0).relu())), "mixes the examples"),
    "wrapped inside": (nn.Sequential(nn.DataParallel(nn.Linear(8, 3))).double(), r"model\.0\.module"),
}  # fmt: skip
MEASURES = {
    "gram": lambda model: gradient_gram(model, X, Y),
    "diagonal": lambda model: diagonal(model, X, Y),
    "influence": lambda model: influence(model, X[:2], Y[:2], X, eps=1e-3),
    "mask": lambda model: GradientMask(0.5, (X, Y)).epoch_end(model, 1),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", SIBLINGS)
def test_a_sibling_that_would_be_silently_wrong_is_refused(name, measure):
    model, said = SIBLINGS[name]
    check_refused(MEASURES[measure], said, model)


def test_gates_of_sorted_images_are_refused_wherever_the_images_that_are_looked_at_go():
    order = [0, 1, 4, 3, 2, 5, 6, 7, 8, 9, 10, 11]
    x = torch.cat([X[:, :7], torch.tensor(order)[:, None].double()], dim=1)

    def forward(s, x):
        places = x[:, 7].argsort()
        return s.out(s.first(x[places]).relu()[places.argsort()])

    check_refused(record_paths, "gate 'relu' has other rows", over(forward), x)


def in_single(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).float().eval()


MIXING = [  # what is kept has been changed by the tests before
    name for name, (_, said) in SIBLINGS.items() if ("mixes" in said or said == "alone") and not name.startswith("kept")
]


@pytest.mark.parametrize("name", MIXING)
def test_a_sibling_that_mixes_examples_is_refused_in_single_precision_too(name):
    check_refused(gradient_gram, "mixes the|alone", in_single(SIBLINGS[name][0]), X.float(), Y)


@pytest.mark.parametrize("name", RIGHT)
def test_a_sibling_is_measured_rightly_in_single_precision_too(name):
    torch.manual_seed(0)
    model = RIGHT[name]().eval()
    try:
        model.float()(X.float())
    except RuntimeError:
        pytest.skip("is written for double precision")
    rows = rows_of(model, X.float())
    torch.testing.assert_close(gradient_gram(model, X.float(), Y), rows @ rows.T, rtol=1e-4, atol=1e-6)


def relu_of(change: Callable[..., Any], back: Callable[..., Any]) -> nn.Module:
    """A gate that sees its rows changed, in a network whose output is as if they were not."""
    return over(lambda s, x: s.out(back(change(s.first(x)).relu())))


def by_size(s, x):
    order = x.sum(1).argsort()
    return s.out(s.first(x[order]).relu())[order.argsort()]


ROWS = {
    "reversed": relu_of(lambda h: h.flip(0), lambda h: h.flip(0)),
    "rolled": relu_of(lambda h: h.roll(1, 0), lambda h: h.roll(-1, 0)),
    "sorted": over(by_size),
    "queries": over(lambda s, x: s.out(s.first(x) * s.asked(torch.eye(12).double()).relu().mean(0)),
                    asked=nn.Linear(12, 6)),
    "a number for each image": over(
        lambda s, x: s.out(torch.func.vmap(lambda row: s.first(row).relu())(x)), first=nn.Linear(8, 12),
        out=nn.Linear(12, 3),
    ),
    "as many places as images": over(lambda s, x: s.out((s.first(x) * torch.ones(12, 1, 1)).relu().mean(0))),
}  # fmt: skip
test_rows_of_gates_that_are_not_the_images_are_refused = refused(
    {
        name: (lambda model=model: record_paths(model, X), "has other rows|sees .* for .* images, expected")
        for name, model in ROWS.items()
    }
)


def test_a_gate_that_is_not_seen_is_told_of():
    model = over(lambda s, x: s.out(torch.ops.aten.relu(s.mid(s.first(x).relu()))), mid=nn.Linear(6, 6))
    with pytest.warns(UserWarning, match="calls relu where gates are not seen"):
        record_paths(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record_paths(net(), X)


def relu_then_both(s, x):
    h = s.first(x)
    return s.out(h + F.relu(h, inplace=True))


def relu_on_a_view(s, x):
    h = s.first(x)
    F.relu(h[:, :3], inplace=True)
    return s.out(h)


ON_LINES = {
    "a gate in place whose input is read": lambda: over(relu_then_both),
    "a gate on a view": lambda: over(relu_on_a_view),
    "a layer in a list": Unregistered,
    "a choice for each row": lambda: over(by_row),
    "a parametrization": parametrized,
    "a module under two names": lambda: twice(nn.PReLU()),
    "a detached switch": lambda: over(lambda s, x: s.out(s.first(x).relu() * (x.detach().amax(1, True) < 1.5))),
}


@pytest.mark.parametrize("name", ON_LINES)
def test_the_interval_of_a_sibling_holds_no_other_class(name):
    torch.manual_seed(0)
    model = ON_LINES[name]().double().eval()
    found = generalization_interval(model, X, X.flip(0))
    alpha = torch.linspace(-1, 2, 601).double()
    classes = torch.stack([model(X + a * X.flip(0)).argmax(1) for a in alpha])
    inside = (alpha[:, None] > found.lower + 5e-3) & (alpha[:, None] < found.upper - 5e-3)
    assert ((classes == model(X).argmax(1)) | ~inside).all()


def steps_of(model, eps, count):
    """The KL divergences after steps, one network for each."""
    before, found = model(X).detach().log_softmax(1), []
    for i in range(count):
        stepped = copy.deepcopy(model)
        values = list(stepped.parameters())
        gradients = torch.autograd.grad(F.cross_entropy(stepped(X[i : i + 1]), Y[i : i + 1]), values)
        with torch.no_grad():
            for value, gradient in zip(values, gradients, strict=True):
                value.sub_(eps * gradient)
            found.append(F.kl_div(stepped(X).log_softmax(1), before, log_target=True, reduction="none").sum(1))
    return torch.stack(found)


@pytest.mark.parametrize("make", [lambda: twice(nn.PReLU()), lambda: tokens(sparse=True)], ids=["twice", "sparse"])
def test_the_influence_of_a_sibling_is_that_of_a_step(make):
    torch.manual_seed(0)
    model = make().double()
    found = influence(model, X[:3], Y[:3], X, eps=1e-2).kl
    torch.testing.assert_close(found, steps_of(model, 1e-2, 3), rtol=1e-6, atol=1e-12)


def test_steps_on_several_examples_start_from_the_same_weights_where_a_module_has_two_names():
    torch.manual_seed(0)
    model = twice(nn.PReLU()).double()
    both, alone = (loss_change(model, X, Y, examples=chosen, eps=1e-2).actual for chosen in ([0, 1], [1]))
    torch.testing.assert_close(both[1], alone[0], rtol=1e-9, atol=1e-14)


def test_layers_in_half_precision_inside_of_another_network_are_measured():
    mid = nn.Linear(6, 6).half()
    model = Net(lambda s, x: s.out(s.mid(s.first(x).half()).double()), first=nn.Linear(8, 6).double(), mid=mid,
                out=nn.Linear(6, 3).double())  # fmt: skip
    rows = torch.stack([torch.cat([g.double() for g in row.values()]) for row in naive.gradients(model, X, Y)])
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-2, atol=1e-4)


def large_alone(change: Callable[..., Any]) -> nn.Module:
    """A network that does something to its rows in a large batch alone."""
    return over(lambda s, x: s.out(change(s.first(x).relu()) if len(x) > 24 else s.first(x).relu()))


def with_row(h, value):
    """Row 7, which nobody looks at by itself, as another one."""
    return h.index_put((torch.tensor([7]),), value)


def by_hand(h):
    h = h.clone()
    h[7] += 0.1 * h[8]
    return h


def by_mask_of_places(s, x):
    h = s.first(x).relu()
    return s.out(h + (torch.arange(len(h)) == 7)[:, None] * h.roll(-1, 0))


def by_capacity(s, x):
    """A layer that drops what is beyond its capacity, as experts do."""
    h, chosen = s.first(x).relu(), x[:, 0] > 0
    return s.out(h * (chosen.long().cumsum(0) <= 10)[:, None])


FEW = {  # a few rows of a large batch, none of which is looked at by itself
    "one reads its neighbour": large_alone(by_hand),
    "one reads the mean": large_alone(lambda h: with_row(h, h.mean(0))),
    "one reads the mean, detached": large_alone(lambda h: with_row(h, h.detach().mean(0))),
    "two are exchanged": large_alone(lambda h: h[[*range(6), 7, 6, *range(8, len(h))]]),
    "a mask of places": over(by_mask_of_places),
    "beyond the capacity": over(by_capacity),
    "by a number": large_alone(lambda h: h + (h[7].sum().item() > 0.0) * (torch.arange(len(h)) == 9)[:, None]),
    "those of the largest norm": large_alone(
        lambda h: h * (h.norm(dim=1, keepdim=True) < h.norm(dim=1).sort().values[-3])
    ),
}  # fmt: skip
MANY = torch.linspace(-9, 9, 40 * 8).view(40, 8).sin().double(), torch.arange(40) % 3
OVER_MANY = {
    "gram": lambda model: gradient_gram(model, *MANY),
    "norms": lambda model: squared_norms(model, *MANY),
    "diagonal": lambda model: diagonal(model, *MANY),
    "influence": lambda model: influence(model, MANY[0][:2], MANY[1][:2], MANY[0], eps=1e-3),
    "mask": lambda model: GradientMask(0.5, MANY).epoch_end(model, 1),
    "paths": lambda model: record_paths(model, MANY[0]),
    "intervals": lambda model: generalization_interval(model, MANY[0], MANY[0].flip(0)),
}


@pytest.mark.parametrize("measure", OVER_MANY)
@pytest.mark.parametrize("name", FEW)
def test_a_few_rows_that_are_mixed_in_large_batches_alone_are_refused(name, measure):
    said = "mixes the examples of a batch|mixes them|alone than among others"
    check_refused(OVER_MANY[measure], said, FEW[name])


def mixed_precision(model, dtype):
    """A network that computes in half precision inside of its forward, whoever calls it."""

    def forward(s, x):
        with torch.autocast("cpu", dtype=dtype):
            return s.inner(x)

    return Net(forward, inner=in_single(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("measure", ["gram", "norms", "diagonal", "mask"])
@pytest.mark.parametrize("name", ["two are exchanged", "beyond the capacity", "those of the largest norm"])
def test_rows_that_are_mixed_in_mixed_precision_are_refused(name, measure, dtype, monkeypatch):
    monkeypatch.setitem(globals(), "MANY", (MANY[0].float(), MANY[1]))
    check_refused(OVER_MANY[measure], "the network mixes", mixed_precision(FEW[name], dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_rows_in_mixed_precision_are_measured(dtype):
    torch.manual_seed(0)
    model = mixed_precision(over(by_key), dtype)
    rows = rows_of(model, X.float())
    torch.testing.assert_close(gradient_gram(model, X.float(), Y), rows @ rows.T, rtol=3e-2, atol=3e-2)


def test_outputs_in_double_precision_of_a_network_in_single_precision_are_measured():
    model = Net(lambda s, x: s.inner(x).double(), inner=in_single(over(by_key)))
    rows = rows_of(model, X.float())
    torch.testing.assert_close(gradient_gram(model, X.float(), Y), rows @ rows.T, rtol=1e-4, atol=1e-5)


def test_what_mixes_is_named_with_its_module():
    said = "example 7 is another one among fewer examples: .*, maybe by {}: make that work on each"
    torch.manual_seed(0)
    check_refused(OVER_MANY["gram"], said.format("select in its forward"), large_alone(by_hand))
    inner = nn.Sequential(nn.Linear(8, 8), large_alone(by_hand)).double()
    check_refused(OVER_MANY["gram"], said.format(r"select in '1' \(Net\)"), inner)


def test_gates_whose_rows_are_exchanged_in_large_batches_alone_are_refused():
    order = [*range(6), 7, 6, *range(8, 40)]
    model = over(lambda s, x: s.out(s.first(x)[order].relu()[order] if len(x) > 24 else s.first(x).relu()))
    check_refused(OVER_MANY["paths"], "gate 'relu.*' has other rows", model)


PROBABILITIES = {
    "a layer": lambda: net(nn.Identity()).append(nn.Softmax(1)),
    "a function": lambda: over(lambda s, x: s.out(s.first(x).relu()).softmax(1)),
    "its exponential": lambda: over(lambda s, x: s.out(s.first(x).relu()).log_softmax(1).exp()),
    "one for each class": lambda: net().append(nn.Sigmoid()),
}
OF_LOGITS = {
    "gram": MEASURES["gram"],
    "diagonal": MEASURES["diagonal"],
    "true diagonal": lambda model: diagonal(model, X, kind="true"),
    "influence": MEASURES["influence"],
    "norms": lambda model: squared_norms(model, X[:1], Y[:1]),
    "margin": lambda model: margin(model, X, Y),
    "sharpness": lambda model: sharpness(model, X, Y),
}
TAKEN = "outputs are probabilities, and the cross-entropy takes them for logits"


@pytest.mark.parametrize("measure", OF_LOGITS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_that_are_taken_for_logits_are_told_of_once(name, measure):
    model = PROBABILITIES[name]()
    where = {"a layer": r"ends in '4' \(Softmax\), whose", "one for each class": r"ends in '3' \(Sigmoid\), whose"}
    with pytest.warns(UserWarning, match=where.get(name, "gives such, whose")) as told:
        OF_LOGITS[measure](model)
    assert sum(TAKEN in str(one.message) for one in told) == 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        MEASURES["gram"](model)
    assert not [one for one in told if TAKEN in str(one.message)] or measure == "influence"  # which measures a copy


def test_logarithms_of_probabilities_and_other_losses_are_not_told_of(recwarn):
    for measure in OF_LOGITS.values():
        measure(net().append(nn.LogSoftmax(1)))
    gradient_gram(PROBABILITIES["one for each class"](), X, Y, loss=lambda o, t: (o - F.one_hot(t, 3)).square().sum(1))
    assert not [one for one in recwarn if TAKEN in str(one.message)]
