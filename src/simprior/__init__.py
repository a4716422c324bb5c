"""simprior: priors over functions of random neural networks, with an error bar on every estimate.

Public names, in the order in which data flows: ``Network`` / ``Module`` (any torch module) /
``RandomDNF`` (the prior over parameters) -> ``sample`` (functions and counts) ->
``FunctionCounts`` (P(f) with intervals);
``gp`` (infinite-width priors: kernels, ln P(f) of any function, posteriors) -> ``train`` (functions
found by ensembles of trained networks) -> ``compare`` (two sets of counts) -> ``measure`` (a
row a network: flatness, complexity, ln P) -> ``correlate`` (what predicts the test error).
``load`` reads what any of them left in a run directory.

May import: everything, since it is the front door; names are imported on first use, so that
``import simprior`` is quick. Nothing below imports from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior import analysis as analysis
    from simprior import boolean as boolean
    from simprior import gp as gp
    from simprior import routes as routes
    from simprior import training as training
    from simprior.analysis import plot as plot
    from simprior.analysis.compare.comparison import compare as compare
    from simprior.analysis.correlate.correlations import correlate as correlate
    from simprior.analysis.loading import load as load
    from simprior.analysis.measure.table import measure as measure
    from simprior.analysis.rare.run import rare as rare
    from simprior.analysis.table_runs import sensitivity as sensitivity
    from simprior.boolean.sampling.counts import FunctionCounts as FunctionCounts
    from simprior.boolean.sampling.dnf import RandomDNF as RandomDNF
    from simprior.boolean.sampling.sample import sample as sample
    from simprior.boolean.sampling.watch import watch as watch
    from simprior.errors import InputError as InputError
    from simprior.errors import SimpriorError as SimpriorError
    from simprior.gp.architectures import kernel as kernel
    from simprior.modules.architecture import Architecture as Architecture
    from simprior.modules.spec import Module as Module
    from simprior.network.spec import Network as Network
    from simprior.numerics.estimate import LogProb as LogProb
    from simprior.routes.evidence import bound as bound
    from simprior.routes.evidence import log_evidence as log_evidence
    from simprior.routes.evidence import log_prior as log_prior
    from simprior.routes.posterior import posterior as posterior
    from simprior.training.targets import Problem as Problem
    from simprior.training.train import train as train

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach(__name__)
