"""Networks whose backward pass, and not their forward pass, is what a formula or a check could get wrong."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher import diagonal, influence
from gendyn_lite.measures.stiffness import gradient_gram, squared_norms
from tests.measures import naive
from tests.measures.networks import Net

pytestmark = pytest.mark.filterwarnings("ignore:no formula for", "ignore:There is a performance drop")
torch.manual_seed(0)
X, Y = torch.randn(12, 6).double(), torch.arange(12) % 3
TOKENS = torch.randint(1, 11, (12, 7)).index_fill_(1, torch.tensor([5, 6]), 0)
MEASURES = {"gram": gradient_gram, "norms": squared_norms, "diagonal": diagonal}


def kept(gradient):
    """The larger half of a batch's gradients, and zeros."""
    sizes = gradient.norm(dim=1)
    return gradient * (sizes >= sizes.median())[:, None]


class Sparse(Function):
    """The identity, whose backward pass keeps the larger half of a batch's gradients."""

    @staticmethod
    def forward(ctx, h):
        return h.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return kept(gradients[0])


def hooking(h):
    if h.requires_grad:
        h.register_hook(kept)
    return h


def around(function, **more):
    """A network with a function in its middle."""
    first, last = nn.Linear(6, 8), nn.Linear(8, 3)
    return Net(lambda s, x: s.last(torch.tanh(function(s.first(x)))), first=first, last=last, **more).double().eval()


def rows_of(model, x, y):
    return torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, x, y)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("function", [Sparse.apply, hooking], ids=["own-backward", "hook"])
@pytest.mark.parametrize("measure", MEASURES)
def test_gradients_that_depend_on_the_batch_are_refused_though_outputs_do_not(measure, function, dtype):
    model = around(function).to(dtype)
    for _ in range(2):
        with pytest.raises(UserError, match=r"an example's gradient is in layer .* depends on the other examples"):
            MEASURES[measure](model, X.to(dtype), Y)


def test_a_range_of_the_batch_that_changes_no_value_is_right_or_refused():
    def within(h):
        largest = h.detach().abs().amax()
        return h.clamp(-largest, largest)

    model = around(within)
    rows = rows_of(model, X, Y)
    for size in (12, 4, 3, 1):
        try:
            found = torch.cat([value.flatten() for value in diagonal(model, X, Y, batch_size=size).values()])
        except UserError:
            continue
        torch.testing.assert_close(found, rows.square().mean(0), rtol=1e-6, atol=1e-12)


def transposed():
    first, last = nn.Linear(6, 8, bias=False), nn.Linear(8, 6, bias=False)
    del last.weight
    model = nn.Sequential(first, nn.ReLU(), last).double().eval()
    last.weight = first.weight.t()
    return model


@pytest.mark.parametrize("measure", MEASURES)
def test_what_was_refused_once_is_refused_again_by_every_measure(measure):
    model = transposed()
    for again in (measure, *MEASURES):
        with pytest.raises(UserError, match=r"another gradient by torch.func than by autograd"):
            MEASURES[again](model, X, Y)


def test_an_embedding_that_divides_gradients_by_counts_of_the_batch_is_refused():
    words = nn.Embedding(11, 4, scale_grad_by_freq=True)
    model = nn.Sequential(words, nn.Flatten(), nn.Linear(28, 3)).double().eval()
    for measure in MEASURES.values():
        with pytest.raises(UserError, match=r"'0' \(Embedding\) has scale_grad_by_freq=True"):
            measure(model, TOKENS, Y)


class Doubled(Function):
    """The identity, whose forward derivative is twice its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h):
        return h.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


def signs(h):
    with torch.no_grad():
        off = torch.sign(h) - h
    return h + off


def tied():
    """An embedding with padding that is the output layer, too."""
    words, out = nn.Embedding(11, 8, padding_idx=0), nn.Linear(8, 11, bias=False)
    out.weight = words.weight
    return Net(lambda s, t: s.out(torch.tanh(s.words(t)).mean(1)), words=words, out=out).double().eval()


DIFFERENT = {"no_grad": (around(signs), X), "jvp": (around(Doubled.apply), X), "padding": (tied(), TOKENS)}


@pytest.mark.parametrize("name", DIFFERENT)
def test_forward_derivatives_that_are_others_than_gradients_are_refused(name):
    model, x = DIFFERENT[name]
    with pytest.raises(UserError, match=r"forward derivatives of the network, .* are others than its gradients"):
        influence(model, x[:3], Y[:3], x[2:8], eps=1e-3)


def test_a_part_that_is_detached_has_the_influence_of_its_gradients():
    model = around(lambda h: h + (torch.sign(h) - h).detach())
    found = influence(model, X[:3], Y[:3], X[2:5], eps=1e-3)
    steps = rows_of(model, X[:3], Y[:3])
    for j, x in enumerate(X[2:5]):
        log_p = model(x[None])[0].log_softmax(0)
        of = [torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in log_p]
        flat = torch.stack([torch.cat([value.flatten() for value in parts]) for parts in of])
        expected = 0.5e-6 * (log_p.exp() * (steps @ flat.T).square()).sum(1)
        torch.testing.assert_close(found.true[:, j], expected.detach(), rtol=1e-8, atol=0)


def routed():
    """Two experts; the second is used by inputs whose first entry is large."""
    experts = nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 3)])

    def forward(s, x):
        out, chosen = x.new_zeros(len(x), 3), (x[:, 0] > 2).long()
        for number, expert in enumerate(s.experts):
            if (own := (chosen == number).nonzero().flatten()).numel():
                out = out.index_add(0, own, expert(x[own]))
        return out

    return Net(forward, experts=experts).double().eval()


def test_a_part_that_only_later_batches_use_has_its_information():
    torch.manual_seed(1)
    model, x = routed(), torch.randn(40, 6).double().clamp(-2, 2)
    x[30:, 0] = 3
    y = torch.arange(40) % 3
    expected = diagonal(model, x, y, batch_size=40)
    for given in (diagonal(model, x, y, batch_size=8), diagonal(model, x.flip(0), y.flip(0), batch_size=8)):
        for name, value in given.items():
            torch.testing.assert_close(value, expected[name])
    with pytest.raises(UserError, match=r"parameter 'experts.1.weight' gets no gradient"):
        diagonal(model, x[:30], y[:30], batch_size=8)


def test_a_transformer_with_padding_is_measured():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = nn.TransformerEncoder(block, 1)
    words, out = nn.Embedding(11, 8), nn.Linear(8, 3)

    def forward(s, t):
        return s.out(s.encoder(s.words(t), src_key_padding_mask=t == 0)[:, 0])

    model = Net(forward, words=words, encoder=encoder, out=out).double().eval()
    rows = rows_of(model, TOKENS, Y)
    torch.testing.assert_close(gradient_gram(model, TOKENS, Y), rows @ rows.T)
    assert torch.backends.mha.get_fastpath_enabled()


def test_convolutions_of_one_weight_with_other_groups_are_measured():
    one, other = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4)
    other.weight = one.weight
    model = nn.Sequential(one, nn.Tanh(), other, nn.Flatten(), nn.Linear(36, 3)).double().eval()
    x = torch.randn(12, 1, 7, 7).double()
    rows = rows_of(model, x, Y)
    torch.testing.assert_close(squared_norms(model, x, Y), rows.square().sum(1))


def test_a_custom_loss_over_a_hooked_network_is_checked_too():
    with pytest.raises(UserError, match="depends on the other examples"):
        gradient_gram(around(hooking), X, Y, loss=lambda out, y: F.mse_loss(out[:, 0], y.double(), reduction="none"))


@pytest.mark.filterwarnings("ignore:in half precision")
def test_a_hook_in_a_network_of_mixed_precision_is_no_reason_to_fail():
    def same(h):
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient)
        return h

    first, last = nn.Linear(6, 8).bfloat16(), nn.Linear(8, 3)
    rough = Net(lambda s, x: s.last(torch.tanh(same(s.first(x)).float())), first=first, last=last).eval()
    assert torch.isfinite(squared_norms(rough, X.bfloat16(), Y)).all()
