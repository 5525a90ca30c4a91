"""Device, threads, random generators and precision of a run, and training passes captured as CUDA graphs."""

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

Pass = Callable[[Tensor, Tensor], Tensor]  # (inputs, labels) → loss; leaves gradients in the parameters
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Packages whose modules do the same work on the GPU in every pass. torchvision's transforms, which are not among them,
# draw random numbers on the CPU.
REPEATABLE = ("torch.nn.", "torchvision.models.", "torchvision.ops.", "gendyn_lite.models.")
SMALL_STEP = 10**8  # parameters times batch size below which a single thread is fastest
# Module attributes that a captured graph depends on: train or eval mode, dropout probability, batch-norm momentum.
SETTINGS = ("training", "p", "momentum")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device | None) -> torch.device:
    """Choose the device: the argument, else the variable GENDYN_DEVICE, else a CUDA GPU if there is one, else the CPU.

    Under torchrun each process uses its own GPU. Apple's GPU ("mps") is used only if it is named explicitly, because
    the probes of some chapters need float64, which it does not support.

    Raises:
        UserError: The named device does not exist or cannot be used.

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
    """The name of a device as run records show it: the GPU's model, or ``"CPU"``.

    Args:
        device: The device; by default the one that `choose_device` picks.

    >>> device_name("cpu")
    'CPU'
    """
    chosen = choose_device(device)
    names = {"cpu": "CPU", "mps": "Apple GPU"}
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else names.get(chosen.type, chosen.type)


def threads_for(model: nn.Module, config: RunConfig) -> int:
    """How many threads to train a network with: one if it is small, else torch's current setting.

    For small operations, waiting for other threads costs more than they gain: on a busy machine two threads were twenty
    times slower than one. With one thread the results also do not depend on the machine's number of cores.

    Args:
        model: The network.
        config: The run; only its batch size is used.

    Returns:
        The number of threads, at least 1.

    >>> threads_for(nn.Linear(64, 10), RunConfig(experiment="demo"))
    1
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return 1 if parameters * config.batch_size < SMALL_STEP else torch.get_num_threads()


@contextmanager
def own_generator(seed: int, device: torch.device, *, rank: int = 0) -> Iterator[None]:
    """Within the block, torch's global generators are seeded for a run; afterwards their states are restored.

    Dropout, for instance, draws from these generators.

    Args:
        seed: Seed of the run.
        device: Device of the run.
        rank: Number of the process; each process draws different numbers.
    """
    before = random_state(device)
    try:
        for generator in _generators(device):
            generator.manual_seed(seed + rank * 2**32)
        yield
    finally:
        set_random_state(before, device)


def _generators(device: torch.device) -> list[torch.Generator]:
    """Torch's global generators that a run on this device may draw from: the CPU's and, on a GPU, the GPU's."""
    found = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        found.append(torch.cuda.default_generators[torch.empty(0, device=device).device.index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())
    return found


def random_state(device: torch.device) -> list[Tensor]:
    """The states of torch's global generators that a run on this device may draw from."""
    return [generator.get_state() for generator in _generators(device)]


def set_random_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned. States saved on a CPU have none for the GPU's generator, which stays."""
    for generator, state in zip(_generators(device), states, strict=False):
        generator.set_state(state.cpu())


class Precision:
    """Autocast and gradient scaling on one device; weights, batch-norm statistics and losses stay float32.

    Attributes:
        scaler: The gradient scaler; disabled unless the precision is float16.

    >>> precision = Precision("bfloat16", torch.device("cpu"))
    >>> with precision.autocast():
    ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
    torch.bfloat16
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Precision `name` ("float32", "bfloat16" or "float16") on `device`."""
        self._type, self._dtype = device.type, DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which matrix products and convolutions are computed in the chosen precision.

        Autocast's cache of half-precision weights is off: inside an autocast context of the caller, every step would
        use the weights that were cached in the first one.
        """
        half = self._dtype
        return torch.autocast(self._type, dtype=half, cache_enabled=False) if half is not None else nullcontext()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the GPU or the host ran out of memory.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def repeatable(model: nn.Module) -> bool:
    """Whether a network may be captured in a CUDA graph, that is, whether every pass does the same work on the GPU.

    Replaying a graph repeats the GPU work that was recorded, and runs no Python code. A module that decides something
    in Python, by a counter or a random number, would silently repeat the decision made during the capture. Networks
    with hooks, or with modules of unknown packages, are therefore not captured. Neither is batch-norm without a
    momentum, whose averaging weight is computed from a counter on the CPU.

    >>> class Own(nn.Linear):
    ...     pass
    >>> repeatable(nn.Sequential(nn.Linear(2, 2), nn.Dropout())), repeatable(nn.Sequential(Own(2, 2)))
    (True, False)
    """
    counting = any(isinstance(module, _BatchNorm) and module.momentum is None for module in model.modules())
    known = all(type(module).__module__.startswith(REPEATABLE) for module in model.modules())
    return known and not counting and not is_modified(model)


def is_modified(model: nn.Module) -> bool:
    """Whether hooks (of modules, of parameters or global) or a replaced ``forward`` may change what a pass does."""
    for module in model.modules():
        if "forward" in vars(module) or any(getattr(module, name) for name in HOOKS):
            return True
    for parameter in model.parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return True
    return any(getattr(every_module, f"_global{name}", None) for name in HOOKS)


class GraphedPass:
    """Forward and backward pass of one batch size, captured as a CUDA graph.

    Smaller batches (the last one of an epoch) and networks that cannot be captured run without a graph. Each replay
    overwrites the gradients of the one before: copy them to keep them beyond a step. Only the network's work on the GPU
    is repeated: see `repeatable`.
    """

    def __init__(self, model: nn.Module, run: Pass, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Prepare a pass; it is captured when it is first called.

        Args:
            model: The network.
            run: Leaves the gradient of a batch's loss in the model's parameters and returns the loss.
            optimizer: If given, its step is part of the pass; its learning rate must be a tensor on the GPU.
        """
        self._model, self._run, self._optimizer, self._plain = model, run, optimizer, False
        self._parameters, self._modules = list(model.parameters()), list(map(vars, model.modules()))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captured: list[object] = []
        self._grads: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the loss of a batch, and its gradients from scratch (they are not accumulated)."""
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
        """Everything a captured graph relies on: addresses of tensors, trained parameters, settings of modules."""
        weights = [(parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters]
        kept = [*self._states(), *(module["_buffers"] for module in self._modules)]
        places = [value.data_ptr() for each in kept for value in each.values() if value is not None]
        return [*weights, *places, *(module.get(name) for module in self._modules for name in SETTINGS)]

    def _states(self) -> Iterable[dict[str, Tensor]]:
        """The optimizer's state of each parameter."""
        return self._optimizer.state.values() if self._optimizer else ()

    def _has_momenta(self) -> bool:
        """Whether the optimizer's momentum buffers, which its first step allocates, exist already."""
        return self._optimizer is None or not self._optimizer.defaults["momentum"] or any(self._states())

    def _whole(self, x: Tensor, y: Tensor) -> Tensor:
        """The pass without a graph, the optimizer's step included."""
        loss = self._run(x, y)
        if self._optimizer:
            self._optimizer.step()
        return loss

    def _capture(self, x: Tensor, y: Tensor) -> None:
        if self._graph is not None:
            torch.cuda.synchronize(x.device)  # the old graph may still be running
            self._graph, self._grads = None, []
        self._x, self._y = x.clone(), y.clone()
        side = torch.cuda.Stream(x.device)  # the default capture stream may be on another GPU
        self._warm_up(side)
        graph = torch.cuda.CUDAGraph()
        try:  # "thread_local", because another thread may be allocating pinned memory for the next batches
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
        """Run three passes so that everything lazily allocated exists; buffers and random states are restored."""
        device = self._x.device
        kept = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        random = torch.cuda.get_rng_state(device)
        side.wait_stream(torch.cuda.current_stream(device))
        try:
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._clear()
                    self._run(self._x, self._y)
        finally:  # also if the GPU ran out of memory
            torch.cuda.current_stream(device).wait_stream(side)
            for buffer, before in kept:
                buffer.copy_(before)
            torch.cuda.set_rng_state(random, device)
            self._clear()

    def _clear(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None
