"""Computations of the page of chapter 3: a step's influence, its approximations, masks, traps, and the explorer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import ipywidgets as widgets
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters import live
from gendyn_lite.chapters.fisher_mask import charts
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures import fisher
from gendyn_lite.measures.per_example.lag import lag_is_wanted
from gendyn_lite.threads import threads
from gendyn_lite.train.probes import reestimated_statistics

_SETTINGS = {"model": "mlp", "train_size": 300, "batch_size": 30, "learning_rate": 0.02, "schedule": "constant"}
_OPTIONS = {"widths": [32], "activation": "tanh"}
DIGITS = RunConfig(experiment="fisher_demo", model_options=_OPTIONS, epochs=6, eval_every=6, **_SETTINGS)
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
WATCHED = 60


@lru_cache(maxsize=4)
def trained(activation: str = "tanh") -> live.Trained:
    """Train the chapter's small network on digits; its training examples come back in a class-balanced order."""
    config = DIGITS.replace(model_options={**DIGITS.model_options, "activation": activation})
    model, x, y = live.trained(config)
    order = data.balanced_order(y, seed=0)
    return live.Trained(model, x[order], y[order])


def step(
    *, example: int, eps: float, keep: float = 1.0, activation: str = "tanh", watched: int = WATCHED
) -> pd.DataFrame:
    """Measure how far a step on one training digit moves the predictions for others.

    Args:
        example: Number of the digit to step on.
        eps: Step size ε.
        keep: Share of the weights that may move, those with the largest Fisher information.
        activation: Activation of the network, ``"tanh"`` or ``"relu"``.
        watched: Number of digits whose predictions are watched, from digit number 10 on.

    Returns:
        A row per watched digit: digit (its label), number, pair (same digit, other digit), kl and quadratic in nats.

    Raises:
        UserError: The example does not exist.

    >>> step(example=0, eps=0.01, watched=5).columns.tolist()
    ['digit', 'number', 'pair', 'kl', 'quadratic']
    """
    model, x, y = trained(activation)
    if not 0 <= example < len(y):
        raise UserError(f"example is {example}, expected a number from 0 to {len(y) - 1}")
    one, others = slice(example, example + 1), slice(10, 10 + watched)
    with threads(1):
        masks = fisher.largest(fisher.diagonal(model, x, y), keep) if keep < 1 else None
        found = fisher.influence(model, x[one], y[one], x[others], eps=eps, masks=masks)
    rows = pd.DataFrame({"digit": y[others].numpy()})
    pair = ["same digit" if same else "other digit" for same in rows["digit"] == int(y[example])]
    moved = {"kl": found.kl[0].numpy(), "quadratic": found.true[0].numpy()}
    return rows.assign(number=range(10, 10 + len(rows)), pair=pair, **moved)


def steps(*, examples: int = 6, eps: Sequence[float] = STEPS, watched: int = 40) -> pd.DataFrame:
    """Call `step` for several examples and step sizes, with the further columns example (as text) and eps.

    >>> rows = steps(examples=1, eps=(0.01,), watched=4)
    >>> rows["example"].unique().tolist()
    ['digit 6 (number 0)']
    """
    y = trained().y
    parts = []
    for number in range(examples):
        name = f"digit {int(y[number])} (number {number})"
        parts += [step(example=number, eps=each, watched=watched).assign(example=name, eps=each) for each in eps]
    return pd.concat(parts, ignore_index=True)


def approximation(*, examples: int = 5, points: int = 17) -> pd.DataFrame:
    """Compare KL and quadratic form over step sizes, for a smooth network and a ReLU network.

    Returns:
        Columns activation, eps, kl, quadratic, gap (their absolute difference) and ratio (KL over the form): means over
        examples, in float64.
    """
    eps = [10 ** (-4 + 4.5 * k / (points - 1)) for k in range(points)]
    frames = []
    for activation in ("tanh", "relu"):
        found = _remainder(activation, eps, examples)
        means = {name: getattr(found, name).mean(1).numpy() for name in ("kl", "quadratic", "gap")}
        rows = pd.DataFrame({"activation": activation, "eps": eps, **means})
        frames.append(rows.assign(ratio=rows["kl"] / rows["quadratic"]))
    return pd.concat(frames, ignore_index=True)


def theorem_slope() -> float:
    """Return the slope of |KL − ½ε²gᵀFg| against ε on logarithmic axes, averaged over five digits."""
    return float(_remainder("tanh", (1e-3, 5e-4, 2.5e-4), 5).slopes.mean())


def _remainder(activation: str, eps: Sequence[float], examples: int) -> fisher.Remainder:
    """Compute KL, quadratic form and their difference for steps on the first digits, watched at 20 others."""
    model, x, y = trained(activation)
    with threads(1):
        return fisher.remainder(model, x[:examples], y[:examples], x[10:30], eps=eps)


def diagonal_against_whole(*, examples: int = 80, watched: int = 100) -> pd.DataFrame:
    """Compare the empirical quadratic form with the whole Fisher information and with its diagonal alone.

    Returns:
        A row per digit that is stepped on: digit, number, whole and diagonal, both gᵀFg in nats per squared step.
    """
    model, x, y = trained()
    part, rest = slice(0, examples), slice(examples, examples + watched)
    with threads(1):
        found = fisher.influence(model, x[part], y[part], x[rest], y_eval=y[rest], eps=1.0).means()
    rows = pd.DataFrame({"digit": y[part].numpy(), "number": range(examples)})
    forms = {"whole": "quadratic_empirical", "diagonal": "quadratic_diagonal"}
    return rows.assign(**{name: 2 * found[form].numpy() for name, form in forms.items()})


def concentration() -> pd.DataFrame:
    """Measure how much of the Fisher information, and of the squared weights, the largest entries hold.

    Returns:
        Columns of (Fisher information or squared weights), kept (share of entries) and held (share of the sum).
    """
    model, x, y = trained()
    with threads(1):
        diagonal = fisher.diagonal(model, x, y)
    squares = nn.utils.parameters_to_vector(model.parameters()).detach().square()
    information = nn.utils.parameters_to_vector(diagonal.values())
    frames = []
    for name, values in {"Fisher information": information, "squared weights": squares}.items():
        held = values.double().sort(descending=True).values.cumsum(0) / values.double().sum()
        at = [max(1, round(share * len(held) / 40)) for share in range(1, 41)]
        kept = [k / len(held) for k in at]
        frames.append(pd.DataFrame({"of": name, "kept": kept, "held": [float(held[k - 1]) for k in at]}))
    return pd.concat(frames, ignore_index=True)


def kept_by_layer(keep: float) -> dict[str, float]:
    """Return the share of each layer's weights that one threshold for the whole network keeps."""
    masks = fisher.largest(fisher.diagonal(*trained()), keep)
    layers: dict[str, list[Tensor]] = {}
    for name, mask in masks.items():
        layers.setdefault(name.rpartition(".")[0], []).append(mask.flatten())
    return {layer: float(torch.cat(parts).float().mean()) for layer, parts in layers.items()}


def batch_trap(sizes: Sequence[int] = (1, 10, 30, 100, 300)) -> pd.DataFrame:
    """Make a deliberate mistake: average the squares of the batches' mean gradients and call it Fisher information.

    Returns:
        A row for each batch size: trace (the sum of the wrong diagonal), share (the trace over the right trace), and
        agreement (of the entries that the right mask of a quarter keeps, the share that the wrong mask keeps).
    """
    model, x, y = trained()
    right = fisher.diagonal(model, x, y)
    best = fisher.largest(right, 0.25)
    trace, kept = (sum(float(part.sum()) for part in each.values()) for each in (right, best))
    rows = []
    for size in sizes:
        batches = zip(x.split(size), y.split(size), strict=True)
        squares = [[part.square() for part in _gradient(model, *batch)] for batch in batches]
        means = (torch.stack(parts).mean(0) for parts in zip(*squares, strict=True))
        wrong = dict(zip(right, means, strict=True))
        found = sum(float(part.sum()) for part in wrong.values())
        masks = fisher.largest(wrong, 0.25)
        both = sum(int((masks[name] & best[name]).sum()) for name in best)
        rows.append((size, found, found / trace, both / kept))
    return pd.DataFrame(rows, columns=pd.Index(["batch size", "trace", "share", "agreement"]))


def lag_trap(passes: Sequence[int] = (0, 1, 3, 10, 30)) -> pd.DataFrame:
    """Update the running statistics of a deep network with batch-norm while its weights never change.

    Args:
        passes: Numbers of batches of 30 digits that the network has seen in train mode, in rising order.

    Returns:
        A row for each number of passes: running and anew, the influence ½gᵀFg of a step in nats per squared step, with
        running statistics and with statistics re-estimated over all digits.
    """
    _, x, y = trained()
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    hidden = [(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()) for _ in range(6)]
    model = nn.Sequential(nn.Flatten(), *(part for each in hidden for part in each), nn.Linear(64, 10))
    torch.random.set_rng_state(torch_state)
    rows, seen, batches = [], 0, x.split(30)
    with threads(1), lag_is_wanted():
        for count in passes:
            model.train()
            with torch.no_grad():
                for number in range(seen, count):
                    model(batches[number % len(batches)])
            seen = count
            running = _influence(model.eval(), x, y)
            with reestimated_statistics(model, [(x, y)]):
                rows.append((count, running, _influence(model, x, y)))
    return pd.DataFrame(rows, columns=pd.Index(["passes", "running", "anew"]))


def _influence(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the mean influence of steps on ten digits on forty others, in nats per squared step."""
    return float(fisher.influence(model, x[:10], y[:10], x[10:50], eps=1.0).true.mean())


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of a batch's mean loss, one tensor for each parameter."""
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))


class InfluenceExplorer:
    """Choose an example, a step size, the share of weights that may move, and the units; see whose predictions move.

    On the static page `charts.moved` shows the table of `steps` instead.

    Attributes:
        panel: The widget to display.
    """

    def __init__(self) -> None:
        self.example = widgets.BoundedIntText(value=0, min=0, max=299, description="example")
        self.eps = widgets.FloatLogSlider(value=0.03, base=10, min=-4, max=0.5, step=0.1, description="step size ε")
        self.keep = widgets.FloatSlider(value=1.0, min=0.05, max=1, step=0.05, description="keep")
        self.units = widgets.Dropdown(options=["tanh", "relu"], description="units")
        self.panel, self.status = live.panel([self.example, self.eps, self.keep, self.units], self._show)

    def _show(self) -> live.Shown:
        eps, keep = float(self.eps.value or 0), float(self.keep.value or 0)
        rows = step(example=int(self.example.value), eps=eps, keep=keep, activation=str(self.units.value))
        kl, form = rows[["kl", "quadratic"]].mean()
        said = ", ".join(f"{name} {value:.1e}" for name, value in rows.groupby("pair")["kl"].mean().items())
        said = f"mean KL {kl:.2e}, quadratic form {form:.2e} (ratio {kl / form:.2f}); {said}"
        return said, charts.moved(rows), "300 of scikit-learn's handwritten digits; trained here."
