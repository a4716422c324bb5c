"""The stage ``[logp]`` of a study: ln P of many functions under many priors. Its ``kind`` is one of

``ep``: how wrong is expectation propagation (EP)? EP minus the exact ln P over functions, inputs,
encodings, depths and sigmas. The functions of a prior are the named ones, draws from the prior
itself (the simple functions that matter in practice), and a named base function with 1, 2, 4, ...
outputs flipped at random, which leads from simple to random. See ``examples/how-wrong-is-ep.toml``.

``width``: from finite width to the Gaussian process. P(f) of networks with equal hidden layers is
estimated by watching f (last bias integrated out, averaged over the symmetry class of f), the limit
by ``tilted`` or, for the commonest functions, plain Monte Carlo. The corrections to the Gaussian
process are a series in 1/width (Yaida 2020; Roberts, Yaida & Hanin 2022), so ln P_width - ln P_GP =
c/width + d/width^2 + ..., which :func:`fit_width` tests. See ``examples/width-convergence.toml``.

``finite``: ln P of networks of many widths, far below what sampling reaches
(:mod:`simprior.analysis.study.logp_finite`).

``multiplier``: EP with a probit link and a multiplied kernel, against the exact value, on real data
(:mod:`simprior.analysis.study.logp_multiplier`).

The stage is a run directory as of ``simprior logp``: ``logp.parquet`` and, in
``tables/overview.parquet``, the table of :func:`overview`.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.study.logp_finite import FiniteStudy, finite_overview
from simprior.analysis.study.logp_multiplier import MultiplierStudy, multiplier_overview
from simprior.analysis.study.sections import AsComputed, run_section, section_settings
from simprior.analysis.table_files import keep_table
from simprior.boolean.complexity import lz76_packed, ones_packed
from simprior.boolean.sampling.watch import watch as watch_functions
from simprior.boolean.truthtable import (
    bit_matrix,
    input_matrix,
    named,
    pack,
    parse_functions,
    to_hex,
)
from simprior.errors import InputError
from simprior.gp.covariance import root
from simprior.gp.kernels import nngp
from simprior.gp.orthant import Columns, log_prior
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir
from simprior.runs.tasks import RunOptions, progress_bar

OVERVIEW = "tables/overview.parquet"
PART = 1_000_000
"""Networks of a width that are sampled as one piece."""
_EP_COMMON = -6.0  # ln P above which plain Monte Carlo reaches the wanted error in seconds
_WIDTH_COMMON = -3.0  # ln P above which plain Monte Carlo is the cheaper way to the limit


@dataclass(frozen=True)
class Setting:
    """One prior; ``depth`` hidden layers."""

    n: int
    encoding: str
    depth: int
    sigma_w: float
    sigma_b: float

    def network(self) -> Network:
        """The network spec (widths do not matter)."""
        return Network(
            n=self.n,
            hidden=(1,) * self.depth,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
            encoding=self.encoding,
        )


@dataclass(frozen=True)
class EpStudy(AsComputed):
    """Axes (every combination is a prior), functions, and accuracy of a stage of kind ``ep``.

    ``base`` is the function whose outputs are flipped; ``flips`` functions for each of 1, 2, 4,
    ..., m/2 flips; ``prior_draws`` functions drawn from each prior; ``tol`` the wanted standard
    error of the exact value in nats.
    """

    n: tuple[int, ...] = (5, 7)
    encoding: tuple[str, ...] = ("01", "pm1")
    depth: tuple[int, ...] = (1, 2, 5)
    sigma_w: tuple[float, ...] = (1.0, 2.0)
    sigma_b: tuple[float, ...] = (1.0,)
    functions: tuple[str, ...] = ("const0", "x1", "and2", "majority", "xor2", "parity")
    base: str = "x1"
    flips: int = 2
    prior_draws: int = 20
    tol: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        _check_tol(self.tol)
        for setting in self.pieces():  # bad settings and functions are refused before the work
            setting.network()
            for name in (*self.functions, self.base):
                named(name, setting.n)

    def pieces(self) -> list[Setting]:
        """What is computed one by one: all combinations of the axes, in order."""
        axes = (self.n, self.encoding, self.depth, self.sigma_w, self.sigma_b)
        return [Setting(*values) for values in itertools.product(*axes)]

    def compute(self, setting: Setting) -> Columns:
        """Rows of one prior.

        Columns: n, encoding, depth, sigma_w, sigma_b, source (named, prior, flipped), name,
        function, ones, lz76, exact (ln P of ``tilted``, or of plain Monte Carlo, see
        ``exact_method``, where the Pareto k-hat of a common function says not to trust it),
        exact_stderr, pareto_k, reliable, ep, ep_converged, difference (EP minus exact, nats).
        """
        K = nngp(setting.network(), bit_matrix(setting.n, setting.encoding))
        names, sources, tables = functions_of(self, setting, K)
        exact = self._exact(tables, K)
        ep = log_prior(tables, K, "ep", n=0)
        words = pack(tables)
        count = len(tables)
        return {
            **{name: np.full(count, value) for name, value in asdict(setting).items()},
            "source": np.array(sources, object),
            "name": np.array(names, object),
            "function": np.array(to_hex(words, tables.shape[1]), object),
            "ones": ones_packed(words, tables.shape[1]),
            "lz76": lz76_packed(words, tables.shape[1]),
            "exact_method": np.array([e.method for e in exact], object),
            "exact": np.array([e.value for e in exact]),
            "exact_stderr": np.array([e.stderr for e in exact]),
            "pareto_k": np.array([e.diagnostics.get("pareto_k", math.nan) for e in exact], float),
            "reliable": np.array([e.diagnostics["reliable"] for e in exact], bool),
            "ep": np.array([e.value for e in ep]),
            "ep_converged": np.array([e.diagnostics["converged"] for e in ep], bool),
            "difference": np.array([a.value - e.value for a, e in zip(ep, exact, strict=True)]),
        }

    def _exact(self, tables: np.ndarray, K: np.ndarray) -> list[LogProb]:
        found = log_prior(tables, K, "tilted", n=0, seed=self.seed, tol=self.tol)
        for i, result in enumerate(found):
            if not result.diagnostics["reliable"] and result.value > _EP_COMMON:
                draws = int(math.exp(-result.value) / self.tol**2) + 1
                found[i] = log_prior(tables[i], K, "mc", n=0, seed=self.seed, draws=draws)[0]
        return found


def functions_of(
    study: EpStudy, setting: Setting, K: np.ndarray
) -> tuple[list[str], list[str], np.ndarray]:
    """(names, sources, (F, m) tables) of a prior with kernel ``K``, without repeats."""
    random = rng.generator(study.seed, f"study-ep/{setting}")
    factor = root(K)
    rows = [(name, "named", named(name, setting.n)) for name in study.functions]
    normals = random.standard_normal((study.prior_draws, factor.shape[1]))
    rows += [("", "prior", table) for table in (normals @ factor.T > 0).astype(np.uint8)]
    base, m = named(study.base, setting.n), 1 << setting.n
    possible = np.flatnonzero(np.diag(K) > 0)  # inputs of zero variance have output 0
    for power in range(setting.n):
        for _ in range(study.flips):
            table = base.copy()
            table[random.permutation(possible)[: 1 << power]] ^= 1
            rows.append((f"{study.base}, {1 << power} of {m} flipped", "flipped", table))
    seen: dict[bytes, tuple[str, str, np.ndarray]] = {}
    for row in rows:
        seen.setdefault(row[2].tobytes(), row)
    names, sources, tables = zip(*seen.values(), strict=True)
    return list(names), list(sources), np.stack(tables)


@dataclass(frozen=True)
class Piece:
    """``samples`` networks of one ``width``; or, for width 0, the limit of function ``part``."""

    width: int
    part: int
    samples: int
    heads: int


@dataclass(frozen=True)
class WidthStudy:
    """One prior at several widths: a stage of kind ``width``.

    ``widths``, ``samples`` (networks) and ``heads`` (networks that share hidden layers) go together
    one by one; ``functions`` are one a symmetry class, with ``labels`` to show (or none); ``tol``
    is the wanted standard error of the limit in nats.
    """

    n: int = 7
    depth: int = 2
    activation: str = "relu"
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    encoding: str = "01"
    widths: tuple[int, ...] = (40, 100, 400)
    samples: tuple[int, ...] = (1_000_000, 1_000_000, 1_000_000)
    heads: tuple[int, ...] = (16, 64, 256)
    functions: tuple[str, ...] = ("const0", "or", "and", "x1")
    labels: tuple[str, ...] = ("",)
    tol: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        pairs = [("samples", "widths"), ("heads", "widths")]
        if self.labels != ("",):
            pairs.append(("labels", "functions"))
        for key, other in pairs:
            found, wanted = len(getattr(self, key)), len(getattr(self, other))
            if found != wanted:
                each = f"one for each of the {wanted} {other}"
                raise InputError(f"{key} of {found} entries", each, "correct the file")
        _check_tol(self.tol)
        self.tables()  # bad functions and settings are refused before the work
        for width in self.widths:
            self.network(width)

    def network(self, width: int) -> Network:
        """The network of one width."""
        return Network(
            n=self.n,
            hidden=(width,) * self.depth,
            activation=self.activation,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
            encoding=self.encoding,
        )

    def tables(self) -> np.ndarray:
        """(F, m) truth tables."""
        return parse_functions(list(self.functions), 1 << self.n, self.n)

    def pieces(self) -> list[Piece]:
        """What is computed one by one: the limit of each function, and parts of each width."""
        pieces = [Piece(0, i, 0, 0) for i in range(len(self.functions))]
        for width, samples, heads in zip(self.widths, self.samples, self.heads, strict=True):
            count = -(-samples // PART)
            sizes = np.diff(np.linspace(0, samples, count + 1).astype(int)).tolist()
            pieces += [Piece(width, i, size, heads) for i, size in enumerate(sizes)]
        return pieces

    def compute(self, piece: Piece) -> Columns:
        """Estimates of one piece: a row a function (sampled), or one row (limit)."""
        began = perf_counter()
        if piece.width == 0:
            return self._limit(piece.part)
        random = rng.generator(self.seed, f"study-width/{piece.width}", piece.part)
        found = watch_functions(
            self.network(piece.width),
            self.tables(),
            samples=piece.samples,
            seed=int(random.integers(2**62)),
            heads=piece.heads,
            pool=True,
        )
        count = len(found.p)
        return {
            "index": np.arange(count),
            "width": np.full(count, float(piece.width)),
            "method": np.full(count, "sampled", object),
            "samples": np.full(count, piece.samples),
            "members": found.members.astype(np.int64),
            "p": found.p,
            "p_stderr": found.stderr,
            "reliable": found.p > 0,  # what no draw gave has an upper limit only
            "seconds": np.full(count, (perf_counter() - began) / count),
        }

    def _limit(self, index: int) -> Columns:
        network = self.network(1)
        K = nngp(network, input_matrix(network))
        began = perf_counter()
        table = self.tables()[index]
        estimate = partial(log_prior, table, K, n=0, seed=self.seed)
        (result,) = estimate("tilted")
        if result.value > _WIDTH_COMMON:
            draws = int(math.expm1(-result.value) / self.tol**2) + 1
            (result,) = estimate("mc", draws=draws)
        else:
            (result,) = estimate("tilted", tol=self.tol)
        k_hat = result.diagnostics.get("pareto_k", 0.0)
        trusted = result.diagnostics["converged"] and not k_hat > 0.7
        p = math.exp(result.value)
        return {
            "index": np.array([index]),
            "width": np.array([math.inf]),
            "method": np.array([result.method], object),
            "samples": np.array([0]),
            "members": np.array([1]),
            "p": np.array([p]),
            "p_stderr": np.array([p * result.stderr]),
            "reliable": np.array([bool(trusted)]),
            "seconds": np.array([perf_counter() - began]),
        }

    def join(self, columns: Columns) -> Columns:
        """P(f) at every width and in the limit, a row each, from the rows of all pieces.

        Columns: name, function (hex), width (inf: the limit), method, samples, p, p_stderr, logp,
        stderr (nats), reliable, converged, seconds, members (of the symmetry class), gap (ln P at
        this width minus that of the limit) and gap_stderr (of both). Parts of a width are weighted
        by their samples.
        """
        functions = to_hex(pack(self.tables()), 1 << self.n)
        labels = self.functions if self.labels == ("",) else self.labels
        rows = []
        for index, name in enumerate(labels):
            of = columns["index"] == index
            limit = _pooled(columns, of & np.isinf(columns["width"]))
            members = int(columns["members"][of].max())
            for width in (*map(float, self.widths), math.inf):
                row = _pooled(columns, of & (columns["width"] == width))
                row = {"name": name, "function": functions[index], "width": width, **row}
                row |= {"members": members, "gap": row["logp"] - limit["logp"]}
                error = 0.0 if math.isinf(width) else math.hypot(row["stderr"], limit["stderr"])
                rows.append({**row, "gap_stderr": error})
        texts = ("name", "function", "method")
        return {k: np.array([r[k] for r in rows], object if k in texts else None) for k in rows[0]}


def _check_tol(tol: float) -> None:
    if not tol > 0:
        raise InputError(f"tol={tol}", "a standard error > 0 in nats", "write tol = 0.001")


def _pooled(columns: Columns, rows: np.ndarray) -> dict[str, Any]:
    samples = columns["samples"][rows].astype(float)
    weight = samples / samples.sum() if samples.any() else np.ones(1)
    p = float(weight @ columns["p"][rows])
    error = math.sqrt(float(weight**2 @ columns["p_stderr"][rows] ** 2))
    return {
        "method": str(columns["method"][rows][0]),
        "samples": int(samples.sum()),
        "p": p,
        "p_stderr": error,
        "logp": math.log(p) if p > 0 else -math.inf,
        "stderr": error / p if p > 0 else math.inf,
        "reliable": bool(columns["reliable"][rows].all()),
        "converged": True,
        "seconds": float(columns["seconds"][rows].sum()),
    }


Study = EpStudy | WidthStudy | FiniteStudy | MultiplierStudy
KINDS: dict[str, type[Study]] = {
    "ep": EpStudy,
    "width": WidthStudy,
    "finite": FiniteStudy,
    "multiplier": MultiplierStudy,
}


def logp_study(values: Mapping[str, Any], seed: int = 0) -> Study:
    """What a section ``[logp]`` asks for; ``seed`` is the recipe's, used if it has none.

    Raises :class:`InputError` for an unknown kind or key, or a value of the wrong type.
    """
    return section_settings("logp", KINDS, values, seed)


def run_logp(study: Study, *, out: Path | str | None = None, **run_options: Any) -> pd.DataFrame:
    """The table of a study; its columns are told by the ``compute`` or ``join`` of its class.

    With ``out`` it is written as a run directory, where each piece is a shard until the end.
    ``run_options`` (resume, overwrite, workers, executor, progress, ...) are fields of
    :class:`simprior.runs.tasks.RunOptions`. Raises InputError, StoreError, Interrupted.
    """
    return pd.DataFrame(run_section("logp", KINDS, study, RunOptions(out=out, **run_options)))


def logp_stage(
    values: Mapping[str, Any], out: Path, *, seed: int = 0, quiet: bool = True, **run_options: Any
) -> None:
    """Run a section ``[logp]`` into the directory ``out``, with its overview."""
    study = logp_study(values, seed)
    with progress_bar(len(study.pieces()), "piece", quiet=quiet) as progress:
        frame = run_logp(study, out=out, progress=progress, **run_options)
    doubtful = int((~frame["reliable"].astype(bool)).sum())
    if doubtful:
        logging.getLogger("simprior").warning(
            "%d of %d values of ln P are not reliable: raise samples or particles, or lower tol",
            doubtful,
            len(frame),
        )
    with RunDir.attach(out) as run:
        keep_table(run, OVERVIEW, overview(frame))
        run.save()


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """What the table of a study says in a few rows: of any kind."""
    if "multiplier" in frame:
        return multiplier_overview(frame)
    if "gain" in frame:
        return finite_overview(frame)
    return _width_overview(frame) if "gap" in frame else _ep_overview(frame)


def summarise_study(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """EP minus exact over the values of one column: functions, median, 5 % and 95 %, extremes."""
    groups = frame[np.isfinite(frame["difference"])].groupby(by)["difference"]
    table = groups.quantile([0.0, 0.05, 0.5, 0.95, 1.0]).unstack()
    table.columns = ["least", "q05", "median", "q95", "greatest"]
    table.insert(0, "functions", groups.size())
    return table.reset_index()


def _ep_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """:func:`summarise_study` by n, and at the largest n by every axis, source and named function.

    Only rows whose exact value is reliable and whose EP converged. Column ``by`` is the axis, and
    ``value`` the value on it, as text.
    """
    good = frame[frame["reliable"].astype(bool) & frame["ep_converged"].astype(bool)]
    largest = good[good["n"] == good["n"].max()]
    parts = [("n", good)]
    parts += [(by, largest) for by in ("encoding", "depth", "sigma_w", "sigma_b", "source")]
    parts.append(("name", largest[largest["source"] == "named"]))
    tables = []
    for by, rows in parts:
        table = summarise_study(rows, by).rename(columns={by: "value"})
        table["value"] = [v if isinstance(v, str) else f"{v:g}" for v in table["value"]]
        table.insert(0, "by", by)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _width_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a function: members, ln P of the limit, the gap at each width, and the fit of c/width.

    Columns name, members, logp and logp_stderr (of the limit, nats), ``gap_<width>`` and
    ``gap_<width>_stderr`` (nats), and those of :func:`fit_width`, which are missing for a function
    with too few widths.
    """
    rows = []
    for name, part in frame.groupby("name", sort=False):
        limit = part[np.isinf(part["width"])].iloc[0]
        row = {"name": name, "members": limit["members"]}
        row |= {"logp": limit["logp"], "logp_stderr": limit["stderr"]}
        for _, at in part[np.isfinite(part["width"])].iterrows():
            row[f"gap_{at['width']:.0f}"] = at["gap"]
            row[f"gap_{at['width']:.0f}_stderr"] = at["gap_stderr"]
        try:
            row |= {str(key): value for key, value in fit_width(part).iloc[0].items()}
        except InputError as error:
            logging.getLogger("simprior").warning("no fit of c/width: %s", error)
        rows.append(row)
    return pd.DataFrame(rows).infer_objects()


def fit_width(frame: pd.DataFrame, order: int = 1, narrowest: float = 0.0) -> pd.DataFrame:
    """Weighted least squares of ln P = a + c/width (order 1) + d/width^2 (order 2), by function.

    The limit is one of the points (at 1/width = 0), so its error is carried through. Widths below
    ``narrowest`` are left out.

    Returns
    -------
    DataFrame
        Columns name, c, c_stderr, (d, d_stderr,) chi2, dof, p_value (of chi2 >= the value).

    Raises
    ------
    InputError
        Fewer points than parameters plus one.
    """
    from scipy.stats import chi2

    rows = []
    for name, part in frame[frame["width"] >= narrowest].groupby("name", sort=False):
        good = part[np.isfinite(part["logp"]) & (part["stderr"] > 0)]
        if len(good) < order + 2:
            wanted = f"at least {order + 2} for order {order}"
            raise InputError(f"{len(good)} widths of {name}", wanted, "add widths or samples")
        design = np.vander(1.0 / good["width"].to_numpy(), order + 1, increasing=True)
        error = good["stderr"].to_numpy()
        scale = np.abs(design).max(axis=0)
        y = good["logp"].to_numpy() / error
        solution, _, _, _ = np.linalg.lstsq(design / scale / error[:, None], y, rcond=None)
        covariance = np.linalg.inv((design / scale / error[:, None] ** 2).T @ (design / scale))
        residual = (design / scale @ solution) / error - y
        square = float(residual @ residual)
        spread = np.sqrt(np.diag(covariance))
        row: dict[str, Any] = {"name": name}
        for key, i in zip(("c", "d"), range(1, order + 1), strict=False):
            row |= {key: solution[i] / scale[i], f"{key}_stderr": spread[i] / scale[i]}
        dof = len(good) - order - 1
        row |= {"chi2": square, "dof": dof, "p_value": float(chi2.sf(square, dof))}
        rows.append(row)
    return pd.DataFrame(rows)
