"""Recipes: stages of training, sampling, measuring, correlating and drawing, run in order.

May import: what :mod:`simprior.analysis` may.

``recipe`` reads the file, ``stages`` says what each stage does, ``run`` runs them; ``settings``
and ``logp`` have stages of their own, ``paper_tables`` the captions and headings of tables.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
