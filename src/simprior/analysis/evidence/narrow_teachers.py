"""Experiment ``narrow-teachers``: how many examples does a random interpolating network need?

A network drawn at random among those that fit S generalises once S has some multiple of as many
examples as a *teacher* has parameters, nearly whatever the width of the network itself: there are
many copies of a narrow teacher in a wide network (Buzaglo et al. 2024). The teacher is a random
network of one hidden layer (the target ``net:W``). The interpolating networks are posterior draws
under the 0-1 likelihood, of several widths, and of infinite width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each
from simprior.boolean.truthtable import unpack
from simprior.checks import Choice, Number, Whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.routes.evidence import log_evidence
from simprior.routes.posterior import posterior
from simprior.training.targets import Problem, make_target

BUZAGLO = "Buzaglo et al. 2024"
INFINITE = 0
"""The width by which infinitely wide students are called in tables."""
TEACHER, SHUFFLED = "teacher", "shuffled"
_NAME = "narrow teachers"
_STREAM = "narrow-teachers"
_HOPE = -6.0  # ln P(C(S)) from which on prior draws fit S often enough to wait for them
_TRIES = 10_000
Columns = dict[str, np.ndarray]


class Piece(NamedTuple):
    """A teacher of one width on one data set."""

    teacher: int
    dataset: int


@dataclass(frozen=True)
class NarrowTeachers(AsComputed):
    """Posterior draws of students that fit S, labelled by random teachers of several widths.

    ``teacher`` and ``student`` are widths of one hidden layer, of students also ``INFINITE``; the
    first student is that of the findings, as is ``size``, one of the sizes ``train`` of S. Inputs
    are the 2^n bit strings, +-1. Teachers whose rarer label has a share below ``rarer`` are drawn
    again: a function that is nearly constant is learned at once. ``draws`` functions from each
    posterior, by ``chains``, ``thin`` sweeps apart, where rejection would take too long. ``level``:
    the error that defines the number of examples that a teacher needs.
    """

    n: int = 7
    teacher: tuple[int, ...] = (1, 2, 4, 8)
    student: tuple[int, ...] = (40, 8, 400, INFINITE)
    train: tuple[int, ...] = (8, 16, 32, 64, 96)
    size: int = 64
    datasets: int = 24
    activation: str = "relu"
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    rarer: float = 0.25
    level: float = 0.2
    draws: int = 200
    chains: int = 2
    thin: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, 14, remedy)("n", self.n)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(1, 10**6, remedy)("draws", self.draws)
        Whole(1, 10**6, remedy)("thin", self.thin)
        Whole(1, 10**4, remedy)("chains", self.chains)
        Number(0, 0.5, remedy=remedy)("rarer", self.rarer)
        Number(0, 0.5, open=True, remedy=remedy)("level", self.level)
        for name in ("teacher", "student", "train"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or len(values) < 2:
                raise InputError(f"{name}={list(values)}", "two or more, each once", remedy)
        check_each(self, Whole(1, (1 << self.n) - 1, remedy), "train")
        Choice([str(size) for size in self.train], remedy)("size", str(self.size))
        finite = [width for width in self.student if width != INFINITE]
        check_each(self, Whole(1, 10**6, remedy), "teacher")
        if len(finite) < 2 or min(finite) < max(self.teacher):
            what = f"student={list(self.student)} of teachers up to {max(self.teacher)}"
            raise InputError(what, "two or more finite widths, none below a teacher's", remedy)
        self.network(finite[0])

    def network(self, width: int) -> Network:
        """A student; an infinitely wide one has the width of the first."""
        return Network(
            n=self.n,
            hidden=(width or self.student[0] or self.student[1],),
            activation=self.activation,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
            encoding="pm1",
        )

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        return [Piece(width, d) for d in range(self.datasets) for width in self.teacher]

    def teachers_labels(self, piece: Piece) -> np.ndarray:
        """(2^n,) labels of the first teacher drawn that is not nearly constant."""
        stream = f"{_STREAM}/teacher/{piece.teacher}/{piece.dataset}"
        seeds = rng.generator(self.seed, stream).integers(2**62, size=_TRIES)
        m, network = 1 << self.n, self.network(self.student[0])
        for seed in seeds:
            table = make_target(f"net:{piece.teacher}", m, self.n, int(seed), network)[1]
            if self.rarer <= table.mean() <= 1 - self.rarer:
                return table
        what = f"rarer={self.rarer} of target net:{piece.teacher}"
        raise InputError(what, f"a share that one of {_TRIES} teachers has", "lower it")

    def compute(self, piece: Piece) -> Columns:
        """A row a student and size of S, and one with shuffled labels.

        Columns: teacher, dataset, labels (``TEACHER`` or ``SHUFFLED``), student, train, error (mean
        over the draws, outside S), chance (the error that as many ones at random places have),
        method, rhat (of the errors; nan where draws are independent).
        """
        truth = self.teachers_labels(piece)
        source = rng.generator(self.seed, f"{_STREAM}/shuffled/{piece.teacher}", piece.dataset)
        shuffled = source.permutation(truth)
        cases = [(TEACHER, s, t) for s in self.student for t in self.train]
        cases.append((SHUFFLED, self.student[0], self.size))
        rows = []
        for labels, student, train in cases:
            table = truth if labels == TEACHER else shuffled
            row = {**piece._asdict(), "labels": labels, "student": student, "train": train}
            rows.append(row | self._drawn(table, piece, student, train))
        text = ("labels", "method")
        return {
            name: np.array([row[name] for row in rows], object if name in text else None)
            for name in rows[0]
        }

    def _drawn(self, table: np.ndarray, piece: Piece, student: int, train: int) -> dict[str, Any]:
        """What the posterior of one student gives; S depends on the data set alone, and grows."""
        seed = rng.seed_from(self.seed, f"{_STREAM}/S", piece.dataset)
        problem = Problem(self.network(student), table, train=train, seed=seed)
        method, options = self._method(problem, student)
        stream = f"{_STREAM}/draws/{piece}/{student}/{train}"
        own = rng.seed_from(self.seed, stream)
        counts = posterior(problem, method, self.draws, own, **options)
        outside = np.setdiff1d(np.arange(len(table)), problem.fitted_index)
        found = unpack(counts.words, len(table))[:, outside]
        ones, share = found.mean(axis=1), table[outside].mean()
        weights = counts.count / counts.count.sum()
        statistics = counts.info["posterior"].get("statistics", {})
        return {
            "error": float(weights @ (found != table[outside]).mean(axis=1)),
            "chance": float(weights @ (ones * (1 - share) + (1 - ones) * share)),
            "method": method,
            "rhat": float(statistics.get("error", {}).get("rhat", math.nan)),
        }

    def _method(self, problem: Problem, student: int) -> tuple[str, dict[str, Any]]:
        """Exact draws where they are to be had, else chains."""
        if student == INFINITE:
            return "gp", {}
        if log_evidence(problem, draws=1024).value > _HOPE:
            return "rejection", {}
        return "slice", {"chains": self.chains, "thin": self.thin}

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Mean error over data sets with its interval: a row a teacher, student and size of S.

        ``needed``: examples at which the mean error falls below ``level`` (nan: at none of the
        sizes); ``unmixed``: share of the data sets whose chains have an R-hat above 1.05.
        """
        rows = []
        keys = ["labels", "teacher", "student", "train"]
        for key, part in frame.groupby(keys, sort=True):
            found, known = mean_of(part["error"].to_numpy()), part["rhat"].dropna()
            row: dict[str, Any] = dict(zip(keys, key, strict=True))
            row |= {"error": found.value, "error_low": found.low, "error_high": found.high}
            row["chance"] = part["chance"].mean()
            row["rejection"] = (part["method"] == "rejection").mean()
            row["unmixed"] = float((known > 1.05).mean()) if len(known) else math.nan
            if row["labels"] == TEACHER:
                errors = self._errors(frame, row["teacher"], row["student"])
                row["needed"] = examples_needed(np.array(self.sizes), errors.mean(0), self.level)
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def sizes(self) -> list[int]:
        """Sizes of S, in order."""
        return sorted(self.train)

    def _errors(self, frame: pd.DataFrame, teacher: int, student: int) -> np.ndarray:
        """(N, K) errors over data sets and sizes of S."""
        at = frame[(frame["labels"] == TEACHER) & (frame["teacher"] == teacher)]
        at = at[at["student"] == student]
        table = at.pivot(index="dataset", columns="train", values="error")
        return table[self.sizes].to_numpy(float)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """What the widths of teacher and student do, and the control of shuffled labels."""
        teachers, main = sorted(self.teacher), self.student[0]
        students = sorted(width for width in self.student if width != INFINITE)
        place = self.sizes.index(self.size)
        at = f"|S| = {self.size}"

        def errors(teacher: int, student: int) -> np.ndarray:
            return self._errors(frame, teacher, student)[:, place]

        by_teacher = np.stack([errors(k, main) for k in teachers], axis=1)
        claim = f"error: teacher of width {teachers[-1]} - {teachers[0]}, student {main}, {at}"
        effect = mean_of(by_teacher[:, -1] - by_teacher[:, 0])
        slope = slope_of(np.log2(teachers), by_teacher)
        how = (BUZAGLO, slope, "log2 teacher width")
        found = [Finding(_NAME, claim, effect, "posterior", 1, *how)]
        for teacher in (teachers[0], teachers[-1]):
            table = np.stack([errors(teacher, width) for width in students], axis=1)
            claim = f"error: student of width {students[-1]} - {students[0]}, teacher {teacher}"
            effect, slope = mean_of(table[:, -1] - table[:, 0]), slope_of(np.log2(students), table)
            how = (BUZAGLO, slope, "log2 student width")
            found.append(Finding(_NAME, f"{claim}, {at}", effect, "prior", 1, *how))
        found += self._of_needs(frame, teachers, main)
        of = frame[(frame["labels"] == SHUFFLED) & (frame["teacher"] == teachers[0])]
        gain = (of["error"] - of["chance"]).to_numpy(float)
        claim = f"error - chance: shuffled labels of teachers of width {teachers[0]}, {at}"
        found.append(Finding(_NAME, claim, mean_of(gain), "control", 0, "exact"))
        return found

    def _of_needs(self, frame: pd.DataFrame, teachers: list[int], student: int) -> list[Finding]:
        """How the number of examples needed grows with the teachers' parameters.

        It is read off the mean error over data sets, so its interval is that of the jackknife: of
        pseudo-values, one a data set. Teachers whose error stays above ``level`` need more than
        were tried: they are left out, and the claim names those that are in.
        """
        curves = {k: self._errors(frame, k, student) for k in teachers}
        whole = {k: self._needed(curve.mean(0)) for k, curve in curves.items()}
        reached = [k for k in teachers if math.isfinite(whole[k])]
        number = len(curves[teachers[0]])
        values = np.array([
            [number * whole[k] - (number - 1) * self._needed(np.delete(curves[k], i, 0).mean(0))
             for k in reached]
            for i in range(number)
        ])  # fmt: skip
        if len(reached) < 2 or not np.isfinite(values).all():
            return []
        parameters = np.log2([k * (self.n + 2) + 1 for k in reached])
        claim = f"log2 examples needed for error {self.level:g}: teacher {reached[-1]} - "
        claim = f"{claim}{reached[0]}, student {student}"
        effect, slope = mean_of(values[:, -1] - values[:, 0]), slope_of(parameters, values)
        how = (BUZAGLO, slope, "log2 teacher parameters")
        return [Finding(_NAME, claim, effect, "posterior", 1, *how)]

    def _needed(self, errors: np.ndarray) -> float:
        return math.log2(examples_needed(np.array(self.sizes), errors, self.level))


def examples_needed(sizes: np.ndarray, errors: np.ndarray, level: float) -> float:
    """The size of S at which (K,) ``errors`` fall below ``level`` for good.

    Linear in ln |S| between the (K,) ``sizes``; the first of them if the error is below from there
    on, nan if it never is.
    """
    above = np.flatnonzero(errors >= level)
    if not len(above):
        return float(sizes[0])
    last = int(above[-1])
    if last == len(sizes) - 1:
        return math.nan
    share = (errors[last] - level) / (errors[last] - errors[last + 1])
    return float(sizes[last] ** (1 - share) * sizes[last + 1] ** share)
