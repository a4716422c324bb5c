"""Distance and flips of the functions that trained Boolean networks compute, exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from simprior.analysis.hamming.gp_prediction import uniform_distance, uniform_flips
from simprior.analysis.hamming.tables import MOST_BITS, expected_flips, nearest_distances
from simprior.boolean.truthtable import to_hex, unpack
from simprior.errors import InputError
from simprior.store import load_run
from simprior.training.records import TrainResult

TRAINED = "tables/trained-sensitivity.parquet"


def trained_sensitivity(run: TrainResult | Path | str, members: int | None = None) -> pd.DataFrame:
    """Distance and flips of every member of a run of ``simprior train`` on all strings of n bits.

    Each distinct function is done once, from its truth table: no sampling, no search.

    Returns
    -------
    DataFrame
        A row a member (of the first ``members``): member, function (hex), fitted, test_error,
        distance (mean over start strings; nan for a constant), distance_max, flips (mean of
        min(T, n) over start strings and orders), unchanged, and the two values expected of a
        uniformly random function, uniform_distance and uniform_flips.

    Raises
    ------
    InputError
        Networks on real data or chosen inputs, or more than 12 bits.
    StoreError
        Not a complete run of ``simprior train``.
    """
    result = run if isinstance(run, TrainResult) else TrainResult.load(run)
    n, m = int(result.problem["n"]), result.m
    if not 1 <= n <= MOST_BITS or m != 1 << n:
        raise InputError(
            f"a run with n={n}, m={m} inputs",
            f"all strings of 1 to {MOST_BITS} bits",
            "for real data measure the box CSR: simprior measure --measures sensitivity",
        )
    words = result.words[:members]
    distinct, where = np.unique(words, axis=0, return_inverse=True)
    tables = unpack(distinct, m)
    distances = nearest_distances(tables)
    flips, unchanged = expected_flips(tables)
    mean = np.where(distances.any(axis=1), distances.mean(axis=1), np.nan)
    where = where.reshape(-1)
    columns = {
        "member": np.arange(len(words)),
        "function": to_hex(words, m),
        "fitted": result.fitted[:members],
        "test_error": result.test_error[:members],
        "distance": mean[where],
        "distance_max": distances.max(axis=1)[where],
        "flips": flips.mean(axis=1)[where],
        "unchanged": unchanged.mean(axis=1)[where],
        "uniform_distance": uniform_distance(n),
        "uniform_flips": uniform_flips(n),
    }
    return pd.DataFrame(columns)


def load_trained(path: Path | str) -> pd.DataFrame:
    """The table of a run directory with trained networks. Raises :class:`StoreError`."""
    return pd.DataFrame(load_run(path).read_table(TRAINED))


def means(frame: pd.DataFrame) -> dict[str, float]:
    """Means over networks with standard errors, and the values of a uniformly random function.

    The networks share their training set, so the errors do not hold for other training sets.
    """
    from simprior.estimate import mean_stderr

    out: dict[str, float] = {}
    for name in ("test_error", "distance", "flips", "unchanged"):
        values = frame[name].dropna().to_numpy(float)
        size = len(values)
        out[name] = float(values.mean()) if size else math.nan
        out[f"{name}_stderr"] = mean_stderr(values)  # equal values: as if one were off by 1
    for name in ("uniform_distance", "uniform_flips"):
        out[name] = float(frame[name].mean())
    return out
