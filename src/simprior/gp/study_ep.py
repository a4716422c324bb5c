"""How wrong is EP? EP minus the exact ln P over functions, inputs, encodings, depths and sigmas.

The recipe ``examples/how-wrong-is-ep.toml`` lists the settings; ``simprior logp --study`` runs it.
The functions of a setting are the named ones, draws from its own prior (the simple functions that
matter in practice), and a named base function with 1, 2, 4, ... outputs flipped at random, which
leads from simple to random.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.boolean.complexity import lz76_packed, ones_packed
from simprior.boolean.inputs import bit_matrix
from simprior.boolean.names import named
from simprior.boolean.truthtable import pack, to_hex
from simprior.engine import Progress
from simprior.estimate import LogProb
from simprior.gp.degenerate import root
from simprior.gp.kernels import nngp
from simprior.gp.log_prior import log_prior
from simprior.gp.table import Columns, run_batches
from simprior.network import Network

if TYPE_CHECKING:
    import pandas as pd

COMMON = -6.0  # ln P above which plain Monte Carlo reaches the wanted error in seconds


@dataclass(frozen=True)
class Setting:
    """One prior of the study; ``depth`` hidden layers."""

    n: int
    encoding: str
    depth: int
    sigma_w: float
    sigma_b: float

    def network(self) -> Network:
        """The network spec (widths do not matter)."""
        return Network(
            n=self.n, hidden=(1,) * self.depth, sigma_w=self.sigma_w, sigma_b=self.sigma_b,
            encoding=self.encoding,
        )  # fmt: skip


@dataclass(frozen=True)
class EpStudy:
    """Axes of the study (every combination is a setting), functions, and accuracy.

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

    def settings(self) -> list[Setting]:
        """All combinations of the axes, in order."""
        axes = (self.n, self.encoding, self.depth, self.sigma_w, self.sigma_b)
        return [Setting(*values) for values in itertools.product(*axes)]

    def config(self) -> dict[str, Any]:
        """Plain values, lists for the axes."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def run_study(
    study: EpStudy,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """EP against the exact value for every setting and function; a shard a setting.

    Columns: n, encoding, depth, sigma_w, sigma_b, source (named, prior, flipped), name, function,
    ones, lz76, exact (ln P of ``tilted``, or of plain Monte Carlo, ``exact_method``, where the
    Pareto k-hat of a common function says not to trust it), exact_stderr, pareto_k, reliable, ep,
    ep_converged, difference (EP minus exact, nats).
    """
    columns = run_batches(
        "logp", partial(run_setting, study), study.settings(), partial(_digest, study), out=out,
        config=study.config(), resume=resume, overwrite=overwrite, workers=workers,
        executor=executor, executor_options=executor_options, progress=progress,
    )  # fmt: skip
    import pandas as pd

    return pd.DataFrame(columns)


def run_setting(study: EpStudy, setting: Setting) -> Columns:
    """Rows of one setting."""
    network = setting.network()
    K = nngp(network, bit_matrix(setting.n, setting.encoding))
    names, sources, tables = functions_of(study, setting, K)
    exact = _exact(study, tables, K)
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


def _exact(study: EpStudy, tables: np.ndarray, K: np.ndarray) -> list[LogProb]:
    found = log_prior(tables, K, "tilted", n=0, seed=study.seed, tol=study.tol)
    for i, result in enumerate(found):
        if not result.diagnostics["reliable"] and result.value > COMMON:
            draws = int(math.exp(-result.value) / study.tol**2) + 1
            found[i] = log_prior(tables[i], K, "mc", n=0, seed=study.seed, draws=draws)[0]
    return found


def functions_of(
    study: EpStudy, setting: Setting, K: np.ndarray
) -> tuple[list[str], list[str], np.ndarray]:
    """(names, sources, (F, m) tables) of a setting, without repeats."""
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


def summarise_study(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """EP minus exact over the values of one column: functions, median, 5 % and 95 %, extremes."""
    groups = frame[np.isfinite(frame["difference"])].groupby(by)["difference"]
    table = groups.quantile([0.0, 0.05, 0.5, 0.95, 1.0]).unstack()
    table.columns = ["least", "q05", "median", "q95", "greatest"]
    table.insert(0, "functions", groups.size())
    return table.reset_index()


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """:func:`summarise_study` by n, and at the largest n by every axis, source and named function.

    Only rows whose exact value is reliable and whose EP converged.
    """
    import pandas as pd

    good = frame[frame["reliable"].astype(bool) & frame["ep_converged"].astype(bool)]
    largest = good[good["n"] == good["n"].max()]
    parts = [("n", good)]
    parts += [(by, largest) for by in ("encoding", "depth", "sigma_w", "sigma_b", "source")]
    parts.append(("name", largest[largest["source"] == "named"]))
    tables = []
    for by, rows in parts:
        table = summarise_study(rows, by).rename(columns={by: "value"})
        table.insert(0, "by", by)
        tables.append(table.astype({"value": object}))
    return pd.concat(tables, ignore_index=True)


def _digest(study: EpStudy, setting: Setting) -> str:
    return hashlib.sha256(repr((study, setting)).encode()).hexdigest()
