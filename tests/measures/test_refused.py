"""What every measure refuses of a network, of examples, of memory and of numbers, each in one line."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gendyn_lite.measures import capacity, complexity, fisher, intervals, relu_paths, stiffness
from gendyn_lite.measures.per_example import checks
from tests.measures.networks import Centred, Net, check_refused, refused
from tests.measures.stiffness.test_stiffness import problem

NET, X, Y = problem(6)
MEASURES = {
    "gram": stiffness.gradient_gram,
    "norms": stiffness.squared_norms,
    "diagonal": fisher.diagonal,
    "influence": lambda model, x, y: fisher.influence(model, x, y, X, eps=1e-3),
    "image functions": relu_paths.image_functions,
}


def net(*layers):
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 3)).double()


def in_place(s, x):
    x = x.clone()
    return s.first(x)[:, :3] + s.out(torch.relu_(x))


# It reads the examples of a batch as the steps of one sequence.
IN_TIME = Net(lambda s, x: s.rnn(x[:, None])[0][:, 0], rnn=nn.RNN(4, 3)).double()
IN_PLACE = Net(in_place, first=nn.Linear(4, 4), out=nn.Linear(4, 3)).double()
BATCH_NORM = nn.BatchNorm1d(6, track_running_stats=False)
NO_GROUP = nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, (3, 1))).double()
INFINITE = X.clone().index_fill_(0, torch.tensor([4]), torch.inf)
REFUSED = {  # network, inputs, labels
    "batch-norm": (net(nn.BatchNorm1d(6)), X, Y, r"'1' \(BatchNorm1d\) is in train mode.*call model.eval\(\)"),
    "batch-norm-of-the-batch": (net(BATCH_NORM).eval(), X, Y, "keeps no running statistics"),
    "dropout": (net(nn.Dropout(0.5)), X, Y, r"'1' \(Dropout\) is in train mode and draws at random"),
    "frozen": (net().requires_grad_(False), X, Y, "no parameter that requires a gradient"),
    "in-place": (IN_PLACE, X, Y, "layer 'first': its input was changed in place"),
    "no-logits": (NO_GROUP, X, Y, "logits of shape"),
    "mixed": (Centred(4, 3).double(), X, Y, "the network mixes the examples of a batch"),
    "mixed-in-time": (IN_TIME, X, Y, "the network mixes the examples of a batch"),
    "inference": (torch.inference_mode()(net)(), X, Y, "the network was made under torch.inference_mode"),
    "no-example": (NET, X[:0], Y[:0], "x has 0 examples, expected at least"),
    "labels-missing": (NET, X, Y[:2], "x has 6 examples and y 2"),
    "label-too-large": (NET, X, torch.full((6,), 3), "labels span 3 to 3, expected 0 to 2"),
    "label-negative": (NET, X, torch.full((6,), -1), "labels span -1 to -1, expected 0 to 2"),
    "label-type": (NET, X, torch.zeros(6), r"labels are float32 \[6\], expected int64 \[n\]"),
    "precision": (NET, X.float(), Y, "x is float32 and the network float64"),
    "bytes": (NET, torch.zeros(6, 4, dtype=torch.uint8), Y, "x is uint8: standardize"),
    "device": (NET, X.to("meta"), Y, "x is on meta and the network on cpu: move one of them"),
    "infinite": (NET, INFINITE, Y, "gradient of example 4 is not finite"),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_gradient_of_its_own_is_refused_and_left_as_it_was(name, measure):
    model, *given, message = REFUSED[name]
    needed = [value.requires_grad for value in model.parameters()]
    check_refused(MEASURES[measure], message, model, *given)
    assert [value.requires_grad for value in model.parameters()] == needed
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("free", "said"), [(10**6, "takes 1.0 MB, 1.0 MB are"), (15 * 10**7, "takes 0.2 GB, 0.1 GB are")]
)
def test_what_does_not_fit_is_refused(monkeypatch, free, said):
    monkeypatch.setattr(checks, "available_memory", lambda device: free)
    checks.refuse_if_too_large(free, "it", "wait")
    check_refused(checks.refuse_if_too_large, f"it {said} free on cpu: wait", free + 1, "it", "wait")


@pytest.mark.parametrize("files", ["- -: 1000", "max 5: 1000", "600 100: 500", "600 700: 0", "10000 0: 1000"])
def test_a_containers_limit_counts(tmp_path, monkeypatch, files):
    texts, wanted = files.split(": ")
    for name, text in zip(("memory.max", "memory.current"), texts.split(), strict=True):
        if text != "-":
            (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(checks, "Path", lambda path: tmp_path / path.removeprefix("/sys/fs/cgroup/"))
    assert checks.available_memory() == int(wanted)


WHOLE = {str(type(value)): value for value in (0, 2.0, "3", True, None, 10**5000)} | {"beyond": 10}
NUMBERS = (0, -1.0, float("nan"), float("inf"), "5", True, None)
RANGE, MESSAGE = {"least": 1, "most": 9}, "it is .*, expected a whole number from 1 to 9"
test_what_is_no_whole_number_in_its_range_is_refused = refused(
    {name: (checks.check_whole, ("it", value), RANGE, MESSAGE) for name, value in WHOLE.items()}
)
test_what_is_no_number_in_its_range_is_refused = refused(
    {str(value): (checks.check_number, ("it", value, "above 0"), {}, "it is .*, expected above 0") for value in NUMBERS}
)


def test_numbers_in_their_range_pass():
    for value in (1, 5, 9):
        checks.check_whole("it", value, **RANGE)
    checks.check_number("it", 0.5, "above 0 and finite")


NAN, GRAM = X * torch.nan, torch.eye(6).double()
HOLED = GRAM.clone().index_put_((torch.tensor([1]), torch.tensor([2])), torch.tensor(torch.nan).double())
DISTANCES = stiffness.pair_distances(X)
HIDDEN = Net(lambda s, x: s.out(torch.nan_to_num(s.first(x).log().relu())), first=nn.Linear(4, 6), out=nn.Linear(6, 3))
ROOTS = Net(lambda s, x: s.out(x.sqrt()), out=nn.Linear(4, 3)).double()
MASKED = Net(lambda s, x: s.out(x).masked_fill(torch.arange(3) == 2, -torch.inf), out=nn.Linear(4, 3)).double()
DROPS = Net(lambda s, x: s.out(F.dropout(x, 0.5, True)), out=nn.Linear(4, 3)).double()
OF_BATCH = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double().eval()
PIXELS = (X.abs() * 90).byte()
LOADER = DataLoader(TensorDataset(X, Y), 2)


class Reversed(nn.Sequential):
    """Layers in another order."""

    def forward(self, x):
        return super().forward(-x)


class Twice(nn.Linear):
    """A layer that doubles."""

    def forward(self, x):
        return 2 * super().forward(x)


def hooked(model):
    model[0].register_forward_hook(lambda module, args, out: 2 * out)
    return model


def broken():
    model = net()
    model[0].weight.data[0, 0] = torch.nan
    return model


def history(model):
    """A history of an optimizer that holds the last weights alone."""
    found, optimizer = relu_paths.WeightHistory(model), torch.optim.SGD([list(model.parameters())[-1]], lr=0.1)
    found.record(model, X, Y)
    found.after_step(model, optimizer)


def given(change):
    """A training that changes what it is given, and its predictions."""

    def trained(x, signs):
        change(x, signs)
        return lambda inputs: signs

    return trained


def rademacher(predictions):
    return lambda: capacity.empirical_rademacher(lambda x, s: lambda inputs: predictions(s), X, draws=2)


test_what_gave_another_number_or_nan_is_refused = refused(
    {name: (call, (), {}, message) for name, (call, message) in {
        "NaN at a gate, hidden behind it": (
            lambda: relu_paths.record_paths(HIDDEN.double(), X), r"the network gives NaN for image 0 at gate 'relu'"
        ),
        "an interval of NaN": (lambda: intervals.generalization_interval(ROOTS, X, X.flip(0)), "gives NaN at . of 6"),
        "an interval with NaN on its way": (
            lambda: intervals.generalization_interval(ROOTS, X.abs(), -X.abs()), "gives NaN at .* narrow the range"
        ),
        "norms with a hook": (lambda: intervals.weight_norms(hooked(net())), r"has a forward of its own, or hooks"),
        "norms of another forward": (lambda: intervals.weight_norms(Reversed(nn.Linear(4, 4))), "a forward of its own"),
        "norms of another layer": (
            lambda: intervals.weight_norms(nn.Sequential(Twice(4, 3))), r"0 \(Twice\) has a forward of its own"
        ),
        "a path norm with a hook": (lambda: complexity.path_norm(hooked(net()), (4,)), r"'0' .Linear. has a hook"),
        "norms of NaN": (lambda: intervals.weight_norms(broken()), "weights that are not finite"),
        "a norm of NaN weights": (lambda: complexity.frobenius(broken()), "weights that are not finite"),
        "a pair from behind": (lambda: intervals.pair_lines(X, torch.tensor([[0, -1]])), "has indices from -1 to 0"),
        "a pair beyond": (lambda: intervals.pair_lines(X, torch.tensor([[0, 6]])), "expected 0 to 5: there are"),
        "a pair as a triangle": (lambda: intervals.midlines(X, torch.tensor([[0, 1]])), r"expected int64 \[m, 3\]"),
        "between one class": (lambda: intervals.between_means(X, Y * 0, 0, 0), "no direction from class 0 to class 0"),
        "to a class without points": (lambda: intervals.between_means(X, Y * 0, 0, 1), "no direction from class 0 to"),
        "a distance of NaN": (lambda: intervals.pair_distance(NAN), "the points hold NaN"),
        "overlap at a distance of NaN": (
            lambda: relu_paths.overlap_and_distance(X > 0, NAN), "x has entries that are not finite"
        ),
        "a ratio of NaN": (
            lambda: relu_paths.early_to_mid_ratio({1: 0.5, 2: math.nan, 3: 1.0}, milestones=[1]), "is not finite"
        ),
        "a history of some weights": (lambda: history(NET), "the optimizer does not hold '0.weight'"),
        "linear maps of NaN": (lambda: intervals.linear_maps(ROOTS, NAN), "gives NaN at 6 of 6 points"),
        "linear maps of a batch": (lambda: intervals.linear_maps(Centred(4, 3).double(), X), "mixes the examples"),
        "pieces of a batch": (lambda: intervals.pieces(Centred(4, 3).double(), X, X.flip(0)), "mixes the examples"),
        "adversarial, at random": (lambda: intervals.adversarial_directions(DROPS, X, length=1), "draws at random"),
        "components of one point": (lambda: intervals.components(X[[0, 0, 0]]), "the points are all equal"),
        "components of NaN": (lambda: intervals.components(NAN), "the points hold NaN"),
        "influence on what is infinite": (
            lambda: fisher.influence(NET, X, Y, INFINITE, eps=1e-3), "output of watched input 4 is not finite"
        ),
        "influence on a class left out": (
            lambda: fisher.influence(MASKED, X, Y * 0, X, eps=1e-3), "output of watched input 0 is not finite"
        ),
        "influence with a mask of NaN": (
            lambda: fisher.influence(NET, X, Y, X, eps=1, masks={"0.weight": NET[0].weight.detach() * torch.nan}),
            "masks.'0.weight'. has entries that are not finite",
        ),
        "influence of a huge step": (lambda: fisher.influence(NET, X, Y, X, eps=1e300), "take a smaller eps"),
        "loss change of a huge step": (
            lambda: stiffness.loss_change(net(nn.Tanh()), X, Y, examples=[0], eps=1.7e308), "take a smaller eps"
        ),
        "loss change of no step": (
            lambda: stiffness.loss_change(NET, X, Y, examples=[0], eps=1e-30), "lost in the rounding of the losses"
        ),
        "a margin at random": (lambda: complexity.margin(DROPS, X, Y), "draws at random"),
        "a margin of a batch": (lambda: complexity.margin(OF_BATCH, X, Y), "mixes the examples"),
        "an infinite margin": (lambda: complexity.margin(MASKED, X, Y * 0 + 2), "a logit is not finite"),
        "a sharpness at random": (lambda: complexity.sharpness(DROPS, X, Y), "draws at random"),
        "a sharpness of a batch": (lambda: complexity.sharpness(OF_BATCH, X, Y), "mixes the examples"),
        "a sharpness of another precision": (lambda: complexity.sharpness(NET, X.float(), Y), "x is float32 and the"),
        "a sharpness of arrays": (lambda: complexity.sharpness(NET, X.numpy(), Y), "x is a ndarray, expected a tensor"),
        "Rademacher, truth values": (rademacher(lambda s: s > 0), "gave bool, and no −1"),
        "Rademacher, classes": (rademacher(lambda s: (s > 0).long()), "gave int64, and no −1"),
        "Rademacher, complex": (rademacher(lambda s: s.cfloat()), "gave complex64, and no −1"),
        "Rademacher, x changed": (
            lambda: capacity.empirical_rademacher(given(lambda x, s: x.sub_(1)), X.clone()), "fit changed x in place"
        ),
        "stability, x changed": (
            lambda: capacity.replace_one_stability(given(lambda x, y: x.sub_(1)), X.clone(), Y, swaps=2),
            "fit changed x in place",
        ),
        "stability of one class": (
            lambda: capacity.replace_one_stability(given(lambda x, y: None), X, Y * 0, num_classes=1, swaps=2),
            "num_classes is 1, expected at least 2",
        ),
        "a gap of NaN examples": (lambda: capacity.vc_gap_bound(5, math.nan), "n nan, .*expected at least 1"),
        "a norm of NaN": (
            lambda: capacity.label_account(n=5, gap_true=0.1, gap_random=0.1, squared_norms=(1.0, math.nan)),
            r"squared_norms is \(1.0, nan\)",
        ),
        "a kernel of pixels, and numbers": (
            lambda: capacity.kernel_regression(PIXELS, Y, width=1).predict(PIXELS.double()), "x is float64 .* uint8"
        ),
        "a kernel of numbers, and pixels": (
            lambda: capacity.kernel_regression(X, Y, width=1).predict(PIXELS), "x is uint8 and the training inputs were"
        ),
        "memorized pixels, and numbers": (
            lambda: capacity.memorizing_network(PIXELS, Y)(PIXELS.double()), "x is float64 .* uint8"
        ),
        "a kernel without width": (lambda: capacity.kernel_regression(X, Y, width=1e-200), "width is 1e-200, expected"),
        "labels in a list": (lambda: capacity.memorizing_network(X, Y.tolist()), "y is a list, expected a tensor"),
        "an average of NaN": (lambda: stiffness.average(HOLED), "stiffness has values that are not finite"),
        "bins of NaN": (lambda: stiffness.by_distance(HOLED, DISTANCES, bins=2), "stiffness has values that are not"),
        "a length of NaN": (lambda: stiffness.critical_length(HOLED, DISTANCES), "stiffness has values that are not"),
        "pairs of an array": (lambda: stiffness.by_pair(GRAM.numpy(), Y), "stiffness is a ndarray, expected a tensor"),
        "pairs of a list of labels": (lambda: stiffness.by_pair(GRAM, Y.tolist()), "labels are a list, expected"),
        "distances of NaN": (lambda: stiffness.pair_distances(NAN), "x has entries that are not finite"),
        "one label without an axis": (lambda: stiffness.gradient_gram(NET, X, Y[0]), "y is a single number, expected"),
        "a mask of a generator": (lambda: fisher.GradientMask(0.5, iter([(X, Y)])), "expected .x, y., a DataLoader"),
        "a mask of three": (lambda: fisher.GradientMask(0.5, (X, Y, Y)), "examples is a tuple, expected .x, y."),
        "a mask of other lengths": (lambda: fisher.GradientMask(0.5, (X, Y[:2])), "x has 6 examples and y 2"),
        "a mask of nothing": (
            lambda: fisher.GradientMask(0.5, lambda: []).epoch_end(NET, 1), "examples= gave no batch, expected at least"
        ),
        "a loss of no image": (lambda: relu_paths.loss_along(NET, X[:0], Y[:0], {}), r"x is \[0, 4\], expected images"),
    }.items()}
)  # fmt: skip


def test_a_training_that_changes_its_labels_changes_no_others():
    assert capacity.empirical_rademacher(given(lambda x, s: s.fill_(1)), X, draws=20).mean < 1
    y = Y.clone()
    capacity.replace_one_stability(given(lambda x, labels: labels.zero_().resize_(1)), X, y, swaps=2)
    assert torch.equal(y, Y)


def test_a_loader_is_taken_for_masks_and_paths():
    masks = [fisher.GradientMask(0.5, examples) for examples in (LOADER, (X, Y))]
    for mask in masks:
        mask.epoch_end(NET, 1)
    for name, mask in masks[0].masks.items():
        assert torch.equal(mask, masks[1].masks[name])
    model = net(nn.ReLU())
    expected = relu_paths.record_paths(model, X)["1"]
    assert torch.equal(relu_paths.record_packed(model, LOADER)["1"].unpack(), expected)
    assert torch.equal(relu_paths.record_activations(model, LOADER)["1"] > 0, expected)


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e200])
def test_distances_and_similarities_do_not_depend_on_a_scale(scale):
    torch.testing.assert_close(stiffness.pair_distances(X * scale), DISTANCES, rtol=1e-9, atol=1e-12)
    now, before = X.abs(), X.flip(0).abs()
    found = relu_paths.self_activation_similarity(now * scale, before * scale)
    torch.testing.assert_close(found, F.cosine_similarity(now, before), rtol=1e-9, atol=0)


def test_norms_of_complex_weights_have_both_parts():
    layer = nn.Linear(1, 1, bias=False, dtype=torch.complex64)
    layer.weight.data.fill_(3 + 4j)
    assert complexity.frobenius(layer) == complexity.distance(layer, {"weight": torch.zeros(1, 1)}) == 5
