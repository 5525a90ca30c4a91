"""RunConfig: validated by name and range before anything runs; its keys change with what changes numbers, only."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError


def nested(levels):
    """Lists in lists below an option."""
    inner = []
    for _ in range(levels - 2):
        inner = [inner]
    return {"a": inner}


BASE = RunConfig(experiment="random_labels")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_corruption": float("nan")}, r"label_corruption is nan, expected a number in \[0, 1\]"),
        ({"epochs": 0}, r"epochs is 0, expected a whole number in \[1, ∞\)"),
        ({"epochs": 2.5}, r"epochs is 2.5 \(float\), expected a whole number"),
        ({"learning_rate": 0}, r"learning_rate is 0.0, expected a number in \(0, ∞\)"),
        ({"train_size": "all"}, r"train_size is 'all' \(str\), expected a whole number or None"),
        ({"inputs": "gausian"}, "unknown inputs 'gausian': did you mean 'gaussian'"),
        ({"milestones": (0,)}, "expected epochs of at least 1"),
        ({"milestones": ("a",)}, r"an item of milestones is 'a' \(str\), expected a whole number"),
        ({"milestones": (10**5000,)}, "milestones is a very large tuple, expected epochs"),
        ({"epochs": 2**63}, r"epochs is 9223372036854775808, expected a number of at most 2\*\*63 - 1"),
        ({"milestones": 5}, r"milestones is 5 \(int\), expected a tuple"),
        ({"learning_rate": 10**400}, r"learning_rate is 10+…, expected a number of at most 2\*\*63 - 1"),
        ({"seed": 10**999_999}, "seed is a very large int, expected a number of at most"),
        ({"dataset": "a\0b"}, r"dataset is 'a\\x00b', expected text of up to 4,096 Unicode characters without NUL"),
        ({"dataset": "a\udcff"}, r"dataset is 'a\\udcff', expected text of up to 4,096 Unicode characters"),
        ({"model": "a" * 10_000}, "model is 'a+…, expected text of up to 4,096 Unicode char"),
        ({"model_options": {"widths": {1, 2}}}, "JSON values only"),
        ({"model_options": nested(9)}, "model_options has more than 8 levels"),
        ({"model_options": nested(100_000)}, "model_options must hold JSON values only"),
        ({"model_options": {"widths": [8] * 10_000}}, "model_options has more than .* 4,096 characters"),
        ({"experiment": "x\n"}, "expected up to 64 letters"),
        ({"epoch": 3}, "unknown config field 'epoch': did you mean 'epochs'"),
        ({"dataset": "folder:"}, "dataset is 'folder:', expected a name in one line, or folder:PATH"),
        ({"dataset": "a\nb"}, r"dataset is 'a\\nb', expected a name in one line"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_named_with_its_range(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        BASE.replace(**changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 420


def test_options_are_the_ones_that_were_given_and_stay_so():
    """As a file gives them back; neither who gave them nor who asks for them can change them."""
    options = {"widths": (8, [4])}
    config = BASE.replace(model_options=options)
    options["widths"] = ()
    config.model_options["widths"].append(9)
    for same in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.replace(seed=0)):
        assert same == config == RunConfig.from_dict(config.as_dict())
        assert same.model_options == {"widths": [8, [4]]}
    assert config != BASE and "'widths': [8, [4]]" in repr(config)
    assert BASE.replace(model_options=nested(8)).run_id("00")
    with pytest.raises(AttributeError):
        config.model_options = {}


MNIST = RunConfig("random_labels", "mnist", model="mlp_3x512", epochs=60, learning_rate=0.05, decay=0.97)
MNIST = MNIST.replace(stop_when_fitted=True, model_options={"dropout": 0.0})
PUBLISHED = MNIST.replace(model_options={})
KEYS = [  # what changes, and whether the key of the run and that of the group do
    ({"seed": 1}, True, False),
    ({"label_corruption": 0.1}, True, True),
    ({"dataset": "digits"}, True, True),
    ({"label_corruption": 0}, False, False),  # a whole number for a fraction
    ({"label_corruption": -0.0}, False, False),
    ({"model_options": {"dropout": -0.0}}, False, False),
    *(({name: value}, True, True) for name, value in {"test_size": 1000, "mask_keep": 0.5, "probe_version": 2}.items()),
    ({"batch_norm_statistics": "re-estimated"}, True, True),
]


@pytest.mark.parametrize(("changes", "run", "group"), KEYS, ids=str)
def test_keys_change_with_settings_and_data_and_the_groups_not_with_the_seed(changes, run, group):
    other = MNIST.replace(**changes)
    assert (other.run_id("00") != MNIST.run_id("00"), other.group_id("00") != MNIST.group_id("00")) == (run, group)
    assert other.run_id("00") != other.run_id("01")


def test_a_published_run_keeps_its_keys_and_is_read_though_a_field_came_later():
    """The first row of book/results/random_labels/runs.csv; a field added later must not change it."""
    before = {name: value for name, value in PUBLISHED.as_dict().items() if name != "test_size"}
    assert RunConfig.from_dict(before) == PUBLISHED
    assert PUBLISHED.run_id("4f46b181e727ac57") == "d880c0e1083679c9"
    assert PUBLISHED.group_id("4f46b181e727ac57") == "ca93b1807439144f"
    with pytest.raises(UserError, match="unknown config field 'epohs': did you mean 'epochs'"):  # of another version
        RunConfig.from_dict({**before, "epohs": 3})


@given(
    st.builds(
        RunConfig,
        experiment=st.just("random_labels"),
        label_corruption=st.floats(0, 1),
        epochs=st.integers(1, 500),
        train_size=st.none() | st.integers(1, 10**6),
        test_size=st.none() | st.integers(1, 10**6),
        milestones=st.lists(st.integers(1, 100), max_size=3).map(tuple),
        seed=st.integers(0, 2**31 - 1),
    )
)
def test_a_configuration_survives_json(config):
    again = RunConfig.from_dict(config.as_dict())
    assert again == config
    assert again.run_id("00") == config.run_id("00")
