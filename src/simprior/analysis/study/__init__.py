"""Recipes: stages of training, sampling, measuring, correlating and drawing, run in order.

May import: what :mod:`simprior.analysis` may.

``recipe`` reads the file, ``stages`` says what each stage does, ``run`` runs them; ``logp`` is a
stage of its own, ``paper_tables`` has the captions and headings of tables.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
