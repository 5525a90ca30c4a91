"""Claims of Zhang et al. (2017), 'Understanding deep learning requires rethinking generalization'."""

from __future__ import annotations

from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.random_labels.tables import BN, NONE, PaperRow, table_1_row, with_regularizers
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Criterion, Near, judge, table
from gendyn_lite.results.tables import summarize, with_sizes

# What the paper says, in our words; {} is a kind of inputs or a regularizer.
FITS = "Networks fit completely random labels"
CHANCE = "After fitting random labels, test accuracy is at chance"
JUMPS = "Randomizing the labels alone makes the generalization error jump"
SLOWER = "Random labels take longer to fit than true labels only by a small constant factor"
RISES = "Test error rises steadily with the fraction of corrupted labels"
FITS_INPUTS = "Networks fit the labels of {}"
SOONER = "{} are fitted sooner than random labels"
UNNECESSARY = "Explicit regularizers are not necessary: without them networks still generalize"
INSUFFICIENT = "Explicit regularizers are not sufficient: with them networks still fit random labels"
IMPROVES = "{} improves test accuracy"
HELPS_MORE = "Augmentation helps more than weight decay"
STOPPING = "Early stopping is not necessarily helpful on CIFAR-10"
BATCH_NORM = "Batch-norm improves generalization"
# The criteria that several claims share, and our readings of the paper's words.
FITTED = AtLeast(0.99, weak=0.9)
HELPS = AtLeast(0.0, weak=0.0)
KEPT = AtLeast(0.8, weak=0.5)  # "continue to perform well without": most of the advantage over guessing
SMALL_FACTOR = Below(10)  # "a small constant factor": less than an order of magnitude
SMALL_GAIN = Below(0.02)
CHANCE_MARGIN = 0.02
INPUTS = {
    "shuffled_pixels": "images with shuffled pixels",
    "random_pixels": "images with random pixels",
    "gaussian": "Gaussian inputs",
}
PAPER = "Zhang et al. (2017)"


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`, experiment ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Accuracies, errors and gaps
        are fractions. A claim whose runs are missing is there, with n_seeds = 0 and no verdict.
    """
    groups = with_sizes(summarize(runs)).groupby("subject", sort=False)
    return table(claim for subject, group in groups for claim in _on_labels(group, str(subject)))


def regularizer_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on regularizers, on each network and data set.

    Args:
        runs: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; accuracies are fractions. Runs
        are compared seed by seed. A claim whose runs are missing is there, with n_seeds = 0 and no verdict; a network
        that was never regularized explicitly has no claims on that.

    Source: Zhang et al. (2017), Sec. 3, Table 1, Fig. 2.
    """
    rows = with_regularizers(runs)
    ends = summarize(rows).assign(best=rows.groupby("run_id", sort=False)["test_accuracy"].max().to_numpy())
    groups = with_sizes(ends, of="base").groupby("subject", sort=False)
    found = [claim for subject, group in groups for claim in _on_regularizers(group, str(subject))]
    pairs = with_sizes(ends.assign(plain=ends["base"].str.replace(BN, "")), of="plain").groupby("subject", sort=False)
    return table(found + [_on_batch_norm(group, str(name)) for name, group in pairs if group["base"].nunique() > 1])


def _claim(
    subject: str, said: str, paper: tuple[str, str], values: pd.Series, criterion: Criterion, *, null_value: float = 0
) -> Claim:
    """`judge`, given where the paper says it and the value that it gives; the values are named by their quantity."""
    words = {"statement": said, "source": paper[0], "paper_value": paper[1], "quantity": str(values.name)}
    return judge(values, criterion, subject=subject, null_value=null_value, **words)


def _on_labels(group: pd.DataFrame, subject: str) -> list[Claim]:
    """Every claim on labels and inputs, on one network at one size and one data set; `group` has a row per run."""
    about, chance = partial(_claim, subject), 1 / group["num_classes"].iloc[0]
    true, random = (_by_seed(group, q) for q in (0.0, 1.0))
    paper_train, paper_test, paper_jump = _papers(str(group["network"].iloc[0]))
    train, test = (random[f"{part}_accuracy"].rename(f"{part} accuracy at q = 1") for part in ("train", "test"))
    jump = (random["gap"] - true["gap"]).rename("generalization gap at q = 1 minus that at q = 0")
    later = (random["fit_epoch"] / true["fit_epoch"]).rename("epochs to fit at q = 1 over those at q = 0")
    seeds = [runs for _, runs in group[group["inputs"] == "true"].groupby("seed")]
    seeds = [runs for runs in seeds if runs["label_corruption"].nunique() >= 3]
    rising = [float(stats.spearmanr(runs["label_corruption"], runs["test_error"]).statistic) for runs in seeds]
    rises = pd.Series(rising, name="rank correlation of test error with q", dtype=float)
    found = [
        about(FITS, ("Fig. 1a, Table 1", paper_train), train, FITTED, null_value=chance),
        about(CHANCE, ("Fig. 1c, Table 1", paper_test), test, Near(chance, margin=CHANCE_MARGIN), null_value=chance),
        about(JUMPS, ("Sec. 1.1, Table 1", paper_jump), jump, AtLeast(0.1, weak=0.05)),
        about(SLOWER, ("Fig. 1b", "a small constant factor"), later, SMALL_FACTOR, null_value=SMALL_FACTOR.bound),
        about(RISES, ("Fig. 1c", "a steady rise to 0.9"), rises, AtLeast(0.9, weak=0.5)),
    ]
    for kind, words in INPUTS.items():
        if not (group["inputs"] == kind).any():
            continue
        runs = _by_seed(group, 0.0, inputs=kind)
        train, statement = runs["train_accuracy"].rename("train accuracy"), FITS_INPUTS.format(words)
        found.append(about(statement, ("Fig. 1a", "loss falls to 0"), train, FITTED, null_value=chance))
        if kind != "shuffled_pixels":
            times = (runs["fit_epoch"] / random["fit_epoch"]).rename("epochs to fit over those for random labels")
            statement = SOONER.format(words[0].upper() + words[1:])
            found.append(about(statement, ("Fig. 1a", "sooner"), times, Below(1), null_value=1.0))
    return found


def _by_seed(group: pd.DataFrame, q: float, *, inputs: str = "true") -> pd.DataFrame:
    """The runs with one label corruption and one kind of inputs, by seed, and their generalization gap."""
    chosen = group[(group["label_corruption"] == q) & (group["inputs"] == inputs)]
    return chosen.assign(gap=chosen["train_accuracy"] - chosen["test_accuracy"]).set_index("seed")


def _papers(network: str) -> list[str]:
    """Train and test accuracy on random labels and the jump of the gap in Table 1, dashes where it lacks the network.

    >>> _papers("mlp_1x512"), _papers("mlp")
    (['0.993 (CIFAR-10)', '0.106 (CIFAR-10)', '0.392 (CIFAR-10)'], ['–', '–', '–'])
    """
    true, random = (table_1_row(network, random_labels=random) for random in (False, True))
    if true is None or random is None:
        return ["–"] * 3
    percents = (random.train, random.test, (random.train - random.test) - (true.train - true.test))
    return [f"{percent / 100:.3f} (CIFAR-10)" for percent in percents]


def _on_regularizers(group: pd.DataFrame, subject: str) -> list[Claim]:
    """The claims on explicit regularizers and early stopping, on one network at one size and one data set."""
    base, chance = str(group["base"].iloc[0]), 1 / group["num_classes"].iloc[0]
    about = partial(_claim, subject)
    plain = group[(group["regularizers"] == NONE) & ~group["random"]].set_index("seed")
    gain = (plain["best"] - plain["test_accuracy"]).rename("best test accuracy of any epoch minus that at the end")
    in_paper = "no gain (0.034 on ImageNet, Table 2)"
    stopping = about(STOPPING, ("Fig. 2b", in_paper), gain, SMALL_GAIN, null_value=SMALL_GAIN.bound)
    if (group["regularizers"] == NONE).all():
        return [stopping]

    none, decay, crop = (_test(group, words) for words in (NONE, "weight decay", "random crop"))
    cropped = bool(group["crop"].any())
    full = _test(group, "random crop + weight decay") if cropped else decay
    kept = (none - chance) / (full - chance)
    kept = kept.rename("advantage over guessing without regularizers, over that with them,")
    on = group[group["random"] & (group["regularizers"] != NONE)].set_index("seed")["train_accuracy"]
    on = on.rename("train accuracy on random labels, regularized,")
    imagenet = "0.912 (ImageNet, dropout and weight decay)"

    def helps(name: str, test: pd.Series, paper_value: str) -> Claim:
        better = (test - none).rename("test accuracy with it minus that without")
        return about(IMPROVES.format(name), ("Sec. 3, Table 1", paper_value), better, HELPS)

    paper, with_decay = table_1_row(base), table_1_row(base, weight_decay=True)
    found = [
        about(UNNECESSARY, ("Sec. 3, Table 1", _kept(base, cropped)), kept, KEPT),
        about(INSUFFICIENT, ("Table 2", imagenet), on, FITTED, null_value=chance),
        helps("Weight decay", decay, _difference(with_decay, paper)),
    ]
    if cropped:
        with_crop = table_1_row(base, crop=True)
        more = (crop - decay).rename("test accuracy with random crops minus that with weight decay")
        found.append(helps("Augmentation by random crops", crop, _difference(with_crop, paper)))
        found.append(about(HELPS_MORE, ("Table 1", _difference(with_crop, with_decay)), more, HELPS))
    if group["dropout"].any():
        found.append(helps("Dropout", _test(group, "dropout"), "– (with others, Table 2)"))
    return [*found, stopping]


def _on_batch_norm(group: pd.DataFrame, subject: str) -> Claim:
    base = str(group["plain"].iloc[0])
    on, off = (_test(group[group["base"] == name], NONE) for name in (base, base + BN))
    better = (on - off).rename("test accuracy with batch-norm minus that without")
    paper = _difference(table_1_row(base), table_1_row(base + BN))
    return _claim(subject, BATCH_NORM, ("Sec. 3.1, Table 1, Fig. 2b", paper), better, HELPS)


def _test(group: pd.DataFrame, regularizers: str) -> pd.Series:
    """Test accuracy by seed, trained on true labels with these regularizers."""
    chosen = group[(group["regularizers"] == regularizers) & ~group["random"]]
    return chosen.set_index("seed")["test_accuracy"]


def _kept(base: str, cropped: bool) -> str:
    none, full = table_1_row(base), table_1_row(base, crop=cropped, weight_decay=True)
    return "–" if none is None or full is None else f"{(none.test - 10) / (full.test - 10):.3f} (CIFAR-10)"


def _difference(one: PaperRow | None, other: PaperRow | None) -> str:
    """The difference of the paper's two test accuracies as a fraction, or a dash where it lacks one."""
    return "–" if one is None or other is None else f"{(one.test - other.test) / 100:+.3f} (CIFAR-10)"


def _regularized(runs: pd.DataFrame) -> pd.DataFrame:
    """Only the data on which something was regularized: other runs have no comparison."""
    return regularizer_claims(runs[runs["data"].isin(runs.loc[runs["experiment"] == "regularizers", "data"])])


SECTIONS = (
    Section(PAPER, PUBLISHED, ("random_labels",), claims),
    Section(PAPER, "regularizers-on-cifar-10", ("random_labels", "regularizers"), _regularized),
)
