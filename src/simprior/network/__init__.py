"""Networks: what is drawn, with which activations and losses, and how parameters are laid out.

May import: errors, checks, numerics, runs. Never boolean, gp, training, analysis, cli.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
