"""A run folder at a URL and its copy on this machine."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import COMPLETE

RESERVATION = ".sweep.json"
REFRESH_SECONDS, STALE_SECONDS = 30.0, 120.0


class Mirror:
    """One folder below a URL, and its twin below a folder of this machine.

    Args:
        url: The store, for instance ``"s3://bucket/runs"``.
        root: Folder of this machine that stands for the store.
        name: The folder below both.
    """

    def __init__(self, url: str, root: Path, name: str) -> None:
        import fsspec

        self.files, base = fsspec.core.url_to_fs(url)
        self.url, self.remote, self.local = url, f"{base.rstrip('/')}/{name}".rstrip("/"), root / name
        self._pushed: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def fetch(self, *, checkpoints: bool = True) -> None:
        """Copy what the store has and this machine has not; the file that makes a run complete comes last.

        A complete run of the store replaces what was begun here.
        """
        if (self.local / COMPLETE).exists():
            return
        self.files.invalidate_cache()
        names = [path[len(self.remote) + 1 :] for path in self.files.find(self.remote)]
        whole = COMPLETE in names
        for name in sorted(names, key=lambda name: name == COMPLETE):
            target = self.local / name
            if (target.exists() and not whole) or _passing(name) or (not checkpoints and "/" in name):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f"{target.name}.{os.getpid()}.fetched")
            self.files.get_file(f"{self.remote}/{name}", str(aside))
            aside.replace(target)

    def push(self) -> None:
        """Copy what has changed here since the last time, checkpoints after what belongs to them, `COMPLETE` last.

        What was copied and is gone here, such as old checkpoints, goes there too.
        """
        with self._lock:
            here = {str(path.relative_to(self.local)): path for path in self.local.rglob("*") if path.is_file()}
            for name in sorted(here, key=lambda name: (name == COMPLETE, name.startswith("checkpoints"))):
                self._push_one(name, here[name])
            for name in [name for name in self._pushed if name not in here]:
                self.files.rm_file(f"{self.remote}/{name}")
                del self._pushed[name]

    def _push_one(self, name: str, path: Path) -> None:
        try:
            found = path.stat()
            stamp = found.st_mtime_ns, found.st_size
            if _passing(name) or self._pushed.get(name) == stamp:
                return
            target = f"{self.remote}/{name}"
            self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(path), f"{target}.part")
            self.files.mv(f"{target}.part", target)
            self._pushed[name] = stamp
        except FileNotFoundError:
            return  # it was replaced by a newer one, which the next copy takes

    def probe(self, content: bytes) -> None:
        """Write something, read it again, and remove it."""
        self.files.makedirs(self.remote, exist_ok=True)
        place = f"{self.remote}/.probe.{os.getpid()}"
        self.files.pipe_file(place, content)
        same = self.files.cat_file(place) == content
        self.files.rm_file(place)
        if not same:
            raise OSError("what is read is not what was written")

    def reserve(self, token: str) -> None:
        """Say that a sweep is at work, again and again until `release`.

        Raises:
            UserError: Another one said so within the last two minutes.
        """
        place = f"{self.remote}/{RESERVATION}"
        found = self._reservation(place)
        if found and time.time() - found["time"] < STALE_SECONDS:
            who = f"process {found['process']} on {found['host']}"
            raise UserError(
                f"another sweep is at work on the run store {self.url} ({who}): "
                "wait for it, or stop it; two minutes after it has died this goes away"
            )
        self._say(place, token)

        def again() -> None:
            while not self._ended.wait(REFRESH_SECONDS):
                self._say(place, token)

        threading.Thread(target=again, daemon=True).start()

    def release(self) -> None:
        """Say that the sweep is over."""
        self._ended.set()
        self.files.rm_file(f"{self.remote}/{RESERVATION}")

    def _say(self, place: str, token: str) -> None:
        said = {"token": token, "process": os.getpid(), "host": socket.gethostname(), "time": time.time()}
        self.files.pipe_file(place, json.dumps(said).encode())

    def _reservation(self, place: str) -> dict[str, Any] | None:
        self.files.invalidate_cache()
        try:
            return json.loads(self.files.cat_file(place))
        except (OSError, ValueError):
            return None


def _passing(name: str) -> bool:
    """Whether a file is in the middle of being written, here or there."""
    return name.endswith((".part", ".fetched", ".lock")) or ".tmp" in Path(name).suffix
