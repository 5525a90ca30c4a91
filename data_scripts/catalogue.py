"""Descriptions of the data sets, read from catalogue.toml, and the download of their files.

A file is fetched from the first mirror that is fast enough and gives the right SHA-256.
"""

from __future__ import annotations

import shutil
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from gendyn_lite.errors import Failed, disk_errors
from gendyn_lite.results.files import sha256


class Download(NamedTuple):
    """A file to download.

    Attributes:
        file: Its name.
        bytes: Its size.
        sha256: Its SHA-256.
        urls: Its addresses, in the order in which they are tried: the official host, then other public copies.
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
        size: Number and shape of images, and size of the download.
        licence: Licence or terms, as stated by its makers.
        source: Who made it, and where it is described.
        downloads: Files to fetch; none if it comes with the library or has to be requested from its makers.
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
        train: MD5 of each file of training images, by name.
        test: MD5 of the file of test images, by name.
    """

    title: str
    class_names: list[str]
    key: str
    train: dict[str, str]
    test: dict[str, str]

    @property
    def files(self) -> list[str]:
        """Names of all files."""
        return [*self.train, *self.test]


def _entry(*, urls: Sequence[str] = (), downloads: Sequence[dict[str, Any]] = (), **fields: str) -> Entry:
    """Make an entry from catalogue.toml, where ``{file}`` in a URL stands for the name of the download."""
    files = [Download(**each, urls=tuple(url.format(**each) for url in urls)) for each in downloads]
    return Entry(**fields, downloads=tuple(files))


_READ = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ENTRIES = {fields["name"]: _entry(**fields) for fields in _READ["sets"]}
# MNIST's files: shape of the array and SHA-256 of the decompressed bytes, by name.
IDX_FILES = {file: (tuple(shape), sha256) for file, (shape, sha256) in _READ["idx_files"].items()}
# Descriptions of copies that are not the original, by the SHA-256 of their archive.
KNOWN_COPIES: dict[str, str] = _READ["known_copies"]
FAMILIES = {name: Family(**fields) for name, fields in _READ["families"].items()}


def table() -> pd.DataFrame:
    """A table of all data sets for readers: name, what it is, licence and source.

    >>> table()["name"].tolist()
    ['digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...]
    """
    rows = [(entry.name, f"{entry.title}: {entry.size}", entry.licence, entry.source) for entry in ENTRIES.values()]
    return pd.DataFrame(rows, columns=pd.Index(["name", "what", "licence", "source"]))


BLOCK = 1 << 18  # bytes
PAGE = (b"<!doctype html", b"<html")  # how a web page starts


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror. Times are in seconds, speeds in bytes per second."""

    connect: float = 10.0  # longest time to connect
    stall: float = 20.0  # longest time without receiving a byte
    window: float = 10.0  # time over which the speed is measured
    slow: int = 250_000  # speed below which the next mirror is tried; if none works, the fastest slow one is used
    floor: int = 1_000  # speed below which a mirror is never used
    attempts: int = 3  # number of attempts at one mirror without progress, after temporary errors
    wait: float = 1.0  # time before the second attempt; it doubles for each further one


class GiveUpError(Exception):
    """A mirror cannot be used. `speed` is the speed that it reached, if it was too slow."""

    def __init__(self, reason: str, *, speed: float = 0.0) -> None:
        super().__init__(reason)
        self.speed = speed


class MayPassError(Exception):
    """An attempt failed by a temporary error, after which the same mirror may be tried again."""


def _receive(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """Make one request, and append what is missing to the file `part`; errors as for `_check_answer` and `_blocks`."""
    have = size(part)
    if have == download.bytes:
        return
    have = have if have < download.bytes else 0  # a part that is too long is fetched again from the start
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.stall))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise MayPassError("no connection" if isinstance(error, requests.ConnectionError) else "no answer") from None
    except requests.TooManyRedirects:
        raise GiveUpError("it redirects in a loop") from None
    except (requests.RequestException, HTTPError, ValueError) as error:  # raised for invalid addresses
        raise GiveUpError(f"no valid answer ({type(error).__name__})") from None
    with answer:
        start = _check_answer(answer, have, download)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            name = f"{download.file} from {host(url)}"
            with tqdm(total=download.bytes, initial=start, unit="B", unit_scale=True, desc=name, disable=None) as bar:
                for block in _blocks(answer, start, download, patience.window, limit):
                    file.write(block)
                    bar.update(len(block))


def _check_answer(answer: requests.Response, have: int, download: Download) -> int:
    """Check the headers of an answer; returns the offset in the file at which its body starts."""
    status = answer.status_code
    if status in (408, 425, 429) or status >= 500:
        raise MayPassError(f"HTTP {status}")
    if status not in (200, 206):
        raise GiveUpError(f"HTTP {status}")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise GiveUpError("it answers with a web page instead of the file")
    start = have if status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
    if status == 206 and start != have:
        raise GiveUpError("it sends another part of the file than asked for")
    length = answer.headers.get("Content-Length", "")[:20]
    if length.isdecimal() and start + int(length) != download.bytes:
        raise GiveUpError(f"wrong size: {start + int(length):,} bytes, expected {download.bytes:,}")
    return start


def _blocks(answer: requests.Response, at: int, download: Download, window: float, limit: int) -> Iterator[bytes]:
    """Iterate over the body of an answer, which starts at byte `at` of the file.

    Raises:
        GiveUpError: It is longer than the file, is a web page, or arrives slower than `limit` bytes per second.
        MayPassError: It stalls or is cut off.
    """
    since, before = time.monotonic(), at
    while at < download.bytes:
        try:
            block = answer.raw.read1(min(BLOCK, download.bytes - at + 1))
        except (HTTPError, OSError) as error:
            if "timed out" in str(error).lower():
                raise MayPassError("it stalls") from None
            block = b""
        if not block:
            raise MayPassError(f"the connection was cut at {at:,} of {download.bytes:,} bytes")
        if at == 0 and block[:64].lstrip().lower().startswith(PAGE):
            raise GiveUpError("it answers with a web page instead of the file")
        at += len(block)
        if at > download.bytes:
            raise GiveUpError(f"wrong size: more than {download.bytes:,} bytes")
        yield block
        waited = time.monotonic() - since
        if waited >= window:
            speed = (at - before) / waited
            if speed < limit and at < download.bytes:
                raise GiveUpError(f"slow ({speed / 1000:.0f} kB/s)", speed=speed)
            since, before = since + waited, at


def size(path: Path) -> int:
    """The size of a file in bytes; 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def host(url: str) -> str:
    """The host in a URL; a text that is not a URL is returned as it is."""
    return url.split("://", 1)[-1].split("/", 1)[0] or url


def fetch(download: Download, folder: Path, *, mirrors: Sequence[str] = (), patience: Patience | None = None) -> Path:
    """Download a file, unless it has been downloaded before.

    Bytes are written to ``FILE.part``, which later calls and other mirrors continue. It is renamed to ``FILE`` once its
    SHA-256 is right. Only one process may call this for a folder at a time.

    Args:
        download: The file to fetch.
        folder: Folder to download to; it is created.
        mirrors: URLs of folders to try before the known addresses.
        patience: Limits of time and speed.

    Returns:
        Path of the verified file.

    Raises:
        Failed: No mirror could be used (the message gives each one's reason), or the disk is full or fails.
    """
    path = folder / download.file
    patience = patience or Patience()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and sha256(path) == download.sha256:
            return path
        part = path.with_name(f"{path.name}.part")
        needed, free = download.bytes - size(part), shutil.disk_usage(folder).free
        if free < needed:
            lack = f"{folder} has {free:,} bytes free, {download.file} needs {needed:,}"
            raise Failed(f"{lack}: free some space or choose another folder with --root")
        urls = [f"{mirror.rstrip('/')}/{download.file}" for mirror in mirrors] + list(download.urls)
        _try_all(download, part, urls, patience)
        part.replace(path)
    return path


def _try_all(download: Download, part: Path, urls: Sequence[str], patience: Patience) -> None:
    """Try each mirror in turn, then the slow ones again, the fastest first; if none can be used, raise Failed."""
    faults: dict[str, GiveUpError] = {}
    left = urls
    for limit in (patience.slow, patience.floor):
        for url in left:
            try:
                return _try_one(download, part, url, patience, limit=limit)
            except GiveUpError as error:
                faults[url] = error
                print(f"{host(url)}: {error}", file=sys.stderr)
        left = sorted((url for url in left if faults[url].speed >= patience.floor), key=lambda url: -faults[url].speed)
        if left and limit == patience.slow:
            minutes = max(1, round((download.bytes - size(part)) / faults[left[0]].speed / 60))
            print(f"no faster mirror works: continuing with {host(left[0])}, about {minutes} min", file=sys.stderr)
    told = "; ".join(f"{host(url)}: {error}" for url, error in faults.items())
    advice = "try again later, give another --mirror URL, or get the file yourself and import it with --from PATH"
    raise Failed(f"cannot fetch {download.file} ({told}): {advice}")


def _try_one(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """Fetch from one mirror, in several attempts, until the file is complete and verified; else a GiveUpError."""
    failed = 0
    while True:
        before = size(part)
        try:
            _receive(download, part, url, patience, limit=limit)
            if sha256(part) == download.sha256:
                return
            part.unlink()
            if before == 0:
                raise GiveUpError("its bytes are altered (wrong SHA-256)")
            # The wrong bytes may be those of an earlier call: start over.
        except MayPassError as error:
            failed = failed + 1 if size(part) < before + download.bytes / 100 else 1
            if failed >= patience.attempts:
                raise GiveUpError(f"{error}, {failed} times") from None
            wait = patience.wait * 2 ** (failed - 1)
            print(f"{host(url)}: {error}; attempt {failed + 1} of {patience.attempts} in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
