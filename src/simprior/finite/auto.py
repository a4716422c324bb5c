"""The method for each function by itself: exact, conditional where its spread allows, else smc.

* A network without hidden layers is its own limit. So is a linear network without biases, whose
  weights multiply to a vector in a uniformly random direction. P(f) is an orthant probability
  there, estimated by ``tilted``.
* ``SCREEN`` draws of the hidden layers tell for each function whether the conditional estimator can
  average over them. If so it goes on from these draws. It is kept if it ends up trusted.
* All other functions are annealed (``smc``).
"""

from __future__ import annotations

import numpy as np

from simprior.boolean.truthtable import input_matrix
from simprior.finite.attempts import Effort
from simprior.finite.conditional import Conditional, Drawn, finished
from simprior.finite.prior import estimate
from simprior.gp.finite_width import MAX_SPREAD
from simprior.gp.kernels import nngp
from simprior.gp.orthant import log_prior
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir
from simprior.runs.tasks import RunOptions

SCREEN = 60  # draws of the hidden layers that decide whether more are worth it


def estimate_auto(
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P of (F, m) truth tables, each by the method that suits it; ``method`` names it."""
    if is_its_limit(network):
        K = nngp(network, input_matrix(network))
        n = network.n if network.inputs is None else 0
        draws, tol = effort.draws, effort.tol
        return log_prior(tables, K, "tilted", n=n, seed=seed, draws=draws, tol=tol)
    screened = Drawn(Conditional(network, tables, seed), options, store).more(SCREEN)
    spreads = [one.diagnostics["spread"] for one in screened.results()]
    steady = [i for i, spread in enumerate(spreads) if spread <= MAX_SPREAD]  # nan is not
    found: dict[int, LogProb] = {}
    if steady:
        results = finished(screened.only(steady), effort)
        pairs = zip(steady, results, strict=True)
        found = {i: one for i, one in pairs if one.diagnostics["reliable"]}
    rest = [i for i in range(len(tables)) if i not in found]
    if rest:
        annealed = estimate(network, tables[rest], effort, seed, options, store)
        found |= dict(zip(rest, annealed, strict=True))
    return [found[i] for i in range(len(tables))]


def is_its_limit(network: Network) -> bool:
    """Whether P(f) is that of the infinitely wide network, whatever the widths."""
    return not network.depth or (network.activation == "linear" and not any(network.sigma_bs))
