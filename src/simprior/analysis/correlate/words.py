"""Coefficients in words: a verdict computed from their intervals, and a table to be read.

The verdict of a group is of one coefficient: the partial rank correlation if there are controls,
else Kendall's tau. The best measure is the one whose coefficient is largest in size among those
whose interval does not contain 0. The runner-up is told apart if its interval, in size, ends below
where that of the best begins; both intervals are of the same resamples, so this is a strict demand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

KINDS = ("pearson", "spearman", "kendall", "partial_pearson", "partial_spearman")
NAMES = {"kendall": "tau", "spearman": "rho", "partial_spearman": "partial rho"}
MOST_GROUPS = 4
"""Groups of which a verdict speaks one by one."""


def groups_of(table: pd.DataFrame) -> list[str]:
    """The group columns of a table of coefficients: those before ``measure``."""
    return [str(name) for name in table.columns[: list(table.columns).index("measure")]]


def verdict(table: pd.DataFrame, y: str, controls: Sequence[str] = ()) -> str:
    """What predicts ``y`` best, whether the next is told apart, and what controls change.

    A sentence for each group of the table; of more than ``MOST_GROUPS`` groups, one that counts.
    """
    by = groups_of(table)
    if not by:
        return _sentence(table, y, controls)
    parts = list(table.groupby(by, sort=True))
    if len(parts) > MOST_GROUPS:
        best = [_best(part, _kind(part))["measure"].head(1).tolist() for _, part in parts]
        names = [name for found in best for name in found]
        count = ", ".join(f"{n} in {names.count(n)}" for n in dict.fromkeys(names))
        none = len(best) - len(names)
        return f"Best of {y} in {len(parts)} groups: {count or '-'}; none in {none}."
    return " ".join(
        f"{', '.join(map(str, key))}: {_sentence(part, y, controls)}" for key, part in parts
    )


def _kind(table: pd.DataFrame) -> str:
    partial = "partial_spearman"
    return partial if partial in table and table[partial].notna().any() else "kendall"


def _best(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows whose interval does not contain 0, the largest coefficient first."""
    low, high = table[f"{kind}_low"], table[f"{kind}_high"]
    found = table[(low > 0) | (high < 0)]
    return found.loc[found[kind].abs().sort_values(ascending=False, kind="stable").index]


def _sentence(table: pd.DataFrame, y: str, controls: Sequence[str]) -> str:
    kind = _kind(table)
    best, known = _best(table, kind), int(table[f"{kind}_low"].notna().sum())
    given = f" given {', '.join(controls)}" if kind.startswith("partial") else ""
    if not known:
        return f"no measure has an interval of {NAMES[kind]}{given}."
    if not len(best):
        return (
            f"no measure is shown to predict {y}{given}: all {known} intervals of {NAMES[kind]} "
            f"contain 0"
            f"{_changed(table, None, kind)}."
        )
    first = best.iloc[0]
    text = f"{first['measure']} predicts {y} best{given}: {NAMES[kind]} {_interval(first, kind)}"
    text += f" ({len(best)} of {known} intervals leave out 0)"
    return f"{text}{_next(table, first, kind)}{_changed(table, first, kind)}."


def _next(table: pd.DataFrame, first: pd.Series, kind: str) -> str:
    """Whether the measure that comes second is told apart from the first."""
    others = table[(table["measure"] != first["measure"]) & table[f"{kind}_low"].notna()]
    if not len(others):
        return ""
    second = others.loc[others[kind].abs().idxmax()]
    (least, _), (_, most) = _sizes(first, kind), _sizes(second, kind)
    apart = "is told apart" if most < least else "is not told apart"
    return f"; the next, {second['measure']} {_interval(second, kind)}, {apart}"


def _sizes(row: pd.Series, kind: str) -> tuple[float, float]:
    """The interval of the size of a coefficient, on the side of its sign."""
    ends = (float(row[f"{kind}_low"]), float(row[f"{kind}_high"]))
    return ends if row[kind] >= 0 else (-ends[1], -ends[0])


def _changed(table: pd.DataFrame, first: pd.Series | None, kind: str) -> str:
    """What was first without controls, and what the controls leave of it."""
    if not kind.startswith("partial"):
        return ""
    raw = kind.removeprefix("partial_")
    before = _best(table, raw)
    if not len(before):
        return "; without controls none does"
    row = before.iloc[0]
    if first is not None and row["measure"] == first["measure"]:
        return f"; without controls {_interval(first, raw)}"
    return (
        f"; without controls it would be {row['measure']} {_interval(row, raw)}, of which the "
        f"controls leave {_interval(row, kind)}"
    )


def _interval(row: pd.Series, kind: str) -> str:
    return text(*(float(row[f"{kind}{end}"]) for end in ("", "_low", "_high")))


def text(value: float, low: float, high: float) -> str:
    """``+0.40 [+0.10, +0.60]``; ``-`` for a coefficient that was refused."""
    if math.isnan(value):
        return "-"
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" if not math.isnan(low) else f"{value:+.2f}"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table of coefficients for a reader: coefficients with their intervals as text."""
    head = [*groups_of(table), "measure", "points", "clusters"]
    out: dict[str, Any] = {name: table[name].tolist() for name in head}
    for kind in KINDS:
        if kind in table:
            parts = zip(*(table[f"{kind}{end}"] for end in ("", "_low", "_high")), strict=True)
            out[kind] = [text(*part) for part in parts]
    out["p"] = [_short(p) for p in table["p_value"]]
    out["p (BH)"] = [_short(p) for p in table["p_adjusted"]]
    if "partial_p_value" in table:
        out["partial p (BH)"] = [_short(p) for p in table["partial_p_adjusted"]]
    return pd.DataFrame(out)


def _short(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.2g}"


def explained(table: pd.DataFrame, controls: Sequence[str] = ()) -> str:
    """What a reader must know of the statistics in the table."""
    tests = int(np.isfinite(table["p_value"]).sum())
    lines = [
        "[low, high]: bootstrap-t interval, whole training sets (clusters) drawn again, of one "
        "coefficient alone: of many, some leave out 0 by chance, which (BH) allows for.",
        "p: permutations of training sets (of kendall; of spearman beyond 2,000 points); (BH): "
        f"adjusted for {tests} tests, Benjamini-Hochberg.",
    ]
    if controls:
        lines.append(
            f"partial: {', '.join(controls)} held fixed; points are compared within the values of "
            "a control."
        )
    if table["pearson"].isna().any():
        lines.append("-: refused; the notes say why.")
    return "\n".join(lines)
