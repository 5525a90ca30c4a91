"""Chapters and their parameters are read, and values are checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_notebook

from gendyn_lite import notebooks
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import read_parameters
from tests.book import trial
from tests.measures.networks import refused

LINES = """profile: str = "smoke"  # smoke, colab or full
epochs: int = 60  # most epochs
rate: float = 0.1  # step size # of SGD
trap: bool = False
size: int | None = None  # None: all
fractions: list[float] = [0.0, 0.5]  # q
note: str | None = "a # b"
"""


@pytest.mark.parametrize("text", [b"a: [", b"\xff", b"- a\n b: {"], ids=["open", "binary", "nested"])
def test_a_table_of_contents_that_is_no_yaml_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "_toc.yml").write_bytes(text)
    with pytest.raises(UserError, match=r"_toc\.yml is not valid YAML: "):
        notebooks.chapters(book=tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    chapter = trial.small("1 + 1")
    chapter.cells[0].source = LINES
    nbformat.write(chapter, tmp_path / "chapter.ipynb")
    return tmp_path / "chapter.ipynb"


def test_types_defaults_and_help_are_read(path: Path) -> None:
    found = notebooks.parameters(path)
    assert list(found) == ["profile", "epochs", "rate", "trap", "size", "fractions", "note"]
    assert found["size"] == ("int | None", None, "None: all")
    assert found["fractions"] == ("list[float]", [0.0, 0.5], "q")
    assert found["note"] == ("str | None", "a # b", "")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        pytest.param("epochs", "5", 5, id="int"),
        pytest.param("rate", "1", 1.0, id="int-for-float"),
        pytest.param("trap", "true", True, id="true"),
        pytest.param("size", "100", 100, id="optional"),
        pytest.param("fractions", "[0, 1]", [0, 1], id="list"),
        pytest.param("note", "5", "5", id="text-stays-text"),
        pytest.param("note", "None", None, id="optional-text"),
    ],
)
def test_text_is_read_as_the_type(path: Path, name: str, text: object, value: object) -> None:
    found = notebooks.checked(path, values={name: text})[1][name]  # every value differs from its default
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("epoch", "5", "unknown parameter of chapter 'epoch': did you mean 'epochs'", id="unknown"),
        pytest.param("epochs", "five", "epochs is 'five' .str., expected a whole number", id="word-for-int"),
        pytest.param("trap", "yes", "trap is 'yes' .str., expected True or False", id="word-for-bool"),
        pytest.param("fractions", "0.5", "fractions is 0.5 .float., expected a list", id="number-for-list"),
        pytest.param("rate", float("nan"), "rate is nan, expected a finite number", id="nan"),
        pytest.param("epochs", "9" * 10**7, "epochs is '9+…, expected text of up to 4,096", id="long"),
        pytest.param("epochs", "[" * 4096, r"^epochs is '\[+… .str., expected a whole number", id="nested"),
        pytest.param("note", "a\0b", "note is 'a.x00b', expected text .* without NUL", id="nul"),
        pytest.param("note", "\udcff", "note is '.udcff', expected text of up to 4,096 Unicode", id="bytes"),
    ],
)
def test_wrong_values_are_named(path: Path, name: str, text: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        notebooks.checked(path, values={name: text})


WRONG = {
    "no-type": ("epochs = 5", "expected 'name: type = default"),
    "no-default": ("epochs: int", "expected 'name: type = default"),
    "type-papermill-cannot-write": ("epochs: tuple = (1,)", "a type of int, float, str, bool, list"),
    "computed": ("epochs: int = len('a')", "and a plain value"),
    "two-types": ("epochs: int | str = 5", "a type of int"),
    "syntax": ("epochs: int = = 3", "it is not valid Python: invalid syntax"),
    "nul": ("epochs: int = 3\0", "it is not valid Python: "),
    "default-of-other-type": ("epochs: int = 'a'", "epochs is 'a' .str., expected a whole number"),
}
test_a_wrong_parameters_cell_is_refused = refused(
    {name: (read_parameters, (source,), {}, message) for name, (source, message) in WRONG.items()}
)


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_exactly_one_parameters_cell(path: Path, count: int) -> None:
    nbformat.write(new_notebook(cells=[trial.cell(LINES, "parameters") for _ in range(count)]), path)
    with pytest.raises(UserError, match=f"chapter.ipynb has {count} cells tagged 'parameters', expected exactly one"):
        notebooks.parameters(path)


VALUES = {
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "str": st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    "bool": st.booleans(),
    "list": st.lists(st.integers()),
}


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])), st.text("ab #é"))
def test_any_default_and_its_help_are_read_back(pair: tuple[str, object], words: str) -> None:
    kind, value = pair
    found = read_parameters(f"value: {kind} = {value!r}  # {words}\nother: int = 1")["value"]
    assert (found.default, found.help) == (value, words.strip())
