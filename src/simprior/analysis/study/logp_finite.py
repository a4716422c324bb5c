"""A stage ``[logp]`` of kind ``finite``: ln P of functions of real networks of many widths.

Networks with equal hidden layers are annealed to each function (:mod:`simprior.finite`), far below
what sampling reaches; the Gaussian process is their limit. Each value has a standard error, or is
marked as not converged. See ``examples/width.toml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.checks import Integer, Number, Whole
from simprior.errors import InputError
from simprior.finite.attempts import FEWEST_RUNS, Effort
from simprior.finite.methods import DEFAULT, check_methods
from simprior.finite.table import FiniteRequest, check_widths, finite_table
from simprior.gp.orthant import Columns
from simprior.network.spec import Network
from simprior.routes.evidence import tables_of
from simprior.runs.tasks import RunOptions

NEAR = 1.5
"""Distance from the limit, in nats, up to which c/width describes it."""
REACH = 4
"""Widths below the widest over this are too narrow to tell c."""


@dataclass(frozen=True)
class Piece:
    """Function number ``index`` of networks of one ``width``; 0 is the limit."""

    index: int
    width: int


@dataclass(frozen=True)
class FiniteStudy:
    """One prior at several hidden widths: a stage of kind ``finite``.

    ``width`` says what is computed: ``finite`` (networks of each of ``widths``), ``infinite`` (the
    limit), or both. ``functions`` are in any form that a target may have, with ``labels`` to show
    (or none); what is drawn (``lz:40``) is drawn by ``seed``. ``method`` is one of
    :mod:`simprior.finite.methods`; networks of width ``wide`` and more have ``wide_method`` (0:
    none are). ``particles``, ``runs`` and ``max_particles`` (0: no second attempt) are those of
    :func:`simprior.finite.prior.log_prior_finite`; ``tol`` is the standard error of the limit, in
    nats.
    """

    n: int = 7
    depth: int = 2
    activation: str = "relu"
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    encoding: str = "01"
    width: tuple[str, ...] = ("finite", "infinite")
    widths: tuple[int, ...] = (10, 40)
    functions: tuple[str, ...] = ("const0", "x1")
    labels: tuple[str, ...] = ("",)
    method: str = DEFAULT
    wide: int = 0
    wide_method: str = "conditional"
    particles: int = Effort.particles
    runs: int = Effort.runs
    max_particles: int = 0
    tol: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        check_widths(self.width)
        Integer(2, 10**7, "write particles = 300")("particles", self.particles)
        Integer(FEWEST_RUNS, 10**5, "write runs = 8")("runs", self.runs)
        Whole(0)("max_particles", self.max_particles)
        Whole(0, remedy="write wide = 0")("wide", self.wide)
        Whole(0, remedy="write depth = 2")("depth", self.depth)
        self.effort()
        Number(0, open=True, remedy="write tol = 0.005")("tol", self.tol)
        if len(set(self.widths)) < len(self.widths):
            raise InputError(f"widths={list(self.widths)}", "each width once", "correct the file")
        if self.labels != ("",) and len(self.labels) != len(self.functions):
            each = f"one for each of the {len(self.functions)} functions"
            raise InputError(f"labels of {len(self.labels)} entries", each, "correct the file")
        self.tables()  # bad functions and settings are refused before the work
        for width in self.widths:
            check_methods((self.method_of(width),), self.network(width))

    def method_of(self, width: int) -> str:
        """The method for networks of one width."""
        return self.wide_method if self.wide and width >= self.wide else self.method

    def effort(self) -> Effort:
        """How hard each value is tried."""
        return Effort(self.particles, self.runs, max_particles=self.max_particles or None)

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
        return tables_of(self.network(1), list(self.functions), self.seed)

    def names(self) -> list[str]:
        """The name of each function: its label, or the text that defines it."""
        return list(self.functions if self.labels == ("",) else self.labels)

    def pieces(self) -> list[Piece]:
        """What is computed one by one: each function at each width, those of a function together,
        from wide to narrow."""
        widths = [0] if "infinite" in self.width else []
        widths += sorted(self.widths, reverse=True) if "finite" in self.width else []
        return [Piece(i, width) for i in range(len(self.functions)) for width in widths]

    def compute(self, piece: Piece) -> Columns:
        """The row of one piece."""
        request = FiniteRequest(
            self.network(piece.width or 1),
            self.tables()[[piece.index]],
            self.effort(),
            seed=self.seed,
            widths=("finite" if piece.width else "infinite",),
            names=(self.names()[piece.index],),
            options={} if piece.width else {"tol": self.tol},
            methods=(self.method_of(piece.width),),
        )
        columns = {str(k): v.to_numpy() for k, v in finite_table(request, RunOptions()).items()}
        columns["index"] = np.array([piece.index])
        return columns | {"width": np.array([float(piece.width or math.inf)])}

    def join(self, columns: Columns) -> Columns:
        """ln P of every function at every width and in the limit (width inf), a row each.

        Columns: those of :mod:`simprior.finite.table`, with the hidden width as ``width``; ``gain``
        (ln P at this width minus that of the limit, nats) and ``gain_stderr`` (of both; nan where
        ln P did not converge).
        """
        order = np.lexsort((columns["width"], columns["index"]))
        columns = {name: values[order] for name, values in columns.items()}
        limits = np.isinf(columns["width"])
        where = dict(zip(columns["index"][limits], np.flatnonzero(limits), strict=True))
        place = np.array([where.get(i, -1) for i in columns["index"]])
        known = place >= 0
        columns["gain"] = np.where(known, columns["logp"] - columns["logp"][place], math.nan)
        errors = np.hypot(columns["stderr"], columns["stderr"][place])
        columns["gain_stderr"] = np.where(known, np.where(limits, 0.0, errors), math.nan)
        return columns


def slope(part: pd.DataFrame) -> float:
    """c of ln P = ln P_infinity + c/width, for the rows of one function; nan where it is not known.

    That of the method ``first-order``, if there are such rows; else the weighted mean of gain times
    width over converged values within ``NEAR`` nats of the limit, of wide networks (``REACH``).
    """
    finite = part[np.isfinite(part["width"]) & np.isfinite(part["gain"])]
    first = finite[finite["method"] == "first-order"]
    if len(first):
        return float((first["gain"] * first["width"]).mean())
    near = finite[(finite["gain_stderr"] > 0) & (finite["gain"].abs() < NEAR)]
    near = near[near["width"] * REACH >= near["width"].max()]
    if not len(near):
        return math.nan
    c, error = near["gain"] * near["width"], near["gain_stderr"] * near["width"]
    return float(np.average(c, weights=error**-2))


def finite_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a function: ln P of the limit, and at each width ln P and its standard error.

    Columns name, limit and limit_stderr, ``logp_<width>`` and ``logp_<width>_stderr`` (nats; nan
    where it did not converge), and ``c`` of :func:`slope`.
    """
    rows = []
    for name, part in frame.groupby("name", sort=False):
        row: dict[str, Any] = {"name": name, "limit": math.nan, "limit_stderr": math.nan}
        for _, at in part.iterrows():
            key = "limit" if math.isinf(at["width"]) else f"logp_{at['width']:.0f}"
            row |= {key: at["logp"], f"{key}_stderr": at["stderr"]}
        rows.append({**row, "c": slope(part)})
    return pd.DataFrame(rows)
