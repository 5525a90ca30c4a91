"""Decode many images over all cores, at once or (a set too large for memory) when they are read; errors name them."""

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
        try:
            pixels = self._ask_worker(request) if self.workers else decode_worker.answer(request, self._files)
        except BadImageError as error:
            raise UserError(str(error)) from None
        rows = np.frombuffer(pixels, np.uint8).reshape(len(items), *options.side, options.channels)
        out.numpy()[:] = rows.transpose(0, 3, 1, 2)

    def _ask_worker(self, request: dict) -> bytes:
        worker = self._free.get()
        try:
            if worker is None:  # -P: the folder of the program is not searched for modules (it has a types.py)
                command = [sys.executable, "-P", decode_worker.__file__]
                worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._started.append(worker)
            return _ask(worker, request)
        except EOFError:
            worker = None  # the next request starts another
            names = f"{request['items'][0].name} … {request['items'][-1].name}"
            raise UserError(f"a worker process ended while it decoded {names}: out of memory?") from None
        finally:
            self._free.put(worker)

    def decode_all(
        self,
        items: Sequence[Item],
        options: Options,
        out: Tensor,
        *,
        step: int,
        done: Callable[[int], object] = lambda count: None,
    ) -> None:
        """As `decode`, `step` images a request, with all workers at once; `done` is told how many each time."""

        def chunk(start: int) -> int:
            part = items[start : start + step]
            self.decode(part, options, out[start : start + step])
            return len(part)

        with ThreadPoolExecutor(max(1, self.workers)) as threads:
            try:
                for count in threads.map(chunk, range(0, len(items), step)):
                    done(count)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def __enter__(self) -> Pool:
        """The pool itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._stop()


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
        raise BadImageError(head["error"])
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
    channels = 1
    try:
        data = decode_worker.read(item.path, item.offset, item.size, {})
        try:
            height, width, _ = decode_worker.decode(data, item.name, channels=1, resize=size, crop=size)
        except ColourMetError:
            channels = 3
            height, width, _ = decode_worker.decode(data, item.name, channels=3, resize=size, crop=size)
    except BadImageError as error:
        raise UserError(str(error)) from None
    return channels, (height, width)


def decode_many(
    items: Sequence[Item], out: Callable[[tuple[int, ...]], Tensor], options: Options, *, pool: Pool, label: str
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
    with tqdm(total=len(items), desc=label, unit="img", disable=None if pool.workers else True) as bar:  # few: no bar
        pool.decode_all(items, options, images, step=step, done=bar.update)
    return images


def empty(shape: tuple[int, ...]) -> Tensor:
    """Memory for images."""
    return torch.from_numpy(np.empty(shape, dtype=np.uint8))


class FolderImages:
    """Images in files, which reads like a tensor uint8 [n, C, H, W]: it has a shape, a length, and indexing reads.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        options: What to make of each.
        pool: Worker processes; one's own by default.

    Attributes:
        shape: (n, C, H, W).
        dtype: torch.uint8.
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, folder: str, names: np.ndarray, options: Options, *, pool: Pool | None = None) -> None:
        """Keep the names; nothing is read."""
        self._folder, self._names, self._options = folder, names, options
        self._pool = pool or Pool()
        self.shape = torch.Size((len(names), options.channels, *options.side))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def __getitem__(self, pick: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Decode some images, uint8 [b, C, H, W] (or [C, H, W] for one index).

        Raises:
            UserError: An image is missing or cannot be read; it is named.
        """
        if isinstance(pick, int):
            return self[[pick]][0]
        index = pick if isinstance(pick, slice) else np.asarray(pick)
        items = [Item(f"{self._folder}/{name}", 0, -1, f"{self._folder}/{name}") for name in self._names[index]]
        out = empty((len(items), *self.shape[1:]))
        step = max(1, -(-len(items) // (2 * max(1, self._pool.workers))))
        self._pool.decode_all(items, self._options, out, step=step)
        return out

    def select(self, chosen: Tensor) -> FolderImages:
        """A part of the set, still in its folder; the workers are shared."""
        return FolderImages(self._folder, self._names[chosen.numpy()], self._options, pool=self._pool)
