"""Flatness of trained networks, for whole ensembles at once (docs/flatness.md).

May import: what :mod:`simprior.analysis` may.

An :class:`~simprior.analysis.flatness.ensemble.Ensemble` holds the weights of N networks, trained
again from their run; every measure takes one and returns arrays of length N, which ``measure`` puts
into its table. The registry of measures lists them by group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.analysis.flatness.ensemble import Ensemble as Ensemble

__getattr__, __dir__, __all__ = attach(__name__)
