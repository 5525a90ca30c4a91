"""What is planned at full size stands beside what is published."""

from __future__ import annotations

from gendyn_lite.chapters import what_holds


def test_published_runs_are_counted_where_their_settings_are_planned():
    table = what_holds.full_size().set_index(["experiment", "data", "network"])
    assert (table["published"] <= table["planned"]).all()
    assert table.loc[("generalization_intervals", "mnist", "mlp"), "published"] > 0
    assert table.loc[("imagenet_regularizers", "imagenet", "inception_v3"), "published"] == 0
    done = table["published"]
    assert done["random_labels"].sum() == 13 and done["random_labels", "cifar10", "mlp_1x512"] == 2
    assert done["regularizers"].sum() == 4 and done["path_networks"].sum() == 2
    assert table["other settings"].sum() == 0
    assert "stiffness_layers" not in table.index.get_level_values(0)  # as planned for colab: of no larger size
