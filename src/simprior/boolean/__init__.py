"""Boolean functions: inputs, truth tables, sampling, counting, symmetry, complexity.

May import: errors, rng, estimate, network, engine, store, philox, vecmath. Never gp, training,
analysis, cli.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "complexity", "counts", "dnf", "inputs", "measures", "names", "normal_forms", "sampling",
    "sensitivity", "symmetry", "truthtable", "unseen", "walsh", "watch",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"simprior.boolean.{name}")
    raise AttributeError(f"module 'simprior.boolean' has no attribute {name!r}")
