"""Numbers: random streams, compiled elementary functions, estimates with their errors.

May import: errors, checks. Never network, runs, boolean, gp, training, analysis, cli.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
