"""Networks that people bring, beside one backward pass for each example in float64: right, every one of them."""

from __future__ import annotations

import json
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gendyn_lite.measures.fisher import diagonal
from gendyn_lite.measures.stiffness import gradient_gram, squared_norms
from tests.measures.networks import scrambled
from tests.measures.zoo import TABLE

COUNT = 3


def rows(model, x, y, output):
    """Each example's gradient, flat; the example is run twice, since torch's batch-norm can be wrong for a lone one."""
    values = [value for value in model.parameters() if value.requires_grad]
    found = []
    for i in range(len(x)):
        twice, label = (torch.stack([part[i], part[i]]) for part in (x, y))
        out = model(twice)
        loss = F.cross_entropy(output(out) if output else out, label, reduction="none")[0]
        gradients = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(found)


@pytest.mark.parametrize("name", TABLE)
def test_a_network_that_people_bring_is_measured_rightly(name):
    entry = TABLE[name]
    if entry.needs and find_spec(entry.needs) is None:
        pytest.skip(f"{entry.needs} is not installed: pip install -e '.[networks]'")
    torch.manual_seed(0)
    model = scrambled(entry.build())
    x, y = entry.inputs(COUNT)
    expected = rows(model, x, y, entry.output)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gram = gradient_gram(model, x, y, output=entry.output)
        norms = squared_norms(model, x, y, output=entry.output)
        squares = diagonal(model, x, y, output=entry.output)
    scale = expected.square().sum(1).max()
    torch.testing.assert_close(gram / scale, expected @ expected.T / scale, rtol=0, atol=1e-10)
    torch.testing.assert_close(norms / scale, expected.square().sum(1) / scale, rtol=0, atol=1e-10)
    flat = torch.cat([value.flatten() for value in squares.values()])
    torch.testing.assert_close(flat / scale, expected.square().mean(0) / scale, rtol=0, atol=1e-10)
    said = " ".join(str(one.message) for one in told)
    if entry.fallback:
        assert re.search(entry.fallback, said), said
    else:
        assert "no formula" not in said


def test_the_page_lists_these_networks_and_no_others():
    page = json.loads((Path(__file__).parents[2] / "book/chapters/09_own_network.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in page["cells"])
    listed = re.findall(r"^\| ([^|]+) \| right([^|]*)\|$", text, re.MULTILINE)
    assert dict(listed).keys() == TABLE.keys()
    assert {name for name, how in listed if "one by one" in how} == {name for name in TABLE if TABLE[name].fallback}
