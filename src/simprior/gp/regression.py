"""The Gaussian process under the squared error: y_j = z_j + noise, y_j = +-1 the labels of S.

The noise is N(0, v); v is the temperature of the likelihood exp(-sum (y_j - z_j)^2 / 2 v). The
posterior of z is Gaussian, and a draw of it is a draw z of the prior, corrected (Matheron's rule;
Wilson et al., ICML 2020, section 3.2):

    z + K_{.S} (K_SS + v I)^-1 (y - z_S - noise),

so that no covariance is subtracted from another, and K may be of any rank. Its sign at every input
is the function that is drawn; draws are independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.merging import Merger
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.sampling.rows import Counter, Profile, Rows, Tally, count_words
from simprior.boolean.truthtable import one_function, pack
from simprior.checks import Maybe, Number, Updates, Whole, checked
from simprior.gp.covariance import check_symmetric, factor, reduce_inputs
from simprior.gp.posterior import bits_of, check_training_set, outside_errors
from simprior.numerics import random as rng
from simprior.numerics.estimate import mean_stderr
from simprior.runs.tasks import Progress, one_thread, run_tasks

_TASK = 1 << 14  # draws a task


@checked(noise=Number(0, open=True), n=Maybe(Whole(0, 64)), workers=Whole(1), progress=Updates())
def sample_regression(
    K: np.ndarray,
    train_index: Sequence[int] | np.ndarray,
    labels: Any,
    samples: int | float = 10**5,
    seed: int = 0,
    *,
    noise: float = 0.1,
    target: Any = None,
    n: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> FunctionCounts:
    """Draw functions from the posterior under the squared error, and count them.

    Parameters
    ----------
    K, train_index, labels, samples, seed, target, n, workers, progress
        As of :func:`simprior.gp.posterior.sample_posterior`.
    noise : float
        Variance v of the noise, in units of z^2.

    Returns
    -------
    FunctionCounts
        Independent draws. ``info["posterior"]``: ``noise``, ``violating`` (share of draws that
        disagree with S), ``log_evidence`` (ln of the density of the labels, nats, exact), with a
        target ``error`` and ``error_stderr``.

    Raises
    ------
    InputError, NumericalError
    """
    K = check_symmetric(K)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    index, bits = check_training_set(train_index, labels, len(K))
    truth = None if target is None else one_function(target, len(K), "target", n)
    with one_thread():
        root, gain, evidence = _condition(K, index, bits, float(noise))
    tasks = [(i, min(_TASK, samples - at)) for i, at in enumerate(range(0, samples, _TASK))]
    found: dict[int, tuple[Rows, Tally, np.ndarray, int]] = {}
    run_tasks(
        partial(_draw, root, gain, index, bits, float(noise), truth, seed),
        tasks,
        on_result=lambda task, part: found.__setitem__(task[0], part),
        workers=min(workers, len(tasks)),
        progress=progress,
        amount=lambda task: task[1],
        threads=True,
    )
    parts = [found[i] for i, _ in tasks]
    merger = Merger(len(K))
    for rows, *_ in parts:
        merger.add(rows)
    info: dict[str, Any] = {
        "method": "gp",
        "likelihood": "squared",
        "noise": float(noise),
        "log_evidence": evidence,
        "log_evidence_stderr": 0.0,
        "ess": float(samples),
        "reliable": True,
        "violating": sum(part[3] for part in parts) / samples,
    }
    if truth is not None:
        wrong = np.concatenate([part[2] for part in parts])
        info |= {"error": float(wrong.mean()), "error_stderr": mean_stderr(wrong)}
    rows = merger.rows()
    return FunctionCounts(
        len(K),
        bits_of(len(K), n),
        rows,
        Profile.of(rows.count, rows.clusters, rows.sumsq),
        samples,
        samples,
        1,
        ones=np.sum([part[1].ones for part in parts], axis=0),
        info={"posterior": info},
    )


def _condition(
    K: np.ndarray, index: np.ndarray, bits: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Root A (m, r) of K, gain (m, s) of the correction, ln of the density of the labels."""
    from scipy.linalg import cho_factor, cho_solve

    noisy = cho_factor(K[np.ix_(index, index)] + noise * np.eye(len(index)), lower=True)
    gain = cho_solve(noisy, K[index]).T
    y = 2.0 * bits - 1.0
    evidence = -0.5 * float(y @ cho_solve(noisy, y)) - float(np.log(np.diag(noisy[0])).sum())
    return _root(K), gain, evidence - 0.5 * len(index) * math.log(2.0 * math.pi)


def _root(K: np.ndarray) -> np.ndarray:
    """A with A A^T = K; inputs of zero variance and copies follow from the others."""
    reduction = reduce_inputs(K)
    small = np.ascontiguousarray(reduction.kernel(K))
    A = factor(small).A
    root = np.zeros((len(K), A.shape[1]))
    place = np.searchsorted(reduction.keep, reduction.duplicate_of)
    alive = np.flatnonzero(reduction.duplicate_of >= 0)
    heads = reduction.duplicate_of[alive]
    scale = reduction.sign[alive] * np.sqrt(np.diag(K)[alive] / np.diag(K)[heads])
    root[alive] = A[place[alive]] * scale[:, None]
    return root


def _draw(
    root: np.ndarray,
    gain: np.ndarray,
    index: np.ndarray,
    bits: np.ndarray,
    noise: float,
    truth: np.ndarray | None,
    seed: int,
    task: tuple[int, int],
) -> tuple[Rows, Tally, np.ndarray, int]:
    """Counts of a task; errors outside S (or none); draws that disagree with S."""
    number, count = task
    random = rng.generator(seed, "posterior/regression", number)
    with one_thread():
        z = random.standard_normal((count, root.shape[1])) @ root.T
        residual = 2.0 * bits - 1.0 - z[:, index]
        residual -= math.sqrt(noise) * random.standard_normal((count, len(index)))
        tables = (z + residual @ gain.T > 0).astype(np.uint8)
    words = pack(tables)
    wrong = np.empty(0) if truth is None else outside_errors(words, index, truth)
    violating = int((tables[:, index] != bits).any(axis=1).sum())
    counter = Counter(len(root), 0)
    count_words(words, 1, 0, counter)
    rows, tally = counter.result(count, count, True)
    return rows, tally, wrong, violating
