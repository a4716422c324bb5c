"""From finite width to the Gaussian process: sampled P(f) against its limit, width by width.

The recipe ``examples/width-convergence.toml`` lists widths and functions; ``simprior logp --study``
runs it. P(f) of networks with equal hidden layers is estimated by
:func:`simprior.boolean.watch.watch` (last bias integrated out, averaged over the symmetry
class of f), the limit by ``tilted`` or, for the commonest functions, plain Monte Carlo. The
corrections to the Gaussian process are a series in 1/width (Yaida 2020; Roberts, Yaida & Hanin
2022), so ln P_width - ln P_GP = c/width + d/width^2 + ..., which :func:`fit_width` tests.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.boolean.inputs import input_matrix
from simprior.boolean.truthtable import pack, parse_functions, to_hex
from simprior.boolean.watch import watch as watch_functions
from simprior.engine import Progress
from simprior.errors import InputError
from simprior.gp.kernels import nngp
from simprior.gp.log_prior import log_prior
from simprior.gp.table import Columns, run_batches
from simprior.network import Network

if TYPE_CHECKING:
    import pandas as pd

COMMON = -3.0  # ln P above which plain Monte Carlo is the cheaper way to the limit
PART = 1_000_000  # networks a shard


@dataclass(frozen=True)
class WidthStudy:
    """One prior at several widths.

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
        for key in ("samples", "heads"):
            if len(getattr(self, key)) != len(self.widths):
                raise InputError(
                    f"{key} of {len(getattr(self, key))} entries",
                    f"one for each of the {len(self.widths)} widths", "correct the file",
                )  # fmt: skip
        if self.labels != ("",) and len(self.labels) != len(self.functions):
            raise InputError(
                f"labels of {len(self.labels)} entries",
                f"one for each of the {len(self.functions)} functions", "correct the file",
            )  # fmt: skip
        if not self.tol > 0:
            raise InputError(f"tol={self.tol}", "a standard error > 0 in nats", "write tol = 0.001")

    def network(self, width: int) -> Network:
        """The network of one width."""
        return Network(
            n=self.n, hidden=(width,) * self.depth, activation=self.activation,
            sigma_w=self.sigma_w, sigma_b=self.sigma_b, encoding=self.encoding,
        )  # fmt: skip

    def tables(self) -> np.ndarray:
        """(F, m) truth tables."""
        return parse_functions(list(self.functions), 1 << self.n, self.n)

    def settings(self) -> list[Piece]:
        """What is computed, a shard each: parts of a width, and the limit of a function."""
        pieces = [Piece(0, i, 0, 0) for i in range(len(self.functions))]
        for width, samples, heads in zip(self.widths, self.samples, self.heads, strict=True):
            count = -(-samples // PART)
            sizes = np.diff(np.linspace(0, samples, count + 1).astype(int)).tolist()
            pieces += [Piece(width, i, size, heads) for i, size in enumerate(sizes)]
        return pieces

    def config(self) -> dict[str, Any]:
        """Plain values, lists for tuples; ``study`` is the kind."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"study": "width", **plain}


@dataclass(frozen=True)
class Piece:
    """``samples`` networks of one ``width``; or, for width 0, the limit of function ``part``."""

    width: int
    part: int
    samples: int
    heads: int


def run_width_study(
    study: WidthStudy,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """P(f) at every width and in the limit, a row each.

    Columns: name, function (hex), width (inf: the limit), method, samples, members (of the symmetry
    class), p, p_stderr, logp, stderr (nats), reliable, converged, seconds, gap (ln P at this width
    minus that of the limit) and gap_stderr (of both).
    """
    study.tables()  # refuse bad functions before the work
    columns = run_batches(
        "logp", partial(run_piece, study), study.settings(), partial(_digest, study), out=out,
        config=study.config(), resume=resume, overwrite=overwrite, workers=workers,
        executor=executor, executor_options=executor_options, progress=progress,
        join=partial(_join, study),
    )  # fmt: skip
    import pandas as pd

    return pd.DataFrame(columns)


def run_piece(study: WidthStudy, piece: Piece) -> Columns:
    """Estimates of one piece: a row a function (sampled), or one row (limit)."""
    began = perf_counter()
    if piece.width == 0:
        return _limit(study, piece.part)
    seed = int(rng.generator(study.seed, f"study-width/{piece.width}", piece.part).integers(2**62))
    found = watch_functions(
        study.network(piece.width), study.tables(), samples=piece.samples, seed=seed,
        heads=piece.heads, pool=True,
    )  # fmt: skip
    count = len(found.p)
    return {
        "index": np.arange(count), "width": np.full(count, float(piece.width)),
        "method": np.full(count, "sampled", object), "samples": np.full(count, piece.samples),
        "members": found.members.astype(np.int64), "p": found.p, "p_stderr": found.stderr,
        "reliable": found.p > 0,  # what no draw gave has an upper limit only
        "seconds": np.full(count, (perf_counter() - began) / count),
    }  # fmt: skip


def _limit(study: WidthStudy, index: int) -> Columns:
    network = study.network(1)
    K = nngp(network, input_matrix(network))
    began = perf_counter()
    table = study.tables()[index]
    result = log_prior(table, K, "tilted", n=0, seed=study.seed)[0]
    if result.value > COMMON:
        draws = int(math.expm1(-result.value) / study.tol**2) + 1
        result = log_prior(table, K, "mc", n=0, seed=study.seed, draws=draws)[0]
    else:
        result = log_prior(table, K, "tilted", n=0, seed=study.seed, tol=study.tol)[0]
    trusted = result.diagnostics["converged"] and not result.diagnostics.get("pareto_k", 0.0) > 0.7
    p = math.exp(result.value)
    return {
        "index": np.array([index]), "width": np.array([math.inf]),
        "method": np.array([result.method], object), "samples": np.array([0]),
        "members": np.array([1]), "p": np.array([p]), "p_stderr": np.array([p * result.stderr]),
        "reliable": np.array([bool(trusted)]), "seconds": np.array([perf_counter() - began]),
    }  # fmt: skip


def _join(study: WidthStudy, columns: Columns) -> Columns:
    """Parts of a width together, weighted by their samples; gaps to the limit."""
    words = pack(study.tables())
    functions = to_hex(words, 1 << study.n)
    labels = study.functions if study.labels == ("",) else study.labels
    rows = []
    for index, name in enumerate(labels):
        of = columns["index"] == index
        limit = _pooled(columns, of & np.isinf(columns["width"]))
        members = int(columns["members"][of].max())
        for width in (*map(float, study.widths), math.inf):
            row = _pooled(columns, of & (columns["width"] == width))
            gap = row["logp"] - limit["logp"]
            error = 0.0 if math.isinf(width) else math.hypot(row["stderr"], limit["stderr"])
            rows.append(
                {"name": name, "function": functions[index], "width": width, **row,
                 "members": members, "gap": gap, "gap_stderr": error}
            )  # fmt: skip
    texts = ("name", "function", "method")
    return {k: np.array([r[k] for r in rows], object if k in texts else None) for k in rows[0]}


def _pooled(columns: Columns, rows: np.ndarray) -> dict[str, Any]:
    samples = columns["samples"][rows].astype(float)
    weight = samples / samples.sum() if samples.any() else np.ones(1)
    p = float(weight @ columns["p"][rows])
    error = math.sqrt(float(weight**2 @ columns["p_stderr"][rows] ** 2))
    return {
        "method": str(columns["method"][rows][0]), "samples": int(samples.sum()), "p": p,
        "p_stderr": error, "logp": math.log(p) if p > 0 else -math.inf,
        "stderr": error / p if p > 0 else math.inf,
        "reliable": bool(columns["reliable"][rows].all()), "converged": True,
        "seconds": float(columns["seconds"][rows].sum()),
    }  # fmt: skip


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
    import pandas as pd
    from scipy.stats import chi2

    rows = []
    for name, part in frame[frame["width"] >= narrowest].groupby("name", sort=False):
        good = part[np.isfinite(part["logp"]) & (part["stderr"] > 0)]
        if len(good) < order + 2:
            raise InputError(
                f"{len(good)} widths of {name}", f"at least {order + 2} for order {order}",
                "add widths or samples",
            )  # fmt: skip
        design = np.vander(1.0 / good["width"].to_numpy(), order + 1, increasing=True)
        error = good["stderr"].to_numpy()
        scale = np.abs(design).max(axis=0)
        y = good["logp"].to_numpy() / error
        solution, _, _, _ = np.linalg.lstsq(design / scale / error[:, None], y, rcond=None)
        covariance = np.linalg.inv((design / scale / error[:, None] ** 2).T @ (design / scale))
        residual = float(
            ((design / scale @ solution) / error - y) @ ((design / scale @ solution) / error - y)
        )
        spread = np.sqrt(np.diag(covariance))
        row: dict[str, Any] = {"name": name}
        for key, i in zip(("c", "d"), range(1, order + 1), strict=False):
            row |= {key: solution[i] / scale[i], f"{key}_stderr": spread[i] / scale[i]}
        dof = len(good) - order - 1
        row |= {"chi2": residual, "dof": dof, "p_value": float(chi2.sf(residual, dof))}
        rows.append(row)
    return pd.DataFrame(rows)


def width_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a function: members, ln P of the limit, width times gap at each width, and the fit."""
    import pandas as pd

    rows = []
    for name, part in frame.groupby("name", sort=False):
        limit = part[np.isinf(part["width"])].iloc[0]
        row = {
            "name": name, "members": limit["members"], "logp": limit["logp"],
            "stderr": limit["stderr"],
        }  # fmt: skip
        for _, at in part[np.isfinite(part["width"])].iterrows():
            row[f"gap {at['width']:.0f}"] = f"{at['gap']:+.4f}({at['gap_stderr']:.4f})"
        rows.append(row)
    return pd.DataFrame(rows).merge(fit_width(frame), on="name")


def _digest(study: WidthStudy, piece: Piece) -> str:
    return hashlib.sha256(repr((study, piece)).encode()).hexdigest()
