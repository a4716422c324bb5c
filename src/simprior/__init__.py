"""simprior: priors over functions of random neural networks, with an error bar on every estimate.

Public names, in the order in which data flows: ``Network`` / ``RandomDNF`` (the prior over
parameters) -> ``sample`` (functions and counts) -> ``FunctionCounts`` (P(f) with intervals);
``gp`` (infinite-width priors: kernels, ln P(f) of any function, posteriors) -> ``train`` (functions
found by ensembles of trained networks) -> ``compare`` (two sets of counts) -> ``measure_runs`` (a
row a network: flatness, complexity, ln P) -> ``correlate`` (what predicts the test error). Names
are imported on first use, so that ``import simprior`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Network": "simprior.network",
    "RandomDNF": "simprior.boolean.dnf",
    "sample": "simprior.boolean.sampling",
    "FunctionCounts": "simprior.boolean.counts",
    "watch": "simprior.boolean.watch",
    "train": "simprior.training.ensemble",
    "compare": "simprior.analysis.compare",
    "measure_runs": "simprior.analysis.measure",
    "correlate": "simprior.analysis.correlation.correlations",
    "LogProb": "simprior.estimate",
    "SimpriorError": "simprior.errors",
    "InputError": "simprior.errors",
}
_MODULES = ("boolean", "gp", "training", "analysis")

if TYPE_CHECKING:
    from simprior.analysis.compare import compare
    from simprior.analysis.correlation.correlations import correlate
    from simprior.analysis.measure import measure_runs
    from simprior.boolean.counts import FunctionCounts
    from simprior.boolean.dnf import RandomDNF
    from simprior.boolean.sampling import sample
    from simprior.boolean.watch import watch
    from simprior.errors import InputError, SimpriorError
    from simprior.estimate import LogProb
    from simprior.network import Network
    from simprior.training.ensemble import train

__all__ = [
    "FunctionCounts",
    "InputError",
    "LogProb",
    "Network",
    "RandomDNF",
    "SimpriorError",
    "__version__",
    "compare",
    "correlate",
    "measure_runs",
    "sample",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"simprior.{name}")
    raise AttributeError(f"module 'simprior' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
