"""Functions per second of the complexity kernels, and the ratio to a plain Python loop.

Run: ``python benchmarks/bench_complexity.py``. One core; median of repeats.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from simprior.boolean import complexity
from simprior.boolean.truthtable import to_bits

REPEATS = 5


def kaspar_schuster(text: str) -> int:
    """The textbook loop (Kaspar & Schuster 1987), the usual Python implementation."""
    n, count, start, begin, k, longest = len(text), 1, 1, 0, 1, 1
    while start < n:
        if text[begin + k - 1] == text[start + k - 1]:
            k += 1
            if start + k > n:
                return count + 1
            continue
        longest, begin, k = max(longest, k), begin + 1, 1
        if begin == start:
            count, start, begin, longest = count + 1, start + longest, 0, 1
    return count


def rate(call: Callable[[], object], functions: int) -> float:
    """Median functions per second of REPEATS calls, after one to warm up."""
    call()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return functions / statistics.median(seconds)


def random_words(functions: int, m: int) -> np.ndarray:
    """Uniformly random packed functions."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**64, (functions, m // 64), dtype=np.uint64)


def main() -> None:
    """Print one line a measure and size."""
    for m, functions in ((64, 10**6), (128, 10**6), (1024, 5000), (65536, 4)):
        words = random_words(functions, m)
        for name, measure in complexity.COMPLEXITIES_PACKED.items():
            fast = rate(lambda measure=measure, words=words, m=m: measure(words, m), functions)
            print(f"m={m:6d} {name:15s} {fast:14,.0f} functions/s")
    words = random_words(10**6, 128)
    texts = to_bits(words[:100], 128)
    slow = rate(lambda: [kaspar_schuster(t) + kaspar_schuster(t[::-1]) for t in texts], 100)
    fast = rate(lambda: complexity.lz76_packed(words, 128), 10**6)
    print(f"m=   128 lz76: {fast:,.0f}/s against a Python loop {slow:,.0f}/s: x {fast / slow:,.0f}")


if __name__ == "__main__":
    main()
