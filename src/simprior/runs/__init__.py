"""Run directories and the running of tasks in processes and on clusters.

May import: errors, checks. Never network, numerics, boolean, gp, training, analysis, cli.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
