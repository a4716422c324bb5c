"""Whether several methods agree on ln P of the same functions, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

LEVEL = 0.95


def agreement(table: Mapping[str, np.ndarray]) -> str:
    """A sentence on a table of :func:`simprior.gp.orthant.log_prior_table`; '' for one method.

    Every method is compared with the first that has a standard error (the first, if none has).
    Two values agree if they differ by no more than z joint standard errors, z such that all pairs
    do so with probability 0.95 if the methods estimate the same (Bonferroni). A method without a
    standard error counts as if it were exact. Functions that the first has no row of are left out.
    """
    methods = list(dict.fromkeys(map(str, table["method"])))
    if len(methods) < 2:
        return ""
    method, index = np.array(list(map(str, table["method"]))), np.asarray(table["index"])
    value, stderr = np.asarray(table["logp"], float), np.asarray(table["stderr"], float)
    known = [name for name in methods if np.isfinite(stderr[method == name]).any()]
    first = (known or methods)[0]
    others = [name for name in methods if name != first]
    z = _quantile(len(others) * len(set(index.tolist())))
    said, silent = [], [name for name in methods if name not in known]
    mine = np.flatnonzero(method == first)
    base = {index[row]: (value[row], stderr[row]) for row in mine}
    for name in others:
        rows = np.flatnonzero((method == name) & np.isin(index, index[mine]))
        if not len(rows):
            said.append(f"{name} has no function in common with {first}")
            continue
        apart = [_apart(value[row], base[index[row]][0]) for row in rows]
        errors = [_joint(stderr[row], base[index[row]][1]) for row in rows]
        agree = sum(d <= z * e + 1e-12 for d, e in zip(apart, errors, strict=True))
        worst = rows[int(np.argmax(apart))]
        label = str(table["name"][worst]) if "name" in table else f"function {index[worst]}"
        said.append(
            f"{name} agrees with {first} on {agree:,} of {len(rows):,} functions, and differs by "
            f"{max(apart):.2g} nats at most ({label[:36]})"
        )
    note = f" ({', '.join(silent)}: no standard error)" if silent else ""
    return f"{'; '.join(said)}; agreement is within {z:.1f} standard errors{note}."


def _apart(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b)  # -inf twice is the same


def _joint(a: float, b: float) -> float:
    return math.hypot(*(0.0 if math.isnan(e) else e for e in (a, b)))


def _quantile(pairs: int) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - (1 - LEVEL) / (2 * max(pairs, 1))))
