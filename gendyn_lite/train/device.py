"""Where a run takes place, on how many threads, and the random generator it has to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.train.distributed import local_device

SMALL_STEP = 10**8  # parameters × examples of a step, below which one thread is best


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; by default the GPU (under torchrun this process's) if there is one, else the CPU.

    Raises:
        UserError: There is no such device.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if device is None:
        return local_device() or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"device {str(device)!r} cannot be used ({reason}): use 'cpu', or 'cuda' with a GPU") from None
    return chosen


def threads_for(model: nn.Module, config: RunConfig) -> int:
    """The threads for training a network: one for a small one, else torch's own number.

    Threads that wait for each other cost more than they help: on a busy machine two were twenty times slower than one.
    And with one thread the numbers do not depend on the machine's number of cores.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return 1 if parameters * config.batch_size < SMALL_STEP else torch.get_num_threads()


@contextmanager
def own_generator(seed: int, device: torch.device, *, rank: int = 0) -> Iterator[None]:
    """Torch's global generators (dropout draws from them) seeded for a run, and afterwards as they were before.

    Args:
        seed: The run's seed.
        device: Where the run takes place.
        rank: Number of the process: each draws its own numbers.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        own = seed + rank * 2**32
        torch.default_generator.manual_seed(own)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(own)
        yield
