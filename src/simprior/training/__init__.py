"""Training sets and trained networks.

May import: errors, checks, numerics, runs, network, boolean. Never gp, analysis, cli.

Data come from a Boolean target or from a file of real data (``targets``, ``data``,
``loaders``). ``train`` turns them into a :class:`~simprior.training.records.TrainResult`, in memory
or as a run directory; ``sweep`` into a directory of such runs; ``posterior`` into
``FunctionCounts`` of the posterior. Imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.training.records import TrainResult as TrainResult
    from simprior.training.spec import Optimizer as Optimizer
    from simprior.training.targets import Problem as Problem
    from simprior.training.targets import lz_target as lz_target
    from simprior.training.train import train as train

__getattr__, __dir__, __all__ = attach(__name__)
