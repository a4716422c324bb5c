"""Experiment ``deep-linear``: is low rank the prior's, the posterior's, or gradient descent's?

Matrix completion by deep linear networks (Arora et al. 2019): a d x d matrix of low rank, some
of whose entries are observed. Compared on the same data sets, by depth and width: draws of the
prior, draws and mean of the Bayesian posterior, gradient descent from a draw of the prior, and from
one that was scaled down. Depth 1 is a control: gradient descent leaves what is not observed where
it was, which is what the posterior does.

Experiment ``single-output`` is a control, too: with one output and no biases, the sign of a deep
linear network is that of a perceptron whose weights point in a uniform direction, so P(f) is the
same at every depth and width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.linear_nets import (
    Completion,
    descend,
    draw_completions,
    draw_layers,
    effective_rank,
    posterior_draws,
    product,
)
from simprior.analysis.evidence.paired import LEVEL, Estimate, mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each
from simprior.boolean.sampling.sample import sample
from simprior.checks import Integer, Number, Whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import clopper_pearson, normal_factor
from simprior.training.posterior.chains import rhat

CHUNK = 48
"""Data sets that are computed together: a full chunk stays as it is when others are added."""
METHODS = ("prior", "posterior", "posterior mean", "gd large", "gd small")
MEASURES = ("error", "wrong", "rank")
MIXED = 1.05
PRIOR = 50
"""Draws of the prior for each data set."""
ARORA, SAXE = "Arora et al. 2019", "Saxe et al. 2014; Arora et al. 2019"
HANIN = "Hanin & Zlokapa 2023"
_NAME = "low rank"
Columns = dict[str, np.ndarray]


class Piece(NamedTuple):
    """A chunk of data sets at one depth and hidden width."""

    depth: int
    width: int
    chunk: int


@dataclass(frozen=True)
class DeepLinear(AsComputed):
    """Matrix completion by linear networks of several depths and hidden widths.

    ``size``, ``rank`` and ``observed`` describe the matrices (``normalise``: entries of mean square
    1 in each of them; ``linked``: the observed entries link all rows and columns), ``datasets`` how
    many there are. ``noise`` is the standard deviation of the
    likelihood. ``small`` is the factor on the layers of the small start; gradient descent makes
    ``steps`` steps of at most ``rate``, until every observed entry is met to ``tol``. Each of
    ``chains`` chains makes ``burn`` sweeps, and then ``draws`` draws, ``thin`` sweeps apart.
    """

    size: int = 5
    rank: int = 1
    observed: int = 15
    datasets: int = 48
    depth: tuple[int, ...] = (1, 2, 3, 4)
    width: tuple[int, ...] = (5,)
    sigma_w: float = 1.0
    noise: float = 0.1
    small: float = 0.05
    steps: int = 100_000
    rate: float = 0.05
    tol: float = 0.001
    chains: int = 2
    draws: int = 200
    thin: int = 20
    burn: int = 1000
    normalise: bool = True
    linked: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, 200, remedy)("size", self.size)
        Whole(1, self.size, remedy)("rank", self.rank)
        Whole(1, self.size**2 - 1, remedy)("observed", self.observed)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        check_each(self, Whole(1, 10**9, remedy), "steps", "draws", "thin")
        Whole(0, 10**9, remedy)("burn", self.burn)
        Whole(2, 1000, remedy)("chains", self.chains)
        Integer(4, None, remedy)("draws", self.draws)
        check_each(
            self, Number(0, open=True, remedy=remedy), "sigma_w", "noise", "small", "rate", "tol"
        )
        for name in ("depth", "width"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or min(values) < 1:
                what = f"{name}={list(values)}"
                raise InputError(what, "different whole numbers >= 1", remedy)

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        chunks = range(-(-self.datasets // CHUNK))
        return [Piece(d, w, c) for w in self.width for d in self.depth for c in chunks]

    def compute(self, piece: Piece) -> Columns:
        """Rows of one piece: a data set and method each.

        Columns: dataset, depth, width, method; over the entries that were not observed, error (mean
        squared) and wrong (share whose sign is wrong); rank (effective), fitted (gradient descent:
        all observed entries met), steps, rhat (posterior: of the error of draws). Of draws error,
        wrong and rank are means over the draws.
        """
        problem = self._problem(piece.chunk)
        source = rng.generator(self.seed, f"deep-linear/{piece.depth}/{piece.width}", piece.chunk)
        count, parts = len(problem.truth), []
        for method, values in self._methods(problem, piece, source):
            filled = {"fitted": True, "steps": 0, "rhat": math.nan} | values
            row = {name: np.broadcast_to(value, count) for name, value in filled.items()}
            row["method"] = np.full(count, method, object)
            row["dataset"] = piece.chunk * CHUNK + np.arange(count)
            row["depth"], row["width"] = np.full(count, piece.depth), np.full(count, piece.width)
            parts.append(row)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _problem(self, chunk: int) -> Completion:
        """The data sets of a chunk, the same at every depth and width."""
        source = rng.generator(self.seed, "deep-linear/data", chunk)
        how = {"normalise": self.normalise, "linked": self.linked}
        found = draw_completions(source, CHUNK, self.size, self.rank, self.observed, **how)
        kept = min(CHUNK, self.datasets - chunk * CHUNK)
        return Completion(found.truth[:kept], found.seen[:kept])

    def _methods(
        self, problem: Completion, piece: Piece, source: np.random.Generator
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(method, its values for each data set) of every method."""
        size, depth = self.size, piece.depth
        widths = [size, *[piece.width] * (depth - 1), size]
        count = len(problem.truth)
        free = [product(draw_layers(source, count, widths, self.sigma_w)) for _ in range(PRIOR)]
        yield "prior", _values(problem, np.array(free))
        start = draw_layers(source, count, widths, self.sigma_w)
        for method, factor in (("gd large", 1.0), ("gd small", self.small)):
            layers = [factor * w for w in start]
            end = descend(problem, layers, rate=self.rate, steps=self.steps, tol=self.tol)
            values = {"fitted": end.fitted, "steps": end.steps}
            yield method, values | _values(problem, end.found[None])
        yield from self._posterior(problem, piece)

    def _posterior(self, problem: Completion, piece: Piece) -> Iterator[tuple[str, dict[str, Any]]]:
        sweeps = range(self.burn, self.burn + self.draws * self.thin, self.thin)
        count = len(problem.truth)
        both = Completion(*(np.tile(a, (self.chains, 1, 1)) for a in vars(problem).values()))
        source = rng.generator(
            self.seed, f"deep-linear/posterior/{piece.depth}/{piece.width}", piece.chunk
        )
        mean = np.zeros_like(problem.truth)
        found = []
        for centre, draw in posterior_draws(
            both, piece.depth, piece.width, self.sigma_w, self.noise, sweeps, source
        ):
            mean += centre.reshape(self.chains, count, self.size, self.size).mean(0)
            found.append([both.error(draw), both.wrong(draw), effective_rank(draw)])
        values = np.array(found).reshape(self.draws, 3, self.chains, count)
        spread = np.array([rhat(values[:, 0, :, i].T) for i in range(count)])
        means = dict(zip(MEASURES, values.mean((0, 2)), strict=True))
        yield "posterior", {**means, "rhat": spread}
        yield "posterior mean", _values(problem, mean[None] / self.draws)

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Means over data sets: a row a width, depth and method.

        Columns median_error; error, wrong and rank with their intervals; fitted (share), and
        unmixed (posterior: share of data sets whose chains disagree, R-hat above ``MIXED``).
        """
        rows = []
        for (width, depth), part in frame.groupby(["width", "depth"]):
            for method in METHODS:
                of = part[part["method"] == method]
                row = {"width": width, "depth": depth, "method": method}
                row["median_error"] = of["error"].median()
                for name in MEASURES:
                    found = mean_of(of[name].to_numpy())
                    row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
                known = of["rhat"].dropna()
                unmixed = float((known > MIXED).mean()) if len(known) else math.nan
                rows.append({**row, "fitted": of["fitted"].mean(), "unmixed": unmixed})
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """The contrasts at the first width: see the module.

        Errors are contrasted as wrong signs, and as the logarithm of the squared error. The squared
        error itself has no bound where the observed entries that determine another are small: its
        mean has no true interval.
        """
        depths = sorted(self.depth)
        found = self._of_descent(frame, [d for d in depths if d > 1])
        if len(depths) > 1:
            found += self._of_rank(frame, depths)
        if depths[0] == 1:
            at = partial(_by_depth, frame, self.width[0], which=[1])
            same = at("gd large", "error") - at("posterior", "error")
            claim = "squared error: GD from a prior draw - posterior draws, depth 1"
            found.append(Finding(_NAME, claim, mean_of(same[:, 0]), "control", 0, "exact"))
        return found

    def _of_descent(self, frame: pd.DataFrame, depths: list[int]) -> list[Finding]:
        """Gradient descent from small weights against others, at the least of the depths > 1."""
        if not depths:
            return []
        at = partial(_by_depth, frame, self.width[0], which=depths)
        small = "GD from small weights"
        contrasts = {
            f"ln squared error (nats): {small} - posterior mean": np.log(at("gd small", "error"))
            - np.log(at("posterior mean", "error")),
            f"wrong signs: {small} - posterior mean": at("gd small", "wrong")
            - at("posterior mean", "wrong"),
            f"wrong signs: {small} - from large weights": at("gd small", "wrong")
            - at("gd large", "wrong"),
            f"effective rank: {small} - posterior draws": at("gd small", "rank")
            - at("posterior", "rank"),
        }
        found = []
        for claim, values in contrasts.items():
            slope = slope_of(np.array(depths), values) if len(depths) > 1 else None
            text, effect = f"{claim}, depth {depths[0]}", mean_of(values[:, 0])
            found.append(Finding(_NAME, text, effect, "optimiser", -1, ARORA, slope, "depth"))
        return found

    def _of_rank(self, frame: pd.DataFrame, depths: list[int]) -> list[Finding]:
        """What depth and width do to the effective rank of the prior and of the posterior."""
        found = []
        ends = f"depth {depths[-1]} - {depths[0]}"
        for method in ("prior", "posterior"):
            values = _by_depth(frame, self.width[0], method, "rank", which=depths)
            effect, slope = (
                mean_of(values[:, -1] - values[:, 0]),
                slope_of(np.array(depths), values),
            )
            claim = f"effective rank of {method} draws: {ends}"
            found.append(Finding(_NAME, claim, effect, method, -1, SAXE, slope, "depth"))
        widths = sorted(self.width)
        if len(widths) > 1:
            each = [_by_depth(frame, w, "posterior", "rank", depths[-1:])[:, 0] for w in widths]
            values = np.stack(each, axis=1)
            claim = f"effective rank of posterior draws: width {widths[-1]} - {widths[0]}"
            claim = f"{claim}, depth {depths[-1]}"
            effect, slope = mean_of(values[:, -1] - values[:, 0]), slope_of(np.log2(widths), values)
            found.append(Finding(_NAME, claim, effect, "prior", 1, HANIN, slope, "log2 width"))
        return found


def _by_depth(
    frame: pd.DataFrame, width: int, method: str, name: str, which: list[int]
) -> np.ndarray:
    """(N, K) values of a column over data sets and the depths ``which``."""
    at = frame[(frame["width"] == width) & (frame["method"] == method)]
    return at.pivot(index="dataset", columns="depth", values=name)[which].to_numpy(float)


def _values(problem: Completion, draws: np.ndarray) -> dict[str, Any]:
    """``MEASURES`` of (S, B, d, d) draws, averaged over the draws."""
    found = (problem.error(draws), problem.wrong(draws), effective_rank(draws))
    return {name: value.mean(0) for name, value in zip(MEASURES, found, strict=True)}


@dataclass(frozen=True)
class SingleOutput(AsComputed):
    """P(f) of linear networks with one output and no biases, by depth: ``samples`` networks each.

    ``function`` is the one whose probability is compared; the test of equality takes all of them.
    """

    n: int = 4
    depth: tuple[int, ...] = (1, 2, 3, 4)
    width: int = 8
    samples: int = 100_000
    function: str = "x1"
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(1, 6, remedy)("n", self.n)
        Whole(1, 10**9, remedy)("samples", self.samples)
        Whole(1, 10**6, remedy)("width", self.width)
        if len(set(self.depth)) < max(2, len(self.depth)) or min(self.depth) < 1:
            what = f"depth={list(self.depth)}"
            raise InputError(what, "two or more different whole numbers >= 1", remedy)
        self._word()

    def _word(self) -> int:
        from simprior.boolean.truthtable import pack, parse_functions

        tables = parse_functions([self.function], 1 << self.n, self.n)
        return int(pack(tables)[0, 0])

    def pieces(self) -> list[int]:
        """The depths."""
        return list(self.depth)

    def compute(self, piece: int) -> Columns:
        """Rows of one depth: columns depth, word (the packed function), count, p."""
        network = Network(
            n=self.n,
            hidden=(self.width,) * (piece - 1),
            activation="linear",
            sigma_b=0.0,
            encoding="pm1",
        )
        seed = rng.seed_from(self.seed, "single-output", piece)
        counts = sample(network, samples=self.samples, seed=seed, heads=1)
        words = counts.words[:, 0]
        return {
            "depth": np.full(len(words), piece),
            "word": words,
            "count": counts.count.astype(np.int64),
            "p": counts.count / self.samples,
        }

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row a depth: functions met, and the probability of ``function`` with its interval."""
        rows = []
        for depth, part in frame.groupby("depth"):
            count = int(part.loc[part["word"] == self._word(), "count"].sum())
            low, high = clopper_pearson(np.array(float(count)), float(self.samples))
            row = {"depth": depth, "functions": len(part), "p": count / self.samples}
            rows.append(row | {"p_low": float(low), "p_high": float(high)})
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """One control: p of chi-squared for equal P(f) of all functions at all depths."""
        from scipy.stats import chi2_contingency

        table = frame.pivot(index="word", columns="depth", values="count").fillna(0)
        table = table[sorted(self.depth)]
        common = table.sum(axis=1) >= 5 * len(self.depth)
        counts = np.vstack([table[common].to_numpy(), table[~common].to_numpy().sum(axis=0)])
        p = float(chi2_contingency(counts[counts.sum(axis=1) > 0]).pvalue)
        word = self._word()
        share = table.loc[word].to_numpy() / self.samples if word in table.index else np.zeros(2)
        effect = share[-1] - share[0]
        error = math.sqrt((share[[0, -1]] * (1 - share[[0, -1]])).sum() / self.samples)
        reach = normal_factor(LEVEL) * error
        total = self.samples * len(self.depth)
        shown = f"depth {max(self.depth)} - {min(self.depth)}"
        claim = f"P({self.function}) of single-output linear networks: {shown}"
        value = Estimate(effect, effect - reach, effect + reach, p, total)
        return [Finding(_NAME, claim, value, "control", 0, "exact")]
