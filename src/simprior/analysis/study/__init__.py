"""Recipes: stages of training, sampling, measuring, correlating and drawing, run in order."""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
