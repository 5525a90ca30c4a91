"""What every measure refuses of a network, of examples, of memory and of numbers, each in one line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gendyn_lite.measures import fisher, relu_paths, stiffness
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
