"""A table with a row a network (or function): who it is, and what was measured of it."""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
