"""Annealed sequential Monte Carlo over the parameters of one finite network.

N networks are drawn from the prior and taken through the laws prior(w) exp(-lambda E(w)) of rising
lambda, E = (2V)^p (:mod:`simprior.finite.kernels`): weighted by exp(-(step in lambda) E), resampled
where the weights have become uneven, and moved by sweeps that leave the law invariant. What is
left at the end has V = 0, the function itself, in a good share.

* A *pilot* finds the lambdas: each step is as long as a conditional effective sample size of 95 %
  allows, until half of the particles compute the function. Its estimate is not used: steps and
  end hang on its particles, which biases it upwards.
* A *run* on lambdas that are given: the product of the mean weights times the share that computes
  the function is an unbiased estimate of P(f), whatever the lambdas and however few the sweeps.
  Between two of the lambdas it goes in as many steps as a sweep has updates. One sweep nearly
  forgets where it began, so that the energies it passes through say more than those it ends with:
  the variance is less than with steps between sweeps (docs/finite-width.md).

Convexity matters: with p = 1 the path crosses a first-order transition for structured functions,
which particles do not cross; with p = 3 it does not in the cases known.

Sources: Del Moral, Doucet & Jasra 2006 (the sampler), Zhou, Johansen & Aston 2016 (conditional
effective sample size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from simprior.errors import check_fits
from simprior.finite import kernels
from simprior.finite.particles import Machine, make_machine
from simprior.network.spec import Network
from simprior.numerics import random as rng

EFFICIENCY = 0.95  # conditional effective share of a step
DELTA = 1.0 / EFFICIENCY - 1.0  # relative variance of the weights of a step
RESAMPLE = 0.5  # effective share below which particles are resampled
LAST = 4  # sweeps at the last lambda, over which the share that computes the function is averaged
ENOUGH = 0.5  # share of particles that compute the function at which a pilot ends
_BISECTIONS = 60
_HIGHEST = 1e250


@dataclass(frozen=True)
class Anneal:
    """How one network is annealed towards one function.

    ``network``; ``X`` (k, d) its distinct inputs; ``bits`` (k,) the labels; ``particles`` N;
    ``sweeps`` a step; ``power`` p of the energy; ``seed``; ``limit``, the most steps.
    """

    network: Network
    X: np.ndarray
    bits: np.ndarray
    particles: int
    sweeps: int
    power: int
    seed: int
    limit: int

    def stream(self, part: str) -> str:
        """Name of the random stream of one part."""
        labels = np.packbits(self.bits).tobytes().hex()
        return f"finite-smc/{part}/{self.particles}/{self.sweeps}/{self.power}/{labels}"


@dataclass(frozen=True)
class Ladder:
    """What a pilot found: ``strengths`` (T,) the lambdas; whether half of its particles fitted at
    the end; its (biased) ln P, nats; seconds."""

    strengths: np.ndarray
    complete: bool
    value: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One run: ``value`` is ln of an unbiased estimate of P (-inf if no particle fitted).

    ``share`` of the final particles that fit, by weight; ``ancestors``, the effective number of
    particles of the start that the final ones descend from; ``tries`` a moved block; ``noise``, the
    spread of ``value`` (nats) if every sweep gave particles that forgot the last; ``seconds``.
    """

    value: float
    share: float
    ancestors: float
    tries: float
    noise: float
    seconds: float


class Swarm:
    """N weighted particles on their way; changed by :meth:`reweight` and :meth:`move`.

    ``value`` is ln of the product of mean weights so far (nats), ``params`` (N, P) float32,
    ``violations`` (N,) their V.
    """

    def __init__(self, anneal: Anneal, count: int, part: str) -> None:
        machine: Machine = make_machine(anneal.network, anneal.X)
        check_fits(f"particles={count}", 8.0 * count * machine.size, "use fewer particles")
        self.anneal, self.machine, self.labels = anneal, machine, machine.labels(anneal.bits)
        self.dice = machine.dice(rng.philox_key(anneal.seed, anneal.stream(part)))
        self.source = rng.generator(anneal.seed, anneal.stream(part))
        self.params = np.empty((count, machine.size), np.float32)
        self.violations = np.empty(count, np.float32)
        self.weights = np.full(count, 1.0 / count)
        self.origin = np.arange(count)
        self.value, self.strength, self.tries, self.steps = 0.0, 0.0, 0, 0
        kernels.draw(
            self.params, machine.net, machine.state, self.labels, self.dice, self.violations
        )

    @property
    def energies(self) -> np.ndarray:
        """(N,) energies (2V)^p, float64."""
        return (2.0 * self.violations.astype(np.float64)) ** self.anneal.power

    @property
    def share(self) -> float:
        """Share of the particles that compute the function, by weight."""
        return float(self.weights[self.violations == 0].sum())

    def reweight(self, strength: float) -> None:
        """Weights for the law of ``strength``; resampled where they are uneven."""
        step, self.strength = strength - self.strength, strength
        self._weigh(np.exp(-step * self.energies), 0.0)

    def keep_fitting(self) -> None:
        """Only networks that compute the function, as many as before, all of the same weight.

        The law from now on is the prior given V = 0: ``strength`` is inf.
        """
        self.weights = np.where(self.violations == 0, self.weights, 0.0)
        self.weights /= self.weights.sum()
        self.strength = math.inf
        self._resample()

    def _resample(self) -> None:
        count = len(self.weights)
        chosen = systematic(self.weights, self.source.random())
        self.params = self.params[chosen]
        self.violations = self.violations[chosen]
        self.origin = self.origin[chosen]
        self.weights = np.full(count, 1.0 / count)

    def move(self) -> None:
        """Sweeps of every particle at the present strength."""
        self._sweep(self.strength, True)

    def climb(self, strength: float, last: bool) -> float:
        """Sweeps on the way to ``strength``, which rises a little before each update.

        ``violations`` are right up to rounding, and exact if it is the ``last``. Returns the
        relative variance of the mean weight if particles were independent.
        """
        gains = self._sweep(strength, last)
        self.strength = strength
        top = float(gains.max())
        return self._weigh(np.exp(gains - top), top)

    def _weigh(self, factor: np.ndarray, scale: float) -> float:
        """Multiply the weights by ``factor`` exp(``scale``); resample where they are uneven."""
        old, weights = self.weights, self.weights * factor
        total = float(weights.sum())
        if not total > 0.0:
            self.value = -math.inf
            return 0.0
        self.value += scale + math.log(total)
        self.weights = weights / total
        noise = float((old**2) @ (factor / total - 1.0) ** 2)
        if 1.0 / float(self.weights @ self.weights) < RESAMPLE * len(self.weights):
            self._resample()
        return noise

    def _sweep(self, strength: float, anew: bool) -> np.ndarray:
        """Sweeps on the way to ``strength``: (N,) log weights of the steps in lambda.

        ``anew``: ``violations`` are those of fresh forward passes.
        """
        self.steps += 1
        updates = kernels.updates(self.anneal.network.hidden)
        path = way(self.strength, strength, self.anneal.sweeps, updates)
        gains = np.empty(len(self.weights))
        self.tries += kernels.move(
            self.params, self.machine.net, self.machine.state, self.machine.work, self.labels,
            self.dice, self.violations, self.steps, path, float(self.anneal.power), gains, anew,
        )  # fmt: skip
        return gains

    def next_strength(self) -> float:
        """The strength at which the conditional effective share has fallen to ``EFFICIENCY``.

        inf if it never does: all particles have the same energy, or energies that no number can
        weigh (V comes ever closer to 0 where no weights compute the function).
        """
        alive = self.weights > 0
        weights, energies = self.weights[alive], self.energies[alive]
        if energies.max() == energies.min() or self.strength > _HIGHEST:
            return math.inf
        low, high = 0.0, max(1.0, self.strength)
        while _efficiency(weights, energies, high) > EFFICIENCY and high < _HIGHEST:
            low, high = high, 4.0 * high
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            if _efficiency(weights, energies, middle) > EFFICIENCY:
                low = middle
            else:
                high = middle
        return self.strength + low


def _efficiency(weights: np.ndarray, energies: np.ndarray, step: float) -> float:
    """Conditional effective share of the particles for a step in lambda."""
    factor = np.exp(-step * (energies - energies.min()))
    return float(weights @ factor) ** 2 / float(weights @ factor**2)


def way(low: float, high: float, sweeps: int, updates: int) -> np.ndarray:
    """(sweeps, 2, updates): lambdas from ``low`` (left out) to ``high``, and the steps to them.

    Evenly spaced in ln lambda, or in lambda where ``low`` is 0.
    """
    share = np.arange(1, sweeps * updates + 1) / (sweeps * updates)
    if low == high:
        lambdas, steps = np.full(share.shape, high), np.zeros(share.shape)
    else:
        lambdas = low * (high / low) ** share if low > 0 else high * share
        lambdas[-1] = high
        steps = np.diff(lambdas, prepend=low)
    return np.stack([part.reshape(sweeps, updates) for part in (lambdas, steps)], axis=1)


def systematic(weights: np.ndarray, uniform: float) -> np.ndarray:
    """(N,) indices, ascending: index i is there N w_i times, rounded up or down."""
    count = len(weights)
    ends = np.cumsum(weights)
    places = (np.arange(count) + uniform) * (ends[-1] / count)
    return np.minimum(np.searchsorted(ends, places, side="right"), count - 1)


def pilot(anneal: Anneal) -> Ladder:
    """The lambdas at which ``anneal`` is to be run, found with half of the particles."""
    began = perf_counter()
    swarm = Swarm(anneal, max(2, anneal.particles // 2), "pilot")
    strengths: list[float] = []
    while swarm.share < ENOUGH and len(strengths) < anneal.limit:
        strength = swarm.next_strength()
        if math.isinf(strength):
            break
        strengths.append(strength)
        swarm.reweight(strength)
        swarm.move()
    share = swarm.share
    value = swarm.value + math.log(share) if share > 0 else -math.inf
    return Ladder(np.array(strengths), share >= ENOUGH, value, perf_counter() - began)


def run(anneal: Anneal, strengths: np.ndarray, number: int) -> Run:
    """Run ``number`` on lambdas that are given: an unbiased estimate of P(f)."""
    return run_swarm(anneal, strengths, number)[0]


def run_swarm(anneal: Anneal, strengths: np.ndarray, number: int) -> tuple[Run, Swarm]:
    """:func:`run`, with its particles as they are at the end."""
    began = perf_counter()
    swarm, noise = Swarm(anneal, anneal.particles, f"run/{number}"), 0.0
    for at, strength in enumerate(strengths, 1):
        noise += swarm.climb(float(strength), at == len(strengths))
        if math.isinf(swarm.value):
            break
    fitting = _fitting(swarm)
    share = float(swarm.weights @ fitting)
    value = swarm.value + math.log(share) if share > 0 else -math.inf
    noise += float(swarm.weights**2 @ (fitting / share - 1.0) ** 2) if share > 0 else 0.0
    lines = np.bincount(swarm.origin, swarm.weights * fitting)
    ancestors = float(lines.sum() ** 2 / (lines @ lines)) if share > 0 else 0.0
    moves = max(1, swarm.steps * anneal.sweeps * anneal.particles)
    tries = swarm.tries / (moves * kernels.updates(anneal.network.hidden))
    seconds = perf_counter() - began
    return Run(value, share, ancestors, tries, math.sqrt(noise), seconds), swarm


def _fitting(swarm: Swarm) -> np.ndarray:
    """(N,) share of the last states of each particle, ``LAST`` sweeps on, that compute f."""
    found = (swarm.violations == 0).astype(float)
    if math.isinf(swarm.value):
        return found
    for _ in range(LAST):
        swarm.move()
        found += swarm.violations == 0
    return found / (LAST + 1)
