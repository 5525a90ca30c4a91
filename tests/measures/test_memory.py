"""The refusal before the work starts."""

from __future__ import annotations

import pytest

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example import checks as memory


@pytest.mark.parametrize(
    ("size", "text"), [(12e9, "12.0 GB"), (1.5e8, "0.1 GB"), (5e6, "5.0 MB"), (0, "0.0 MB")], ids=str
)
def test_sizes_as_text(size, text):
    assert memory.gigabytes(int(size)) == text


def test_what_fits_passes():
    memory.refuse_if_too_large(100, "it", "wait", memory_limit=100)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"it takes 2.0 MB, 1.0 MB are free on cpu: wait"):
        memory.refuse_if_too_large(2_000_000, "it", "wait", memory_limit=1_000_000)


def test_an_unknown_amount_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: None)
    memory.refuse_if_too_large(10**18, "it", "wait")


@pytest.mark.parametrize(
    ("limit", "used", "wanted"),
    [(None, None, 1000), (600, 100, 500), (600, 700, 0), (10**9, 0, 1000)],
    ids=["no group", "group", "over", "wide group"],
)
def test_a_containers_limit_counts(monkeypatch, limit, used, wanted):
    monkeypatch.setattr(memory, "_linux_available", lambda: 1000)
    monkeypatch.setattr(memory, "_number", lambda path: limit if path.endswith("max") else used)
    assert memory.available_memory() == wanted


def test_elsewhere_it_is_three_quarters_of_the_machine(monkeypatch):
    monkeypatch.setattr(memory, "_linux_available", lambda: None)
    monkeypatch.setattr(memory, "_number", lambda path: None)
    monkeypatch.setattr(memory.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name])
    assert memory.available_memory() == 4096 * 1000 * 3 // 4


def test_no_limit_is_written_as_a_word(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._number(str(tmp_path / "memory.max")) is None
    assert memory._number(str(tmp_path / "missing")) is None
