"""What errors of measurement take from a coefficient (Spearman 1904)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlation import checks
from simprior.analysis.correlation.setup import Setup, size_column
from simprior.estimate import share_stderr

if TYPE_CHECKING:
    import pandas as pd

LEAST_RELIABILITY = 0.3
"""Below, nothing is disattenuated: the error of the reliability itself would rule the result."""


def attenuation(
    part: pd.DataFrame, measure: str, setup: Setup, row: dict[str, Any]
) -> dict[str, float]:
    """Reliabilities and the coefficient that error-free columns would have."""
    if checks.share_inputs(part, measure, setup.y):  # their errors are not independent
        ends = (f"disattenuated{end}" for end in ("", "_low", "_high"))
        return dict.fromkeys(("reliability", "reliability_y", *ends), math.nan)
    of_x = _reliability(part, measure, _errors(part, measure))
    of_y = _reliability(part, setup.y, _errors(part, setup.y))
    out = {"reliability": of_x, "reliability_y": of_y}
    known = [r for r in (of_x, of_y) if math.isfinite(r)]
    usable = known and min(known) >= LEAST_RELIABILITY
    scale = math.sqrt(math.prod(known)) if usable else math.nan
    for end in ("", "_low", "_high"):
        value = row[f"pearson{end}"] / scale if math.isfinite(scale) else math.nan
        out[f"disattenuated{end}"] = float(np.clip(value, -1, 1))
    return out


def _errors(part: pd.DataFrame, name: str) -> np.ndarray | None:
    """Standard errors of a column: its own, or binomial for a share of a sample of test inputs."""
    if f"{name}_stderr" in part:
        return part[f"{name}_stderr"].to_numpy(float)
    column = size_column(part, name)
    if column is None:
        return None
    share = part[name].to_numpy(float)
    return share_stderr(share, part[column].to_numpy(float))


def _reliability(part: pd.DataFrame, name: str, error: np.ndarray | None) -> float:
    """1 - mean squared error / variance, at least 0; NaN where the error is unknown."""
    if error is None:
        return math.nan
    value = part[name].to_numpy(float)
    good = np.isfinite(value) & np.isfinite(error)
    if good.sum() < 2 or np.ptp(value[good]) == 0:
        return math.nan
    return max(0.0, 1.0 - float((error[good] ** 2).mean() / value[good].var(ddof=1)))
