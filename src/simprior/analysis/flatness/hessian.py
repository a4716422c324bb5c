"""Curvature of the training loss: largest eigenvalue and trace of the Hessian, units of the loss.

The Hessian is that of the mean loss on everything fitted, with respect to all weights and biases,
attack points included. At kinks of piecewise linear activations (a null set) it is what automatic
differentiation gives: the second derivative of relu is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness._curvature import exact_cost, exact_trace
from simprior.analysis.flatness._lanczos import top_eigenvalues
from simprior.analysis.flatness._random import normals, signs
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError

Tensor = torch.Tensor
EXACT_SIZE, DRAWS = 5000, 64
METHODS = ("auto", "exact", "hutchinson")


@dataclass(frozen=True, eq=False)
class TopEigenvalue:
    """(N,) arrays: ``value`` the largest eigenvalue; ``residual`` |H v - value v| / |value| of its
    unit vector v (an eigenvalue lies that close); ``converged``; ``products`` with H done."""

    value: np.ndarray
    residual: np.ndarray
    converged: np.ndarray
    products: np.ndarray


def hessian_top(
    ensemble: Ensemble, seed: int = 0, *, tolerance: float = 1e-7, iterations: int = 200
) -> TopEigenvalue:
    """Largest (algebraic) eigenvalue of every network's Hessian.

    Lanczos with full reorthogonalisation from a random vector, until the residual is at most
    ``tolerance`` times the value (the error of the value is of second order in it) or after
    ``iterations`` products. Networks that have converged leave the batch.

    Raises :class:`InputError` for an activation without gradients.
    """

    def measure(part: Ensemble) -> dict[str, Tensor]:
        start = normals(part, seed, "lanczos", 1)[:, 0]
        value, residual, products = top_eigenvalues(part, start, tolerance, iterations)
        good = residual <= tolerance
        return {"value": value, "residual": residual, "converged": good, "products": products}

    return TopEigenvalue(**ensemble.per_chunk(measure, 8 * ensemble.pass_numbers))


@dataclass(frozen=True, eq=False)
class Trace:
    """(N,) arrays: ``value`` the trace, ``stderr`` its standard error (0: exact); ``method``."""

    value: np.ndarray
    stderr: np.ndarray
    method: str


def hessian_trace(
    ensemble: Ensemble, seed: int = 0, *, method: str = "auto", draws: int = DRAWS
) -> Trace:
    """Trace of every network's Hessian.

    Parameters
    ----------
    ensemble, seed
        Networks; seed of the random vectors.
    method : str
        ``exact``: second-order back-propagation (``_curvature``), any activation and size.
        ``hutchinson``: mean of v.Hv over ``draws`` random sign vectors (Hutchinson 1989) with the
        standard error of that mean. ``auto``: exact for P <= 5,000 and wherever it costs no more
        than Hutchinson's estimate (always for relu and with one or two hidden layers).

    Raises
    ------
    InputError
        Unknown method, fewer than 2 draws, or an activation without gradients.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r}", f"one of {', '.join(METHODS)}", "pass auto")
    if method == "auto":
        sampled = 12.0 * draws * ensemble.examples * ensemble.size
        small = ensemble.size <= EXACT_SIZE or exact_cost(ensemble) <= sampled
        method = "exact" if small else "hutchinson"
    if method == "exact":
        found = ensemble.per_chunk(exact_trace, 2 * ensemble.pass_numbers)
        return Trace(found["trace"], np.zeros(len(ensemble)), method)
    if draws < 2:
        raise InputError(f"draws={draws}", "at least 2", f"pass for example draws={DRAWS}")

    def measure(part: Ensemble) -> dict[str, Tensor]:
        vectors = signs(part, seed, "hutchinson", draws)
        p = part.passes.point(part.parameters, part.X, part.labels(), part.loss)
        each = torch.stack([(v * part.passes.hvp(p, v)).sum(1) for v in vectors.unbind(1)], dim=1)
        return {"trace": each.mean(1), "stderr": each.std(1) / draws**0.5}

    found = ensemble.per_chunk(measure, 16 * ensemble.pass_numbers + draws * ensemble.size)
    return Trace(found["trace"], found["stderr"], method)
