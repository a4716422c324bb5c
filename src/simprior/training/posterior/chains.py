"""What the Markov chains over networks share: the training set, the run, the table of functions.

:func:`draw_chains` is the one driver. A method (slice sampling, HMC, NUTS) gives it what carries
its chains on, and what the report says of the method; blocks, resume, workers and progress are
those of :mod:`simprior.boolean.sampling.chains`.

Every chain is a cluster of the table (``heads`` = draws a chain, ``draws`` = chains): its standard
errors and intervals come from the spread between independent chains and so contain the
autocorrelation within them. R-hat and the effective sample sizes (Vehtari, Gelman, Simpson,
Carpenter & Buerkner 2021; computed by arviz-stats) are those of statistics of the FUNCTIONS:
parameters have symmetries that no chain needs to explore.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import differences, lz76_packed, ones_packed
from simprior.boolean.sampling.chains import Advance, State, check_rows, run_chains
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.rows import (
    Counter,
    Profile,
    Rows,
    Tally,
    count_words,
)
from simprior.boolean.truthtable import check_index, n_words, one_function, pack
from simprior.checks import Integer, Maybe
from simprior.errors import InputError, check_fits
from simprior.network.spec import Network, check_size
from simprior.numerics.estimate import design_effect, korn_graubard, share_stderr
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress

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


MOST = {"chains": 10**5, "thin": 10**9, "burn_in": 10**9, "leapfrog": 10**6, "max_depth": 30}
"""Numbers beyond which no run ends, or fits in memory."""


def check_at_least(name: str, value: Any, low: int) -> None:
    """Refuse anything but None or a whole number of at least ``low``."""
    remedy = f"pass for example {name}={min(32, MOST[name])}"
    Maybe(Integer(low, MOST[name], remedy))(name, value)


@dataclass(frozen=True)
class Length:
    """``chains`` of ``draws`` records each, ``thin`` steps apart, after ``burn_in`` steps."""

    chains: int
    draws: int
    thin: int
    burn_in: int


def length_of(
    network: Network,
    samples: int,
    chains: int,
    thin: int,
    burn_in: int | None,
    *,
    shortest: int = 0,
    together: int = 1,
    **own: int,
) -> Length:
    """Checked length of the chains that draw ``samples`` functions (rounded up) of a network.

    The burn-in is half of the steps between records by default, and at least ``shortest``.
    ``together`` networks must fit in memory. ``own`` are options of the method, >= 1. Raises
    :class:`InputError`.
    """
    numbers = [("chains", chains, 1), ("thin", thin, 1), ("burn_in", burn_in, 0)]
    for name, value, low in [*numbers, *((name, value, 1) for name, value in own.items())]:
        check_at_least(name, value, low)
    check_size(network, together)
    check_fits(f"samples={samples}", 8.0 * samples * n_words(network.m), "draw fewer --samples")
    draws = -(-samples // chains)
    if burn_in is None:
        burn_in = max(shortest, thin * draws // 2)
    return Length(chains, draws, thin, burn_in)


def draw_chains(
    advance: Advance,
    network: Network,
    given: TrainingSet,
    length: Length,
    describe: Callable[[list[State]], dict[str, Any]],
    *,
    group: int = 1,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Run the chains of a method and count their functions.

    Parameters
    ----------
    advance : callable
        ``(number, state, seconds) -> Piece``: goes on with a group of chains (see
        :func:`simprior.boolean.sampling.chains.run_chains`). A row of its draws is the function of
        one chain; the chains of a group take turns.
    describe : callable
        Last states of all groups -> what the report says of the method.
    group : int
        Chains that ``advance`` carries together; the last group may have fewer.
    workers, progress, store
        As of ``run_chains``.

    Raises
    ------
    StoreError, Interrupted, and what ``advance`` raises.
    """
    sizes = [min(group, length.chains - c) for c in range(0, length.chains, group)]
    found = run_chains(advance, len(sizes), network.m, store, workers=workers, progress=progress)
    words, name = [], "chain" if group == 1 else "chains of group"
    for number, ((part, _), size) in enumerate(zip(found, sizes, strict=True)):
        check_rows(part, length.draws * size, f"{name} {number}")
        words.append(chain_major(part.reshape(length.draws, size, -1)))
    info = describe([end for _, end in found])
    bits = 0 if network.inputs is not None else network.n
    return counts_of_chains(np.concatenate(words), given, bits, info)


def chain_major(records: np.ndarray) -> np.ndarray:
    """(draws, chains, ...) records as (chains, draws, ...)."""
    return np.ascontiguousarray(np.moveaxis(records, 0, 1))
