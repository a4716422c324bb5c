"""Granulated tau, conditional information and sign errors, where hyperparameters vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.analysis.correlation import checks
from simprior.analysis.correlation.environments import LEAST, sign_errors, summarise
from simprior.analysis.correlation.granulated import (
    conditional_information,
    granulated_tau,
    settings_means,
)
from simprior.analysis.correlation.setup import Setup

if TYPE_CHECKING:
    import pandas as pd


def controlled_analyses(
    part: pd.DataFrame, setup: Setup, head: dict[str, Any], name: str,
    rows: dict[str, list[dict[str, Any]]], notes: list[str],
) -> None:  # fmt: skip
    """Granulated tau, conditional information and sign errors, where hyperparameters vary."""
    axes = checks.varying_axes(part, setup.by)
    if not axes:
        return
    cells = settings_means(part, setup.measures, setup.y, axes)
    random = rng.generator(setup.seed, f"correlate/information/{name}")
    for measure in setup.measures:
        for axis, psi, error, groups, pairs in granulated_tau(cells, measure, setup.y, axes):
            rows["granulated"].append({
                **head, "measure": measure, "axis": axis, "psi": psi, "psi_stderr": error,
                "groups": groups, "pairs": pairs,
            })  # fmt: skip
        found = conditional_information(cells, measure, setup.y, axes, random)
        if found is not None:
            rows["conditional_mi"].append({**head, "measure": measure, **found})
        direction = _direction(rows["table"], measure, head)
        if direction is None:  # refused: the table's notes say why
            continue
        errors = sign_errors(part, measure, setup.y, axes, sign=direction)
        if errors:
            rows["environments"].append({
                **head, "measure": measure, "expected_sign": int(direction), **summarise(errors),
            })  # fmt: skip
        elif measure == setup.measures[0]:
            notes.append(
                f"{name + ': ' if name else ''}no sign errors: no two settings that differ in one "
                f"hyperparameter have {LEAST:g} effective pairs; measure more networks a setting"
            )


def _direction(rows: list[dict[str, Any]], measure: str, head: dict[str, Any]) -> float | None:
    """Sign of the overall tau of this measure in this group: the order it is taken to predict.

    None where tau was refused."""
    for row in rows:
        if row["measure"] == measure and all(row[k] == v for k, v in head.items()):
            return None if np.isnan(row["kendall"]) else (-1.0 if row["kendall"] < 0 else 1.0)
    return None
