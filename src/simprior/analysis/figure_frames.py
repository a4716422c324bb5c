"""Tables made ready for a figure: labels of columns, groups, means of runs with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.measure_names import MEASURES
from simprior.checks import unknown
from simprior.errors import InputError
from simprior.estimate import clopper_pearson

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS = {
    "pearson": "Pearson $r$", "spearman": r"Spearman $\rho$", "kendall": r"Kendall $\tau_b$",
    "partial_pearson": "partial $r$", "partial_spearman": r"partial $\rho$", "p_value": "$p$",
    "p_adjusted": "$p$ (BH)", "p_holm": "$p$ (Holm)", "partial_p_value": "partial $p$",
    "partial_p_adjusted": "partial $p$ (BH)", "partial_p_holm": "partial $p$ (Holm)",
    "test_error": "test error", "train_error": "training error", "majority_error":
    "error of the commoner class", "train_size": "training examples", "attack": "attack points",
    "corrupt": "share of labels replaced by coin flips", "sigma_w": r"$\sigma_w$", "sigma_b":
    r"$\sigma_b$", "optimizer": "optimiser", "alpha": r"$\alpha$", "target": "target", "n":
    "input bits $n$", "depth": "hidden layers", "width": "width", "steps": "steps",
    "data_seed": "data seed", "activation": "activation", "batch_size": "batch size",
    "lr": "learning rate",
    "options": "options of the optimiser", "loss": "loss", "p_constant": "P(constant)", "functions":
    "distinct functions", "fitted_share": "share fitted", "target_lz76":
    r"LZ complexity of the target", "target_log_p": r"$\ln P$(target) (nats)",
}  # fmt: skip


def name_of(column: str | None) -> str:
    """Short name of a column for ticks and legends."""
    if column is None:
        return ""
    if ", " in column:  # a group of several
        return ", ".join(map(name_of, column.split(", ")))
    known = MEASURES.get(column)
    return str(known.label) if known is not None else _SETTINGS.get(column, column)


def axis_label(column: str) -> str:
    """Name of a column with its unit, for an axis."""
    known = MEASURES.get(column)
    unit = str(known.unit) if known is not None else ""
    return f"{name_of(column)} ({unit})" if unit and unit not in ("1", "-") else name_of(column)


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise :class:`InputError` for a column that is missing or, if numeric, never finite."""
    for name in names:
        if name not in frame:
            raise unknown(f"column {name!r}", name, frame.columns)
        if frame[name].dtype.kind == "f" and not np.isfinite(frame[name]).any():
            raise InputError(f"column {name!r}", "a finite value", "it was not computed here")


def groups(frame: pd.DataFrame, by: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, rows) of each value of the column ``by`` in order of value; all rows if None."""
    if by is None:
        yield "", frame
        return
    for value, part in frame.groupby(by, sort=True):
        yield (f"{value:g}" if isinstance(value, float) else str(value)), part


def level_factor(level: float) -> float:
    """Standard errors on each side of a two-sided normal interval."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def positive_span(values: np.ndarray) -> float:
    """Largest over smallest finite value if all are positive, else 1."""
    finite = values[np.isfinite(values)]
    return float(finite.max() / finite.min()) if len(finite) and finite.min() > 0 else 1.0


def cell_means(
    frame: pd.DataFrame, columns: Sequence[str], points: str = "run", level: float = 0.95
) -> pd.DataFrame:
    """A row a run (or network) with ``<c>``, ``<c>_stderr``, ``<c>_low``, ``<c>_high`` of columns.

    Of a run: mean over its networks; its error combines their spread and, as if independent, the
    columns' own standard errors. Of a network: its value and error; shares of test inputs have
    Clopper-Pearson limits.
    """
    import pandas as pd

    if points == "network":
        return _networks(frame, columns, level)
    z, rows = level_factor(level), []
    for _, some in frame.groupby("run", sort=True):
        row: dict[str, Any] = {}
        for name in columns:
            value = some[name].to_numpy(float)
            good = np.isfinite(value)
            size = int(good.sum())
            mean = float(value[good].mean()) if size else math.nan
            variance = float(value[good].var(ddof=1)) / size if size > 1 else 0.0
            if f"{name}_stderr" in some:
                own = np.nan_to_num(some[f"{name}_stderr"].to_numpy(float)[good])
                variance = max(variance, float(np.square(own).sum()) / max(size, 1) ** 2)
            half = math.sqrt(variance)
            row |= {name: mean, f"{name}_stderr": half}
            row |= {f"{name}_low": mean - z * half, f"{name}_high": mean + z * half}
        rows.append(row)
    return pd.DataFrame(rows)


def _networks(frame: pd.DataFrame, columns: Sequence[str], level: float) -> pd.DataFrame:
    import pandas as pd

    z = level_factor(level)
    out: dict[str, Any] = {}
    for name in columns:
        value = frame[name].to_numpy(float)
        known = f"{name}_stderr" in frame
        error = np.nan_to_num(frame[f"{name}_stderr"].to_numpy(float)) if known else 0.0 * value
        low, high = value - z * error, value + z * error
        if name == "test_error" and {"m", "train_size"} <= set(frame):
            attack = frame.get("attack", 0)
            size = (frame["m"] - frame["train_size"] - attack).to_numpy(np.int64)
            low, high = _share_limits(value, size, level)
        out |= {name: value, f"{name}_stderr": error, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(out)


def _share_limits(
    share: np.ndarray, size: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full(len(share), math.nan), np.full(len(share), math.nan)
    good = np.isfinite(share) & (size > 0)
    if good.any():
        low[good], high[good] = clopper_pearson(
            np.rint(share[good] * size[good]), size[good], level
        )
    return low, high
