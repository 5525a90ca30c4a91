"""One address for the whole project, and none until somebody owns it."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from gendyn_lite import cli, notebooks
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import configure, repository, setup_source
from tests.book.trial import ROOT

CHAPTERS = [notebooks.chapter_path(name) for name in notebooks.chapters()]
URL = "https://github.com/someone/gendyn_lite"


@pytest.fixture
def copy(tmp_path):
    """The configuration and two chapters, to be written to."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in (ROOT / "_config.yml", *CHAPTERS[:2])]
    return paths[0], paths[1:]


def first_cell(path):
    return next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code").source


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_begins_with_the_same_set_up_and_the_address_of_the_configuration(path):
    assert first_cell(path) == setup_source(repository())


def test_the_address_is_written_everywhere_and_taken_back(copy):
    config, paths = copy
    before = {path: path.read_bytes() for path in (config, *paths)}
    assert configure(f"{URL}.git/", config=config, notebooks=paths) == [config, *paths]
    assert repository(config) == URL
    assert [first_cell(path) for path in paths] == [setup_source(URL)] * 2
    assert yaml.safe_load(config.read_text())["launch_buttons"]["colab_url"].endswith("colab.research.google.com")
    for path in paths:
        notebooks.check_executed(path)
    assert configure(URL, config=config, notebooks=paths) == []
    assert configure("", config=config, notebooks=paths) == [config, *paths]
    assert {path: path.read_bytes() for path in (config, *paths)} == before


@pytest.mark.parametrize(
    "url",
    [
        "github.com/someone/x",
        "http://github.com/someone/x",
        "https://github.com",
        "https://github.com/x",
        'https://a/b/"c',
        "https://github.com/../..",
        "https://github.com/someone/..",
        "https://github.com/./x",
        "https://.../someone/x",
        "https://github.com:x/someone/x",
    ],
    ids=["no-scheme", "not-https", "no-owner", "no-name", "quote", "up", "up-last", "dot", "no-host", "no-port"],
)
def test_what_is_no_address_is_refused_and_nothing_written(copy, url):
    config, paths = copy
    before = config.read_bytes()
    with pytest.raises(UserError, match="is not an address such as"):
        configure(url, config=config, notebooks=paths)
    assert config.read_bytes() == before


@pytest.mark.parametrize("who", ["user:secret@", "secret@", "user:se@cret@"], ids=["both", "token", "two"])
def test_a_password_is_neither_written_nor_shown(copy, who):
    config, paths = copy
    before = config.read_bytes()
    with pytest.raises(UserError, match="holds a user name or a password") as caught:
        configure(f"https://{who}github.com/a/b", config=config, notebooks=paths)
    assert config.read_bytes() == before and "secret" not in str(caught.value)


def test_a_notebook_without_the_place_stops_everything(copy, tmp_path):
    config, paths = copy
    before = config.read_bytes()
    other = tmp_path / "other.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), other)
    with pytest.raises(UserError, match=r"other.ipynb: its first code cell has no line 'repository"):
        configure(URL, config=config, notebooks=[*paths, other])
    assert config.read_bytes() == before


def test_the_command_line_says_what_is_wrong(capsys):
    assert cli.main(["configure", "--repository", "somewhere"]) == 2
    assert "is not an address" in capsys.readouterr().err


def test_without_an_address_the_set_up_says_so_and_installs_nothing():
    source = setup_source("").replace("import gendyn_lite", "import no_such_package_here")
    shown = source.replace("    %pip install", "    raise AssertionError('installs') #")
    with pytest.raises(SystemExit, match="install gendyn_lite first"):
        exec(compile(shown, "set-up", "exec"), {})
