"""What chapter 3 publishes: verified tables, enough seeds a row, controls beside every mask, what its prose says."""

from __future__ import annotations

from gendyn_lite import results
from gendyn_lite.chapters.fisher_mask import tables
from gendyn_lite.chapters.fisher_mask.claims import claims

RUNS = results.published("fisher_mask")
FOUND = claims(RUNS)
SEEDS = {"mlp": 5, "resnet18": 3}


def verdicts(words: str, place: str = "mlp on") -> set[str]:
    rows = FOUND[FOUND["statement"].str.contains(words, regex=False) & FOUND["subject"].str.contains(place)]
    assert len(rows) > 0
    return set(rows["verdict"])


def test_the_tables_have_all_seeds():
    runs = RUNS.drop_duplicates("run_id")
    assert set(runs["model"]) == set(SEEDS)
    # Runs of ResNet-18 with a Fisher mask that had been resumed, or may have been, were withdrawn.
    fewer = (runs["model"] == "resnet18") & (runs["mask_by"] == "fisher") & (runs["mask_keep"] < 1)
    assert fewer.sum() == 15 - 7
    for network, rows in runs[~fewer].groupby("model"):
        assert (rows.groupby("group_id")["seed"].nunique() == SEEDS[str(network)]).all()


def test_every_mask_by_fisher_information_has_its_controls():
    runs = tables.best(RUNS)
    for subject, rows in runs[runs["label_corruption"] < 1].groupby("subject"):
        ways = rows.groupby("kept")["way"].agg(set)
        for keep in (0.25, 0.75):
            assert {"magnitude", "random"} <= ways[keep], subject
            assert "Fisher" in ways[keep] or "resnet18 on CIFAR-100" in subject


def test_the_prose_on_accuracy_is_what_the_tables_say():
    """No gain over no mask in either reading; a random mask does no worse at three quarters."""
    kept, masked = "0.75 read as the share kept) gives", "read as the share masked) gives"
    for words in (f"{kept} a better best accuracy than training", f"{masked} a better best accuracy than training",
                  f"{kept} a better best accuracy than a random"):  # fmt: skip
        assert verdicts(words) <= {"negligible", "reversed", "undecided"}
    assert verdicts(f"{masked} a better best accuracy than a random", "mlp on CIFAR-100") == {"holds"}
    assert "holds" not in verdicts(f"{masked} a better best accuracy than a magnitude")
    gains = tables.gains(tables.best(RUNS[RUNS["model"] == "mlp"]))
    assert (gains[gains["kept"] == 0.25].groupby(["subject", "way"])["gain"].mean() < 0).all()


def test_the_prose_on_resnet18_is_what_the_tables_say():
    runs = tables.best(RUNS[(RUNS["model"] == "resnet18") & (RUNS["label_corruption"] == 0)])
    gains = tables.gains(runs)
    by_mask = gains.groupby(["subject", "way", "kept"])["gain"]
    assert (by_mask.mean() < 0.5).all()
    seeds = runs.groupby(["subject", "way", "kept"])["best"].std()
    masks = runs.groupby(["subject", "way", "kept"])["best"].mean()
    assert (seeds.groupby("subject").mean() > masks.groupby("subject").std()).all()
    losses = runs.groupby(["subject", "way", "kept"])["test_loss"].mean()
    bare, masked = losses.xs(tables.NONE, level="way").droplevel("kept"), losses.drop(tables.NONE, level="way")
    assert (masked.to_numpy() < masked.index.get_level_values("subject").map(bare)).all()
    both = masked.unstack("way").dropna()
    assert (both["random"] < both["Fisher"]).all() and set(both.index.get_level_values("kept")) == {0.25, 0.75}
    assert "holds" not in verdicts("a better best accuracy than training", "resnet18")


def test_the_prose_on_the_course_of_training_is_what_the_tables_say():
    assert verdicts("Influence falls as training goes on") == {"reversed"}
    assert verdicts("less influence, epoch by epoch") == {"holds"}
    assert "holds" not in verdicts("the largest influence during training is smaller")
    assert verdicts("the test loss rises less", "mlp on CIFAR-100") == {"holds"}
    assert verdicts("the test loss rises less", "mlp on CIFAR-10 ") == {"negligible"}
    assert verdicts("influence falls more slowly", "mlp on CIFAR-10 ") == {"holds, small"}
    assert verdicts("The diagonal alone gives") == {"reversed"}
    watched = tables.influences(RUNS)
    true = watched[(watched["way"] == tables.NONE) & (watched["label_corruption"] == 0)]
    means = true.groupby(["place", "epoch"])["influence/quadratic_true"].mean().unstack()
    assert (means.max(axis=1) > 100 * means[0]).all()


def test_the_influence_of_resnet18_tells_of_its_running_statistics_and_is_not_drawn():
    rows = RUNS[(RUNS["model"] == "resnet18") & RUNS["influence/quadratic_true"].notna()]
    median = rows.groupby("epoch")["influence/quadratic_true"].median()
    assert median.iloc[0] > 1e8
    assert median.iloc[-1] < 1
    assert set(tables.influences(RUNS)["model"]) == {"mlp"}
