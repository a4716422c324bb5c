"""Does a measure order pairs of networks rightly, and in the worst environment? (Dziugaite et al.,
NeurIPS 2020.)

An environment is a hyperparameter, two of its values and a setting of all the others; its pairs are
networks of the two values. The sign error of a measure there is the weighted mean of
(1 - sign(difference of measures) sign(difference of errors)) / 2: 0 if it orders all pairs, 1/2 for
a coin, 1 if it orders them all wrongly (ties count 1/2). Robust means the worst environment, not
the mean.

A pair whose errors differ by chance says nothing. With errors from t test inputs, Hoeffding's
inequality bounds the chance that each is off by half the difference d: both are within it with
probability p = max(0, 1 - 2 exp(-2 t (d/2)^2))^2, and a pair weighs 2 max(0, p - 1/2): pairs more
likely than not to be of chance weigh nothing (as in the code of the authors). Where outcomes
have no sampling error (Boolean functions, another outcome than the test error) the weight is 1 if
d > 0. Environments with fewer than ``least`` effective pairs, (sum of weights)^2 / (sum of squared
weights), are dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlation.granulated import REPLICATES
from simprior.analysis.correlation.setup import size_column

if TYPE_CHECKING:
    import pandas as pd

LEAST = 10.0


def hoeffding_weights(difference: np.ndarray, test_size: np.ndarray | float | None) -> np.ndarray:
    """Weight of pairs whose test errors differ by ``difference``; see the module docstring."""
    d = np.abs(np.asarray(difference, float))
    if test_size is None:
        return (d > 0).astype(float)
    chance = 2.0 * np.exp(-2.0 * np.asarray(test_size, float) * (d / 2.0) ** 2)
    return np.maximum(0.0, 2.0 * np.maximum(0.0, 1.0 - chance) ** 2 - 1.0)


def sign_errors(
    frame: pd.DataFrame, measure: str, y: str, axes: Sequence[str], *,
    sign: float = 1.0, least: float = LEAST,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row an environment with enough effective pairs.

    ``sign`` +1: a larger measure should mean a larger error. The column of
    :data:`simprior.analysis.records.SAMPLED` gives the number of test inputs of an outcome that is
    a test error, unless ``n`` > 0 (all bit strings: no sampling error).

    Returns
    -------
    list of dict
        ``axis``, ``values``, ``setting`` (of the other axes), ``sign_error``, ``pairs``,
        ``effective``.
    """
    frame = frame[frame[[measure, y]].notna().all(axis=1)]
    column = size_column(frame, y)
    rows = []
    for axis in (a for a in axes if a not in REPLICATES):
        others = [a for a in axes if a != axis]
        groups = frame.groupby(others, sort=True) if others else [("", frame)]
        for setting, group in groups:
            parts = [(v, part) for v, part in group.groupby(axis, sort=True)]
            for (u, first), (v, second) in itertools.combinations(parts, 2):
                mu = _differences(first[measure], second[measure])
                g = _differences(first[y], second[y])
                size = None
                if column is not None:
                    size = np.minimum.outer(
                        first[column].to_numpy(float), second[column].to_numpy(float)
                    ).ravel()
                weight = hoeffding_weights(g, size)
                total, squares = weight.sum(), (weight**2).sum()
                effective = total**2 / squares if squares > 0 else 0.0
                if effective < least:
                    continue
                wrong = 0.5 * (1.0 - sign * np.sign(mu) * np.sign(g))
                rows.append({
                    "axis": axis, "values": f"{_text(u)} / {_text(v)}",
                    "setting": _setting(others, setting),
                    "sign_error": float((weight * wrong).sum() / total), "pairs": len(weight),
                    "effective": float(effective),
                })  # fmt: skip
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, quantiles and worst of the sign errors over environments, and where the worst is."""
    values = np.array([row["sign_error"] for row in rows])
    worst = rows[int(values.argmax())]
    place = f"{worst['axis']}: {worst['values']}"
    return {
        "environments": len(rows), "mean": float(values.mean()),
        "median": float(np.median(values)), "p90": float(np.quantile(values, 0.9)),
        "worst": float(values.max()), "worst_at": place + (
            f"; {worst['setting']}" if worst["setting"] else ""),
    }  # fmt: skip


def _differences(a: pd.Series, b: pd.Series) -> np.ndarray:
    return np.subtract.outer(a.to_numpy(float), b.to_numpy(float)).ravel()


def _setting(names: Sequence[str], values: Any) -> str:
    values = values if isinstance(values, tuple) else (values,)
    return ", ".join(f"{k}={_text(v)}" for k, v in zip(names, values, strict=False))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
