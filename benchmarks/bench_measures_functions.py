"""Functions per second of every complexity measure, and the ratio to plain Python loops.

Run: ``python benchmarks/bench_measures_functions.py``. One core; medians of repeats. The loops are
the definitions written out, one function at a time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from simprior.analysis.measure.registry import FUNCTION_GROUPS
from simprior.boolean.logic import espresso
from simprior.boolean.truthtable import unpack

N, FUNCTIONS, REPEATS = 7, 200_000, 5


def plain_sensitivity(table: list[int]) -> tuple[float, int, float]:
    """Average and largest sensitivity, and CSR."""
    total, most, critical = 0, 0, 0
    for x, value in enumerate(table):
        s = sum(value != table[x ^ (1 << i)] for i in range(N))
        total, most, critical = total + s, max(most, s), critical + (s > 0)
    return total / len(table), most, critical / len(table)


def plain_blocks(table: list[int]) -> int:
    """Block sensitivity: at every input a dynamic programme over all sets of bits."""
    best = 0
    for x, value in enumerate(table):
        most = [0] * len(table)
        for k in range(1, len(table)):
            low = k & -k
            other = k ^ low
            top, part = most[other], other
            while True:
                if table[x ^ part ^ low] != value:
                    top = max(top, 1 + most[other ^ part])
                if part == 0:
                    break
                part = (part - 1) & other
            most[k] = top
        best = max(best, most[-1])
    return best


def plain_walsh(table: list[int]) -> list[int]:
    """The fast transform in Python."""
    values = [1 - 2 * v for v in table]
    step = 1
    while step < len(values):
        for start in range(0, len(values), 2 * step):
            for j in range(start, start + step):
                a, b = values[j], values[j + step]
                values[j], values[j + step] = a + b, a - b
        step *= 2
    return values


def plain_distance_two(table: list[int]) -> int:
    """Disagreements at distance 2."""
    pairs = [(1 << i) | (1 << j) for i in range(N) for j in range(i)]
    return sum(value != table[x ^ p] for x, value in enumerate(table) for p in pairs)


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
    """Print one line a group."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (FUNCTIONS, 2), dtype=np.uint64)
    tables = unpack(words[:100], 1 << N).tolist()
    plain: dict[str, tuple[Callable[[list[int]], object], int]] = {
        "csr": (plain_sensitivity, 100), "walsh": (plain_walsh, 100),
        "gc": (plain_distance_two, 50), "sensitivity": (plain_blocks, 2),
    }  # fmt: skip
    print(f"uniformly random functions of {N} bits, one core")
    for name, group in FUNCTION_GROUPS.items():
        if name == "dnf":
            continue
        ours = rate(lambda g=group: g.compute(words, 1 << N, N), FUNCTIONS)
        line = f"{name:12s} {ours:14,.0f} functions/s"
        if name in plain:
            call, size = plain[name]
            theirs = rate(lambda c=call, k=size: [c(t) for t in tables[:k]], size, 3)
            line += f"   plain Python {theirs:10,.1f}/s   ratio {ours / theirs:10,.0f}"
        print(line)
    found = rate(lambda: [espresso(np.array(t)) for t in tables], len(tables), 3)
    print(f"{'dnf':12s} {found:14,.0f} functions/s (espresso; n <= 4 is a table look-up)")


if __name__ == "__main__":
    main()
