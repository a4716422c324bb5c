"""Ensembles in JAX, as the peer of ``bench_training.py``: vmapped, one jitted loop to first fit.

Every member has its own initial parameters, its own minibatch orders and its own Adam. All go
through the loop together until the last one fits; one that fits keeps its parameters from then on.
On the full batch the forward pass of a step also tells whether the member fits, else there is one
look at the training set an epoch. Needs ``pip install jax``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Timed:
    """What a run of the loop took; ``lanes`` counts the steps of members that are done, too."""

    compile_seconds: float
    seconds: float
    lanes: int
    steps: int
    fitted: int


def logits(params: Any, x: jax.Array) -> jax.Array:
    """(rows,) outputs of one member."""
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return (x @ w + b)[:, 0]


def draw(key: jax.Array, widths: tuple[int, ...]) -> Any:
    """Initial parameters of one member: weights N(0, 1/fan_in), biases N(0, 1)."""
    params = []
    for k, i, o in zip(jax.random.split(key, len(widths) - 1), widths, widths[1:], strict=False):
        w, b = jax.random.split(k)
        params.append((jax.random.normal(w, (i, o)) * i**-0.5, jax.random.normal(b, (o,))))
    return params


def mean_loss(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropy, outputs) of one member."""
    z = logits(params, x)
    return jnp.mean(jax.nn.softplus(z) - y * z), z


def adam(params: Any, moments: Any, grads: Any, t: jax.Array, lr: float, done: jax.Array) -> Any:
    """(parameters, moments) of one member after step ``t`` (from 1); ``done`` members rest."""
    first = lr / (1 - BETA1**t)
    second = lax.rsqrt(1 - BETA2**t)
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, moments[0], grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, moments[1], grads)
    new = jax.tree.map(
        lambda p, m, v: jnp.where(done, p, p - first * m / (jnp.sqrt(v) * second + EPS)),
        params,
        m,
        v,
    )
    return new, (m, v)


def fits(z: jax.Array, y: jax.Array) -> jax.Array:
    """Whether a member has every label right."""
    return jnp.all((z > 0) == (y > 0.5))


def make_loop(
    x: np.ndarray, y: np.ndarray, widths: tuple[int, ...], batch: int, lr: float, epochs: int
) -> Callable[[jax.Array], Any]:
    """(E,) keys -> (parameters, epochs run, epoch of each first fit or -1), to be jitted."""
    inputs, labels = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    size = len(x)
    slope = jax.value_and_grad(mean_loss, has_aux=True)

    def whole(epoch: jax.Array, member: Any) -> Any:
        params, moments, key, done, when = member
        (_, z), grads = slope(params, inputs, labels)
        done = done | fits(z, labels)
        when = jnp.where(done & (when < 0), epoch, when)
        params, moments = adam(params, moments, grads, epoch + 1.0, lr, done)
        return params, moments, key, done, when

    def parts(epoch: jax.Array, member: Any) -> Any:
        params, moments, key, done, when = member
        done = done | fits(logits(params, inputs), labels)
        when = jnp.where(done & (when < 0), epoch, when)
        bits = jax.random.bits(jax.random.fold_in(key, epoch), (size,))
        order = jnp.argsort(bits).reshape(-1, batch)

        def step(state: Any, at: Any) -> Any:
            k, chosen = at
            _, grads = slope(state[0], inputs[chosen], labels[chosen])
            t = epoch * (size // batch) + k + 1.0
            return adam(*state, grads, t, lr, done), None

        (params, moments), _ = lax.scan(step, (params, moments), (jnp.arange(len(order)), order))
        return params, moments, key, done, when

    once = whole if batch >= size else parts

    def loop(keys: jax.Array) -> Any:
        params = jax.vmap(lambda k: draw(k, widths))(keys)
        zeros = jax.tree.map(jnp.zeros_like, params)
        members = (
            params,
            (zeros, zeros),
            keys,
            jnp.zeros(len(keys), bool),
            jnp.full(len(keys), -1),
        )

        def again(state: Any) -> jax.Array:
            return (state[0] < epochs) & ~jnp.all(state[1][3])

        def body(state: Any) -> Any:
            return state[0] + 1, jax.vmap(once, (None, 0))(state[0], state[1])

        count, members = lax.while_loop(again, body, (0, members))
        return members[0], count, members[4]

    return loop


def run(
    x: np.ndarray,
    y: np.ndarray,
    widths: tuple[int, ...],
    *,
    members: int,
    batch: int,
    lr: float,
    epochs: int,
    seed: int,
    repeats: int = 2,
    clock: Callable[[], float] = time.process_time,
) -> Timed:
    """Train ``members`` at once to first fit; the best of ``repeats`` runs of the same seed."""
    keys = jax.random.split(jax.random.key(seed), members)
    start = time.perf_counter()
    compiled = jax.jit(make_loop(x, y, widths, batch, lr, epochs)).lower(keys).compile()
    compile_seconds = time.perf_counter() - start
    seconds = float("inf")
    for _ in range(repeats):
        start = clock()
        _, count, when = jax.block_until_ready(compiled(keys))
        seconds = min(seconds, clock() - start)
    a_epoch = max(len(x) // batch, 1)
    when = np.asarray(when)
    own = np.where(when < 0, int(count), when) * a_epoch
    return Timed(
        compile_seconds,
        seconds,
        int(count) * a_epoch * members,
        int(own.sum()),
        int((when >= 0).sum()),
    )
