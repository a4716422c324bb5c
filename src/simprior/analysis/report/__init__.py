"""One self-contained page about a run directory.

May import: what :mod:`simprior.analysis` may.

``page`` decides what is on the page; its HTML comes from the template beside it.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
