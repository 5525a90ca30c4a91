"""What chapter 2 computes while the page is made: the plane, digits and their neighbours, the history, the trap."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.path_functions import charts_demo, demo
from gendyn_lite.chapters.path_functions.explorer import nearest
from gendyn_lite.errors import UserError
from tests.chapters.specs import described


@pytest.fixture(scope="module")
def plane():
    return demo.plane(demo.MOONS.replace(epochs=8, eval_every=8), epochs=(0, 2, 8))


def test_the_plane_has_a_cell_for_every_place_and_a_unit_for_every_unit(plane):
    assert list(plane.maps["epoch"]) == [0, 2, 8]
    assert plane.maps["cells"].str.fullmatch(f"[0-7]{{{demo.RESOLUTION**2}}}").all()
    assert len(plane.units) == 3 * demo.POINTS * 24
    assert plane.functions.groupby("epoch").size().tolist() == [demo.POINTS] * 3
    told = plane.functions.assign(on=plane.functions["on"] + 100 * plane.functions["point"])  # no two are alike
    end = told.query("epoch == 8 and point == 1")["on"].item()
    said = described(charts_demo.plane(*plane._replace(functions=told)))
    assert f"At the end, {end} units are on for the first point" in said


def test_units_and_functions_agree_and_nothing_switched_before_the_first_picture(plane):
    sums = plane.units.groupby(["epoch", "point"])[["on", "switched"]].sum()
    table = plane.functions.set_index(["epoch", "point"])
    assert sums.eq(table[["on", "switched"]]).all(axis=None) and (table.loc[0, "switched"] == 0).all()


def test_the_undecided_line_is_cut_at_the_plane():
    assert demo.undecided(0.0, 1.0, -0.5) == (-1.6, 0.5, 2.6, 0.5)
    assert demo.undecided(1.0, -1.0, 0.0) == (-1.1, -1.1, 1.6, 1.6)


def test_overlaps_are_shares_and_the_same_pairs_at_every_epoch():
    pairs, pictures = demo.scatter(count=6, epochs=(0, 8))
    one = pairs.query("layer == '2: relu2' and epoch == 8")
    rank = one["distance"].corr(one["overlap"], method="spearman")
    assert f"2: relu2, epoch 8: {rank:.2f}" in described(charts_demo.scatter(pairs, pictures))
    assert pairs.groupby(["layer", "epoch"]).size().eq(15).all()
    assert pairs["overlap"].between(0, 1).all()
    assert pictures["picture"].str.startswith("data:image/png;base64,").tolist() == [True] * 6


def test_neighbours_end_with_the_six_nearest():
    rows, pictures = demo.neighbours(anchors=(5, 10))
    assert described(charts_demo.ranks(rows, pictures)) and described(charts_demo.nearest(nearest(5, "relu1", 2)))
    ends = rows[rows["epoch"] == rows["epoch"].max()]
    assert ends.groupby(["layer", "anchor"])["rank"].apply(sorted).map(list(range(6)).__eq__).all()
    assert set(rows["neighbour"]) | {5, 10} == set(pictures["image"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_network_is_its_history(momentum):
    history, model = demo.history(epochs=2, momentum=momentum)
    assert max(history.errors(model).values()) < 1e-5


def test_the_trap_makes_a_frozen_network_look_as_if_it_changed():
    found = demo.lag_trap(epochs=2)
    assert (found["reestimated"] == 1).all() and found["running"].iloc[0] < 0.95


def test_an_epoch_that_was_not_recorded_is_refused():
    with pytest.raises(UserError, match="epoch 99 is missing"):
        nearest(0, "relu1", 99)
