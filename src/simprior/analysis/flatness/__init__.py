"""Flatness of trained networks, for whole ensembles at once (docs/flatness.md).

An :class:`~simprior.analysis.flatness.ensemble.Ensemble` holds N networks; every measure takes one
and returns arrays of length N. ``measure_names.WEIGHT_GROUPS`` lists them by group.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {"Ensemble": "ensemble"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"simprior.analysis.flatness.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'simprior.analysis.flatness' has no attribute {name!r}")
