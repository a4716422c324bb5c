"""How complex were the targets? LZ complexity and ln P of each, beside the errors of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from simprior.analysis.prior_measures import prior_of
from simprior.analysis.records import cluster_of
from simprior.boolean.complexity import entropy_packed, lz76_packed
from simprior.boolean.truthtable import from_hex
from simprior.errors import StoreError
from simprior.estimate import mean_stderr
from simprior.training.losses import threshold
from simprior.training.records import TrainResult

TARGETS = "tables/targets.parquet"


def target_table(train: Path, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """A row a training run below ``train``: its target's complexity and ln P, mean errors.

    Columns: run, cluster, target, optimizer, train_size, data_seed, ``target_lz76``,
    ``target_entropy`` (bits), ``target_log_p`` with ``_stderr`` (nats; infinite width, without the
    condition on the training set), ``test_error`` with ``_stderr`` (mean over members that fitted),
    ``networks``. Raises :class:`StoreError` where no training run is found.
    """
    paths = sorted(train.glob("cells/*")) or [train]
    rows, known = [], {}
    for path in paths:
        result = TrainResult.load(path)
        problem, good = result.problem, result.fitted
        config = result.config
        key = (problem["target"], repr(config.get("network")), threshold(config["loss"]))
        if key not in known:
            known[key] = _log_p(result, seed, draws)
        words = from_hex(problem["target"], result.m)
        error = result.test_error[good]
        size = len(problem["train_index"])
        row = {
            "run": path.name,
            "cluster": cluster_of(result),
            "target": problem["target"],
            "optimizer": result.config["optimizer"],
            "train_size": size,
            "data_seed": problem["seed"],
            "target_lz76": float(lz76_packed(words, result.m)[0]),
            "target_entropy": float(entropy_packed(words, result.m)[0]),
            "target_log_p": known[key]["log_p"],
            "target_log_p_stderr": known[key]["log_p_stderr"],
            "test_error": float(error.mean()) if len(error) else np.nan,
            "test_error_stderr": mean_stderr(error),
            "networks": int(good.sum()),
        }
        rows.append(row)
    if not rows:
        raise StoreError(f"{train}: expected runs of simprior train below it; train first")
    return pd.DataFrame(rows)


def _log_p(result: TrainResult, seed: int, draws: int) -> dict[str, float]:
    """``log_p`` and ``log_p_stderr`` of the target under the prior of the run's networks."""
    if int(result.problem["n"]) == 0:
        raise StoreError("targets: expected Boolean inputs; leave [targets] out for real data")
    found = prior_of(result, seed, draws=draws).log_p(from_hex(result.problem["target"], result.m))
    return {name: float(value[0]) for name, value in found.items()}
