"""Sensitivity of random and trained classifiers of bit strings too long for a truth table.

May import: what :mod:`simprior.analysis` may.

De Palma, Kiani & Lloyd (NeurIPS 2019): the Hamming distance from a random string to the nearest
string of the other class, and the number of random bits flipped until the class changes.

``settings`` says what is measured; ``networks`` draws a classifier and centres it at a start
string; ``search`` finds the nearest input of another class, by search or exactly from a truth
table; ``predictions`` has what the infinitely wide network predicts, and the fits; ``run`` does it
for many random networks, and for trained ones.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
