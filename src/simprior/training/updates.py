"""What a step of training is made of, compiled: matrix products, random choices, optimiser steps.

*Matrix products* in registers, as LLVM vector code. ``gemm`` computes
``C[r, 0:cols] = C0[r, 0:cols] + sum_k A(r, k) B[k, 0:cols]`` in float32. Rows of B, C and C0 are
contiguous and padded to 16 columns; ``A(r, k)`` sits at ``a + r a_row + k a_k`` so that A may be
read transposed. Four rows and up to 64 columns are accumulated in registers at a time; sums run
over k in order with fused multiply-adds, so a result is the same bit for bit on every machine that
has them. Addresses and strides are plain integers (bytes).

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
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from simprior.numerics.compiled import (
    BLOCK,
    F32,
    I32,
    I64,
    LANES,
    VECTOR,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    fill,
    thin,
    words_block,
)

# mypy: disable-error-code="no-untyped-def"


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


# mypy: disable-error-code="no-untyped-def"


ROWS = 4


def pad16(size: int) -> int:
    """``size`` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


def pad4(size: int) -> int:
    """``size`` rounded up to whole row tiles."""
    return -(-size // ROWS) * ROWS


def _emit_tile(builder: Any, vectors: int, args: Any) -> None:
    a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count = args
    const = lambda v: ir.Constant(I64, v)  # noqa: E731
    at = lambda base, stride, r: builder.add(base, builder.mul(stride, const(r)))  # noqa: E731
    column = lambda base, v: builder.add(base, const(4 * LANES * v))  # noqa: E731
    start = [
        emit_load(builder, column(at(c0, c0_row, r), v), VECTOR)
        for r in range(ROWS)
        for v in range(vectors)
    ]
    entry = builder.block
    loop = builder.append_basic_block("gemm.loop")
    done = builder.append_basic_block("gemm.done")
    builder.cbranch(builder.icmp_signed(">", count, const(0)), loop, done)
    builder.position_at_end(loop)
    k, a_now, b_now = builder.phi(I64), builder.phi(I64), builder.phi(I64)
    acc = [builder.phi(VECTOR) for _ in start]
    for phi, value in zip([k, a_now, b_now, *acc], [const(0), a, b, *start], strict=True):
        phi.add_incoming(value, entry)
    row = [emit_load(builder, column(b_now, v), VECTOR) for v in range(vectors)]
    new = []
    for r in range(ROWS):
        left = emit_splat(builder, emit_load(builder, at(a_now, a_row, r), F32))
        sums = acc[r * vectors : (r + 1) * vectors]
        new += [emit_fma(builder, left, row[v], sums[v], always=True) for v in range(vectors)]
    after = [builder.add(k, const(1)), builder.add(a_now, a_k), builder.add(b_now, b_k)]
    for phi, value in zip([k, a_now, b_now, *acc], [*after, *new], strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", after[0], count), loop, done)
    builder.position_at_end(done)
    for i, (first, last) in enumerate(zip(start, new, strict=True)):
        total = builder.phi(VECTOR)
        total.add_incoming(first, entry)
        total.add_incoming(last, loop)
        start[i] = total
    for r in range(ROWS):
        for v in range(vectors):
            emit_store(builder, start[r * vectors + v], column(at(c, c_row, r), v))


def _make_tile(vectors: int) -> Any:
    @intrinsic
    def tile(typingctx, a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, count):
        def codegen(context, builder, signature, args):
            _emit_tile(builder, vectors, args)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), codegen

    return tile


_tile1, _tile2, _tile3, _tile4 = (_make_tile(v) for v in (1, 2, 3, 4))


@njit(nogil=True)
def gemm(a, a_row, a_k, b, b_k, c, c_row, c0, c0_row, rows, cols, count):
    """C = C0 + A B for ``rows`` (a multiple of 4) and ``cols`` (a multiple of 16)."""
    for r in range(0, rows, 4):
        ar, cr, c0r = a + r * a_row, c + r * c_row, c0 + r * c0_row
        v = 0
        left = cols // 16
        while left > 0:
            s = 64 * v
            if left >= 4:
                _tile4(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            elif left == 3:
                _tile3(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            elif left == 2:
                _tile2(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            else:
                _tile1(ar, a_row, a_k, b + s, b_k, cr + s, c_row, c0r + s, c0_row, count)
            v += 4
            left -= 4


def _emit_transpose(builder: Any, args: Any) -> None:
    source, source_row, target, target_row = args
    rows = [
        emit_load(
            builder, builder.add(source, builder.mul(source_row, ir.Constant(I64, r))), VECTOR
        )
        for r in range(LANES)
    ]
    half = LANES // 2
    while half:
        new = list(rows)
        for r in range(LANES):
            if r & half:
                continue
            low = [i if not i & half else LANES + i - half for i in range(LANES)]
            high = [i + half if not i & half else LANES + i for i in range(LANES)]
            for index, lanes in ((r, low), (r + half, high)):
                mask = ir.Constant(ir.VectorType(I32, LANES), lanes)
                new[index] = builder.shuffle_vector(rows[r], rows[r + half], mask)
        rows = new
        half //= 2
    for r in range(LANES):
        place = builder.add(target, builder.mul(target_row, ir.Constant(I64, r)))
        emit_store(builder, rows[r], place)


@intrinsic
def transpose16(typingctx, source, source_row, target, target_row):
    """Transpose a 16 x 16 block of float32 between two byte addresses with byte row strides."""

    def codegen(context, builder, signature, args):
        _emit_transpose(builder, args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


def _emit_dot(builder: Any, args: Any) -> Any:
    a, b, vectors = args
    const = lambda v: ir.Constant(I64, v)  # noqa: E731
    entry = builder.block
    loop = builder.append_basic_block("dot.loop")
    done = builder.append_basic_block("dot.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, acc = builder.phi(I64), builder.phi(VECTOR)
    k.add_incoming(const(0), entry)
    acc.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), entry)
    shift = builder.mul(k, const(4 * LANES))
    left = emit_load(builder, builder.add(a, shift), VECTOR)
    right = emit_load(builder, builder.add(b, shift), VECTOR)
    new = emit_fma(builder, left, right, acc, always=True)
    after = builder.add(k, const(1))
    k.add_incoming(after, loop)
    acc.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", after, vectors), loop, done)
    builder.position_at_end(done)
    total, undef, half = new, ir.Constant(VECTOR, ir.Undefined), LANES // 2
    while half:
        lanes = [(i + half) % LANES for i in range(LANES)]
        mask = ir.Constant(ir.VectorType(I32, LANES), lanes)
        total = builder.fadd(total, builder.shuffle_vector(total, undef, mask))
        half //= 2
    return builder.extract_element(total, ir.Constant(I32, 0))


@intrinsic
def dot16(typingctx, a, b, vectors):
    """Dot product of ``vectors`` >= 1 vectors of 16 float32 at two byte addresses."""

    def codegen(context, builder, signature, args):
        return _emit_dot(builder, args)

    return types.float32(types.intp, types.intp, types.intp), codegen


# mypy: disable-error-code="no-untyped-def"


_THIRTY_TWO = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
STAGE = np.uint64(1 << 62)  # added to a member's number in the pre-training stage


@njit(nogil=True)
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


@njit(nogil=True)
def has_masks(kept):
    """Whether the law of the parameters masks any weights."""
    return kept.min() <= _LOW


@njit(nogil=True)
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


@njit(nogil=True, fastmath=_FAST)
def apply_mask(G, mask):
    """Gradients of masked weights become 0."""
    for i in range(np.uint64(G.size)):
        G[i] *= mask[i]


@njit(nogil=True)
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


@njit(nogil=True)
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


@njit(nogil=True)
def random_labels(y, member, key, buf, words):
    """Fair coin flips as labels 0 and 1."""
    for i in range(y.size):
        if i % BLOCK == 0:
            words_block(buf, i // BLOCK, 0, member, key)
        y[i] = np.float32(words[i % BLOCK] >> np.uint32(31))


@njit(nogil=True)
def draw_noise(noise, step, member, key, buf, words):
    """Standard normals for every parameter (padding included)."""
    fill(noise, noise.size // BLOCK, buf, words, 0, step, member, key, np.float32(1.0), False)


def flat_size(widths: np.ndarray) -> int:
    """Length of the scratch vector ``flat`` of :func:`draw_parameters`."""
    shapes = zip(widths, [*widths[1:], 1], strict=True)
    return max(BLOCK * -(-(f + 1) * k // BLOCK) for f, k in shapes) + pad16(1)
