"""Sums over clusters of kept draws: what a ratio estimate and its standard error need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.complexity import ones_packed
from simprior.boolean.rows import Rows, key_columns, words_from_columns
from simprior.store import RunDir, read_table, write_table
from simprior.training.mcmc.training_set import TrainingSet

NONE = np.zeros(3, np.int64)


@dataclass
class ClusterSums:
    """Kept functions of a range of hidden draws: sums over clusters, by function and in total.

    ``rows.sumsq`` is sum n_cf^2 and ``cross`` sum n_cf a_c; ``ones`` (m + 1, 3) the same three by
    number of ones; ``accepted`` = sum a_c, ``clusters`` those with a_c > 0, ``squares`` sum a_c^2;
    ``wrong`` (3,) sum e_c, sum e_c^2, sum e_c a_c, e_c the errors outside S of the kept functions
    of a cluster.
    """

    rows: Rows
    cross: np.ndarray
    ones: np.ndarray
    accepted: int
    clusters: int
    squares: int
    wrong: np.ndarray

    @property
    def heads(self) -> int:
        """Kept functions of a cluster, on average, as a whole number."""
        return max(1, round(self.accepted / max(self.clusters, 1)))


def ratio_squares(
    count: np.ndarray, squares: np.ndarray, cross: np.ndarray, s: ClusterSums
) -> np.ndarray:
    """``sumsq`` of a table with (n_cf - p a_c)^2 summed over clusters as its residuals: at least k.

    ``estimate.design_effect`` subtracts p^2 times the sum of squared cluster sizes, taken as equal
    but for the last; the same number is added here.
    """
    k = count.astype(float)
    p = k / s.accepted
    residual = squares - 2 * p * cross + p * p * s.squares
    heads = s.heads
    last = s.accepted - (s.clusters - 1) * heads
    sizes = (s.clusters - 1) * heads**2 + last**2
    return np.maximum(np.rint(residual + p * p * sizes).astype(np.int64), count)


def aggregate(words: np.ndarray, owner: np.ndarray, given: TrainingSet) -> ClusterSums:
    """Sums over clusters of the kept functions ``words`` (B, W) with clusters ``owner`` (B,)."""
    _, where, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    a = sizes.astype(np.int64)
    m, wrong = given.m, NONE
    if given.target is not None:
        e = np.bincount(where, given.wrong(words), minlength=len(a)).astype(np.int64)
        wrong = np.array([e.sum(), (e * e).sum(), (e * a).sum()])
    t = ones_packed(words, m).astype(np.int64)
    ones = np.zeros((m + 1, 3), np.int64)
    for group, values in zip(*_sums_by(t[:, None].astype(np.uint64), where, a), strict=True):
        ones[int(group[0])] = values[[0, 2, 3]]
    keys, sums = _sums_by(words, where, a)
    rows = Rows(keys, *(np.ascontiguousarray(sums[:, i]) for i in range(3)))
    return ClusterSums(rows, sums[:, 3].copy(), ones, len(words), len(a), int((a * a).sum()), wrong)


def _sums_by(keys: np.ndarray, where: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys (F, W) and (F, 4): count, clusters, sum n^2, sum n a over the clusters."""
    order = np.lexsort((where, *keys.T[::-1]))
    keys, where = keys[order], where[order]
    if not len(keys):
        return keys, np.zeros((0, 4), np.int64)
    new_key = np.ones(len(keys), bool)
    new_key[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    new_pair = new_key.copy()
    new_pair[1:] |= where[1:] != where[:-1]
    pair = np.flatnonzero(new_pair)
    n = np.diff(np.append(pair, len(keys)))
    per_pair = np.stack([n, np.ones_like(n), n * n, n * a[where[pair]]], axis=1)
    first = np.searchsorted(pair, np.flatnonzero(new_key))
    return keys[new_key], np.add.reduceat(per_pair, first, axis=0)


_COLUMNS, _TOTALS = ("count", "clusters", "sumsq"), ("accepted", "clusters", "squares")


def write_sums(store: RunDir, name: str, sums: ClusterSums, span: list[int]) -> None:
    """Keep the sums of a task as the shard ``name``; ``span`` says which draws they are of."""
    columns = {column: getattr(sums.rows, column) for column in _COLUMNS}
    written = write_table(
        store.shard_path(name), {**key_columns(sums.rows.words), **columns, "cross": sums.cross}
    )
    used = np.flatnonzero(sums.ones.any(axis=1))
    meta = {
        "span": span, "t": used.tolist(), "ones": sums.ones[used].ravel().tolist(),
        "wrong": np.asarray(sums.wrong).tolist(),
        **{total: int(getattr(sums, total)) for total in _TOTALS},
    }  # fmt: skip
    store.register_shard(name, written.sha256, written.rows, written.bytes, meta)


def read_sums(store: RunDir, name: str, m: int, span: list[int]) -> ClusterSums | None:
    """The sums that an earlier run has kept for the draws ``span``, or None."""
    meta = store.shards.get(name, {}).get("meta", {})
    if meta.get("span") != span or not store.has_shard(name):
        return None
    found = read_table(store.shard_path(name))
    rows = Rows(words_from_columns(found, m), *(found[column] for column in _COLUMNS))
    ones = np.zeros((m + 1, 3), np.int64)
    ones[meta["t"]] = np.array(meta["ones"], np.int64).reshape(-1, 3)
    totals: dict[str, Any] = {total: int(meta[total]) for total in _TOTALS}
    wrong = np.array(meta["wrong"], np.int64)
    return ClusterSums(rows, found["cross"], ones, wrong=wrong, **totals)
