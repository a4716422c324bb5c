"""One problem, every route: from a :class:`~simprior.training.targets.Problem` (or a network) to
its posterior, to ln P of functions and of training sets, and to bounds, by whatever method.

May import: errors, checks, numerics, runs, network, boolean, gp, training, finite. ``training`` and
``gp`` do not know each other; what needs both, and only chooses between them, is here.

Data come in as arguments; what is computed goes out as the results of those packages, and into run
directories where ``out`` names one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.routes.evidence import Bounds as Bounds
    from simprior.routes.evidence import bound as bound
    from simprior.routes.evidence import log_evidence as log_evidence
    from simprior.routes.evidence import log_prior as log_prior
    from simprior.routes.posterior import posterior as posterior

__getattr__, __dir__, __all__ = attach(__name__)
