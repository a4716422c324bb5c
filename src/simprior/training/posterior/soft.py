"""HMC over a network's parameters under a soft likelihood, all chains at once.

*The likelihood.* Gradients need one that is not a step. In the logistic one the label y_j = +-1 of
input j has probability sigmoid(beta y_j z_j), z the output of the network and beta the inverse
temperature: as beta grows this tends to the 0-1 likelihood, and so does the posterior over
functions; at any finite beta some draws disagree with S (``violating``) and large margins are
favoured a little. The squared one is exp(-(y_j - z_j)^2 / 2 v), v the variance of the noise.
Parameters are sampled as standard normals u; weights are sigma_w u / sqrt(fan-in), biases
sigma_b u.

*The sampler.* :func:`run_hmc` samples any density given as a function of a (chains, D) array; it
knows nothing about networks. It integrates by leapfrog steps with a unit mass matrix. The step size
of each chain is found by dual averaging in the warm-up (Hoffman & Gelman 2014, section 3.2, with
their constants) and jittered by up to a fifth afterwards, which keeps trajectories from closing on
themselves (Neal 2011, section 5.4.2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.sampling.chains import (
    Clock,
    Piece,
    generator_state,
    restore_generator,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.truthtable import input_matrix, n_words, pack
from simprior.checks import NETWORK, Choice, Number, Updates, Whole, checked
from simprior.errors import InputError, NumericalError
from simprior.network.activations import has_gradient
from simprior.network.callables import differentiable
from simprior.network.density import refuse_density
from simprior.network.parameters import flat_layers, flat_size, forward, shapes_of
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions, one_torch_thread
from simprior.training.posterior.chains import TrainingSet, make_training_set
from simprior.training.posterior.driver import Length, draw_chains, length_of

if TYPE_CHECKING:
    import torch

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
            "positive integers and an acceptance between 0 and 1",
            "leave them at their defaults",
        )
    run = HMCRun(target, sources, warmup, draws * thin, leapfrog, accept)
    run.begin(start)
    records = run.advance(Clock(math.inf), thin, record)
    return HMCResult(
        np.array(records), run.total / (draws * thin), run.tuner.final(), run.divergent
    )


class HMCRun:
    """Chains that can be left and gone on with: positions, adaptation, totals, generators."""

    def __init__(
        self,
        target: Target,
        sources: Sequence[np.random.Generator],
        warmup: int,
        iterations: int,
        leapfrog: int,
        accept: float,
    ) -> None:
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
            "x": self.point.x,
            "logp": self.point.logp,
            "grad": self.point.grad,
            "warmed": self.warmed,
            "done": self.done,
            "total": self.total,
            "divergent": self.divergent,
            "step": self.tuner.final(),
            **{f"tuner{k}": v for k, v in vars(self.tuner).items()},
            **sources,
        }

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
    target: Target,
    point: _Point,
    step: np.ndarray,
    sources: Sequence[np.random.Generator],
    count: int,
) -> tuple[_Point, np.ndarray, np.ndarray]:
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
        np.where(keep, new.x, point.x),
        np.where(take, new.logp, point.logp),
        np.where(keep, new.grad, point.grad),
    )
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


BETA = 10.0


@dataclass(frozen=True)
class Likelihood:
    """Of the labels y = +-1 given outputs z: ``kind`` logistic (``value`` the inverse temperature
    beta) or squared (``value`` the variance of the noise)."""

    kind: str
    value: float

    @classmethod
    def of(cls, beta: Any, noise: Any) -> Likelihood:
        """The squared likelihood if ``noise`` is given, else the logistic one.

        Raises :class:`InputError` unless the value is a finite number > 0.
        """
        if noise is None:
            return cls("logistic", check_beta(beta))
        check = Number(0, open=True, remedy="pass for example noise=0.1")
        return cls("squared", float(check("noise", noise)))

    def log_density(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(C,) log-likelihoods, up to a constant, of y (s,) given z (C, s)."""
        import torch

        if self.kind == "squared":
            return -((y - z) ** 2).sum(dim=1) / (2.0 * self.value)
        return torch.nn.functional.logsigmoid(self.value * y * z).sum(dim=1)

    def describe(self) -> dict[str, Any]:
        """What a report says of it."""
        if self.kind == "squared":
            return {"likelihood": self.kind, "noise": self.value}
        return {"beta": self.value}


GROUP = 8  # chains integrated together; a constant, so that results do not depend on workers
SHORTEST = 200  # iterations of a warm-up, unless a number is given
GRADIENTS = "posteriors by gradients"  # what knows no masks


class SoftTarget:
    """Log-density of u (C, D) given S, its gradient, and the functions of u.

    ln p(u|S) = -|u|^2 / 2 + ln of the likelihood of the labels of S given z(u), up to a constant.
    """

    def __init__(self, network: Network, given: TrainingSet, likelihood: Likelihood) -> None:
        import torch

        refuse_density(network, GRADIENTS)
        gaussian = Choice(("gaussian",), "use rejection for other laws", "gaussian")
        gaussian("weight_dist", network.weight_dist)
        if not has_gradient(network):
            raise InputError(
                f"activation={network.activation_name!r}",
                "an activation with a gradient",
                "use slice sampling",
            )
        self._likelihood = likelihood
        x = torch.from_numpy(input_matrix(network))
        self._all, self._train = x, x[torch.from_numpy(given.index)]
        self._sign = torch.from_numpy(2.0 * given.bits.astype(float) - 1.0)
        self._act = differentiable(network, "a soft likelihood")
        self._shapes = shapes_of(network)
        fans = zip(network.fan_ins, network.sigma_ws, strict=True)
        self._scales = [sigma_w / math.sqrt(fan_in) for fan_in, sigma_w in fans]
        self._bias_scales = network.sigma_bs
        self.size = flat_size(self._shapes)

    def output(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """z (C, rows of x) of the networks u (C, D)."""
        standard = flat_layers(u, self._shapes)
        scales = zip(standard, self._scales, self._bias_scales, strict=True)
        layers = [(w * scale, b * bias) for (w, b), scale, bias in scales]
        return forward(x.expand(len(u), *x.shape), layers, self._act).squeeze(2)

    def log_density(self, u: torch.Tensor) -> torch.Tensor:
        """(C,) log-densities, differentiable."""
        z = self.output(u, self._train)
        return self._likelihood.log_density(self._sign, z) - 0.5 * (u * u).sum(dim=1)

    def __call__(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-densities (C,) and gradients (C, D), the form that :func:`run_hmc` takes."""
        import torch

        leaf = torch.from_numpy(np.ascontiguousarray(u)).requires_grad_(True)
        value = self.log_density(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach().numpy(), grad.numpy()

    def functions(self, u: np.ndarray) -> np.ndarray:
        """(C, W) packed functions on all inputs."""
        import torch

        with torch.no_grad():
            z = self.output(torch.from_numpy(np.ascontiguousarray(u)), self._all)
        return pack((z > 0).numpy().astype(np.uint8))


@checked(network=NETWORK, accept=Number(0, 1, open=True), workers=Whole(1), progress=Updates())
def hmc_posterior(
    network: Network,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**4,
    seed: int = 0,
    *,
    target: Any = None,
    beta: float = BETA,
    noise: float | None = None,
    chains: int = 32,
    thin: int = 1,
    burn_in: int | None = None,
    leapfrog: int = 16,
    accept: float = 0.8,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from the posterior under the soft likelihood by HMC.

    Parameters
    ----------
    network : Network
        Gaussian weights; any activation that torch can differentiate.
    train_index, labels, target, samples, seed, chains, thin, workers, progress, store
        As in :func:`simprior.training.posterior.slice.slice_posterior`.
    beta : float
        Inverse temperature of the logistic likelihood, in units of 1 / output.
    noise : float, optional
        The squared likelihood, with this variance of the noise, in place of the logistic one.
    burn_in : int, optional
        Iterations of the warm-up, in which step sizes adapt; by default half of those recorded, and
        at least 200. Chains start at draws from the prior.
    leapfrog, accept
        See :func:`simprior.training.posterior.soft.run_hmc`.

    Returns
    -------
    FunctionCounts
        As of ``slice_posterior``; ``info["posterior"]`` also has ``beta`` or ``noise``,
        ``violating`` (share of draws that disagree with S), ``acceptance``, ``step`` and
        ``divergent``.

    Raises
    ------
    InputError, NumericalError
    """
    how, given = RunOptions.of(locals()), make_training_set(network.m, train_index, labels, target)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    likelihood = Likelihood.of(beta, noise)
    length = length_of(
        network,
        samples,
        chains,
        thin,
        burn_in,
        shortest=SHORTEST,
        together=chains,
        leapfrog=leapfrog,
    )

    def describe(ends: list[dict[str, Any]]) -> dict[str, Any]:
        rates = np.concatenate([end["total"] for end in ends]) / (length.draws * thin)
        return {
            "method": "hmc",
            **likelihood.describe(),
            "thin": thin,
            "burn_in": length.burn_in,
            "leapfrog": leapfrog,
            "acceptance": float(rates.mean()),
            "step": float(np.concatenate([end["step"] for end in ends]).mean()),
            "divergent": sum(int(end["divergent"].sum()) for end in ends),
        }

    advance = partial(_run, network, given, likelihood, seed, length, leapfrog, accept)
    return draw_chains(advance, network, given, length, describe, how, store, group=GROUP)


def check_beta(beta: Any) -> float:
    """A finite inverse temperature > 0, else :class:`InputError`."""
    return float(Number(0, open=True, remedy="pass for example beta=10")("beta", beta))


def _run(
    network: Network,
    given: TrainingSet,
    likelihood: Likelihood,
    seed: int,
    length: Length,
    leapfrog: int,
    accept: float,
    group: int,
    kept: dict[str, Any] | None = None,
    seconds: float = math.inf,
) -> Piece:
    """Go on with the chains of a group: draws (T * C, W), draw after draw."""
    iterations = length.draws * length.thin
    chains = range(group * GROUP, min((group + 1) * GROUP, length.chains))
    with one_torch_thread():
        target = SoftTarget(network, given, likelihood)
        sources = [rng.generator(seed, "hmc", chain) for chain in chains]
        run = HMCRun(target, sources, length.burn_in, iterations, leapfrog, accept)
        if kept is None:
            run.begin(np.stack([source.standard_normal(target.size) for source in sources]))
        else:
            run.restore(kept)
        records = run.advance(Clock(seconds), length.thin, target.functions)
    words = np.concatenate([np.empty((0, n_words(network.m)), np.uint64), *records])
    return Piece(words, run.state(), run.done == iterations)
