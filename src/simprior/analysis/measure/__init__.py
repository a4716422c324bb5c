"""A table with a row a network (or function): who it is, and what was measured of it.

May import: what :mod:`simprior.analysis` may.

``registry`` tells every measure once, ``settings`` every setting; ``sources`` finds networks and
functions, ``groups`` and ``prior`` compute the columns, ``table`` puts them together.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
