"""Hamiltonian Monte Carlo, all chains at once.

``run_hmc`` samples any density given as a function of a (chains, D) array; it knows nothing about
networks. Leapfrog integration with a unit mass matrix, a step size for each chain found by dual
averaging in the warm-up (Hoffman & Gelman 2014, section 3.2, with their constants) and jittered by
up to a fifth afterwards, which keeps trajectories from closing on themselves (Neal 2011, section
5.4.2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.blocks import Clock, generator_state, restore_generator
from simprior.errors import InputError, NumericalError

Target = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
_GAMMA, _T0, _KAPPA = 0.05, 10.0, 0.75
_JITTER = 0.2
_DIVERGED = 1000.0  # energy error (nats) that counts as a divergence, as in Stan


@dataclass(frozen=True)
class HMCResult:
    """``records`` (draws, chains, ...) of ``record``; per chain: ``acceptance``, ``step``.

    ``acceptance`` is the mean Metropolis probability after warm-up, ``divergent`` (chains,) the
    number of recorded iterations whose energy error was above 1000 nats or not finite.
    """

    records: np.ndarray
    acceptance: np.ndarray
    step: np.ndarray
    divergent: np.ndarray


@dataclass
class _Point:
    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray


def run_hmc(
    target: Target,
    start: np.ndarray,
    draws: int,
    warmup: int,
    sources: Sequence[np.random.Generator],
    *,
    leapfrog: int = 16,
    accept: float = 0.8,
    thin: int = 1,
    record: Callable[[np.ndarray], np.ndarray] = np.copy,
) -> HMCResult:
    """Sample ``target`` with as many chains as ``start`` has rows.

    Parameters
    ----------
    target : callable
        (C, D) positions -> (C,) log-densities up to a constant and their (C, D) gradients. Chain c
        must depend on row c only.
    start : (C, D) array
        First positions, of finite log-density.
    draws, warmup, thin : int
        Records; iterations before them; iterations between them.
    sources : C generators
        One a chain.
    leapfrog : int
        Steps a trajectory.
    accept : float
        Mean Metropolis probability that the warm-up aims at.
    record : callable
        (C, D) -> (C, ...), what is kept of the positions.

    Raises
    ------
    InputError, NumericalError
    """
    if leapfrog < 1 or thin < 1 or warmup < 0 or draws < 1 or not 0 < accept < 1:
        raise InputError(
            f"leapfrog={leapfrog}, thin={thin}, warmup={warmup}, draws={draws}, accept={accept}",
            "positive integers and an acceptance between 0 and 1", "leave them at their defaults",
        )  # fmt: skip
    run = HMCRun(target, sources, warmup, draws * thin, leapfrog, accept)
    run.begin(start)
    records = run.advance(Clock(math.inf), thin, record)
    return HMCResult(
        np.array(records), run.total / (draws * thin), run.tuner.final(), run.divergent
    )


class HMCRun:
    """Chains that can be left and gone on with: positions, adaptation, totals, generators."""

    def __init__(
        self, target: Target, sources: Sequence[np.random.Generator], warmup: int, iterations: int,
        leapfrog: int, accept: float,
    ) -> None:  # fmt: skip
        self.target, self.sources, self.warmup = target, sources, warmup
        self.iterations, self._leapfrog, self._accept = iterations, leapfrog, accept
        self.warmed, self.done = 0, 0
        self.total, self.divergent = np.zeros(len(sources)), np.zeros(len(sources), np.int64)
        self.point: _Point
        self.tuner: _DualAveraging

    def begin(self, start: np.ndarray) -> None:
        """First positions (C, D), first step sizes. Raises :class:`NumericalError`."""
        x = np.array(start, float)
        self.point = _Point(x, *self.target(x))
        if not np.isfinite(self.point.logp).all():
            raise NumericalError("HMC: the log-density at the start is not finite; start elsewhere")
        first = _first_step(self.target, self.point, self.sources)
        self.tuner = _DualAveraging(first, self._accept)

    def advance(
        self, clock: Clock, thin: int, record: Callable[[np.ndarray], np.ndarray]
    ) -> list[np.ndarray]:
        """Go on until the time is up or all is done; the records made."""
        records = []
        for count in clock.portions(self.warmed, self.warmup, self.warmup):
            for _ in range(count):
                self._step(self.tuner.step(), warming=True)
        for count in clock.portions(self.done, self.iterations, self.iterations):
            for _ in range(count):
                self._step(self.tuner.final(), warming=False)
                if self.done % thin == 0:
                    records.append(record(self.point.x))
        return records

    def _step(self, step: np.ndarray, *, warming: bool) -> None:
        self.point, alpha, failed = _iterate(
            self.target, self.point, step, self.sources, self._leapfrog
        )
        if warming:
            self.tuner.update(alpha)
            self.warmed += 1
            return
        self.total += alpha
        self.divergent += failed
        self.done += 1

    def state(self) -> dict[str, Any]:
        """All that the next iteration depends on."""
        sources = {f"source{c}": generator_state(s) for c, s in enumerate(self.sources)}
        return {
            "x": self.point.x, "logp": self.point.logp, "grad": self.point.grad,
            "warmed": self.warmed, "done": self.done, "total": self.total,
            "divergent": self.divergent, "step": self.tuner.final(),
            **{f"tuner{k}": v for k, v in vars(self.tuner).items()}, **sources,
        }  # fmt: skip

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state`."""
        self.point = _Point(kept["x"], kept["logp"], kept["grad"])
        self.warmed, self.done = int(kept["warmed"]), int(kept["done"])
        self.total, self.divergent = kept["total"], kept["divergent"]
        self.tuner = _DualAveraging(np.ones(len(self.sources)), self._accept)
        for name in vars(self.tuner):
            setattr(self.tuner, name, kept[f"tuner{name}"])
        for c, source in enumerate(self.sources):
            restore_generator(source, kept[f"source{c}"])


def _normals(sources: Sequence[np.random.Generator], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([source.standard_normal(shape[1]) for source in sources])


def _uniforms(sources: Sequence[np.random.Generator]) -> np.ndarray:
    return np.array([source.random() for source in sources])


def _leapfrog(
    target: Target, point: _Point, momentum: np.ndarray, step: np.ndarray, count: int
) -> tuple[_Point, np.ndarray]:
    """``count`` steps of size ``step`` (C,) (Neal 2011, equations 5.18-5.20)."""
    e = step[:, None]
    x, p, grad, logp = point.x, momentum, point.grad, point.logp
    with np.errstate(all="ignore"):
        for _ in range(count):
            p = p + 0.5 * e * grad
            x = x + e * p
            logp, grad = target(x)
            p = p + 0.5 * e * grad
    return _Point(x, logp, grad), p


def _energy(point: _Point, momentum: np.ndarray) -> np.ndarray:
    energy: np.ndarray = -point.logp + 0.5 * (momentum * momentum).sum(axis=1)
    return energy


def _iterate(
    target: Target, point: _Point, step: np.ndarray, sources: Sequence[np.random.Generator],
    count: int,
) -> tuple[_Point, np.ndarray, np.ndarray]:  # fmt: skip
    """One trajectory a chain and its Metropolis test: (point, acceptance, whether it diverged)."""
    momentum = _normals(sources, point.x.shape)
    jitter = 1.0 + _JITTER * (2.0 * _uniforms(sources) - 1.0)
    new, after = _leapfrog(target, point, momentum, step * jitter, count)
    with np.errstate(all="ignore"):
        error = _energy(new, after) - _energy(point, momentum)
        error = np.where(np.isfinite(error), error, np.inf)
        alpha = np.exp(-np.maximum(error, 0.0))
    take = _uniforms(sources) < alpha
    keep = take[:, None]
    merged = _Point(
        np.where(keep, new.x, point.x), np.where(take, new.logp, point.logp),
        np.where(keep, new.grad, point.grad),
    )  # fmt: skip
    return merged, alpha, error > _DIVERGED


def _first_step(
    target: Target, point: _Point, sources: Sequence[np.random.Generator]
) -> np.ndarray:
    """Step sizes at which one leapfrog step is accepted with probability about 1/2 (ibid., alg. 4).

    Every chain doubles or halves until it crosses 1/2, 50 times at most.
    """
    step = np.full(len(point.x), 0.1)
    momentum = _normals(sources, point.x.shape)
    before = _energy(point, momentum)
    direction = np.zeros(len(step))
    active = np.ones(len(step), bool)
    for _ in range(50):
        new, after = _leapfrog(target, point, momentum, step, 1)
        with np.errstate(all="ignore"):
            error = _energy(new, after) - before
        up = np.where(np.isfinite(error), error, np.inf) < np.log(2.0)
        sign = np.where(up, 1.0, -1.0)
        direction = np.where(direction == 0, sign, direction)
        active &= sign == direction
        if not active.any():
            break
        step = np.where(active, step * 2.0**direction, step)
    return step


class _DualAveraging:
    """Step sizes (C,) that reach a mean acceptance (Hoffman & Gelman 2014, algorithm 5)."""

    def __init__(self, first: np.ndarray, accept: float) -> None:
        self._mu, self._accept = np.log(10.0 * first), accept
        self._h, self._t = np.zeros(len(first)), 0
        self._log, self._average = np.log(first), np.log(first)

    def step(self) -> np.ndarray:
        """Step sizes of the next iteration of the warm-up."""
        step: np.ndarray = np.exp(self._log)
        return step

    def final(self) -> np.ndarray:
        """Averaged step sizes, to be used after the warm-up."""
        step: np.ndarray = np.exp(self._average)
        return step

    def update(self, alpha: np.ndarray) -> None:
        """Take note of the acceptance of an iteration."""
        self._t += 1
        eta = 1.0 / (self._t + _T0)
        self._h = (1.0 - eta) * self._h + eta * (self._accept - alpha)
        self._log = self._mu - np.sqrt(self._t) / _GAMMA * self._h
        weight = 1.0 if self._t == 1 else self._t**-_KAPPA
        self._average = weight * self._log + (1.0 - weight) * self._average


def chain_major(records: np.ndarray) -> np.ndarray:
    """(draws, chains, ...) records as (chains, draws, ...)."""
    return np.ascontiguousarray(np.moveaxis(records, 0, 1))
