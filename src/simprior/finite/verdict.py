"""From independent runs to ln P(f), its standard error, and whether to believe it.

P, not ln P, is averaged: each run is unbiased for P. The error comes from the runs, by the
jackknife in log space. R runs may agree by chance, so it is never less than with the spread that
they would have if each sweep gave networks that know nothing of the last. Intervals are those of
Student's t with R - 1 degrees of freedom.

A value that any check doubts is given as not converged and without an error: its runs may agree
on a part of the networks only. What stays true is a lower bound. By Markov's inequality a run
exceeds c P with probability at most 1/c, so R independent runs all do with c^-R at most, and
P >= (least run) alpha^(1/R) with confidence 1 - alpha. This needs an R that does not hang on what
the runs gave: of the runs, those that were decided on beforehand, and alpha shared out among the
attempts there may be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simprior.finite.smc import DELTA, Ladder, Run
from simprior.numerics.estimate import LogProb, sample_sd, share_stderr

RATIO = 2.0  # spread between runs over that of perfect mixing, above which they did not mix
SPREAD = 0.5  # nats; a spread below it does no harm whatever the ratio
MOST_SPREAD = 1.0  # nats; above it the mean of P hangs on runs that were not met
ANCESTORS = 10.0
DISAGREE = 4.0  # combined standard errors between two powers
PILOT_GAP = 1.0  # nats a pilot may be away, besides four of its spreads
LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """ln of the mean of exp(values), the jackknife's error of it, and the spread of a run (nats).

    ``stderr`` is nan where some runs gave 0, as good as 0 beside the greatest.
    """

    value: float
    stderr: float
    spread: float
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of confidence ``LEVEL``, by Student's t."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.runs - 1.0, 0.5 + LEVEL / 2)) * self.stderr
        return self.value - half, self.value + half

    @property
    def doubtful_error(self) -> float:
        """The standard deviation of Student's t on the scale of ``stderr``: wider for few runs."""
        return self.stderr * math.sqrt((self.runs - 1) / (self.runs - 3))


def mean_of_runs(runs: Sequence[Run], particles: int, least: float) -> Mean:
    """Average runs of so many particles; ``least`` is the spread of perfect mixing (nats)."""
    logs = np.array([run.value for run in runs])
    count, top = len(logs), float(logs.max())
    if math.isinf(top):
        return Mean(-math.inf, math.nan, math.nan, count)
    p = np.exp(logs - top)
    value = top + math.log(p.mean())
    if not np.isfinite(logs).all():
        return Mean(value, math.nan, math.nan, count)
    rest = p.sum() - p
    if not (rest > 0).all():  # one run is so far above the others that they are rounded away
        return Mean(value, math.nan, float(sample_sd(logs)), count)
    others = np.log(rest / (count - 1))
    error = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
    unmet = math.expm1(min(-value, 700.0)) * float(share_stderr(0.0, count * particles))
    floor = least / math.sqrt(count) if least > 0 else max(unmet, 1.0 / (count * particles + 2.0))
    return Mean(value, max(error, floor), float(sample_sd(logs)), count)


def expected_spread(runs: Sequence[Run], steps: int, particles: int) -> float:
    """Spread of a run, in nats, if lambda rose in steps between sweeps that mix perfectly."""
    share = float(np.mean([run.share for run in runs]))
    last = (1.0 - share) / max(share, 1.0 / particles)
    return math.sqrt((steps * DELTA + last) / particles)


def least_spread(runs: Sequence[Run]) -> float:
    """Spread of a run, in nats, if no sweep knew of the last: root mean square over the runs."""
    return math.sqrt(float(np.mean([run.noise**2 for run in runs])))


@dataclass(frozen=True)
class Outcome:
    """All runs of one function at one number of particles.

    ``runs`` on ``ladder`` with the chosen power; ``checks`` on ``other`` with the next power.
    ``planned`` runs, the first ones, were decided on before any (all by default); ``attempts`` is
    the most that would be made, with more particles, if the results were doubted.
    """

    particles: int
    ladder: Ladder
    runs: tuple[Run, ...]
    other: Ladder | None = None
    checks: tuple[Run, ...] = ()
    planned: int | None = None
    attempts: int = 1

    @property
    def expected(self) -> float:
        """Spread of a run, in nats, if lambda rose in steps between sweeps that mix perfectly.

        Lambda rises within sweeps, so good runs differ by less, and bad ones by more.
        """
        return expected_spread(self.runs, len(self.ladder.strengths), self.particles)

    @property
    def ratio(self) -> float:
        """Spread of the runs over that of perfect mixing."""
        return self.mean().spread / max(self.expected, 1e-12)

    def mean(self) -> Mean:
        """Average of the runs.

        Where they differ by more than ``RATIO`` times what they may, the error is never less than
        with a spread of ``SPREAD``: only smaller spreads are believed then, and those of runs that
        mix badly are too small by this selection.
        """
        found = self._average()
        if found.spread > RATIO * max(self.expected, 1e-12):
            return replace(found, stderr=max(found.stderr, SPREAD / math.sqrt(found.runs)))
        return found

    def _average(self) -> Mean:
        return mean_of_runs(self.runs, self.particles, least_spread(self.runs))

    @property
    def stderr(self) -> float:
        """Standard error of the average, nats."""
        return self.mean().stderr

    def check(self) -> Mean | None:
        """Average of the runs with the next power."""
        if self.other is None:
            return None
        return mean_of_runs(self.checks, self.particles, least_spread(self.checks))

    def doubts(self) -> list[str]:
        """What speaks against the value, in words; nothing if it can be believed."""
        if not self.ladder.complete:
            steps = len(self.ladder.strengths)
            return [f"half of the pilot's networks did not come to compute it in {steps} steps"]
        lost = sum(math.isinf(run.value) for run in self.runs)
        if lost:
            return [f"{lost} of {len(self.runs)} runs met no network that computes it"]
        mean, ratio, found = self._average(), self.ratio, []
        if mean.spread > MOST_SPREAD or (ratio > RATIO and mean.spread > SPREAD):
            found.append(f"runs differ by {mean.spread:.2g} nats, {ratio:.2g} times what they may")
        ancestors = float(np.mean([run.ancestors for run in self.runs]))
        if ancestors < ANCESTORS:
            found.append(f"the particles descend from {ancestors:.2g} of the first ones")
        gap = abs(self.ladder.value - mean.value)
        if not gap < PILOT_GAP + 4.0 * math.sqrt(2.0) * mean.spread:
            found.append(f"half as many particles give {self.ladder.value:.2f}")
        return found + self._disagreement(mean)

    def _disagreement(self, mean: Mean) -> list[str]:
        check = self.check()
        if check is None or self.other is None:
            return []
        error = math.hypot(mean.doubtful_error, check.doubtful_error)
        if self.other.complete and abs(check.value - mean.value) <= DISAGREE * error:
            return []
        return [f"the next power of the energy gives {check.value:.2f}"]

    @property
    def bound(self) -> float:
        """ln P is above it, in nats, with confidence ``LEVEL`` whatever the checks say."""
        planned = self.runs[: self.planned]
        alpha = math.log1p(-LEVEL) - math.log(self.attempts)
        return min(run.value for run in planned) + alpha / len(planned)

    def result(self) -> LogProb:
        """The estimate with its diagnostics; stderr nan where there are doubts.

        ``ess`` is the number of first particles that the final ones of all runs descend from.
        """
        mean, check, doubts = self.mean(), self.check(), self.doubts()
        ancestors = np.array([run.ancestors for run in self.runs])
        low, high = (math.nan, math.nan) if doubts else mean.interval
        diagnostics: dict[str, Any] = {
            "reliable": not doubts, "converged": not doubts,
            "reason": "; ".join(doubts),
            "low": low, "high": high,
            "stderr_error": math.nan if doubts else mean.stderr / math.sqrt(2 * (mean.runs - 1)),
            "bound_low": self.bound,
            "spread": mean.spread,
            "spread_ratio": self.ratio,
            "ancestors": float(ancestors.mean()),
            "steps": len(self.ladder.strengths), "particles": self.particles,
            "runs": len(self.runs), "pilot": self.ladder.value,
            "share": float(np.mean([run.share for run in self.runs])),
            "tries": float(np.mean([run.tries for run in self.runs])),
            "seconds": self.seconds(),
        }  # fmt: skip
        if check is not None:
            diagnostics |= {"check": check.value, "check_stderr": check.stderr}
        stderr = math.nan if doubts else mean.stderr
        return LogProb(mean.value, stderr, float(ancestors.sum()), "finite-smc", diagnostics)

    def seconds(self) -> float:
        """Time of one core behind it."""
        ladders = self.ladder.seconds + (self.other.seconds if self.other else 0.0)
        return ladders + sum(run.seconds for run in (*self.runs, *self.checks))
