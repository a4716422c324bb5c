"""Rare outputs of one given network: how probable is an output that hardly any input gives?

``given`` finds the network, ``laws`` has the laws of its inputs, ``question`` asks about an event.
Estimators: ``weighted`` (plain and importance sampling), ``particles`` (along Metropolis chains),
``moments`` (Gaussian propagation), ``extrapolate`` (normal laws fitted to activations). ``methods``
is the table of them; ``run`` holds them against each other and against exact enumeration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.analysis.rare.run import RareOutputs as RareOutputs
    from simprior.analysis.rare.run import rare as rare

__getattr__, __dir__, __all__ = attach(__name__)
