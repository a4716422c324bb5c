"""Memorisation by the Bayesian posterior under 0-1 likelihood, by expectation propagation (EP).

With example i in S the posterior gives its label for certain; without it, with probability
P(C(S)) / P(C(S without i)). So i is memorised by 1 - P(C(S)) / P(C(S without i)).

One EP fixed point of all of S gives this for every i: the cavity of i is the approximate posterior
with site i taken out, under which the label has probability Phi(z_i), z_i the cavity z-score. The
other sites are left as they are. :func:`leave_one_out` is the ratio itself, by exact estimates.
"""

from __future__ import annotations

import math

import numpy as np

from simprior.errors import NumericalError
from simprior.gp.covariance import Event, factor, make_event
from simprior.gp.ep import Sites, fit_sites
from simprior.gp.orthant import log_prior


def sites_of(K: np.ndarray, labels: np.ndarray) -> tuple[Event, Sites]:
    """The event that z ~ N(0, K) has the signs of the labels 0/1, and its EP sites.

    Raises :class:`NumericalError` if EP does not converge.
    """
    event = make_event(labels, K, factor(K))
    sites = fit_sites(event.K, event.A, event.lower)
    if not sites.converged:
        what = f"EP of {len(labels)} examples did not converge"
        raise NumericalError(f"{what}: expected a fixed point; are there equal inputs?")
    return event, sites


def memorised(K: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(k,) memorisation of each of k examples with kernel ``K`` (k, k), by the cavities of one EP.

    Its error is that of EP: some 0.01 on 120 digits. Raises :class:`NumericalError`.
    """
    from scipy.special import ndtr

    _, sites = sites_of(K, labels)
    return np.asarray(ndtr(-sites.z))


def leave_one_out(
    K: np.ndarray, labels: np.ndarray, which: np.ndarray, *, seed: int = 0, tol: float = 0.005
) -> tuple[np.ndarray, np.ndarray]:
    """(values, standard errors) of the memorisation of the examples ``which``, without EP's error.

    Two estimates of ln P(C(S)) each, by the method ``tilted``, with standard errors near ``tol``.
    """
    (whole,) = log_prior(labels, K, "tilted", n=0, seed=seed, tol=tol)
    values, errors = [], []
    for i in which:
        rest = np.delete(np.arange(len(labels)), i)
        (part,) = log_prior(labels[rest], K[np.ix_(rest, rest)], "tilted", n=0, seed=seed, tol=tol)
        share = math.exp(whole.value - part.value)
        values.append(1.0 - share)
        errors.append(share * math.hypot(whole.stderr, part.stderr))
    return np.array(values), np.array(errors)


def predict(K: np.ndarray, index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(m,) probability of output 1 on every input, given the ``labels`` of the inputs ``index``.

    ``K`` (m, m) is the kernel of all inputs. On those of ``index`` it is the label itself: their
    latent value is not what is asked. Raises :class:`NumericalError`.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.special import ndtr

    event, sites = sites_of(K[np.ix_(index, index)], labels)
    root = np.sqrt(sites.tau)
    B = np.eye(len(index)) + root[:, None] * event.K * root
    solve = cho_factor(B, lower=True)
    across = K[:, index] * event.signs  # covariance with the signed latent values
    weights = sites.nu - root * cho_solve(solve, root * (event.K @ sites.nu))
    scaled = across * root
    variance = np.diag(K) - np.einsum("ij,ji->i", scaled, cho_solve(solve, scaled.T))
    found = np.asarray(ndtr((across @ weights) / np.sqrt(np.maximum(variance, 1e-300))))
    found[index] = labels
    return found
