"""Boolean functions: inputs, truth tables, names, complexity, symmetry; sampling and counting them.

May import: errors, checks, numerics, runs, network, modules. Never gp, training, analysis, cli.

Data come from the user (functions by name or as bits, networks) and from run directories and text
files of functions; they leave as :class:`~simprior.boolean.sampling.counts.FunctionCounts`, in
memory or as a run directory. Modules are imported on first use.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
