"""Tables made ready for a figure: labels of columns, checks, groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from simprior.analysis.measure_names import MEASURES
from simprior.checks import unknown
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS = {
    "pearson": "Pearson $r$", "spearman": r"Spearman $\rho$", "kendall": r"Kendall $\tau_b$",
    "partial_pearson": "partial $r$", "partial_spearman": r"partial $\rho$", "p_value": "$p$",
    "p_adjusted": "$p$ (BH)", "p_holm": "$p$ (Holm)", "partial_p_value": "partial $p$",
    "partial_p_adjusted": "partial $p$ (BH)", "partial_p_holm": "partial $p$ (Holm)",
    "test_error": "test error", "held_out_error": "error on held-out inputs", "total_error":
    "error over all inputs", "train_error": "training error", "majority_error":
    "error of the commoner class", "train_size": "training examples", "attack": "attack points",
    "corrupt": "share of labels replaced by coin flips", "sigma_w": r"$\sigma_w$", "sigma_b":
    r"$\sigma_b$", "optimizer": "optimiser", "alpha": r"$\alpha$", "target": "target", "n":
    "input bits $n$", "depth": "hidden layers", "width": "width", "steps": "steps",
    "data_seed": "data seed", "activation": "activation", "batch_size": "batch size",
    "lr": "learning rate",
    "options": "options of the optimiser", "loss": "loss", "p_constant": "P(constant)", "functions":
    "distinct functions", "fitted_share": "share fitted", "target_lz76":
    "LZ complexity of the target", "target_entropy": "entropy of the target", "target_log_p":
    r"$\ln P$(target)",
}  # fmt: skip
_UNITS = {"target_lz76": "bits", "target_entropy": "bits", "target_log_p": "nats"}


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
    unit = str(known.unit) if known is not None else _UNITS.get(column, "")
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


def positive_span(values: np.ndarray) -> float:
    """Largest over smallest finite value if all are positive, else 1."""
    finite = values[np.isfinite(values)]
    return float(finite.max() / finite.min()) if len(finite) and finite.min() > 0 else 1.0
