"""A training pass captured once in a CUDA graph and replayed: no launch costs for small networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Pass = Callable[[Tensor, Tensor], Tensor]


class GraphedPass:
    """Forward and backward of one batch size as a CUDA graph; smaller batches (the last of an epoch) run as usual.

    A replay writes the gradients where the one before did: whoever keeps them beyond a step copies them. Of the code
    of the network and of its hooks, only what it does on the GPU is repeated.
    """

    def __init__(self, model: nn.Module, run: Pass) -> None:
        """`run` leaves the gradient of a batch's loss in the model's parameters and returns the loss."""
        self._model, self._run = model, run
        self._parameters, self._modules = list(model.parameters()), list(model.modules())
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captured: list[object] = []
        self._grads: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the batch; gradients as after a backward pass from none."""
        if self._graph is None or len(x) > len(self._x) or self._state() != self._captured:
            self._capture(x, y)
        assert self._graph is not None
        if x.shape != self._x.shape:
            self._clear()
            return self._run(x, y)
        for parameter, grad in self._grads:
            parameter.grad = grad
        self._x.copy_(x)
        self._y.copy_(y)
        self._graph.replay()
        return self._loss.clone()

    def _state(self) -> list[object]:
        """What a graph takes for granted: where the weights are and which are trained, and each module's mode."""
        weights = [(parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters]
        return [*weights, *(module.training for module in self._modules)]

    def _capture(self, x: Tensor, y: Tensor) -> None:
        if self._graph is not None:
            torch.cuda.synchronize(x.device)  # it may still be running
            self._graph, self._grads = None, []
        self._x, self._y = x.clone(), y.clone()
        self._warm_up()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss = self._run(self._x, self._y)
        self._graph, self._captured = graph, self._state()
        self._grads = [(parameter, parameter.grad) for parameter in self._parameters if parameter.grad is not None]

    def _warm_up(self) -> None:
        """What is made lazily must exist before the capture; buffers and random numbers are left as they were."""
        device = self._x.device
        kept = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        random = torch.cuda.get_rng_state(device)
        side = torch.cuda.Stream(device)
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
