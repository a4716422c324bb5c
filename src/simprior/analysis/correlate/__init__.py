"""What predicts the test error? Correlations with intervals and tests, and their baselines.

May import: what :mod:`simprior.analysis` may.

Data come as a table with a row a network (``simprior measure`` writes it) and leave as
:class:`~simprior.analysis.correlate.correlations.Correlations`, in memory or as a run directory.

``correlate`` is the public function (module ``correlations``). ``controls`` has its arguments and
points, ``kernels`` the compiled coefficients, ``intervals`` the bootstrap, ``tests`` the
permutation tests and baselines, ``environments`` the analyses of Jiang et al. (2020) and Dziugaite
et al. (2020), ``checks`` what is refused, ``words`` the verdict and the table for a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simprior._attach import attach

if TYPE_CHECKING:
    from simprior.analysis.correlate.correlations import Correlations as Correlations
    from simprior.analysis.correlate.correlations import correlate as correlate

__getattr__, __dir__, __all__ = attach(__name__)
