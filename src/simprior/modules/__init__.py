"""Any torch module as a random function: its parameters, their law, many of them at once.

May import: errors, checks, numerics, runs, network. Never boolean, gp, training, analysis, cli.

A user's factory or one of the ``shipped`` architectures comes as a :class:`Module` (``spec``),
which is an :class:`Architecture` (``architecture``). ``build`` makes the module once and tests that
it is a function of each input alone; ``laws`` says what each parameter is drawn from, and ``own``
what the module's own initialiser would draw; ``draws`` draws the parameters of many networks.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
