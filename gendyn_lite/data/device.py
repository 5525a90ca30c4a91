"""Images on the device: the whole set where it fits, else a stream of batches read ahead."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from gendyn_lite.data.folder_images import FolderImages

AHEAD = 3  # batches that are read before they are asked for
SHARE = 0.5  # of the free memory of a GPU that one set may take

_copies: dict[tuple[int, torch.device], tuple[weakref.ref, weakref.ref, int]] = {}


def resident(x: Tensor | FolderImages, device: torch.device) -> Tensor | None:
    """The whole set on the device, or None if it does not fit. Two callers with the same set share one copy.

    Args:
        x: Images.
        device: Where they should be.
    """
    if not isinstance(x, Tensor):
        return None
    if x.device == device:
        return x
    key = (id(x), device)
    source, copy, version = _copies.get(key, (_nothing, _nothing, -1))
    shared = copy()
    if shared is not None and source() is x and version == x._version:
        return shared
    if not _fits(x, device):
        return None
    new = x.to(device)
    _copies[key] = weakref.ref(x), weakref.ref(new), x._version
    return new


def _nothing() -> None:
    return None


def _fits(x: Tensor, device: torch.device) -> bool:
    """Whether a set takes at most half of the free memory of a GPU; other devices are taken to be large enough."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return x.numel() * x.element_size() <= SHARE * free


def stream(x: Tensor | FolderImages, picks: Sequence[Tensor | slice], device: torch.device) -> Iterator[Tensor]:
    """Batches of a set that is not on the device, gathered by a thread ahead of their use, through pinned memory.

    Args:
        x: Images on the CPU or in a folder.
        picks: Indices (int64, on the CPU) or the slice of each batch.
        device: Where the batches go.

    Yields:
        The images of each pick, uint8 [b, C, H, W], on the device.
    """

    def gather(pick: Tensor | slice) -> Tensor:
        batch = x[pick]
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Tensor]] = deque()
        try:
            for pick in [*picks, *[None] * AHEAD]:
                if pick is not None:
                    waiting.append(thread.submit(gather, pick))
                if waiting and (len(waiting) > AHEAD or pick is None):
                    yield waiting.popleft().result().to(device, non_blocking=True)
        finally:
            for job in waiting:
                job.cancel()
