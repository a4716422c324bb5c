# mypy: disable-error-code="no-untyped-def"
"""Random choices of one member: parameters, minibatch orders, labels, noise.

Every number is a function of (key, member, what it is for), see :mod:`simprior.philox`; so a member
is the same whatever the size of the ensemble, the workers or the chunks.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.philox import BLOCK, fill, words_block
from simprior.training._gemm import pad16

_THIRTY_TWO = np.uint64(32)
STAGE = np.uint64(1 << 62)  # added to a member's number in the pre-training stage


@njit(nogil=True)
def draw_parameters(P, net, scales, ratios, uniform, member, key, flat, buf, words):
    """Fill P with the initial parameters of ``member``; padding becomes zero.

    Layer l takes the numbers of counter word c1 = l: row-major [fan_in + 1][width], the bias last.
    """
    widths, pads, off, boff, _, _, _ = net
    depth = widths.size - 1
    P[:] = np.float32(0.0)
    for l in range(depth + 1):  # noqa: E741
        fan_in = widths[l]
        width = widths[l + 1] if l < depth else 1
        blocks = ((fan_in + 1) * width + BLOCK - 1) // BLOCK
        fill(flat, blocks, buf, words, 0, l, member, key, scales[l], uniform)
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
