"""How much memory is free, and a refusal before the work starts instead of a crash in the middle of it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from gendyn_lite.errors import UserError


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be taken on a device, or None where the system does not say.

    On a CPU: what the kernel calls available, and no more than a container's limit leaves.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _linux_available()
    if free is None:
        try:
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
        except (AttributeError, ValueError, OSError):
            return None
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def refuse_if_too_large(
    needed: int, what: str, advice: str, *, device: torch.device | str = "cpu", memory_limit: int | None = None
) -> None:
    """Refuse work that would not fit, with the estimate and what to do.

    Args:
        needed: Bytes that the work takes.
        what: What takes them, for instance ``"the Gram matrix of 60,000 points"``.
        advice: What to do instead.
        device: Where the work would run.
        memory_limit: Bytes to stay under instead of what is free on the device.

    Raises:
        UserError: More is needed than there is.

    >>> refuse_if_too_large(8 * 10**9, "the matrix", "use fewer points", memory_limit=10**9)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the matrix takes 8.0 GB, 1.0 GB are free on cpu: use fewer points
    """
    free = available_memory(device) if memory_limit is None else memory_limit
    if free is not None and needed > free:
        raise UserError(
            f"{what} takes {gigabytes(needed)}, {gigabytes(free)} are free on {torch.device(device)}: {advice}"
        )


def gigabytes(size: int) -> str:
    """Bytes as text in GB (10⁹ bytes), with MB below a tenth of one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _linux_available() -> int | None:
    """MemAvailable of Linux in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(values[0]) * 1024 if values else None


def _number(path: str) -> int | None:
    """The number in a file of the control group, or None where there is no file or no limit."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None
