"""Experiment ``double-descent``: does the posterior have the second descent, too?

One hidden layer of random relu features whose last layer is fitted to labels -1, +1 has a second
descent: the error outside S rises where there are as many features as examples, and falls again
beyond (Belkin et al. 2019). Everything about the last layer is Gaussian, so the Bayesian posterior
is in closed form. Compared on the same data sets and features: the fit of least norm (gradient
descent from 0), one draw of the posterior, and the posterior mean, at several variances of the
noise (temperatures) and shares of wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each, check_once
from simprior.boolean.truthtable import input_matrix, parse_functions
from simprior.checks import Number, Whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng

CHUNK = 8
"""Data sets that are computed together."""
LEAST = "minimum norm"
SHUFFLED = "minimum norm, random labels"
BELKIN, OWN = "Belkin et al. 2019", "own prototype"
_NAME = "double descent"
Columns = dict[str, np.ndarray]


class Fit(NamedTuple):
    """A way to fit the last layer; ``noise`` is 0 for that of least norm."""

    method: str
    noise: float
    corrupt: float


@dataclass(frozen=True)
class DoubleDescent(AsComputed):
    """Random relu features, ``features`` of them, on S of ``train`` of the 2^n inputs (+-1).

    ``corrupt`` are shares of the labels of S that are wrong, the first that of the findings;
    ``noise`` the variances of the posterior's likelihood. The first layer has weights of variance
    ``sigma_w``^2 / n, the last one sigma_w^2 / features, all biases ``sigma_b``^2.
    """

    n: int = 7
    target: str = "majority"
    train: int = 64
    features: tuple[int, ...] = (4, 8, 16, 32, 48, 64, 72, 128, 256, 1024, 4096)
    noise: tuple[float, ...] = (1e-4, 1e-2, 0.5)
    corrupt: tuple[float, ...] = (0.0, 0.15)
    datasets: int = 48
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(1, 14, remedy)("n", self.n)
        Whole(2, (1 << self.n) - 1, remedy)("train", self.train)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        check_once(self, "features", "noise", "corrupt")
        check_each(self, Whole(1, 10**6, remedy), "features")
        if max(self.features) <= self.train:
            what = f"features={list(self.features)}"
            raise InputError(what, f"some beyond the {self.train} examples of S", remedy)
        check_each(self, Number(0, open=True, remedy=remedy), "noise")
        check_each(self, Number(0, 1, remedy=remedy), "corrupt")
        check_each(self, Number(0, remedy=remedy), "sigma_w", "sigma_b")
        self._labels()

    def _labels(self) -> np.ndarray:
        return 2.0 * parse_functions(self.target, 1 << self.n, self.n)[0] - 1.0

    def pieces(self) -> list[range]:
        """Numbers of data sets that are computed together."""
        starts = range(0, self.datasets, CHUNK)
        return [range(start, min(start + CHUNK, self.datasets)) for start in starts]

    def compute(self, piece: range) -> Columns:
        """A row a data set, number of features and fit.

        Columns: dataset, features, method (``LEAST``, "posterior draw", "posterior mean",
        ``SHUFFLED``), noise, corrupt, error (share of wrong signs outside S, of true labels).
        """
        rows = [row for dataset in piece for row in self._rows(dataset)]
        return {
            name: np.array([row[name] for row in rows], object if name == "method" else None)
            for name in rows[0]
        }

    def _rows(self, dataset: int) -> list[dict[str, object]]:
        source = rng.generator(self.seed, "double-descent", dataset)
        inputs = input_matrix(Network(n=self.n, hidden=(1,), encoding="pm1"))
        truth, order = self._labels(), source.permutation(1 << self.n)
        S, outside = order[: self.train], order[self.train :]
        widest = max(self.features)
        weights = source.standard_normal((self.n, widest)) * (self.sigma_w / np.sqrt(self.n))
        hidden = inputs @ weights + self.sigma_b * source.standard_normal(widest)
        hidden = np.maximum(hidden, 0.0)
        flips, coins = source.permutation(self.train), source.integers(2, size=self.train)
        normals = source.standard_normal(widest + 1 + self.train)
        rows = []
        for p in self.features:
            bias = np.full((len(truth), 1), self.sigma_b)
            F = np.hstack([hidden[:, :p] * (self.sigma_w / np.sqrt(p)), bias])
            for fit in self._fits():
                labels = truth[S].copy()
                labels[flips[: round(fit.corrupt * self.train)]] *= -1.0
                if fit.method == SHUFFLED:
                    labels = 2.0 * coins - 1.0
                found = outputs(F, S, labels, fit, normals)
                error = float(((found[outside] > 0) != (truth[outside] > 0)).mean())
                rows.append({"dataset": dataset, "features": p, **fit._asdict(), "error": error})
        return rows

    def _fits(self) -> list[Fit]:
        found = []
        for corrupt in self.corrupt:
            found.append(Fit(LEAST, 0.0, corrupt))
            for noise in self.noise:
                found += [Fit(f"posterior {of}", noise, corrupt) for of in ("draw", "mean")]
        return [*found, Fit(SHUFFLED, 0.0, 0.0)]

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Mean error over data sets with its interval: a row a fit and number of features."""
        rows = []
        for key, part in frame.groupby(["corrupt", "method", "noise", "features"], sort=True):
            found = mean_of(part["error"].to_numpy())
            row = dict(zip(("corrupt", "method", "noise", "features"), key, strict=True))
            rows.append(
                {**row, "error": found.value, "error_low": found.low, "error_high": found.high}
            )
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """What the error does up to and beyond as many features as examples, by fit.

        A peak stands above both sides: above the error at a quarter as many features ("before"),
        and above that at the most ("end").
        """
        before, peak = (self._nearest(size) for size in (self.train / 4, self.train))
        end, first = max(self.features), self.corrupt[0]
        cold, hot = min(self.noise), max(self.noise)

        def gap(other: int, method: str, noise: float = 0.0, corrupt: float = first) -> np.ndarray:
            """(N,) error at the peak minus that at ``other`` features."""
            at = frame[(frame["method"] == method) & (frame["noise"] == noise)]
            at = at[at["corrupt"] == corrupt]
            table = at.pivot(index="dataset", columns="features", values="error")
            return np.asarray(table[peak] - table[other])

        down, up = f"error at {peak} - {end} features", f"error at {peak} - {before} features"
        draw, mean = "posterior draw", "posterior mean"
        rows = [
            (f"{down}: fit of least norm", gap(end, LEAST), "optimiser", 1, BELKIN),
            (f"{up}: fit of least norm", gap(before, LEAST), "optimiser", 1, BELKIN),
            (f"{down}: {draw}, noise {cold:g}", gap(end, draw, cold), "posterior", 1, OWN),
            (f"{up}: {draw}, noise {cold:g}", gap(before, draw, cold), "posterior", 1, OWN),
            (f"{up}: {mean}, noise {hot:g}", gap(before, mean, hot), "posterior", -1, OWN),
        ]
        for corrupt in self.corrupt[1:]:
            claim = f"{down}: fit of least norm, {corrupt:g} - {first:g} wrong labels"
            values = gap(end, LEAST, corrupt=corrupt) - gap(end, LEAST)
            rows.append((claim, values, "optimiser", 1, "Nakkiran et al. 2020"))
        claim = f"{down}: fit of least norm, random labels"
        rows.append((claim, gap(end, SHUFFLED, corrupt=0.0), "control", 0, "exact"))
        found = [
            Finding(_NAME, claim, mean_of(values), source, sign, literature)
            for claim, values, source, sign, literature in rows
        ]
        if len(self.noise) > 1:
            noises = sorted(self.noise)
            table = np.stack([gap(before, mean, noise) for noise in noises], axis=1)
            slope = slope_of(np.log10(noises), table)
            claim = f"{up}: {mean}, noise {hot:g} - {cold:g}"
            effect = mean_of(table[:, -1] - table[:, 0])
            found.append(Finding(_NAME, claim, effect, "posterior", -1, OWN, slope, "log10 noise"))
        return found

    def _nearest(self, size: float) -> int:
        """The number of features that is nearest to ``size``, on a logarithmic scale."""
        return min(self.features, key=lambda p: abs(float(np.log(p / size))))


def outputs(
    F: np.ndarray, S: np.ndarray, labels: np.ndarray, fit: Fit, normals: np.ndarray
) -> np.ndarray:
    """(m,) outputs of the last layer on features ``F`` (m, p), fitted to ``labels`` on rows ``S``.

    The weights have the prior N(0, 1). Of a draw ``normals`` are first its prior weights, and at
    the end the noise of the examples: a prior draw is corrected by what it misses (Matheron).
    """
    if fit.noise == 0:
        return np.asarray(F @ np.linalg.lstsq(F[S], labels, rcond=None)[0])
    K = F @ F[S].T
    free = np.zeros(len(F))
    missed = labels
    if fit.method == "posterior draw":
        free = F @ normals[: F.shape[1]]
        missed = labels - free[S] - np.sqrt(fit.noise) * normals[-len(S) :]
    return np.asarray(free + K @ np.linalg.solve(K[S] + fit.noise * np.eye(len(S)), missed))
