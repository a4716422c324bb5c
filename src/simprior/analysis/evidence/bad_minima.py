"""Experiment ``bad-minima``: can training be led to minima that generalise badly?

All networks fit the same training set. Some start from networks that were trained on random labels
of it first (Liu et al. 2020); some have to fit wrongly labelled strings besides (an attack set, Wu
et al. 2017). Compared on the same data sets: error outside, ln P(f) of the function found at
infinite width, and sharpness of the minimum, with those from scratch and draws of the posterior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.measure.table import measure
from simprior.analysis.study.sections import AsComputed, check_each, check_once
from simprior.checks import Integer, Number, Whole
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.routes.posterior import posterior
from simprior.training.records import ProblemRecord
from simprior.training.targets import Problem
from simprior.training.train import train

Columns = dict[str, np.ndarray]
SCRATCH, AGAIN, BAD, ATTACKED = "from scratch", "from scratch again", "pre-trained", "attack set"
STARTS = (SCRATCH, AGAIN, BAD, ATTACKED)
DRAWN = "posterior draws"
MEASURES = {"error": "error", "log_p": "ln P(f) (nats)", "sharpness": "sharpness"}
"""What is compared: columns, and their names in claims."""
LIU, WU = "Liu et al. 2020", "Wu et al. 2017"
_NAME = "bad minima"


class Piece(NamedTuple):
    """One data set at one width."""

    dataset: int
    width: int


@dataclass(frozen=True)
class BadMinima(AsComputed):
    """Networks of ``depth`` and ``width`` (the first is that of the findings) on a ``target``.

    S has ``train`` strings of ``n`` bits; pre-training takes up to ``pretrain`` epochs, attack sets
    have ``attack`` strings. ``members`` networks are trained each time, and those that fit are
    measured; ``draws`` are those of each ln P, and of the posterior.
    """

    n: int = 7
    target: str = "majority"
    train: int = 48
    depth: int = 2
    width: tuple[int, ...] = (40, 20, 80)
    pretrain: int = 1000
    attack: int = 16
    members: int = 8
    datasets: int = 24
    draws: int = 500
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    optimizer: str = "sgd"
    lr: float = 0.1
    max_epochs: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(256, 10**7, remedy)("draws", self.draws)
        check_each(
            self, Whole(1, 10**6, remedy), "depth", "members", "max_epochs", "pretrain", "attack"
        )
        Number(0, open=True, remedy=remedy)("lr", self.lr)
        check_each(self, Integer(1, 10**5, remedy), "width")
        check_once(self, "width")
        self.problem(Piece(0, self.width[0]), self.attack)

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        return [Piece(dataset, width) for dataset in range(self.datasets) for width in self.width]

    def problem(self, piece: Piece, attack: int = 0) -> Problem:
        """The problem of a data set; its strings do not depend on the width. Raises InputError."""
        network = Network(
            n=self.n,
            hidden=(piece.width,) * self.depth,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
        )
        seed = self._seed("data", piece.dataset)
        return Problem(network, self.target, train=self.train, attack=attack, seed=seed)

    def _seed(self, name: str, dataset: int) -> int:
        return rng.seed_from(self.seed, f"bad-minima/{name}", dataset)

    def compute(self, piece: Piece) -> Columns:
        """A row a start, and at the first width one of the posterior, which is of infinite width.

        Columns: dataset, width, start, fitted (share of the networks), and means over those that
        fit: error (outside S and attack set), log_p (nats, infinite width), sharpness (Keskar et
        al. 2017), steps. What is not known is NaN.
        """
        rows = [self._start(piece, start) for start in STARTS]
        if piece.width == self.width[0]:
            rows.append(self._drawn(piece))
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        columns["start"] = columns["start"].astype(object)
        return {name: np.full(len(rows), v) for name, v in piece._asdict().items()} | columns

    def _start(self, piece: Piece, start: str) -> dict[str, Any]:
        found = train(
            self.problem(piece, self.attack if start == ATTACKED else 0),
            runs=self.members,
            optimizer=self.optimizer,
            lr=self.lr,
            max_epochs=self.max_epochs,
            pretrain=self.pretrain if start == BAD else 0,
            seed=self._seed("again" if start == AGAIN else "train", piece.dataset),
        )
        row = {"start": start, "fitted": float(found.fitted.mean())}
        if not found.fitted.any():
            return row | dict.fromkeys(("error", "log_p", "sharpness", "steps"), math.nan)
        table = measure(
            found, "prior,sharpness", networks=self.members, draws=self.draws, seed=self.seed
        )
        means = {"error": "test_error", "log_p": "log_p", "sharpness": "keskar", "steps": "steps"}
        return row | {name: float(table[column].mean()) for name, column in means.items()}

    def _drawn(self, piece: Piece) -> dict[str, Any]:
        problem, seed = self.problem(piece), self._seed("posterior", piece.dataset)
        drawn = posterior(problem, samples=self.draws, seed=seed)
        errors = ProblemRecord.of(problem.describe()).test_errors(drawn.words)
        unknown = {"log_p": math.nan, "sharpness": math.nan, "steps": math.nan}
        error = float(np.average(errors, weights=drawn.count))
        return {"start": DRAWN, "fitted": 1.0, "error": error, **unknown}

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row a width and start: means over data sets with intervals; ``unfitted`` data sets."""
        rows = []
        for (width, start), part in frame.groupby(["width", "start"], sort=False):
            row: dict[str, Any] = {"width": width, "start": start}
            row["fitted"] = part["fitted"].mean()
            row["unfitted"] = int((part["fitted"] == 0).sum())
            for name in MEASURES:
                values = part[name].dropna().to_numpy(float)
                mean = mean_of(values) if len(values) > 1 else None
                row[name] = mean.value if mean else math.nan
                row[f"{name}_low"] = mean.low if mean else math.nan
                row[f"{name}_high"] = mean.high if mean else math.nan
            rows.append(row)
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Each measure: pre-trained and attacked against from scratch; from scratch twice.

        There is one control, of the error: of several some would fail by chance.
        """
        rows = [(name, BAD, SCRATCH, "optimiser", LIU) for name in MEASURES]
        rows.append(("error", BAD, DRAWN, "optimiser", LIU))
        rows += [(name, ATTACKED, SCRATCH, "posterior", WU) for name in MEASURES]
        rows.append(("error", AGAIN, SCRATCH, "control", "exact"))
        found = [self._contrast(frame, *row) for row in rows]
        return [one for one in found if one is not None]

    def _contrast(
        self, frame: pd.DataFrame, name: str, start: str, other: str, source: str, literature: str
    ) -> Finding | None:
        """``name`` at a start minus at another one; None where nearly no data set has both."""
        widths = self.width if other != DRAWN else self.width[:1]

        def gaps(width: int) -> np.ndarray:
            at = frame[frame["width"] == width]
            table = at.pivot(index="dataset", columns="start", values=name)
            return np.asarray(table[start] - table[other], float)

        values = np.stack([gaps(width) for width in widths], axis=1)
        known = np.isfinite(values).all(axis=1)
        if known.sum() < 2:
            return None
        slope = slope_of(np.log2(widths), values[known]) if len(widths) > 1 else None
        left = f" ({(~known).sum()} data sets not fitted, left out)" if not known.all() else ""
        text = f"{MEASURES[name]}: {start} - {other}, width {widths[0]}{left}"
        sign = 0 if source == "control" else -1 if name == "log_p" else 1
        effect = mean_of(values[known, 0])
        return Finding(_NAME, text, effect, source, sign, literature, slope, "log2 width")
