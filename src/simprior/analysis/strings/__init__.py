"""Sensitivity of random and trained classifiers of bit strings too long for a truth table.

May import: what :mod:`simprior.analysis` may.

De Palma, Kiani & Lloyd (NeurIPS 2019): the Hamming distance from a random string to the nearest
string of the other class, and the number of random bits flipped until the class changes.

``networks`` draws a classifier and centres it at a start string; ``flips`` and ``nearest`` measure
it; ``tables`` does both exactly from truth tables; ``gp_prediction`` gives what the infinitely wide
network predicts; ``records`` runs many networks, ``output`` reads what they gave;
``scaling`` summarises and fits; ``box`` is the critical sample ratio of networks on real data.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
