"""What a run will take comes from the nearest measured runs on such a device; a complete one costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gendyn_lite.config import RunConfig
from gendyn_lite.results.runs import open_run, writing
from gendyn_lite.sweep import cost
from gendyn_lite.sweep.cost import Cost, estimated, measured_runs

BASE = RunConfig(experiment="cost", train_size=100, epochs=10)


def measure(root: Path, seconds: Any, *, device: str = "CPU", **changes: Any) -> RunConfig:
    """A complete run of ten epochs that took so long."""
    config = BASE.replace(**changes)
    env = {"device": device, "n_train": config.train_size or 1000, "profile": "smoke"}
    with writing(open_run(config, "00ff", root=root), env) as writer:
        assert writer is not None
        writer.write({"epoch": config.epochs, "seconds": 0.1})
        writer.finish(wall_seconds=seconds)
    return config


def costs(configs: list[RunConfig], device: str, root: Path) -> list[Cost]:
    return estimated(configs, device=device, root=root, trial=0)


def seconds(root: Path, device: str = "CPU", **changes: Any) -> float | None:
    return costs([BASE.replace(**changes)], device, root)[0].seconds


def test_a_complete_run_costs_nothing(tmp_path: Path) -> None:
    config = measure(tmp_path, 30)
    found = costs([config, config.replace(seed=1)], "CPU", tmp_path)
    assert [(cost.seconds, cost.complete) for cost in found] == [(0.0, True), (30.0, False)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"seed": 7}, 30, id="another seed"),
        pytest.param({"seed": 7, "label_corruption": 1.0}, 50, id="the same labels first"),
        pytest.param({"label_corruption": 0.5}, 40, id="other labels"),
        pytest.param({"epochs": 20, "seed": 3}, 80, id="twice the epochs"),
        pytest.param({"train_size": 300, "seed": 3}, 120, id="three times the examples"),
        pytest.param({"train_size": None, "epochs": 1, "seed": 3}, 4 * 600, id="all examples of an unknown number"),
        pytest.param({"batch_size": 10}, 40, id="other settings"),
        pytest.param({"experiment": "never"}, None, id="nothing measured under that name"),
        pytest.param({"model": "mlp_3x512"}, None, id="another network"),
    ],
)
def test_the_nearest_measured_runs_count(tmp_path: Path, changes: dict[str, Any], expected: float | None) -> None:
    measure(tmp_path, 30)
    measure(tmp_path, 50, label_corruption=1.0)
    assert seconds(tmp_path, **changes) == pytest.approx(expected) if expected else seconds(tmp_path, **changes) is None


def test_another_device_says_nothing(tmp_path: Path) -> None:
    measure(tmp_path, 30, device="GPU of another kind")
    assert seconds(tmp_path, seed=1) is None
    assert seconds(tmp_path, seed=1, device="GPU of another kind") == 30


def test_a_whole_data_set_has_the_size_that_was_measured(tmp_path: Path) -> None:
    measure(tmp_path, 30, train_size=None)
    assert seconds(tmp_path, train_size=None, epochs=20) == pytest.approx(60)
    assert seconds(tmp_path, train_size=500) == pytest.approx(15)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    measure(tmp_path, 30)
    broken = tmp_path / "cost" / "0123456789abcdef"
    broken.mkdir()
    (broken / "complete.json").write_text("{}")
    assert len(measured_runs(["cost"], root=tmp_path)) == 1


@pytest.mark.parametrize("value", [None, [], "x", float("nan"), 10**400], ids=str)
def test_a_run_from_elsewhere_that_says_no_number_is_left_out(tmp_path: Path, value: Any) -> None:
    measure(tmp_path, value)
    measure(tmp_path, 30, device="GPU of another kind", seed=1, train_size=200)
    assert seconds(tmp_path, seed=2) is None
    assert seconds(tmp_path, "GPU of another kind", seed=2) == 15


def test_runs_are_tried_only_as_long_as_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def tried(config: RunConfig, data_root: object) -> float:
        clock[0] += 10
        return 7.0

    monkeypatch.setattr(cost, "_tried", tried)
    monkeypatch.setattr(cost.time, "monotonic", lambda: clock[0])
    configs = [BASE.replace(model=f"mlp_{layers}x512", seed=seed) for seed in (0, 1) for layers in (1, 2, 3)]
    found = estimated(configs, device="CPU", root=tmp_path, trial=5)  # they begin after the first one
    assert [each.seconds for each in found] == [7.0, 7.0, None] * 2
    configs += [BASE.replace(model="mlp_1x512", dataset="two_moons", batch_size=size) for size in (20, 10)]
    assert [each.seconds for each in estimated(configs, device="CPU", root=tmp_path, trial=5)[-2:]] == [7.0, None]
    assert [each.seconds for each in estimated(configs, device="CPU", root=tmp_path, trial=0)] == [None] * 8
