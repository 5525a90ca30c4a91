"""Decode many images over all cores; what cannot be read is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendyn_lite.data import decode_worker
from gendyn_lite.data.decode_worker import BadImageError, ColourMetError
from gendyn_lite.errors import UserError

CHUNK_BYTES = 1 << 20  # pixels of one answer


class Item(NamedTuple):
    """Where an encoded image is: a file, or `size` bytes of it from `offset` on; and its name for messages."""

    path: str
    offset: int
    size: int
    name: str


class Options(NamedTuple):
    """What to make of an image; see `decode_worker.decode`. `side` is the height and width that it must have then."""

    channels: int
    side: tuple[int, int]
    resize: int | None = None
    crop: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes of one image's pixels."""
        return self.channels * self.side[0] * self.side[1]


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Worker processes that decode; each is started when it is first needed.

    Args:
        workers: Number of processes; 0 to decode in this one.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Prepare, and start nothing yet."""
        self.workers = cores() if workers is None else workers
        self._free: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
        self._started: list[subprocess.Popen[bytes]] = []
        for _ in range(self.workers):
            self._free.put(None)
        self._files: dict[str, object] = {}
        self._stop = weakref.finalize(self, _stop, self._started)

    def decode(self, items: Sequence[Item], options: Options, out: Tensor) -> None:
        """Decode into `out`, uint8 [n, C, H, W] of just this shape. Threads may call this at once.

        Raises:
            UserError: An image cannot be read or has another size; it is named.
            ColourMetError: One channel is wanted and an image has colours.
        """
        request = {"items": items, **options._asdict()}
        pixels = self._ask_worker(request) if self.workers else self._answer_here(request)
        rows = np.frombuffer(pixels, np.uint8).reshape(len(items), *options.side, options.channels)
        out.numpy()[:] = rows.transpose(0, 3, 1, 2)

    def _answer_here(self, request: dict) -> bytes:
        try:
            return decode_worker.answer(request, self._files)
        except BadImageError as error:
            raise UserError(str(error)) from None

    def _ask_worker(self, request: dict) -> bytes:
        worker = self._free.get()
        try:
            if worker is None:
                worker = _start()
                self._started.append(worker)
            return _ask(worker, request)
        except EOFError:
            worker = None  # the next request starts another
            names = f"{request['items'][0].name} … {request['items'][-1].name}"
            raise UserError(f"a worker process ended while it decoded {names}: out of memory?") from None
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes."""
        self._stop()

    def __enter__(self) -> Pool:
        """The pool itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self.close()


def _start() -> subprocess.Popen[bytes]:
    # -P: the folder of the program is not searched for modules (it has a types.py).
    command = [sys.executable, "-P", decode_worker.__file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _stop(workers: Iterable[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.kill()
        worker.communicate()


def _ask(worker: subprocess.Popen[bytes], request: dict) -> bytes:
    """The pixels that a worker answers; EOFError if it has ended."""
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(request).encode() + b"\n")
        worker.stdin.flush()
    except OSError:
        raise EOFError from None
    line = worker.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    if "error" in head:
        raise UserError(head["error"])
    if "colour" in head:
        raise ColourMetError
    pixels = worker.stdout.read(head["bytes"])
    if len(pixels) != head["bytes"]:
        raise EOFError
    return pixels


def probe(item: Item, *, size: int | None) -> tuple[int, tuple[int, int]]:
    """Channels (1 or 3), height and width of one image, resized and cut to a square of side `size` (None: as it is).

    Raises:
        UserError: It cannot be read.
    """
    for channels in (1, 3):
        try:
            height, width, _ = decode_worker.decode(
                decode_worker.read(item.path, item.offset, item.size, {}),
                item.name,
                channels=channels,
                resize=size,
                crop=size,
            )
            return channels, (height, width)
        except ColourMetError:
            continue
        except BadImageError as error:
            raise UserError(str(error)) from None
    raise AssertionError("three channels hold every image")


def decode_many(
    items: Sequence[Item],
    out: Callable[[tuple[int, ...]], Tensor],
    options: Options,
    *,
    pool: Pool,
    label: str = "decoding",
) -> Tensor:
    """Decode images over all cores into one array.

    Args:
        items: Where they are.
        out: Makes the array, uint8 of the shape that it is given, contiguous.
        options: What to make of each; all must come out with its `side`.
        pool: The workers.
        label: What the progress bar says.

    Returns:
        What `out` made, filled, uint8 [n, C, H, W].

    Raises:
        UserError: As `Pool.decode`.
        ColourMetError: As `Pool.decode`.
    """
    images = out((len(items), options.channels, *options.side))
    step = max(1, min(CHUNK_BYTES // options.bytes, -(-len(items) // (4 * cores()))))

    def chunk(start: int) -> int:
        part = items[start : start + step]
        pool.decode(part, options, images[start : start + step])
        return len(part)

    bar = tqdm(total=len(items), desc=label, unit="img", disable=None if pool.workers else True)  # few: no bar
    with ThreadPoolExecutor(max(1, pool.workers)) as threads, bar:
        try:
            for count in threads.map(chunk, range(0, len(items), step)):
                bar.update(count)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return images


def empty(shape: tuple[int, ...]) -> Tensor:
    """Memory for images."""
    return torch.from_numpy(np.empty(shape, dtype=np.uint8))
