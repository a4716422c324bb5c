"""What a comparison says, in words: one sentence from its intervals, and notes on its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

STATISTIC = "total_variation"
"""The statistic that decides; its interval and its ceilings are in the sentence."""


def sentence(
    found: Any, size: float, level: float, labels: tuple[str, str], split: bool = False
) -> str:
    """The verdict on two runs.

    They differ if the interval of the total variation excludes 0. Its lower limit comes from
    halves of the runs that were held out, so that counting noise does not make a difference.

    Parameters
    ----------
    found : Statistic
        The total variation with its limits, what parts of the two runs show, and the ceilings.
    size : float
        Effective samples of a part.
    level : float
        Confidence level of the interval.
    labels : two texts
        Names of the runs.
    split : bool
        Whether one run was compared with itself.
    """
    a, b = labels
    percent = f"{100 * level:g} % interval"
    if found.low > 0:
        said = f"They differ: total variation {_to(found.low, found.high)} ({percent})"
    else:
        said = f"No difference is shown: total variation at most {found.high:.3g} ({percent})"
    if split:
        said = f"One run against itself. {said}"
    if not all(map(math.isfinite, (found.matched, found.noise_ceiling_a, found.noise_ceiling_b))):
        return f"{said}."
    of = f" of {size:,.0f} samples" if math.isfinite(size) else ""
    ceilings = f"{found.noise_ceiling_a:.3g} ({a}) and {found.noise_ceiling_b:.3g} ({b})"
    return (
        f"{said}; parts{of} are {found.matched:.3g} apart between the runs, where two parts of "
        f"the same run show {ceilings}."
    )


def _to(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if low < high else f"{high:.3g}"


def notes(
    names: Sequence[str], size: float, level: float, min_count: float, labels: tuple[str, str]
) -> list[str]:
    """What a reader must know to read the table, of the statistics ``names`` that are in it."""
    a, b = labels
    part = f"{size:,.0f} effective samples" if math.isfinite(size) else "equal size"
    said = [
        f"low, high: {100 * level:g} % interval of counting noise; the functions and training sets "
        "are fixed.",
        f"matched: what a part of {a} shows against a part of {b}; noise_ceiling_a, "
        f"noise_ceiling_b: what two parts of {a}, of {b}, show; all parts of {part}. There is "
        "evidence of a difference only where matched lies apart from both ceilings.",
    ]
    if f"{STATISTIC}_held_out" in names:
        said.append(
            "total_variation, jensen_shannon (nats) and hellinger are too large on average where "
            "functions are rare, *_held_out too small: the truth lies between them."
        )
    if "selected_functions" in names:
        said.append(
            f"selected, correlations, decades and slopes: functions with an effective count of "
            f"{min_count:g} or more in both runs."
        )
    if "mean_error_a" in names:
        said.append("mean_error: error on the inputs that were not trained on, against the target.")
    return said
