"""Functions per second of canonical forms and pooling at n = 7, against a plain Python loop.

Run: ``python benchmarks/bench_symmetry.py``. One core; median of repeats.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np

from simprior.boolean.symmetry import Symmetry, canonical, pool
from simprior.boolean.truthtable import bit_matrix, pack, to_bits

N, M, REPEATS, FUNCTIONS = 7, 128, 5, 200_000
GROUPS = {
    "permutations": Symmetry(True, False, False),
    "permutations, negation": Symmetry(True, False, True),
    "all (-1/+1 inputs)": Symmetry(True, True, True),
}


def network_words(functions: int, encoding: str) -> np.ndarray:
    """Functions of random (7, 40, 40, 1) relu networks, 50 heads a network (speed only)."""
    rng, rows = np.random.default_rng(0), []
    x = bit_matrix(N, encoding)
    for _ in range(functions // 50):
        h = x
        for width in (40, 40):
            w = rng.standard_normal((h.shape[1], width)) / h.shape[1] ** 0.5
            h = np.maximum(h @ w + rng.standard_normal(width), 0)
        z = h @ rng.standard_normal((40, 50)) / 40**0.5 + rng.standard_normal(50)
        rows.append((z > 0).T)
    return np.unique(pack(np.concatenate(rows)), axis=0)


def python_canonical(text: str) -> str:
    """Smallest image under all permutations and negation, one string at a time."""
    best = text
    for order in itertools.permutations(range(N)):
        index = (sum(((j >> order[k]) & 1) << k for k in range(N)) for j in range(M))
        image = "".join(text[j] for j in index)
        best = min(best, image, image.translate({48: 49, 49: 48}))
    return best


def rate(call: Callable[[], object], functions: int, repeats: int = REPEATS) -> float:
    """Median functions per second, after one call to warm up."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return functions / statistics.median(seconds)


def main() -> None:
    """Print one line a group and a source of functions."""
    uniform = np.random.default_rng(1).integers(0, 2**64, (FUNCTIONS, 2), dtype=np.uint64)
    sources = {
        "uniform": uniform,
        "network {0,1}, distinct": network_words(FUNCTIONS, "01"),
        "network -1/+1, distinct": network_words(FUNCTIONS, "pm1"),
    }
    for (group, symmetry), (source, words) in itertools.product(GROUPS.items(), sources.items()):
        fast = rate(lambda w=words, s=symmetry: canonical(w, N, s), len(words))
        print(f"{group:24s} {source:24s} {fast:12,.0f}/s  {1e6 / fast:6.2f} microseconds")
    count = np.ones(FUNCTIONS, dtype=np.int64)
    pooled = rate(lambda: pool(uniform, count, N, GROUPS["permutations, negation"]), FUNCTIONS)
    print(f"pool, uniform: {pooled:,.0f}/s")
    texts = to_bits(uniform[:1], M)
    slow = rate(lambda: [python_canonical(t) for t in texts], 1, repeats=3)
    fast = rate(lambda: canonical(uniform, N, GROUPS["permutations, negation"]), FUNCTIONS)
    print(f"against a Python loop over 5040 permutations ({slow:.2f}/s): x {fast / slow:,.0f}")


if __name__ == "__main__":
    main()
