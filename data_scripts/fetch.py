"""Fetch a file from the first mirror that gives it whole, fast enough and with the right SHA-256.

The time limit of a socket is for one read: a server that sends a byte now and then would hold us for ever. So each read
from the network asks a `_Watch` first: has the file begun in time, and is it coming fast enough?
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from data_scripts.catalogue import Download
from gendyn_lite.data.prepared import sha256
from gendyn_lite.data.storage import disk_errors, locked
from gendyn_lite.errors import Failed

BLOCK = 1 << 18
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 8
PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror: times in seconds, speeds in bytes a second."""

    connect: float = 10.0
    answer: float = 60.0  # until the file begins, redirects included
    stall: float = 20.0  # without a byte
    window: float = 10.0  # over which the speed is measured
    slow: int = 250_000  # speed below which the next mirror is tried; one that is only slow is taken if no other works
    floor: int = 1_000  # speed below which a mirror is given up in any case
    attempts: int = 3  # at one mirror without progress, after faults that may pass
    wait: float = 1.0  # before the second attempt, doubled for each further one


class GiveUpError(Exception):
    """This mirror will not do: `speed` is what it reached, if that is why."""

    def __init__(self, reason: str, *, speed: float = 0.0) -> None:
        super().__init__(reason)
        self.speed = speed


class MayPassError(Exception):
    """This attempt failed; the same mirror may work in a moment."""


def _receive(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """One request: append to the part what is missing; a GiveUpError or a MayPassError says why not."""
    have = size(part)
    if have == download.bytes:
        return
    have = have if have < download.bytes else 0  # what is too long is fetched anew
    watch = _Watch(patience, limit)
    with _Session(watch) as session, _ask(session, url, have, patience) as answer:
        start = _check_answer(answer, have, download)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _copy(answer, file, download, watch, host(url))


def _ask(session: _Session, url: str, have: int, patience: Patience) -> requests.Response:
    """The answer, its body not yet read; redirects are followed, and their bodies never read."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        for _ in range(MOST_REDIRECTS + 1):
            answer = session.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.stall))
            if answer.status_code not in REDIRECTS:
                return answer
            answer.close()
            url = urljoin(url, answer.headers.get("Location", ""))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise MayPassError("no connection" if isinstance(error, requests.ConnectionError) else "no answer") from None
    except (requests.RequestException, HTTPError, ValueError) as error:  # all that an address that is none can raise
        raise GiveUpError(f"no valid answer ({type(error).__name__})") from None
    raise GiveUpError("it redirects in a loop")


def _check_answer(answer: requests.Response, have: int, download: Download) -> int:
    """The offset at which the body of an answer begins, once it is plausible."""
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


def _copy(answer: requests.Response, file: IO[bytes], download: Download, watch: _Watch, name: str) -> None:
    """Write the body of an answer, watching its size and speed."""
    watch.begin(at := file.tell())
    name = f"{download.file} from {name}"
    with tqdm(total=download.bytes, initial=at, unit="B", unit_scale=True, desc=name, disable=None) as bar:
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
            if at + len(block) > download.bytes:
                raise GiveUpError(f"wrong size: more than {download.bytes:,} bytes")
            file.write(block)
            watch.at = at = at + len(block)
            bar.update(len(block))


class _Watch:
    """What has to hold before every read from the network."""

    def __init__(self, patience: Patience, limit: int) -> None:
        """The file has to begin by now + ``answer``; then it is not to be slower than `limit` over a ``window``."""
        self.window, self.limit = patience.window, limit
        self.until = time.monotonic() + patience.answer
        self.marks: deque[tuple[float, int]] = deque()

    def begin(self, at: int) -> None:
        """From here on the speed counts; `at` is to be kept up by whoever writes."""
        self.at = at
        self.marks.append((time.monotonic(), at))

    def check(self) -> None:
        """Raise one of the errors above if it does not hold."""
        now = time.monotonic()
        if not self.marks:
            if now > self.until:
                raise MayPassError("no answer")
            return
        self.marks.append((now, self.at))
        while len(self.marks) > 2 and self.marks[1][0] <= now - self.window:
            self.marks.popleft()
        then, before = self.marks[0]
        speed = (self.at - before) / max(now - then, 1e-9)
        if now - then >= self.window and speed < self.limit:
            raise GiveUpError(f"slow ({speed / 1000:.0f} kB/s)", speed=speed)


class _Session(requests.Session):
    """A session under a watch, which leaves redirects to us: by itself it would read their bodies, however long."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(watch))

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Makes the connections of a `_Session`, through a proxy or not: each read from them asks the watch first."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = type("Watched", (pool.ConnectionCls,), {"response_class": staticmethod(self._answer)})
        return pool

    def _answer(self, *arguments: Any, **options: Any) -> HTTPResponse:
        answer: Any = HTTPResponse(*arguments, **options)
        read = answer.fp.raw.readinto

        def watched(buffer: Any) -> int | None:
            self.watch.check()
            return read(buffer)

        answer.fp.raw.readinto = watched
        return answer


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def host(url: str) -> str:
    """The host of a URL, as a reader would call it; what is no URL is left as it is."""
    return url.split("://", 1)[-1].split("/", 1)[0] or url


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
        Failed: No mirror gave it (each one's reason is told), or the disk refused it.
    """
    path = folder / download.file
    patience = patience or Patience()
    with locked(folder / f".{download.file}.lock"), disk_errors(folder):
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
    """Each mirror in turn; then the slow ones, the fastest first, for as long as they take."""
    faults: dict[str, GiveUpError] = {}

    def works(url: str, limit: int) -> bool:
        try:
            _try_one(download, part, url, patience, limit=limit)
            return True
        except GiveUpError as error:
            faults[url] = error
            _tell(f"{host(url)}: {error}")
            return False

    if any(works(url, patience.slow) for url in urls):
        return
    slow = {url: error.speed for url, error in faults.items() if error.speed >= patience.floor}
    for url in sorted(slow, key=lambda url: -slow[url]):
        minutes = (download.bytes - size(part)) / slow[url] / 60
        _tell(f"no faster mirror works: staying with {host(url)}, about {max(1, round(minutes))} min")
        if works(url, patience.floor):
            return
    told = "; ".join(f"{host(url)}: {error}" for url, error in faults.items())
    raise Failed(
        f"cannot fetch {download.file} ({told}): try again later, give another --mirror URL, or get the file yourself "
        "and import it with --from PATH"
    )


def _try_one(download: Download, part: Path, url: str, patience: Patience, *, limit: int) -> None:
    """Fetch from one mirror, in several attempts, until the part is whole and verified, or give the mirror up."""
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
            # The wrong bytes may be those that were there before: once more, from the beginning.
        except MayPassError as error:
            failed = failed + 1 if size(part) < before + download.bytes / 100 else 1
            if failed >= patience.attempts:
                raise GiveUpError(f"{error}, {failed} times") from None
            wait = patience.wait * 2 ** (failed - 1)
            _tell(f"{host(url)}: {error}; attempt {failed + 1} of {patience.attempts} in {wait:g} s")
            time.sleep(wait)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
