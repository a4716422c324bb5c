"""Gaussian propagation: mean and covariance of a network's fields, layer by layer.

The fields of a layer are taken to be jointly normal, with the mean and covariance that follow from
the layer below. Then so is the output, and P is a normal tail. It is exact for a linear network and
a Gaussian input; else it is an approximation, whose error it cannot tell.

Second moments of an activation f under (u, v) ~ N((a, b), [[A, C], [C, B]]): closed forms for relu,
linear and step (truncated bivariate normal moments, Rosenbaum 1961; the bivariate normal integral
by Owen's T), for every other f a product of two Gauss-Hermite rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import log_ndtr, ndtr, owens_t

from simprior.analysis.rare.question import Question, finding
from simprior.network.callables import array_function
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb

NODES = (48, 64)
"""Nodes of the quadrature for the check of its error, and of the result."""
_BLOCK = 1 << 10  # pairs of units at a time
_FLAT = 1e-24  # variances relative to the largest: constant units
_DIFFERENT = 0.01  # nats


def gaussian(question: Question) -> LogProb:
    """ln P of the normal law that propagation gives the output; its standard error is not known
    (nan), or 0 where it is exact. Raises :class:`InputError` for modules without layers."""
    closed = question.given.layers.network.activation_name in _CLOSED
    found = [_tail(question, nodes) for nodes in (NODES[-1:] if closed else NODES)]
    notes: tuple[str, ...] = ()
    if abs(found[0] - found[-1]) > _DIFFERENT:
        notes = (f"the quadrature is off by about {abs(found[0] - found[-1]):.2g} nats",)
    exact = is_exact(question)
    return finding("gaussian", found[-1], 0.0 if exact else math.nan, notes=notes)


def is_exact(question: Question) -> bool:
    """Whether the output is normal: a linear network and a Gaussian law of inputs."""
    plain = question.given.plain
    linear = plain is not None and (plain.activation_name == "linear" or not plain.hidden)
    return linear and question.law.name != "bits"


def _tail(question: Question, nodes: int) -> float:
    mean, variance = output_moments(question, nodes)
    gap = mean - question.threshold if question.above else question.threshold - mean
    if variance <= 0:
        return 0.0 if question.of_outputs(np.array([mean]))[0] > 0 else -math.inf
    return float(log_ndtr(gap / math.sqrt(variance)))


def output_moments(question: Question, nodes: int = NODES[-1]) -> tuple[float, float]:
    """Mean and variance of the output z under Gaussian propagation."""
    layers = question.given.layers
    mean, covariance = question.law.moments()
    for number, (w, b) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        if number:
            mean, covariance = activated(layers.network, mean, covariance, nodes)
        mean, covariance = mean @ w + b, w.T @ covariance @ w
    return float(mean[0]), float(covariance[0, 0])


def activated(
    network: Network, mean: np.ndarray, covariance: np.ndarray, nodes: int = NODES[-1]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) and covariance (k, k) of the activations of normal fields (k,).

    ``nodes``: of each quadrature, where there is no closed form.
    """
    moments = _CLOSED.get(network.activation_name) or _quadrature(network, nodes)
    sd = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    flat = sd <= math.sqrt(_FLAT) * max(float(sd.max()), 1e-150)
    safe = np.where(flat, 1.0, sd)
    rows, columns = np.triu_indices(len(mean))
    rho = covariance[rows, columns] / (safe[rows] * safe[columns])
    rho = np.where(rows == columns, 1.0, np.clip(rho, -1.0, 1.0))
    out = np.empty((len(mean), len(mean)))
    for start in range(0, len(rows), _BLOCK):
        i, j = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        at = rho[start : start + _BLOCK]
        out[i, j] = out[j, i] = moments(mean[i], mean[j], safe[i], safe[j], at)
    first = _first(network, mean, safe, nodes)
    found = out - np.outer(first, first)
    constant = array_function(network)(mean)
    first = np.where(flat, constant, first)
    found[flat] = 0.0
    found[:, flat] = 0.0
    return first, found


def _first(network: Network, mean: np.ndarray, sd: np.ndarray, nodes: int) -> np.ndarray:
    """(k,) means of the activations."""
    name, h = network.activation_name, mean / sd
    if name == "relu":
        return np.asarray(mean * ndtr(h) + sd * _density(h))
    if name == "linear":
        return mean
    if name == "step":
        return np.asarray(ndtr(h))
    at, weights = _rule(nodes)
    values = array_function(network)(mean[:, None] + sd[:, None] * at)
    return np.asarray(values @ weights)


def _density(h: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * h * h) / math.sqrt(2.0 * math.pi)


def bivariate_cdf(h: np.ndarray, k: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """P(X <= h, Y <= k) of standard normal X, Y with correlation ``rho`` (Owen 1956)."""
    h, k = (np.where(x == 0.0, 1e-300, x) for x in (h, k))
    r = np.sqrt(np.maximum((1.0 - rho) * (1.0 + rho), 1e-30))
    with np.errstate(over="ignore"):
        first = owens_t(h, (k / h - rho) / r)
        second = owens_t(k, (h / k - rho) / r)
    opposite = np.where(np.sign(h) * np.sign(k) < 0, 0.5, 0.0)
    found = 0.5 * (ndtr(h) + ndtr(k)) - first - second - opposite
    return np.asarray(np.clip(found, 0.0, 1.0))


def _relu(
    a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    """E[relu(u) relu(v)] of means ``a``, ``b``, deviations ``s``, ``t``, correlation ``rho``."""
    h, k = a / s, b / t
    r2 = np.maximum((1.0 - rho) * (1.0 + rho), 1e-30)
    r = np.sqrt(r2)
    both = np.exp(-0.5 * (h * h - 2.0 * rho * h * k + k * k) / r2)
    found = (
        (h * k + rho) * bivariate_cdf(h, k, rho)
        + h * _density(k) * ndtr((h - rho * k) / r)
        + k * _density(h) * ndtr((k - rho * h) / r)
        + r / (2.0 * math.pi) * both
    )
    same = (h * h + 1.0) * ndtr(h) + h * _density(h)
    return np.asarray(s * t * np.where((rho == 1.0) & (h == k), same, found))


def _linear(
    a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    return a * b + rho * s * t


def _step(
    a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    h, k = a / s, b / t
    return np.where((rho == 1.0) & (h == k), ndtr(h), bivariate_cdf(h, k, rho))


_CLOSED: dict[str, Callable[..., np.ndarray]] = {"relu": _relu, "linear": _linear, "step": _step}


def _rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a standard normal variable."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return at, weights / math.sqrt(2.0 * math.pi)


def _quadrature(network: Network, nodes: int) -> Callable[..., np.ndarray]:
    f, (at, weights) = array_function(network), _rule(nodes)

    def moments(
        a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray, rho: np.ndarray
    ) -> np.ndarray:
        u = a[:, None] + s[:, None] * at
        r = np.sqrt(np.maximum((1.0 - rho) * (1.0 + rho), 0.0))
        mixed = rho[:, None, None] * at[:, None] + r[:, None, None] * at
        v = b[:, None, None] + t[:, None, None] * mixed
        return np.asarray(((f(v) @ weights) * f(u)) @ weights)

    return moments
