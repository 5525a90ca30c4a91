"""The refusal before the work starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example import checks


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


@pytest.mark.parametrize("value", [2, 5, 9])
def test_a_whole_number_in_its_range_passes(value):
    checks.check_whole("it", value, least=2, most=9)


@pytest.mark.parametrize("value", [1, 10, 2.0, "3", True, None, 10**5000], ids=lambda value: str(type(value)))
def test_what_is_no_whole_number_in_its_range_is_refused(value):
    with pytest.raises(UserError, match=r"it is .*, expected a whole number from 2 to 9"):
        checks.check_whole("it", value, least=2, most=9)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "5", True, None], ids=str)
def test_what_is_no_number_in_its_range_is_refused(value):
    checks.check_number("it", 0.5, "above 0 and finite")
    with pytest.raises(UserError, match=r"it is .*, expected above 0 and finite"):
        checks.check_number("it", value, "above 0 and finite")
