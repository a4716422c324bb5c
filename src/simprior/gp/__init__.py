"""Gaussian-process (infinite-width) priors over functions.

May import: errors, checks, numerics, runs, network, modules, boolean. Never training, analysis,
cli.

Public names, in the order in which data flows: ``nngp``, ``ntk`` (kernels of a ``Network``),
``kernel`` (of any architecture; a ``SampledKernel`` where it has no closed form),
``empirical_nngp``, ``empirical_ntk`` (their Monte-Carlo twins), ``NNGPKernel``, ``NTKKernel``
(the same for gpytorch models); ``log_prior`` (ln P of any function), ``sample_posterior``,
``log_posterior`` (given a training set), ``marginal_likelihood_bound``. Kernels come from networks
and inputs, functions from ``boolean``; estimates leave as
:class:`~simprior.numerics.estimate.LogProb` (nats), as tables and as ``FunctionCounts``. Imported
on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.gp.architectures import kernel as kernel
    from simprior.gp.covariance import Reduction as Reduction
    from simprior.gp.covariance import check_psd as check_psd
    from simprior.gp.covariance import reduce_inputs as reduce_inputs
    from simprior.gp.finite_width import conditional_log_prior as conditional_log_prior
    from simprior.gp.finite_width import empirical_nngp as empirical_nngp
    from simprior.gp.finite_width import empirical_ntk as empirical_ntk
    from simprior.gp.gpytorch_kernels import NNGPKernel as NNGPKernel
    from simprior.gp.gpytorch_kernels import NTKKernel as NTKKernel
    from simprior.gp.kernels import nngp as nngp
    from simprior.gp.kernels import ntk as ntk
    from simprior.gp.orthant import METHODS as METHODS
    from simprior.gp.orthant import iter_log_prior as iter_log_prior
    from simprior.gp.orthant import log_prior as log_prior
    from simprior.gp.posterior import Bound as Bound
    from simprior.gp.posterior import log_posterior as log_posterior
    from simprior.gp.posterior import marginal_likelihood_bound as marginal_likelihood_bound
    from simprior.gp.posterior import sample_posterior as sample_posterior
    from simprior.gp.sampled import SampledKernel as SampledKernel
    from simprior.gp.tilted import tilted_draws as tilted_draws

__getattr__, __dir__, __all__ = attach(__name__)
