"""Numbers: random streams, compiled elementary functions, estimates with their errors.

May import: errors, checks. Never network, runs, boolean, gp, training, analysis, cli.

``random`` gives streams and keys, ``compiled`` elementary functions, counter-based random numbers
and the standard normal for compiled code, ``estimate`` what every estimator returns: a value with
its standard error.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
