"""How a run computes: its device, threads, random generators, arithmetic, and passes captured in a CUDA graph."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError, first_line

Pass = Callable[[Tensor, Tensor], Tensor]  # of inputs and labels; gives the loss
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Whose modules do the same in every pass; torchvision's transforms draw on the host.
REPEATABLE = ("torch.nn.", "torchvision.models.", "torchvision.ops.", "gendyn_lite.models.")
SMALL_STEP = 10**8  # parameters × examples of a step, below which one thread is best
SETTINGS = ("training", "p", "momentum")  # of modules: their mode, a dropout's share, batch-norm's momentum
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else the one that GENDYN_DEVICE names, else CUDA's GPU if there is one, else the CPU.

    Under torchrun each process has a GPU of its own. Apple's GPU ("mps") is taken only where it is named: the probes of
    some chapters need float64, which it lacks.

    Raises:
        UserError: There is no such device.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    named = device or os.environ.get("GENDYN_DEVICE")
    if not named:
        gpu = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
        return torch.device(gpu if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(named)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UserError(f"device {str(named)!r} cannot be used ({reason}): use 'cpu', or 'cuda' with a GPU") from None
    return chosen


def device_name(device: str | torch.device | None = None) -> str:
    """A device, by default that of `choose_device`, as runs record it: the name of the GPU, or ``"CPU"``.

    >>> device_name("cpu")
    'CPU'
    """
    place = choose_device(device)
    names = {"cpu": "CPU", "mps": "Apple GPU"}
    return torch.cuda.get_device_name(place) if place.type == "cuda" else names.get(place.type, place.type)


def threads_for(model: nn.Module, config: RunConfig) -> int:
    """The threads for training a network: one for a small one, else torch's own number.

    Threads that wait for each other cost more than they help: on a busy machine two were twenty times slower than one.
    And with one thread the numbers do not depend on the machine's number of cores.

    Args:
        model: The network.
        config: Its batch size is used.

    Returns:
        The number of threads, at least 1.

    >>> threads_for(nn.Linear(64, 10), RunConfig(experiment="demo"))
    1
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
    before = random_state(device)
    try:
        for generator in _generators(device):
            generator.manual_seed(seed + rank * 2**32)
        yield
    finally:
        set_random_state(before, device)


def _generators(device: torch.device) -> list[torch.Generator]:
    """Torch's global generators that a run on this device may use: the CPU's, and the GPU's."""
    found = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        found.append(torch.cuda.default_generators[torch.empty(0, device=device).device.index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())
    return found


def random_state(device: torch.device) -> list[Tensor]:
    """The states of the global generators that a run on this device may use."""
    return [generator.get_state() for generator in _generators(device)]


def set_random_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Put back what `random_state` gave; of a run that began on a CPU there is no state of a GPU."""
    for generator, state in zip(_generators(device), states, strict=False):
        generator.set_state(state.cpu())


class Precision:
    """Autocast and loss scaling for one device; weights, batch-norm statistics and losses stay float32.

    Attributes:
        scaler: The gradient scaler, disabled unless the arithmetic is float16.

    >>> precision = Precision("bfloat16", torch.device("cpu"))
    >>> with precision.autocast():
    ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
    torch.bfloat16
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Arithmetic `name` ("float32", "bfloat16" or "float16") on `device`."""
        self._type, self._dtype = device.type, DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which matrix products and convolutions run in the chosen arithmetic.

        It keeps no half-precision copies of the weights: within a context of the caller's they would be those of the
        first step in all others.
        """
        half = self._dtype
        return torch.autocast(self._type, dtype=half, cache_enabled=False) if half is not None else nullcontext()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the GPU's or the host's memory did not suffice.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def repeatable(model: nn.Module) -> bool:
    """Whether a network may be captured in a CUDA graph: whether each of its passes does the same on the GPU.

    Of Python code only what it does on the GPU at the capture is repeated. So hooks, and modules of which nothing is
    known here, are run as they are: one that decides by a counter or by Python's random numbers would silently decide
    as at the capture, for ever. So would batch-norm without a momentum, which averages by a count on the host.

    >>> class Own(nn.Linear):
    ...     pass
    >>> repeatable(nn.Sequential(nn.Linear(2, 2), nn.Dropout())), repeatable(nn.Sequential(Own(2, 2)))
    (True, False)
    """
    counting = any(isinstance(module, _BatchNorm) and module.momentum is None for module in model.modules())
    known = all(type(module).__module__.startswith(REPEATABLE) for module in model.modules())
    return known and not counting and not meddled_with(model)


def meddled_with(model: nn.Module) -> bool:
    """Whether a network has hooks, of its modules or weights or of all modules, or a module whose pass was replaced."""
    for module in model.modules():
        if "forward" in vars(module) or any(getattr(module, name) for name in HOOKS):
            return True
    for parameter in model.parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return True
    return any(getattr(every_module, f"_global{name}", None) for name in HOOKS)


class GraphedPass:
    """Forward and backward of one batch size as a CUDA graph; smaller batches (the last of an epoch) run as usual.

    A replay writes the gradients where the one before did: whoever keeps them beyond a step copies them. Of the code
    of the network, only what it does on the GPU is repeated, see `repeatable`. What cannot be captured runs as usual.
    """

    def __init__(self, model: nn.Module, run: Pass, optimizer: torch.optim.Optimizer | None = None) -> None:
        """`run` leaves the gradient of a batch's loss in the model's parameters and returns the loss.

        The step of an `optimizer`, one that reads its learning rate on the GPU, is part of the pass.
        """
        self._model, self._run, self._optimizer, self._plain = model, run, optimizer, False
        self._parameters, self._modules = list(model.parameters()), list(map(vars, model.modules()))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captured: list[object] = []
        self._grads: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the batch; gradients as after a backward pass from none."""
        stale = self._graph is None or len(x) > len(self._x) or self._state() != self._captured
        if stale and not self._plain and self._has_momenta():
            self._capture(x, y)
        if self._graph is None or x.shape != self._x.shape:
            self._clear()
            return self._whole(x, y)
        for parameter, grad in self._grads:
            parameter.grad = grad
        self._x.copy_(x)
        self._y.copy_(y)
        self._graph.replay()
        return self._loss.clone()

    def _state(self) -> list[object]:
        """What a graph takes for granted: where everything is, which weights are trained, how each module is set."""
        weights = [(parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters]
        kept = [*self._states(), *(module["_buffers"] for module in self._modules)]
        places = [value.data_ptr() for each in kept for value in each.values() if value is not None]
        return [*weights, *places, *(module.get(name) for module in self._modules for name in SETTINGS)]

    def _states(self) -> Iterable[dict[str, Tensor]]:
        """What the optimizer keeps of each parameter."""
        return self._optimizer.state.values() if self._optimizer else ()

    def _has_momenta(self) -> bool:
        """Whether the optimizer's first step, which makes what it keeps, has been taken."""
        return self._optimizer is None or not self._optimizer.defaults["momentum"] or any(self._states())

    def _whole(self, x: Tensor, y: Tensor) -> Tensor:
        loss = self._run(x, y)
        if self._optimizer:
            self._optimizer.step()
        return loss

    def _capture(self, x: Tensor, y: Tensor) -> None:
        if self._graph is not None:
            torch.cuda.synchronize(x.device)  # it may still be running
            self._graph, self._grads = None, []
        self._x, self._y = x.clone(), y.clone()
        side = torch.cuda.Stream(x.device)  # the one by default may be of another GPU, and so capture nothing
        self._warm_up(side)
        graph = torch.cuda.CUDAGraph()
        try:  # other threads read ahead meanwhile, through pinned memory
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self._loss = self._whole(self._x, self._y)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._plain = True
            reason = first_line(error)
            warnings.warn(f"training without a CUDA graph, which is slower: {reason}", stacklevel=2)
            return
        self._graph, self._captured = graph, self._state()
        self._grads = [(parameter, parameter.grad) for parameter in self._parameters if parameter.grad is not None]

    def _warm_up(self, side: torch.cuda.Stream) -> None:
        """What is made lazily must exist before the capture; buffers and random numbers are left as they were."""
        device = self._x.device
        kept = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        random = torch.cuda.get_rng_state(device)
        side.wait_stream(torch.cuda.current_stream(device))
        try:
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._clear()
                    self._run(self._x, self._y)
        finally:  # the memory may not have sufficed
            torch.cuda.current_stream(device).wait_stream(side)
            for buffer, before in kept:
                buffer.copy_(before)
            torch.cuda.set_rng_state(random, device)
            self._clear()

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
