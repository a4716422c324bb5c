"""Complexity measures of functions by group: what ``simprior measure`` finds of a truth table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simprior.boolean.complexity import (
    entropy_packed,
    lz76_packed,
    lz76_truncated_packed,
    ones_packed,
)
from simprior.boolean.normal_forms import normal_forms_packed
from simprior.boolean.sensitivity import (
    BLOCK_BITS,
    block_sensitivity_packed,
    generalisation_complexity_packed,
    influences_packed,
    sensitivity_packed,
)
from simprior.boolean.walsh import Columns, noise_stability_packed, walsh_packed


@dataclass(frozen=True)
class FunctionMeasure:
    """A group of measures.

    ``columns(n)`` their names for n bits; ``compute(words, m, n, **options)`` an (F,) float64 array
    each, of packed (F, W) functions on m inputs; ``needs_bits``: defined only where the inputs are
    all bit strings, m = 2^n (else n is 0).
    """

    columns: Callable[[int], tuple[str, ...]]
    compute: Callable[..., Columns]
    needs_bits: bool = True


def _lz(words: np.ndarray, m: int, n: int) -> Columns:
    return {"lz76": lz76_packed(words, m), "lz76_truncated": lz76_truncated_packed(words, m)}


def _entropy(words: np.ndarray, m: int, n: int) -> Columns:
    return {"entropy": entropy_packed(words, m), "ones": ones_packed(words, m).astype(np.float64)}


def _dnf(words: np.ndarray, m: int, n: int) -> Columns:
    return normal_forms_packed(words, m)


def _gc(words: np.ndarray, m: int, n: int) -> Columns:
    return generalisation_complexity_packed(words, m)


def _csr(words: np.ndarray, m: int, n: int) -> Columns:
    return {"csr": sensitivity_packed(words, m)["csr"]}


def _walsh(words: np.ndarray, m: int, n: int) -> Columns:
    return walsh_packed(words, m)


def _sensitivity(words: np.ndarray, m: int, n: int, rho: float = 0.9) -> Columns:
    """Average, largest, block sensitivity (NaN beyond 10 bits) and noise stability at ``rho``."""
    found = sensitivity_packed(words, m)
    del found["csr"]
    blocks = np.full(len(words), np.nan)
    if n <= BLOCK_BITS:
        blocks = block_sensitivity_packed(words, m)
    return found | {
        "block_sensitivity": blocks,
        "noise_stability": noise_stability_packed(words, m, rho),
    }


def _influence(words: np.ndarray, m: int, n: int) -> Columns:
    return {f"influence_{i + 1}": c.copy() for i, c in enumerate(influences_packed(words, m).T)}


def _always(*names: str) -> Callable[[int], tuple[str, ...]]:
    return lambda n: names


FUNCTION_MEASURES: dict[str, FunctionMeasure] = {
    "lz": FunctionMeasure(_always("lz76", "lz76_truncated"), _lz, needs_bits=False),
    "entropy": FunctionMeasure(_always("entropy", "ones"), _entropy, needs_bits=False),
    "dnf": FunctionMeasure(
        _always("dnf_terms", "dnf_literals", "cnf_clauses", "cnf_literals", "dnf_exact"), _dnf
    ),
    "gc": FunctionMeasure(_always("gc1", "gc2", "gc"), _gc),
    "csr": FunctionMeasure(_always("csr"), _csr),
    "walsh": FunctionMeasure(
        lambda n: (
            "walsh_linf",
            "walsh_l1",
            "walsh_degree",
            "walsh_mean_degree",
            *(f"walsh_weight_{k}" for k in range(n + 1)),
        ),
        _walsh,
    ),
    "sensitivity": FunctionMeasure(
        _always("average_sensitivity", "max_sensitivity", "block_sensitivity", "noise_stability"),
        _sensitivity,
    ),
    "influence": FunctionMeasure(
        lambda n: tuple(f"influence_{i}" for i in range(1, n + 1)), _influence
    ),
}
"""Groups by name."""
