"""Fetch a file from the first mirror that gives it whole, fast enough and with the right SHA-256."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_scripts.catalogue import Download
from data_scripts.transfer import GiveUpError, MayPassError, Patience, SlowError, host, receive, size
from gendyn_lite.data.prepared import sha256
from gendyn_lite.data.storage import disk_errors, locked
from gendyn_lite.errors import Failed


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
        _check_space(download, part)
        urls = [f"{mirror.rstrip('/')}/{download.file}" for mirror in mirrors] + list(download.urls)
        _try_all(download, part, urls, patience)
        os.replace(part, path)
    return path


def _check_space(download: Download, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < download.bytes - have:
        raise Failed(
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
            reasons[url] = str(error)
            if error.speed >= patience.floor:
                slow[url] = error.speed
            _tell(f"{host(url)} is {error}: trying the next mirror")
        except GiveUpError as error:
            reasons[url] = str(error)
            _tell(f"{host(url)}: {error}")
    for url in sorted(slow, key=lambda url: -slow[url]):
        minutes = (download.bytes - size(part)) / slow[url] / 60
        _tell(f"no faster mirror works: staying with {host(url)}, about {max(1, round(minutes))} min")
        try:
            return _try_one(download, part, url, patience, limit=patience.floor)
        except (GiveUpError, SlowError) as error:
            reasons[url] = str(error)
    told = "; ".join(f"{host(url)}: {reason}" for url, reason in reasons.items())
    raise Failed(
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
        before = size(part)
        try:
            receive(download, part, url, patience, limit=limit)
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
