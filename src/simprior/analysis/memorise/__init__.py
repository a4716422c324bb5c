"""Memorised examples: which labels does a learner know only because it has seen them?

An example is memorised as far as its label is found with it in the training set and not without
(Feldman & Zhang 2020). ``bayes`` has it for the Bayesian posterior, from expectation propagation;
``subsets`` for trained networks, from training on random subsets; ``run`` compares the two.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
