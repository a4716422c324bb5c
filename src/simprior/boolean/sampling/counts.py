"""Counts of functions and what follows from them: P(f) with intervals, unseen mass, totals.

They are read from the run directories of every command that counts functions, and written as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import entropy_packed, lz76_packed, ones_packed
from simprior.boolean.sampling.complexity_sums import COLUMNS, ComplexitySums, Estimate
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.job import Job, symmetry_of
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.ordering import find_rows
from simprior.boolean.sampling.rows import (
    Profile,
    Rows,
    Tally,
    check_rows,
    check_totals,
    profile_of_file,
    read_rows,
    write_rows,
)
from simprior.boolean.sampling.unseen import Unseen, good_turing, partial_table
from simprior.boolean.truthtable import check_words, n_words, pack, parse_functions, to_hex, unpack
from simprior.checks import LEVEL, File, Maybe, Switch, Whole, checked, plain_array, shown, whole
from simprior.display import Shown, estimate, short
from simprior.errors import InputError, StoreError
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.numerics.estimate import (
    clopper_pearson,
    design_effect,
    effective_clusters,
    korn_graubard,
    share_stderr,
)
from simprior.runs.directory import RunDir, RunInfo, load_run, write_table
from simprior.runs.manifest import MANIFEST
from simprior.runs.reading import damaged, verification

if TYPE_CHECKING:
    import pandas as pd

COUNTS, POOLED, COMPLEXITY = "counts.parquet", "pooled.parquet", "complexity.parquet"
_TINY = 1e-300
_BLOCK = 1 << 14
"""Rows made into a frame at a time."""
_SUMS = ("nonconstant", "complexity")
"""Sums over hidden draws that some runs keep."""


def model_of(config: Mapping[str, Any]) -> Network | RandomDNF | Module | None:
    """The model that a run's configuration describes; None for imported counts."""
    if "network" in config:
        return Network.from_dict(config["network"])
    if "modules" in config:
        return Module.from_dict(config["modules"])
    return RandomDNF.from_dict(config["dnf"]) if "dnf" in config else None


def read_counts(path: Path | str, top: int | None = None) -> dict[str, Any]:
    """What :meth:`FunctionCounts.load` needs: totals, rows, profile, model, pooled rows.

    Raises
    ------
    StoreError
        No run directory, not complete, totals that do not fit together, or a table that is
        missing, altered (its SHA-256 is compared) or unreadable.
    """
    path = Path(path)
    run = load_run(path)
    results = run.results
    if run.status != "complete" or "ones" not in results:
        raise StoreError(
            f"{path}: expected a complete run with function counts, found a run of "
            f"'simprior {run.command}' that is {run.status}; {run.way_on}"
        )
    with damaged(path / MANIFEST):
        check_totals(path, results, run.config)
        out: dict[str, Any] = {
            "totals": results,
            "model": model_of(run.config),
            "config": run.config,
        }
    out["rows"], out["profile"] = _table(run, COUNTS, top, results.get("functions"))
    if "pooled" in results:
        classes = results["pooled"]["classes"]
        out["pooled"], out["pooled_profile"] = _table(run, POOLED, top, classes)
    return out


def _table(run: RunInfo, name: str, top: int | None, functions: int | None) -> tuple[Rows, Profile]:
    """Rows and profile of a table of a run, once its hash agrees with the registered one."""
    table, results = run.check(name), run.results
    with damaged(table):
        rows, profile = read_rows(table, results["m"], top), profile_of_file(table)
        check_rows(table, rows, profile, results["samples"], functions)
    return rows, profile


def save_counts(
    path: Path | str,
    command: str,
    config: Mapping[str, Any],
    rows: Rows,
    totals: dict[str, Any],
    *,
    overwrite: bool = False,
    complexity: pd.DataFrame | None = None,
) -> None:
    """Write counts made elsewhere as a complete run directory, with their table ``complexity``."""
    with RunDir.open(path, command, config, overwrite=overwrite) as store:
        write_rows(store.path / COUNTS, rows)
        store.add_file(COUNTS, rows=len(rows.count))
        if complexity is not None:
            write_complexity(store, complexity)
        store.finish(totals)


def write_complexity(store: RunDir, frame: pd.DataFrame) -> None:
    """Write the table of :meth:`FunctionCounts.complexity_frame` into a run directory."""
    write_table(store.path / COMPLEXITY, {name: frame[name].to_numpy() for name in frame})
    store.add_file(COMPLEXITY, rows=len(frame))


def ones_totals(ones: np.ndarray) -> dict[str, Any]:
    """Sparse form of the (m + 1, 2) totals by number of ones, for a manifest."""
    used = np.flatnonzero(ones[:, 0])
    return {
        "t": used.tolist(),
        "count": ones[used, 0].tolist(),
        "sumsq": ones[used, 1].tolist(),
    }


@dataclass(frozen=True, repr=False)
class FunctionCounts(Shown):
    """How often each function was met; rows by descending count, then ascending truth table.

    ``counts["x1"]`` is the row of a function with its interval, met or not; ``counts[0]`` that of
    the commonest, ``counts[:10]`` the same run with the first ten. ``len`` is the number of rows
    loaded, iteration goes over them, and ``"x1" in counts`` tells whether a function was met.

    Attributes
    ----------
    m, n : int
        Number of inputs; number of bits (0 when the inputs are not all bit strings).
    rows : Rows
        ``words`` (F, W) packed tables, ``count``, ``clusters`` (hidden draws that gave the
        function) and ``sumsq`` (sum over hidden draws of squared counts), (F,) int64. A run
        loaded with ``top`` holds only its first rows.
    profile : Profile
        Distinct (count, clusters, sumsq) of the WHOLE table with multiplicities.
    samples, draws, heads : int
        Networks drawn, hidden draws among them, heads a hidden draw. Counts of an imported table
        that lists only part of the functions add up to less (:attr:`unlisted`).
    ones : (m + 1, 2) int64
        Count and sum of squares over hidden draws, by number of ones t (all samples).
    dispersion : float
        See :func:`simprior.boolean.sampling.unseen.good_turing`.
    keep : float
        Share of functions kept by their hash (1: all).
    mirror : bool
        Whether half of the samples are mirrors of the others. A function and its complement then
        are about as often met in every hidden draw, exactly so where no output can be 0.
    nonconstant : NonConstant or None
        What hidden draws gave apart from the constants; kept by runs of torch modules.
    complexity : ComplexitySums or None
        What the functions of the first hidden draws are like, if that was asked for.
    orbit : (F,) float64 or None
        Class sizes of a pooled table, whose rows are canonical forms; "draws" are then tasks.
    """

    m: int
    n: int
    rows: Rows
    profile: Profile
    samples: int
    draws: float
    heads: int = 1
    ones: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    dispersion: float = 1.0
    keep: float = 1.0
    mirror: bool = False
    orbit: np.ndarray | None = None
    pooled: FunctionCounts | None = None
    nonconstant: NonConstant | None = None
    complexity: ComplexitySums | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> np.ndarray:
        """(F, W) packed truth tables."""
        return self.rows.words

    @property
    def count(self) -> np.ndarray:
        """(F,) counts."""
        return self.rows.count

    @property
    def iid(self) -> bool:
        """Whether the samples are independent (or pooled from independent ones)."""
        return self.draws == self.samples or (self.orbit is not None and self.heads == 1)

    @property
    def functions(self) -> int:
        """Number of distinct functions in the whole table."""
        return self.profile.functions

    @property
    def unlisted(self) -> int:
        """Samples whose functions the table does not list; 0 but for imported parts of a table."""
        if self.keep < 1:
            return 0
        return int(self.samples) - int(self.profile.count @ self.profile.multiplicity)

    def __len__(self) -> int:
        return len(self.rows.count)

    def __contains__(self, function: Any) -> bool:
        return bool(self.find(function)[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        """Rows of :meth:`to_frame` as named tuples, a block of them at a time in memory."""
        for start in range(0, len(self), _BLOCK):
            part = self._rows(slice(start, start + _BLOCK)).to_frame(top=None)
            part["rank"] += start
            yield from part.itertuples(index=False, name="Row")

    def __getitem__(self, which: Any) -> Any:
        """A row of :meth:`to_frame` (a pandas Series), by function or by number; a slice of them
        is a table again. Raises as :meth:`find`, :class:`IndexError` for a number."""
        if isinstance(which, slice):
            return self._rows(which)
        if isinstance(which, int | np.integer):
            row = range(len(self))[int(which)]
        else:
            row = int(self.find(which)[0])
        if row < 0:
            return self._unmet_row(which)
        frame = self._rows(slice(row, row + 1)).to_frame(top=None)
        frame["rank"] = row + 1
        return frame.astype(object).iloc[0].rename(frame["function"][0])

    def _unmet_row(self, function: Any) -> Any:
        """The row of a function that was not met: p = 0, and the upper limit of :meth:`share`."""
        words = pack(parse_functions(function, self.m, self.n))
        none = np.zeros(1, np.int64)
        empty = Rows(words, none, none, none)
        orbit = None if self.orbit is None else np.ones(1)
        frame = replace(self, rows=empty, orbit=orbit, draws=self.samples).to_frame(top=None)
        row = frame.astype(object).iloc[0].rename(frame["function"][0])
        row["rank"] = None
        row["stderr"], row["design_effect"] = None, None
        row["p_low"], row["p_high"] = 0.0, self.unmet_bound()
        return row

    def lines(self) -> list[str]:
        """How many functions in how many samples, the commonest, what was not seen."""
        kind = "classes of functions" if self.orbit is not None else "functions"
        bits = f"n={self.n}, " if self.n else ""
        first = f"FunctionCounts: {self.functions:,} {kind} in {self.samples:,} samples"
        frame = self.to_frame(top=2)
        rows = zip(*(frame[c] for c in ("function", "p", "p_low", "p_high")), strict=True)
        top = ", ".join(f"{short(f)} {estimate(p, low, high)}" for f, p, low, high in rows)
        said = [f"{first} ({bits}m={self.m})", f"commonest: {top or 'none loaded'}"]
        if self.orbit is not None:
            return said
        u = self.unseen
        return [*said, f"probability of functions not seen: {estimate(u.mass, u.low, u.high)}"]

    @property
    def p(self) -> np.ndarray:
        """(F,) estimate of P(f); in a pooled table, that of each single member of a class."""
        p = self.count / self.samples
        return p if self.orbit is None else p / self.orbit

    @cached_property
    def design_effects(self) -> np.ndarray:
        """(F,) variance of the estimate over that of as many independent networks."""
        if self.iid:
            return np.ones(len(self))
        q, effects = self.profile, self.profile_effects
        known = np.stack([q.count, q.clusters, q.sumsq], axis=1)
        mine = np.stack([self.rows.count, self.rows.clusters, self.rows.sumsq], axis=1)
        rows = find_rows(known.astype(np.uint64), mine.astype(np.uint64))
        if (rows < 0).any():
            raise StoreError("the table and its profile do not belong together; run again")
        return effects[rows]

    @cached_property
    def profile_effects(self) -> np.ndarray:
        """(G,) design effect of every row of ``profile``."""
        q = self.profile
        if self.iid:
            return np.ones(len(q.count))
        return self._effects(q.count, q.clusters, q.sumsq, q.multiplicity)

    def _effects(
        self, k: np.ndarray, c: np.ndarray, q: np.ndarray, multiplicity: np.ndarray | None = None
    ) -> np.ndarray:
        """Design effects of rows with counts k, clusters c and sums of squared counts q."""
        given: dict[str, Any] = {"multiplicity": multiplicity, "sizes_squared": self._sizes_squared}
        if self.mirror:  # what a head gives its mirror does not: at p = 1/2 there is no chance left
            p = k / self.samples
            given["least"] = np.clip((1.0 - 2.0 * p) / (1.0 - p + _TINY), 1.0 / self.heads, 1.0)
        return design_effect(k, c, q, self.samples, self.draws, **given)

    @property
    def _sizes_squared(self) -> float:
        """Sum of the squared cluster sizes: the last cluster may be cut short."""
        if self.orbit is not None:  # clusters are tasks, of about equal size
            return self.samples**2 / self.draws
        last = self.samples - (self.draws - 1) * self.heads
        return float((self.draws - 1) * self.heads**2 + last**2)

    @property
    def stderr(self) -> np.ndarray:
        """(F,) standard error of ``p``, by cluster where hidden layers are shared."""
        error = share_stderr(self.count / self.samples, self.samples / self.design_effects)
        return error if self.orbit is None else error / self.orbit

    @checked(level=LEVEL)
    def intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of P(f): Clopper-Pearson, or Korn-Graubard where hidden layers are shared."""
        low, high = self.intervals_of(self.count, self.design_effects, level)
        return (low, high) if self.orbit is None else (low / self.orbit, high / self.orbit)

    def intervals_of(
        self, count: np.ndarray, effects: np.ndarray, level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of P of events met ``count`` times, with these design effects."""
        if self.iid:
            return clopper_pearson(count, self.samples, level)
        return korn_graubard(count, self.samples, effects, level, clusters=self.draws)

    def unmet_bound(self, level: float = 0.95) -> float:
        """Upper limit of P(f) of a function that was not met.

        Its design effect is taken as the mean of the functions met in the fewest hidden draws.
        """
        effect = np.ones(1)
        if not self.iid and self.functions:
            rarest = self.profile.clusters == self.profile.clusters.min()
            weights = self.profile.multiplicity[rarest]
            effect = np.average(self.profile_effects[rarest], weights=weights)[None]
        unmet = np.array([float(self.unlisted)])  # each of them may have been it
        return float(self.intervals_of(unmet, effect, level)[1][0])

    def share(self, function: Any, level: float = 0.95) -> tuple[float, float, float]:
        """(p, low, high) of one function, met or not. Raises as :meth:`find`."""
        row = int(self.find(function)[0])
        if row < 0:
            return 0.0, 0.0, self.unmet_bound(level)
        one = self._rows(slice(row, row + 1))
        low, high = one.intervals(level)
        return float(one.p[0]), float(low[0]), float(high[0])

    @cached_property
    def unseen(self) -> Unseen:
        """Probability of all functions not met (Good-Turing, by cluster), or not listed."""
        if self.unlisted > 0:
            return partial_table(self.profile.count, self.samples, self.profile.multiplicity)
        q = self._without_constants() if self.keep < 1 else self.profile
        plain = self.iid and self.keep == 1
        each = 2 if self.mirror else 1  # pairs of functions are met together, and not met
        clusters, squares = (None, None) if plain else (q.clusters, each * each * q.sumsq)
        options: dict[str, Any] = {"dispersion": self.dispersion, "fraction": self.keep}
        options["multiplicity"] = q.multiplicity / each
        return good_turing(each * q.count, clusters, squares, self.samples, **options)

    def _without_constants(self) -> Profile:
        """Profile of a subsampled table less the two constants, which are always kept."""
        q = self.profile
        weight = q.multiplicity.copy()
        for count, squares in self.ones[[0, self.m]]:
            match = (q.count == count) & (q.sumsq == squares) & (weight > 0)
            weight[np.flatnonzero(match)[:1]] -= 1
        left = weight > 0
        return Profile(q.count[left], q.clusters[left], q.sumsq[left], weight[left])

    @checked(top=Maybe(Whole(0)))
    def tables(self, top: int | None = None) -> np.ndarray:
        """(F, m) uint8 truth tables of the first ``top`` rows (all loaded rows by default)."""
        return unpack(self.words[: len(self) if top is None else top], self.m)

    def find(self, functions: Any) -> np.ndarray:
        """Row of each of ``functions`` (any accepted form), -1 where it was not met.

        Raises :class:`InputError` if only the first rows of the table were loaded and one of the
        functions is not among them.
        """
        wanted = pack(parse_functions(functions, self.m, self.n))
        rows = find_rows(self.words, wanted)
        if len(self) < self.functions and (rows < 0).any():
            what = f"find with {len(self)} of {self.functions} rows loaded"
            expected = "functions among the loaded rows"
            raise InputError(what, expected, "load the whole table: FunctionCounts.load(path)")
        return rows

    @checked(top=Maybe(Whole(0)), level=LEVEL)
    def to_frame(self, top: int | None = 20, level: float = 0.95) -> pd.DataFrame:
        """Table of the ``top`` most frequent functions (None: all loaded rows).

        Columns: rank, function (hex), count, p, stderr, p_low, p_high (at ``level``),
        design_effect, ones, lz76, entropy; pooled tables also have orbit (members of the class).
        """
        import pandas as pd

        part = self if top is None else self.head(top)
        low, high = part.intervals(level)
        columns: dict[str, Any] = {
            "rank": np.arange(1, len(part) + 1),
            "function": to_hex(part.words, self.m),
            "count": part.count,
            "p": part.p,
            "stderr": part.stderr,
            "p_low": low,
            "p_high": high,
            "design_effect": part.design_effects,
            "ones": ones_packed(part.words, self.m),
            "lz76": lz76_packed(part.words, self.m),
            "entropy": entropy_packed(part.words, self.m),
        }
        if part.orbit is not None:
            columns["orbit"] = part.orbit
        return pd.DataFrame(columns)

    @checked(top=Whole(0))
    def head(self, top: int) -> FunctionCounts:
        """The same run with the first ``top`` rows only."""
        return self._rows(slice(top))

    def _rows(self, part: slice) -> FunctionCounts:
        """The same run with some of its rows."""
        r = self.rows
        rows = Rows(r.words[part], r.count[part], r.clusters[part], r.sumsq[part])
        return replace(self, rows=rows, orbit=None if self.orbit is None else self.orbit[part])

    @checked(level=LEVEL)
    def ones_frame(self, level: float = 0.95) -> pd.DataFrame:
        """P(t) of the number of ones t: columns t, count, p, stderr, p_low, p_high, design_effect.

        Intervals and errors are those of :meth:`intervals`: the design effects of all t are pooled,
        and a t that was not met has the pooled one. Of a table that lists part of the functions
        ``p`` is the share of the listed ones, a lower bound, and ``p_high`` is as if all unlisted
        samples had t ones.
        """
        import pandas as pd

        k = self.ones[:, 0].astype(float)
        p, effect = k / self.samples, self.ones_effects
        low, high = self.intervals_of(k, effect, level)
        if self.unlisted > 0:
            high = clopper_pearson(k + self.unlisted, self.samples, level)[1]
        return pd.DataFrame(
            {
                "t": np.arange(len(k)),
                "count": self.ones[:, 0],
                "p": p,
                "stderr": share_stderr(p, self.samples / effect),
                "p_low": low,
                "p_high": high,
                "design_effect": effect,
            }
        )

    @cached_property
    def ones_effects(self) -> np.ndarray:
        """(m + 1,) design effect of P(t), t the number of ones."""
        k, q = self.ones[:, 0], self.ones[:, 1]
        if self.iid or not len(k):
            return np.ones(len(k))
        return self._effects(k, effective_clusters(k, q), q)

    def summary(self) -> dict[str, Any]:
        """Totals of the run: samples, effective samples, distinct functions, unseen mass.

        ``unlisted_samples`` where the table lists part of the functions only; the unseen mass is
        then that of all others.
        """
        effect = self.constant_design_effect()
        out: dict[str, Any] = {
            "samples": self.samples,
            "hidden_draws": self.draws,
            "heads": self.heads,
            "design_effect_constant": effect,
            "effective_samples": self.samples / effect,
            "functions": self.functions,
        }
        if self.keep < 1:
            out["keep"] = self.keep
        if self.unlisted > 0:
            out["unlisted_samples"] = self.unlisted
        u = self.unseen
        unseen = {"mass": u.mass, "stderr": u.stderr, "low": u.low, "high": u.high}
        out |= {f"unseen_{name}": value for name, value in unseen.items()}
        for name, (value, low, high) in self._nonconstant_summary().items():
            out |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return out

    def _nonconstant_summary(self) -> dict[str, Estimate]:
        """P(constant), and what is known of the functions that are not, for :meth:`summary`."""
        if self.nonconstant is None and self.complexity is None:
            return {}
        found = {"p_constant": Estimate(*self.constant_share())}
        found["lz76_nonconstant"] = self._lz76_nonconstant()
        if self.complexity is not None and self.complexity.n:
            found["sensitivity"] = self.complexity.over_all("flips")
            found["sensitivity_nonconstant"] = self.complexity.given("flips")
            found["relevant_inputs_nonconstant"] = self.complexity.given("relevant")
        return found

    def _lz76_nonconstant(self, level: float = 0.95) -> Estimate:
        """Mean LZ76 given that the function is not constant: of all hidden draws if that is known,
        else of those that were measured."""
        if self.nonconstant is not None:
            return Estimate(*self.nonconstant.lz76(self.m, level))
        assert self.complexity is not None
        return self.complexity.given("words", level)

    @checked(level=LEVEL)
    def complexity_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Complexity of the functions of the first hidden draws, over all of them and given that
        they are not constant: :meth:`ComplexitySums.to_frame
        <simprior.boolean.sampling.complexity_sums.ComplexitySums.to_frame>`.

        The first row, ``p_constant``, is P(constant) from all samples; the column ``draws`` says
        how many hidden draws a row is of.
        Raises :class:`InputError` for a run that did not measure its functions.
        """
        import pandas as pd

        if self.complexity is None:
            what, expected = "a run without complexity", "functions that were measured"
            raise InputError(what, expected, "sample with complexity=2000 (--complexity 2000)")
        frame = self.complexity.to_frame(level)
        if self.nonconstant is not None:
            for name, number in self._lz76_nonconstant(level)._asdict().items():
                frame.loc[0, name] = math.nan if number is None else number
            frame.loc[0, "draws"] = self.draws
        nan = math.nan
        first = ("p_constant", nan, *self.constant_share(level), nan, nan, nan, self.draws)
        return pd.concat([pd.DataFrame([first], columns=list(COLUMNS)), frame], ignore_index=True)

    @checked(level=LEVEL)
    def constant_share(self, level: float = 0.95) -> tuple[float, float, float]:
        """(p, low, high) of the two constant functions together, the heads of a hidden draw as one
        cluster.

        Runs of a :class:`~simprior.network.spec.Network` with shared layers keep the squares of
        either constant only; their interval is then the widest that these allow. If functions
        were measured, the design effect is that of these hidden draws.
        """
        (k, q) = self.ones[[0, self.m]].astype(float).T
        count = np.array([k.sum()])
        squares = np.array([np.sqrt(q).sum() ** 2])  # Cauchy-Schwarz
        if self.nonconstant is not None:
            squares = np.array([float(self.nonconstant.constant_squares)])
        effect = np.ones(1)
        if not self.iid and self.nonconstant is None and self.complexity is not None:
            each = 2 if self.mirror else 1  # a mirror of a constant is a constant
            effect = each * np.array([self.complexity.constant_effect(self.heads // each)])
        elif not self.iid:
            effect = self._effects(count, effective_clusters(count, squares), squares)
        low, high = self.intervals_of(count, effect, level)
        return float(count[0]) / self.samples, float(low[0]), float(high[0])

    def constant_design_effect(self) -> float:
        """Design effect of the constant functions (1 for independent networks)."""
        if self.iid or not len(self.ones):
            return 1.0
        ends = [0, self.m]
        weights = self.ones[ends, 0].astype(float)  # neither was met: the pooled effect
        return float(np.average(self.ones_effects[ends], weights=weights + (weights.sum() == 0)))

    # -- construction -------------------------------------------------------------------------

    @classmethod
    def totals(cls, job: Job, tallies: Sequence[Tally], profile: Profile) -> dict[str, Any]:
        """Run totals for the manifest, from the tallies of all tasks."""
        ones = np.sum([t.ones for t in tallies], axis=0)
        weights = [t.samples for t in tallies]
        given = {}
        for name in _SUMS:
            found = [getattr(t, name) for t in tallies if getattr(t, name) is not None]
            if found:
                given[name] = sum(found[1:], found[0]).to_dict()
        return given | {
            "m": job.model.m,
            "n": job.model.n if getattr(job.model, "inputs", None) is None else 0,
            "samples": job.samples,
            "heads": 1 if job.iid else job.heads,
            "draws": job.samples if job.iid else -(-job.samples // job.heads),
            "keep": 2.0**-job.keep_shift,
            **({"mirror": True} if job.mirror else {}),
            "functions": profile.functions,
            "dispersion": float(np.average([t.dispersion for t in tallies], weights=weights)),
            "ones": ones_totals(ones),
        }

    @classmethod
    def from_rows(
        cls, job: Job, rows: Rows, tallies: Sequence[Tally], profile: Profile | None = None
    ) -> FunctionCounts:
        """Counts of a job; with the ``profile`` of its table, ``rows`` may be the first ones."""
        profile = profile or Profile.of(rows.count, rows.clusters, rows.sumsq)
        info = {"model": job.model}
        return cls._from_totals(cls.totals(job, tallies, profile), rows, profile, info)

    @classmethod
    @checked(path=File(), top=Maybe(Whole(0)), verify=Switch())
    def load(
        cls, path: Path | str, top: int | None = None, *, verify: bool = True
    ) -> FunctionCounts:
        """Counts of a complete run directory; only the ``top`` commonest rows if given.

        Totals and statistics of the run are those of the whole table in either case. With
        ``verify=False`` (huge tables) the SHA-256 of the table is not compared with that in the
        manifest; a warning says so.
        Raises :class:`StoreError` if the run is not complete or a file is damaged.
        """
        with verification(verify):
            found = read_counts(path, top)
        info = {"model": found["model"], "config": found["config"]}
        counts = cls._from_totals(found["totals"], found["rows"], found["profile"], info)
        if "pooled" not in found:
            return counts
        replicates = found["totals"]["pooled"]["replicates"]
        return counts.with_pool(found["pooled"], replicates, found["pooled_profile"])

    def save(
        self,
        path: Path | str,
        *,
        command: str = "import",
        config: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the table as a complete run directory. Raises :class:`StoreError`."""
        totals = self.run_totals()
        frame = None if self.complexity is None else self.complexity_frame()
        options: dict[str, Any] = {"overwrite": overwrite, "complexity": frame}
        save_counts(path, command, config or {}, self.rows, totals, **options)

    def run_totals(self) -> dict[str, Any]:
        """What a run directory's manifest says of the counts."""
        names = ("m", "n", "samples", "draws", "heads", "dispersion", "keep", "functions")
        out = {name: getattr(self, name) for name in names} | {"ones": ones_totals(self.ones)}
        if self.mirror:
            out["mirror"] = True
        parts = ((name, getattr(self, name)) for name in _SUMS)
        return out | {name: part.to_dict() for name, part in parts if part is not None}

    @classmethod
    def without_rows(cls, totals: dict[str, Any], profile: Profile) -> FunctionCounts:
        """The counts with these totals and this profile, and no rows."""
        none = np.zeros(0, np.int64)
        rows = Rows(np.zeros((0, n_words(totals["m"])), np.uint64), none, none, none)
        return cls._from_totals(totals, rows, profile, {})

    @classmethod
    def _from_totals(
        cls, totals: dict[str, Any], rows: Rows, profile: Profile, info: dict[str, Any]
    ) -> FunctionCounts:
        ones = np.zeros((totals["m"] + 1, 2), np.int64)
        t = totals["ones"]["t"]
        ones[t, 0], ones[t, 1] = totals["ones"]["count"], totals["ones"]["sumsq"]
        names = ("m", "n", "samples", "draws", "heads", "dispersion", "keep")
        known = {name: totals[name] for name in names} | {"mirror": totals.get("mirror", False)}
        if "nonconstant" in totals:
            known["nonconstant"] = NonConstant(**totals["nonconstant"])
        if "complexity" in totals:
            known["complexity"] = ComplexitySums.from_dict(totals["complexity"])
        return cls(rows=rows, profile=profile, ones=ones, info=info, **known)

    @classmethod
    @checked(m=Whole(1), n=Whole(0, 64), samples=Maybe(Whole(1)))
    def from_counts(
        cls, words: np.ndarray, count: np.ndarray, *, m: int, n: int = 0, samples: int | None = None
    ) -> FunctionCounts:
        """Counts of independent samples made elsewhere; equal functions are added up.

        ``words`` (F, W) packed tables, ``count`` (F,) positive integers; ``samples`` defaults to
        their sum. More ``samples`` than that: the table lists part of the functions, P(f) is
        count / samples, and all else is unseen mass. Raises :class:`InputError` for fewer.
        """
        from simprior.boolean.sampling.merging import Merger

        words, count = check_words(words, m), plain_array("count", count)
        if count.shape != (len(words),) or count.dtype.kind not in "iu":
            what = f"count={shown(count)}"
            raise InputError(what, f"{len(words)} whole numbers", "give one count a function")
        count = count.astype(np.int64)
        total = float(count.sum(dtype=float))
        samples = int(total) if samples is None else whole("samples", samples, 1)
        if (count < 1).any() or total > samples or total >= 2**53:
            what = f"counts that add up to {total:.16g}, of samples={samples}"
            expected = "positive counts that add up to the samples or less, below 2^53"
            raise InputError(what, expected, "drop functions with count 0 and leave samples out")
        merger = Merger(m)
        merger.add(Rows(words, count, count, count))
        rows = merger.rows()
        ones = np.zeros((m + 1, 2), np.int64)
        t = ones_packed(rows.words, m).astype(np.int64)
        np.add.at(ones, t, np.stack([rows.count, rows.count], axis=1))
        profile = Profile.of(rows.count, rows.clusters, rows.sumsq)
        return cls(m, n, rows, profile, samples, samples, ones=ones)

    def with_pool(
        self, rows: Rows, replicates: float, profile: Profile | None = None
    ) -> FunctionCounts:
        """The same counts with the pooled table made of ``rows``, counted in ``replicates`` tasks.

        The class size of a canonical form is computed from the symmetries of the model.
        """
        from simprior.boolean.symmetry import canonical

        symmetry = symmetry_of(self.info["model"])
        _, orbit = canonical(rows.words, self.n, symmetry, self.m)
        pooled = replace(
            self,
            rows=rows,
            draws=replicates,
            orbit=orbit,
            ones=np.zeros((0, 2), np.int64),
            mirror=False,
            nonconstant=None,
            complexity=None,
            profile=profile or Profile.of(rows.count, rows.clusters, rows.sumsq),
        )
        return replace(self, pooled=pooled)
