"""Tables of ln P at finite width, and of its infinite-width limit beside it; with a run directory.

A row a function, width and method, in the order of the functions given:

    index, name, function (hex), width, method, logp (nats), log10, stderr, ess, low, high,
    bound_low, spread, spread_ratio, ancestors, steps, particles, runs, reliable, converged, reason,
    seconds

and further columns that the caller joins to each function. ``method`` is the method used: of
``auto`` the one that it chose. ``stderr`` is nan where a value did not converge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.truthtable import input_matrix, pack, to_hex
from simprior.checks import Choice
from simprior.errors import InputError
from simprior.finite.attempts import Effort
from simprior.finite.methods import DEFAULT, check_costs, check_methods, estimate_by
from simprior.gp.agreement import agreement
from simprior.gp.covariance import check_memory
from simprior.gp.kernels import nngp
from simprior.gp.orthant import TABLE, Request, log_prior_table, summarise
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.sharded import open_run
from simprior.runs.tasks import RunOptions

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, np.ndarray]
WIDTHS = ("finite", "infinite")
NUMBERS = ("low", "high", "bound_low", "spread", "spread_ratio", "ancestors")
COUNTS = ("steps", "particles", "runs")


def check_widths(widths: tuple[str, ...]) -> tuple[str, ...]:
    """``widths`` if they are some of ``WIDTHS``, each once; else :class:`InputError`."""
    for width in widths:
        Choice(WIDTHS, expected="finite, infinite or finite,infinite")("width", width)
    if not widths or len(set(widths)) < len(widths):
        found = f"width={','.join(widths)}"
        raise InputError(found, "finite, infinite or finite,infinite", "pass --width finite")
    return widths


@dataclass(frozen=True)
class FiniteRequest:
    """Functions and what is asked of them.

    ``network``; ``tables`` (F, m) uint8; ``effort``; ``widths``, some of ``WIDTHS``; ``names`` F
    texts shown in place of the hex form; ``joined`` further (F,) columns; ``options`` (draws, tol)
    of the limit, estimated by ``tilted``; ``methods`` for the finite network.
    """

    network: Network
    tables: np.ndarray
    effort: Effort = field(default_factory=Effort)
    seed: int = 0
    widths: tuple[str, ...] = ("finite",)
    names: tuple[str, ...] = ()
    joined: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = (DEFAULT,)

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """(width, method) of the rows of each function."""
        limit = (("infinite", "tilted"),)
        finite = tuple(("finite", method) for method in self.methods)
        return sum((finite if width == "finite" else limit for width in self.widths), ())


def finite_table(
    request: FiniteRequest,
    options: RunOptions,
    *,
    config: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The table; with ``options.out`` a run directory in which every pilot and run is a shard.

    The values depend on the request only. ``results`` are further entries of the manifest. Raises
    what :func:`simprior.finite.prior.log_prior_finite` does.
    """
    import pandas as pd

    check_methods(request.methods, request.network)
    check_costs(request.methods, request.network, request.effort, options.workers)
    if options.out is None:
        return pd.DataFrame(_columns(request, options, None))
    with open_run(options, "logp", config or {}) as store:
        if store.finished(TABLE):
            return pd.DataFrame(load_run(store.path).read_table(TABLE))
        columns = _columns(request, options, store)
        written = write_table(store.path / TABLE, columns)
        store.add_file(TABLE, rows=written.rows)
        store.finish({"rows": written.rows, **summarise(columns), **(results or {})})
        store.clear_shards()
    return pd.DataFrame(columns)


def _columns(request: FiniteRequest, options: RunOptions, store: RunDir | None) -> Columns:
    network, effort = request.network, request.effort
    count, asked = len(request.tables), request.parts
    found = {}
    for width, method in sorted(asked, key=lambda part: part[0] != "infinite"):
        if width == "infinite":  # first: it is quick, and refuses bad options
            found[width, method] = _limit(request, options)
            continue
        results = estimate_by(method, network, request.tables, effort, request.seed, options, store)
        found[width, method] = _finite(results)
    order = np.arange(len(asked) * count).reshape(len(asked), count).T.ravel()
    columns: Columns = {}
    for name in found[asked[0]]:
        joined = np.concatenate([found[part][name] for part in asked])
        columns[name] = joined[order]
    index = np.repeat(np.arange(count), len(asked))
    functions = np.array(to_hex(pack(request.tables), request.tables.shape[1]), object)
    names = np.array(request.names, object) if request.names else functions
    widths = np.tile(np.array([width for width, _ in asked], object), count)
    head = {"index": index, "name": names[index], "function": functions[index], "width": widths}
    tail = {name: np.asarray(values)[index] for name, values in request.joined.items()}
    return {**head, **columns, **tail}


def finite_agreement(columns: Mapping[str, np.ndarray], methods: tuple[str, ...]) -> str:
    """Whether several methods for the finite network agree, in a sentence; '' for one method.

    ``columns`` is a table of :func:`finite_table` of a request with these methods. Values that
    their own method does not believe are left out.
    """
    if len(methods) < 2:
        return ""
    rows = np.flatnonzero(np.asarray(columns["width"]) == "finite")
    asked = np.array(methods, object)[np.arange(len(rows)) % len(methods)]
    used = [str(name).removeprefix("finite-") for name in np.asarray(columns["method"])[rows]]
    twice = (asked == DEFAULT) & np.isin(used, methods)  # what auto took is there by its own name
    rows, asked = rows[~twice], asked[~twice]
    if len(set(asked)) < 2:
        return f"{DEFAULT} took {asked[0]} for each function: nothing to compare."
    believed = np.asarray(columns["reliable"], bool)[rows]
    kept = {name: np.asarray(values)[rows][believed] for name, values in columns.items()}
    said = agreement(kept | {"method": asked[believed]})
    left = int(len(rows) - believed.sum())
    if not said:
        return "No two methods gave values to compare: look at the reasons."
    return f"{said} {left} of {len(rows)} values, not reliable, are left out." if left else said


def _finite(found: list[LogProb]) -> Columns:
    def diagnostic(name: str, missing: Any) -> np.ndarray:
        return np.array([one.diagnostics.get(name, missing) for one in found])

    return {
        "method": np.array([one.method for one in found], object),
        "logp": np.array([one.value for one in found]),
        "log10": np.array([one.log10 for one in found]),
        "stderr": np.array([one.stderr for one in found]),
        "ess": np.array([one.ess for one in found]),
        **{name: diagnostic(name, math.nan).astype(float) for name in NUMBERS},
        **{name: diagnostic(name, 0).astype(np.int64) for name in COUNTS},
        "reliable": diagnostic("reliable", False).astype(bool),
        "converged": diagnostic("converged", False).astype(bool),
        "reason": diagnostic("reason", "").astype(object),
        "seconds": diagnostic("seconds", 0.0).astype(float),
    }


def _limit(request: FiniteRequest, options: RunOptions) -> Columns:
    """The same columns of the Gaussian process."""
    check_memory(request.network.m, options.workers)
    K = nngp(request.network, input_matrix(request.network))
    limit = Request(K, request.tables, seed=request.seed, options=request.options)
    frame = log_prior_table(
        limit, workers=options.workers, executor=options.executor,
        executor_options=options.executor_options,  # type: ignore[arg-type]
    )  # fmt: skip
    kept = "method logp log10 stderr ess reliable converged seconds".split()
    columns = {name: frame[name].to_numpy() for name in kept}
    count = len(frame)
    columns |= {name: np.full(count, math.nan) for name in NUMBERS}
    columns |= {name: np.zeros(count, np.int64) for name in COUNTS}
    return columns | {"reason": np.full(count, "", object)}
