"""The training set S of a posterior: which inputs, which labels.

From Markov chains over networks to a table of functions, with an honest word on convergence.

Every chain is a cluster of the table (``heads`` = draws a chain, ``draws`` = chains): its standard
errors and intervals come from the spread between independent chains and so contain the
autocorrelation within them. R-hat and the effective sample sizes (Vehtari, Gelman, Simpson,
Carpenter & Buerkner 2021; computed by arviz-stats) are those of statistics of the FUNCTIONS:
parameters have symmetries that no chain needs to explore.

Sums over clusters of kept draws: what a ratio estimate and its standard error need.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import differences, lz76_packed, ones_packed
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.rows import (
    Counter,
    Profile,
    Rows,
    Tally,
    count_words,
    key_columns,
    words_from_columns,
)
from simprior.boolean.truthtable import check_index, one_function, pack
from simprior.errors import InputError
from simprior.numerics.estimate import design_effect, korn_graubard, share_stderr
from simprior.runs.directory import RunDir, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TrainingSet:
    """``index`` (s,) inputs, ``bits`` (s,) uint8 labels, of ``m`` inputs; ``target`` (m,) or None.

    ``target`` has the true labels, if known, from which ``bits`` may differ: it defines the error
    of a draw on the inputs outside S.
    """

    m: int
    index: np.ndarray
    bits: np.ndarray
    target: np.ndarray | None = None

    @property
    def outside(self) -> np.ndarray:
        """(m - s,) inputs outside S."""
        return np.setdiff1d(np.arange(self.m), self.index)

    def wrong(self, words: np.ndarray) -> np.ndarray:
        """(F,) numbers of inputs outside S where (F, W) packed functions differ from the target."""
        assert self.target is not None
        outside = np.ones(self.m, bool)
        outside[self.index] = False
        return differences(words, self.target, outside)

    def agree(self, tables: np.ndarray) -> np.ndarray:
        """(F,) bool: which of the (F, m) ``tables`` agree with S."""
        agree: np.ndarray = (tables[..., self.index] == self.bits).all(axis=-1)
        return agree


def make_training_set(
    m: int, train_index: Sequence[int] | np.ndarray, labels: Any, target: Any = None
) -> TrainingSet:
    """Checked training set.

    Parameters
    ----------
    m : int
        Number of inputs of a function.
    train_index : (s,) integers
        The inputs in S, 1 <= s < m, each once.
    labels : (s,) of 0/1 or -1/+1, or None
        Their labels; None takes them from ``target``.
    target : function, optional
        The true labels of all m inputs, in any accepted form. ``labels`` may differ from them
        (corruption, attack points).

    Raises
    ------
    InputError
        S is empty or everything, labels are missing or not binary.
    """
    index = check_index(train_index, m, "number the inputs as the bits of a truth table")
    table = None if target is None else one_function(target, m, "target")
    if labels is None:
        if table is None:
            raise InputError("labels=None", "labels or a target", "pass labels, one an input of S")
        bits = table[index]
    else:
        bits = one_function(labels, index.size, "labels")
    return TrainingSet(m, index, bits, table)


R_HAT_LIMIT = 1.01
MIN_ESS = 400.0  # Vehtari et al. 2021, section 4: below it R-hat itself is not to be trusted
_TOP = 5
_MAX_TRACE = 1000  # draws a chain used for LZ complexity


@dataclass(frozen=True)
class Convergence:
    """R-hat and ESS of every statistic; ``converged`` and, if not, why.

    A statistic that is the same in all draws has neither, and no standard error (nan).
    """

    table: dict[str, dict[str, float]]
    converged: bool
    reason: str

    @property
    def rhat(self) -> float:
        """The largest R-hat (nan if no statistic varies)."""
        values = [row["rhat"] for row in self.table.values() if np.isfinite(row["rhat"])]
        return max(values, default=float("nan"))

    @property
    def ess(self) -> float:
        """The smallest bulk ESS (nan if no statistic varies)."""
        values = [row["ess"] for row in self.table.values() if np.isfinite(row["ess"])]
        return min(values, default=float("nan"))

    def to_frame(self) -> pd.DataFrame:
        """Columns statistic, mean, stderr, rhat, ess."""
        import pandas as pd

        return pd.DataFrame([{"statistic": k, **v} for k, v in self.table.items()])


def rhat(draws: np.ndarray) -> float:
    """Rank-normalised split R-hat of (chains, draws), the larger of bulk and tail.

    nan if nothing varies; inf if chains are stuck at different values.
    """
    return _diagnose(draws)[0]


def ess(draws: np.ndarray) -> float:
    """Bulk effective sample size of (chains, draws); nan if nothing varies."""
    return _diagnose(draws)[1]


def _diagnose(draws: np.ndarray) -> tuple[float, float]:
    from arviz_stats.base import array_stats

    x = np.asarray(draws, float)
    if x.shape[1] < 4 or (x == x.flat[0]).all():
        return float("nan"), float("nan")
    if (x == x[:, :1]).all():
        return float("inf"), float(len(x))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        r = float(array_stats.rhat(x, chain_axis=0, draw_axis=1, method="rank"))
        n = float(array_stats.ess(x, chain_axis=0, draw_axis=1, method="bulk"))
    return r, n


def convergence(statistics: dict[str, np.ndarray]) -> Convergence:
    """Diagnostics of named (chains, draws) statistics.

    Converged means: R-hat below 1.01 and bulk ESS of at least 400 for every statistic that varies,
    at least one of them varies, from at least two chains of at least four draws. Chains in which
    nothing varies may sit on all there is, or be stuck: R-hat is 0/0, which cannot tell.
    """
    table, worst = {}, []
    for name, values in statistics.items():
        x = np.asarray(values, float)
        r, n = _diagnose(x)
        error = float(x.std() / np.sqrt(n)) if n > 0 else float("nan")
        table[name] = {"mean": float(x.mean()), "stderr": error, "rhat": r, "ess": n}
        if r >= R_HAT_LIMIT:
            worst.append(f"R-hat of {name} {r:.3f}")
        if n < MIN_ESS:
            worst.append(f"ESS of {name} {n:.0f}")
        if np.ptp(x) > 0 and not (np.isfinite(n) and not np.isnan(r)):
            worst.append(f"R-hat of {name} cannot be told")
    if all(np.ptp(values) == 0 for values in statistics.values()):
        worst.append(
            "all draws are one function: chains that never moved cannot tell convergence from "
            "being stuck"
        )
    shape = next(iter(statistics.values())).shape
    if shape[0] < 2 or shape[1] < 4:
        worst.append(f"{shape[0]} chains of {shape[1]} draws")
    return Convergence(table, not worst, "; ".join(worst))


def function_statistics(
    words: np.ndarray, given: TrainingSet, top: np.ndarray
) -> dict[str, np.ndarray]:
    """Statistics of (C, T, W) packed functions, each (C, T).

    ``ones`` number of ones; ``lz76`` complexity (of about 1000 draws a chain, equally spaced);
    ``error`` share of inputs outside S where the target differs (with a target); ``f1`` ...
    indicator of each of the ``top`` (k, W) functions; ``agrees`` whether the draw agrees with S, if
    not all do.
    """
    chains, draws, width = words.shape
    flat = words.reshape(-1, width)
    out: dict[str, np.ndarray] = {}
    out["ones"] = ones_packed(flat, given.m).reshape(chains, draws).astype(float)
    step = -(-draws // _MAX_TRACE)
    part = np.ascontiguousarray(words[:, ::step])
    out["lz76"] = lz76_packed(part.reshape(-1, width), given.m).reshape(part.shape[:2])
    if given.target is not None:
        share = given.wrong(flat) / len(given.outside)
        out["error"] = share.reshape(chains, draws)
    for i, word in enumerate(top):
        out[f"f{i + 1}"] = (words == word).all(axis=2).astype(float)
    agree = violations(words, given)
    if agree.any() and not agree.all():
        out["agrees"] = 1.0 - agree
    return out


def violations(words: np.ndarray, given: TrainingSet) -> np.ndarray:
    """(C, T) of 0/1: which of (C, T, W) packed functions disagree with S."""
    mask, want = np.zeros((2, given.m), np.uint8)
    mask[given.index], want[given.index] = 1, given.bits
    packed = pack(np.stack([mask, want]))
    wrong: Any = ((words & packed[0]) != packed[1]).any(axis=2).astype(np.uint8)
    return wrong


def counts_of_chains(
    words: np.ndarray, given: TrainingSet, n: int, info: dict[str, Any]
) -> FunctionCounts:
    """Table of (C, T, W) packed functions, chains the clusters.

    ``info`` is completed with ``rhat``, ``ess``, ``converged``, ``reason`` (why not),
    ``statistics`` (name -> mean, stderr, rhat, ess), ``chains``, ``draws_per_chain``,
    ``violating`` (share of draws that disagree with S; of a soft likelihood with
    ``violating_high``, its 95 % upper limit), with a target ``error`` and
    ``error_stderr`` (mean share of inputs outside S where a draw differs from it), and becomes
    ``info["posterior"]``.

    The error of draws that all make the same number of errors has the standard error of a share
    that was not met (:func:`simprior.numerics.estimate.share_stderr`) in as many independent draws
    as the smallest ESS, or as there are chains if nothing varies.
    """
    chains, draws, width = words.shape
    samples = chains * draws
    counter = Counter(given.m, 0)
    step = max(1, (1 << 16) // draws)
    for at in range(0, chains, step):
        flat = np.ascontiguousarray(words[at : at + step]).reshape(-1, width)
        count_words(flat, draws, at, counter)
    rows, tally = counter.result(samples, chains, draws == 1)
    rows = _sorted(rows)
    found = convergence(function_statistics(words, given, rows.words[:_TOP]))
    error = found.table.get("error")
    if error is not None:
        if np.isnan(error["stderr"]):
            independent = found.ess if np.isfinite(found.ess) else float(chains)
            error["stderr"] = float(share_stderr(0.0, independent))
        info = info | {"error": error["mean"], "error_stderr": error["stderr"]}
    report = info | {
        "chains": chains, "draws_per_chain": draws, "rhat": found.rhat, "ess": found.ess,
        "converged": found.converged, "reliable": found.converged, "reason": found.reason,
        "violating": float(violations(words, given).mean()), "statistics": found.table,
    }  # fmt: skip
    counts = _table(given.m, n, rows, tally, chains, draws, report)
    if "beta" in info or "noise" in info:
        report["violating_high"] = _share_high(violations(words, given).sum(axis=1), counts)
    return counts


def _share_high(hits: np.ndarray, counts: FunctionCounts) -> float:
    """95 % upper limit of the share of draws with an event met ``hits`` (C,) times by the chains.

    Its design effect is its own, or that of the functions on average if that is larger.
    """
    k, q = hits[None].sum(axis=1, dtype=float), (hits[None].astype(float) ** 2).sum(axis=1)
    own = design_effect(k, (hits[None] > 0).sum(axis=1), q, counts.samples, counts.draws)
    shared = np.average(counts.design_effects, weights=counts.count)
    effect = np.where(k > 0, np.maximum(own, shared), shared)
    if counts.iid:
        effect = np.ones(1)
    return float(korn_graubard(k, counts.samples, effect, clusters=counts.draws)[1][0])


def _sorted(rows: Rows) -> Rows:
    """By descending count, then ascending table."""
    order = np.lexsort((*rows.words.T[::-1], -rows.count))
    return Rows(rows.words[order], rows.count[order], rows.clusters[order], rows.sumsq[order])


def _table(
    m: int, n: int, rows: Rows, tally: Tally, chains: int, draws: int, report: dict[str, Any]
) -> FunctionCounts:
    return FunctionCounts(
        m, n, rows, Profile.of(rows.count, rows.clusters, rows.sumsq), chains * draws, chains,
        draws, ones=tally.ones, dispersion=tally.dispersion, info={"posterior": report},
    )  # fmt: skip


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
