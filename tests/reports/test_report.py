"""A report on somebody's network: numbers are those of the measures, words cannot run, refusals are a line."""

from __future__ import annotations

import errno
import json
import math
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import gendyn_lite
from gendyn_lite import cli, data, models, reports
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.stiffness import by_pair, cosine, gradient_gram, squared_norms
from gendyn_lite.reports import loading
from gendyn_lite.reports.among import among
from gendyn_lite.results import published
from gendyn_lite.train import fit
from tests.browser.conftest import browser  # noqa: F401 (a fixture)
from tests.browser.visit import Visit

EVIL = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
SMALL = {"few": 24, "lines": 4}
PLACED = (
    ("stiffness", "cosine within a class", "lens/stiffness:within"),
    ("stiffness", "cosine between classes", "lens/stiffness:between"),
    ("fisher", "trace of the empirical Fisher information", "lens/fisher:trace"),
    ("intervals", "length (1 is the distance of the two images)", "lens/intervals:pair"),
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=300)


@pytest.fixture(scope="module")
def network(digits):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )
    config = RunConfig(experiment="own", epochs=5, batch_size=30, learning_rate=0.05, standardize="per_channel")
    fit(model, digits, config, device="cpu")
    return model


@pytest.fixture(scope="module")
def written(network, digits, tmp_path_factory):
    return gendyn_lite.report(network, digits, out=tmp_path_factory.mktemp("report") / "net.html", **SMALL)


def numbers(path):
    found = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    return {lens["name"]: lens for lens in found["lenses"]}, found


def test_the_numbers_are_those_of_the_measures(written, network, digits):
    lenses, about = numbers(written)
    assert about["warning"] == "" and all(lens["refused"] == "" for lens in lenses.values())
    sample = reports.sample_of(network, digits)
    x, y = sample.x[:24], sample.y[:24]
    stiff = by_pair(cosine(gradient_gram(network, x, y)), y)
    found = lenses["stiffness"]["numbers"]
    assert found["cosine within a class"]["mean"] == pytest.approx(stiff["within"].mean, rel=1e-4)
    assert found["cosine between classes"]["high"] == pytest.approx(stiff["between"].high, rel=1e-4)
    trace = lenses["fisher"]["numbers"]["trace of the empirical Fisher information"]
    assert trace["mean"] == pytest.approx(float(squared_norms(network, x, y).mean()), rel=1e-5)
    assert sum(row["share of the information"] for row in lenses["fisher"]["layers"]) == pytest.approx(1)
    right = float((network(sample.x).argmax(1) == sample.y).double().mean())
    accuracy = lenses["fit"]["numbers"]["training accuracy"]
    assert accuracy["mean"] == pytest.approx(right) and accuracy["low"] < right <= accuracy["high"] <= 1
    on = relu_paths.record_paths(network, x)["2"]
    assert lenses["paths"]["layers"][0]["units on"] == pytest.approx(float(on.double().mean()))
    same = cosine(relu_paths.path_gram(on).double()).fill_diagonal_(-1).argmax(1)
    share = lenses["paths"]["numbers"]["nearest by path is of the same class"]["mean"]
    assert share == pytest.approx(float((y[same] == y).double().mean()))
    ends = [row["upper"] - row["lower"] for row in lenses["intervals"]["layers"]]
    length = lenses["intervals"]["numbers"]["length (1 is the distance of the two images)"]["mean"]
    assert length == pytest.approx(np.mean(ends)) and 0 < length <= 3


def test_the_file_is_small_and_has_pictures_of_the_examples(written):
    text = written.read_text()
    assert len(text) < 3e6 and text.count("data:image/png;base64,") >= 24
    assert not list(written.parent.glob(".*"))


def test_a_network_that_knows_nothing_is_said_to_be_one_first(digits, tmp_path):
    model = models.build("mlp", num_classes=10, in_shape=(1, 8, 8), widths=[8], seed=0)
    for fresh, said in ((True, "This network is untrained"), (False, "does no better than chance")):
        text = reports.report(model, digits, out=tmp_path / "a.html", fresh=fresh, **SMALL).read_text()
        assert text.index(said) < text.index("In short")


def test_it_is_placed_among_the_published_networks(written):
    about = numbers(written)[1]["among"]
    runs = published("which_lens")
    others = runs[(runs["label_corruption"] == 0) & (runs["train_loss"] <= runs["stop_at_loss"])]
    others = others[others["model"] == "alexnet_small"]
    lenses = numbers(written)[0]
    for row, (lens, of, column) in zip(about["rows"], PLACED, strict=True):
        own = lenses[lens]["numbers"][of]["mean"]
        assert row["yours"] == own and row["middle"] == pytest.approx(others[column].median())
        assert row["below"] == pytest.approx((others[column].dropna() < own).mean())
    assert "trained on other images than yours" in about["warning"] and "of another family" not in about["warning"]
    assert "Among the networks of the book" in written.read_text()


def test_beside_networks_of_its_kind_and_loss_there_is_no_warning(monkeypatch):
    fitted = {"training loss (nats)": {"mean": 0.06}, "test accuracy": {"mean": 0.9}}
    within = {"cosine within a class": {"mean": 0.2}, "cosine between classes": {"mean": math.nan}}
    lenses = [{"name": "fit", "numbers": fitted}, {"name": "stiffness", "numbers": within}]
    found = among(lenses, dataset="mnist", convolutional=False)
    assert found.warning == "" and [row["measure"] for row in found.rows] == ["stiffness within classes"]
    assert "fully connected networks on MNIST, each trained on true labels to a training loss of 0.05" in found.told
    assert among(lenses[:1], dataset="mnist", convolutional=False) is None
    fitted["training loss (nats)"]["mean"] = 0.4
    unequal = among(lenses, dataset="mnist", convolutional=False).warning
    assert unequal.startswith("This comparison is not a fair one: your network's training loss is 0.4, theirs 0.05")
    dense = published("which_lens").query("model == 'mlp'")
    monkeypatch.setattr("gendyn_lite.reports.among.published", lambda experiment: dense)
    assert "of another family" in among(lenses, dataset="cifar10", convolutional=True).warning


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def test_what_cannot_be_computed_says_why_and_the_rest_goes_on(digits, tmp_path):
    model = models.build("mlp", num_classes=10, in_shape=(1, 8, 8), widths=[8], activation="tanh", seed=0)
    lenses, _ = numbers(reports.report(model, digits, out=tmp_path / "a.html", **SMALL))
    assert "the network has no gates (its activations: Tanh)" in lenses["paths"]["refused"]
    assert "no gates" in (tmp_path / "a.html").read_text()
    model.append(Noise())
    random, _ = numbers(reports.report(model, digits, out=tmp_path / "b.html", **SMALL))
    assert "No lens could be computed on this network" in (tmp_path / "b.html").read_text()
    assert "No lens could be computed" not in (tmp_path / "a.html").read_text()
    assert all("draws at random when it is run, in '" in random[name]["refused"] for name in ("fit", "stiffness"))
    assert lenses["stiffness"]["refused"] == "" and "samples, then bisection" in lenses["intervals"]["notes"][0].lower()


@pytest.mark.browser
def test_the_page_is_drawn_offline_and_names_in_it_are_text(browser, tmp_path):  # noqa: F811
    draw = np.random.default_rng(0)
    images, y = draw.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 2
    own = data.from_arrays(images, y, test=(images[:8], y[:8]), description=EVIL, class_names=[EVIL, "b"])
    model = nn.Sequential()
    for name, module in (("flat", nn.Flatten()), (EVIL.replace(".", ""), nn.Linear(64, 8)), ("on", nn.ReLU())):
        model.add_module(name, module)
    model.add_module("out", nn.Linear(8, 2))
    path = reports.report(model, own, out=tmp_path / "evil.html", name=EVIL, **SMALL)
    with Visit(browser, path.as_uri()) as visit:
        visit.settle()
        assert visit.elsewhere == [] and visit.complaints == []
        assert visit.page.evaluate("window.harmed") is None
        assert EVIL in visit.page.inner_text("h1")
        assert visit.page.locator("figure.gendyn-chart svg").count() >= 6
        assert visit.page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")


MODULE = """
import time, torch, urllib.request, sys
from torch import nn
def good(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def wide(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))
def other(): return nn.Linear(7, 10)
def needs(width): return nn.Linear(width, 10)
def text(): return "no network"
def raises(): raise KeyError("a\\nb")
def leaves(): sys.exit(3)
def slow(): time.sleep(30)
def downloads(): return torch.hub.load_state_dict_from_url("http://127.0.0.1:9/x.pth")
class Own(nn.Module):
    def __init__(self, *given): super().__init__(); self.of, self.given = good(), given
class Two(Own):
    def forward(self, x, mask): return self.of(x)
class Surprises(Own):
    def forward(self, x): raise KeyError("surprise")
class Pair(Own):
    def forward(self, x): return self.of(x), x
def two(): return Two()
def surprises(): return Surprises()
def pair(): return Pair()
def empty(): return good().to("meta")
def coloured(): raise RuntimeError("\\x1b[31mred\\nmore")
def infinite():
    model = good(); model[1].weight.data.fill_(float("nan")); return model
"""


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def f(:")
    np.savez(tmp_path / "nolabels.npz", x=np.zeros((4, 8, 8), np.uint8))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], object), y=[0], x_test=[0], y_test=[0])
    save_file({"1.weight": torch.zeros(3, 64), "2.bias": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    np.savez(tmp_path / "far.npz", x=np.zeros((2, 8, 8), np.uint8), y=[0, 2**40], x_test=np.zeros((1, 8, 8), np.uint8),
             y_test=[0])  # fmt: skip
    real = np.zeros((4, 8, 8), np.float32)
    np.savez(tmp_path / "real.npz", x=real, y=[0, 1, 2, 9], x_test=real, y_test=[0, 1, 2, 9])
    np.savez(tmp_path / "one.npz", x=real, y=[0] * 4, x_test=real, y_test=[0] * 4)
    (tmp_path / "zero.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_bytes(b"hello world")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "harmed")))
    (tmp_path / "cut.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{")
    (tmp_path / "images").mkdir()
    (tmp_path / "place.html").mkdir()
    return tmp_path


REFUSED = {
    "no such name": (["resnet81"], "unknown network 'resnet81': did you mean 'resnet18'"),
    "no such file": (["{0}/none.py:f"], "none.py is no file: expected FILE.py:FUNCTION"),
    "no such module": (["no_such_package.part:f"], "no module named 'no_such_package'"),
    "no such function": (["{0}/net.py:goood"], "unknown function of .*net.py 'goood': did you mean 'good'"),
    "no file": ([":good"], "':good' names no file or module before the colon: expected FILE.py:FUNCTION"),
    "a file that is broken": (["{0}/broken.py:f"], "broken.py:f raises SyntaxError"),
    "arguments": (["{0}/net.py:needs"], r"needs arguments \(width\): write a function without any"),
    "no network": (["{0}/net.py:text"], r"gives a str, expected a network"),
    "it raises": (["{0}/net.py:raises"], "net.py:raises raises KeyError"),
    "it exits": (["{0}/net.py:leaves"], "net.py:leaves raises SystemExit: 3"),
    "it takes minutes": (["{0}/net.py:slow"], "has not given a network after"),
    "it downloads": (["{0}/net.py:downloads"], "downloads something: fetch it first"),
    "more classes": (["{0}/net.py:wide"], "the network has 1,000 classes and the data 10: give it a head of 10"),
    "--classes": (
        ["squeezenet1_1", "--classes", "7"],
        "does not take points|the network has 7 classes and the data 10",
    ),
    "other inputs": (["{0}/net.py:other"], r"the network does not take points of shape \(1, 8, 8\)"),
    "two inputs": (["{0}/net.py:two"], r"does not take points of shape .* missing 1 required positional argument"),
    "its forward raises": (["{0}/net.py:surprises"], r"does not take points of shape \(1, 8, 8\): 'surprise'"),
    "a tuple": (["{0}/net.py:pair"], "output has shape tuple, expected logits"),
    "no device": (["{0}/net.py:empty"], r"has no weights \(device meta\)"),
    "control characters": (["{0}/net.py:coloured"], r"raises RuntimeError: \\x1b\[31mred$"),
    "no classes": (["resnet18", "--classes", "0"], "--classes is 0, expected a whole number of at least 2"),
    "no pixels": (["{0}/net.py:good", "--data", "{0}/images", "--size", "0"], "--size is 0, expected a whole number"),
    "labels beyond reason": (["{0}/net.py:good", "--data", "{0}/far.npz"], "labels reach 1,099,511,627,776, expected"),
    "an empty file": (["{0}/net.py:good", "--weights", "{0}/zero.pth"], "zero.pth cannot be read as weights"),
    "a text": (["{0}/net.py:good", "--weights", "{0}/text.pth"], "text.pth cannot be read as weights"),
    "data without a name": (["{0}/net.py:good", "--data", ""], "--data is '', expected the path"),
    "a pickle that does something": (["{0}/net.py:good", "--weights", "{0}/evil.pth"], "is a pickle with code in it"),
    "NaN": (["{0}/net.py:infinite"], "weights '1.weight' are not finite"),
    "no weights": (["{0}/net.py:good", "--weights", "{0}/none.pth"], "none.pth is no file: expected weights"),
    "other weights": (
        ["{0}/net.py:good", "--weights", "{0}/other.safetensors"],
        "has weights of another network: 1 tensors",
    ),
    "a pickle": (["{0}/net.py:good", "--weights", "{0}/whole.pth"], "is a pickle with code in it"),
    "damaged": (["{0}/net.py:good", "--weights", "{0}/cut.safetensors"], "cannot be read as weights"),
    "no labels": (["{0}/net.py:good", "--data", "{0}/nolabels.npz"], "nolabels.npz has x, and no y: expected x, y"),
    "objects": (["{0}/net.py:good", "--data", "{0}/pickled.npz"], "cannot be read as arrays: Object arrays"),
    "no images": (["{0}/net.py:good", "--data", "{0}/images"], "images has no images in train/"),
    "no data": (["{0}/net.py:good", "--data", "digitss"], "unknown dataset 'digitss'"),
    "no size": (["{0}/net.py:good", "--size", "8"], "--size is for a folder of images"),
    "no standard": (["{0}/net.py:good", "--standard", "mine"], "unknown standard 'mine'"),
    "a standard of no use": (
        ["{0}/net.py:good", "--data", "{0}/real.npz", "--standard", "per_image"],
        "standard is 'per_image', and the inputs are in floating point",
    ),
    "one class": (["{0}/net.py:good", "--data", "{0}/one.npz"], "the data have one class alone, expected at least two"),
    "two sizes": (
        ["{0}/net.py:good", "--data", "folder:{0}/images@8", "--size", "4"],
        "--size is 4 and folder:.*@8 says 8: leave one",
    ),
    "no HTML": (["{0}/net.py:good", "--out", "{0}/a.pdf"], "expected a name that ends in .html"),
    "a folder in its place": (["{0}/net.py:good", "--out", "{0}/place.html"], "is a folder: choose another place"),
    "no such folder": (["{0}/net.py:good", "--out", "{0}/none/a.html"], "is in a folder that does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_reported_is_one_line(case, folder, capsys, monkeypatch):
    monkeypatch.setattr("gendyn_lite.reports.loading.BUILD_SECONDS", 1)
    words, said = REFUSED[case]
    asked = ["report", *(word.format(folder) for word in words)]
    asked += [] if "--data" in asked else ["--data", "digits"]
    asked += [] if "--out" in asked else ["--out", str(folder / "a.html")]
    assert cli.main(asked) == 2
    # An older torch says itself what it downloads.
    lines = [line for line in capsys.readouterr().err.splitlines() if line and not line.startswith("Downloading: ")]
    assert len(lines) == 1 and re.search(said, lines[0]), lines
    assert not list(folder.glob("a.*")) and not (folder / "harmed").exists()


class InDict(nn.Module):
    """A network whose logits are in a dict, as those of Hugging Face's."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return {"logits": self.inner(x)}


def test_logits_in_a_dict_are_taken_by_a_function(network, digits, written, tmp_path):
    told = {"out": tmp_path / "dict.html", **SMALL}
    with pytest.raises(UserError, match="of a tuple or dict by output="):
        gendyn_lite.report(InDict(network), digits, **told)
    model = InDict(network)
    lenses = numbers(gendyn_lite.report(model, digits, output=lambda out: out["logits"], **told))[0]
    assert not model._forward_hooks
    for name, lens in numbers(written)[0].items():
        assert lenses[name]["refused"] == ""
        for number, estimate in lens["numbers"].items():
            loose = {"rel": 1e-4, "abs": 0.05 if name == "intervals" else 1e-6}  # there the grid, not every piece
            assert lenses[name]["numbers"][number]["mean"] == pytest.approx(estimate["mean"], **loose)


def test_a_command_writes_a_report(folder, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.save({"state_dict": model.state_dict()}, folder / "good.pth")
    words = ["report", f"{folder}/net.py:good", "--weights", f"{folder}/good.pth", "--data", "digits"]
    assert cli.main([*words, "--out", f"{folder}/a.html"]) == 0
    told = capsys.readouterr()
    assert "a.html, with its numbers in" in told.out and "paths: " in told.err and "no gates" in told.err
    found = json.loads((folder / "a.json").read_text())
    expected = reports.report(model, data.load("digits"), out=folder / "b.html")
    assert found["lenses"][0]["numbers"] == numbers(expected)[0]["fit"]["numbers"]


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_of_a_wrapped_network_are_its_own(wrapper, tmp_path):
    mine, theirs = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({wrapper + name: value for name, value in theirs.state_dict().items()}, tmp_path / "saved.pth")
    loading.load_weights(mine, tmp_path / "saved.pth")
    assert torch.equal(mine.weight, theirs.weight) and torch.equal(mine.bias, theirs.bias)


def test_weights_under_torch_s_own_key_are_found_and_numbers_of_another_kind_are_refused(tmp_path):
    mine, path = nn.Linear(2, 3), tmp_path / "saved.pth"
    torch.save({"epoch": 3, "model_state_dict": {name: value + 1 for name, value in mine.state_dict().items()}}, path)
    before = mine.weight.detach().clone()
    loading.load_weights(mine, path)
    assert torch.equal(mine.weight, before + 1)
    for dtype, told in ((torch.complex64, "weight is complex64 and float32"), (torch.int64, "weight is int64")):
        torch.save({name: value.to(dtype) for name, value in mine.state_dict().items()}, path)
        with pytest.raises(UserError, match=f"numbers of another kind: {told}"):
            loading.load_weights(mine, path)
    assert torch.equal(mine.weight, before + 1)


@pytest.mark.parametrize("end", [".new", ".json"])
def test_a_full_disk_leaves_nothing_half_written(end, folder, capsys, monkeypatch):
    def full(path, text):
        if path.suffix == end:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text(text)

    monkeypatch.setattr(reports, "write_text", full)
    (folder / "a.html").write_text("old")
    (folder / "a.json").write_text("old")
    assert cli.main(["report", f"{folder}/net.py:good", "--data", "digits", "--out", f"{folder}/a.html"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left on device: free some space" in last
    assert [path.read_text() for path in folder.glob("*a.*")] == ["old", "old"]


def test_images_without_a_loss_count_as_wrong_and_are_told_of(digits):
    class Holes(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)).where(x[:, 0, 2, 2, None] < 1, torch.nan)

    torch.manual_seed(0)
    model = Holes(64, 10)
    sample = reports.sample_of(model, digits)
    holes = sample.x[:, 0, 2, 2] >= 1
    lens = reports.fit(model, sample)
    named = model(sample.x).argmax(1) == sample.y
    assert named[holes].any() and not holes.all()
    assert lens.numbers["training accuracy"].mean == pytest.approx(float((named & ~holes).double().mean()))
    assert math.isfinite(lens.numbers["training loss (nats)"].mean)
    assert f"The loss of {int(holes.sum())} of 300 training images is not finite" in lens.notes[0]
    nowhere = reports.fit(
        nn.Linear(64, 10), sample._replace(x=sample.x.flatten(1) * torch.nan, test_x=sample.test_x.flatten(1))
    )
    assert nowhere.numbers["training accuracy"].mean == 0 and len(nowhere.notes) == 1
    assert math.isnan(nowhere.numbers["training loss (nats)"].mean)
