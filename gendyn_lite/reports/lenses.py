"""The five lenses of a report, a function each: what each paper's measure says of a network on a few of its images."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor, nn

from gendyn_lite.errors import first_line
from gendyn_lite.measures import fisher as information
from gendyn_lite.measures import intervals as interval
from gendyn_lite.measures import relu_paths
from gendyn_lite.measures import stiffness as stiff
from gendyn_lite.measures.per_example.apart import own_outputs
from gendyn_lite.measures.per_example.layers import layer_name
from gendyn_lite.measures.stiffness import Estimate
from gendyn_lite.models.logits import tell_of_probabilities

SHOWN = 6  # examples shown with the largest, and with the smallest, values


class Sample(NamedTuple):
    """The inputs of all lenses, preprocessed and on the network's device.

    Attributes:
        x: Training inputs [n, *in_shape], balanced by class.
        y: Their labels [n].
        test_x: Test inputs [m, *in_shape].
        test_y: Their labels [m].
        few: Number of training inputs for the costly lenses; the first ones are used.
        lines: Number of lines for the intervals.
        seconds: Longest time for exact intervals.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    few: int = 64
    lines: int = 12
    seconds: float = 15.0


@dataclass(frozen=True)
class Lens:
    """The results of one lens.

    Attributes:
        name: Name of the lens.
        numbers: What is measured → its mean and interval.
        layers: A row for each layer (or line): layer, and its values by name.
        examples: A row for each example or pair that is shown: kind, i, j (of a pair) and value.
        told: The finding in a sentence.
        notes: Remarks on how it was measured.
        refused: Why it could not be computed; empty if it was.
        seconds: How long it took.
    """

    name: str
    numbers: dict[str, Estimate] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    told: str = ""
    notes: tuple[str, ...] = ()
    refused: str = ""
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """One line on the time it took and whether it could be computed."""
        return f"{self.name}: {self.seconds:.1f} s" + (f", not computed: {self.refused}" if self.refused else "")

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to the report's JSON."""
        return asdict(self) | {"numbers": {name: number._asdict() for name, number in self.numbers.items()}}


def share(hits: Tensor) -> Estimate:
    """Return the share of true entries, bool [n], with its exact binomial interval.

    >>> share(torch.tensor([True] * 10)).high, share(torch.tensor([True] * 10)).low > 0.6
    (1.0, True)
    """
    found = binomtest(int(hits.sum()), len(hits))
    ends = found.proportion_ci()
    return Estimate(float(found.statistic), float(ends.low), float(ends.high))


def mean(values: Tensor) -> Estimate:
    """Return the mean over examples [n], with an interval by bootstrap over them."""
    return stiff.average(values.double().cpu()[:, None], two_sets=True)


def _words(number: Estimate, form: str = ".2f") -> str:
    if math.isnan(number.mean):
        return "not defined (there is no such pair)"
    return f"{number.mean:{form}} ({number.low:{form}} to {number.high:{form}})".replace("-", "−")


@torch.no_grad()
def fit(model: nn.Module, sample: Sample) -> Lens:
    """Measure accuracy on training and test images: how much was learned, and how much of it generalizes.

    Args:
        model: The network, in eval mode.
        sample: The inputs.

    Source: Zhang et al. (2017), Table 1.
    """
    parts = {"training": (sample.x, sample.y), "test": (sample.test_x, sample.test_y)}

    def run(given: Tensor) -> Tensor:
        return model(given.clone())  # a network may change its input

    logits = {name: torch.cat([own_outputs(model, one, run) for one in x.split(64)]) for name, (x, _) in parts.items()}
    tell_of_probabilities(model, logits["training"])
    numbers, rates, notes = dict[str, Estimate](), dict[str, Estimate](), []
    for name, (_, y) in parts.items():
        losses = F.cross_entropy(logits[name], y, reduction="none")
        known = losses.isfinite()
        numbers[f"{name} accuracy"] = share((logits[name].argmax(1) == y) & known)
        rates[f"{name} loss (nats)"] = mean(losses[known]) if known.any() else Estimate(math.nan, math.nan, math.nan)
        if not known.all():
            told = f"The loss of {int((~known).sum()):,} of {len(y):,} {name} images is not finite (NaN or infinity)"
            notes.append(f"{told}: they count as wrong, and are left out of its mean.")
    numbers |= rates
    train, test = (numbers[f"{name} accuracy"] for name in parts)
    gap = f"a gap of {train.mean - test.mean:.2f}".replace("-", "−")
    told = f"It names {_words(train)} of the training images and {_words(test)} of the test images rightly: {gap}."
    return Lens("fit", numbers, told=told, notes=tuple(notes))


def paths(model: nn.Module, sample: Sample) -> Lens:
    """Record which units are on for each image: whether images of a class share paths, and which units are never on.

    Args:
        model: The network, in eval mode.
        sample: The inputs.

    Source: Image functions (n.d.), Fig. 4 and 6.
    """
    x, y = sample.x[: sample.few], sample.y[: sample.few]
    recorded = relu_paths.record_paths(model, x)
    layers = [
        {
            "layer": name,
            "units on": float(on.double().mean()),
            "units never on": float((~on.any(0)).double().mean()),
        }
        for name, on in recorded.items()
    ]
    overlap = torch.stack([relu_paths.path_gram(on).double() for on in recorded.values()]).sum(0)
    cosine = stiff.cosine(overlap).fill_diagonal_(-torch.inf)
    value, nearest = cosine.max(1)
    found = share(y[nearest.to(y.device)] == y)
    order = value.argsort(descending=True).tolist()
    both = {frozenset((i, int(nearest[i]))): i for i in reversed(order)}  # mutual neighbours count as one pair
    pairs = [
        {"kind": "nearest by path", "i": i, "j": int(nearest[i]), "value": float(value[i])}
        for i in sorted(both.values(), key=order.index)[:SHOWN]
    ]
    chance = float((y[:, None] == y).double().sum() - len(y)) / (len(y) * (len(y) - 1))
    told = (
        f"For {_words(found)} of the images the nearest one by path is of the same class; "
        f"a neighbour drawn at random would be in {chance:.2f}."
    )
    return Lens("paths", {"nearest by path is of the same class": found}, layers, pairs, told)


def fisher(model: nn.Module, sample: Sample) -> Lens:
    """Measure Fisher information: how strongly the loss depends on the weights, and on how few of them.

    Args:
        model: The network, in eval mode.
        sample: The inputs.

    Source: Jiang, Eq. 7 and 9.
    """
    x, y = sample.x[: sample.few], sample.y[: sample.few]
    trace = mean(stiff.squared_norms(model, x, y))
    diagonal = information.diagonal(model, x, y)
    sums: dict[str, float] = {}
    for name, values in diagonal.items():
        sums[layer_name(name)] = sums.get(layer_name(name), 0.0) + float(values.sum())
    whole = sum(sums.values()) or 1.0
    layers = [{"layer": name, "share of the information": value / whole} for name, value in sums.items()]
    flat = torch.cat([values.flatten() for values in diagonal.values()]).cpu().numpy()
    least = np.sort(flat).cumsum(dtype=np.float64)  # NumPy's sort takes a third of the time of torch's
    needed = max(1, len(flat) - int(np.searchsorted(least, 0.1 * least[-1], side="right")))
    told = f"The trace of the empirical Fisher information is {_words(trace, '.3g')}"
    told += f"; {needed / len(flat):.1%} of the weights hold nine tenths of it."
    return Lens("fisher", {"trace of the empirical Fisher information": trace}, layers, told=told)


def stiffness(model: nn.Module, sample: Sample) -> Lens:
    """Measure stiffness: whether a step that lowers one image's loss lowers another's, within and between classes.

    Args:
        model: The network, in eval mode.
        sample: The inputs.

    Source: Fort et al. (2019), Sec. 2.
    """
    x, y = sample.x[: sample.few], sample.y[: sample.few]
    grams = stiff.gradient_gram(model, x, y, per_layer=True)
    assert isinstance(grams, dict)
    cosine = stiff.cosine(torch.stack(list(grams.values())).sum(0)).cpu()
    y = y.cpu()
    found = stiff.by_pair(cosine, y)
    layers = []
    for name, gram in grams.items():
        each = stiff.by_pair(stiff.cosine(gram).cpu(), y, resamples=0)
        layers.append({"layer": name, "within": each["within"].mean, "between": each["between"].mean})
    same = (y[:, None] == y).double().fill_diagonal_(0)
    own = (cosine * same).sum(1) / same.sum(1)  # NaN for an image that is the only one of its class
    rows = _ends(own, "most stiff", "least stiff")
    told = f"The mean cosine of two images' gradients is {_words(found['within'])} within a class"
    told += f" and {_words(found['between'])} between classes."
    numbers = {"cosine within a class": found["within"], "cosine between classes": found["between"]}
    return Lens("stiffness", numbers, layers, rows, told)


def intervals(model: nn.Module, sample: Sample) -> Lens:
    """Measure how far an image can be moved towards another one of its class before the predicted class changes.

    Args:
        model: The network, in eval mode.
        sample: The inputs.

    Source: Salman et al. (2019), Eq. 6.
    """
    few = sample.x[: sample.few]
    pairs = interval.same_class_tuples(sample.y[: sample.few], sample.lines)
    found = interval.generalization_interval(
        model, *interval.pair_lines(few, pairs.to(few.device)), seconds=sample.seconds, samples=60, tolerance=1e-3
    )
    length, reached = mean(found.length), share(found.upper >= 1)
    rows = _ends(found.length.cpu(), "longest", "shortest")
    ends = list(zip(found.lower.tolist(), found.upper.tolist(), strict=True))
    for row in rows:
        line = row["i"]
        row |= {"i": int(pairs[line, 0]), "j": int(pairs[line, 1]), "lower": ends[line][0], "upper": ends[line][1]}
    lines = [{"layer": f"line {i + 1}", "lower": low, "upper": high} for i, (low, high) in enumerate(ends)]
    told = (
        f"On lines through two images of a class the first one's class is kept over {_words(length)} of their distance "
        f"(from −1 to 2 was looked at), and as far as the second image on {_words(reached)} of the lines."
    )
    notes = (f"Method: {found.method}. {found.guarantee[0].upper()}{found.guarantee[1:]}.",)
    numbers = {"length (1 is the distance of the two images)": length, "reaches the second image": reached}
    return Lens("intervals", numbers, lines, rows, told, notes)


def _ends(values: Tensor, most: str, least: str) -> list[dict[str, Any]]:
    """Return the examples with the largest and the smallest values; those with NaN are left out."""
    known = (~values.isnan()).nonzero().flatten()
    order = known[values[known].argsort(descending=True)].tolist()
    count = min(SHOWN, len(order) // 2)
    chosen = [(most, i) for i in order[:count]] + [(least, i) for i in order[len(order) - count :][::-1]]
    return [{"kind": kind, "i": i, "value": float(values[i])} for kind, i in chosen]


LENSES: Mapping[str, Callable[[nn.Module, Sample], Lens]] = {
    "fit": fit,
    "paths": paths,
    "fisher": fisher,
    "stiffness": stiffness,
    "intervals": intervals,
}


def looked(
    model: nn.Module, sample: Sample, *, on_lens: Callable[[Lens], object] = lambda lens: None
) -> Iterable[Lens]:
    """Compute every lens in turn; one that fails says why, and the others go on.

    Args:
        model: The network, in eval mode.
        sample: The inputs.
        on_lens: Called with each lens when it is done.

    Yields:
        The lenses, with the time that each took.
    """
    for name, lens in LENSES.items():
        started = time.monotonic()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = lens(model, sample)
            except Exception as error:  # the forward of someone's network may raise anything
                found = Lens(name, refused=first_line(error))
        notes = tuple(dict.fromkeys(str(one.message) for one in told if one.category is UserWarning))
        found = replace(found, notes=(*found.notes, *notes), seconds=time.monotonic() - started)
        on_lens(found)
        yield found
