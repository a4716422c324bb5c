"""Random networks drawn, and the functions that they compute counted.

May import: what :mod:`simprior.boolean` may, and that.

A job (``job``, checked by ``prepare``) is split into ranges of hidden draws; ``tasks`` computes one
with the compiled kernel (``kernel``, ``tile``, ``table``) or with torch (``torch_engine``);
``rows`` are what they found, ``merging`` adds them up (``compact``, ``adding``, ``arranging``);
``sample`` runs them all and returns ``counts``. ``watch`` follows
given functions only (``watch_kernel``), ``dnf`` samples random DNF networks, ``unseen`` estimates
what was never met, ``chains`` keeps long Markov chains in run directories."""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
