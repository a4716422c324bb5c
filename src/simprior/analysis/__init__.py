"""Figures, tables and comparisons: reads what the layers below have recorded, draws and formats it.

May import: errors, rng, estimate, network, engine, store, philox, vecmath, boolean, gp, training.
Never cli.

Statistics (``*_stats``) turn records into tables; figures (``figures_*``) only draw tables;
``plots`` and ``tables`` write files. matplotlib is used through Figure objects: no window, no
global state, the caller's backend is left alone.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "agreement", "compare", "compare_stats", "complexity_stats", "distances", "errors_stats",
    "figures_compare", "figures_counts", "figures_gp", "numbers", "plots", "rank_stats", "resample",
    "sides", "style", "tables",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"simprior.analysis.{name}")
    raise AttributeError(f"module 'simprior.analysis' has no attribute {name!r}")
