"""ln P(f) of networks of finite width, far below what sampling can reach.

May import: errors, checks, numerics, runs, network, boolean, gp, training. Never analysis, cli.

``log_prior_by`` takes a network, functions and a method (``methods``) and returns
:class:`~simprior.numerics.estimate.LogProb` (nats). ``log_prior_finite`` is the method for all
widths: networks are annealed from the prior towards one function (``smc``) by compiled moves
(``kernels``); independent runs give the error, and checks say whether it holds (``verdict``).
``exchange`` does the same in another way. Wide networks have cheaper methods (``conditional``,
``first_order``). Annealed towards the labels of a training set, networks are draws of its posterior
(``smc_posterior``). Imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.finite.methods import log_prior_by as log_prior_by
    from simprior.finite.posterior import smc_posterior as smc_posterior
    from simprior.finite.prior import log_prior_finite as log_prior_finite

__getattr__, __dir__, __all__ = attach(__name__)
