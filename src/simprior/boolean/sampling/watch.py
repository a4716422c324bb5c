"""Watch mode: P(f) of given functions and P(t), without counting functions, in constant memory.

Plain counting estimates a rare function from its few hits. Given everything but the last bias, the
probability of a function is known exactly (:mod:`simprior.boolean.sampling.watch_kernel`). The mean
of that conditional probability is unbiased and has a far smaller variance (conditional Monte Carlo:
Rao-Blackwell).

:func:`watch` runs it and returns a :class:`WatchResult`: estimates with errors by hidden draw.
:func:`load_result` reads what ``simprior sample`` wrote, whether it counted or watched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.canonical import reverse64
from simprior.boolean.complexity import lz76_packed, ones_packed
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.job import STREAM, Job, Task, make_plan, make_scratch, symmetry_of
from simprior.boolean.sampling.prepare import make_job
from simprior.boolean.sampling.rows import inputs_of
from simprior.boolean.sampling.watch_kernel import fill_slots, watch_block
from simprior.boolean.symmetry import Symmetry, canonical
from simprior.boolean.truthtable import bit_matrix, from_hex, pack, parse_functions, to_hex, unpack
from simprior.checks import RUN_OPTIONS, Switch, checked, shown
from simprior.display import Shown, estimate, short
from simprior.errors import InputError, StoreError
from simprior.network.activations import COMPILED, code_of
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb, share_stderr, student_factor
from simprior.numerics.random import philox_key
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.files import csv_text, whole_in
from simprior.runs.manifest import MANIFEST
from simprior.runs.reading import damaged, verification
from simprior.runs.sharded import Shard, Work, open_run, run_sharded
from simprior.runs.tasks import Progress, RunOptions
from simprior.runs.threads import per_thread

if TYPE_CHECKING:
    import pandas as pd

TRUSTED_DRAWS = 100
"""Effective hidden draws below which intervals are too short: of a narrow deep network, where P(f)
given the hidden layers has heavy tails, 95 % intervals covered 73, 80 and 88 % at 16, 64 and 200
hidden draws (``tests/boolean/test_watch.py``)."""


@dataclass(frozen=True, repr=False)
class WatchResult(Shown):
    """Estimates for the watched functions.

    ``words`` (F, W) packed functions; ``members`` (F,) functions averaged over (class size when
    pooled, else 1); ``p`` and ``stderr`` (F,) the estimate of P(f) of one function and its standard
    error by hidden draw; ``ones_p`` and ``ones_stderr`` (m + 1,) those of P(t).
    """

    m: int
    words: np.ndarray
    members: np.ndarray
    p: np.ndarray
    stderr: np.ndarray
    ones_p: np.ndarray
    ones_stderr: np.ndarray
    samples: int
    draws: int
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.p)

    def __iter__(self) -> Iterator[Any]:
        """Rows of :meth:`to_frame` as named tuples."""
        return iter(self.to_frame().itertuples(index=False, name="Row"))

    def __getitem__(self, which: Any) -> Any:
        """A row of :meth:`to_frame` (a pandas Series), by function or by number.

        Raises :class:`InputError` for a function that was not watched.
        """
        frame = self.to_frame().astype(object)
        if isinstance(which, int | np.integer):
            row = range(len(self))[int(which)]
        else:
            n = self.m.bit_length() - 1 if self.m & (self.m - 1) == 0 else 0
            text = to_hex(pack(parse_functions(which, self.m, n)), self.m)[0]
            found = np.flatnonzero(frame["function"] == text)
            if not len(found):
                watched = ", ".join(map(short, frame["function"][:5]))
                raise InputError(f"function={text}", f"one of {watched}, ...", "watch it too")
            row = int(found[0])
        return frame.iloc[row].rename(frame["function"][row])

    def lines(self) -> list[str]:
        """How many functions in how many networks, and the first two with their intervals."""
        frame = self.to_frame(top=2)
        rows = zip(*(frame[c] for c in ("function", "p", "p_low", "p_high")), strict=True)
        top = ", ".join(f"{short(f)} {estimate(p, low, high)}" for f, p, low, high in rows)
        gain = self.summary()["median_variance_reduction"]
        return [
            f"WatchResult: {len(self.p):,} watched functions in {self.samples:,} networks "
            f"(m={self.m})",
            f"first: {top}",
            f"{self.draws:,} hidden draws; variance reduced {gain:.3g} times (median)",
        ]

    @property
    def keep(self) -> float:
        """Share of functions kept by their hash: all of them."""
        return 1.0

    @property
    def variance_reduction(self) -> np.ndarray:
        """(F,) binomial variance of plain counting with as many samples over our variance."""
        plain = self.p * (1 - self.p) / self.samples
        known = (self.stderr > 0) & (plain > 0)
        return np.divide(plain, self.stderr**2, out=np.ones_like(plain), where=known)

    @property
    def effective_draws(self) -> np.ndarray:
        """(F,) hidden draws of equal weight, met or not at random, that would have this relative
        error: (p / stderr)^2, 0 where none was met."""
        return _effective(self.p, self.stderr)

    def intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(low, high): Student's t in ln P (delta method), and at least :meth:`_spikes`;
        [0, 3.7 / draws] where none was met."""
        z = self._factor(level)
        met = self.p > 0
        relative = np.divide(self.stderr, self.p, out=np.full_like(self.p, np.inf), where=met)
        low, high = self._spikes(self.p, self.stderr, level)
        with np.errstate(over="ignore", invalid="ignore"):
            low = np.minimum(low, self.p * np.exp(-z * relative))
            high = np.maximum(high, self.p * np.exp(z * relative))
        return np.where(met, low, 0.0), np.where(met, np.minimum(high, 1.0), self._unmet(level))

    @staticmethod
    def _spikes(p: np.ndarray, stderr: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) if P came from a few hidden draws with much of it each, as many as give this
        relative error: the exact Poisson interval (Garwood 1936) of their number. With few of them
        the spread that was seen says little of those that were not met.
        """
        from scipy.special import gammaincinv

        k = np.clip(_effective(p, stderr), 1e-3, 1e12)
        tail = (1 - level) / 2
        return p * gammaincinv(k, tail) / k, p * gammaincinv(k + 1, 1 - tail) / k

    def _factor(self, level: float) -> float:
        """Quantile of Student's t with a degree of freedom less than hidden draws."""
        return student_factor(self.draws, level) if self.draws > 1 else math.inf

    def _unmet(self, level: float) -> float:
        """Upper limit of P of what no hidden draw gave: 3.7 / draws at 95 %."""
        return min(1.0, -math.log((1 - level) / 2) / self.draws)

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> WatchResult:
        """Result of a complete watch run; ``verify=False`` as in :meth:`FunctionCounts.load`.

        Raises :class:`StoreError` if it is damaged or not complete.
        """
        run = load_run(path)
        with verification(verify), damaged(Path(path) / MANIFEST):
            m, totals, config = run.results["m"], run.results["watch"], run.config
            samples, draws = totals["samples"], totals["hidden_draws"]
            fits = whole_in(samples, 1, 2**62) and whole_in(draws, 1, samples)
            if run.status != "complete" or m != inputs_of(config) or not fits:
                raise StoreError(
                    f"{path}: expected a complete watch run, found one that is {run.status}, with "
                    f"m={m}, samples={samples}, hidden_draws={draws} in manifest.json; make it "
                    "again with --resume or --overwrite"
                )
            model = Network.from_dict(config["network"])
            watch, ones = run.read_table("watch.parquet"), run.read_table("ones.parquet")
            words = from_hex([str(f) for f in watch["function"]], m)
            return cls(
                m,
                words,
                watch["members"],
                watch["p"],
                watch["stderr"],
                ones["p"],
                ones["stderr"],
                samples,
                draws,
                info={"model": model, "config": config},
            )

    def log_probs(self) -> list[LogProb]:
        """ln P(f) in nats with standard errors (delta method)."""
        out = []
        for p, error in zip(self.p, self.stderr, strict=True):
            value = math.log(p) if p > 0 else -math.inf
            relative = error / p if p > 0 else math.inf
            ess = p * (1 - p) / error**2 if error > 0 else math.nan
            out.append(LogProb(value, relative, ess, "bias-integrated"))
        return out

    def to_frame(self, top: int | None = None, level: float = 0.95) -> pd.DataFrame:
        """Columns function, p, stderr, p_low, p_high, log10_p, variance_reduction, members, ..."""
        import pandas as pd

        low, high = self.intervals(level)
        with np.errstate(divide="ignore"):
            log10 = np.log10(self.p)
        frame = pd.DataFrame(
            {
                "function": to_hex(self.words, self.m),
                "p": self.p,
                "stderr": self.stderr,
                "p_low": low,
                "p_high": high,
                "log10_p": log10,
                "variance_reduction": self.variance_reduction,
                "members": self.members,
                "ones": ones_packed(self.words, self.m),
                "lz76": lz76_packed(self.words, self.m),
            }
        )
        return frame if top is None else frame.head(top)

    def ones_frame(self, level: float = 0.95) -> pd.DataFrame:
        """P(t) of the number of ones t: columns t, p, stderr, p_low, p_high."""
        import pandas as pd

        half = self._factor(level) * self.ones_stderr
        few_low, few_high = self._spikes(self.ones_p, self.ones_stderr, level)
        low = np.minimum(np.maximum(self.ones_p - half, 0.0), few_low)
        high = np.maximum(self.ones_p + half, few_high)
        high = np.where(self.ones_p > 0, high, self._unmet(level))
        return pd.DataFrame(
            {
                "t": np.arange(self.m + 1),
                "p": self.ones_p,
                "stderr": self.ones_stderr,
                "p_low": low,
                "p_high": np.minimum(high, 1.0),
            }
        )

    def summary(self) -> dict[str, Any]:
        """Totals of the run."""
        reduction = self.variance_reduction
        return {
            "samples": self.samples,
            "hidden_draws": self.draws,
            "functions": len(self.p),
            "median_variance_reduction": float(np.median(reduction)) if len(reduction) else 1.0,
        }


def _effective(p: np.ndarray, stderr: np.ndarray) -> np.ndarray:
    """(p / stderr)^2, 0 where p is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(p > 0, (p / stderr) ** 2, 0.0)
    return found


BLOCK_DRAWS = 1024  # hidden draws summed in one fixed order; the unit of reproducible addition
DEFAULT_HEADS = 16
ROUNDING = 1e-12  # variance between hidden draws, relative to their squares, that is none
MAX_MEMBERS = 5_000_000
SAID = 10  # pairs of functions of one class that are named
COST = "some 7 times"  # at n = 7 (docs/benchmarks.md): the sort and 128 error functions a head
_logger = logging.getLogger("simprior")
_FIELDS = ("sums", "squares", "ones_sums", "ones_squares")
Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class WatchJob:
    """What determines the result of a watch run."""

    job: Job
    targets: np.ndarray  # (M, W) packed, every member of every class
    group: np.ndarray  # (M,) class of each
    classes: int
    row: np.ndarray  # (F,) class of each function given

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers that are summed, by field: one a class, or one a number of ones."""
        ones = self.job.model.m + 1
        return dict(zip(_FIELDS, (self.classes, self.classes, ones, ones), strict=True))


@checked(**RUN_OPTIONS, pool=Switch())
def watch(
    network: Network,
    functions: Any,
    samples: int | float = 10**6,
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    heads: int | str = "auto",
    pool: bool = False,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> WatchResult:
    """Estimate P(f) of ``functions`` and P(t) from ``samples`` networks, last bias integrated out.

    ``pool=True`` averages over all functions of the symmetry class of each watched one; functions
    of one class share one estimate (a log line says so). Without a last bias (sigma_b = 0 there)
    the conditional probabilities are 0 or 1 and nothing is gained: that is said before the run, and
    so is that a network takes several times as long as in counting.
    Other parameters as in :func:`simprior.boolean.sampling.sample.sample`; memory does not grow
    with ``samples``.

    Raises
    ------
    InputError, StoreError, Interrupted
    """
    if not isinstance(network, Network) or code_of(network) is None:
        raise InputError(
            f"watch with {shown(getattr(network, 'activation', type(network).__name__))}",
            f"a Network with one of the activations {', '.join(COMPILED)}",
            "sample without watch and look the functions up in the counts",
        )
    job = make_job(
        network,
        samples,
        seed,
        DEFAULT_HEADS if isinstance(heads, str) and heads == "auto" else heads,
    )
    words = pack(parse_functions(functions, network.m, network.n if network.inputs is None else 0))
    work = _expand(job, words, pool)
    _say_cost(network)
    options = RunOptions.of(locals())
    if out is None:
        return _run(work, words, options, None)
    config = {
        "network": {k: v for k, v in network.to_dict().items() if v is not None},
        "samples": job.samples,
        "seed": job.seed,
        "heads": job.heads,
        "pool": pool,
        "watch": to_hex(words, network.m),
    }
    with open_run(options, "sample", config) as store:
        if store.finished("watch.parquet", "ones.parquet", shards=True):
            return WatchResult.load(store.path)
        result = _run(work, words, options, store)
        _write(store, result)
        return result


def _say_cost(network: Network) -> None:
    """What watching costs and gains, before the work."""
    if network.sigma_bs[-1] == 0:
        _logger.warning(
            "watch with sigma_b=0 in the last layer: no bias to integrate out, so the errors are "
            "those of counting (sample without --watch counts all functions at that cost)"
        )
    else:
        _logger.info(
            "watch: a network takes %s the time of one in counting; worth it for functions whose "
            "variance_reduction in the result is larger",
            COST,
        )


def _write(store: RunDir, result: WatchResult) -> None:
    frames = {"watch": result.to_frame(), "ones": result.ones_frame()}
    for name, frame in frames.items():
        columns = {c: frame[c].to_numpy() for c in frame if c != "function"}
        if "function" in frame:
            columns = {"function": frame["function"].to_numpy(object), **columns}
        write_table(store.path / f"{name}.parquet", columns)
        store.add_file(f"{name}.parquet", rows=len(frame))
        store.write_file(f"tables/{name}.csv", csv_text(frame))
    store.finish({"watch": result.summary(), "m": result.m})


def _expand(job: Job, words: np.ndarray, pool: bool) -> WatchJob:
    """The functions to look up: those given, or all members of their classes, each class once."""
    m = job.model.m
    _check_distinct(words, m)
    if not pool:
        every = np.arange(len(words))
        return WatchJob(job, words, every, len(words), every)
    assert isinstance(job.model, Network)
    symmetry, n = symmetry_of(job.model), job.model.n
    if symmetry.permute and n > 8:
        raise InputError(f"pool with n={n}", "n <= 8 for watched classes", "watch without pool")
    forms, sizes = canonical(words, n, symmetry, None if symmetry.permute else m)
    _, first, row = np.unique(forms, axis=0, return_index=True, return_inverse=True)
    row = row.reshape(-1)
    _check_members(words, m, sizes, first)
    for i in np.flatnonzero(first[row] != np.arange(len(words)))[:SAID]:
        names = to_hex(words[[first[row[i]], i]], m)
        _logger.info("%s and %s are of one class: one estimate for both", *names)
    parts = [orbit_members(words[i], n, symmetry, m) for i in first]
    group = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    return WatchJob(job, np.concatenate(parts), group, len(parts), row)


def _check_distinct(words: np.ndarray, m: int) -> None:
    _, first, row = np.unique(words, axis=0, return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[row.reshape(-1)] != np.arange(len(words)))
    if len(repeats):
        one = int(repeats[0])
        raise InputError(
            f"watch of {len(words)} functions",
            f"distinct functions (numbers {first[row.reshape(-1)[one]] + 1} and {one + 1} are both "
            f"{to_hex(words[[one]], m)[0]})",
            "remove the repeats",
        )


def _check_members(words: np.ndarray, m: int, sizes: np.ndarray, first: np.ndarray) -> None:
    """Refuse more members than fit, before they are listed."""
    total, largest = int(sizes[first].sum()), first[np.argmax(sizes[first])]
    if total > MAX_MEMBERS:
        raise InputError(
            f"watch of {len(words)} functions whose classes have {total:,} members",
            f"at most {MAX_MEMBERS:,} (the class of {to_hex(words[[largest]], m)[0]} alone has "
            f"{int(sizes[largest]):,})",
            "watch fewer functions, or without pool",
        )


def orbit_members(word: np.ndarray, n: int, symmetry: Symmetry, m: int) -> np.ndarray:
    """All distinct functions of the class of one packed function: (orbit, W)."""
    table = unpack(word[None], m)[0]
    tables = table[None]
    if symmetry.permute:
        place = 1 << np.arange(n - 1, -1, -1)
        bits = bit_matrix(n).astype(np.int64)
        index = np.array([bits[:, list(p)] @ place for p in permutations(range(n))])
        tables = table[index]
    packed = np.unique(pack(tables), axis=0)
    if symmetry.flip:
        tables, at = unpack(packed, m), np.arange(m)
        packed = np.unique(
            np.concatenate([pack(tables[:, at ^ mask]) for mask in range(m)]), axis=0
        )
    if symmetry.negate:
        packed = np.unique(np.concatenate([packed, pack(1 - unpack(packed, m))]), axis=0)
    return packed


@per_thread(maxsize=1)
def _prepared(network: Network, heads: int) -> tuple[Any, Any]:
    plan = make_plan(network, heads)
    return plan, make_scratch(plan)


def run_watch_task(work: WatchJob, task: Task) -> Sums:
    """Sums of the blocks of ``task``: one row a block of ``BLOCK_DRAWS`` hidden draws."""
    network, job = work.job.model, work.job
    assert isinstance(network, Network)
    plan, (scratch, buffers) = _prepared(network, job.heads)
    slots = np.full(1 << max(4, (2 * len(work.targets)).bit_length()), -1, np.int64)
    targets = _lane_order(work.targets)
    fill_slots(slots, targets)
    watched_t = np.zeros(network.m + 1, np.bool_)
    watched_t[np.asarray(ones_packed(work.targets, network.m), np.int64)] = True
    blocks = range(task.first, task.stop, BLOCK_DRAWS)
    out = {field: np.zeros((len(blocks), size)) for field, size in work.sizes.items()}
    key = np.uint64(philox_key(job.seed, STREAM))
    for row, first in enumerate(blocks):
        watch_block(
            plan.arch,
            plan.consts,
            scratch,
            plan.heads_arch,
            buffers,
            network.sigma_bs[-1],
            first,
            min(first + BLOCK_DRAWS, task.stop),
            job.samples,
            key,
            slots,
            targets,
            work.group,
            watched_t,
            work.classes,
            *(out[k][row] for k in _FIELDS),
        )
    return out


def _lane_order(words: np.ndarray) -> np.ndarray:
    return np.array([[reverse64(x) for x in row] for row in words], np.uint64).reshape(words.shape)


def _tasks(job: Job) -> list[Task]:
    """Tasks of whole blocks, all of about the same size, some 260,000 heads: a second, about."""
    total = -(-job.samples // job.heads)
    most = max(1, (1 << 18) // (job.heads * BLOCK_DRAWS)) * BLOCK_DRAWS
    tasks = -(-total // most)
    draws = -(-total // (tasks * BLOCK_DRAWS)) * BLOCK_DRAWS
    return [
        Task(i, a, min(a + draws, total), min((a + draws) * job.heads, job.samples) - a * job.heads)
        for i, a in enumerate(range(0, total, draws))
    ]


@dataclass(frozen=True)
class Watching(Work[Task, "Sums"]):
    """The work of a watch run: a shard a task, a column a class (or number of ones)."""

    watched: WatchJob

    def in_threads(self) -> bool:
        """The kernel is compiled."""
        return True

    def compute(self, piece: Task) -> Sums:
        """Sums of the blocks of a task."""
        return run_watch_task(self.watched, piece)

    def shards(self, piece: Task, result: Sums) -> list[Shard]:
        """One shard of all sums."""
        flat = {
            f"{field}{i}": result[field][:, i].copy()
            for field in _FIELDS
            for i in range(result[field].shape[1])
        }
        return [Shard(piece.name, flat)]

    def read(self, store: RunDir, piece: Task) -> Sums:
        """The sums of a shard."""
        flat = store.read_shard(piece.name)
        return {
            field: np.stack([flat[f"{field}{i}"] for i in range(size)], axis=1)
            for field, size in self.watched.sizes.items()
        }


def _run(
    work: WatchJob, words: np.ndarray, options: RunOptions, store: RunDir | None
) -> WatchResult:
    return _result(work, words, run_sharded(Watching(work), _tasks(work.job), options, store))


def _result(work: WatchJob, words: np.ndarray, parts: Sequence[Sums]) -> WatchResult:
    totals = {k: _sum([p[k] for p in parts]) for k in _FIELDS}
    job = work.job
    draws = -(-job.samples // job.heads)
    members = np.bincount(work.group, minlength=work.classes).astype(float)[work.row]
    p, error = (x[work.row] for x in _mean(totals["sums"], totals["squares"], job.samples, draws))
    ones_p, ones_error = _mean(totals["ones_sums"], totals["ones_squares"], job.samples, draws)
    result = WatchResult(
        job.model.m,
        words,
        members,
        p / members,
        error / members,
        ones_p,
        ones_error,
        job.samples,
        draws,
        info={"model": job.model},
    )
    few = int((result.effective_draws < TRUSTED_DRAWS).sum())
    if few:
        _logger.warning(
            "watch: %d of %d functions rest on fewer than %d effective hidden draws; their "
            "intervals may be too short, for draws with much of P(f) may not have been met: "
            "raise --samples or lower --heads",
            few,
            len(words),
            TRUSTED_DRAWS,
        )
    return result


def _sum(parts: list[np.ndarray]) -> np.ndarray:
    """Sum of all block rows, one after the other: the same whatever the tasks were."""
    total: np.ndarray = np.cumsum(np.concatenate(parts), axis=0)[-1]
    return total


def _mean(
    sums: np.ndarray, squares: np.ndarray, samples: int, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean a sample and its standard error from sums over hidden draws.

    Where all hidden draws agree (none met it, or all did) others may not have been met: the error
    is that of a share of draws without a hit (:func:`simprior.numerics.estimate.share_stderr`).
    """
    if draws < 2:
        return sums / samples, np.full_like(sums, np.inf)
    between = np.maximum(squares - sums * sums / draws, 0.0) * draws / (draws - 1)
    flat = between <= ROUNDING * squares
    error = np.where(flat, share_stderr(0.0, draws), np.sqrt(between) / samples)
    return sums / samples, error


def load_result(
    path: Path | str, top: int | None = None, *, verify: bool = True
) -> FunctionCounts | WatchResult:
    """Counts of a run (its ``top`` commonest rows if given), or the result of a watch run.

    ``verify=False`` as in :meth:`FunctionCounts.load`. Raises :class:`StoreError` when it is
    neither, not complete, or damaged.
    """
    if "watch" in load_run(path).results:
        return WatchResult.load(path, verify=verify)
    return FunctionCounts.load(path, top=top, verify=verify)
