"""Do the totals in a manifest fit together, and with the table they are of?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.errors import StoreError
from simprior.store_schema import finite_in, whole_in

if TYPE_CHECKING:
    from simprior.boolean.merge import Profile
    from simprior.boolean.rows import Rows

_MOST = 2**62
_REMEDY = "the run is damaged: make it again with --overwrite, or import the table again"


def check_totals(path: Path, results: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise :class:`StoreError` unless the totals of a run of function counts are in range and
    agree with each other and with the configuration."""
    problem = next(_problems(results, config), None)
    if problem:
        raise StoreError(f"{path}: {problem} in manifest.json; {_REMEDY}")


def check_rows(
    path: Path, rows: Rows, profile: Profile, samples: int, functions: int | None = None
) -> None:
    """Raise :class:`StoreError` unless the rows of a table are counts of ``samples`` samples."""
    k, c, q = profile.count, profile.clusters, profile.sumsq
    total = float((k.astype(float) * profile.multiplicity).sum())
    problem = None
    if len(k) and (k.min() < 1 or c.min() < 1 or (c > k).any() or (q < k).any()):
        problem = "a count that cannot be"
    elif total > samples * (1 + 1e-12):
        problem = f"counts that add up to {total:.0f}, more than the {samples} samples"
    elif functions is not None and functions != profile.functions:
        problem = f"{profile.functions} functions in place of the {functions} of the manifest"
    elif len(rows.count) > profile.functions or (np.diff(rows.count) > 0).any():
        problem = "rows that are not in order of their counts"
    if problem:
        raise StoreError(f"{path}: {problem}; {_REMEDY}")


def inputs_of(config: Mapping[str, Any]) -> int | None:
    """Number m of inputs of a run's functions by its configuration; None if that does not say."""
    model = config.get("network") or config.get("dnf")
    if not isinstance(model, dict):
        return None
    if model.get("inputs") is not None:
        return len(model["inputs"]) if isinstance(model["inputs"], list) else -1
    n = model.get("n")
    return 1 << int(n) if n is not None and whole_in(n, 1, 62) else None


def _problems(results: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    found = {"functions": 0, **results}  # which the earliest runs do not name
    for key, low in (("m", 1), ("n", 0), ("samples", 0), ("heads", 1), ("functions", 0)):
        if not whole_in(found.get(key), low, _MOST):
            yield f"{key}={found.get(key)!r}, no whole number >= {low},"
    m, n, samples = results["m"], results["n"], results["samples"]
    expected = inputs_of(config)
    if (n and m != 1 << min(n, 62)) or (expected is not None and m != expected):
        says = f"m={expected}" if expected is not None else f"n={n}"
        yield f"m={m} beside {says} of the configuration"
    for key, high in (("draws", float(samples)), ("keep", 1.0), ("dispersion", 1e300)):
        if not finite_in(results.get(key), 0.0, high):
            yield f"{key}={results.get(key)!r}, no number from 0 to {high:g},"
    sampled = {"samples", "seed", "pool"} <= set(config)  # a run of simprior sample
    if sampled and config["samples"] != samples:
        yield f"samples={samples} beside samples={config['samples']!r} of the configuration"
    yield from _ones_problems(results.get("ones"), m, samples)
    pooled = results.get("pooled")
    if pooled is not None:
        good = isinstance(pooled, dict) and whole_in(pooled.get("classes"), 0, _MOST)
        if not good or not finite_in(pooled.get("replicates"), 0.0, float(samples)):
            yield f"pooled={pooled!r}, no classes and replicates,"


def _ones_problems(ones: Any, m: int, samples: int) -> Iterator[str]:
    columns = ones if isinstance(ones, dict) else {}
    found = [
        column for key in ("t", "count", "sumsq") if isinstance(column := columns.get(key), list)
    ]
    if len(found) < 3:
        yield "no totals by number of ones"
        return
    t, count, squares = found
    if not len(t) == len(count) == len(squares):
        yield "totals by number of ones of different lengths"
    elif not all(whole_in(x, 0, m) for x in t) or t != sorted(set(t)):
        yield f"numbers of ones outside 0 to {m}, or not in order,"
    elif not all(
        whole_in(k, 1, samples) and whole_in(q, k, _MOST)
        for k, q in zip(count, squares, strict=True)
    ):
        yield "totals by number of ones that cannot be"
    elif sum(count) > samples:
        yield f"totals by number of ones that add up to {sum(count)} of {samples} samples"
