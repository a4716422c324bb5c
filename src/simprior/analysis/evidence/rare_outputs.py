"""Experiment ``rare-outputs``: which approximation of rare outputs is off by how much?

Independent networks, random and trained, on all strings of n bits: thresholds are set so that the
output is above them on 2^-b of the strings, for several b. The methods of
:mod:`simprior.analysis.rare` are then held to that share. A linear network with Gaussian inputs,
whose output is normal, is the control: there the fitted normal law must be right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.rare.given import Given, find_given
from simprior.analysis.rare.laws import MOST_BITS, BitLaw, GaussianLaw, Law
from simprior.analysis.rare.methods import METHODS, Effort, exact
from simprior.analysis.rare.moments import output_moments
from simprior.analysis.rare.question import Question
from simprior.analysis.study.sections import AsComputed, check_each
from simprior.checks import Whole
from simprior.errors import InputError
from simprior.network.spec import MAX_BITS, Network
from simprior.numerics import random as rng
from simprior.training.targets import Problem
from simprior.training.train import train

CHUNK = 2
"""Data sets that are computed together."""
RANDOM, TRAINED, LINEAR = "random", "trained", "linear"
COMPARED = ("gaussian", "gld", "qld", "mhis")
_NAME = "rare outputs"
_BOTH = ("gld", "mhis")  # of the control
WU, OWN = "Wu & Hilton 2024", "own"
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class RareNetworks(AsComputed):
    """``datasets`` independent networks of each kind on ``n`` bits +-1, at rarities 2^-b.

    ``bits`` are the b, ascending; ``width`` those of the hidden layers, ``depth`` of them, the
    first that of trained networks and of the contrasts. Trained networks fit ``train`` random
    strings of ``target`` by adam with rate ``lr``; a data set is a draw, a training set and a seed.
    ``samples``, ``particles`` and ``runs`` are the effort of the methods.
    """

    n: int = 15
    bits: tuple[int, ...] = (4, 8, 12)
    width: tuple[int, ...] = (8, 64)
    depth: int = 2
    sigma_w: float = 1.0
    sigma_b: float = 0.5
    target: str = "majority"
    train: int = 64
    lr: float = 0.01
    max_epochs: int = 2000
    datasets: int = 32
    samples: int = 10_000
    particles: int = 200
    runs: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, min(MOST_BITS, MAX_BITS), remedy)("n", self.n)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(1, 100, remedy)("depth", self.depth)
        for name in ("bits", "width"):
            values = getattr(self, name)
            if not values or sorted(set(values)) != list(values):
                raise InputError(f"{name}={list(values)}", "ascending numbers, each once", remedy)
        check_each(self, Whole(1, self.n, remedy), "bits")
        check_each(self, Whole(1, 10**6, remedy), "width")
        self._problem(0)

    def _network(self, width: int) -> Network:
        return Network(
            n=self.n,
            hidden=(width,) * self.depth,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
            encoding="pm1",
        )

    def _problem(self, seed: int) -> Problem:
        return Problem(self._network(self.width[0]), self.target, train=self.train, seed=seed)

    @property
    def effort(self) -> Effort:
        """How much work the methods do."""
        return Effort(self.samples, self.particles, self.runs)

    def pieces(self) -> list[range]:
        """Numbers of data sets that are computed together."""
        starts = range(0, self.datasets, CHUNK)
        return [range(start, min(start + CHUNK, self.datasets)) for start in starts]

    def compute(self, piece: range) -> Columns:
        """A row a data set, kind of network, width, rarity and method.

        Columns: dataset, kind (``RANDOM``, ``TRAINED``, ``LINEAR``), width (0: linear), bits (b),
        method, exact (ln P), off (nats; nan without an estimate), stderr, reliable, fitted.
        """
        rows = [row for dataset in piece for row in self._rows(dataset)]
        texts = ("kind", "method")
        return {
            name: np.array([row[name] for row in rows], object if name in texts else None)
            for name in rows[0]
        }

    def _rows(self, dataset: int) -> list[dict[str, object]]:
        seed = rng.seed_from(self.seed, "rare-outputs", dataset)
        law, rows = BitLaw(self.n, True), []
        for width in self.width:
            given = find_given(self._network(width), member=0, seed=seed)
            rows += self._held(given, law, (RANDOM, width, True), dataset)
        result = train(
            self._problem(seed), runs=1, seed=seed, lr=self.lr, max_epochs=self.max_epochs
        )
        fitted = bool(result.fitted[0])
        given = find_given(result, member=0)
        rows += self._held(given, law, (TRAINED, self.width[0], fitted), dataset)
        linear = Network(n=self.n, hidden=(), activation="linear", encoding="pm1")
        given = find_given(linear, member=0, seed=seed)
        rows += self._held(given, GaussianLaw.standard(self.n), (LINEAR, 0, True), dataset)
        return rows

    def _held(
        self, given: Given, law: Law, about: tuple[str, int, bool], dataset: int
    ) -> list[dict[str, object]]:
        """Rows of one network."""
        kind, width, fitted = about
        source = rng.generator(self.seed, f"rare-outputs/{kind}/{width}", dataset)
        rows: list[dict[str, object]] = []
        for b, threshold in zip(self.bits, self._thresholds(given, law), strict=True):
            question = Question(given, law, threshold)
            wanted = exact(question).value
            for method in _BOTH if kind == LINEAR else COMPARED:
                found = METHODS[method].estimate(question, self.effort, source)
                rows.append(
                    {
                        "dataset": dataset,
                        "kind": kind,
                        "width": width,
                        "bits": b,
                        "method": method,
                        "exact": wanted,
                        "off": found.value - wanted,
                        "stderr": found.stderr,
                        "reliable": bool(found.diagnostics["reliable"]),
                        "fitted": fitted,
                    }
                )
        return rows

    def _thresholds(self, given: Given, law: Law) -> list[float]:
        """Thresholds above which the output is on 2^-b of the inputs, for each b."""
        if isinstance(law, BitLaw):
            z = np.sort(given.outputs(law.inputs(law.strings(0, 1 << self.n))))
            places = [len(z) - (1 << (self.n - b)) for b in self.bits]
            return [0.5 * float(z[at - 1] + z[at]) for at in places]
        from scipy.special import ndtri

        mean, variance = output_moments(Question(given, law))
        return [mean - float(ndtri(2.0**-b)) * math.sqrt(variance) for b in self.bits]

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Means over data sets: a row a kind of network, width, rarity and method.

        ``off`` with its interval, ``size`` (mean absolute), ``missing`` (share without estimate),
        ``flagged`` (share not to be trusted).
        """
        rows = []
        keys = ["kind", "width", "bits", "method"]
        for key, part in frame.groupby(keys, sort=True):
            off = part["off"][np.isfinite(part["off"])].to_numpy()
            found = mean_of(off) if len(off) > 1 else None
            row = dict(zip(keys, key, strict=True))
            row |= {
                "off": math.nan if found is None else found.value,
                "off_low": math.nan if found is None else found.low,
                "off_high": math.nan if found is None else found.high,
                "size": float(np.abs(off).mean()) if len(off) else math.nan,
                "missing": float((~np.isfinite(part["off"])).mean()),
                "flagged": float((~part["reliable"].astype(bool)).mean()),
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """What the approximations are off by, against each other, by rarity, width and training.

        An estimate that a method did not reach counts as off by all of ln P.
        """
        rarest, first = max(self.bits), self.width[0]
        size = frame.assign(size=np.abs(frame["off"].fillna(frame["exact"])))

        def by_bits(method: str, kind: str = RANDOM, width: int = first) -> np.ndarray:
            """(N, K) |off| of a method by data set and rarity."""
            part = size[(size["method"] == method) & (size["kind"] == kind)]
            part = part[part["width"] == width]
            table = part.pivot(index="dataset", columns="bits", values="size")
            return table[list(self.bits)].to_numpy(float)

        at = f"|off| in nats at P = 2^-{rarest}"
        contrasts = [
            (f"{at}: gld - mhis", by_bits("gld") - by_bits("mhis"), "prior", WU),
            (f"{at}: qld - mhis", by_bits("qld") - by_bits("mhis"), "prior", WU),
            (f"{at}: gld - qld", by_bits("gld") - by_bits("qld"), "prior", WU),
            (f"{at}: gaussian - gld", by_bits("gaussian") - by_bits("gld"), "prior", OWN),
            (
                f"{at}: gld, trained - random",
                by_bits("gld", TRAINED) - by_bits("gld"),
                "optimiser",
                OWN,
            ),
        ]
        found = []
        for claim, values, source, literature in contrasts:
            slope = slope_of(np.array(self.bits), values) if len(self.bits) > 1 else None
            effect = mean_of(values[:, -1])
            found.append(Finding(_NAME, claim, effect, source, 1, literature, slope, "bits"))
        if len(self.width) > 1:
            table = np.stack([by_bits("gld", width=w)[:, -1] for w in self.width], axis=1)
            claim = f"{at}: gld, width {self.width[-1]} - {first}"
            slope = slope_of(np.log2(self.width), table)
            effect = mean_of(table[:, -1] - table[:, 0])
            found.append(Finding(_NAME, claim, effect, "prior", -1, OWN, slope, "log2 width"))
        return [*found, *self._controls(frame)]

    def _controls(self, frame: pd.DataFrame) -> list[Finding]:
        """What must be 0: a normal law fitted to normal outputs, an unbiased estimate."""
        rarest = frame[frame["bits"] == max(self.bits)]
        linear = rarest[(rarest["kind"] == LINEAR) & (rarest["method"] == "gld")]
        chains = rarest[(rarest["method"] == "mhis") & (rarest["kind"] == RANDOM)]
        ratio = np.exp(chains["off"].fillna(-math.inf)) - 1.0
        ratio = ratio.groupby(chains["dataset"]).mean()
        at = f"at P = 2^-{max(self.bits)}"
        rows = [
            (f"off in nats {at}: gld of linear networks, Gaussian inputs", linear["off"]),
            (f"estimate of P over P, less 1, {at}: mhis", ratio),
        ]
        return [
            Finding(_NAME, claim, mean_of(values.to_numpy(float)), "control", 0, "exact")
            for claim, values in rows
        ]
