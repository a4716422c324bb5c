"""EP and the twisted Gaussian of an event on thousands of inputs, with six (m, m) matrices at most.

The same quantities as :func:`simprior.gp.ep.fit_sites` and :func:`simprior.gp.twist.make_twist`
give, for covariances of full rank, where every matrix counts (0.8 GB each at m = 10,000). Nothing
is kept that can be made again, all is done in place by tiles (:mod:`simprior.gp.tiles`), and signs
are applied where entries are read.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.linalg import solve_triangular

from simprior.gp.covariance import Event
from simprior.gp.ep import (
    PANEL,
    SKIP,
    TOL,
    Sites,
    delayed_sweep,
    diverged,
    site_value,
    sweep_until,
)
from simprior.gp.tiles import Run, cholesky, gram, solve_right, symmetrise_tiles, team, tiles
from simprior.gp.twist import Twist

BLOCK = 128  # sites between updates of the covariance; of more, rounding errors grow
MAX_SWEEPS = 100


def fit_sites_in_place(
    event: Event,
    *,
    tol: float = TOL,
    max_sweeps: int = MAX_SWEEPS,
    damping: float = 1.0,
    verify: bool = True,
) -> Sites:
    """EP sites of an event of full rank; two matrices are alive, K among them, and five where the
    sweeps start anew from the sites.

    Arguments as those of :func:`simprior.gp.ep.fit_sites`. Sites that grow without bound give a
    result of NaN that is not converged.
    """
    m = event.m
    tau, nu, mean = np.zeros(m), np.zeros(m), np.zeros(m)
    with team() as run:
        cov = _scaled(event, np.ones(m), np.empty((m, m)), run)

        def sweep(damping: float) -> float:
            threshold = SKIP * tol
            return delayed_sweep(cov, mean, tau, nu, event.lower, damping, threshold, BLOCK, run)

        def start_anew() -> bool:
            if not _finite(tau, nu):
                return False
            mean[:] = posterior(event, tau, nu, cov, run)
            return True

        delta, sweeps = sweep_until(sweep, start_anew, tol, max_sweeps, damping, verify)
        if not _finite(tau, nu):
            return diverged(m, sweeps)
        variance = cov.diagonal().copy()
        _noise_factor(event, tau, cov, run)
    logdet = float(np.log(cov.diagonal()).sum())
    z, logz = site_value(tau, nu, mean, variance, event.lower, logdet)
    return Sites(tau, nu, mean, variance, z, logz, delta < tol, sweeps, delta)


def _finite(*arrays: np.ndarray) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _scaled(event: Event, scale: np.ndarray, out: np.ndarray, run: Run) -> np.ndarray:
    """K diag(scale), K with the signs of the function, into ``out``."""
    signs = event.signs

    def fill(rows: slice) -> None:
        np.multiply(event.unsigned[rows], signs * scale, out=out[rows])
        out[rows] *= signs[rows, None]

    run(fill, tiles(event.m))
    return out


def _noise_factor(event: Event, tau: np.ndarray, out: np.ndarray, run: Run) -> None:
    """Cholesky factor of I + T^1/2 K T^1/2 into ``out``; its determinant is that of I + A^T T A."""
    root = np.sqrt(tau)
    _scaled(event, root, out, run)
    out *= root[:, None]
    out.reshape(-1)[:: event.m + 1] += 1.0
    cholesky(out, run)


def posterior(
    event: Event, tau: np.ndarray, nu: np.ndarray, out: np.ndarray, run: Run
) -> np.ndarray:
    """Mean of the posterior from the sites; its covariance (lower triangle) into ``out``.

    The covariance is C C^T, with C of :func:`make_twist_in_place` at kappa = 1: a product, which
    loses nothing where the posterior is far narrower than the prior.
    """
    m = event.m
    L, inner, F = np.empty((m, m)), np.zeros((m, m)), np.empty((m, m))
    _permuted_factor(event, np.arange(m), L, run)
    _inner(L, tau, F, inner, run)
    _information(inner, 1.0, F, run)
    _reverse_columns(L)
    solve_right(L, F, run, partial(_zeros, m))
    gram(L, out, run, partial(_zeros, m))
    symmetrise_tiles(out, PANEL)  # sweeps read the blocks on the diagonal as a whole
    return np.asarray(L @ (L.T @ nu))


def _zeros(m: int, rows: slice) -> int:
    """Leading zeros of all of the rows ``rows`` of a lower triangle with its columns reversed."""
    return m - rows.stop


def _inner(L: np.ndarray, tau: np.ndarray, scratch: np.ndarray, out: np.ndarray, run: Run) -> None:
    """R L^T diag(tau) L R into ``out`` (lower triangle), R the reversal of coordinates."""
    np.multiply(L.T[::-1], np.sqrt(tau), out=scratch)
    gram(scratch, out, run, partial(_zeros, len(L)))


def _reverse_columns(A: np.ndarray) -> None:
    for rows in tiles(len(A)):
        A[rows] = A[rows, ::-1].copy()


def make_twist_in_place(event: Event, sites: Sites, kappa: np.ndarray) -> Twist:
    """The twisted Gaussians of an event of full rank. At the peak K, that of the sites, a buffer
    and one matrix a temperature are alive: six with three temperatures.

    With R the reversal of the latent coordinates, J = I + kappa L^T T L = U U^T and
    C = L U^-T: the Cholesky factor of R J R is F = R U R, and C = (L R) F^-T R. Row i of L R starts
    with m - 1 - i zeros, and so does that of (L R) F^-T.
    """
    m, k = event.m, len(kappa)
    order = np.argsort(sites.z, kind="stable")
    tau, nu = sites.tau[order], sites.nu[order]
    C, inner, F = np.empty((k, m, m)), np.zeros((m, m)), np.empty((m, m))
    L, logdet = C[k - 1], np.empty(k)

    with team() as run:
        _permuted_factor(event, order, L, run)
        _inner(L, tau, F, inner, run)
        _information(inner, 1.0, F, run)
        mean = L @ _solved(F, L.T @ nu)
        for t, value in enumerate(kappa):
            if value != 1.0 or t > 0:
                _information(inner, value, F, run)
            logdet[t] = np.log(F.diagonal()).sum()
            for rows in tiles(m):
                C[t, rows] = L[rows, ::-1].copy()  # C[k - 1] is L itself
            solve_right(C[t], F, run, partial(_zeros, m))
            _reverse_columns(C[t])
    slope = nu - tau * mean
    return Twist(
        order=order,
        rest=np.empty(0, np.intp),
        B=np.empty((0, m)),
        last=np.empty(0, np.intp),
        kappa=kappa,
        C=C,
        logdet=logdet,
        removed=np.outer(kappa, tau),
        mean=mean,
        tau=tau,
        slope=slope,
        lower=event.lower[order],
        base=-0.5 * float(mean @ slope),
    )


def _permuted_factor(event: Event, order: np.ndarray, out: np.ndarray, run: Run) -> None:
    """Cholesky factor of K in the order ``order``, into ``out``, from that of the correlations."""
    scale, signs = event.factor.scale[order], event.signs[order]
    weights = signs / scale

    def fill(rows: slice) -> None:
        np.take(event.unsigned[order[rows]], order, axis=1, out=out[rows])
        out[rows] *= weights
        out[rows] *= weights[rows, None]

    run(fill, tiles(event.m))
    cholesky(out, run)
    out *= scale[:, None]


def _information(inner: np.ndarray, kappa: float, out: np.ndarray, run: Run) -> None:
    """Cholesky factor of I + kappa ``inner`` into ``out``."""
    np.multiply(inner, kappa, out=out)
    out.reshape(-1)[:: len(out) + 1] += 1.0
    cholesky(out, run)


def _solved(F: np.ndarray, x: np.ndarray) -> np.ndarray:
    """J^-1 x, from the factor F of J in reversed coordinates."""
    half = solve_triangular(F, x[::-1], lower=True, check_finite=False)
    return np.asarray(solve_triangular(F, half, lower=True, trans="T", check_finite=False)[::-1])
