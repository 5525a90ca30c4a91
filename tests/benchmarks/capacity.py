"""Capacity against its peers: seconds, memory and exactness.

Run:      python tests/benchmarks/capacity.py [memorize] [kernel]
Takes:    about a minute on two cores.
Peers:    the dense triangular solve of Theorem 1's proof; scikit-learn's KernelRidge (which is given a tiny ridge: it
          has no interpolation) and SciPy's cho_factor on the whole matrix.
Expected: memorizing 10,000 points with a residual near 1e-12 (dense: above 1e-8, and three times the memory); kernel
          regression in less time than the peers and with half of their memory or less.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def main(names: list[str]) -> None:
    """Each case in a process of its own, so that peak memory is its own."""
    if len(names) == 1 and names[0] in CASES:
        CASES[names[0]]()
        return
    for name in CASES:
        if not names or any(name.startswith(wanted) for wanted in names):
            subprocess.run([sys.executable, __file__, name], check=True)


def memorize_ours(n: int = 10_000, d: int = 784) -> None:
    from gendyn_lite.measures.capacity import memorizing_network

    x, y = problem(n, d)
    net, seconds = timed(lambda: memorizing_network(x, y))
    report(f"memorize n={n}", "gendyn_lite", seconds, f"residual {float((net(x) - y).detach().abs().max()):.1e}")


def memorize_dense(n: int = 10_000, d: int = 784) -> None:
    x, y = problem(n, d)

    def solve() -> torch.Tensor:
        a = torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        z, order = (x @ a).sort()
        b = torch.cat([z[:1] - 1, (z[1:] + z[:-1]) / 2])
        matrix = (z[:, None] - b).clamp_(min=0)
        w = torch.linalg.solve_triangular(matrix, y[order][:, None].double(), upper=False).squeeze(1)
        return ((x[order] @ a)[:, None] - b).clamp(min=0) @ w - y[order]

    wrong, seconds = timed(solve)
    report(f"memorize n={n}", "dense triangular solve", seconds, f"residual {float(wrong.abs().max()):.1e}")


def kernel_ours(n: int = 8000, d: int = 784) -> None:
    from gendyn_lite.measures.capacity import kernel_regression

    x, y = problem(n, d)
    found, seconds = timed(lambda: kernel_regression(x, y, width=20.0, device="cpu"))
    report(f"kernel n={n}", "gendyn_lite", seconds, f"train error {found.error(x, y):.4f}")


def kernel_scipy(n: int = 8000, d: int = 784) -> None:
    from scipy.linalg import cho_factor, cho_solve
    from scipy.spatial.distance import cdist

    x, y = problem(n, d)

    def solve() -> torch.Tensor:
        gram = cdist(x.numpy(), x.numpy(), "sqeuclidean")
        factor = cho_factor(torch.from_numpy(gram).mul_(-0.5 / 20.0**2).exp_().numpy(), lower=True)
        return torch.from_numpy(cho_solve(factor, torch.nn.functional.one_hot(y).double().numpy()))

    _, seconds = timed(solve)
    report(f"kernel n={n}", "SciPy cdist + cho_factor", seconds, "")


def kernel_sklearn(n: int = 8000, d: int = 784) -> None:
    from sklearn.kernel_ridge import KernelRidge

    x, y = problem(n, d)
    targets = torch.nn.functional.one_hot(y).double().numpy()
    model = KernelRidge(alpha=1e-10, kernel="rbf", gamma=0.5 / 20.0**2)
    _, seconds = timed(lambda: model.fit(x.numpy(), targets))
    report(f"kernel n={n}", "scikit-learn KernelRidge", seconds, "")


def problem(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal points and ten random classes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, dtype=torch.float64, generator=generator), torch.randint(0, 10, (n,), generator=generator)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result and the seconds it took, once."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def report(case: str, who: str, seconds: float, note: str) -> None:
    """One line: case, who, seconds, peak memory of the process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sys.stdout.write(f"{case:18} {who:26} {seconds:7.2f} s   peak {peak:5.2f} GB   {note}\n")


CASES = {
    "memorize_ours": memorize_ours,
    "memorize_dense": memorize_dense,
    "kernel_ours": kernel_ours,
    "kernel_scipy": kernel_scipy,
    "kernel_sklearn": kernel_sklearn,
}

if __name__ == "__main__":
    main(sys.argv[1:])
