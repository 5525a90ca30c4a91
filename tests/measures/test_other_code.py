"""Networks whose code reads weights past their modules, was changed after it was built, or sees one batch at a time."""

from __future__ import annotations

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher import DiagonalSum, diagonal, influence
from gendyn_lite.measures.relu_paths import record_paths
from gendyn_lite.measures.stiffness import gradient_gram, loss_change, squared_norms
from tests.measures import naive
from tests.measures.networks import Net

torch.manual_seed(0)
X, Y = torch.randn(12, 8).double(), torch.arange(12) % 3
IMAGES, OF_IMAGES = torch.randn(6, 2, 7, 7).double(), torch.arange(6) % 3


def layer(*sizes):
    return nn.Linear(*sizes).double()


def net():
    return nn.Sequential(layer(8, 6), nn.ReLU(), layer(6, 3))


def rows_of(model, x, y):
    return torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, x, y)])


def by_grad_mode(self, x):
    with torch.set_grad_enabled(any(value.requires_grad for value in self.body.parameters())):
        hidden = self.body(x).relu()
    return self.out(hidden)


def of_list():
    model = Net(lambda s, x: s.out(x @ s.held[0].T), first=layer(8, 6), out=layer(6, 3))
    model.held = [model.first.weight]
    return model


def of_closure():
    inner = layer(8, 3)
    weight = inner.weight
    return Net(lambda s, x: s.inner(x) + x @ weight.T, inner=inner)


def of_view():
    model = nn.Sequential(layer(8, 6), nn.ReLU(), layer(6, 8), nn.Tanh(), layer(8, 3))
    del model[2].weight
    model[2].weight = model[0].weight.t()
    return model


def of_memo():
    model = Net(
        lambda s, x: s.out(x @ s.kept.setdefault(len(x), s.first.weight.T * 1)), first=layer(8, 6), out=layer(6, 3)
    )
    model.kept = {}
    return model


def conv(**options):
    parts = nn.Conv2d(2, 4, 3, **options), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(*parts).double()


def changed(model, **settings):
    for name, value in settings.items():
        setattr(model[0], name, value)
    return model


def centred(self, x, weight, bias):
    return F.conv2d(x, weight - weight.mean(), bias)


def with_conv_forward():
    model = conv()
    model[0]._conv_forward = types.MethodType(centred, model[0])
    return model


CHANGED = {
    "padding": lambda: changed(conv(padding=1), padding=(0, 0)),
    "padding by name": lambda: changed(conv(padding=1), padding="valid"),
    "padding that has grown": lambda: changed(conv(), padding=(1, 1)),
    "another kernel": lambda: changed(conv(), weight=nn.Parameter(torch.randn(4, 2, 5, 5).double())),
    "a stride that is a number": lambda: changed(conv(padding=1), stride=1),
    "how it convolves": with_conv_forward,
}


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("name", CHANGED)
def test_a_convolution_that_was_changed_after_it_was_built_is_measured_as_it_computes(name):
    model = CHANGED[name]()
    rows = rows_of(model, IMAGES, OF_IMAGES)
    torch.testing.assert_close(gradient_gram(model, IMAGES, OF_IMAGES), rows @ rows.T, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(squared_norms(model, IMAGES, OF_IMAGES), rows.square().sum(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"padding": "same", "dilation": 2}, {"padding": (2, 1)}, {"padding": "valid"}])
def test_a_convolution_as_it_was_built_has_a_formula(options, recwarn):
    gradient_gram(conv(**options), IMAGES, OF_IMAGES)
    assert not [each for each in recwarn if "no formula" in str(each.message)]


@pytest.mark.filterwarnings("ignore:no formula for")
def test_a_padding_token_counted_from_the_end_is_none():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 3)).double()
    model[0].padding_idx = -1
    tokens = torch.arange(18).view(6, 3) % 5
    rows = rows_of(model, tokens, OF_IMAGES)
    torch.testing.assert_close(squared_norms(model, tokens, OF_IMAGES), rows.square().sum(1), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:no formula for")
def test_a_class_of_torch_whose_forward_was_replaced_has_no_formula(monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda s, x: F.linear(x, s.weight / s.weight.norm(), s.bias))
    model = net()
    rows = rows_of(model, X, Y)
    torch.testing.assert_close(squared_norms(model, X, Y), rows.square().sum(1), rtol=1e-9, atol=1e-12)


def test_a_network_that_asks_which_weights_are_trained_is_measured_as_they_are():
    model = Net(by_grad_mode, body=layer(8, 6), out=layer(6, 3))
    rows = rows_of(model, X, Y)
    torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("made", [of_list, of_closure, of_view, of_memo], ids=["list", "closure", "view", "memo"])
@pytest.mark.parametrize("measure", [gradient_gram, squared_norms, diagonal])
def test_weights_that_are_read_past_their_modules_are_refused(measure, made):
    with pytest.raises(UserError, match=r"has another gradient by torch\.func than by autograd: .*reads it past its"):
        measure(made(), X, Y)


@pytest.mark.filterwarnings("ignore:no formula for")
@pytest.mark.parametrize("measure", [gradient_gram, squared_norms, diagonal])
def test_a_loss_that_reads_a_weight_is_refused(measure):
    model = net()

    def loss(logits, y):
        return F.cross_entropy(logits, y, reduction="none") + 0.1 * model[0].weight.square().sum()

    with pytest.raises(UserError, match=r"the loss reads the network's '0.weight', .*: leave that term out of loss="):
        measure(model, X, Y, loss=loss)


def test_a_loss_may_read_a_weight_that_is_detached_and_ask_for_its_dtype():
    model = net()

    def loss(logits, y):
        weight = model[0].weight
        return F.cross_entropy(logits.to(weight.dtype), y, reduction="none") * weight.detach().square().sum()

    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y, loss)])
    torch.testing.assert_close(gradient_gram(model, X, Y, loss=loss), rows @ rows.T, rtol=1e-9, atol=1e-12)


def test_of_a_term_in_the_weights_no_example_with_a_large_loss_keeps_us_from_knowing():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    x, optimizer = X.float(), torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):  # the last example is not fitted
        optimizer.zero_grad()
        F.cross_entropy(model(x[:11]), Y[:11]).backward()
        optimizer.step()

    def loss(logits, y):
        decay = 1e-4 * sum(value.square().sum() for value in model.parameters())
        return F.cross_entropy(logits, y, reduction="none") + decay

    for measure in (gradient_gram, squared_norms, diagonal):
        with pytest.raises(UserError, match=r"the loss reads the network's '0\.weight'"):
            measure(model, x, Y, loss=loss)


def raising(logits, y):
    raise KeyError("no such target")


@pytest.mark.parametrize("loss", [raising, "mse", lambda o, t: F.cross_entropy(o, t, weigth=None)])
def test_what_a_loss_raises_is_told_in_a_line(loss):
    for measure in (gradient_gram, diagonal, lambda *given, loss: influence(*given, X, eps=1e-2, loss=loss)):
        with pytest.raises(UserError, match=r"loss= does not take outputs in float64 .*and these labels: "):
            measure(net(), X, Y, loss=loss)


def test_a_loss_in_single_precision_is_told_that_influence_computes_in_double():
    weight = torch.ones(3)
    with pytest.raises(UserError, match=r"loss= does not take outputs in float64 \(of a copy\) and these labels"):
        influence(net().float(), X.float(), Y, X.float(), eps=1e-2,
                  loss=lambda o, t: F.cross_entropy(o, t, reduction="none", weight=weight))  # fmt: skip


def of_the_network(model):
    """A loss and an output that read the network's weights, whose copy takes the steps."""

    def loss(logits, y):
        return F.cross_entropy(logits, y, reduction="none") + 0.1 * model[0].weight.square().sum()

    return {"loss": loss}, {"output": lambda out: F.linear(out, model[2].weight.T)}


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_or_an_output_that_reads_the_network_beside_its_copy_is_refused(which):
    model = net()
    given = of_the_network(model)[which]
    with pytest.raises(UserError, match=r"(the loss|output=) reads the network's '\d.weight'"):
        influence(model, X[:3], Y[:3], X, eps=1e-2, **given)
    if not which:
        with pytest.raises(UserError, match=r"the loss reads the network's '0.weight'"):
            loss_change(model, X, Y, examples=[0], eps=1e-3, **given)


def held(model):
    """Losses and outputs that hold weights of the network as something else."""
    view, state = model[0].weight.view(-1), model.state_dict()

    def of_class_two(logits, y):
        return F.cross_entropy(logits, y, reduction="none") + (y == 2) * model[0].weight.square().sum()

    return {
        "a view": {"loss": lambda o, t: F.cross_entropy(o, t, reduction="none") + view.square().sum()},
        "one class": {"loss": of_class_two},
        "a view in the output": {"output": lambda out: out * view.square().sum()},
        "numbers": {"output": lambda out: out * model[2].bias.tolist()[0]},
        "a state": {"output": lambda out: out * state["0.weight"].square().sum()},
    }


@pytest.mark.parametrize("name", ["a view", "one class", "a view in the output", "a state", "numbers"])
def test_weights_that_a_loss_or_an_output_holds_are_refused(name):
    model = net()
    with pytest.raises(UserError, match=r"(the loss|output=) reads the network's '(0.weight|2.bias)'"):
        influence(model, X[:3], Y[:3], X, eps=1e-2, **held(model)[name])


LEGITIMATE = {
    "a device": lambda model: lambda o, t: F.cross_entropy(o.to(model[0].weight.device), t, reduction="none"),
    "like a weight": lambda model: lambda o, t: F.cross_entropy(o.to(model[0].weight), t, reduction="none"),
    "class weights": lambda model: (
        lambda o, t: F.cross_entropy(o, t, reduction="none", weight=model[0].weight.new_tensor([1.0, 2, 3]))
    ),
    "without a gradient": lambda model: lambda o, t: F.cross_entropy(o, t, reduction="none") * scale_of(model),
}


@torch.no_grad()
def scale_of(model):
    return model[0].weight.square().sum()


@pytest.mark.parametrize("name", LEGITIMATE)
def test_a_loss_that_reads_no_more_of_a_weight_than_it_may_is_measured(name):
    model = net()
    loss = LEGITIMATE[name](model)
    rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X, Y, loss)])
    torch.testing.assert_close(gradient_gram(model, X, Y, loss=loss), rows @ rows.T, rtol=1e-9, atol=1e-12)
    assert influence(model, X[:3], Y[:3], X, eps=1e-2, loss=loss).kl.isfinite().all()


def in_pairs(count):
    order = torch.arange(count)
    return torch.cat([order[: count // 2 * 2].view(-1, 2).flip(1).flatten(), order[count // 2 * 2 :]])


ORDERS = {  # of the rows inside of a network, which puts them back behind
    "reversed": lambda count: torch.arange(count).flip(0),
    "shifted": lambda count: torch.arange(count).roll(1),
    "in pairs": in_pairs,
    "in halves": lambda count: torch.arange(count).roll(count // 2),
    "first two": lambda count: torch.tensor([1, 0, *range(2, count)][:count]) * (count > 1),
    "last two": lambda count: torch.tensor([*range(count - 2), count - 1, count - 2][-count:]) * (count > 1),
    "both ends": lambda count: torch.tensor([count - 1, *range(1, count - 1), 0][-count:]),
}


class Ordered(nn.Module):
    """A second layer sees the examples in another order."""

    def __init__(self, order):
        super().__init__()
        self.own, self.other, self.out, self.order = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(12, 3), order

    def forward(self, x):
        order = self.order(len(x))
        other = torch.empty(len(x), 6, dtype=x.dtype).index_copy(0, order, self.other(x[order]).relu())
        return self.out(torch.cat([self.own(x).relu(), other], 1))


@pytest.mark.filterwarnings("ignore:no formula for", "ignore:paths tell of gates alone")
@pytest.mark.parametrize("name", ORDERS)
def test_layers_that_see_examples_in_another_order_are_refused_or_right(name):
    for seed, count in enumerate((2, 3, 4, 5, 7, 8, 9, 12)):
        torch.manual_seed(seed)
        model = Ordered(ORDERS[name]).double().eval()
        rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X[:count], Y[:count])])
        found = gradient_gram(model, X[:count], Y[:count])
        torch.testing.assert_close(found, rows @ rows.T, rtol=1e-9, atol=1e-12)
        if ORDERS[name](count).tolist() != list(range(count)):
            with pytest.raises(UserError, match=r"other rows for some images|mixes"):
                record_paths(model, X[:count])


def patched():
    model = net()
    plain = model[0].forward
    model[0].forward = lambda x: plain(x)  # noqa: PLW0108 (a function of its own, around the method)
    return model


def hooked():
    model = net()
    bias = model[2].bias
    model[1].register_forward_hook(lambda module, given, out: out + bias.mean())
    return model


@pytest.mark.parametrize("made", [patched, hooked, of_closure])
def test_a_copy_that_reads_weights_of_the_original_is_refused(made):
    for measure in (lambda model: influence(model, X[:3], Y[:3], X, eps=1e-2),
                    lambda model: loss_change(model, X, Y, examples=[0], eps=1e-3)):  # fmt: skip
        with pytest.raises(UserError, match="a copy of the network still reads the original's"):
            measure(made())


def three_of_a_batch(self, x):
    return self.out(self.first(x).relu() * ((x[:, 0] > 0).long().cumsum(0) <= 3)[:, None])


LATER = X.clone()  # the first six examples are not mixed, the others are
LATER[:6, 0], LATER[6:, 0] = -LATER[:6, 0].abs(), LATER[6:, 0].abs()


def twice(model):
    total = DiagonalSum(model)
    for part in (slice(0, 6), slice(6, 12)):
        total.add(LATER[part], Y[part])


@pytest.mark.parametrize(
    "measure",
    [
        lambda model: diagonal(model, LATER, Y, batch_size=6),
        lambda model: record_paths(model, LATER, batch_size=6),
        twice,
        lambda model: gradient_gram(model, LATER[[*range(6)] * 100 + [*range(6, 12)] * 100], Y.repeat(100)),
    ],
    ids=["diagonal", "paths", "sum", "gram"],
)
@pytest.mark.filterwarnings("ignore:paths tell of gates alone")
def test_mixing_in_a_later_batch_is_seen(measure):
    model = Net(three_of_a_batch, first=layer(8, 6), out=layer(6, 3))
    with pytest.raises(UserError, match=r"another one|mixes|other rows|among others"):
        measure(model)


@pytest.mark.parametrize(("scale", "dtype"), [(1e-5, torch.float64), (5e-3, torch.float32)])
def test_a_small_loss_that_broadcasts_is_refused(scale, dtype):
    model = nn.Sequential(layer(8, 6), nn.ReLU(), layer(6, 1)).to(dtype)
    for value in model[2].parameters():
        value.data *= scale
    y = scale * torch.rand(12, dtype=dtype, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="it mixes examples"):
        squared_norms(model, X.to(dtype), y, loss=lambda out, t: ((out - t) ** 2).mean(1))


def test_weights_that_are_cached_are_refused():
    model = nn.Sequential(parametrizations.weight_norm(layer(8, 6)), nn.ReLU(), layer(6, 3))
    with parametrize.cached(), pytest.raises(UserError, match=r"inside parametrize\.cached\(\)"):
        squared_norms(model, X, Y)
    rows = rows_of(model, X, Y)
    torch.testing.assert_close(squared_norms(model, X, Y), rows.square().sum(1), rtol=1e-9, atol=1e-12)


def test_modules_in_another_order_are_another_network():
    apart, together, mix = nn.Unflatten(0, (1, -1)), nn.Flatten(0, 1), nn.Softmax(1)
    model = nn.Sequential(layer(8, 6), apart, together, mix, apart, together, layer(6, 3))
    squared_norms(model, X, Y)
    model[3], model[4] = apart, mix
    with pytest.raises(UserError, match="mixes the examples of a batch"):
        squared_norms(model, X, Y)


def test_half_precision_that_cannot_be_checked_is_said():
    model = Net(lambda s, x: s.out(s.first(x).relu()), first=layer(8, 6), out=layer(6, 3)).bfloat16()
    with pytest.warns(UserWarning, match=r"^in half precision it is not noticed .*: compare with model\.float\(\)$"):
        squared_norms(model, X.bfloat16(), Y)


BUFFERS = {
    "quantized": lambda: torch.quantize_per_tensor(torch.randn(6), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "in rows": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support|.*nested tensors is in prototype|.*quantize_per_tensor")
@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_of_any_layout_are_no_hindrance(name):
    model = net()
    model.register_buffer("held", BUFFERS[name]())
    rows = rows_of(model, X, Y)
    for _ in range(2):
        torch.testing.assert_close(gradient_gram(model, X, Y), rows @ rows.T, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:no formula for")
def test_sparse_gradients_are_taken():
    bag = nn.EmbeddingBag(7, 6, mode="sum", sparse=True).double()
    model = Net(lambda s, x: s.out(s.bag(x)), bag=bag, out=layer(6, 3))
    tokens = torch.arange(24).view(12, 2) % 7
    bag.sparse = False
    rows = rows_of(model, tokens, Y)
    bag.sparse = True
    torch.testing.assert_close(squared_norms(model, tokens, Y), rows.square().sum(1), rtol=1e-9, atol=1e-12)


class Broken(torch.autograd.Function):
    """An operation whose backward pass fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("not today")


def only_twelve(self, x):
    if len(x) not in (1, 12):
        raise ValueError("one or twelve")
    return self.out(x)


def with_nan():
    table = nn.Embedding(7, 6).double()
    table.weight.data[3, 0] = float("nan")
    return Net(lambda s, x: s.out(s.table(x).sum(1)), table=table, out=layer(6, 3))


REFUSED = {
    "backward": (lambda: Net(lambda s, x: Broken.apply(s.out(x)), out=layer(8, 3)), X, "no backward pass: not today"),
    "few": (lambda: Net(only_twelve, out=layer(8, 3)), X, "does not take 3 of the examples: one or twelve"),
    "sparse x": (net, torch.eye(12, 8).double().to_sparse(), "x is sparse or nested, expected a dense tensor"),
    "NaN": (with_nan, torch.arange(24).view(12, 2) % 7, "not finite|NaN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_raises_in_someone_s_code_is_told_in_a_line(name):
    made, x, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as told:
        squared_norms(made(), x, Y)
    assert "\n" not in str(told.value)


class Rounded(nn.Module):
    """A network that converts what it computes to another dtype on the way, and back."""

    def __init__(self, dtype, *, last=False):
        super().__init__()
        self.first, self.out, self.dtype, self.last = nn.Linear(8, 6), nn.Linear(6, 3), dtype, last

    def forward(self, x):
        if self.last:
            return self.out(self.first(x).relu()).to(self.dtype)
        return self.out(self.first(x).relu().to(self.dtype).to(x.dtype))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_influence_that_a_network_rounds_away_is_refused_and_others_are_right(dtype, last):
    torch.manual_seed(0)
    model, rounds = Rounded(torch.float64).eval(), Rounded(dtype, last=last).eval()
    rounds.load_state_dict(model.state_dict())
    given, answered = (X[:3], Y[:3], X), 0
    for eps in (1.0, 1e-1, 1e-2, 1e-4, 1e-6, 1e-9):
        expected = influence(model.double(), *given, eps=eps)
        try:
            found = influence(rounds.double(), *given, eps=eps)
        except UserError as error:
            assert "lost" in str(error)
            continue
        answered += 1
        torch.testing.assert_close(found.kl.mean(1), expected.kl.mean(1), rtol=0.02, atol=0.0)
        assert found.kl.dtype == found.true.dtype == torch.float64
    assert 0 < answered < 6


def test_the_influence_through_torch_s_fast_attention_is_measured():
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Flatten(), nn.Linear(8, 3)).eval()
    x = X.view(12, 2, 4)
    found = influence(model.double(), x[:2], Y[:2], x, eps=1e-4)
    torch.testing.assert_close(found.kl, found.true, rtol=1e-2, atol=1e-18)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_weight_that_other_examples_use_has_an_information():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 3) for _ in range(2))

        def forward(self, x):
            first = (x[:, :1] > 0).to(x.dtype)
            out = x.new_zeros(len(x), 3)
            for own, expert in zip((first, 1 - first), self.experts, strict=True):
                rows = own.flatten().nonzero()[:, 0]
                if len(rows):
                    out = out.index_copy(0, rows, expert(x[rows]))
            return out

    model = Routed().double().eval()
    expected = naive.gradients(model, X, Y)
    for name, value in diagonal(model, X, Y).items():
        mean = torch.stack([row[name] ** 2 for row in expected]).mean(0)
        torch.testing.assert_close(value.flatten(), mean, rtol=1e-9, atol=1e-12)
    rows = X[X[:, 0] > 0]
    with pytest.raises(UserError, match=r"parameter 'experts\.1\.weight' gets no gradient"):
        diagonal(model, rows, Y[: len(rows)])
