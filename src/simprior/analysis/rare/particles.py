"""Rare events along Metropolis chains over inputs: particles that climb a ladder of laws.

Both methods move particles from the law of the inputs to the event through laws in between, and
multiply the mean weights that each step gives:

* ``splitting``: the law where the score is at least L, for rising levels L (Kahn & Harris 1951;
  Del Moral, Doucet & Jasra 2006);
* ``mhis``: the law times exp(beta score), for rising beta, and from the last one importance
  weights to the event. Wu & Hilton (2024, "Metropolis-Hastings Importance Sampling") use one beta,
  and a weight that is normalised by itself; with a ladder it also reaches 1e-12, and is unbiased.

A pilot chooses the ladder, and the size and number of the moves: blocks of them until the scores
are nearly forgotten. They are then held fixed in independent runs, each of which has an unbiased
estimate of P, however well the chains mix. The spread of the runs is the error; it is only true
where they do mix, so that is watched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from simprior.analysis.rare.question import (
    LEVEL,
    Question,
    effective,
    finding,
    log_mean,
    relative_error,
)
from simprior.numerics.estimate import LogProb, student_factor

KEPT = 0.25
"""Share of the particles that a level keeps."""
SPREAD = 0.9
"""Share of effective particles after a step of beta."""
_RUNGS = 150
_MOST_BLOCKS, _FORGOTTEN, _STUCK = 5, 0.3, 0.7  # of moves; correlations of scores over them
_AIM = 0.3  # of moves accepted
_ENOUGH = 0.5  # share of the particles in the event at the last beta
_FEW_ANCESTORS = 3.0
_APART = 0.7  # nats: standard deviation of ln P over runs beyond which their mean is not trusted


@dataclass(frozen=True)
class Ladder:
    """Levels of the score (``splitting``) or factors beta (``mhis``).

    ``scales`` and ``moves`` are the size and number of the Metropolis steps at each; ``stuck`` is
    at how many of them these did not suffice; ``reached``: whether the pilot came to the event.
    """

    method: str
    rungs: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    moves: tuple[int, ...] = ()
    stuck: int = 0
    reached: bool = True

    def with_rung(self, rung: float, scale: float, moves: int, stuck: bool) -> Ladder:
        """One rung more."""
        return replace(
            self,
            rungs=(*self.rungs, rung),
            scales=(*self.scales, scale),
            moves=(*self.moves, moves),
            stuck=self.stuck + stuck,
        )

    def log_target(self, scores: np.ndarray, rung: float) -> np.ndarray:
        """ln of the law of a rung over the law of the inputs, without its constant."""
        if self.method == "mhis":
            return rung * scores
        return np.where(scores >= rung, 0.0, -math.inf)

    def log_step(self, scores: np.ndarray, before: float | None, rung: float) -> np.ndarray:
        """ln weights of a step up the ladder."""
        if self.method == "mhis":
            return (rung - (before or 0.0)) * scores
        return self.log_target(scores, rung)

    def log_end(self, scores: np.ndarray) -> np.ndarray:
        """ln weights from the last rung to the event."""
        last = self.rungs[-1] if self.method == "mhis" and self.rungs else 0.0
        return np.where(scores > 0, -last * scores, -math.inf)


@dataclass(frozen=True, eq=False)
class Swarm:
    """Particles: their ``states``, ``scores``, and which particle of the start each comes from."""

    states: np.ndarray
    scores: np.ndarray
    origin: np.ndarray

    @classmethod
    def start(cls, question: Question, count: int, source: np.random.Generator) -> Swarm:
        """``count`` draws of the law."""
        states = question.law.draw(count, source)
        return cls(states, question.scores(states), np.arange(count))

    def resampled(self, logs: np.ndarray, source: np.random.Generator) -> Swarm:
        """As many particles, drawn in proportion to exp(``logs``), systematically."""
        shares = np.cumsum(np.exp(logs - logs.max()))
        places = (source.random() + np.arange(len(logs))) / len(logs)
        rows = np.minimum(np.searchsorted(shares / shares[-1], places, "right"), len(logs) - 1)
        return Swarm(self.states[rows], self.scores[rows], self.origin[rows])

    def moved(
        self,
        question: Question,
        ladder: Ladder,
        rung: float,
        scale: float,
        moves: int,
        source: np.random.Generator,
    ) -> tuple[Swarm, float]:
        """After ``moves`` Metropolis steps of the law of a rung, and the share accepted."""
        states, scores, accepted = self.states, self.scores, 0.0
        for _ in range(moves):
            proposed, gain = question.law.propose(states, scale, source)
            found = question.scores(proposed)
            gain += ladder.log_target(found, rung) - ladder.log_target(scores, rung)
            yes = np.log(source.random(len(gain))) < gain
            states = np.where(yes[:, None], proposed, states)
            scores = np.where(yes, found, scores)
            accepted += float(yes.mean())
        return Swarm(states, scores, self.origin), accepted / max(moves, 1)


def moves_of(question: Question, moves: int | None) -> int:
    """Metropolis steps of a block: as asked, or twice the entries of a state, at least 20."""
    return max(20, 2 * question.law.size) if moves is None else moves


def along_chains(
    method: str,
    question: Question,
    particles: int,
    runs: int,
    moves: int | None,
    source: np.random.Generator,
) -> LogProb:
    """``splitting`` or ``mhis``: a pilot, then ``runs`` independent runs of ``particles`` each."""
    steps = moves_of(question, moves)
    ladder, bound, _ = pilot(method, question, particles, steps, source)
    if not ladder.reached:
        note = "the event was not reached"
        if method == "splitting":
            note += f": the pilot came to a level with ln P = {bound:.3g}"
        return finding(method, math.nan, math.nan, notes=(note,), limits=(-math.inf, math.nan))
    found = [climb(question, ladder, particles, source) for _ in range(runs)]
    logs = np.array([one[0] for one in found])
    ancestors = float(np.mean([one[1] for one in found]))
    value, stderr = log_mean(logs), relative_error(logs)
    if not np.isfinite(logs).any():
        note = "no run reached the event"
        return finding(method, math.nan, math.nan, notes=(note,), limits=(-math.inf, math.nan))
    notes = []
    lost = int((~np.isfinite(logs)).sum())
    if lost:
        notes.append(f"{lost} of {runs} runs did not reach the event")
    if ladder.stuck:
        notes.append(f"chains hardly move at {ladder.stuck} of {len(ladder.rungs)} rungs")
    if ancestors < _FEW_ANCESTORS:
        notes.append(f"{ancestors:.1f} ancestors a run")
    apart = float(logs[np.isfinite(logs)].std())
    if apart > _APART:
        notes.append(f"ln P of the runs differs by {apart:.2g}")
    factor = student_factor(runs, LEVEL)
    ess = effective(logs) * ancestors
    return finding(method, value, stderr, ess=ess, factor=factor, notes=tuple(notes))


def inside(question: Question, particles: int, source: np.random.Generator) -> np.ndarray:
    """(k, size) states in the event, about as the law has them there: those of a splitting pilot;
    none if it did not come there."""
    moves = moves_of(question, None)
    _, _, swarm = pilot("splitting", question, particles, moves, source)
    return swarm.states[swarm.scores > 0]


def climb(
    question: Question, ladder: Ladder, count: int, source: np.random.Generator
) -> tuple[float, float]:
    """(ln of an unbiased estimate of P, effective number of ancestors) of one run."""
    swarm, total, before = Swarm.start(question, count, source), 0.0, None
    for rung, scale, moves in zip(ladder.rungs, ladder.scales, ladder.moves, strict=True):
        logs = ladder.log_step(swarm.scores, before, rung)
        total += log_mean(logs)
        if total == -math.inf:
            return total, 0.0
        swarm = swarm.resampled(logs, source)
        swarm, _ = swarm.moved(question, ladder, rung, scale, moves, source)
        before = rung
    logs = ladder.log_end(swarm.scores)
    total += log_mean(logs)
    if total == -math.inf:
        return total, 0.0
    weights = np.bincount(swarm.origin, np.exp(logs - logs.max()), minlength=count)
    return total, float(weights.sum() ** 2 / (weights**2).sum())


def pilot(
    method: str, question: Question, count: int, moves: int, source: np.random.Generator
) -> tuple[Ladder, float, Swarm]:
    """The ladder that one run builds as it climbs, the ln of the mean weights on the way, and the
    particles at the end. Of levels the second is how rare the last one is."""
    ladder = Ladder(method)
    swarm, scale, total = Swarm.start(question, count, source), 0.5, 0.0
    unit = float(swarm.scores.std()) or 1.0
    while len(ladder.rungs) < _RUNGS:
        before = ladder.rungs[-1] if ladder.rungs else None
        rung = _next(ladder, swarm.scores, before, unit)
        if rung is None:
            return replace(ladder, reached=bool((swarm.scores > 0).any())), total, swarm
        logs = ladder.log_step(swarm.scores, before, rung)
        total += log_mean(logs)
        swarm = swarm.resampled(logs, source)
        start, done, alike = swarm.scores, 0, 1.0
        while done < _MOST_BLOCKS * moves and alike > _FORGOTTEN:
            for _ in range(2):
                swarm, accepted = swarm.moved(
                    question, ladder, rung, scale, max(1, moves // 2), source
                )
                scale = min(1.0, max(0.02, scale * math.exp(2.0 * (accepted - _AIM))))
            done += moves
            alike = _correlation(start, swarm.scores)
        ladder = ladder.with_rung(rung, scale, done, alike > _STUCK)
    return replace(ladder, reached=False), total, swarm


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of scores before and after the moves; 0 where either has no spread."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _next(ladder: Ladder, scores: np.ndarray, before: float | None, unit: float) -> float | None:
    """The next rung; None if the event can be asked about from here, or nothing leads on."""
    if ladder.method == "mhis":
        if (scores > 0).mean() >= _ENOUGH:
            return None
        return _next_beta(scores, before or 0.0, unit)
    if (scores > 0).mean() >= KEPT:
        return None
    level = float(np.sort(scores)[-max(1, round(KEPT * len(scores)))])
    if before is not None and level <= before:
        higher = scores[scores > before]
        if not len(higher):
            return None
        level = float(higher.min())
    return None if level > 0 else level


def _next_beta(scores: np.ndarray, before: float, unit: float) -> float | None:
    """The step of beta that leaves ``SPREAD`` of the particles effective; None if none does."""
    low, high = 0.0, 1e4 / unit
    if effective(high * scores) >= SPREAD * len(scores):
        return None
    for _ in range(60):
        middle = 0.5 * (low + high)
        many = effective(middle * scores) >= SPREAD * len(scores)
        low, high = (middle, high) if many else (low, middle)
    return before + low
