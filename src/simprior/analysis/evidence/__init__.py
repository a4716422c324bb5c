"""The evidence set: findings about deep networks, each asked of prior, posterior and optimiser.

An *experiment* (:mod:`~simprior.analysis.evidence.experiments`) is a frozen dataclass that computes
rows for independent data sets; a recipe of ``simprior study`` runs it as a stage ``[evidence]``.
Its *findings* (:mod:`~simprior.analysis.evidence.findings`) are contrasts over the data sets with
intervals; the table of all of them is corrected for their number before it says a verdict.

Larger mathematics is in modules of its own, which know nothing of recipes or files:
``linear_nets`` (deep linear networks and matrix completion), ``survival`` (censored times),
:mod:`simprior.analysis.memorise`.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
