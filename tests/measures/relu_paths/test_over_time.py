"""Recordings over epochs, in memory and on disk, the recorder probe under fit(), and what is told of them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.measures import relu_paths
from gendyn_lite.train import fit
from tests.measures.networks import check_refused, refused
from tests.measures.relu_paths import nets
from tests.measures.relu_paths.nets import Functional, conv, cosine, images, random_paths

CONFIG = RunConfig(experiment="paths", model="mlp", model_options={"widths": [12, 9]}, train_size=60, epochs=4)


def trained(recorder=None):
    """A run with a recorder: its history, and its paths epoch by epoch recorded beside."""
    digits, _ = data.load_for_run(CONFIG)
    x, _ = next(data.batcher(digits, CONFIG, split="train_eval").epoch(0))
    model = models.build("mlp", num_classes=10, in_shape=digits.in_shape, seed=0, widths=[12, 9])
    beside = {}

    def aside(model, epoch):
        beside[epoch] = relu_paths.record_paths(model, x[:20])
        return {}

    probes = {"aside": aside, **({"paths": recorder(x[:20])} if recorder else {})}
    return fit(model, digits, CONFIG, probes=probes, device="cpu"), beside


def test_a_recorder_under_fit_gives_the_similarities_and_changes_nothing():
    (history, beside), (plain, _) = trained(relu_paths.PathRecorder), trained()
    bare = [{key: row[key] for key in plain.rows[0]} | {"seconds": 0} for row in history.rows]
    assert bare == [{**row, "seconds": 0} for row in plain.rows]
    assert not any(":self" in key or ":cross" in key for key in history.rows[0])
    for epoch in range(1, 5):
        row = history.rows[epoch]
        assert row["paths/epochs_between"] == 1
        for layer in ("act1", "act2"):
            now, before = beside[epoch][layer], beside[epoch - 1][layer]
            pairs = nets.cross(now, before)[torch.ones(20, 20).triu(1).bool()]
            own = relu_paths.self_similarity(now, before)
            for name, values in (("cross", pairs), ("self", own)):
                assert row[f"paths/{layer}:{name}:mean"] == pytest.approx(float(values.mean()), abs=1e-6)
                for q in (0.05, 0.5, 0.95):
                    key = f"paths/{layer}:{name}:q{round(100 * q):02d}"
                    assert row[key] == pytest.approx(float(values.quantile(q)), abs=1e-6)
            assert row[f"paths/{layer}:cross:zeros"] == int((pairs == 0).sum())
            assert row[f"paths/{layer}:on"] == pytest.approx(float(now.float().mean()))
    assert json.loads(json.dumps(history.rows[-1])) == history.rows[-1]
    assert all(math.isfinite(value) for key, value in history.rows[-1].items() if key.startswith("paths/"))


def test_a_recording_on_disk_is_whole_and_read_back(tmp_path):
    _, beside = trained(lambda x: relu_paths.PathRecorder(x, folder=tmp_path / "paths"))
    recording = relu_paths.PathRecording(tmp_path / "paths")
    assert recording.epochs == (0, 1, 2, 3, 4)
    assert recording.layers == ("act1", "act2")
    for epoch, paths in beside.items():
        for layer, expected in paths.items():
            assert torch.equal(recording.paths(epoch, layer), expected)
    packed = recording.packed(3)["act1"]
    assert (packed.units, packed.layer, len(packed.images)) == (12, "act1", 16)
    assert {path.suffix for path in (tmp_path / "paths").iterdir()} == {".safetensors"}
    means = recording.cross_path_means("act1")
    for epoch in range(1, 5):
        matrix = relu_paths.cross_path_similarity(beside[epoch]["act1"], beside[epoch - 1]["act1"], dtype=torch.float64)
        expected = float(matrix[torch.ones(20, 20).triu(1).bool()].mean())
        assert means[epoch] == pytest.approx(expected, abs=1e-7)
    assert list(means) == [1, 2, 3, 4]
    assert torch.equal(recording.path_grams("act2")[3], relu_paths.path_gram(beside[3]["act2"]))


A, X = random_paths(3, 8), images(3, (6,))


def one(**layers):
    return {name: relu_paths.PackedPaths.pack(paths, layer=name) for name, paths in layers.items()}


def filled(folder=None):
    recording = relu_paths.PathRecording(folder)
    for epoch in (0, 1, 2, 5):
        recording.add(epoch, one(a=random_paths(3, 8, seed=epoch)))
    return recording


def damaged(folder: Path):
    recording = filled(folder)
    path = folder / "epoch_0001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return recording.paths(1, "a")


def foreign(folder: Path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, folder / "epoch_0001.safetensors")
    return relu_paths.PathRecording(folder).paths(1, "a")


def unwritable(folder: Path):
    (folder / "file").write_text("")
    return relu_paths.PathRecording(folder / "file")


REFUSED = {
    "epoch": (lambda _: filled().paths(3, "a"), r"epoch 3 is missing from the recording: it has epochs \[0, 1, 2, 5\]"),
    "layer": (lambda _: filled().paths(1, "b"), "unknown gate layer 'b'"),
    "network": (lambda _: filled().add(6, one(b=A)), "has layers a and epoch 6 has b: .* another network"),
    "units": (lambda _: filled().add(6, one(a=random_paths(3, 9))), "9 units and before 8"),
    "images": (lambda _: filled().add(6, one(a=random_paths(4, 8))), "now has 4 images and before 3"),
    "damaged": (damaged, "is damaged .*: delete it and record the epoch anew"),
    "foreign": (foreign, "is no recording of paths"),
    "unwritable": (unwritable, "cannot use .* for paths: "),
    "empty": (lambda _: relu_paths.PathRecording().paths(0, "a"), r"it has epochs \[\]"),
    "one-image": (lambda _: relu_paths.PathRecorder(images(1, (6,))), "there is 1 image, expected at least 2"),
    "labels": (lambda _: relu_paths.PathRecorder(X, labels=torch.arange(2)), "3 images and 2 labels"),
    "no-gates": (lambda _: relu_paths.PathRecorder(X)(nn.Linear(6, 2), 0), "the network has no gates"),
    "train-mode": (lambda _: relu_paths.PathRecorder(images(3, (2, 8, 8)))(conv().train(), 0), "is in train mode"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_line(call, message, tmp_path):
    check_refused(call, message, tmp_path)


def test_the_loss_along_yesterdays_paths():
    """Weights of today, gates of yesterday: for layers that are recorded; the others follow their own."""
    torch.manual_seed(0)
    model, x, y = Functional(), images(5, (6,)), torch.tensor([0, 1, 2, 0, 1])
    whole, part = relu_paths.PathRecorder(x, labels=y), relu_paths.PathRecorder(x, labels=y, layers=["gate"])
    assert sorted(key for key in whole(model, 0) if "loss" in key) == ["own:loss"]
    part(model, 0)
    before = relu_paths.record_paths(model, x)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
        loss = float(nn.functional.cross_entropy(model(x), y))
    found, partial = whole(model, 1), part(model, 1)
    assert found["own:loss"] == pytest.approx(loss, rel=1e-5)
    assert (found["before:loss"], found["before:accuracy"]) == relu_paths.loss_along(model, x, y, before)
    chosen = {"gate": before["gate"]}
    assert partial["before:loss"] == relu_paths.loss_along(model, x, y, chosen, partial=True)[0] != found["before:loss"]


def plain(units):
    return nn.Sequential(nn.Linear(6, units), nn.ReLU())


FIRST = {"layer '1' was not there an epoch before": Functional(), "now has 5 units and before 4": plain(4)}


@pytest.mark.parametrize("message", FIRST)
def test_another_network_is_noticed_and_another_run_is_begun_anew(message):
    recorder = relu_paths.PathRecorder(X)
    recorder(FIRST[message], 0)
    check_refused(recorder, message, plain(5), 1)
    recorder(FIRST[message], 1)
    assert not any(":self" in key for key in recorder(plain(5), 0))


def test_overlap_and_distance_pair_by_pair():
    paths, x = random_paths(7, 30), images(7, (2, 3))
    found = relu_paths.overlap_and_distance(paths, x)
    pairs = list(itertools.combinations(range(7), 2))
    assert list(zip(found.i.tolist(), found.j.tolist(), strict=True)) == pairs
    for k, (i, j) in enumerate(pairs):
        assert found.distance[k] == pytest.approx(float((x[i] - x[j]).double().norm()), rel=1e-6)
        assert found.overlap[k] == int((paths[i] & paths[j]).sum())
        assert found.cosine[k] == pytest.approx(cosine(paths[i], paths[j]))
    assert found.rank_correlation("cosine") == pytest.approx(spearmanr(found.distance, found.cosine).statistic)
    both = torch.stack([found.distance, found.overlap.double()])
    assert found.linear_correlation() == pytest.approx(float(torch.corrcoef(both)[0, 1]))
    turned, _ = torch.linalg.qr(images(7, (7,)).double())  # orthonormal: distances are equal up to rounding
    for pairs in (
        relu_paths.overlap_and_distance(torch.ones_like(paths), x),
        relu_paths.overlap_and_distance(paths, turned),
    ):
        assert math.isnan(pairs.rank_correlation()) and math.isnan(pairs.linear_correlation())


def test_ranks_by_sorting_one_by_one():
    similarity = relu_paths.path_gram(random_paths(9, 6))  # few units: many equals
    found = relu_paths.neighbour_ranks(similarity, [0, 4, 8])
    assert torch.equal(found, relu_paths.neighbour_ranks(similarity, torch.tensor([0, 4, 8])))
    for row, anchor in enumerate([0, 4, 8]):
        others = sorted((j for j in range(9) if j != anchor), key=lambda j: (-int(similarity[anchor, j]), j))
        assert found[row, anchor] == -1
        assert [int(found[row, j]) for j in others] == list(range(8))


def test_ranks_over_time():
    grams = {epoch: relu_paths.path_gram(random_paths(10, 50, seed=epoch)) for epoch in (0, 1, 2)}
    found = relu_paths.ranks_over_time(grams, [2, 7])
    assert found.ranks.shape == (3, 2, 10)
    nearest = [[int(relu_paths.neighbour_ranks(grams[t], [a])[0].tolist().index(0)) for a in (2, 7)] for t in (0, 1, 2)]
    assert found.nearest().tolist() == nearest
    expected = [sum(nearest[t][a] != nearest[t - 1][a] for t in (1, 2)) for a in (0, 1)]
    assert found.nearest_changes().tolist() == expected
    top = {j for j in range(10) if 0 <= found.ranks[1, 0, j] < 3}
    before = {j for j in range(10) if 0 <= found.ranks[0, 0, j] < 3}
    assert found.kept(top=3)[0, 0] == pytest.approx(len(top & before) / 3)
    table = found.table(top=4)
    assert len(table) == 3 * 2 * 4 and {row["rank"] for row in table if row["epoch"] == 2} == {0, 1, 2, 3}
    assert all(row["rank"] == found.ranks[row["epoch"], [2, 7].index(row["anchor"]), row["neighbour"]] for row in table)


def test_early_to_mid():
    values = {epoch: 0.1 * epoch for epoch in range(1, 10)}
    assert relu_paths.early_to_mid_ratio(values, [3, 6]) == pytest.approx(0.2 / 0.5)
    assert relu_paths.early_to_mid_ratio(values, [3]) == pytest.approx(0.2 / 0.65)


NAN = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
BOTH = torch.eye(2)
SUMMARIES_REFUSED = {
    "constant": (relu_paths.early_to_mid_ratio, ({1: 1.0}, []), {}, "there is no milestone"),
    "epoch": (relu_paths.early_to_mid_ratio, ({1: 1.0, 3: 1.0}, [2]), {}, r"epoch 2 is missing .* epochs \[1, 3\]\)"),
    "no-mid": (relu_paths.early_to_mid_ratio, ({1: 1.0, 2: 1.0}, [2]), {}, "at least one in each"),
    "zero": (relu_paths.early_to_mid_ratio, ({1: 1.0, 2: 0.0}, [1]), {}, "is 0: the ratio is not defined"),
    "square": (relu_paths.neighbour_ranks, (BOTH[:1], [0]), {}, r"similarity is \[1, 2\]"),
    "one": (relu_paths.neighbour_ranks, (BOTH[:1, :1], [0]), {}, "at least 2 images"),
    "anchor": (relu_paths.neighbour_ranks, (BOTH, [2]), {}, "anchor is 2, expected a whole number from 0 to 1"),
    "half": (relu_paths.neighbour_ranks, (BOTH, [0.5]), {}, "anchor is 0.5, expected a whole number"),
    "NaN": (relu_paths.neighbour_ranks, (NAN, [1, 0]), {}, "the similarity of image 0 to another is NaN"),
    "no-epochs": (relu_paths.ranks_over_time, ({}, [0]), {}, "there are no epochs"),
    "images": (relu_paths.overlap_and_distance, (BOTH.bool(), BOTH[:1]), {}, "x has 1 images and paths 2"),
    "one-image": (relu_paths.overlap_and_distance, (BOTH[:1].bool(), BOTH[:1]), {}, "there is 1 image"),
}


test_bad_input_of_summaries_is_one_line = refused(SUMMARIES_REFUSED)
