"""The Bayesian posterior over functions of a network of finite width, P_B(f|S), by sampling.

May import: what :mod:`simprior.training` may, and that.

* ``rejection_posterior``: exact; prior draws that agree with S (any prior, P(C(S)) not tiny).
* ``slice_posterior``: elliptical slice sampling of the parameters under the 0-1 likelihood.
* ``hmc_posterior``, ``nuts_posterior``: a soft likelihood with inverse temperature beta, which
  tends to the 0-1 likelihood as beta grows.

All take a network and a training set S and return
:class:`~simprior.boolean.sampling.counts.FunctionCounts` with ``info["posterior"]``. Imported on
first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.training.posterior.module_slice import (
        module_slice_posterior as module_slice_posterior,
    )
    from simprior.training.posterior.nuts import nuts_posterior as nuts_posterior
    from simprior.training.posterior.rejection import rejection_posterior as rejection_posterior
    from simprior.training.posterior.slice import slice_posterior as slice_posterior
    from simprior.training.posterior.soft import hmc_posterior as hmc_posterior

__getattr__, __dir__, __all__ = attach(__name__)
