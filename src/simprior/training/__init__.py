"""Training sets and trained networks.

May import: errors, rng, estimate, network, engine, store, boolean.
Never gp, analysis, cli.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "datasets", "ensemble", "loaders", "losses", "mcmc", "members", "optimizers", "records", "spec",
    "sweep", "targets",
)  # fmt: skip
_LAZY = {
    "train": "ensemble",
    "TrainResult": "records",
    "Optimizer": "optimizers",
    "Problem": "targets",
    "boolean_problem": "targets",
    "data_problem": "targets",
    "lz_target": "targets",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"simprior.training.{_LAZY[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"simprior.training.{name}")
    raise AttributeError(f"module 'simprior.training' has no attribute {name!r}")
