"""Experiment ``capacity``: how many random labels does a network fit, and how soon?

Networks fit random labels (Zhang et al. 2017), up to a number that grows with their size. The
*half-fit* |S| of a width is the number of random labels that half of the networks fit; its growth
with the number of parameters is a slope between logarithms, fitted in each data set. Labels of a
target on the same strings are fitted sooner, and are likelier under the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.half_fit import half_fit, log2_sizes
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each, check_rising
from simprior.boolean.truthtable import parse_functions
from simprior.checks import Integer, Number, Whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.routes.evidence import evidence_of
from simprior.routes.robust import on_strings
from simprior.training.targets import problem_on
from simprior.training.train import train

Columns = dict[str, np.ndarray]
RANDOM, AGAIN, TRUE = "random labels", "other random labels", "labels of the target"
LABELS = (RANDOM, AGAIN, TRUE)
ZHANG, ARPIT, OWN = "Zhang et al. 2017", "Arpit et al. 2017", "own prototype"
_NAME = "capacity"


class Piece(NamedTuple):
    """One data set at one width."""

    dataset: int
    width: int


@dataclass(frozen=True)
class Capacity(AsComputed):
    """Random labels on S of ``train`` of the 2^n strings, by networks of ``depth`` and ``width``.

    ``target`` gives the labels that are not random. ``compare`` is the |S| at which steps and ln P
    are compared, by networks of the largest width; ``members`` networks are trained each time by
    ``optimizer`` with ``lr``, for up to ``max_epochs`` epochs. ``draws`` are those of each ln P.
    """

    n: int = 8
    target: str = "majority"
    depth: int = 1
    width: tuple[int, ...] = (4, 8, 16, 32)
    train: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255)
    compare: int = 64
    members: int = 16
    datasets: int = 24
    draws: int = 1000
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    optimizer: str = "adam"
    lr: float = 0.01
    max_epochs: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(1, 14, remedy)("n", self.n)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(256, 10**7, remedy)("draws", self.draws)
        check_each(self, Whole(1, 10**6, remedy), "depth", "members", "max_epochs")
        check_each(self, Number(0, remedy=remedy), "sigma_w", "sigma_b")
        Number(0, open=True, remedy=remedy)("lr", self.lr)
        for name, high in (("width", 10**5), ("train", (1 << self.n) - 1)):
            check_each(self, Integer(1, high, remedy), name)
            check_rising(self, name)
        if self.compare not in self.train:
            what = f"compare={self.compare}"
            raise InputError(what, f"one of train={list(self.train)}", remedy)
        self._table()

    def _table(self) -> np.ndarray:
        return parse_functions(self.target, 1 << self.n, self.n)[0]

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        return [Piece(dataset, width) for dataset in range(self.datasets) for width in self.width]

    def network(self, width: int) -> Network:
        """The network of a width."""
        hidden = (width,) * self.depth
        return Network(n=self.n, hidden=hidden, sigma_w=self.sigma_w, sigma_b=self.sigma_b)

    def compute(self, piece: Piece) -> Columns:
        """A row a kind of labels and size of S.

        Columns: dataset, width, parameters, labels (of ``LABELS``), train, fitted (share of the
        networks), steps (median to the first fit, of those that fit; NaN if none does), and for
        the largest width at ``compare`` logp and logp_stderr: ln P(C(S)), nats, infinite width.
        Training sets of a data set are nested; those of random labels are the same strings.
        """
        network = self.network(piece.width)
        order = rng.generator(self.seed, "capacity/strings", piece.dataset).permutation(1 << self.n)
        rows = []
        for labels, table in zip(LABELS, self._tables(piece.dataset), strict=True):
            for size in self.train:
                S = np.sort(order[:size])
                found = train(
                    problem_on(network, S, table[S]),
                    runs=self.members,
                    optimizer=self.optimizer,
                    lr=self.lr,
                    max_epochs=self.max_epochs,
                    seed=self._seed("train", piece.dataset),
                )
                steps = found.first_fit[found.fitted]
                row: dict[str, Any] = {"labels": labels, "train": size}
                row["fitted"] = float(found.fitted.mean())
                row["steps"] = float(np.median(steps)) if len(steps) else math.nan
                asked = size == self.compare and piece.width == self.width[-1]
                rows.append(row | self._logp(network, S, table[S], piece.dataset, asked))
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        columns["labels"] = columns["labels"].astype(object)
        every = {**piece._asdict(), "parameters": parameters_of(network)}
        return {name: np.full(len(rows), value) for name, value in every.items()} | columns

    def _seed(self, name: str, dataset: int) -> int:
        return rng.seed_from(self.seed, f"capacity/{name}", dataset)

    def _tables(self, dataset: int) -> tuple[np.ndarray, ...]:
        source = rng.generator(self.seed, "capacity/labels", dataset)
        one, other = source.integers(2, size=(2, 1 << self.n)).astype(np.uint8)
        return one, other, self._table()

    def _logp(
        self, network: Network, S: np.ndarray, labels: np.ndarray, dataset: int, asked: bool
    ) -> dict[str, float]:
        if not asked:
            return {"logp": math.nan, "logp_stderr": math.nan}
        seed = self._seed("logp", dataset)
        found = evidence_of(on_strings(network, S), labels, seed=seed, draws=self.draws)
        return {"logp": found.value, "logp_stderr": found.stderr}

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row a kind of labels and width: the half-fit |S| over data sets, with its interval.

        ``above``: data sets of which half of the networks still fit the largest S; ``below``:
        those of which fewer than half fit the smallest.
        """
        rows = []
        for labels in LABELS:
            for width in self.width:
                half = half_fit(
                    np.array(self.train), self._shares(frame, labels, width), False, self.seed
                )
                row = {"labels": labels, "width": width}
                row["parameters"] = parameters_of(self.network(width))
                row |= {"half_fit": half.value, "low": half.low, "high": half.high}
                row |= {"low_open": half.low_open, "high_open": half.high_open}
                rows.append({**row, "below": half.below, "above": half.above})
        return pd.DataFrame(rows)

    def _shares(self, frame: pd.DataFrame, labels: str, width: int) -> np.ndarray:
        """(N, K) share of the networks that fit, by data set and size of S."""
        return self._pivot(frame, labels, width, "fitted")

    def _pivot(self, frame: pd.DataFrame, labels: str, width: int, value: str) -> np.ndarray:
        at = frame[(frame["labels"] == labels) & (frame["width"] == width)]
        table = at.pivot(index="dataset", columns="train", values=value)
        return np.asarray(table[list(self.train)])

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Growth of the half-fit |S|, steps and ln P of random labels, and the control."""
        return [*self._growth(frame), *self._against_target(frame)]

    def _growth(self, frame: pd.DataFrame) -> list[Finding]:
        sizes, widths = np.array(self.train), self.width

        def logs(labels: str) -> tuple[np.ndarray, int]:
            """(N, widths) log2 of half-fit sizes, and how many are ends of the range."""
            found = [log2_sizes(sizes, self._shares(frame, labels, w), False) for w in widths]
            return np.stack([one for one, _ in found], axis=1), sum(count for _, count in found)

        random, outside = logs(RANDOM)
        again, more = logs(AGAIN)
        parameters = np.log2([parameters_of(self.network(width)) for width in widths])
        slope = slope_of(parameters, random)
        said = f" ({outside} of {random.size} outside the sizes)" if outside else ""
        effect = mean_of(random[:, -1] - random[:, 0])
        text = f"log2 half-fit |S|, random labels: width {widths[-1]} - {widths[0]}{said}"
        growth = Finding(_NAME, text, effect, "prior", 1, ZHANG, slope, "log2 parameters")
        said = f" ({outside + more} of {2 * random.size} outside the sizes)"
        said = said if outside + more else ""
        text = f"log2 half-fit |S|, mean over widths: random - other random labels{said}"
        null = mean_of((random - again).mean(axis=1))
        return [growth, Finding(_NAME, text, null, "control", 0, "exact")]

    def _against_target(self, frame: pd.DataFrame) -> list[Finding]:
        """Steps and ln P of random labels; the slope is over sizes that all data sets fit."""
        width, at = self.width[-1], self.train.index(self.compare)
        random, true = (
            np.log2(np.maximum(self._pivot(frame, labels, width, "steps"), 1.0))
            for labels in (RANDOM, TRUE)
        )
        gap = random - true
        known = np.flatnonzero(np.isfinite(gap).all(axis=0))
        found = []
        some = np.isfinite(gap[:, at])
        if some.sum() > 1:
            slope = None
            if len(known) > 1:
                slope = slope_of(np.log2(np.array(self.train)[known]), gap[:, known])
            left = f" ({(~some).sum()} data sets not fitted, left out)" if not some.all() else ""
            text = f"log2 steps to fit {self.compare}: random - target's labels, width {width}"
            effect = mean_of(gap[some, at])
            found.append(
                Finding(_NAME, text + left, effect, "optimiser", 1, ARPIT, slope, "log2 |S|")
            )
        logp = {labels: self._pivot(frame, labels, width, "logp")[:, at] for labels in LABELS}
        text = f"ln P(C(S)) (nats), |S| = {self.compare}: target's - random labels"
        effect = mean_of(logp[TRUE] - logp[RANDOM])
        return [*found, Finding(_NAME, text, effect, "prior", 1, OWN)]


def parameters_of(network: Network) -> int:
    """Weights and biases of a network."""
    layers = zip(network.fan_ins, (*network.hidden, 1), strict=True)
    return sum((fan_in + 1) * width for fan_in, width in layers)
