"""Claims of Zhang et al. (2017), Sec. 4 and 5: models that fit any labels without training, and how they generalize.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gendyn_lite.chapters.capacity.tables import POINTS, SWEEP, described, paper_errors
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import summarize, with_sizes

WHOLE = {"MNIST": 60_000, "CIFAR-10": 50_000}


def _by_seed(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows.set_index("seed")[column]


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Choose for each seed the row with the smallest error on held-out images, the first of equal ones."""
    return rows.loc[rows.groupby("seed")["held_out_error"].idxmin()]


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Choose among the rows without a ridge: for each seed the width that held-out images choose, or all filters."""
    return _chosen(rows[rows["ridge"] == 0])


def _gain(rows: pd.DataFrame) -> pd.Series:
    """Return by how much the chosen ridge lowers the test error, by seed."""
    return _by_seed(_plain(rows), "error") - _by_seed(_chosen(rows), "error")


def _ratio(of: pd.DataFrame, to: pd.DataFrame, column: str = "error") -> pd.Series:
    return _by_seed(of, column) / _by_seed(to, column)


def _widest(conv: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows with all random filters."""
    return conv[conv["share"] == conv["share"].max()]


def _peak(conv: pd.DataFrame) -> pd.Series:
    """Divide the error at the threshold by the geometric mean of those at half and twice as many features, by seed.

    At each number of features the ridge is the one that held-out images choose, if there are several.
    """
    less, at, more = (_by_seed(_chosen(conv[(conv["share"] / s - 1).abs() < 0.01]), "error") for s in (0.5, 1, 2))
    return at / (less * more) ** 0.5


def _descended(conv: pd.DataFrame) -> pd.Series:
    """Divide the error with all features by that with fewer features than images, as many as held-out images choose."""
    plain = conv[conv["ridge"] == 0]
    return _ratio(_widest(plain), _chosen(plain[plain["share"] < 0.99]))


def _norm_regret(kernels: pd.DataFrame) -> pd.Series:
    """Subtract the test error of the kernel that held-out images choose from that of the one with the smallest norm.

    Both are chosen among the interpolating kernels.
    """
    fitted = kernels[(kernels["ridge"] == 0) & (kernels["train_accuracy"] == 1)]
    smallest = fitted.loc[fitted.groupby("seed")["norm"].idxmin()]
    return _by_seed(smallest, "error") - _by_seed(_chosen(fitted), "error")


def _over_chance(rows: pd.DataFrame) -> pd.Series | None:
    return _by_seed(rows, "test_accuracy") - 1 / rows["num_classes"].iloc[0] if len(rows) else None


OF_MEMORIZING = {
    "memorizes_two_layers": lambda random, _, depth: _by_seed(random, "train_accuracy") if depth == 2 else None,
    "memorizes_deep": lambda random, _, depth: _by_seed(random, "train_accuracy") if depth > 2 else None,
    "memorizer_at_chance": lambda _, true, depth: _over_chance(true),
}
OF_ERROR = {"interpolating_generalizes": lambda rows: rows["error"]}
OF_RANDOM_LABELS = {"kernel_fits_random": lambda rows: rows["train_accuracy"]}
OF_WHOLE = {"gabor_norm_whole": lambda gabor, pixels: _ratio(gabor, pixels, "norm")}
OF_DESCENT = {
    "sgd_reaches_minimum_norm": lambda zero, _: _by_seed(zero, "distance"),
    "sgd_keeps_other_start": lambda _, other: _by_seed(other, "distance") / _by_seed(other, "outside_share"),
}
OF_GABOR = {
    "gabor_lowers": lambda gabor, pixels: _ratio(_plain(gabor), _plain(pixels)),
    "gabor_norm_larger": lambda gabor, pixels: _ratio(_plain(gabor), _plain(pixels), "norm"),
}
OF_NORM = {"norm_chooses_badly": _norm_regret}
OF_RIDGE = {"ridge_no_help": _gain}
OF_FILTERS = {
    "ridge_helps_filters": lambda conv, _: _gain(_widest(conv)),
    "filters_lower": lambda conv, pixels: _ratio(_plain(_widest(conv)), _plain(pixels)),
    "filters_lower_with_ridge": lambda conv, pixels: _ratio(_chosen(_widest(conv)), _chosen(pixels)),
}
OF_WIDTHS = {
    "error_peaks": lambda conv: _peak(conv[conv["ridge"] == 0]),
    "second_descent": _descended,
    "ridge_removes_peak": _peak,
}
OF_KERNELS = (OF_ERROR, OF_RANDOM_LABELS, OF_WHOLE, OF_GABOR, OF_NORM, OF_RIDGE)
RECORD = on_record(__file__, OF_MEMORIZING, *OF_KERNELS, OF_DESCENT, OF_FILTERS, OF_WIDTHS)


def memorizing(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on networks that fit any labels, on runs of experiment ``"memorizing_networks"``."""
    rows = with_sizes(described(runs))
    found: list[Claim] = []
    for (depth, data, size), group in rows.groupby(["depth", "data", "size"], sort=False):
        random, true = (group[group["label_corruption"] == q] for q in (1.0, 0.0))
        subject = f"{'Two layers' if depth == 2 else f'{depth:g} layers'} on {data}{size}"
        found += RECORD.judge(subject, OF_MEMORIZING, random, true, depth)
    return table(found)


def kernels(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on single regressions with most images, on runs of experiment ``"kernel_regression"``."""
    found: list[Claim] = []
    for (data, features), group in described(runs).groupby(["data", "features"], sort=False):
        true, random = (group[(group["label_corruption"] == q) & (group["ridge"] == 0)] for q in (0.0, 1.0))
        paper = paper_errors(str(data)).get(str(features))
        whole = WHOLE.get(str(data).split(" (", maxsplit=1)[0], 0)
        value = "–" if paper is None else f"{paper:g} (test error, all {whole:,} images)"
        about = {"features": POINTS[str(features)], "value": value}
        found += RECORD.judge(_subject(_largest(true)), OF_ERROR, _largest(true), **about)
        if len(random):
            found += RECORD.judge(_subject(_largest(random)), OF_RANDOM_LABELS, _largest(random))
    rows = described(runs)
    rows = rows[(rows["n_train"] == WHOLE["MNIST"]) & (rows["ridge"] == 0) & (rows["label_corruption"] == 0)]
    gabor, pixels = (rows[rows["features"] == name] for name in ("gabor", "pixels"))
    if len(gabor) and len(pixels):
        found += RECORD.judge(_subject(gabor), OF_WHOLE, gabor, pixels)
    return table(found)


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["n_train"] == rows["n_train"].max()]


def _subject(rows: pd.DataFrame) -> str:
    return f"Gaussian kernel on {rows['data'].iloc[0]}, n = {int(rows['n_train'].iloc[0]):,}"


def descent(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on where mini-batch descent ends, on runs of experiment ``"minimum_norm"``."""
    ends = with_sizes(summarize(described(runs)))
    ends = ends.assign(outside_share=ends["outside"] / ends["aim_norm"])
    found: list[Claim] = []
    for (data, features, n, rest), group in ends.groupby(["data", "features", "n_train", "rest"], sort=False):
        zero, other = (group[group["start"] == start] for start in ("zero", "random"))
        points = {"random_conv": "Random filters"}.get(str(features), f"Gaussian kernel on {features}")
        found += RECORD.judge(f"{points}, {data}, n = {n:,}{rest}", OF_DESCENT, zero, other)
    return table(found)


def norms(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on Gabor features (on MNIST, as in the paper) and norms, on runs of ``"ridge_paths"``."""
    found: list[Claim] = []
    for subject, (pixels, gabor, _) in _swept(runs):
        if len(gabor) and subject.startswith("MNIST"):
            found += RECORD.judge(f"Gaussian kernel, {subject}", OF_GABOR, gabor, pixels)
        if len(gabor):
            found += RECORD.judge(f"Gaussian kernel, {subject}", OF_NORM, pd.concat([gabor, pixels]))
    return table(found)


def widths(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on ridges and numbers of features, on runs of experiment ``"ridge_paths"``."""
    found: list[Claim] = []
    for subject, (pixels, gabor, conv) in _swept(runs):
        if subject.startswith("MNIST"):
            for points, rows in (("pixels", pixels), ("Gabor features", gabor)):
                found += RECORD.judge(f"Gaussian kernel on {points}, {subject}", OF_RIDGE, rows)
        else:
            found += RECORD.judge(f"{int(conv['filters'].max()):,} random filters, {subject}", OF_FILTERS, conv, pixels)
        found += RECORD.judge(f"Random filters, {subject}", OF_WIDTHS, conv)
    return table(found)


def _swept(runs: pd.DataFrame) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """Yield each data set in words, with its rows on pixels, on Gabor features and on random filters."""
    rows = with_sizes(described(runs))
    for (data, n, rest), group in rows.groupby(["data", "n_fitted", "rest"], sort=False):
        yield f"{data}, n = {n:,}{rest}", [group[group["features"] == name] for name in SWEEP]


SECTIONS = (
    Section(RECORD, "which-network-fits-any-labels", ("memorizing_networks",), memorizing),
    Section(RECORD, "does-a-kernel-that-interpolates-generalize", ("kernel_regression",), kernels),
    Section(RECORD, "which-solution-does-gradient-descent-find", ("minimum_norm",), descent),
    Section(RECORD, "does-the-smallest-norm-predict-the-error", ("ridge_paths",), norms),
    Section(RECORD, "how-many-random-features", ("ridge_paths",), widths),
)
