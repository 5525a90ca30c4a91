"""A training pass captured once in a CUDA graph and replayed: no launch costs for small networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Pass = Callable[[Tensor, Tensor], Tensor]


class GraphedPass:
    """Forward and backward of one batch shape as a CUDA graph; batches of other shapes run as usual."""

    def __init__(self, model: nn.Module, run: Pass) -> None:
        """`run` leaves the gradient of a batch's loss in the model's parameters and returns the loss."""
        self._model, self._run = model, run
        self._graph: torch.cuda.CUDAGraph | None = None
        self._grads: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the batch; gradients as after a backward pass from none."""
        if self._graph is None:
            self._capture(x, y)
        if x.shape != self._x.shape:
            for parameter, _ in self._grads:
                parameter.grad = None
            return self._run(x, y)
        assert self._graph is not None
        for parameter, grad in self._grads:
            parameter.grad = grad
        self._x.copy_(x)
        self._y.copy_(y)
        self._graph.replay()
        return self._loss.clone()

    def _capture(self, x: Tensor, y: Tensor) -> None:
        self._x, self._y = x.clone(), y.clone()
        kept = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        random = torch.cuda.get_rng_state(x.device)
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            for _ in range(3):  # lazily made workspaces must exist before the capture
                self._clear()
                self._run(self._x, self._y)
        torch.cuda.current_stream(x.device).wait_stream(side)
        for buffer, before in kept:  # the warm-up moved batch-norm's statistics
            buffer.copy_(before)
        torch.cuda.set_rng_state(random, x.device)
        self._clear()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._run(self._x, self._y)
        trained = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        self._grads = [(parameter, parameter.grad) for parameter in trained if parameter.grad is not None]

    def _clear(self) -> None:
        for parameter in self._model.parameters():
            parameter.grad = None
