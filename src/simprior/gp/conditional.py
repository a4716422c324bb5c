"""A Gaussian prior conditioned on a training set: exact draws of z_S, and what follows from them.

*z_S given sign z_S = labels*, by iterated sampling-importance-resampling. Each batch joins the
state carried over to B fresh weighted proposals, resamples R of them by their weights (systematic
resampling) and carries one of the R on. This leaves the truncated Gaussian invariant (iterated SIR:
Tjelmeland 2004; Andrieu, Lee & Vihola 2018, section 2): each of the R draws has the right
distribution whatever B, there is no bias of self-normalisation, and batches of equal size are
(almost) independent clusters, which is what the intervals of a count table need.

*The other inputs given z_S.* With the weight-space factor K = A A^T (Cholesky, or pivoted if K is
rank-deficient), P the pivots of the training inputs and A_P^T = Q_1 R, the inputs outside S are

    z_R = G z_P + C eps,   G = A_R Q_1 R^-T,   C = A_R Q_2,   eps ~ N(0, I),

Q_2 the complement of Q_1: orthogonal transformations only, no difference of covariances and no
jitter. An input with a zero row of C is decided by z_P.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from scipy.linalg import qr, solve_triangular

from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import (
    Event,
    Reduction,
    factor,
    feasible,
    make_event,
    reduce_inputs,
)
from simprior.gp.ep import fit_sites, information
from simprior.gp.tilted import K_LIMIT, KAPPA, Summary, prepare, summarise
from simprior.gp.triangles import reverse_cholesky, rows_over
from simprior.gp.twist import Draws, Twist
from simprior.numerics.compiled import BLOCK, fill

PILOT = 8192  # proposals to measure the efficiency with
START = 1024  # proposals that the first state is drawn from
BURN_IN = 4  # batches; the carried state is forgotten at the rate of one fresh state a batch
FEWEST = 32  # proposals a batch, at least
MOST = 4  # proposals a draw, at most
CHUNK = 1 << 19  # numbers (proposals times coordinates) at a time
_MIX = np.full(len(KAPPA), 1.0 / len(KAPPA))


@dataclass(frozen=True)
class Source:
    """Independent weighted proposals for the truncated Gaussian of one event.

    ``columns`` are the inputs of the event whose values are returned; ``summary`` holds ln P of
    the event and the effective share of the proposals, from a pilot of ``PILOT`` of them.
    """

    twist: Twist
    signs: np.ndarray
    columns: np.ndarray
    summary: Summary
    converged: bool

    @property
    def efficiency(self) -> float:
        """Effective draws a proposal, in (0, 1]."""
        return min(1.0, max(self.summary.ess / PILOT, 1.0 / PILOT))

    def propose(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(count, c) values of z at ``columns`` and (count,) log-weights.

        The temperature of each proposal is drawn, not allotted, so that they are independent and
        identically distributed from the mixture.
        """
        size = max(CHUNK // self.twist.rank, 256)
        if count > size:
            parts = [self.propose(min(size, count - at), rng) for at in range(0, count, size)]
            return np.concatenate([z for z, _ in parts]), np.concatenate([w for _, w in parts])
        uniform = 1.0 - rng.random((self.twist.rank, count))
        done = Draws(self.twist, uniform, rng.integers(len(KAPPA), size=count)).run()
        z = done.points()[:, self.columns] * self.signs[self.columns]
        return z, done.log_weights(_MIX)


def make_source(event: Event, columns: np.ndarray, rng: np.random.Generator) -> Source:
    """Fit the proposals to ``event`` and try them. Raises :class:`NumericalError` (EP diverged)."""
    sites, twist = prepare(event)
    source = Source(twist, event.signs, columns, Summary(0.0, 0.0, 0.0, 0.0), sites.converged)
    _, logw = source.propose(PILOT, rng)
    summary = summarise(logw, np.zeros(PILOT, np.intp), 1)
    return Source(twist, event.signs, columns, summary, sites.converged)


class Chain:
    """Batches of R draws of z at the source's columns; ``squares`` sums n^2 over n-fold states.

    ``kept``: what :meth:`state` gave, to go on from there.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        rng: np.random.Generator,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.size, self.rng = source, size, rng
        self.proposals = max(min(int(size / source.efficiency), MOST * size), FEWEST)
        self.squares = 0
        if kept is not None:
            self._state, self._logw = kept["z"], float(kept["logw"])
            self.squares = int(kept["squares"])
            return
        z, logw = source.propose(START, rng)
        first = rng.choice(START, p=np.exp(logw - np.logaddexp.reduce(logw)))
        self._state, self._logw = z[first], float(logw[first])
        self.batches(BURN_IN)
        self.squares = 0

    def state(self) -> dict[str, Any]:
        """All that the next batch depends on, but for the generator."""
        return {"z": self._state, "logw": self._logw, "squares": self.squares}

    @property
    def chunk(self) -> int:
        """Batches to ask for at a time."""
        return max(1, CHUNK // (self.proposals * self.source.twist.rank))

    def batches(self, count: int) -> np.ndarray:
        """(count * R, c) draws, batch after batch."""
        z, logw = self.source.propose(count * self.proposals, self.rng)
        chosen, carried, squares = _select(
            logw.reshape(count, -1), self._logw, self.rng.random((count, 2)), self.size
        )
        self.squares += squares
        pool = np.concatenate([z, self._state[None]])  # index -1: the state carried in
        if carried >= 0:
            self._state, self._logw = z[carried], float(logw[carried])
        return pool[chosen.ravel()]


@numba.njit(cache=True, nogil=True)
def _select(
    logw: np.ndarray, state: float, uniform: np.ndarray, size: int
) -> tuple[np.ndarray, int, int]:
    """Indices (G, size) into all proposals (-1: the state), the last state, sum of n^2."""
    groups, count = logw.shape
    out = np.empty((groups, size), np.int64)
    carried, squares = -1, 0
    for g in range(groups):
        top = max(state, logw[g].max())
        total = np.exp(state - top)
        for i in range(count):
            total += np.exp(logw[g, i] - top)
        step = total / size
        at, taken = uniform[g, 0] * step, 0
        below = np.exp(state - top)
        index = carried
        for i in range(count + 1):
            repeats = 0
            while taken < size and (at < below or i == count):
                out[g, taken] = index
                taken += 1
                repeats += 1
                at += step
            squares += repeats * repeats
            if i < count:
                index = g * count + i
                below += np.exp(logw[g, i] - top)
        carried = out[g, min(int(uniform[g, 1] * size), size - 1)]
        if carried >= 0:
            state = logw[carried // count, carried % count]
    return out, carried, squares


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
                "method": "exact" if exact else "ep",
                "efficiency": 1.0,
                "pareto_k": math.nan,
                "reliable": exact,
                "converged": self.converged,
                "log_evidence": self.log_evidence,
                "log_evidence_stderr": 0.0 if exact else math.nan,
            }
        summary = self.source.summary
        trusted = summary.ess > 10.0 and not summary.pareto_k > K_LIMIT
        return {
            "method": "exact",
            "efficiency": self.source.efficiency,
            "pareto_k": summary.pareto_k,
            "reliable": bool(trusted),
            "converged": self.converged,
            "log_evidence": summary.value,
            "log_evidence_stderr": summary.stderr,
        }


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
            len(K),
            reduction,
            known,
            rest,
            labels,
            np.empty((len(rest), 0)),
            A.astype(np.float32),
            known,
            None,
            np.empty(0),
            empty,
            0.0,
            True,
        )
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
        f"labels of the {size} training inputs",
        "labels that some network of this prior computes",
        "no weights give them (inputs of zero variance are 0, copies share a label, a "
        "rank-deficient K ties inputs together): change the labels, or use sigma_b > 0",
    )


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
        out,
        blocks,
        buffer,
        words,
        0,
        0,
        index,
        key,
        np.float32(1.0),
        False,
    )


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
    root = rows_over(event.A, U)
    mean = root @ (root.T @ sites.nu)
    signs = event.signs
    return signs * mean, signs[:, None] * root, sites.logz, sites.converged
