"""Figures, tables and comparisons: reads what the layers below have recorded, draws and formats it.

May import: errors, rng, estimate, network, engine, store, philox, vecmath, boolean, gp, training.
Never cli.

``measure`` makes the table of networks (``records`` who they are, ``measure_groups`` the columns,
``measure_names`` what each is); ``flatness`` and ``hamming`` are its larger families of measures;
``correlation`` asks what predicts the error; ``study`` and ``study_*`` run recipes; ``report``
makes the page.

Statistics (``*_stats``) turn records into tables; ``figures`` only draws tables; ``plots``
draws what a run supports, ``tables`` writes tables. matplotlib is used through Figure objects: no
window, no global state, the caller's backend is left alone.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "agreement", "compare", "compare_stats", "complexity_stats", "correlation", "distances",
    "errors_stats", "figures", "flatness", "hamming", "measure", "measure_groups", "measure_names",
    "measure_sources", "numbers", "plots", "prior_measures", "rank_stats", "records", "report",
    "resample", "rescaling", "run_tables", "sides", "study", "study_run", "tables",
    "tables_latex",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"simprior.analysis.{name}")
    raise AttributeError(f"module 'simprior.analysis' has no attribute {name!r}")
