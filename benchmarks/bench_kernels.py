"""Kernel speed as ratios measured in one run: vectorised NNGP against a plain double loop, and the
recursion of convolutional networks on images, compiled, against that by arrays.

Run ``python benchmarks/bench_kernels.py`` (single thread: OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import math
import time

import numpy as np

import simprior as sp
from simprior.gp import closed
from simprior.gp.kernels import nngp
from simprior.network.spec import Network

REPEATS = 5


def plain_loop(X: np.ndarray, depth: int) -> np.ndarray:
    """The textbook relu recursion, sigma_w = sigma_b = 1, one pair of inputs at a time."""
    m, d = X.shape
    K = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            a = 1.0 + float(X[i] @ X[i]) / d
            b = 1.0 + float(X[j] @ X[j]) / d
            c = 1.0 + float(X[i] @ X[j]) / d
            for _ in range(depth):
                r = math.sqrt(a * b)
                rho = min(1.0, max(-1.0, c / r))
                t = math.acos(rho)
                c = 1.0 + r / (2 * math.pi) * (math.sin(t) + (math.pi - t) * rho)
                a, b = 1.0 + a / 2, 1.0 + b / 2
            K[i, j] = c
    return K


def best_time(call, repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    print("   n     m  nngp relu [ms]  plain loop [ms]  ratio  nngp tanh [ms]  max difference")
    for n in (7, 8, 9, 10):
        X = ((np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(float)
        relu = Network(inputs=X, hidden=(1, 1))
        tanh = Network(inputs=X, hidden=(1, 1), activation="tanh")
        fast = best_time(lambda relu=relu, X=X: nngp(relu, X))
        quad = best_time(lambda tanh=tanh, X=X: nngp(tanh, X), 2)
        slow = best_time(lambda X=X: plain_loop(X, 2), 1)
        gap = np.abs(nngp(relu, X) - plain_loop(X, 2)).max() if n == 7 else float("nan")
        print(
            f"{n:4d} {2**n:5d} {1e3 * fast:15.2f} {1e3 * slow:16.1f} {slow / fast:6.0f}"
            f" {1e3 * quad:15.1f} {gap:15.1e}"
        )
    images()


def images() -> None:
    """Processor time of the kernel of four convolutions of 3 x 3 on 1,000 images of 14 x 14."""
    x = np.random.default_rng(0).random((1000, 196))

    def seconds(m: int, compiled: dict[str, int]) -> float:
        options = {"channels": (8,) * 4, "pool": "flat"}
        module = sp.Module("cnn2d", inputs=x[:m], options=options, sigma_w=1.4, sigma_b=0.3)
        known, closed.COMPILED = closed.COMPILED, compiled
        began = time.process_time()
        try:
            closed.closed_kernel(module)
        finally:
            closed.COMPILED = known
        return time.process_time() - began

    seconds(2, closed.COMPILED)  # compiles
    fast, part, slow = (
        seconds(1000, closed.COMPILED),
        seconds(100, closed.COMPILED),
        seconds(100, {}),
    )
    print(
        f"cnn2d, 1,000 images of 14 x 14, depth 4: {fast:.1f} s; by arrays {slow / part:.1f} times"
    )


if __name__ == "__main__":
    main()
