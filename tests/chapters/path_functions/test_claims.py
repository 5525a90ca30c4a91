"""Claims of chapter 2: each verdict follows from the table, and a claim that fails is shown as failing."""

from __future__ import annotations

import numpy as np
import pytest

from gendyn_lite.chapters.path_functions import claims
from gendyn_lite.chapters.path_functions import tables as paths
from gendyn_lite.errors import UserError
from tests.chapters.path_functions import fake

FIRST = "For most of training, cross-path similarity is not perfect in the first recorded layer"
LAST = "For most of training, cross-path similarity is not perfect in the last recorded layer"
LATER = "Cross-path similarity is higher late in training than early"
BEGINNING = "An image's path changes most at the beginning of training"
CONSTANT = "Similarity rises late also where the learning rate does not decay"
DIVERSE = "With random labels, which do not generalize, paths are less diverse over training"
FRANKEN = "On true labels, the path that an image is newly given fits it worse than yesterday's"
FRANKEN_RANDOM = "On random labels, the path that an image is newly given fits it worse than yesterday's"
SECOND_FAR = "Path overlap does not simply follow the distance of the images (second layer)"
LAST_FAR = "Path overlap does not simply follow the distance of the images (last layer)"
NEAREST = "Which images are nearest to an image by its path changes during training"
NEAREST_ACTIVATION = "Which images are nearest to an image by its activations changes during training"
ALONE = "An image's update in isolation is a function little correlated with the whole network's"
OF_LAYERS = {FIRST, LAST, LATER, BEGINNING, FRANKEN}
UNSEEN = "Yesterday's paths fit better since training went along them: unseen images do not share it"
EQUAL = "Unseen images are recognized equally often along today's paths and along yesterday's"
TRAIN_ERROR = "The early-to-mid ratio of cross-path similarity rises in rank with the error on training images"
RANK = "The early-to-mid ratio of cross-path similarity falls in rank with generalization error"
LINEAR = "The early-to-mid ratio of cross-path similarity falls linearly with generalization error"
TEST_ERROR = "The early-to-mid ratio of cross-path similarity falls in rank with the error on test images"


@pytest.mark.parametrize(
    ("claimed", "statements"),
    [
        (claims.over_training(fake.networks()), OF_LAYERS | {CONSTANT, DIVERSE, FRANKEN_RANDOM, SECOND_FAR, LAST_FAR,
                                                             NEAREST, NEAREST_ACTIVATION, ALONE}),
        (claims.over_training(fake.deep()), OF_LAYERS),
        (claims.ratio(fake.ratio()), {RANK, LINEAR, TEST_ERROR, TRAIN_ERROR}),
        (claims.unseen(fake.unseen()), {UNSEEN, EQUAL}),
    ],
    ids=["networks", "deep", "ratio", "unseen"],
)  # fmt: skip
def test_runs_that_behave_as_claimed_hold_every_claim(claimed, statements):
    assert set(claimed["statement"]) == statements
    assert set(claimed["verdict"]) == {"holds"}


@pytest.mark.parametrize(
    ("claimed", "statement", "verdict"),
    [
        (claims.over_training(fake.networks(early=0.995, late=0.999)), FIRST, "not seen"),
        (claims.over_training(fake.networks(early=0.95, late=0.96)), LATER, "weaker"),
        (claims.over_training(fake.networks(early=0.95, late=0.9)), LATER, "not seen"),
        (claims.over_training(fake.networks(early=0.95, late=0.96)), BEGINNING, "not seen"),
        (claims.over_training(fake.networks(constant=0.8)), CONSTANT, "not seen"),
        (claims.over_training(fake.networks(constant=0.86)), CONSTANT, "weaker"),
        (claims.over_training(fake.networks(random=-0.05)), DIVERSE, "not seen"),
        (claims.over_training(fake.networks(random=0.01)), DIVERSE, "weaker"),
        (claims.over_training(fake.networks(gap=-0.01)), FRANKEN, "not seen"),
        (claims.over_training(fake.networks(gap=0.01)), FRANKEN_RANDOM, "weaker"),
        (claims.over_training(fake.networks(rank=-0.9)), LAST_FAR, "not seen"),
        (claims.over_training(fake.networks(changed=0.0)), NEAREST, "not seen"),
        (claims.over_training(fake.networks(kept=1.0)), NEAREST_ACTIVATION, "not seen"),
        (claims.over_training(fake.networks(alone=0.8)), ALONE, "not seen"),
        (claims.over_training(fake.networks(seeds=1)), LATER, "not testable at this size"),
        (claims.unseen(fake.unseen(share=0.8)), UNSEEN, "not seen"),
        (claims.unseen(fake.unseen(right=0.1)), EQUAL, "not seen"),
        (claims.unseen(fake.unseen(seeds=1)), UNSEEN, "not testable at this size"),
        (claims.ratio(fake.ratio(slope=1.0)), RANK, "not seen"),
        (claims.ratio(fake.ratio(noise=0.3)), LINEAR, "not seen"),
        (claims.ratio(fake.ratio(networks=2)), RANK, "not testable at this size"),
        (claims.relative_height(fake.deep(level=0.9), fake.networks(early=0.8)),
         "Cross-path similarity is higher in ResNet-18 than in AlexNet", "holds"),
        (claims.relative_height(fake.deep(level=0.7), fake.networks(early=0.8)),
         "Cross-path similarity is higher in ResNet-18 than in AlexNet", "not seen"),
        (claims.relative_height(fake.deep(n_train=200), fake.networks()),
         "Cross-path similarity is higher in ResNet-18 than in AlexNet", "not testable at this size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_claim_that_fails_is_shown_as_failing(claimed, statement, verdict):
    assert set(claimed.loc[claimed["statement"] == statement, "verdict"]) == {verdict}


def test_values_are_those_of_the_table():
    found = claims.over_training(fake.networks()).set_index("statement")["value"]
    assert found[LATER] == pytest.approx(0.18)
    assert found[BEGINNING] == pytest.approx(-0.18)
    assert found[CONSTANT] == pytest.approx(0.1 / 0.18)
    assert found[DIVERSE] == pytest.approx(0.05)
    assert found[FRANKEN] == pytest.approx(0.1)
    assert found[LAST_FAR] == pytest.approx(0.401)


def test_layers_stand_in_their_order_and_tables_read_back():
    table = fake.networks(seeds=2)
    rows = paths.long_paths(table)
    assert rows.drop_duplicates("layer").set_index("layer")["number"].to_dict() == {"relu1": 1, "relu2": 2, "relu3": 3}
    assert list(rows["runs"].unique()) == [paths.TRUE, paths.RANDOM, paths.CONSTANT]
    assert paths.milestones(table) == list(fake.DECAYS)
    bins = paths.distances(table)
    assert bins[["distance", "low", "middle", "high"]].iloc[0].tolist() == [1.0, 0.1, 0.2, 0.3]
    ranks = paths.ranks(table)
    assert set(ranks["anchor"]) == {5, 10}
    assert ranks.loc[ranks["epoch"] == fake.EPOCHS, "rank"].eq(0).all()


def test_a_network_is_named_by_what_was_changed_and_by_its_first_learning_rate():
    found = paths.networks_of_ratio(fake.ratio())
    assert len(found) == 14
    assert "mlp (widths 8), learning rate 0.01, weight decay 0.005, random crop" in set(found["name"])
    assert set(found["seeds"]) == {2}


def test_the_correlation_is_scipys_and_its_interval_covers_it():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    rho, low, high = paths.correlation(x.tolist(), y.tolist())
    assert rho == pytest.approx(paths.stats.spearmanr(x, y).statistic)
    assert low < rho < high
    assert paths.correlation(x.tolist(), y.tolist(), linear=True)[0] == pytest.approx(
        paths.stats.pearsonr(x, y).statistic
    )
    assert np.isnan(paths.correlation([1, 1, 1], [1, 2, 3])).all()


def test_a_table_without_paths_is_refused():
    with pytest.raises(UserError, match="no similarities of paths"):
        paths.long_paths(fake.ratio())
