"""Capacity against its peers: seconds, memory and exactness.

Run:      python tests/benchmarks/capacity.py [memorize] [kernel]
Takes:    about a minute on two cores.
Peers:    the dense triangular solve of Theorem 1's proof; scikit-learn's KernelRidge (which is given a tiny ridge: it
          has no interpolation) and SciPy's cho_factor on the whole matrix.
Expected: memorizing 10,000 points with a residual near 1e-12 (dense: above 1e-8, and three times the memory); kernel
          regression in less time than the peers and with half of their memory or less.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tests.benchmarks.shared.each_way import apart, peak, show

WIDTH = 20.0
Solved = Callable[[], str]  # what a way has found, in words; it is not timed


def measure(case: str, way: str) -> str:
    """One line: case, who, seconds, peak memory of the process."""
    n, ways = CASES[case]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 784, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 10, (n,), generator=generator)
    ways[way](x[:20], y[:20])  # libraries are loaded
    start = time.perf_counter()
    solved = ways[way](x, y)
    seconds = time.perf_counter() - start
    return f"{f'{case} n={n}':18} {way:26} {seconds:7.2f} s   peak {peak():5.2f} GB   {solved()}"


def memorize_ours(x: Tensor, y: Tensor) -> Solved:
    from gendyn_lite.measures.capacity import memorizing_network

    net = memorizing_network(x, y)
    return lambda: f"residual {float((net(x) - y).detach().abs().max()):.1e}"


def memorize_dense(x: Tensor, y: Tensor) -> Solved:
    a = torch.randn(x.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z, order = (x @ a).sort()
    b = torch.cat([z[:1] - 1, (z[1:] + z[:-1]) / 2])
    matrix = (z[:, None] - b).clamp_(min=0)
    w = torch.linalg.solve_triangular(matrix, y[order][:, None].double(), upper=False).squeeze(1)
    wrong = ((x[order] @ a)[:, None] - b).clamp(min=0) @ w - y[order]
    return lambda: f"residual {float(wrong.abs().max()):.1e}"


def kernel_ours(x: Tensor, y: Tensor) -> Solved:
    from gendyn_lite.measures.capacity import kernel_regression

    found = kernel_regression(x, y, width=WIDTH, device="cpu")
    return lambda: f"train error {found.error(x, y):.4f}"


def kernel_scipy(x: Tensor, y: Tensor) -> Solved:
    from scipy.linalg import cho_factor, cho_solve
    from scipy.spatial.distance import cdist

    gram = cdist(x.numpy(), x.numpy(), "sqeuclidean")
    factor = cho_factor(torch.from_numpy(gram).mul_(-0.5 / WIDTH**2).exp_().numpy(), lower=True)
    cho_solve(factor, one_hot(y).double().numpy())
    return str


def kernel_sklearn(x: Tensor, y: Tensor) -> Solved:
    from sklearn.kernel_ridge import KernelRidge

    KernelRidge(alpha=1e-10, kernel="rbf", gamma=0.5 / WIDTH**2).fit(x.numpy(), one_hot(y).double().numpy())
    return str


CASES: dict[str, tuple[int, dict[str, Callable[[Tensor, Tensor], Solved]]]] = {
    "memorize": (10_000, {"gendyn_lite": memorize_ours, "dense triangular solve": memorize_dense}),
    "kernel": (8_000, {"gendyn_lite": kernel_ours, "SciPy": kernel_scipy, "scikit-learn KernelRidge": kernel_sklearn}),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        for peer in CASES[name][1]:
            show(apart(measure, name, peer))  # in a process of its own, so that peak memory is its own
