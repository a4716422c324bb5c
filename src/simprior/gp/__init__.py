"""Gaussian-process (infinite-width) priors over functions.

May import: errors, rng, estimate, network, engine, store, philox, boolean.
Never training, analysis, cli.

Public names, in the order in which data flows: ``nngp``, ``ntk`` (kernels of a ``Network``),
``empirical_nngp``, ``empirical_ntk`` (their Monte-Carlo twins), ``NNGPKernel``, ``NTKKernel``
(the same for gpytorch models); ``log_prior`` (ln P of any function), ``sample_posterior``,
``log_posterior`` (given a training set), ``marginal_likelihood_bound``. Imported on first use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

_NAMES = {
    "nngp": "kernels",
    "ntk": "kernels",
    "empirical_nngp": "empirical",
    "empirical_ntk": "empirical",
    "NNGPKernel": "gpytorch_kernels",
    "NTKKernel": "gpytorch_kernels",
    "METHODS": "log_prior",
    "iter_log_prior": "log_prior",
    "tilted_draws": "tilted",
    "conditional_log_prior": "finite_width",
    "Reduction": "degenerate",
    "reduce_inputs": "degenerate",
    "check_psd": "degenerate",
    "sample_posterior": "posterior",
    "log_posterior": "posterior",
    "Bound": "bounds",
    "marginal_likelihood_bound": "bounds",
}

if TYPE_CHECKING:
    from simprior.gp.bounds import Bound, marginal_likelihood_bound
    from simprior.gp.degenerate import Reduction, check_psd, reduce_inputs
    from simprior.gp.empirical import empirical_nngp, empirical_ntk
    from simprior.gp.finite_width import conditional_log_prior
    from simprior.gp.gpytorch_kernels import NNGPKernel, NTKKernel
    from simprior.gp.kernels import nngp, ntk
    from simprior.gp.log_prior import METHODS, iter_log_prior, log_prior
    from simprior.gp.posterior import log_posterior, sample_posterior
    from simprior.gp.tilted import tilted_draws

__all__ = [
    "METHODS",
    "Bound",
    "NNGPKernel",
    "NTKKernel",
    "Reduction",
    "check_psd",
    "conditional_log_prior",
    "empirical_nngp",
    "empirical_ntk",
    "iter_log_prior",
    "log_posterior",
    "log_prior",
    "marginal_likelihood_bound",
    "nngp",
    "ntk",
    "reduce_inputs",
    "sample_posterior",
    "tilted_draws",
]


class _Package(ModuleType):
    """``log_prior`` is both a module and the function in it: the package shows the function."""

    @property
    def log_prior(self) -> Any:
        return importlib.import_module("simprior.gp.log_prior").log_prior

    @log_prior.setter
    def log_prior(self, module: ModuleType) -> None:
        """The import system binds the module here; it stays in ``sys.modules``."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"simprior.gp.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'simprior.gp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
