"""Covariances K of a Gaussian vector, their factors, and the event that its signs are a function.

Estimators of ln P(f) start from three things made here.

* :func:`reduce_inputs` takes out what a covariance decides beforehand: inputs of zero variance
  (always 0, so output 0), copies of another input (same sign) and mirror images (opposite sign).
* :func:`factor` gives a matrix ``A`` of shape (m, r) with ``A A^T = K``: ``z ~ N(0, K)`` is
  ``z = A u``, ``u ~ N(0, I_r)``. Where K has full rank, ``A`` is the Cholesky factor. Where it is
  rank-deficient (linear kernels), ``A`` comes from the pivoted Cholesky factorisation, and the m
  constraints bear on r < m weights. A matrix whose spectrum runs smoothly into the rounding level
  is neither, and is refused.
* :func:`make_event` puts ``sign z = f`` into the form ``x > lower`` that estimators work on.

Nothing here ever adds to the diagonal: a relative jitter of 1e-6 moves ln P of the parity by 34
nats.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

from simprior.checks import Array, Integer, Maybe, Number, checked, real_array
from simprior.display import Shown
from simprior.errors import InputError, NumericalError, available_memory
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb

if TYPE_CHECKING:
    import pandas as pd

EPS = float(np.finfo(np.float64).eps)
MIN_RCOND = 1e-14  # of the correlation matrix; below it Cholesky factors are not trusted
RESIDUAL = 32.0 * EPS  # what may be left of a correlation matrix outside its rank: rounding only
RANK_TOL = 1e-10  # singular values of features below this share of the largest are rounding
MAX_CONDITION = 1e14
SAME = 64.0 * EPS  # 1 minus a correlation that is 1 but for rounding
GAP = 100.0  # the smallest pivot of a rank-deficient matrix, in units of the rounding level
MATRICES = 18  # m x m float64 matrices alive at the peak, measured at m = 500 to 1797
MATRICES_IN_PLACE = (
    7  # the same of estimators that work in place, with their draws: m = LARGE to 10,000
)
LARGE = 2048  # inputs from which on matrices are worked on in place, by blocks of rows
_ROWS = 256
TESTED = 2048  # inputs; errors and times are documented up to here
_GIB = float(2**30)


@dataclass(frozen=True)
class Factor:
    """``K = A A^T``.

    ``pivots`` are the r inputs whose rows of A, in that order, are lower triangular; ``rcond``
    estimates the reciprocal condition number of the pivots' correlation matrix; ``scale`` (m,) are
    the standard deviations. ``found`` is A, or the covariance of full rank from which A is made
    again when it is asked for (a factor of a large K is not kept).
    """

    found: np.ndarray
    pivots: np.ndarray
    rcond: float
    scale: np.ndarray
    kept: bool = True

    @property
    def A(self) -> np.ndarray:
        """(m, r), rows in the order of the inputs."""
        return self.found if self.kept else _full_factor(self.found)[0]

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.found.shape[0])

    @property
    def rank(self) -> int:
        """Number of latent coordinates r."""
        return int(self.found.shape[1])


def _not_psd(eigenvalue: float, level: float) -> NumericalError:
    return NumericalError(
        f"K has the eigenvalue {eigenvalue:.3g} (largest entry 1 after scaling, rounding level "
        f"{level:.1g}): expected a positive semi-definite matrix; compute K in float64 from a "
        "formula that is a covariance, and add no jitter"
    )


def _singular(R: np.ndarray, eigenvalue: float, level: float) -> NumericalError:
    off = np.abs(np.triu(R, 1))
    i, j = np.unravel_index(int(off.argmax()), R.shape)
    return NumericalError(
        f"K is singular to working precision: smallest eigenvalue {eigenvalue:.3g} of the "
        f"correlation matrix, rounding level {level:.1g}, and no gap above it (closest of the "
        f"inputs kept: {i} and {j}, 1 - |correlation| = {1.0 - off[i, j]:.2g}): expected full or "
        "clearly deficient rank; jitter would move ln P by tens of nats: use fewer or less similar "
        "inputs, a shorter length scale or a rougher kernel (of a network: fewer layers or a "
        "smaller sigma_b), or method='ep-probit' or 'laplace', whose unit noise such a K suits"
    )


def factor(K: np.ndarray) -> Factor:
    """Factor a positive semi-definite (m, m) matrix without zero diagonal entries.

    Raises
    ------
    NumericalError
        If K has a negative eigenvalue beyond rounding, or if its spectrum runs into the rounding
        level without a gap, so that its rank cannot be told.
    """
    A, rcond, scale = _full_factor(K)
    if rcond > MIN_RCOND:
        kept = len(K) < LARGE
        return Factor(A if kept else K, np.arange(len(K)), rcond, scale, kept)
    return _pivoted(*_correlations(K))


def _full_factor(K: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """(A, reciprocal condition number, standard deviations) if K has full rank; else A is not a
    factor, and the number is 0 or tiny."""
    R, scale = _correlations(K)
    A, rcond = _cholesky(R)
    A *= scale[:, None]
    return A, rcond, scale


def factor_for_noise(K: np.ndarray) -> Factor:
    """As :func:`factor` for a K to which noise of variance 1 is added, of any numerical rank.

    Where the rank cannot be told, ``A`` comes from the eigenvalues above the rounding level and
    ``rcond`` is 0: what is left out is far below the noise.

    Raises
    ------
    NumericalError
        If K has a negative eigenvalue beyond rounding.
    """
    try:
        return factor(K)
    except NumericalError:
        R, scale = _correlations(K)
        level = 8.0 * len(K) * EPS
        values, vectors = np.linalg.eigh(R)
        if values[0] < -10.0 * level:
            raise
        some = values > level
        A = scale[:, None] * vectors[:, some] * np.sqrt(values[some])
        return Factor(A, np.arange(int(some.sum())), 0.0, scale)


def factor_of_features(B: np.ndarray) -> Factor:
    """Factor of ``K = B B^T`` with full column rank, from the singular values of B (m, k).

    No row of B may be 0. There are no pivots: none of the inputs is drawn before the others.
    """
    scale = np.linalg.norm(B, axis=1)
    U, s, _ = np.linalg.svd(B, full_matrices=False)
    rank = int((s > RANK_TOL * s[0]).sum())
    return Factor(U[:, :rank] * s[:rank], np.empty(0, np.intp), (s[rank - 1] / s[0]) ** 2, scale)


def row_blocks(m: int) -> list[slice]:
    """Blocks of the rows of an (m, m) matrix: all of them, or few where the matrix is large."""
    step = m if m < LARGE else _ROWS
    return [slice(start, min(start + step, m)) for start in range(0, m, step)]


def _correlations(K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(correlation matrix, standard deviations). Raises :class:`NumericalError` if one is 0."""
    scale = np.sqrt(np.maximum(np.diag(K), 0.0))
    if not (scale > 0.0).all():
        raise NumericalError(
            "K has a zero or negative variance on its diagonal: expected positive variances; "
            "drop inputs with output 0 first"
        )
    R = np.empty_like(K)
    for rows in row_blocks(len(K)):
        np.divide(K[rows], np.outer(scale[rows], scale), out=R[rows])
    return R, scale


def _cholesky(R: np.ndarray) -> tuple[np.ndarray, float]:
    """Lower Cholesky factor of a correlation matrix, and an estimate of its reciprocal condition
    number in the 1-norm: 0 if the matrix is not positive definite. A large R is overwritten."""
    norm = sum(np.abs(R[rows]).sum(0) for rows in row_blocks(len(R))).max()
    large = len(R) >= LARGE
    L, info = lapack.dpotrf(R.T if large else R, lower=1, clean=1, overwrite_a=large)
    if info != 0:
        return L, 0.0
    return L, float(lapack.dpocon(L, norm, uplo="L")[0])


def _pivoted(R: np.ndarray, scale: np.ndarray) -> Factor:
    """Rank-revealing factor of a correlation matrix (LAPACK's dpstrf)."""
    m = R.shape[0]
    level = 8.0 * m * EPS
    L, order, rank, _ = lapack.dpstrf(R, lower=1, tol=level)
    order = order - 1
    L = np.tril(L)[:, :rank]
    smallest = float(np.linalg.eigvalsh(R)[0])
    residual = float(np.abs(R[np.ix_(order, order)] - L @ L.T).max())
    if smallest < -10.0 * level or residual > 10.0 * level:
        raise _not_psd(smallest, level)
    rcond = float(np.linalg.cond(L[:rank])) ** -2
    gap = float(L[rank - 1, rank - 1]) ** 2 > GAP * level
    if rank == m or not gap or residual > RESIDUAL or rcond < MIN_RCOND or _confused(R):
        raise _singular(R, smallest, level)
    A = np.empty((m, rank))
    A[order] = L
    return Factor(scale[:, None] * A, order[:rank].astype(np.intp), rcond, scale)


def _confused(R: np.ndarray) -> bool:
    """Whether two different inputs have correlation 1 to rounding (deep networks)."""
    close = np.argwhere(np.triu(R > 1.0 - SAME, 1))
    return any(not np.array_equal(R[i], R[j]) for i, j in close[:4096])


@dataclass(frozen=True, repr=False)
class Reduction(Shown):
    """Which inputs carry information and how the others follow from them.

    ``keep`` (r,) indices of the inputs kept, ascending; ``zero`` indices of inputs whose output is
    exactly 0 (label 0 with probability 1); ``duplicate_of`` (m,) for each input the index (in the
    original numbering) of the kept input it repeats: itself if kept, -1 if zero; ``sign`` (m,)
    +1 where z_i has the sign of z_{duplicate_of[i]}, -1 where it has the opposite sign, 0 if zero.
    """

    keep: np.ndarray
    zero: np.ndarray
    duplicate_of: np.ndarray
    sign: np.ndarray

    def lines(self) -> list[str]:
        """How many inputs are kept, and why the others are not."""
        return [f"Reduction: {len(self.keep):,} of {len(self.sign):,} inputs kept", self.dropped]

    def to_frame(self) -> pd.DataFrame:
        """A row an input: index, duplicate_of, sign."""
        import pandas as pd

        columns = {"index": np.arange(len(self.sign)), "duplicate_of": self.duplicate_of}
        return pd.DataFrame(columns | {"sign": self.sign})

    @property
    def trivial(self) -> bool:
        """True if nothing is dropped."""
        return len(self.keep) == len(self.duplicate_of)

    @property
    def dropped(self) -> str:
        """One line for messages and diagnostics, e.g. ``"1 of zero variance, 3 repeated"``."""
        repeated = len(self.duplicate_of) - len(self.keep) - len(self.zero)
        return f"{len(self.zero)} of zero variance, {repeated} repeated"

    def kernel(self, K: np.ndarray) -> np.ndarray:
        """K on the kept inputs, (r, r): K itself if all are."""
        return K if len(self.keep) == len(K) else K[np.ix_(self.keep, self.keep)]

    def reduce_labels(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the kept inputs and whether each labelling is possible at all.

        ``labels`` is (..., m) of 0/1 or bool. Returns ((..., r) of the same type, (...) bool); a
        labelling is impossible (ln P = -inf) if it puts 1 on a zero input, or unlike labels on
        copies, or like labels on mirror images. (An exact 0 has probability 0 off ``zero``.)
        """
        labels = np.asarray(labels)
        expected = self.expand_labels(labels[..., self.keep])
        return labels[..., self.keep], (labels == expected).all(axis=-1)

    def expand_labels(self, kept: np.ndarray) -> np.ndarray:
        """Labels of all m inputs from those of the kept ones, (..., r) -> (..., m)."""
        kept = np.asarray(kept)
        place = np.searchsorted(self.keep, np.maximum(self.duplicate_of, 0))
        place = np.minimum(place, max(len(self.keep) - 1, 0))
        if len(self.keep) == 0:
            return np.zeros((*kept.shape[:-1], len(self.duplicate_of)), kept.dtype)
        full = kept[..., place].astype(bool) ^ (self.sign < 0)
        return (full & (self.sign != 0)).astype(kept.dtype)


@checked(inputs=Maybe(Array(2)))
def reduce_inputs(K: np.ndarray, inputs: np.ndarray | None = None) -> Reduction:
    """Find inputs of zero variance, and inputs that repeat or mirror an earlier one.

    Only bitwise equality counts (K from :func:`simprior.gp.kernels.nngp` has it for equal inputs,
    and for x and -x under an odd activation with sigma_b = 0): a tolerance could declare possible
    functions impossible.

    Parameters
    ----------
    K : (m, m) array
        Symmetric covariance.
    inputs : (m, d) array, optional
        The inputs behind K. If given, two inputs may count as copies or mirror images only when
        they are proportional; distinct inputs that K confuses raise :class:`NumericalError` (a
        very deep network in its ordered phase, correlation 1 to the last bit).

    Raises
    ------
    InputError
        K is not a finite symmetric matrix, or a variance is negative.
    """
    K = check_symmetric(K)
    var = K.diagonal()
    if (var < 0).any():
        worst = int(np.argmin(var))
        raise InputError(
            f"K[{worst},{worst}]={var[worst]:.6g}", "a variance >= 0", "pass a covariance matrix"
        )
    alive = var > 0
    if K[~alive].any():
        raise InputError("K", "zero covariances where a variance is 0", "pass a covariance matrix")
    first: dict[bytes, int] = {}
    duplicate_of = np.full(len(K), -1)
    sign = np.zeros(len(K), dtype=np.int64)
    for i in np.flatnonzero(alive):
        lead = 1 if K[i, np.flatnonzero(K[i])[0]] > 0 else -1
        row = lead * K[i] + 0.0
        head = first.setdefault(hashlib.sha256(row.tobytes()).digest(), int(i))
        duplicate_of[i] = head
        sign[i] = 1 if K[i, head] > 0 else -1
    _check_copies(duplicate_of, inputs)
    keep = np.flatnonzero(duplicate_of == np.arange(len(K)))
    return Reduction(keep, np.flatnonzero(~alive), duplicate_of, sign)


def merge_copies(K: np.ndarray) -> np.ndarray:
    """(m,) for each input the first one whose correlation with it is 1 to rounding; else itself.

    For kernels of architectures that take some inputs for the same (convolutions on a circle with
    a mean over positions: rotated strings). Rounding tells such inputs apart, so that
    :func:`reduce_inputs` does not see them.
    """
    root = np.sqrt(K.diagonal())
    scale = np.outer(root, root)
    R = np.divide(K, scale, out=np.zeros_like(K), where=scale > 0)
    np.fill_diagonal(R, 1.0)
    first = (R > 1.0 - SAME).argmax(axis=1)
    return np.asarray(first[first])


@checked(max_condition=Number(1))
def check_psd(K: np.ndarray, max_condition: float = MAX_CONDITION) -> float:
    """Condition number (1-norm, estimated) of K's correlation matrix, if K is positive definite.

    Rounding in K shifts ln P by about 1e-16 times the condition number times m, hence the limit.

    Raises
    ------
    InputError
        K is not a finite symmetric matrix.
    NumericalError
        K is not positive definite, or its correlation matrix is conditioned worse than
        ``max_condition``; the message gives smallest eigenvalue, condition number and remedy.
    """
    K = check_symmetric(K)
    var = K.diagonal()
    if (var <= 0).any():
        raise _not_positive(K, math.inf)
    scale = np.sqrt(var)
    rcond = _cholesky(K / scale[:, None] / scale)[1]
    condition = 1.0 / rcond if rcond > 0 else math.inf
    if not condition <= max_condition:
        raise _not_positive(K, condition)
    return condition


def root(K: np.ndarray) -> np.ndarray:
    """A factor R, (m, rank), with K = R R^T to rounding, for a K of any rank: draws are R @ eps.

    Eigenvalues within m times the rounding of the largest one count as 0; rows of zero variance
    are exactly 0. For draws only: ln P of a rank-deficient K has no density to integrate.

    Raises
    ------
    InputError
        K is not a finite symmetric matrix.
    NumericalError
        K has an eigenvalue below minus that rounding (it is no covariance).
    """
    K = check_symmetric(K)
    values, vectors = np.linalg.eigh(K)
    floor = 8 * len(K) * EPS * max(float(values[-1]), 0.0)
    if values[0] < -floor:
        raise _not_positive(K, math.inf)
    some = values > floor
    factor = vectors[:, some] * np.sqrt(values[some])
    factor[K.diagonal() == 0] = 0.0
    return factor


def check_symmetric(K: np.ndarray) -> np.ndarray:
    """K as a float64 array if it is a finite, square, symmetric matrix, else InputError."""
    plain = type(K) is np.ndarray and K.dtype == np.float64
    array = K if plain else real_array("K", K)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise InputError(f"K of shape {array.shape}", "a square matrix", "pass nngp(network, X)")
    if not all(np.isfinite(array[rows]).all() for rows in row_blocks(len(array))):
        raise InputError("K with infinite or NaN entries", "finite numbers", "check the inputs")
    blocks = row_blocks(len(array))
    gap = max(float(np.abs(array[rows] - array.T[rows]).max()) for rows in blocks)
    if gap > 1e-12 * max(float(np.abs(array[rows]).max()) for rows in blocks):
        raise InputError(
            f"K with |K - K.T| up to {gap:.3g}", "a symmetric matrix", "pass (K + K.T) / 2"
        )
    return array


def _not_positive(K: np.ndarray, condition: float) -> NumericalError:
    values = np.linalg.eigvalsh(K)
    low, high = float(values[0]), float(values[-1])
    rank = int((values > len(K) * EPS * high).sum())
    if math.isinf(condition):
        condition = high / low if low > 0 else math.inf
    return NumericalError(
        f"K ({len(K)} x {len(K)}) is not positive definite in float64: smallest eigenvalue "
        f"{low:.3g}, largest {high:.3g}, rank about {rank}, condition number {condition:.3g}; "
        "expected a positive definite matrix; drop zero and repeated inputs (reduce_inputs) and "
        "near copies, or use a rougher kernel (of a network: sigma_b > 0, a nonlinear activation, "
        "or fewer layers; jitter is never added)"
    )


def _check_copies(duplicate_of: np.ndarray, inputs: np.ndarray | None) -> None:
    if inputs is None:
        return
    X = np.asarray(inputs, dtype=np.float64)
    if X.ndim != 2 or len(X) != len(duplicate_of):
        raise InputError(
            f"inputs of shape {X.shape}", f"({len(duplicate_of)}, d) as K has", "pass X of nngp"
        )
    for i in np.flatnonzero((duplicate_of >= 0) & (duplicate_of != np.arange(len(X)))):
        x, y = X[i], X[duplicate_of[i]]
        scale = float(x @ y) / float(y @ y) if y.any() else 0.0
        if not np.allclose(x, scale * y, rtol=1e-12, atol=0.0):
            raise NumericalError(
                f"K cannot tell inputs {duplicate_of[i]} and {i} apart (correlation +-1 to the "
                "last bit) though they differ: expected distinct rows; use fewer layers or a "
                "larger sigma_w"
            )


@dataclass(frozen=True)
class Event:
    """``sign z = f``, ``z ~ N(mean, K0)``, as ``x > lower``, ``x ~ N(0, K)``, K = S K0 S.

    S = diag(``signs``), (m,) of +-1; ``unsigned`` is K0, and ``factor`` that of K0, which all
    functions share. ``label`` identifies the function: random numbers depend on it and not on its
    place in a batch.
    """

    unsigned: np.ndarray
    factor: Factor
    lower: np.ndarray
    signs: np.ndarray
    label: str

    @cached_property
    def K(self) -> np.ndarray:
        """(m, m) covariance of x."""
        signed = self.unsigned * self.signs
        signed *= self.signs[:, None]
        return signed

    @cached_property
    def A(self) -> np.ndarray:
        """(m, r) with ``A A^T = K``."""
        return np.asarray(self.signs[:, None] * self.factor.A)

    @property
    def rcond(self) -> float:
        """Estimate of the reciprocal condition number of the correlation matrix."""
        return self.factor.rcond

    @property
    def m(self) -> int:
        """Number of constraints."""
        return len(self.signs)

    @property
    def rank(self) -> int:
        """Number of latent coordinates."""
        return self.factor.rank

    @property
    def large(self) -> bool:
        """Whether estimators work in place: K is large and has full rank."""
        return self.m >= LARGE and self.rank == self.m

    def generator(self, seed: int, method: str, index: int = 0) -> np.random.Generator:
        """Random numbers of chunk ``index`` of one method on this function."""
        return rng.generator(seed, f"{method}/{self.label}", index)


def make_event(
    bits: np.ndarray, K: np.ndarray, factor: Factor, mean: np.ndarray | None = None
) -> Event:
    """Event that the signs of z ~ N(mean, K) are those of ``bits`` ((m,) of 0/1)."""
    signs = np.where(np.asarray(bits) > 0, 1.0, -1.0)
    lower = np.zeros(len(signs)) if mean is None else -signs * mean
    label = hashlib.sha256(np.packbits(signs > 0).tobytes()).hexdigest()[:32]
    return Event(K, factor, lower + 0.0, signs, f"{len(signs)}/{label}")


def check_mean(mean: np.ndarray | None, m: int) -> np.ndarray | None:
    """Validate the optional mean vector."""
    if mean is None:
        return None
    array = real_array("mean", mean)
    if array.shape != (m,) or not np.isfinite(array).all():
        raise InputError(
            f"mean of shape {array.shape}", f"{m} finite numbers", "give one mean an input"
        )
    return array


def feasible(A: np.ndarray, lower: np.ndarray) -> bool:
    """Whether some u satisfies ``A u > lower`` strictly (linear programme; for r < m).

    Homogenised and in an orthonormal basis: u and s >= 0 with ``A u - s lower >= 1`` exist if and
    only if the constraints can be met. Rows are scaled to norm 1.
    """
    from scipy.optimize import linprog

    norm = np.linalg.norm(A, axis=1)
    basis = np.linalg.qr(A / norm[:, None])[0]
    rows = np.hstack([basis, -(lower / norm)[:, None]])
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    r = basis.shape[1]
    limits = [(None, None)] * r + [(0.0, None)]
    result = linprog(
        np.zeros(r + 1), A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=limits, method="highs"
    )
    return bool(result.status == 0 and (rows @ result.x).min() > 0.0)


class Infeasible(NumericalError):
    """No point satisfies the constraints: the probability is exactly 0."""


def impossible(method: str, began: float) -> LogProb:
    """The exact result for an event that no weights realise."""
    reason = "no weights realise this function"
    seconds = perf_counter() - began
    found = {"reliable": True, "converged": True, "reason": reason, "seconds": seconds}
    return LogProb(-math.inf, 0.0, math.inf, method, found)


def check_draws(draws: int, strata: int = 1) -> None:
    """Refuse a number of draws from which no standard error follows."""
    Integer(8 * strata, remedy="pass draws=1024")("draws", draws)


def bytes_needed(m: int, matrices: int = MATRICES) -> int:
    """Peak memory of estimators and of the posterior on m inputs, in bytes."""
    return matrices * 8 * m * m


def check_memory(
    m: int, copies: int = 1, available: int | None = None, matrices: int = MATRICES
) -> None:
    """Refuse an m whose matrices do not fit; log a line above the tested size.

    Parameters
    ----------
    m : int
        Number of inputs.
    copies : int
        Workers that compute at the same time, each with matrices of its own.
    available : int, optional
        Bytes to fit in; what the system reports as available by default.
    matrices : int
        Matrices m x m at the peak.

    Raises
    ------
    InputError
        Names the memory that m needs, the memory there is, and the largest m that fits.
    """
    have = available_memory() if available is None else available
    need = copies * bytes_needed(m, matrices)
    if need > have:
        largest = int((have / (copies * matrices * 8)) ** 0.5)
        raise InputError(
            f"m={m} inputs",
            f"at most {largest} in the {have / _GIB:.1f} GiB available",
            f"{m} need about {need / _GIB:.1f} GiB ({matrices} matrices of m x m float64, "
            f"{copies} at a time): ask for fewer inputs (--train), or fewer --workers",
        )
    if m > TESTED:
        logging.getLogger("simprior").warning(
            "m=%d inputs: about %.1f GiB, and time grows as m^3 (3 s at 2048); errors are tested "
            "up to m=%d, so look at stderr and pareto_k",
            m,
            need / _GIB,
            TESTED,
        )
