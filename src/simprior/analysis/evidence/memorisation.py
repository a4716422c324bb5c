"""Experiment ``memorisation``: do trained networks memorise what the Bayesian posterior does?

:func:`simprior.analysis.memorise.run.memorise` over several data sets and sizes of S. A data set is
a split of real data with its wrong labels, or a training set of a Boolean target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.memorise.run import memorise, pearson
from simprior.analysis.study.sections import AsComputed, check_once
from simprior.checks import Integer, Number, Whole
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.loaders import unsaid
from simprior.training.targets import Problem

Columns = dict[str, np.ndarray]
KEPT = ("example", "label", "wrong", "sgd", "sgd_stderr", "subset_bayes", "subset_bayes_stderr")
FELDMAN = "Feldman & Zhang 2020"


class Piece(NamedTuple):
    """One data set at one size of S."""

    train: int
    dataset: int


@dataclass(frozen=True)
class Memorisation(AsComputed):
    """Memorised examples over ``datasets`` data seeds and several sizes ``train`` of S.

    ``data`` and ``classes`` as of :class:`simprior.Problem`, or ``target`` on ``n`` bits.
    ``corrupt`` is the share of labels replaced by coin flips; ``subsets``, ``share`` and
    ``members`` are those of ``memorise``; ``optimizer`` and ``lr`` (0: its own) train.
    """

    data: str = "digits"
    classes: str = "3,8"
    target: str = ""
    n: int = 7
    train: tuple[int, ...] = (120,)
    test: int = 100
    corrupt: float = 1 / 6
    datasets: int = 8
    depth: int = 2
    width: int = 40
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    subsets: int = 200
    share: float = 0.7
    members: int = 1
    optimizer: str = "adam"
    lr: float = 0.0
    max_epochs: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Integer(4, None, remedy)("subsets", self.subsets)
        Number(0, 1, open=True, remedy=remedy)("share", self.share)
        Number(0, remedy=remedy)("lr", self.lr)
        Whole(0, remedy=remedy)("depth", self.depth)
        check_once(self, "train")
        for train in self.train:
            with unsaid():
                self.problem(Piece(train, 0))

    def problem(self, piece: Piece) -> Problem:
        """The problem of a data set. Its seed depends on the data set alone."""
        network = Network(
            n=self.n,
            hidden=(self.width,) * self.depth,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
        )
        seed = rng.seed_from(self.seed, "memorisation/data", piece.dataset)
        task: dict[str, Any] = {"train": piece.train, "corrupt": self.corrupt, "seed": seed}
        if self.target:
            return Problem(network, self.target, **task)
        task |= {"data": self.data, "classes": self.classes or None, "test": self.test}
        return Problem(network, **task)

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        return [Piece(train, d) for train in self.train for d in range(self.datasets)]

    def compute(self, piece: Piece) -> Columns:
        """A row an example of S.

        Columns dataset, train, ``KEPT`` and bayes as of ``memorise``, and fitted (share of the
        networks that fitted their subset).
        """
        training = {"optimizer": self.optimizer, "max_epochs": self.max_epochs}
        with unsaid():
            problem = self.problem(piece)
        found = memorise(
            problem,
            subsets=self.subsets,
            share=self.share,
            members=self.members,
            removal=(),
            exact=0,
            training=training | ({"lr": self.lr} if self.lr else {}),
            seed=rng.seed_from(self.seed, f"memorisation/{piece}"),
        )
        columns = {name: found.examples[name].to_numpy() for name in (*KEPT, "bayes")}
        count = len(found.examples)
        columns |= {"dataset": np.full(count, piece.dataset), "train": np.full(count, piece.train)}
        return columns | {"fitted": np.full(count, found.summary["fitted"])}

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row a size of S: each of :func:`contrasts` with its interval, and the share fitted."""
        rows = []
        for train, part in frame.groupby("train"):
            row = {"train": train, "fitted": part["fitted"].mean()}
            found = [contrasts(one, self.seed) for _, one in part.groupby("dataset")]
            for name in found[0]:
                values = np.array([one[name] for one in found])
                known = np.isfinite(values).all()
                mean = mean_of(values) if known else None
                row[name] = mean.value if mean else math.nan
                row[f"{name}_low"] = mean.low if mean else math.nan
                row[f"{name}_high"] = mean.high if mean else math.nan
            rows.append(row)
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """The contrasts at the first size of S, and their slopes over the sizes."""
        sizes = list(self.train)
        found: dict[Any, dict[str, float]] = {
            key: contrasts(part, self.seed) for key, part in frame.groupby(["dataset", "train"])
        }
        seeds = sorted(frame["dataset"].unique())

        def values(name: str) -> np.ndarray:
            return np.array([[found[d, size][name] for size in sizes] for d in seeds])

        out = []
        for name, claim, source, expected, literature in _CLAIMS:
            table = values(name)
            if not np.isfinite(table).all():
                continue  # no wrong labels
            slope = slope_of(np.log2(sizes), table) if len(sizes) > 1 else None
            text = f"{claim}, |S| = {sizes[0]}"
            effect = mean_of(table[:, 0])
            out.append(
                Finding(
                    "memorisation", text, effect, source, expected, literature, slope, "log2 |S|"
                )
            )
        return out


_CLAIMS = (
    ("r", "correlation of SGD's and Bayes' memorisation", "posterior", 1, FELDMAN),
    ("wrong_minus_clean", "Bayes: wrong - clean labels", "posterior", 1, FELDMAN),
    ("sgd_wrong_minus_clean", "SGD: wrong - clean labels", "posterior", 1, FELDMAN),
    ("sgd_minus_bayes_clean", "SGD - Bayes, clean labels", "optimiser", -1, "own prototype"),
    ("shuffled", "correlation with the examples of Bayes shuffled", "control", 0, "exact"),
)


def contrasts(part: pd.DataFrame, seed: int) -> dict[str, float]:
    """What one data set says; NaN where there are no wrong labels, or no spread.

    ``r``: correlation of trained networks with the posterior on the same subsets; ``r_left_out``:
    with the posterior that lacks the example alone; ``shuffled``: with the examples in random
    order. The others are differences of mean memorisation.
    """
    x, y = part["sgd"].to_numpy(float), part["subset_bayes"].to_numpy(float)
    wrong = part["wrong"].to_numpy(bool)
    dataset, train = int(part["dataset"].iloc[0]), int(part["train"].iloc[0])
    shuffled = rng.generator(seed, f"memorisation/shuffled/{train}", dataset).permutation(y)

    def gap(values: np.ndarray) -> float:
        return float(values[wrong].mean() - values[~wrong].mean()) if wrong.any() else math.nan

    return {
        "r": pearson(x, y),
        "r_left_out": pearson(x, part["bayes"].to_numpy(float)),
        "r_clean": pearson(x[~wrong], y[~wrong]),
        "shuffled": pearson(x, shuffled),
        "wrong_minus_clean": gap(part["bayes"].to_numpy(float)),
        "sgd_wrong_minus_clean": gap(x),
        "sgd_minus_bayes_clean": float((x - y)[~wrong].mean()),
        "sgd_clean": float(x[~wrong].mean()),
        "bayes_clean": float(part["bayes"][~wrong].mean()),
    }
