# mypy: disable-error-code="no-untyped-def"
"""Train members of an ensemble, one after the other, each inside the first-level cache.

Arguments come in tuples, made by :mod:`simprior.training._plan`:

* ``net``: geometry of the network (``_step``); ``law``: scales, bias ratios, uniform, mask;
* ``data``: x (flat padded inputs of the training set), y (labels 0/1), sizes, all inputs, m;
* ``rule``: int64 values at the ``R_*`` positions; ``c``: scalars of the optimiser, float64;
* ``keys``: uint64 keys at the ``K_*`` positions; ``s``: scratch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.training._random import (
    STAGE,
    draw_noise,
    draw_parameters,
    draw_weighted,
    random_labels,
    shuffle,
)
from simprior.training._step import (
    BLOCK_ROWS,
    backward,
    forward,
    loss_gradient,
    loss_values,
    threshold_of,
    transpose_weights,
)
from simprior.training._update import ENTROPY, SGLD, prepare, update

FIRST_FIT, EPOCHS, LOSS, STEPS = range(4)
R_OPTIMIZER, R_LOSS, R_BATCH, R_STOP, R_STOP_N, R_MAX_STEPS, R_CHECK, R_ADVERSARIAL, R_PRETRAIN = (
    range(9)
)
K_INIT, K_ORDER, K_NOISE, K_LABELS = range(4)


@njit(nogil=True)
def outputs(P, net, x, rows, s, z):
    """Pre-activations z[0:rows] of the ``rows`` inputs in the flat padded array ``x``."""
    H, D, part = s[2], s[3], s[7]
    pad = net[1][0]
    for first in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - first)
        forward(P, net, x.ctypes.data + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, part)
        for i in range(n):
            z[first + i] = part[i]


@njit(nogil=True)
def count_errors(P, net, x, y, rows, threshold, all_of_them, s):
    """Number of misclassified samples; stops after the first block with one unless told not to.

    A pre-activation that is not a number is an error whatever the label.
    """
    H, D, z = s[2], s[3], s[7]
    pad = net[1][0]
    errors = 0
    for first in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - first)
        forward(P, net, x.ctypes.data + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, z)
        for i in range(n):
            one = z[i] > threshold
            if one != (y[first + i] > np.float32(0.5)) or z[i] != z[i]:
                errors += 1
        if errors and not all_of_them:
            return errors
    return errors


@njit(nogil=True)
def mean_loss(P, net, x, y, rows, loss, s, each):
    """Mean loss over all samples; ``each`` gets the loss of every one."""
    outputs(P, net, x, rows, s, each)
    loss_values(each, y, each, rows, loss)
    total = 0.0
    for i in range(rows):
        total += each[i]
    return total / rows


@njit(nogil=True)
def function_of(P, net, x, m, threshold, s, packed):
    """Truth table on the m inputs in ``x``, packed (input 0 in the top bit of word 0)."""
    H, D, z = s[2], s[3], s[7]
    pad = net[1][0]
    packed[:] = np.uint64(0)
    for first in range(0, m, BLOCK_ROWS):
        n = min(BLOCK_ROWS, m - first)
        forward(P, net, x.ctypes.data + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, z)
        for i in range(n):
            j = first + i
            if z[i] > threshold:
                packed[j >> 6] |= np.uint64(1) << np.uint64(63 - (j & 63))


@njit(nogil=True)
def gradient(P, G, net, x, y, chosen, first, count, loss, s):
    """Mean-loss gradient over ``chosen[first : first + count]`` into G (all rows if not shuffled:
    ``chosen`` is then the identity)."""
    _, _, H, D, Z, T, dz, z, xb, yb = s[:10]
    pad = net[1][0]
    G[:] = np.float32(0.0)
    transpose_weights(P, net, T)
    scale = np.float32(1.0) / np.float32(count)
    width = np.uint64(pad)
    for start in range(0, count, BLOCK_ROWS):
        n = min(BLOCK_ROWS, count - start)
        rows = (n + 3) // 4 * 4
        for i in range(n):
            j = chosen[first + start + i]
            yb[i] = y[j]
            source, target = np.uint64(j * pad), np.uint64(i * pad)
            for k in range(width):
                xb[target + k] = x[source + k]
        for k in range(n * pad, rows * pad):
            xb[k] = np.float32(0.0)
        forward(P, net, xb.ctypes.data, 4 * pad, rows, H, D, z)
        loss_gradient(z, yb, dz, n, rows, scale, loss)
        backward(P, G, net, xb, 0, rows, H, D, Z, T, dz)


@njit(nogil=True)
def record(shown, net, data, y, loss, threshold, s, watch, at, step):
    """Fill the rows of ``watch`` from ``at`` whose step has come; returns the next row."""
    x, _, size, everything, m = data
    steps, tables, errors, losses = watch
    while at < steps.size and steps[at] <= step:
        function_of(shown, net, everything, m, threshold, s, tables[at])
        errors[at] = count_errors(shown, net, x, y, size, threshold, True, s)
        losses[at] = mean_loss(shown, net, x, y, size, loss, s, s[17])
        at += 1
    return at


@njit(nogil=True)
def take_minibatch(P, G, member, step, net, data, y, rule, keys, s):
    """Gradient of the minibatch of step ``step`` (from 0) into G."""
    perm, chosen, each, cumulative, buf, words = s[15:]
    x, size, batch, loss = data[0], data[2], rule[R_BATCH], rule[R_LOSS]
    epoch_steps = (size + batch - 1) // batch
    start = step % epoch_steps * batch
    count = min(batch, size - start)
    if rule[R_ADVERSARIAL] > 0:
        start, count = 0, min(batch, size)
        mean_loss(P, net, x, y, size, loss, s, each)
        power = np.float32(rule[R_ADVERSARIAL] * 0.001)
        for i in range(size):
            each[i] = max(each[i], np.float32(1e-12)) ** power
        draw_weighted(chosen[:count], each, cumulative, step, member, keys[K_ORDER], buf, words)
        perm = chosen
    elif start == 0 and batch < size:
        shuffle(perm, step // epoch_steps, member, keys[K_ORDER], buf, words)
    gradient(P, G, net, x, y, perm, start, count, loss, s)


@njit(nogil=True)
def fit(P, member, net, law, data, y, rule, stop_loss, c, keys, s, watch):
    """Train from P until the rule says stop; the trained parameters are left in P.

    Returns (steps, step of the first fit or -1). ``watch`` is (steps at which to record, tables,
    errors, losses): row k is filled at step ``watch[0][k]`` if it is reached.
    """
    G, a, b, e, noise, perm = s[10:16]
    x, size = data[0], data[2]
    code, loss, stop = rule[R_OPTIMIZER], rule[R_LOSS], rule[R_STOP]
    threshold = threshold_of(loss)
    epoch_steps = (size + rule[R_BATCH] - 1) // rule[R_BATCH]
    check = rule[R_CHECK] if rule[R_CHECK] > 0 else epoch_steps
    prepare(code, P, a, b, e, c)
    shown = a if code == ENTROPY else P
    step, first_fit, at = 0, np.int64(-1), 0
    for i in range(size):
        perm[i] = i
    while True:
        last = step >= rule[R_MAX_STEPS]
        at = record(shown, net, data, y, loss, threshold, s, watch, at, step)
        needed = stop != STEPS or first_fit < 0
        if last or (needed and step % check == 0):
            fits = count_errors(shown, net, x, y, size, threshold, False, s) == 0
            if fits and first_fit < 0:
                first_fit = np.int64(step)
            done = last or (fits and stop == FIRST_FIT)
            if fits and stop == EPOCHS:
                done = done or step >= first_fit + rule[R_STOP_N] * epoch_steps
            elif fits and stop == LOSS:
                done = done or mean_loss(shown, net, x, y, size, loss, s, s[17]) <= stop_loss
            if done:
                break
        take_minibatch(P, G, member, step, net, data, y, rule, keys, s)
        step += 1
        if code in (SGLD, ENTROPY):
            draw_noise(noise, step, member, keys[K_NOISE], s[19], s[20])
        update(code, P, G, a, b, e, noise, law[3], c, step)
    if code == ENTROPY:
        P[:] = a
    return step, first_fit


@njit(nogil=True)
def prepare_stage(stage, labels, rule, member, data, keys, s):
    """Labels and rule of a stage: 0 pre-training on random labels, 1 the training itself."""
    if stage == 1:
        labels[: data[2]] = data[1][: data[2]]
        return rule
    first = rule.copy()
    batch = rule[R_BATCH]
    random_labels(labels, member, keys[K_LABELS], s[19], s[20])
    first[R_STOP] = FIRST_FIT
    first[R_MAX_STEPS] = rule[R_PRETRAIN] * ((data[2] + batch - 1) // batch)
    return first


@njit(nogil=True, cache=True)
def train_members(P, first, count, net, law, data, rule, stop_loss, c, keys, s, out, watch):
    """Train members ``first .. first + count - 1``; row i of each array of ``out`` is member i's:
    (packed table, steps, first fit, errors, loss). ``watch`` as in :func:`fit`, a row a member."""
    x, _, size, everything, m = data
    tables, steps, fits, errors, losses = out
    scales, ratios, uniform, _ = law
    loss, labels = rule[R_LOSS], s[1]
    threshold = threshold_of(loss)
    for i in range(count):
        member = np.uint64(first + i)
        draw_parameters(P, net, scales, ratios, uniform, member, keys[K_INIT], s[0], s[19], s[20])
        for stage in range(0 if rule[R_PRETRAIN] > 0 else 1, 2):
            now = prepare_stage(stage, labels, rule, member, data, keys, s)
            mine = (watch[0][: watch[0].size * stage], watch[1][i], watch[2][i], watch[3][i])
            steps[i], fits[i] = fit(
                P, member + STAGE * np.uint64(1 - stage), net, law, data, labels, now, stop_loss,
                c, keys, s, mine,
            )  # fmt: skip
        errors[i] = count_errors(P, net, x, labels, size, threshold, True, s)
        losses[i] = mean_loss(P, net, x, labels, size, loss, s, s[17])
        function_of(P, net, everything, m, threshold, s, tables[i])


@njit(nogil=True, cache=True)
def guess_and_check(P, first, count, net, law, data, rule, keys, s, out):
    """Draw networks until one fits (Chiang et al. 2023); member i's draw j is network
    2^32 i + j of the initialisation stream. ``steps`` is the number of draws."""
    x, y, size, everything, m = data
    tables, steps, fits, errors, losses = out
    scales, ratios, uniform, _ = law
    threshold = threshold_of(rule[R_LOSS])
    for i in range(count):
        base = np.uint64(first + i) << np.uint64(32)
        steps[i], fits[i] = 0, -1
        while steps[i] < rule[R_MAX_STEPS]:
            member = base + np.uint64(steps[i])
            draw_parameters(
                P, net, scales, ratios, uniform, member, keys[K_INIT], s[0], s[19], s[20]
            )
            steps[i] += 1
            if count_errors(P, net, x, y, size, threshold, False, s) == 0:
                fits[i] = steps[i]
                break
        errors[i] = count_errors(P, net, x, y, size, threshold, True, s)
        losses[i] = mean_loss(P, net, x, y, size, rule[R_LOSS], s, s[17])
        function_of(P, net, everything, m, threshold, s, tables[i])
