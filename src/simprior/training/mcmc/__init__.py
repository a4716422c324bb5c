"""The Bayesian posterior over functions of a network of finite width, P_B(f|S), by sampling.

May import: errors, rng, estimate, network, engine, store, boolean, and training.
Never gp, analysis, cli.

* ``rejection_posterior``: exact; prior draws that agree with S (any prior, P(C(S)) not tiny).
* ``slice_posterior``: elliptical slice sampling of the parameters under the 0-1 likelihood.
* ``hmc_posterior``, ``nuts_posterior``: a soft likelihood with inverse temperature beta, which
  tends to the 0-1 likelihood as beta grows.

All return :class:`~simprior.boolean.counts.FunctionCounts` with ``info["posterior"]``. Imported on
first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "rejection_posterior": "rejection",
    "slice_posterior": "slice_sampling",
    "hmc_posterior": "soft",
    "nuts_posterior": "nuts",
}

if TYPE_CHECKING:
    from simprior.training.mcmc.nuts import nuts_posterior
    from simprior.training.mcmc.rejection import rejection_posterior
    from simprior.training.mcmc.slice_sampling import slice_posterior
    from simprior.training.mcmc.soft import hmc_posterior

__all__ = ["hmc_posterior", "nuts_posterior", "rejection_posterior", "slice_posterior"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"simprior.training.mcmc.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'simprior.training.mcmc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
