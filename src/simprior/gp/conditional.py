"""A Gaussian prior conditioned on a training set: what is drawn, and what follows from it.

With the weight-space factor K = A A^T (Cholesky, or pivoted if K is rank-deficient), P the pivots
of the training inputs and A_P^T = Q_1 R, the inputs outside S are

    z_R = G z_P + C eps,   G = A_R Q_1 R^-T,   C = A_R Q_2,   eps ~ N(0, I),

Q_2 the complement of Q_1: orthogonal transformations only, no difference of covariances and no
jitter. An input with a zero row of C is decided by z_P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from scipy.linalg import qr, solve_triangular

from simprior.errors import InputError, NumericalError
from simprior.gp.chain import Source, make_source
from simprior.gp.degenerate import Reduction, reduce_inputs
from simprior.gp.ep import fit_sites, information
from simprior.gp.event import Event, feasible, make_event
from simprior.gp.linalg import factor, reverse_cholesky
from simprior.gp.weights import K_LIMIT
from simprior.philox import BLOCK, fill

DECIDED = 1e-9  # conditional over marginal standard deviation below which an input is decided


@dataclass(frozen=True)
class Conditioned:
    """The posterior of one training set, ready to be drawn from.

    ``known`` (s,) and ``rest`` (q,) are the training inputs and the others, as places among the
    inputs that ``reduction`` keeps; ``bits`` (s,) the labels; ``gain`` (q, p) and ``spread``
    (q, free) the matrices G and C. ``source`` draws z_P exactly; without it ``mean`` (s,) and
    ``root`` (s, r) are EP's Gaussian, and ``columns`` (p,) its rows that are pivots.
    """

    m: int
    reduction: Reduction
    known: np.ndarray
    rest: np.ndarray
    bits: np.ndarray
    gain: np.ndarray
    spread: np.ndarray
    columns: np.ndarray
    source: Source | None
    mean: np.ndarray
    root: np.ndarray
    log_evidence: float
    converged: bool

    @property
    def free(self) -> int:
        """Number of standard normals a draw of the rest takes."""
        return int(self.spread.shape[1])

    def approximate(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """EP's Gaussian: (count, p) values at the pivots and (count, s) signs on S."""
        z = self.mean + rng.standard_normal((count, self.root.shape[1])) @ self.root.T
        return z[:, self.columns], (z > 0).astype(np.uint8)

    def complete(self, z: np.ndarray, train: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(count, m) tables from z at the pivots, bits on S, and standard normals (float32)."""
        value = z @ self.gain.T
        if self.free:
            value += noise @ self.spread.T
        kept = np.empty((len(z), len(self.known) + len(self.rest)), np.uint8)
        kept[:, self.known] = train
        kept[:, self.rest] = value > 0
        return kept if self.reduction.trivial else self.reduction.expand_labels(kept)

    def report(self) -> dict[str, Any]:
        """What is known about the draws: method, efficiency, evidence."""
        if self.source is None:
            exact = len(self.known) == 0
            return {
                "method": "exact" if exact else "ep", "efficiency": 1.0, "pareto_k": math.nan,
                "reliable": exact, "converged": self.converged,
                "log_evidence": self.log_evidence,
                "log_evidence_stderr": 0.0 if exact else math.nan,
            }  # fmt: skip
        summary = self.source.summary
        trusted = summary.ess > 10.0 and not summary.pareto_k > K_LIMIT
        return {
            "method": "exact", "efficiency": self.source.efficiency, "pareto_k": summary.pareto_k,
            "reliable": bool(trusted), "converged": self.converged,
            "log_evidence": summary.value, "log_evidence_stderr": summary.stderr,
        }  # fmt: skip


def condition(
    K: np.ndarray, index: np.ndarray, bits: np.ndarray, method: str, rng: np.random.Generator
) -> Conditioned:
    """Condition N(0, K) on labels ``bits`` of the inputs ``index``; ``method`` "exact" or "ep".

    Raises :class:`InputError` if the labels have probability 0, :class:`NumericalError` if K's
    rank cannot be told or EP diverges.
    """
    reduction = reduce_inputs(K)
    known, labels = _kept_labels(reduction, index, bits)
    rest = np.setdiff1d(np.arange(len(reduction.keep)), known)
    small = np.ascontiguousarray(reduction.kernel(K))
    A = factor(small).A if len(small) else np.empty((0, 0))
    if len(known) == 0:
        empty = np.empty((0, 0))
        return Conditioned(
            len(K), reduction, known, rest, labels, np.empty((len(rest), 0)),
            A.astype(np.float32), known, None, np.empty(0), empty, 0.0, True,
        )  # fmt: skip
    inner = np.ascontiguousarray(small[np.ix_(known, known)])
    matrix = factor(inner)
    event = make_event(labels, inner, matrix)
    if event.rank < event.m and not feasible(event.A, event.lower):
        raise impossible(len(index))
    gain, spread = _regression(A, known[matrix.pivots], rest)
    fixed = (len(K), reduction, known, rest, labels, gain, spread, matrix.pivots)
    if method == "exact":
        source = make_source(event, matrix.pivots, rng)
        return Conditioned(
            *fixed, source, np.empty(0), np.empty((0, 0)), source.summary.value, source.converged
        )
    return Conditioned(*fixed, None, *_ep_gaussian(event))


def impossible(size: int) -> InputError:
    """Error for labels that have probability 0 under K."""
    return InputError(
        f"labels of the {size} training inputs", "labels that some network of this prior computes",
        "no weights give them (inputs of zero variance are 0, copies share a label, a "
        "rank-deficient K ties inputs together): change the labels, or use sigma_b > 0",
    )  # fmt: skip


def normals(count: int, key: int, index: int) -> np.ndarray:
    """(count,) float32 standard normals, a function of (key, index, position)."""
    blocks = -(-count // BLOCK)
    out = np.empty(blocks * BLOCK, np.float32)
    _fill(out, blocks, np.uint64(index), np.uint64(key))
    return out[:count]


@numba.njit(cache=True, nogil=True)
def _fill(out: np.ndarray, blocks: int, index: Any, key: Any) -> None:
    buffer = np.empty(32, np.uint64)
    words = buffer.view(np.uint32)
    fill(
        out, blocks, buffer, words, 0, 0, index, key, np.float32(1.0), False,
    )  # fmt: skip


def _kept_labels(
    reduction: Reduction, index: np.ndarray, bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places (ascending) and labels of the kept inputs that S constrains."""
    head, sign = reduction.duplicate_of[index], reduction.sign[index]
    alive = head >= 0
    if bits[~alive].any():
        raise impossible(len(index))
    own = bits[alive] ^ (sign[alive] < 0).astype(np.uint8)
    place = np.searchsorted(reduction.keep, head[alive])
    known, first = np.unique(place, return_index=True)
    labels = own[first]
    if (labels[np.searchsorted(known, place)] != own).any():
        raise impossible(len(index))
    return known, labels


def _regression(
    A: np.ndarray, pivots: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """G and C (float32: only the sign of z_R matters) of the module docstring."""
    Q, R = qr(A[pivots].T, mode="full", check_finite=False)
    p = len(pivots)
    inner, outer = A[rest] @ Q[:, :p], A[rest] @ Q[:, p:]
    gain = solve_triangular(R[:p], inner.T, lower=False, check_finite=False).T
    decided = np.linalg.norm(outer, axis=1) < DECIDED * np.linalg.norm(A[rest], axis=1)
    outer[decided] = 0.0
    return np.ascontiguousarray(gain), np.ascontiguousarray(outer, np.float32)


def _ep_gaussian(event: Event) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """Mean and root of the covariance of EP's Gaussian for z_S, ln P(C(S)) of EP, convergence."""
    sites = fit_sites(event.K, event.A, event.lower)
    if not math.isfinite(sites.logz):
        raise NumericalError(
            f"EP diverged on the {event.m} training inputs after {sites.sweeps} sweeps: expected "
            "finite sites; use method='exact', or fewer layers"
        )
    U = reverse_cholesky(information(event.A, sites.tau))
    root = solve_triangular(U, event.A.T, lower=False, check_finite=False).T
    mean = root @ (root.T @ sites.nu)
    signs = event.signs
    return signs * mean, signs[:, None] * root, sites.logz, sites.converged
