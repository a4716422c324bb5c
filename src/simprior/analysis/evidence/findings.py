"""Findings: a contrast over data sets, what it would be attributed to, and the verdict.

An experiment says what it measured (:class:`Finding`). Whether that counts is decided in the whole
table (:func:`judged`): p-values are corrected by Holm's method over all rows, and a verdict follows
from the corrected p-value and the sign alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simprior.analysis.correlate.tests import holm
from simprior.analysis.evidence.paired import Estimate
from simprior.checks import Choice

ALPHA = 0.05
CAUSES = ("prior", "posterior", "optimiser")
COLUMNS = (
    *("finding", "claim", "effect", "effect_low", "effect_high", "verdict", "cause"),
    *("slope", "slope_low", "slope_high", "along", "p_value", "p_holm", "literature", "datasets"),
    *("source", "expected"),
)
"""Columns of a table of findings; the last two are what :func:`judged` needs."""


@dataclass(frozen=True)
class Finding:
    """One row of the table of evidence.

    Attributes
    ----------
    finding : str
        The phenomenon, e.g. "low rank".
    claim : str
        What ``effect`` is: a contrast, in words, with its unit.
    effect : Estimate
        The contrast over data sets.
    source : str
        What a real effect would be attributed to: one of ``CAUSES``, or "control".
    expected : int
        The sign that the literature gives it; 0 for a negative control, which must come out null.
    literature : str
        Where that is said.
    slope : Estimate, optional
        How the effect grows with scale,
    along : str
        and with what: "depth", "log2 width", ...
    """

    finding: str
    claim: str
    effect: Estimate
    source: str
    expected: int
    literature: str
    slope: Estimate | None = None
    along: str = ""

    def __post_init__(self) -> None:
        Choice((*CAUSES, "control"))("source", self.source)

    def row(self) -> dict[str, object]:
        """Its row, without what the whole table decides."""
        slope = self.slope or Estimate(math.nan, math.nan, math.nan, math.nan, 0)
        return {
            "finding": self.finding,
            "claim": self.claim,
            "effect": self.effect.value,
            "effect_low": self.effect.low,
            "effect_high": self.effect.high,
            "p_value": self.effect.p,
            "slope": slope.value,
            "slope_low": slope.low,
            "slope_high": slope.high,
            "along": self.along if self.slope else "",
            "literature": self.literature,
            "datasets": self.effect.number,
            "source": self.source,
            "expected": self.expected,
        }


def table_of(findings: Sequence[Finding]) -> pd.DataFrame:
    """The table of some findings, judged together; its columns are ``COLUMNS``."""
    return judged(pd.DataFrame([finding.row() for finding in findings]))


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with ``p_holm``, ``cause`` and ``verdict`` as of this whole table.

    ``p_holm`` is corrected over all rows. A row with ``p_holm`` below ``ALPHA`` has the sign of its
    effect: it agrees with the literature or is opposite to it, and only one that agrees has a
    cause. Controls must stay above ``ALPHA`` without correction, the harder test for them.
    """
    p_holm = holm(frame["p_value"].to_numpy(float))
    rows = zip(frame["expected"], frame["effect"], frame["p_value"], p_holm, strict=True)
    verdicts = [_verdict(int(sign), float(effect), p, h) for sign, effect, p, h in rows]
    agree = [verdict.startswith("agrees") for verdict in verdicts]
    cause = np.where(agree, frame["source"], "none shown")
    frame = frame.assign(p_holm=p_holm, verdict=verdicts)
    frame["cause"] = np.where(frame["source"] == "control", "", cause)
    return frame[list(COLUMNS)]


def _verdict(expected: int, effect: float, p: float, p_holm: float) -> str:
    if expected == 0:
        return "null, as a control must be" if p >= ALPHA else "control is not null"
    if p_holm >= ALPHA:
        return "not shown"
    return "agrees" if effect * expected > 0 else "opposite"


def failed_controls(frame: pd.DataFrame) -> list[str]:
    """Claims of the controls of a judged table that did not come out null."""
    return list(frame.loc[frame["verdict"] == "control is not null", "claim"])
