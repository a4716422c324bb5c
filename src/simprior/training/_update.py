# mypy: disable-error-code="no-untyped-def"
"""One optimiser step on a flat parameter vector, as in ``torch.optim`` (float32).

``c`` holds the scalars of the optimiser (``optimizers.Optimizer.scalars``), float64; ``a``, ``b``
and ``e`` are its state vectors, zero at the start; ``t`` counts steps from 1. Padding has gradient
zero and is left at zero by every rule.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SGD, ADAM, ADAMW, RMSPROP, ADAGRAD, ADADELTA, SGLD, ENTROPY = range(8)
_FAST = {"contract", "nsz"}
_f = np.float32


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
def _decay(P, G, weight_decay):
    w = _f(weight_decay)
    if weight_decay != 0.0:
        for i in range(np.uint64(P.size)):
            G[i] += w * P[i]


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
def _adagrad(P, G, a, c, t):
    """c: lr, weight_decay, lr_decay, initial_accumulator_value, eps."""
    lr, eps = _f(c[0] / (1.0 + (t - 1) * c[2])), _f(c[4])
    for i in range(np.uint64(P.size)):
        s = a[i] + G[i] * G[i]
        a[i] = s
        P[i] -= lr * G[i] / (np.sqrt(s) + eps)


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
def _sgld(P, G, noise, mask, c):
    """c: lr, weight_decay, temperature: dP = -lr G + sqrt(2 lr temperature) N(0, 1)."""
    lr, size = _f(c[0]), _f(math.sqrt(2.0 * c[0] * c[2]))
    for i in range(np.uint64(P.size)):
        P[i] += size * noise[i] * mask[i] - lr * G[i]


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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


@njit(nogil=True)
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


@njit(nogil=True, fastmath=_FAST, error_model="numpy")
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
