"""What ``simprior sensitivity`` finds, and reading it from its run directory.

Many random networks at several lengths, into one table a network and a run directory.

A shard is a chunk of consecutive networks of one length. Every number depends on (seed, n, network)
only, never on chunks or workers.

Distance to the other class and flips until it changes, exactly, from truth tables.

Exactly: over all start strings, and for the flips over all their orders.

Distance and flips of the functions that trained Boolean networks compute, exactly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numba import njit

from simprior.analysis.strings import predictions as gp_prediction
from simprior.analysis.strings import predictions as scaling
from simprior.analysis.strings.networks import Source, Spec
from simprior.analysis.strings.predictions import uniform_distance, uniform_flips
from simprior.analysis.strings.search import Search, first_change, nearest
from simprior.boolean.truthtable import to_hex, unpack
from simprior.checks import shown
from simprior.display import Shown
from simprior.errors import InputError, StoreError, check_fits
from simprior.network.spec import Network
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.tasks import Progress, one_thread, run_tasks
from simprior.training.records import TrainResult

if TYPE_CHECKING:
    import pandas as pd

NETWORKS = "networks.parquet"
SUMMARY, FITS = "tables/sensitivity", "tables/sensitivity-fits"
LAW = "tables/sensitivity-gp.parquet"
COMMAND = "sensitivity"


@dataclass(frozen=True, eq=False, repr=False)
class SensitivityResult(Shown):
    """Distance and flips of random networks.

    Attributes
    ----------
    rows : DataFrame
        A row a network and start string: n, network, string, distance, search, certified, flips,
        unchanged.
    summary : DataFrame
        A row a length: the columns of :func:`scaling.summarise`, and the predictions gp_flips,
        gp_flips_stderr, gp_unchanged and gp_distance_low. These are nan where there is no
        prediction; gp_distance_low also where some string had no other class within reach, as the
        prediction would count it.
    fits : DataFrame
        :func:`scaling.fit`; empty where :func:`scaling.too_few` says why.
    law : DataFrame
        Columns n, k, survival: the law of the number of flips of the Gaussian process.
    notes : list of str
        What was not fitted, and why.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    fits: pd.DataFrame
    law: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Which lengths, what was fitted."""
        lengths = ", ".join(str(n) for n in self.summary["n"]) if len(self.summary) else "none"
        fitted = f"{len(self.fits)} fits" if len(self.fits) else "nothing fitted"
        return [
            f"SensitivityResult: {len(self.rows):,} networks and strings of length {lengths}",
            f"{fitted}, {len(self.notes)} notes",
        ]

    def to_frame(self) -> pd.DataFrame:
        """:attr:`summary`, a row a length."""
        return self.summary


def load(path: Path | str) -> SensitivityResult:
    """A complete run directory of ``simprior sensitivity``. Raises :class:`StoreError`."""
    path = Path(path)
    run = load_run(path)
    if run.command != COMMAND or run.status != "complete" or NETWORKS not in run.files:
        raise StoreError(
            f"{path}: expected a complete run of 'simprior {COMMAND}' over random networks, found "
            f"one of 'simprior {run.command}' that is {run.status}; finish it with --resume"
        )
    rows, summary, fits, law = (
        pd.DataFrame(run.read_table(name)) if name in run.files else pd.DataFrame()
        for name in (NETWORKS, f"{SUMMARY}.parquet", f"{FITS}.parquet", LAW)
    )
    notes = [str(note) for note in run.results.get("notes", [])]
    return SensitivityResult(rows, summary, fits, law, notes)


CHUNK = 20  # networks a shard
Columns = dict[str, np.ndarray]


MOST = 10**12
"""Of any number of things asked for; beyond, no run ends."""


@dataclass(frozen=True)
class SensitivitySettings:
    """What is measured: ``networks`` networks at each length of ``n``.

    Each gets ``strings`` random start strings, each of them ``paths`` random orders of flips.
    ``network`` gives the law (its inputs do not matter), ``classifier`` is ``"network"`` or
    ``"uniform"``, ``gp_draws`` the Gaussian sequences a length (0: no prediction).

    Raises
    ------
    InputError
        A field out of range.
    """

    n: tuple[int, ...]
    network: Network
    classifier: str = "network"
    networks: int = 500
    strings: int = 1
    paths: int = 1
    search: Search = field(default_factory=Search)
    gp_draws: int = gp_prediction.DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least in (("networks", 1), ("strings", 1), ("paths", 1), ("gp_draws", 0)):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool)
            if not good or not least <= value <= MOST:
                raise InputError(
                    f"{name}={shown(value)}", f"an integer >= {least} (and <= {MOST:,})",
                    f"pass for example {name}={max(least, 10)}",
                )  # fmt: skip
        if not self.n or len(set(self.n)) < len(self.n):
            raise InputError(
                f"n={','.join(map(str, self.n)) or 'none'}", "lengths of strings, each once",
                "pass for example --n 100,200,400",
            )  # fmt: skip
        object.__setattr__(self, "n", tuple(sorted(self.specs)))
        fan_ins = (max(self.n), *self.network.hidden)
        weights = zip(fan_ins, (*self.network.hidden, 1), strict=True)
        largest = max(4.0 * fan_in * width for fan_in, width in weights)
        what = f"hidden={shown(self.network.hidden)} on {max(self.n)} bits"
        check_fits(what, largest, "pass smaller --hidden or --n")
        rows = self.networks * self.strings * len(self.n)
        check_fits(f"{rows:,} start strings", 64.0 * rows, "pass fewer --networks or --strings")
        check_fits(f"gp_draws={self.gp_draws}", 8.0 * self.gp_draws, "pass fewer --gp-draws")

    @property
    def specs(self) -> dict[int, Spec]:
        """The law of the classifiers of each length."""
        return {n: Spec(n, self.network, self.classifier) for n in self.n}

    def config(self) -> dict[str, Any]:
        """Plain values for the run directory; their names are those of the flags."""
        network = self.network.to_dict()
        kept = ("hidden", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist")
        search = self.search
        return {
            "n": list(self.n), "network": {name: network[name] for name in kept},
            "classifier": self.classifier, "networks": self.networks, "strings": self.strings,
            "paths": self.paths, "beam": search.beam, "candidates": search.candidates,
            "budget": search.budget, "gp_draws": self.gp_draws, "seed": self.seed,
        }  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """Networks ``first`` to ``stop`` - 1 of length ``n``."""

    n: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"{self.n:06d}-{self.first:08d}"

    @property
    def range(self) -> dict[str, int]:
        """Which networks it is: its shard is registered with them."""
        return {"n": self.n, "first": self.first, "stop": self.stop}


def run_networks(
    study: SensitivitySettings,
    save: Callable[[SensitivityResult, RunDir], None],
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> SensitivityResult:
    """Measure distance and flips of random classifiers, summarise, fit, and predict by the GP.

    With ``out`` the networks are kept in a run directory as they are done, and ``save`` writes the
    result into it and closes it. Raises :class:`InputError`, :class:`StoreError`, or
    ``engine.Interrupted`` (resumable).
    """
    chunks = [
        Chunk(n, first, min(first + CHUNK, study.networks))
        for n in sorted(study.n, reverse=True)
        for first in range(0, study.networks, CHUNK)
    ]
    go = partial(
        run_tasks, partial(measure, study), executor=executor, executor_options=executor_options,
        progress=progress, amount=lambda chunk: chunk.stop - chunk.first,
    )  # fmt: skip
    if out is None:
        parts: dict[Chunk, Columns] = {}
        go(chunks, on_result=parts.__setitem__, workers=min(workers, len(chunks)))
        return complete(study, [parts[chunk] for chunk in chunks])
    study.network.check_storable()
    options = {"workers": workers, "executor": executor}
    with RunDir.open(
        out, COMMAND, study.config(), resume=resume, overwrite=overwrite, options=options
    ) as store:
        if store.finished(NETWORKS, f"{SUMMARY}.parquet"):
            return load(store.path)
        kept = [chunk for chunk in chunks if store.has_shard(chunk.name, chunk.range)]
        if progress is not None and kept:
            progress.update(sum(chunk.stop - chunk.first for chunk in kept))

        def write(chunk: Chunk, columns: Columns) -> None:
            written = write_table(store.shard_path(chunk.name), columns)
            store.register_shard(
                chunk.name, written.sha256, written.rows, written.bytes, chunk.range
            )

        todo = [chunk for chunk in chunks if chunk not in set(kept)]
        go(todo, on_result=write, workers=min(workers, max(len(todo), 1)))
        result = complete(study, [store.read_shard(chunk.name) for chunk in chunks])
        save(result, store)
    return result


def measure(study: SensitivitySettings, chunk: Chunk) -> Columns:
    """Rows of the networks of one chunk, in order."""
    with one_thread():
        source = _source(study.specs[chunk.n], study.seed)
        rows = [
            row for k in range(chunk.first, chunk.stop) for row in measure_network(study, source, k)
        ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@functools.lru_cache(maxsize=1)
def _source(spec: Spec, seed: int) -> Source:
    """The last source, so that its memory serves the chunks that follow."""
    return Source(spec, seed)


def measure_network(study: SensitivitySettings, source: Source, index: int) -> list[dict[str, Any]]:
    """A row for each start string of network ``index``."""
    classifier, n = source.draw(index), source.spec.n
    strings, orders = source.rng("strings", index), source.rng("orders", index)
    rows = []
    for string in range(study.strings):
        centred = classifier.at(strings.integers(0, 2, n))
        found = nearest(centred, study.search)
        flips = np.array([first_change(centred, orders.permutation(n)) for _ in range(study.paths)])
        rows.append({
            "n": n, "network": index, "string": string, "distance": found.distance,
            "search": found.search, "certified": found.certified,
            "flips": float(np.where(flips > 0, flips, n).mean()),
            "unchanged": float((flips == 0).mean()),
        })  # fmt: skip
    return rows


def complete(study: SensitivitySettings, parts: list[Columns]) -> SensitivityResult:
    """Summary, fits and predictions of the rows of all chunks."""
    import pandas as pd

    rows = pd.DataFrame({k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    rows = rows.sort_values(["n", "network", "string"], ignore_index=True)
    summary = scaling.summarise(rows)
    why = scaling.too_few(rows)
    fits = pd.DataFrame() if why else scaling.fit(rows, study.seed)
    notes = [f"no fits over n: {why}"] if why else scaling.without_spread(fits)
    with one_thread():
        predictions, law = predict(study)
    summary = summary.merge(predictions, on="n")
    if "gp_distance_low" in summary:  # it counts functions without another class, distance does not
        summary.loc[summary["not_found"] > 0, "gp_distance_low"] = np.nan
    return SensitivityResult(rows, summary, fits, law, notes)


def predict(study: SensitivitySettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions a length: those of the GP; for uniform classifiers the exact values."""
    import pandas as pd

    rows, laws = [], []
    for n, spec in study.specs.items():
        row = dict.fromkeys(("gp_flips", "gp_flips_stderr", "gp_unchanged", "gp_distance_low"),
                            np.nan)  # fmt: skip
        if study.classifier == "uniform":
            row = {"exact_distance": gp_prediction.uniform_distance(n),
                   "exact_flips": gp_prediction.uniform_flips(n)}  # fmt: skip
        elif study.gp_draws and study.network.weight_dist == "gaussian":
            law = gp_prediction.flip_law(spec, study.gp_draws, study.seed)
            row |= {"gp_flips": law.mean, "gp_flips_stderr": law.stderr,
                    "gp_unchanged": law.unchanged}  # fmt: skip
            if spec.network.encoding == "pm1":
                row["gp_distance_low"] = gp_prediction.distance_floor(spec)
            k = np.arange(n + 1)
            laws.append(pd.DataFrame({"n": n, "k": k, "survival": law.survival}))
        rows.append({"n": n, **row})
    empty = pd.DataFrame({"n": [], "k": [], "survival": []})
    return pd.DataFrame(rows), pd.concat(laws, ignore_index=True) if laws else empty


MOST_BITS = 12


def nearest_distances(tables: np.ndarray) -> np.ndarray:
    """Hamming distance of every string to the nearest string of the other class.

    Parameters
    ----------
    tables : (F, 2^n) array of 0 and 1
        Truth tables.

    Returns
    -------
    (F, 2^n) int array; 0 throughout for constant functions. A distance transform of the cube, one
    pass a bit: n 2^n steps a function.
    """
    bits, n = _check(tables)
    far = n + 1
    to = [np.where(bits == label, 0, far).astype(np.int16) for label in (0, 1)]
    for d in to:
        for bit in range(n):
            pairs = d.reshape(len(d), -1, 2, 1 << bit)
            other = pairs[:, :, ::-1] + 1
            np.minimum(pairs, other, out=pairs)
    found = np.where(bits == 1, to[0], to[1])
    return np.where(found == far, 0, found).astype(np.int64)


def expected_flips(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean number of random flips of distinct bits until the class changes, over all orders.

    Returns (means, unchanged), each (F, 2^n) by start string: E min(T, n), and the probability
    that the class is the same all along, also with all bits flipped. A recursion over the sets of
    flipped bits: n 4^n steps a function.

    Raises :class:`InputError` for tables of more than 12 bits.
    """
    bits, n = _check(tables)
    if n > MOST_BITS:
        raise InputError(
            f"truth tables of n={n} bits", f"at most {MOST_BITS}", "draw random flips instead"
        )
    means, unchanged = np.empty(bits.shape), np.empty(bits.shape)
    _flips(bits, n, means, unchanged)
    return means, unchanged


def _check(tables: np.ndarray) -> tuple[np.ndarray, int]:
    bits = np.ascontiguousarray(tables, np.uint8)
    n = bits.shape[-1].bit_length() - 1
    if bits.ndim != 2 or bits.shape[1] != 1 << n or n < 1:
        raise InputError(
            f"tables of shape {bits.shape}", "(F, 2^n) truth tables", "pass one row a function"
        )
    return bits, n


@njit(nogil=True, cache=True)
def _flips(bits: np.ndarray, n: int, means: np.ndarray, unchanged: np.ndarray) -> None:
    size = 1 << n
    more, same = np.empty(size), np.empty(size)
    for f in range(bits.shape[0]):
        for start in range(size):
            label = bits[f, start]
            for flipped in range(size - 1, -1, -1):
                if bits[f, start ^ flipped] != label:
                    more[flipped], same[flipped] = 0.0, 0.0
                elif flipped == size - 1:
                    more[flipped], same[flipped] = 0.0, 1.0
                else:
                    steps, stays, left = 0.0, 0.0, 0
                    for bit in range(n):
                        if not (flipped >> bit) & 1:
                            steps += more[flipped | (1 << bit)]
                            stays += same[flipped | (1 << bit)]
                            left += 1
                    more[flipped], same[flipped] = 1.0 + steps / left, stays / left
            means[f, start], unchanged[f, start] = more[0], same[0]


TRAINED = "tables/trained-sensitivity.parquet"


def trained_sensitivity(run: TrainResult | Path | str, members: int | None = None) -> pd.DataFrame:
    """Distance and flips of every member of a run of ``simprior train`` on all strings of n bits.

    Each distinct function is done once, from its truth table: no sampling, no search.

    Returns
    -------
    DataFrame
        A row a member (of the first ``members``): member, function (hex), fitted, test_error,
        distance (mean over start strings; nan for a constant), distance_max, flips (mean of
        min(T, n) over start strings and orders), unchanged, and the two values expected of a
        uniformly random function, uniform_distance and uniform_flips.

    Raises
    ------
    InputError
        Networks on real data or chosen inputs, or more than 12 bits.
    StoreError
        Not a complete run of ``simprior train``.
    """
    result = run if isinstance(run, TrainResult) else TrainResult.load(run)
    n, m = int(result.problem["n"]), result.m
    if not 1 <= n <= MOST_BITS or m != 1 << n:
        raise InputError(
            f"a run with n={n}, m={m} inputs",
            f"all strings of 1 to {MOST_BITS} bits",
            "for real data measure the box CSR: simprior measure --measures sensitivity",
        )
    words = result.words[:members]
    distinct, where = np.unique(words, axis=0, return_inverse=True)
    tables = unpack(distinct, m)
    distances = nearest_distances(tables)
    flips, unchanged = expected_flips(tables)
    mean = np.where(distances.any(axis=1), distances.mean(axis=1), np.nan)
    where = where.reshape(-1)
    columns = {
        "member": np.arange(len(words)),
        "function": to_hex(words, m),
        "fitted": result.fitted[:members],
        "test_error": result.test_error[:members],
        "distance": mean[where],
        "distance_max": distances.max(axis=1)[where],
        "flips": flips.mean(axis=1)[where],
        "unchanged": unchanged.mean(axis=1)[where],
        "uniform_distance": uniform_distance(n),
        "uniform_flips": uniform_flips(n),
    }
    return pd.DataFrame(columns)


def load_trained(path: Path | str) -> pd.DataFrame:
    """The table of a run directory with trained networks. Raises :class:`StoreError`."""
    return pd.DataFrame(load_run(path).read_table(TRAINED))


def means(frame: pd.DataFrame) -> dict[str, float]:
    """Means over networks with standard errors, and the values of a uniformly random function.

    The networks share their training set, so the errors do not hold for other training sets.
    """
    from simprior.numerics.estimate import mean_stderr

    out: dict[str, float] = {}
    for name in ("test_error", "distance", "flips", "unchanged"):
        values = frame[name].dropna().to_numpy(float)
        size = len(values)
        out[name] = float(values.mean()) if size else math.nan
        out[f"{name}_stderr"] = mean_stderr(values)  # equal values: as if one were off by 1
    for name in ("uniform_distance", "uniform_flips"):
        out[name] = float(frame[name].mean())
    return out
