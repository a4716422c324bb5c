"""The run of ``simprior sensitivity``: distance to the other class and flips, network by network.

Of random networks at several lengths n, a table with a row a network and start string, summaries,
fits over n, and predictions (:func:`run_networks`). They are done in chunks of consecutive networks
of one length; every number depends on (seed, n, network) only, never on chunks or workers. Of
trained networks on all strings of n bits, both exactly (:func:`trained_sensitivity`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.strings import predictions
from simprior.analysis.strings.networks import Source, Spec
from simprior.analysis.strings.search import (
    MOST_BITS,
    expected_flips,
    first_change,
    nearest,
    nearest_distances,
)
from simprior.analysis.strings.settings import StringsSettings
from simprior.boolean.truthtable import to_hex, unpack
from simprior.display import Shown
from simprior.errors import InputError
from simprior.numerics.estimate import mean_stderr
from simprior.runs.directory import RunDir, load_run
from simprior.runs.sharded import Work, open_run, run_sharded
from simprior.runs.tasks import RunOptions, one_thread
from simprior.training.records import TrainResult

NETWORKS = "networks.parquet"
SUMMARY, FITS = "tables/sensitivity", "tables/sensitivity-fits"
LAW = "tables/sensitivity-gp.parquet"
COMMAND = "sensitivity"


@dataclass(frozen=True, eq=False, repr=False)
class StringsResult(Shown):
    """Distance and flips of random networks.

    Attributes
    ----------
    rows : DataFrame
        A row a network and start string: n, network, string, distance, search, certified, flips,
        unchanged; of torch modules also sensitivity, how many single flips change the class.
    summary : DataFrame
        A row a length: the columns of :func:`predictions.summarise`, and the predictions gp_flips,
        gp_flips_stderr, gp_unchanged and gp_distance_low. These are nan where there is no
        prediction; gp_distance_low also where some string had no other class within reach, as the
        prediction would count it.
    fits : DataFrame
        :func:`predictions.fit`; empty where :func:`predictions.too_few` says why.
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
            f"StringsResult: {len(self.rows):,} networks and strings of length {lengths}",
            f"{fitted}, {len(self.notes)} notes",
        ]

    def to_frame(self) -> pd.DataFrame:
        """:attr:`summary`, a row a length."""
        return self.summary


def load(path: Path | str) -> StringsResult:
    """A complete run directory of ``simprior sensitivity``. Raises :class:`StoreError`."""
    path = Path(path)
    run = load_run(path)
    if run.command != COMMAND or run.status != "complete" or NETWORKS not in run.files:
        expected = f"a complete run of 'simprior {COMMAND}' over random networks"
        raise run.in_place_of(expected, "finish it with --resume")
    rows, summary, fits, law = (
        pd.DataFrame(run.read_table(name)) if name in run.files else pd.DataFrame()
        for name in (NETWORKS, f"{SUMMARY}.parquet", f"{FITS}.parquet", LAW)
    )
    notes = [str(note) for note in run.results.get("notes", [])]
    return StringsResult(rows, summary, fits, law, notes)


CHUNK = 20  # networks a shard
Columns = dict[str, np.ndarray]


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
    def size(self) -> int:
        """Networks in it."""
        return self.stop - self.first

    @property
    def range(self) -> dict[str, int]:
        """Which networks it is: its shard is registered with them."""
        return {"n": self.n, "first": self.first, "stop": self.stop}


@dataclass(frozen=True)
class StringsWork(Work[Chunk, Columns]):
    """The work of :func:`run_networks`: a shard for every chunk."""

    settings: StringsSettings

    def compute(self, piece: Chunk) -> Columns:
        """Rows of the networks of one chunk, in order."""
        settings = self.settings
        with one_thread():
            source = _source(settings.specs[piece.n], settings.seed)
            rows = [
                row
                for k in range(piece.first, piece.stop)
                for row in measure_network(settings, source, k)
            ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def run_networks(
    settings: StringsSettings,
    save: Callable[[StringsResult, RunDir], None],
    options: RunOptions | None = None,
) -> StringsResult:
    """Measure distance and flips of random classifiers, summarise, fit, and predict by the GP.

    With ``options.out`` the networks are kept in a run directory as they are done, and ``save``
    writes the result into it and closes it. Raises :class:`InputError`, :class:`StoreError`, or
    ``engine.Interrupted`` (resumable).
    """
    how = RunOptions() if options is None else options
    chunks = [
        Chunk(n, first, min(first + CHUNK, settings.networks))
        for n in sorted(settings.n, reverse=True)
        for first in range(0, settings.networks, CHUNK)
    ]
    work = StringsWork(settings)
    if how.out is None:
        return complete(settings, run_sharded(work, chunks, how, None))
    settings.network.check_storable()
    with open_run(how, COMMAND, settings.config()) as store:
        if store.finished(NETWORKS, f"{SUMMARY}.parquet"):
            return load(store.path)
        result = complete(settings, run_sharded(work, chunks, how, store))
        save(result, store)
    return result


@functools.lru_cache(maxsize=1)
def _source(spec: Spec, seed: int) -> Source:
    """The last source, so that its memory serves the chunks that follow."""
    return Source(spec, seed)


def measure_network(settings: StringsSettings, source: Source, index: int) -> list[dict[str, Any]]:
    """A row for each start string of network ``index``."""
    classifier, n = source.draw(index), source.spec.n
    strings, orders = source.rng("strings", index), source.rng("orders", index)
    rows = []
    for string in range(settings.strings):
        centred = classifier.at(strings.integers(0, 2, n))
        flips = np.array(
            [first_change(centred, orders.permutation(n)) for _ in range(settings.paths)]
        )
        likely = settings.module is None or bool(flips.any())
        found = nearest(centred, settings.search, likely)
        row = {
            "n": n,
            "network": index,
            "string": string,
            "distance": found.distance,
            "search": found.search,
            "certified": found.certified,
            "flips": float(np.where(flips > 0, flips, n).mean()),
            "unchanged": float((flips == 0).mean()),
        }
        if settings.module is not None:
            row["sensitivity"] = found.singles
        rows.append(row)
    return rows


def complete(settings: StringsSettings, parts: list[Columns]) -> StringsResult:
    """Summary, fits and predictions of the rows of all chunks."""
    rows = pd.DataFrame({k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    rows = rows.sort_values(["n", "network", "string"], ignore_index=True)
    summary = predictions.summarise(rows)
    why = predictions.too_few(rows)
    fits = pd.DataFrame() if why else predictions.fit(rows, settings.seed)
    notes = [f"no fits over n: {why}"] if why else predictions.without_spread(fits)
    if settings.module is not None and settings.gp_draws:
        notes.append(f"no Gaussian process: of {settings.module.make_name} there is none here")
    with one_thread():
        predicted, law = predict(settings)
    summary = summary.merge(predicted, on="n")
    if "gp_distance_low" in summary:  # it counts functions without another class, distance does not
        summary.loc[summary["not_found"] > 0, "gp_distance_low"] = np.nan
    return StringsResult(rows, summary, fits, law, notes)


def predict(settings: StringsSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions a length: those of the GP; for uniform classifiers the exact values."""
    rows, laws = [], []
    for n, spec in settings.specs.items():
        row = dict.fromkeys(
            ("gp_flips", "gp_flips_stderr", "gp_unchanged", "gp_distance_low"), np.nan
        )
        if settings.classifier == "uniform":
            row = {
                "exact_distance": predictions.uniform_distance(n),
                "exact_flips": predictions.uniform_flips(n),
            }
        elif settings.module is not None:
            pass  # of modules no Gaussian process is known here
        elif settings.gp_draws and settings.network.weight_dist == "gaussian":
            law = predictions.flip_law(spec, settings.gp_draws, settings.seed)
            row |= {
                "gp_flips": law.mean,
                "gp_flips_stderr": law.stderr,
                "gp_unchanged": law.unchanged,
            }
            if spec.network.encoding == "pm1":
                row["gp_distance_low"] = predictions.distance_floor(spec)
            k = np.arange(n + 1)
            laws.append(pd.DataFrame({"n": n, "k": k, "survival": law.survival}))
        rows.append({"n": n, **row})
    empty = pd.DataFrame({"n": [], "k": [], "survival": []})
    return pd.DataFrame(rows), pd.concat(laws, ignore_index=True) if laws else empty


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
    n, m = result.trained_on.n, result.m
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
        "uniform_distance": predictions.uniform_distance(n),
        "uniform_flips": predictions.uniform_flips(n),
    }
    return pd.DataFrame(columns)


def load_trained(path: Path | str) -> pd.DataFrame:
    """The table of a run directory with trained networks. Raises :class:`StoreError`."""
    return pd.DataFrame(load_run(path).read_table(TRAINED))


def means(frame: pd.DataFrame) -> dict[str, float]:
    """Means over networks with standard errors, and the values of a uniformly random function.

    The networks share their training set, so the errors do not hold for other training sets.
    """
    out: dict[str, float] = {}
    for name in ("test_error", "distance", "flips", "unchanged"):
        values = frame[name].dropna().to_numpy(float)
        size = len(values)
        out[name] = float(values.mean()) if size else math.nan
        out[f"{name}_stderr"] = mean_stderr(values)  # equal values: as if one were off by 1
    for name in ("uniform_distance", "uniform_flips"):
        out[name] = float(frame[name].mean())
    return out
