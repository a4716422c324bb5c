"""Training sets and trained networks.

May import: errors, rng, estimate, network, engine, store, boolean.
Never gp, analysis, cli.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("datasets",)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"simprior.training.{name}")
    raise AttributeError(f"module 'simprior.training' has no attribute {name!r}")
