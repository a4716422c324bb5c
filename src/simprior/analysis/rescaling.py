"""Which measures change when relu layers are rescaled, and the function does not?

Multiplying a layer's weights and biases by alpha and dividing the next layer's weights by it leaves
the function of a relu network as it is (Dinh et al. 2017). A measure that moves under it says
something about the parameters, not about the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.measure_names import MEASURES
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

RELATIVE = 1e-5
"""Relative change that counts as moved: well above float64 rounding of a rescaled forward pass."""
SIGMAS = 4.0
_MANY = 20
_MOST = 690.0  # exp of it is finite


def measure_columns(frame: pd.DataFrame) -> list[str]:
    """Columns with a measure (:data:`simprior.analysis.measure_names.MEASURES`), in order."""
    return [name for name in map(str, frame.columns) if name in MEASURES]


def rescaling_table(frame: pd.DataFrame) -> pd.DataFrame:
    """How far each measure moves between alpha = 1 and every other alpha, network by network.

    Returns
    -------
    DataFrame
        A row a measure and alpha: ``measure``, ``alpha``, ``networks``, ``moved`` (share whose
        value changed by more than 1e-5 of itself and more than four standard errors, where the
        measure has one, or four of the mean change over 20 networks or more), ``factor`` (median
        of value after / before; of a measure that is a logarithm, of the quantity itself) with
        ``factor_low`` and ``factor_high`` (central 95 % of the networks), ``function_changed``
        (share of networks).

    Raises
    ------
    InputError
        Without networks measured both at alpha = 1 and at another alpha.
    """
    import pandas as pd

    for name in ("alpha", "run", "member"):
        if name not in frame:
            raise InputError(f"no column {name!r}", "a table of simprior measure", "measure first")
    keys = ["run", "member"]
    before = frame[frame["alpha"] == 1.0].set_index(keys)
    alphas = sorted(a for a in frame["alpha"].unique() if a != 1.0)
    if not alphas or not len(before):
        raise InputError(
            f"alpha={sorted(frame['alpha'].unique())}", "alpha = 1 and at least one other",
            "measure with alphas = [1, 4]",
        )  # fmt: skip
    rows = []
    for alpha in alphas:
        after = frame[frame["alpha"] == alpha].set_index(keys)
        both = before.index.intersection(after.index)
        a, b = before.loc[both], after.loc[both]
        changed = float((a["function"] != b["function"]).mean()) if "function" in a else np.nan
        for name in measure_columns(frame):
            row = _row(name, a, b)
            if row is not None:
                rows.append({"measure": name, "alpha": alpha, **row, "function_changed": changed})
    return pd.DataFrame(rows)


def _row(name: str, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any] | None:
    old, new = before[name].to_numpy(float), after[name].to_numpy(float)
    good = np.isfinite(old) & np.isfinite(new)
    if not good.any():
        return None
    limit = RELATIVE * np.abs(old)
    stderr = f"{name}_stderr"
    if stderr in before:
        errors = np.hypot(before[stderr].to_numpy(float), after[stderr].to_numpy(float))
        limit = np.maximum(limit, SIGMAS * np.nan_to_num(errors))
    change = np.abs(new - old)[good]
    moved = change > limit[good]
    if stderr in before and _mean_moved((new - old)[good]):
        moved = change > RELATIVE * np.abs(old[good])
    factor = _factors(old[good], new[good], MEASURES[name].log)
    low, middle, high = np.quantile(factor, [0.025, 0.5, 0.975])
    return {
        "networks": int(good.sum()), "moved": float(moved.mean()), "factor": float(middle),
        "factor_low": float(low), "factor_high": float(high),
    }  # fmt: skip


def _mean_moved(change: np.ndarray) -> bool:
    """Whether the mean change is more than four standard errors from 0, over the networks.

    Estimates before and after use the same random directions: their errors are not independent, and
    what one network does not show many may. Directions of different networks are independent.
    """
    k = len(change)
    return k >= _MANY and bool(
        abs(change.mean()) > SIGMAS * change.std(ddof=1) / np.sqrt(k)
    )  # fmt: skip


def _factors(old: np.ndarray, new: np.ndarray, log: bool) -> np.ndarray:
    """How many times larger each value has become; 1 where there is nothing to compare."""
    if log:
        return np.exp(np.clip(new - old, -_MOST, _MOST))
    nonzero = old != 0
    return new[nonzero] / old[nonzero] if nonzero.any() else np.ones(1)
