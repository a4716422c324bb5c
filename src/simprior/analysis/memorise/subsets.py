"""Memorisation by training on random subsets, and its Bayesian counterpart on the same subsets.

Over subsets I of S, mem_i = mean of [label of i found] over the I with i - the same over the I
without it (Feldman & Zhang 2020, section 2.2). The influence of i on an input j is the same
difference with the label of j. Trained networks and the Bayesian predictive are asked about the
same subsets, so that both are of the same training sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simprior.analysis.memorise.bayes import predict
from simprior.boolean.truthtable import unpack
from simprior.gp.orthant import Columns
from simprior.numerics import random as rng
from simprior.training.targets import Problem, problem_on
from simprior.training.train import train

CHUNK = 10
"""Subsets that are trained on together: what is lost at an interruption."""


@dataclass(frozen=True)
class Subsets:
    """``count`` random subsets of S, ``share`` of it each, and ``members`` networks on each.

    ``kernel`` (m, m) is that of all inputs, S first; ``training`` are keywords of
    :func:`simprior.train`. Subset number j is a function of ``seed`` and j alone.
    """

    problem: Problem
    kernel: np.ndarray
    count: int
    share: float
    members: int
    seed: int
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> np.ndarray:
        """Rows of the problem's inputs in the order used here: S, and then all others."""
        return np.concatenate([self.problem.fitted_index, self.problem.test_index])

    @property
    def labels(self) -> np.ndarray:
        """(m,) labels in that order: those to fit, and then the true ones."""
        return np.concatenate([self.problem.labels, self.problem.target[self.problem.test_index]])

    def inside(self, number: int) -> np.ndarray:
        """(k,) which examples of S are in subset ``number``."""
        k = self.problem.size
        drawn = rng.generator(self.seed, "memorise/subsets", number).permutation(k)
        found = np.zeros(k, bool)
        found[drawn[: round(self.share * k)]] = True
        return found

    def pieces(self) -> list[range]:
        """Numbers of subsets that are done together."""
        starts = range(0, self.count, CHUNK)
        return [range(start, min(start + CHUNK, self.count)) for start in starts]

    def compute(self, piece: range) -> Columns:
        """A row a subset and input: subset, input (place in ``order``), inside, sgd (share of the
        networks that give its label), bayes (probability of its label), fitted (networks)."""
        parts = []
        for number in piece:
            inside = self.inside(number)
            index = np.flatnonzero(inside)
            seed = rng.seed_from(self.seed, "memorise/train", number)
            right, fitted = trained_on(self, index, self.members, seed)
            m = len(self.labels)
            parts.append(
                {
                    "subset": np.full(m, number),
                    "input": np.arange(m),
                    "inside": np.concatenate([inside, np.zeros(m - len(inside), bool)]),
                    "sgd": right.mean(0),
                    "bayes": bayes_on(self, index),
                    "fitted": np.full(m, int(fitted.sum())),
                }
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def trained_on(
    setup: Subsets, index: np.ndarray, members: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(members, m) whether networks trained on the examples ``index`` give the label of each input;
    (members,) whether they fitted."""
    labels, order = setup.labels, setup.order
    part = problem_on(setup.problem.network, order[index], labels[index])
    found = train(part, runs=members, seed=seed, **setup.training)
    tables = unpack(found.words, setup.problem.m)[:, order]
    return tables == labels, found.fitted


def bayes_on(setup: Subsets, index: np.ndarray) -> np.ndarray:
    """(m,) probability that the posterior given the examples ``index`` gives each input's label."""
    labels = setup.labels
    ones = predict(setup.kernel, index, labels[index])
    return np.where(labels > 0, ones, 1.0 - ones)


def gained(inside: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, t) mean of ``right`` (N, t) over the subsets with example i minus that over those
    without, and standard errors from the spread over subsets. ``inside`` is (N, k).

    An example that is in all subsets, or in none, has NaN.
    """
    values, squares = [], []
    for group in (inside.astype(float), 1.0 - inside):
        number = group.sum(0)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = group.T @ right / number
            spread = np.maximum(group.T @ right**2 / number - mean**2, 0.0)
            squares.append(spread / (number - 1))
        values.append(mean)
    return values[0] - values[1], np.sqrt(squares[0] + squares[1])
