"""What each data set is, from catalogue.toml: its size, licence, source, mirrors and checksums."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd


class Download(NamedTuple):
    """A file to fetch.

    Attributes:
        file: Its name.
        bytes: Its size.
        sha256: Its SHA-256.
        urls: Where it is, in order of trial: the official host, then other public copies of the same bytes.
    """

    file: str
    bytes: int
    sha256: str
    urls: tuple[str, ...]


class Entry(NamedTuple):
    """A data set as ``gendyn data --list`` shows it.

    Attributes:
        name: Name to load it by.
        title: Its full name.
        size: Images, shape, and size of the download.
        licence: Licence or terms, as its makers state them.
        source: Who made it, and where it is described.
        downloads: Files to fetch; none for what is embedded or has to be asked for.
    """

    name: str
    title: str
    size: str
    licence: str
    source: str
    downloads: tuple[Download, ...] = ()


class Family(NamedTuple):
    """CIFAR-10 or CIFAR-100, in its Python version.

    Attributes:
        title: Its name.
        class_names: In the order of the labels.
        key: Key of the labels in a batch.
        train: File → its MD5, of the training batches.
        test: Likewise of the test batch.
    """

    title: str
    class_names: list[str]
    key: str
    train: dict[str, str]
    test: dict[str, str]

    @property
    def files(self) -> list[str]:
        """All batches."""
        return [*self.train, *self.test]


def _entry(*, urls: Sequence[str] = (), downloads: Sequence[dict[str, Any]] = (), **fields: str) -> Entry:
    """An entry of the file, each download with its own URLs."""
    files = [Download(**each, urls=tuple(url.format(**each) for url in urls)) for each in downloads]
    return Entry(**fields, downloads=tuple(files))


_READ = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ENTRIES = {fields["name"]: _entry(**fields) for fields in _READ["sets"]}
# File: shape of its array and the SHA-256 of the decompressed bytes.
IDX_FILES = {file: (tuple(shape), sha256) for file, (shape, sha256) in _READ["idx_files"].items()}
# Copies in circulation that are not the original, by the SHA-256 of their archive.
KNOWN_COPIES: dict[str, str] = _READ["known_copies"]
FAMILIES = {name: Family(**fields) for name, fields in _READ["families"].items()}


def table() -> pd.DataFrame:
    """Every data set for a reader: name, what it is, licence and source.

    >>> table()["name"].tolist()
    ['digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...]
    """
    rows = [(entry.name, f"{entry.title}: {entry.size}", entry.licence, entry.source) for entry in ENTRIES.values()]
    return pd.DataFrame(rows, columns=pd.Index(["name", "what", "licence", "source"]))
