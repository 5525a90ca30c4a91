"""One request for a file: what a server, a network or a slow host can do wrong, each told apart."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from data_scripts.catalogue import Download

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


def receive(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """One request: append to the part what is missing.

    Raises:
        GiveUpError: The answer is not the file.
        MayPassError: The connection failed, stalled or was cut, or the server is busy.
        SlowError: It is slower than `limit`.
    """
    have = size(part)
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
                _copy(answer, file, download, _Speed(start, patience, limit), host(url))


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


def _copy(answer: requests.Response, file: IO[bytes], download: Download, speed: _Speed, name: str) -> None:
    """Write the body of an answer, watching its size and speed."""
    read = getattr(answer.raw, "read1", answer.raw.read)  # read1 (urllib3 2.1) returns what is there: a drip is seen
    at = file.tell()
    with tqdm(
        total=download.bytes, initial=at, unit="B", unit_scale=True, desc=f"{download.file} from {name}", disable=None
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


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def host(url: str) -> str:
    """The host of a URL, as a reader would call it."""
    return urlsplit(url).netloc or url
