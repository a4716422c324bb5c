"""Networks: what is drawn, with which activations and losses, and how parameters are laid out.

May import: errors, checks, numerics, runs. Never boolean, gp, training, analysis, cli.

A spec comes from the user (``spec``); activations and losses are told once, each an entry of a
registry (``activations``, ``losses``; ``compiled`` for the compiled kernels); ``callables`` is the
one adapter of users' functions; ``parameters`` has the flat layout and the forward pass in torch;
``states`` reads networks from elsewhere into it.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
