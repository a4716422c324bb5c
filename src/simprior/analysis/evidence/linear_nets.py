"""Deep linear networks W_L ... W_1 and the completion of a matrix from some of its entries.

All arrays have a leading axis of B independent problems. Layers are weight matrices (B, out, in)
with entries N(0, sigma_w^2 / in), without biases, so the network is its product.

* The posterior given noisy entries: the last layer is integrated out in closed form (its rows are
  Gaussian regressions on the features W_{L-1} ... W_1), and the layers below are sampled by
  elliptical slice sampling (Murray, Adams & MacKay 2010) of what is left. So the noise may be as
  small as one likes as long as the hidden layers are as wide as a row has observed entries.
* Gradient descent on the squared error of the observed entries, from the prior's own draw or from
  one that is scaled down.
* The effective rank exp(H(s / sum s)) of the singular values s (Roy & Vetterli 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simprior.errors import InputError

Layers = list[np.ndarray]


@dataclass(frozen=True)
class Completion:
    """B problems: true matrices (B, d, d), and which entries are observed (B, d, d)."""

    truth: np.ndarray
    seen: np.ndarray

    def error(self, found: np.ndarray) -> np.ndarray:
        """Mean squared error over the entries that were not observed: (..., B)."""
        hidden = ~self.seen
        squares: np.ndarray = ((found - self.truth) ** 2 * hidden).sum((-2, -1))
        return squares / hidden.sum((-2, -1))

    def wrong(self, found: np.ndarray) -> np.ndarray:
        """Share of the entries that were not observed whose sign is wrong: (..., B)."""
        hidden = ~self.seen
        missed: np.ndarray = (((found > 0) != (self.truth > 0)) & hidden).sum((-2, -1))
        return missed / hidden.sum((-2, -1))


_TRIES = 1000


def draw_completions(
    rng: np.random.Generator,
    count: int,
    size: int,
    rank: int,
    observed: int,
    *,
    normalise: bool = True,
    linked: bool = True,
) -> Completion:
    """``count`` matrices U V^T / sqrt(rank) of Gaussian factors, ``observed`` entries of each.

    ``normalise``: scaled to entries of mean square 1, exactly; without it only on average.
    ``linked``: the observed entries are drawn again until they link all rows and columns, without
    which not even a matrix of rank 1 is determined by them.

    Raises :class:`InputError` if entries that link are not found.
    """
    left, right = rng.standard_normal((2, count, size, rank))
    truth = left @ right.swapaxes(1, 2) / np.sqrt(rank)
    if normalise:
        truth *= size / np.linalg.norm(truth, axis=(1, 2), keepdims=True)
    seen = _entries(rng, count, size, observed)
    for _ in range(_TRIES):
        apart = np.flatnonzero(~_linked(seen)) if linked else np.zeros(0, np.intp)
        if not len(apart):
            return Completion(truth, seen)
        seen[apart] = _entries(rng, len(apart), size, observed)
    what = f"observed={observed} entries of {size} x {size} that link all rows and columns"
    raise InputError(what, "more of them", "observe more entries, or set linked = false")


def _entries(rng: np.random.Generator, count: int, size: int, observed: int) -> np.ndarray:
    order = rng.random((count, size * size)).argsort(axis=1).argsort(axis=1)
    return (order < observed).reshape(count, size, size)


def _linked(seen: np.ndarray) -> np.ndarray:
    """Whether the entries (B, d, d), as edges between rows and columns, make one component: (B,)"""
    reach: np.ndarray = np.eye(seen.shape[1], dtype=bool) | (
        seen @ seen.swapaxes(1, 2)
    )  # rows by rows
    for _ in range(int(np.ceil(np.log2(max(seen.shape[1], 2))))):
        reach = reach @ reach
    return np.all(reach, axis=(1, 2)) & np.all(np.any(seen, axis=1), axis=1)


def draw_layers(
    rng: np.random.Generator, count: int, widths: Sequence[int], sigma_w: float
) -> Layers:
    """``count`` draws of the layers from ``widths[0]`` inputs to ``widths[-1]`` outputs."""
    pairs = zip(widths[1:], widths[:-1], strict=True)
    return [rng.standard_normal((count, a, b)) * (sigma_w / np.sqrt(b)) for a, b in pairs]


def product(layers: Layers) -> np.ndarray:
    """W_L ... W_1 of layers in the order in which they are applied."""
    found = layers[0]
    for layer in layers[1:]:
        found = layer @ found
    return found


def effective_rank(matrices: np.ndarray) -> np.ndarray:
    """exp of the entropy of the normalised singular values of (..., d, d): from 1 to d."""
    values = np.linalg.svd(matrices, compute_uv=False)
    share = values / values.sum(axis=-1, keepdims=True)
    safe = np.where(share > 0, share, 1.0)
    entropy: np.ndarray = -(share * np.log(safe)).sum(axis=-1)
    return np.exp(entropy)


# Gradient descent


@dataclass(frozen=True)
class Descent:
    """Where gradient descent ended: products (B, d, d), whether the entries were fitted (B,), and
    the steps made (B,)."""

    found: np.ndarray
    fitted: np.ndarray
    steps: np.ndarray


def descend(problem: Completion, layers: Layers, *, rate: float, steps: int, tol: float) -> Descent:
    """Full-batch gradient descent on half the squared error of the observed entries.

    A step that would raise the loss is not taken and halves the rate of its problem; the rate grows
    by 2 % a step back to ``rate``. So the path is that of small steps wherever the loss is steep. A
    problem is fitted when no observed entry is off by more than ``tol``.
    """
    count = len(problem.truth)
    found, fitted = product(layers), np.zeros(count, bool)
    made = np.zeros(count, np.int64)
    active = np.arange(count)
    now = [layer.copy() for layer in layers]
    speed = np.full(count, rate)
    truth, seen = problem.truth, problem.seen
    residual = (product(now) - truth) * seen
    for _ in range(steps):
        step = _gradients(now, residual)
        moved = [w - speed[:, None, None] * g for w, g in zip(now, step, strict=True)]
        ahead = (product(moved) - truth) * seen
        better = (ahead**2).sum((1, 2)) <= (residual**2).sum((1, 2))
        keep = better[:, None, None]
        now = [np.where(keep, new, old) for new, old in zip(moved, now, strict=True)]
        residual = np.where(keep, ahead, residual)
        speed = np.where(better, np.minimum(speed * 1.02, rate), speed / 2)
        made[active] += 1
        done = np.abs(residual).max((1, 2)) <= tol
        if done.any():
            found[active[done]], fitted[active[done]] = product(now)[done], True
            rest = ~done
            active, speed, residual = active[rest], speed[rest], residual[rest]
            truth, seen = truth[rest], seen[rest]
            now = [w[rest] for w in now]
            if not len(active):
                break
    if len(active):
        found[active] = product(now)
    return Descent(found, fitted, made)


def _gradients(layers: Layers, residual: np.ndarray) -> Layers:
    """Gradients of half the sum of squares of ``residual`` (B, d, d) in every layer."""
    below = [layers[0]]
    for layer in layers[1:-1]:
        below.append(layer @ below[-1])
    out: Layers = []
    back = residual
    for i in range(len(layers) - 1, 0, -1):
        out.append(back @ below[i - 1].swapaxes(1, 2))
        back = layers[i].swapaxes(1, 2) @ back
    return [back, *reversed(out)]


# The posterior


@dataclass(frozen=True)
class Rows:
    """What the rows of the last layer are regressed on: ``targets`` (B, r, d), which of them are
    ``seen``, noise, and the prior variance of a weight of the last layer."""

    targets: np.ndarray
    seen: np.ndarray
    noise: float
    variance: float

    def of(self, which: np.ndarray) -> Rows:
        """The same of some of the problems."""
        return Rows(self.targets[which], self.seen[which], self.noise, self.variance)

    def covariance(self, features: np.ndarray) -> np.ndarray:
        """Prior covariance (B, d, d) of a row of the product, given features (B, h, d)."""
        return self.variance * (features.swapaxes(1, 2) @ features)

    def observed(self, K: np.ndarray) -> np.ndarray:
        """(B, r, d, d): covariance of the observed entries of each row, noise included; entries
        that are not observed stand apart with variance 1."""
        both = self.seen[..., :, None] & self.seen[..., None, :]
        noisy = K + self.noise**2 * np.eye(K.shape[-1])
        return np.where(both, noisy[:, None], np.eye(K.shape[-1]))

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """ln p of the observed entries given the features, last layer integrated out, up to a
        constant: (B,) nats."""
        root = np.linalg.cholesky(self.observed(self.covariance(features)))
        scaled = np.linalg.solve(root, (self.targets * self.seen)[..., None])[..., 0]
        logdet = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum((1, 2))
        total: np.ndarray = -0.5 * (scaled**2).sum((1, 2)) - logdet
        return total

    def complete(
        self, features: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean, a draw) of the product (B, r, d) given the features and the observed entries.

        The draw is a prior one, corrected by what it misses of the observed entries (Matheron).
        """
        K = self.covariance(features)
        blocks = self.observed(K)
        across = K[:, None] * self.seen[:, :, None, :]
        count, rows = self.targets.shape[:2]
        weights = rng.standard_normal((count, rows, features.shape[1])) * np.sqrt(self.variance)
        free = weights @ features
        missed = self.targets - free - self.noise * rng.standard_normal(free.shape)
        both = np.stack([self.targets * self.seen, missed * self.seen], axis=-1)
        solved = across @ np.linalg.solve(blocks, both)
        return solved[..., 0], free + solved[..., 1]


def posterior_draws(
    problem: Completion,
    depth: int,
    width: int,
    sigma_w: float,
    noise: float,
    sweeps: range,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(conditional mean, draw) of the product (B, d, d) after each sweep of ``sweeps``.

    A sweep is one elliptical slice of all hidden layers; none is needed at depth 1, where draws are
    independent. Averages of the conditional means are the posterior mean.
    """
    count, size = problem.truth.shape[:2]
    widths = [size] + [width] * (depth - 1)
    last = widths[-1]
    rows = Rows(problem.truth, problem.seen, noise, sigma_w**2 / last)
    layers = draw_layers(rng, count, widths, sigma_w)
    eye = np.broadcast_to(np.eye(size), (count, size, size))
    level = rows.log_likelihood(product(layers)) if layers else np.zeros(count)
    for sweep in range(sweeps.stop):
        if layers:
            layers, level = _slice(
                layers, level, rows, draw_layers(rng, count, widths, sigma_w), rng
            )
        if sweep in sweeps:
            yield rows.complete(product(layers) if layers else eye, rng)


def _slice(
    layers: Layers, level: np.ndarray, rows: Rows, ellipse: Layers, rng: np.random.Generator
) -> tuple[Layers, np.ndarray]:
    """One elliptical slice of every problem: the new layers, and their log likelihood (B,)."""
    count = len(level)
    height = level + np.log(rng.random(count))
    angle = rng.random(count) * 2 * np.pi
    low, high = angle - 2 * np.pi, angle.copy()
    new, found = [w.copy() for w in layers], level.copy()
    todo = np.arange(count)
    while len(todo):
        c, s = np.cos(angle[todo])[:, None, None], np.sin(angle[todo])[:, None, None]
        tried = [c * w[todo] + s * v[todo] for w, v in zip(layers, ellipse, strict=True)]
        value = rows.of(todo).log_likelihood(product(tried))
        good = value > height[todo]
        for kept, one in zip(new, tried, strict=True):
            kept[todo[good]] = one[good]
        found[todo[good]] = value[good]
        todo = todo[~good]
        below = angle[todo] < 0
        low[todo[below]], high[todo[~below]] = angle[todo[below]], angle[todo[~below]]
        angle[todo] = low[todo] + rng.random(len(todo)) * (high[todo] - low[todo])
    return new, found
