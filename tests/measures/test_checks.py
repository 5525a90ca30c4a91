"""The refusal before the work starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example import checks
from tests.measures.networks import refused


@pytest.mark.parametrize(("size", "text"), [(12e9, "12.0 GB"), (1.5e8, "0.1 GB"), (5e6, "5.0 MB"), (0, "0.0 MB")])
def test_sizes_as_text(size, text):
    assert checks.gigabytes(int(size)) == text


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 1_000_000)
    checks.refuse_if_too_large(1_000_000, "it", "wait")
    with pytest.raises(UserError, match=r"it takes 2.0 MB, 1.0 MB are free on cpu: wait"):
        checks.refuse_if_too_large(2_000_000, "it", "wait")


@pytest.mark.parametrize(
    ("limit", "used", "wanted"),
    [(None, None, 1000), (600, 100, 500), (600, 700, 0), (10**9, 0, 1000)],
    ids=["no group", "group", "over", "wide group"],
)
def test_a_containers_limit_counts(monkeypatch, limit, used, wanted):
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(checks, "_number", lambda path: limit if path.endswith("max") else used)
    assert checks.available_memory() == wanted


def test_no_limit_is_written_as_a_word(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    assert checks._number(str(tmp_path / "memory.max")) is None
    assert checks._number(str(tmp_path / "missing")) is None


WHOLE = {str(type(value)): value for value in (1, 2.0, "3", True, None, 10**5000)} | {"beyond": 10}
NUMBERS = (0, -1.0, float("nan"), float("inf"), "5", True, None)
RANGE, MESSAGE = {"least": 2, "most": 9}, "it is .*, expected a whole number from 2 to 9"
test_what_is_no_whole_number_in_its_range_is_refused = refused(
    {name: (checks.check_whole, ("it", value), RANGE, MESSAGE) for name, value in WHOLE.items()}
)
test_what_is_no_number_in_its_range_is_refused = refused(
    {str(value): (checks.check_number, ("it", value, "above 0"), {}, "it is .*, expected above 0") for value in NUMBERS}
)


def test_numbers_in_their_range_pass():
    for value in (2, 5, 9):
        checks.check_whole("it", value, **RANGE)
    checks.check_number("it", 0.5, "above 0 and finite")
