"""What a step of training is made of, compiled: random choices and optimiser steps.

Matrix products are in :mod:`simprior.training.products`.

*Random choices* of one member: parameters, minibatch orders, labels, noise. Every number is a
function of (key, member, what it is for), see :mod:`simprior.numerics.compiled`; so a member is the
same whatever the size of the ensemble, the workers or the chunks.

*Optimiser steps* on a flat parameter vector, as in ``torch.optim`` (float32). ``c`` holds the
scalars of the optimiser (:meth:`simprior.training.spec.Optimizer.scalars`), float64; ``a``, ``b``
and ``e`` are its state vectors, zero at the start; ``t`` counts steps from 1. Padding has gradient
zero and is left at zero by every rule.
"""

from __future__ import annotations

import math

import numpy as np

from simprior.numerics.compiled import BLOCK, fill, inner, thin, words_block
from simprior.training.products import pad16

# mypy: disable-error-code="no-untyped-def"


SGD, ADAM, ADAMW, RMSPROP, ADAGRAD, ADADELTA, SGLD, ENTROPY = range(8)
_FAST = {"contract", "nsz"}
_f = np.float32


@inner(fastmath=_FAST, error_model="numpy")
def _decay(P, G, weight_decay):
    w = _f(weight_decay)
    if weight_decay != 0.0:
        for i in range(np.uint64(P.size)):
            G[i] += w * P[i]


@inner(fastmath=_FAST, error_model="numpy")
def _sgd(P, G, a, c, t):
    """c: lr, weight_decay, momentum, dampening, nesterov."""
    lr, momentum = _f(c[0]), _f(c[2])
    keep = _f(1.0) if t == 1 else _f(1.0 - c[3])
    n = np.uint64(P.size)
    if c[2] == 0.0:
        for i in range(n):
            P[i] -= lr * G[i]
    elif c[4] == 0.0:
        for i in range(n):
            a[i] = momentum * a[i] + keep * G[i]
            P[i] -= lr * a[i]
    else:
        for i in range(n):
            a[i] = momentum * a[i] + keep * G[i]
            P[i] -= lr * (G[i] + momentum * a[i])


@inner(fastmath=_FAST, error_model="numpy")
def _adam(P, G, a, b, e, c, t):
    """c: lr, weight_decay, beta1, beta2, eps, amsgrad (Kingma & Ba 2015)."""
    beta1, beta2, eps = _f(c[2]), _f(c[3]), _f(c[4])
    rest1, rest2 = _f(1.0 - c[2]), _f(1.0 - c[3])
    step = _f(c[0] / (1.0 - c[2] ** t))
    inverse = _f(1.0 / math.sqrt(1.0 - c[3] ** t))
    n = np.uint64(P.size)
    if c[5] == 0.0:
        for i in range(n):
            g = G[i]
            m = beta1 * a[i] + rest1 * g
            v = beta2 * b[i] + rest2 * g * g
            a[i] = m
            b[i] = v
            P[i] -= step * m / (np.sqrt(v) * inverse + eps)
    else:
        for i in range(n):
            g = G[i]
            m = beta1 * a[i] + rest1 * g
            v = beta2 * b[i] + rest2 * g * g
            a[i] = m
            b[i] = v
            e[i] = max(e[i], v)
            P[i] -= step * m / (np.sqrt(e[i]) * inverse + eps)


@inner(fastmath=_FAST, error_model="numpy")
def _rmsprop(P, G, a, b, e, c):
    """c: lr, weight_decay, alpha, eps, momentum, centered."""
    lr, alpha, rest, eps = _f(c[0]), _f(c[2]), _f(1.0 - c[2]), _f(c[3])
    momentum = _f(c[4])
    centered = _f(c[5])
    for i in range(np.uint64(P.size)):
        g = G[i]
        v = alpha * a[i] + rest * g * g
        mean = alpha * e[i] + rest * g
        a[i] = v
        e[i] = mean
        x = g / (np.sqrt(max(v - centered * mean * mean, _f(0.0))) + eps)
        b[i] = momentum * b[i] + x
        P[i] -= lr * b[i]


@inner(fastmath=_FAST, error_model="numpy")
def _adagrad(P, G, a, c, t):
    """c: lr, weight_decay, lr_decay, initial_accumulator_value, eps."""
    lr, eps = _f(c[0] / (1.0 + (t - 1) * c[2])), _f(c[4])
    for i in range(np.uint64(P.size)):
        s = a[i] + G[i] * G[i]
        a[i] = s
        P[i] -= lr * G[i] / (np.sqrt(s) + eps)


@inner(fastmath=_FAST, error_model="numpy")
def _adadelta(P, G, a, b, c):
    """c: lr, weight_decay, rho, eps."""
    lr, rho, rest, eps = _f(c[0]), _f(c[2]), _f(1.0 - c[2]), _f(c[3])
    for i in range(np.uint64(P.size)):
        g = G[i]
        v = rho * a[i] + rest * g * g
        a[i] = v
        x = np.sqrt(b[i] + eps) / np.sqrt(v + eps) * g
        b[i] = rho * b[i] + rest * x * x
        P[i] -= lr * x


@inner(fastmath=_FAST, error_model="numpy")
def _sgld(P, G, noise, mask, c):
    """c: lr, weight_decay, temperature: dP = -lr G + sqrt(2 lr temperature) N(0, 1)."""
    lr, size = _f(c[0]), _f(math.sqrt(2.0 * c[0] * c[2]))
    for i in range(np.uint64(P.size)):
        P[i] += size * noise[i] * mask[i] - lr * G[i]


@inner(fastmath=_FAST, error_model="numpy")
def _entropy(P, G, a, b, noise, mask, c, t):
    """c: lr, weight_decay, inner_lr, inner_steps, gamma, alpha, noise (Entropy-SGD, Algorithm 1).

    P is the inner x', ``a`` the outer x, ``b`` the running mean mu.
    """
    inner, gamma, alpha = _f(c[2]), _f(c[4]), _f(c[5])
    size, rest, lr = _f(math.sqrt(c[2]) * c[6]), _f(1.0 - c[5]), _f(c[0])
    n = np.uint64(P.size)
    for i in range(n):
        x = P[i] - inner * (G[i] - gamma * (a[i] - P[i])) + size * noise[i] * mask[i]
        P[i] = x
        b[i] = rest * b[i] + alpha * x
    if t % np.int64(c[3]) == 0:
        for i in range(n):
            x = a[i] - lr * (a[i] - b[i])
            a[i] = x
            b[i] = x
            P[i] = x


@inner()
def prepare(code, P, a, b, e, c):
    """State before the first step."""
    a[:] = 0.0
    b[:] = 0.0
    e[:] = 0.0
    if code == ADAGRAD:
        a[:] = c[3]
    elif code == ENTROPY:
        a[:] = P
        b[:] = P


@inner(fastmath=_FAST, error_model="numpy")
def update(code, P, G, a, b, e, noise, mask, c, t):
    """Step ``t`` (1, 2, ...) of optimiser ``code``; G is overwritten."""
    if code == ADAMW:
        shrink = _f(1.0 - c[0] * c[1])
        for i in range(np.uint64(P.size)):
            P[i] *= shrink
    else:
        _decay(P, G, c[1])
    if code == SGD:
        _sgd(P, G, a, c, t)
    elif code in (ADAM, ADAMW):
        _adam(P, G, a, b, e, c, t)
    elif code == RMSPROP:
        _rmsprop(P, G, a, b, e, c)
    elif code == ADAGRAD:
        _adagrad(P, G, a, c, t)
    elif code == ADADELTA:
        _adadelta(P, G, a, b, c)
    elif code == SGLD:
        _sgld(P, G, noise, mask, c)
    else:
        _entropy(P, G, a, b, noise, mask, c, t)


# mypy: disable-error-code="no-untyped-def"


_THIRTY_TWO = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
STAGE = np.uint64(1 << 62)  # added to a member's number in the pre-training stage


@inner()
def draw_parameters(P, net, scales, ratios, uniform, kept, member, key, flat, buf, words):
    """Fill P with the initial parameters of ``member``; padding and masked weights become zero.

    Layer l takes the numbers of counter word c1 = l: row-major [fan_in + 1][width], the bias last.
    A weight is kept where the word in its place, of the stream of masks, is below ``kept[l]``.
    """
    widths, pads, off, boff, _, _, _ = net
    depth = widths.size - 1
    P[:] = np.float32(0.0)
    for l in range(depth + 1):  # noqa: E741
        fan_in = widths[l]
        width = widths[l + 1] if l < depth else 1
        blocks = ((fan_in + 1) * width + BLOCK - 1) // BLOCK
        fill(flat, blocks, buf, words, 0, l, member, key, scales[l], uniform)
        thin(flat, fan_in * width, buf, words, 0, l, member, key, kept[l])
        for i in range(fan_in + 1):
            for j in range(width):
                value = flat[i * width + j]
                if i == fan_in:
                    P[boff[l] + j] = value * ratios[l]
                elif l < depth:
                    P[off[l] + i * pads[l + 1] + j] = value
                else:
                    P[off[l] + i] = value


@inner()
def has_masks(kept):
    """Whether the law of the parameters masks any weights."""
    return kept.min() <= _LOW


@inner()
def draw_mask(mask, net, kept, member, key, flat, buf, words):
    """Put 1 into ``mask`` for every weight of ``member`` that is kept, and 0 for the others.

    Only layers with masks are written: the rest of ``mask`` is the same for all members.
    """
    widths, pads, off, _, _, _, _ = net
    depth = widths.size - 1
    for l in range(depth + 1):  # noqa: E741
        fan_in = widths[l]
        width = widths[l + 1] if l < depth else 1
        stride = pads[l + 1] if l < depth else 1
        if kept[l] > _LOW:
            continue
        flat[: fan_in * width] = np.float32(1.0)
        thin(flat, fan_in * width, buf, words, 0, l, member, key, kept[l])
        for i in range(fan_in):
            for j in range(width):
                mask[off[l] + i * stride + j] = flat[i * width + j]


@inner(fastmath=_FAST)
def apply_mask(G, mask):
    """Gradients of masked weights become 0."""
    for i in range(np.uint64(G.size)):
        G[i] *= mask[i]


@inner()
def shuffle(perm, epoch, member, key, buf, words):
    """The order of the samples in one epoch: a uniformly random permutation (Fisher-Yates)."""
    size = perm.size
    for i in range(size):
        perm[i] = i
    used = BLOCK
    block = 0
    for i in range(size - 1, 0, -1):
        if used == BLOCK:
            words_block(buf, block, epoch, member, key)
            block += 1
            used = 0
        j = np.int64((np.uint64(words[used]) * np.uint64(i + 1)) >> _THIRTY_TWO)
        used += 1
        kept = perm[i]
        perm[i] = perm[j]
        perm[j] = kept


@inner()
def draw_weighted(chosen, weights, cumulative, step, member, key, buf, words):
    """``chosen.size`` samples with replacement, probability proportional to ``weights``."""
    total = 0.0
    for i in range(weights.size):
        total += weights[i]
        cumulative[i] = total
    for b in range(chosen.size):
        if b % BLOCK == 0:
            words_block(buf, b // BLOCK, step, member, key)
        u = (np.float64(words[b % BLOCK]) + 0.5) * 2.0**-32 * total
        found = np.searchsorted(cumulative, u)
        chosen[b] = min(found, weights.size - 1)


@inner()
def random_labels(y, member, key, buf, words):
    """Fair coin flips as labels 0 and 1."""
    for i in range(y.size):
        if i % BLOCK == 0:
            words_block(buf, i // BLOCK, 0, member, key)
        y[i] = np.float32(words[i % BLOCK] >> np.uint32(31))


@inner()
def draw_noise(noise, step, member, key, buf, words):
    """Standard normals for every parameter (padding included)."""
    fill(
        noise,
        noise.size // BLOCK,
        buf,
        words,
        0,
        step,
        member,
        key,
        np.float32(1.0),
        np.bool_(False),
    )


def flat_size(widths: np.ndarray) -> int:
    """Length of the scratch vector ``flat`` of :func:`draw_parameters`."""
    shapes = zip(widths, [*widths[1:], 1], strict=True)
    return max(BLOCK * -(-(f + 1) * k // BLOCK) for f, k in shapes) + pad16(1)
