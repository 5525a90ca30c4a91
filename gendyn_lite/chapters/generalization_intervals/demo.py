"""Computations of the page of chapter 5: lines from digits, the trap of a coarse grid, lines through the plane."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters import live
from gendyn_lite.chapters.generalization_intervals import charts, probes
from gendyn_lite.chapters.generalization_intervals.runs import plan
from gendyn_lite.chapters.generalization_intervals.tables import SPANS
from gendyn_lite.errors import UserError
from gendyn_lite.measures import intervals, relu_paths

ANGLES = tuple(range(0, 360, 15))
WIDTHS = {"3x128": (128, 128, 128), "1x512": (512,), "2x256": (256, 256), "4x128": (128,) * 4}


@lru_cache(maxsize=8)
def trained(
    dataset: str = "digits", corruption: float = 0.0, widths: tuple[int, ...] = (128, 128, 128)
) -> live.Trained:
    """Train the chapter's network on an embedded data set, once a session; it takes a second or two."""
    planned = plan("smoke", seeds=1)
    base = next(run for run in planned if run.dataset == dataset and run.label_corruption == corruption)
    config = base.replace(model_options={"widths": list(widths)}, eval_every=base.epochs)
    return live.trained(config)


def one_line(
    kind: str, *, image: int = 0, corruption: float = 0.0, widths: tuple[int, ...] = (128, 128, 128)
) -> probes.Frames:
    """Follow one line from a digit.

    Args:
        kind: Kind of direction, one of `probes.KINDS`.
        image: Number of the training image, from 0.
        corruption: 0 for the network trained on true labels, 1 for the one on random labels.
        widths: Units of its hidden layers.

    Raises:
        UserError: The image does not exist.
    """
    model, x, y = trained("digits", corruption, widths)
    if not 0 <= image < len(x):
        raise UserError(f"image is {image}, expected a number from 0 to {len(x) - 1}")
    return probes.frames([({}, probes.of_image(model, x, y, image)[kind])])


def grid_trap(*, points: tuple[int, ...] = (4, 8, 16, 32, 64), midlines: int = 400) -> pd.DataFrame:
    """Compare the exact method with grids on midlines of digits: a coarse grid steps over other classes.

    Args:
        points: Numbers of grid points on a line, half of them on each side of α = 0.
        midlines: Number of midlines for true and for random labels each.

    Returns:
        A row per method: its number of points, the number of lines with random labels on which it stepped over another
        class, the mean lengths on true and on random labels, and their difference.
    """
    low, high = SPANS["midline"]
    rows = {f"{count} points": {} for count in points} | {"exact": {}}
    for name, corruption in (("true", 0.0), ("random", 1.0)):
        model, x, y = trained("digits", corruption)
        through = intervals.midlines(x, intervals.same_class_tuples(y, midlines, size=3))
        exact = intervals.generalization_interval(model, *through, low=low, high=high)
        rows["exact"] |= {name: float(exact.length.mean()), "stepped over": 0}
        for count in points:
            grid = {"method": "grid", "samples": count // 2, "tolerance": 1e-7}
            found = intervals.generalization_interval(model, *through, low=low, high=high, **grid)
            missed = int((found.length > exact.length + 1e-5).sum())
            rows[f"{count} points"] |= {name: float(found.length.mean()), "stepped over": missed}
    table = pd.DataFrame([{"method": method, **row} for method, row in rows.items()])
    return table.assign(difference=table["true"] - table["random"])


class Plane(NamedTuple):
    """Tables of the two-dimensional picture.

    Attributes:
        cells: For each cell of a grid: its corners, and the class and shade of its linear region.
        points: The training points: x, y, class.
        lines: For each start and angle: the interval, the number of regions, and both ends of the line and of its
            interval as points.
        knots: Where these lines pass from one linear region to the next: x, y.
    """

    cells: pd.DataFrame
    points: pd.DataFrame
    lines: pd.DataFrame
    knots: pd.DataFrame


def plane(*, starts: int = 8, resolution: int = 64) -> Plane:
    """Compute the regions of a small network on two moons, and exact intervals from some points in all directions.

    Args:
        starts: Number of training points that lines start from.
        resolution: Cells along each side of the grid.
    """
    model, x, y = trained("two_moons", 0.0, (12, 12))
    points = pd.DataFrame({"x": x[:, 0].numpy(), "y": x[:, 1].numpy(), "class": y.numpy()}).round(3)
    chosen = data.balanced_order(y, seed=2)[:starts]
    return Plane(_cells(model, x, resolution), points, *_rays(model, x[chosen]))


def _cells(model: nn.Module, x: Tensor, resolution: int) -> pd.DataFrame:
    """Return the cells of a grid with the class and linear region of their centres."""
    low, high = x.amin(0) - 0.5, x.amax(0) + 0.5
    size = (high - low) / resolution
    axes = [low[i] + (torch.arange(resolution) + 0.5) * size[i] for i in (0, 1)]
    grid = torch.cartesian_prod(*axes)
    weight = torch.rand(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Regions differ in which units are on, so each pattern of units gets a random number.
    paths = relu_paths.record_paths(model, grid).values()
    pattern = torch.stack([on.double() @ weight[: on.shape[1]] * 7.3 for on in paths]).sum(0)
    with torch.no_grad():
        classes = model(grid).argmax(1)
    corners = torch.cat([grid - size / 2, grid + size / 2], dim=1).numpy().round(3)
    frame = pd.DataFrame(corners, columns=pd.Index(["x", "y", "x2", "y2"]))[["x", "x2", "y", "y2"]]
    return frame.assign(**{"class": classes.numpy()}, shade=((pattern % 1).numpy() * 4).astype(int))


def _rays(model: nn.Module, starts: Tensor) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow lines of every angle from every start, and return them and their knots."""
    turn = torch.tensor(ANGLES).double().deg2rad()
    origin = starts.repeat_interleave(len(ANGLES), dim=0)
    direction = torch.stack([turn.cos(), turn.sin()], dim=1).to(starts).repeat(len(starts), 1)
    found = intervals.generalization_interval(model, origin, direction)
    followed = intervals.pieces(model, origin, direction)

    def at(alpha: Tensor, line: Tensor) -> np.ndarray:
        return (origin[line] + alpha.to(origin)[:, None] * direction[line]).double().numpy().round(3)

    about = pd.DataFrame(product(range(1, len(starts) + 1), ANGLES), columns=pd.Index(["start", "angle"]))
    regions = [line.regions for line in followed]
    rows = about.assign(lower=_rounded(found.lower), upper=_rounded(found.upper), regions=regions)
    every, one = torch.arange(len(followed)), torch.ones(len(followed))
    at_ends = {"whole": (-one, 2 * one), "part": (found.lower, found.upper), "at": (0 * one, 0 * one)}
    for name, alphas in at_ends.items():
        for end, alpha in zip(("", "2"), alphas, strict=True):
            rows[[f"{name}_x{end}", f"{name}_y{end}"]] = at(alpha, every)
    alpha = torch.cat([line.alpha[1:-1] for line in followed])
    line = every.repeat_interleave(torch.tensor(regions) - 1)
    knots = about.iloc[line.numpy()].assign(alpha=_rounded(alpha))
    knots[["x", "y"]] = at(alpha, line)
    return rows, knots


def _rounded(values: Tensor) -> np.ndarray:
    return values.double().numpy().round(3)


class IntervalExplorer:
    """Choose a network, labels, an image and a direction; see the logits along the line, its knots and its interval.

    The static page shows recorded lines with `charts.paths` instead.

    Attributes:
        panel: The widget to display.
    """

    def __init__(self) -> None:
        self.network = widgets.Dropdown(options=list(WIDTHS), description="network")
        self.labels = widgets.Dropdown(options=["true labels", "random labels"], description="labels")
        self.image = widgets.BoundedIntText(value=0, min=0, max=299, description="image")
        kinds = [(words, kind) for kind, words in probes.KINDS.items()]
        self.towards = widgets.Dropdown(options=kinds, description="direction")
        self.panel, self.status = live.panel([self.network, self.labels, self.image, self.towards], self._show)

    def _show(self) -> live.Shown:
        corruption = float(self.labels.value == "random labels")
        network = {"corruption": corruption, "widths": WIDTHS[str(self.network.value)]}
        tables = one_line(str(self.towards.value), image=int(self.image.value), **network)
        return "", charts.paths(*tables), "A digit of scikit-learn; exact at every knot."
