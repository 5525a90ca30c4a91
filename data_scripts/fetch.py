"""Fetch a file from the first mirror that gives it whole, fast enough and with the right SHA-256."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from data_scripts.catalogue import Download
from gendyn_lite.data.prepared import sha256
from gendyn_lite.data.storage import disk_errors, locked
from gendyn_lite.errors import UserError

BLOCK = 1 << 18
MOST_REDIRECTS = 8
PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror.

    Attributes:
        connect: Seconds to connect.
        stall: Seconds without a byte.
        window: Seconds over which the speed is measured.
        slow: Bytes a second below which the next mirror is tried; one that is only slow is taken if no other works.
        floor: Bytes a second below which a mirror is given up in any case.
        attempts: Attempts at one mirror without progress, after faults that may pass.
        wait: Seconds before the second attempt, doubled for each further one.
    """

    connect: float = 10.0
    stall: float = 20.0
    window: float = 10.0
    slow: int = 250_000
    floor: int = 1_000
    attempts: int = 3
    wait: float = 1.0


class GiveUpError(Exception):
    """This mirror will not do."""


class MayPassError(Exception):
    """This attempt failed; the same mirror may work in a moment."""


class SlowError(Exception):
    """This mirror works, at a speed (bytes a second) below the limit."""

    def __init__(self, speed: float) -> None:
        """Keep the speed."""
        super().__init__(f"slow ({speed / 1000:.0f} kB/s)")
        self.speed = speed


def fetch(download: Download, folder: Path, *, mirrors: Sequence[str] = (), patience: Patience | None = None) -> Path:
    """Fetch a file, or find that it has been fetched.

    Bytes go to ``FILE.part``, which later calls and other mirrors continue; it is renamed to ``FILE`` once its SHA-256
    is right. One process fetches, others wait for it.

    Args:
        download: What to fetch.
        folder: Where to put it.
        mirrors: Folders (URLs) to try before the known ones.
        patience: Limits of time and speed.

    Returns:
        The file, verified.

    Raises:
        UserError: No mirror gave it (each one's reason is told), or the disk refused it.
    """
    path = folder / download.file
    patience = patience or Patience()
    with locked(folder / f".{download.file}.lock"), disk_errors(folder):
        if path.is_file() and sha256(path) == download.sha256:
            return path
        part = path.with_name(f"{path.name}.part")
        _check_space(download, part)
        urls = [f"{mirror.rstrip('/')}/{download.file}" for mirror in mirrors] + list(download.urls)
        _try_all(download, part, urls, patience)
        os.replace(part, path)
    return path


def _check_space(download: Download, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < download.bytes - have:
        raise UserError(
            f"{part.parent} has {free:,} bytes free, {download.file} needs {download.bytes - have:,}: "
            "free some space or choose another folder with --root"
        )


def _try_all(download: Download, part: Path, urls: Sequence[str], patience: Patience) -> None:
    """Each mirror in turn; then the slow ones, the fastest first, for as long as they take."""
    reasons: dict[str, str] = {}
    slow: dict[str, float] = {}
    for url in urls:
        try:
            return _try_one(download, part, url, patience, limit=patience.slow)
        except SlowError as error:
            slow[url] = error.speed
            _tell(f"{_host(url)} is {error}: trying the next mirror")
        except GiveUpError as error:
            reasons[url] = str(error)
            _tell(f"{_host(url)}: {error}")
    for url in sorted(slow, key=lambda url: -slow[url]):
        minutes = (download.bytes - _size(part)) / slow[url] / 60
        _tell(f"no faster mirror works: staying with {_host(url)}, about {max(1, round(minutes))} min")
        try:
            return _try_one(download, part, url, patience, limit=patience.floor)
        except (GiveUpError, SlowError) as error:
            reasons[url] = str(error)
    told = "; ".join(f"{_host(url)}: {reason}" for url, reason in reasons.items())
    raise UserError(
        f"cannot fetch {download.file} ({told}): try again later, give another --mirror URL, or get the file yourself "
        "and import it with --from PATH"
    )


def _try_one(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """Fetch from one mirror, in several attempts, until the part is whole and verified.

    Raises:
        GiveUpError: It will not do.
        SlowError: It is slower than `limit`.
    """
    failed = 0
    while True:
        before = _size(part)
        try:
            _receive(download, part, url, patience, limit=limit)
            if sha256(part) == download.sha256:
                return
            part.unlink()
            if before == 0:
                raise GiveUpError("its bytes are altered (wrong SHA-256)")
            # The wrong bytes may be those that were there before: once more, from the beginning.
        except MayPassError as error:
            failed = failed + 1 if _size(part) < before + download.bytes / 100 else 1
            if failed >= patience.attempts:
                raise GiveUpError(f"{error}, {failed} times") from None
            wait = patience.wait * 2 ** (failed - 1)
            _tell(f"{_host(url)}: {error}; attempt {failed + 1} of {patience.attempts} in {wait:g} s")
            time.sleep(wait)


def _receive(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """One request: append to the part what is missing.

    Raises:
        GiveUpError: The answer is not the file.
        MayPassError: The connection failed, stalled or was cut, or the server is busy.
        SlowError: It is slower than `limit`.
    """
    have = _size(part)
    if have >= download.bytes:
        if have > download.bytes:
            part.unlink()
            raise MayPassError("the partial file was too long")
        return
    with requests.Session() as session:
        session.max_redirects = MOST_REDIRECTS
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            answer = session.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.stall))
        except requests.TooManyRedirects:
            raise GiveUpError("it redirects in a loop") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise MayPassError(
                "no connection" if isinstance(error, requests.ConnectionError) else "no answer"
            ) from None
        except requests.RequestException as error:
            raise GiveUpError(f"no valid answer ({type(error).__name__})") from None
        with answer:
            start = _check_answer(answer, have, download)
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                _copy(answer, file, download, _Speed(start, patience, limit), _host(url))


def _check_answer(answer: requests.Response, have: int, download: Download) -> int:
    """The offset at which the body of an answer begins, once it is plausible."""
    status = answer.status_code
    if status in (408, 425, 429) or status >= 500:
        raise MayPassError(f"HTTP {status} {answer.reason}")
    if status not in (200, 206):
        raise GiveUpError(f"HTTP {status} {answer.reason}")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise GiveUpError("it answers with a web page instead of the file")
    start = have if status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
    if status == 206 and start != have:
        raise GiveUpError("it sends another part of the file than asked for")
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != download.bytes:
        raise GiveUpError(f"wrong size: {start + int(length):,} bytes, expected {download.bytes:,}")
    return start


def _copy(answer: requests.Response, file, download: Download, speed: _Speed, host: str) -> None:
    """Write the body of an answer, watching its size and speed."""
    read = getattr(answer.raw, "read1", answer.raw.read)  # read1 (urllib3 2.1) returns what is there: a drip is seen
    at = file.tell()
    with tqdm(
        total=download.bytes, initial=at, unit="B", unit_scale=True, desc=f"{download.file} from {host}", disable=None
    ) as bar:
        while at < download.bytes:
            try:
                block = read(min(BLOCK, download.bytes - at + 1))
            except (HTTPError, OSError) as error:
                if "timed out" in str(error).lower():
                    raise MayPassError("it stalls") from None
                block = b""
            if not block:
                raise MayPassError(f"the connection was cut at {at:,} of {download.bytes:,} bytes")
            if at == 0 and block[:64].lstrip().lower().startswith(PAGE):
                raise GiveUpError("it answers with a web page instead of the file")
            if at + len(block) > download.bytes:
                raise GiveUpError(f"wrong size: more than {download.bytes:,} bytes")
            file.write(block)
            at += len(block)
            bar.update(len(block))
            speed.check(at)


class _Speed:
    """The speed over the last seconds of a transfer."""

    def __init__(self, at: int, patience: Patience, limit: int) -> None:
        self.window, self.limit = patience.window, limit
        self.marks: deque[tuple[float, int]] = deque([(time.monotonic(), at)])

    def check(self, at: int) -> None:
        """Note how far the transfer is; raise `SlowError` once a whole window was slower than the limit."""
        now = time.monotonic()
        self.marks.append((now, at))
        while len(self.marks) > 2 and self.marks[1][0] <= now - self.window:
            self.marks.popleft()
        then, before = self.marks[0]
        if now - then >= self.window and (at - before) / (now - then) < self.limit:
            raise SlowError((at - before) / (now - then))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
