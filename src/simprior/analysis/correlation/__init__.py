"""What predicts the test error? Correlations with honest intervals, and their baselines.

May import what :mod:`simprior.analysis` may. ``correlate`` is the public function (module
``correlations``; ``setup`` has its arguments and points); ``_kernels`` the compiled coefficients,
``intervals`` the bootstrap, ``permutation`` the tests, ``granulated`` and ``environments`` the
analyses of Jiang et al. (2020) and Dziugaite et al. (2020), which ``controlled`` calls,
``baselines`` class imbalance, ``checks`` what is refused, ``output`` the files.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("correlate", "Correlations"):
        from simprior.analysis.correlation import correlations as module

        return getattr(module, name)
    raise AttributeError(f"module 'simprior.analysis.correlation' has no attribute {name!r}")
