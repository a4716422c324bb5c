"""The local learning coefficient: how many parameters a minimum of the loss really fixes.

Around w* the volume of {w : L(w) < L(w*) + e} shrinks like e^lambda. A regular minimum of P
parameters has lambda = P/2, a degenerate one less. The estimate (Lau et al. 2023, "The local
learning coefficient") is n beta (E L(w) - L(w*)), L in nats, with n examples, beta = 1 / ln n, and
w drawn from the local posterior

    p(w) ~ exp(-n beta L(w) - gamma |w - w*|^2 / 2).

Langevin steps alone draw from another law, whose expectation depends on the step (:data:`SGLD`).
So the chains are Hamiltonian Monte Carlo with Metropolis' correction (:data:`HMC`): right for every
step, once it has mixed. Steps are adapted in a warm-up by dual averaging (Hoffman & Gelman 2014)
and then frozen. All is done again at half the step, and whether both agree is part of the result.

Any differentiable loss of a vector of parameters will do (``sharpness.differentiated``), many
centres and chains at once, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.sharpness import Function
from simprior.checks import Choice, Number, Whole
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.training.posterior.chains import rhat

Tensor = torch.Tensor
HMC, SGLD = "hmc", "sgld"
MIXED, AGREE = 1.05, 3.0
"""Largest R-hat of chains that mixed; standard errors within which both steps must agree."""
_AIM, _JITTER = 0.8, 0.2
_SHRINK, _DELAY, _FORGET = 0.05, 10.0, 0.75  # of dual averaging, as Hoffman & Gelman have them


@dataclass(frozen=True)
class Chains:
    """How the local posterior is drawn.

    ``chains`` for every centre, of ``warmup`` and then ``draws`` draws, with ``leaps`` steps from
    each draw to the next. ``gamma``, per squared unit of the weights: strength of the localising
    term. ``method``: ``HMC`` or ``SGLD``. ``step``: of SGLD, squared units of the weights (a step
    moves by step / 2 times the gradient); HMC adapts its own.
    """

    chains: int = 8
    warmup: int = 200
    draws: int = 300
    leaps: int = 8
    gamma: float = 1.0
    method: str = HMC
    step: float = 1e-4

    def __post_init__(self) -> None:
        remedy = "correct the options of llc"
        Whole(2, 10**6, remedy)("chains", self.chains)
        Whole(1, 10**9, remedy)("warmup", self.warmup)
        Whole(4, 10**9, remedy)("draws", self.draws)
        Whole(1, 10**6, remedy)("leaps", self.leaps)
        Number(0, open=True, remedy=remedy)("gamma", self.gamma)
        Number(0, open=True, remedy=remedy)("step", self.step)
        Choice((HMC, SGLD), remedy)("method", self.method)


@dataclass(frozen=True, eq=False)
class Coefficient:
    """Local learning coefficients at N centres; (N,) arrays.

    ``value`` and its ``stderr``, over the chains, which are independent; split ``rhat`` of the
    losses; ``accepted``, share of the proposals (all, by SGLD); ``step`` used; ``halved`` and
    ``halved_stderr``: the same at half the step.
    """

    value: np.ndarray
    stderr: np.ndarray
    rhat: np.ndarray
    accepted: np.ndarray
    step: np.ndarray
    halved: np.ndarray
    halved_stderr: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Whether R-hat is at most ``MIXED`` and half the step agrees within ``AGREE`` errors."""
        gap = np.abs(self.value - self.halved)
        return (self.rhat <= MIXED) & (gap <= AGREE * np.hypot(self.stderr, self.halved_stderr))


def local_learning_coefficient(
    function: Function,
    centres: Tensor,
    examples: float,
    sources: Sequence[np.random.Generator],
    settings: Chains | None = None,
) -> Coefficient:
    """Local learning coefficients of N losses at N ``centres`` (N, P).

    Parameters
    ----------
    function : callable
        (points (R, P), rows (R,)) -> (R,) values of the losses ``rows`` (mean over examples, nats),
        and their (R, P) gradients; :func:`~simprior.analysis.flatness.sharpness.differentiated`
        makes one of a loss.
    centres : (N, P) float64 tensor
        Where the learning coefficients are wanted: minima, or points close to them.
    examples : float
        n, over which the loss is a mean.
    sources : sequence of N numpy generators
        The randomness of each centre.
    settings : Chains, optional
        How many chains, and how they move.

    Raises
    ------
    InputError
        Fewer than 3 examples (beta = 1 / ln n would not be below 1).
    """
    settings = settings or Chains()
    Number(3, remedy="train on more examples")("examples of llc", examples)
    local = _Local(function, centres, examples / math.log(examples), settings)
    first = local.run(sources, None)
    second = local.run(sources, 0.5 * first.step)
    at, error = _over_chains(first.losses)
    halved, halved_error = _over_chains(second.losses)
    spread = np.array([rhat(one.T) for one in first.losses.transpose(1, 0, 2)])
    share = first.accepted.cpu().numpy()
    step = first.step.cpu().numpy()
    return Coefficient(at, error, spread, share, step, halved, halved_error)


def _over_chains(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors (N,) of (draws, N, chains) values."""
    means = losses.mean(0)
    return means.mean(1), means.std(1, ddof=1) / math.sqrt(means.shape[1])


@dataclass(frozen=True)
class _Run:
    """(draws, N, chains) n beta (L - L*); (N,) steps and shares accepted."""

    losses: np.ndarray
    step: Tensor
    accepted: Tensor


@dataclass(frozen=True)
class _State:
    """(R, P) points with their losses (R,) and the gradients (R, P) of the potential."""

    points: Tensor
    losses: Tensor
    gradients: Tensor


class _Local:
    """The local posteriors around N centres; rows are their chains, C = ``chains`` each."""

    def __init__(
        self, function: Function, centres: Tensor, tempered: float, settings: Chains
    ) -> None:
        """``tempered`` is n beta."""
        self.function, self.tempered, self.settings = function, tempered, settings
        self.count = len(centres)
        index = torch.arange(self.count, device=centres.device)
        self.rows = index.repeat_interleave(settings.chains)
        self.centres = centres[self.rows]
        self.base = function(centres, index)[0]

    def state(self, points: Tensor) -> _State:
        """What is known at some points."""
        losses, gradients = self.function(points, self.rows)
        away = points - self.centres
        return _State(points, losses, self.tempered * gradients + self.settings.gamma * away)

    def potential(self, at: _State) -> Tensor:
        """(R,) minus the logarithm of the density, without its constant."""
        away = (at.points - self.centres).square().sum(1)
        return self.tempered * at.losses + 0.5 * self.settings.gamma * away

    def run(self, sources: Sequence[np.random.Generator], step: Tensor | None) -> _Run:
        """All chains, from their centres, at ``step`` (N,); None: adapted (SGLD: as set)."""
        hmc = self.settings.method == HMC
        start = 0.5 / math.sqrt(self.tempered) if hmc else self.settings.step
        adapted = _DualAveraging(self.base.new_full((self.count,), start))
        move = self._hmc if hmc else self._sgld
        at = self.state(self.centres)
        for _ in range(self.settings.warmup):
            used = adapted.step if step is None and hmc else step
            at, share = move(at, adapted.start if used is None else used, sources)
            adapted.update(share)
        if step is None:
            step = adapted.smoothed if hmc else adapted.start
        total, losses = torch.zeros_like(self.base), []
        for _ in range(self.settings.draws):
            at, share = move(at, step, sources)
            total += share
            risen = at.losses.reshape(self.count, -1) - self.base.unsqueeze(1)
            losses.append((self.tempered * risen).cpu().numpy())
        return _Run(np.stack(losses), step, total / self.settings.draws)

    def _hmc(
        self, at: _State, step: Tensor, sources: Sequence[np.random.Generator]
    ) -> tuple[_State, Tensor]:
        """One draw of every chain, and (N,) mean probabilities of acceptance.

        The step of each trajectory is jittered by 20 %, or its length may be a period.
        """
        momentum = self._normals(sources)
        jitter, level = self._uniforms(sources)
        length = (step[self.rows] * (1 + _JITTER * (2 * jitter - 1))).unsqueeze(1)
        before = self.potential(at) + 0.5 * momentum.square().sum(1)
        moved = at
        momentum = momentum - 0.5 * length * moved.gradients
        for leap in range(self.settings.leaps):
            moved = self.state(moved.points + length * momentum)
            last = leap == self.settings.leaps - 1
            momentum = momentum - (0.5 if last else 1.0) * length * moved.gradients
        change = before - self.potential(moved) - 0.5 * momentum.square().sum(1)
        chance = torch.nan_to_num(change.clamp(max=0).exp(), nan=0.0)
        new = level < chance
        wide = new.unsqueeze(1)
        kept = _State(
            torch.where(wide, moved.points, at.points),
            torch.where(new, moved.losses, at.losses),
            torch.where(wide, moved.gradients, at.gradients),
        )
        return kept, chance.reshape(self.count, -1).mean(1)

    def _sgld(
        self, at: _State, step: Tensor, sources: Sequence[np.random.Generator]
    ) -> tuple[_State, Tensor]:
        """``leaps`` Langevin steps of every chain, with the gradient of all examples."""
        size = step[self.rows].unsqueeze(1)
        for _ in range(self.settings.leaps):
            noise = size.sqrt() * self._normals(sources)
            at = self.state(at.points - 0.5 * size * at.gradients + noise)
        return at, torch.ones_like(self.base)

    def _normals(self, sources: Sequence[np.random.Generator]) -> Tensor:
        shape = (self.settings.chains, self.centres.shape[1])
        drawn = np.concatenate([source.standard_normal(shape) for source in sources])
        return torch.from_numpy(drawn).to(self.centres)

    def _uniforms(self, sources: Sequence[np.random.Generator]) -> Tensor:
        """(2, R) numbers in [0, 1)."""
        drawn = [source.random((2, self.settings.chains)) for source in sources]
        return torch.from_numpy(np.concatenate(drawn, axis=1)).to(self.centres)


class _DualAveraging:
    """Steps (N,) that bring the mean acceptance to 0.8 (Hoffman & Gelman 2014, algorithm 5)."""

    def __init__(self, start: Tensor) -> None:
        self.start = self.step = self.smoothed = start
        self._time, self._miss = 0, torch.zeros_like(start)

    def update(self, share: Tensor) -> None:
        """Learn from (N,) shares accepted at ``step``."""
        self._time += 1
        weight = 1 / (self._time + _DELAY)
        self._miss = (1 - weight) * self._miss + weight * (_AIM - share)
        log = (10 * self.start).log() - math.sqrt(self._time) / _SHRINK * self._miss
        self.step = log.exp()
        weight = self._time**-_FORGET
        self.smoothed = (weight * log + (1 - weight) * self.smoothed.log()).exp()


def ensemble_llc(ensemble: Ensemble, seed: int = 0, settings: Chains | None = None) -> Coefficient:
    """Local learning coefficients of trained networks, at their weights, of the loss they have.

    n is the number of examples fitted. Trained weights need not be a minimum: where the loss can
    still fall, the coefficient is smaller, and may be negative. Raises :class:`InputError` for an
    activation without gradients, or fewer than 3 examples.
    """
    settings = settings or Chains()

    def measure(part: Ensemble) -> dict[str, Tensor]:
        stream = f"flatness/{part.stream}llc/{settings.method}"
        sources = [rng.generator(seed, stream, int(i)) for i in part.ids]
        found = local_learning_coefficient(
            part.value_and_gradients, part.parameters, part.examples, sources, settings
        )
        return {k: torch.from_numpy(v) for k, v in vars(found).items()}

    return Coefficient(**ensemble.per_chunk(measure, 6 * settings.chains * ensemble.size))


def rank_regression_coefficient(inputs: int, outputs: int, hidden: int, rank: int) -> float:
    """The exact learning coefficient of reduced-rank regression y = B A x + noise.

    A is (hidden, inputs), B (outputs, hidden), and the true B A has the given ``rank`` (Aoyagi &
    Watanabe 2005). Raises :class:`InputError` for sizes < 1 or a rank that B A cannot have.
    """
    M, N, H, r = inputs, outputs, hidden, rank
    if min(M, N, H) < 1 or not 0 <= r <= min(M, N, H):
        what = f"rank {r} of {M} inputs, {N} outputs, {H} hidden"
        raise InputError(what, "sizes >= 1, and a rank of at most each", "choose others")
    if N + r > M + H:
        return (H * M - H * r + N * r) / 2
    if M + r > N + H:
        return (H * N - H * r + M * r) / 2
    if H + r > M + N:
        return M * N / 2
    odd = (M + N + H + r) % 2
    return (2 * (H + r) * (M + N) + 2 * M * N - (H + r) ** 2 - M**2 - N**2 + odd) / 8
