"""Two priors or posteriors compared, function by function.

May import: what :mod:`simprior.analysis` may.

``comparison`` is the public function; ``sources`` reads the two sides, ``statistics``,
``distances`` and ``errors`` (of the functions, on test inputs) compute, ``verdict`` says in words
what was found.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
