"""What may be correlated: columns that exist, vary, and are not mixed; and how many points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlate.controls import design, size_column
from simprior.analysis.correlate.intervals import Sample
from simprior.analysis.measure.registry import (
    IDENTITY,
    MEASURES,
    OUTCOME,
    SETTINGS,
    measure_columns,
)
from simprior.checks import unknown, whole
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MIXED = ("optimizer", "alpha", "hidden", "activation", "loss", "n", "encoding", "weight_dist")
"""Settings whose networks are not compared unless the caller says how."""
MIN_POINTS, MIN_CLUSTERS, LEAST_LEFT = 16, 12, 8
"""Fewest points and clusters of a coefficient: below, bootstrap-t intervals cover too rarely."""
LARGEST_SHARE = 0.2
AXES = (
    "optimizer",
    "lr",
    "batch_size",
    "loss",
    "train_size",
    "attack",
    "corrupt",
    "hidden",
    "activation",
    "sigma_w",
    "sigma_b",
    "encoding",
    "weight_dist",
    "options",
    "stop",
    "max_epochs",
    "check",
    "pretrain",
    "n",
    "target",
    "data_seed",
    "alpha",
)
"""Hyperparameters of granulated correlations and environments."""


def column(frame: pd.DataFrame, name: str, what: str) -> np.ndarray:
    """A numeric column. Raises :class:`InputError` if it is missing or no number."""
    check_group_columns(frame, [name], what)
    if frame[name].dtype.kind not in "iufb":
        raise InputError(f"{what}={name}", "a column of numbers", "name another")
    return frame[name].to_numpy(float)


def check_group_columns(frame: pd.DataFrame, names: Sequence[str], what: str) -> None:
    """Raise :class:`InputError` for a column that is not there (it need not be numeric)."""
    for name in names:
        if name not in frame:
            raise unknown(f"{what}={name}", name, frame.columns)


def check_mixed(frame: pd.DataFrame, by: Sequence[str], controls: Sequence[str]) -> None:
    """Raise :class:`InputError` where networks of several kinds would be thrown together."""
    for name in MIXED:
        if name in frame and name not in by and name not in controls:
            values = sorted({str(v) for v in frame[name].dropna().unique()})
            if len(values) > 1:
                shown = ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")
                raise InputError(
                    f"networks of several values of {name} ({shown})",
                    "one kind at a time",
                    f"pass --by {','.join([*by, name])}",
                )


def chosen_measures(
    frame: pd.DataFrame, y: str, asked: Sequence[str] | None, notes: list[str]
) -> list[str]:
    """The measures to correlate with ``y``: those asked for, or all that vary.

    Raises :class:`InputError` for a column asked for that is constant or missing, or if none is
    left. Constant columns that were not asked for are noted.
    """
    names = list(asked) if asked else [n for n in _measures(frame) if n != y]
    kept = []
    for name in names:
        values = column(frame, name, "measures")
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() < finite.max():
            kept.append(name)
        elif asked:
            found = f"constant ({finite[0]:g})" if len(finite) else "never finite"
            raise InputError(
                f"measures={name}, which is {found}", "a measure that varies", "leave it out"
            )
        else:
            notes.append(f"{name}: {'constant' if len(finite) else 'never finite'}, left out")
    if not kept:
        raise InputError(
            "a table without a measure that varies",
            "columns of measures",
            "run simprior measure with --measures",
        )
    return kept


def _measures(frame: pd.DataFrame) -> list[str]:
    """Columns that simprior knows as measures; in a table of another origin, all other numbers."""
    known = measure_columns(frame)
    if known:
        return known
    taken = {*IDENTITY, *SETTINGS, *OUTCOME, "rank"}
    return [
        str(name)
        for name in frame
        if name not in taken
        and frame[name].dtype.kind in "if"
        and not str(name).endswith(("_stderr", "_low", "_high", "_converged"))
    ]


def varying_axes(frame: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Hyperparameters that vary and are not held fixed by ``by``."""
    return [a for a in AXES if a in frame and a not in by and frame[a].nunique() > 1]


MOST_RESAMPLES = 10**7
"""Beyond, no run ends; the error of an interval's end falls as 1/sqrt(resamples)."""


def check_numbers(settings: Mapping[str, Any]) -> tuple[int, int]:
    """(resamples, permutations) of the settings of a correlation, defaults for what is missing.

    Raises :class:`InputError` for a number out of range, or a level that is no probability.
    """
    level = settings.get("level", 0.95)
    if not (isinstance(level, float) and 0.5 <= level < 1):
        raise InputError(f"level={level!r}", "a probability from 0.5 to 1", "pass --level 0.95")
    resamples = whole("bootstrap", settings.get("bootstrap", 2000), 100, MOST_RESAMPLES)
    tests = whole("permutations", settings.get("permutations", 2000), 0, MOST_RESAMPLES)
    return resamples, tests


def check_outcome(frame: pd.DataFrame, y: str) -> None:
    """Raise :class:`InputError` for an outcome that is missing, no number or constant."""
    values = column(frame, y, "y")
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        found = f"constant ({finite[0]:g})" if len(finite) else "never finite"
        raise InputError(f"y={y}, which is {found}", "an outcome that varies", "choose another")


def check_controls(
    frame: pd.DataFrame, controls: Sequence[str], y: str, asked: Sequence[str] | None
) -> None:
    """Raise :class:`InputError` for a control that is missing, constant, the outcome, or a measure
    that was asked for."""
    check_group_columns(frame, controls, "controls")
    for name in controls:
        if frame[name].nunique() < 2:
            raise InputError(
                f"controls={name}, which is constant", "a column that varies", "leave it out"
            )
        if name == y or name in (asked or ()):
            role = "the outcome" if name == y else "a measure too"
            raise InputError(f"controls={name}", f"a column that is not {role}", "leave it out")
    if y in (asked or ()):
        raise InputError(f"measures={y}", "measures that are not the outcome", "leave it out")


def shared_start(frame: pd.DataFrame, cluster: str) -> list[str]:
    """A note where networks of several clusters began at the same weights: one seed and member."""
    names = (
        "seed",
        "member",
        "n",
        "m",
        "hidden",
        "activation",
        "sigma_w",
        "sigma_b",
        "weight_dist",
    )
    keys = [k for k in names if k in frame]
    if (
        not {"seed", "member", cluster, "data_seed"} <= set(frame)
        or frame["data_seed"].nunique() < 2
    ):
        return []
    clusters = frame[frame["member"] >= 0].groupby(keys)[cluster].nunique()
    if not (clusters > 1).any():
        return []
    return [
        "networks of several data sets began at the same weights (one seed for all): they are not "
        "independent and intervals are too narrow; give every data seed a seed of its own"
    ]


def share_inputs(frame: pd.DataFrame, measure: str, y: str) -> bool:
    """Whether a measure of the outputs on test inputs meets the error on the same inputs."""
    known = MEASURES.get(measure)
    of_outputs = known is not None and not known.weights and known.group != "bound"
    return of_outputs and y == "test_error" and size_column(frame, y) is not None


def shared_inputs(frame: pd.DataFrame, y: str) -> list[str]:
    """A note where that is so: part of such a coefficient is one sample of test inputs."""
    names = [name for name in measure_columns(frame) if share_inputs(frame, name, y)]
    if not names:
        return []
    return [
        f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} and {y} are of the same test "
        "inputs, and share their sampling error: measure with --held-out 0.5 and correlate with "
        "--y held_out_error"
    ]


def dominated(sizes: np.ndarray) -> str:
    """What to say where one cluster is so large that intervals cover less than they say."""
    share = sizes.max() / sizes.sum()
    if share <= LARGEST_SHARE:
        return ""
    return f"one cluster has {share:.0%} of the points: intervals cover less than they say"


def controls_here(part: pd.DataFrame, controls: Sequence[str], where: str) -> list[str]:
    """Notes of controls that are constant in a group, or whose effects are added."""
    constant = [name for name in controls if part[name].nunique() < 2]
    notes = [f"{where}{name} is constant here and controls nothing" for name in constant]
    added = design(part, controls).note
    return notes + ([f"{where}{added}"] if added else [])


def too_few_given(sample: Sample) -> str:
    """Why there is no partial coefficient given the controls of ``sample``; empty if there is."""
    cells = sample.cells[1]
    left = sample.points - cells - sample.controls.shape[1]
    if left >= LEAST_LEFT:
        return ""
    return (
        f"{sample.points} points in {cells} cells of the controls leave {left} to compare, fewer "
        f"than the {LEAST_LEFT} needed"
    )


def too_few(points: int, clusters: int) -> str:
    """Why there is no coefficient, or an empty text."""
    if points < MIN_POINTS:
        return f"{points} points, fewer than the {MIN_POINTS} that an interval needs"
    if clusters < MIN_CLUSTERS:
        return (
            f"{clusters} independent data sets (clusters), fewer than the {MIN_CLUSTERS} that an "
            "interval needs: networks trained on the same data are not independent; use more data "
            "seeds"
        )
    return ""
