"""Decode images in worker processes on all cores: a whole set at once, or one too large for memory batch by batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendyn_lite.decode import ColourMetError, Item, Options, pixels
from gendyn_lite.errors import UserError

Worker = subprocess.Popen[bytes]
CHUNK_BYTES = 1 << 20  # bytes of pixels that a worker returns at once
SERVE = "import sys; sys.path[:] = {}; from gendyn_lite.decode import serve; serve()"  # the program that workers run


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Worker processes that decode images. Each is started when first needed; all end with the pool.

    Args:
        workers: Number of processes (default: one per core); 0 to decode in the calling process.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Prepare the pool without starting a process."""
        self.workers = cores() if workers is None else workers
        self._free: SimpleQueue[Worker | None] = SimpleQueue()
        self._started: list[Worker] = []
        for _ in range(self.workers):
            self._free.put(None)
        weakref.finalize(self, _stop, self._started)

    def decode(self, items: Sequence[Item], options: Options, out: Tensor, *, label: str | None = None) -> Counter[str]:
        """Decode images with all workers at once. Several threads may call this at the same time.

        Args:
            items: The images.
            options: How to decode them.
            out: Filled with the decoded images, uint8 [n, C, H, W], on the CPU.
            label: Text of a progress bar; None for no bar.

        Returns:
            The counts of `gendyn_lite.decode.decode`.

        Raises:
            UserError: An image cannot be read or has another size; it is named.
            ColourMetError: `options` asks for one channel, but an image has colours.
        """
        channels, (height, width), *_ = options
        share = -(-len(items) // (4 * max(1, self.workers)))
        step = max(1, min(CHUNK_BYTES // (channels * height * width), share))

        def chunk(start: int) -> tuple[int, Counter[str]]:
            part = items[start : start + step]
            found, told = self._pixels(part, options)
            rows = np.frombuffer(found, np.uint8).reshape(len(part), height, width, channels)
            out[start : start + step].numpy()[:] = rows.transpose(0, 3, 1, 2)
            return len(part), told

        hidden, told = None if label and self.workers else True, Counter[str]()
        with (
            ThreadPoolExecutor(max(1, self.workers)) as threads,
            tqdm(total=len(items), desc=label, unit="img", disable=hidden) as bar,
        ):
            try:
                for count, found in threads.map(chunk, range(0, len(items), step)):
                    bar.update(count)
                    told.update(found)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        return told

    def _pixels(self, items: Sequence[Item], options: Options) -> tuple[bytes, Counter[str]]:
        """The result of `gendyn_lite.decode.pixels`, computed by a worker if there are any."""
        if not self.workers:
            return pixels(items, options, told := Counter()), told
        worker = self._free.get()
        try:
            worker = worker or self._start()
            assert worker.stdin is not None and worker.stdout is not None  # both are pipes
            worker.stdin.write(json.dumps([items, options]).encode() + b"\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())  # empty, hence invalid JSON, if the worker has died
            found = worker.stdout.read(answer.get("bytes", 0))
            if len(found) < answer.get("bytes", 0):
                raise EOFError
        except (EOFError, OSError, ValueError):
            worker = None  # the next request starts a new one
            names = f"{items[0].name} … {items[-1].name}"
            raise UserError(f"a worker process ended while it decoded {names}: out of memory?") from None
        finally:
            self._free.put(worker)
        if "error" in answer:
            raise ColourMetError if answer["error"] is None else UserError(answer["error"])
        return found, Counter(answer["told"])

    def _start(self) -> Worker:
        """Start a worker process."""
        command = [sys.executable, "-c", SERVE.format(sys.path)]
        self._started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return self._started[-1]


def _stop(workers: Iterable[Worker]) -> None:
    """End worker processes."""
    for worker in workers:
        worker.kill()
        worker.communicate()


class FolderImages:
    """Images in files, to be used like a tensor uint8 [n, C, H, W]: indexing decodes the selected images.

    Args:
        folder: Folder of the files.
        names: Their paths relative to it, strings [n].
        options: How to decode them.
        pool: Worker processes; by default a new pool.

    Attributes:
        shape: (n, C, H, W).
        dtype: torch.uint8.
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, folder: str, names: np.ndarray, options: Options, *, pool: Pool | None = None) -> None:
        """Remember the names without reading a file."""
        self._folder, self._names, self._options = folder, names, options
        self._pool = pool or Pool()
        self.shape = torch.Size((len(names), options.channels, *options.side))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def __getitem__(self, pick: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Decode some images: uint8 [b, C, H, W], or [C, H, W] for a single index.

        Raises:
            UserError: An image is missing or cannot be read; it is named.
        """
        if isinstance(pick, int):
            return self[[pick]][0]
        index = pick if isinstance(pick, slice) else np.asarray(pick)
        paths = [f"{self._folder}/{name}" for name in self._names[index]]
        out = torch.empty((len(paths), *self.shape[1:]), dtype=torch.uint8)
        self._pool.decode([Item(path, path) for path in paths], self._options, out)
        return out

    def select(self, chosen: Tensor) -> FolderImages:
        """A subset with the given indices, int64 [k], which shares the worker processes; nothing is decoded."""
        return FolderImages(self._folder, self._names[chosen.numpy()], self._options, pool=self._pool)
