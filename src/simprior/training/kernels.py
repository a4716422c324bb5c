"""Train members of an ensemble, one after the other, each inside the first-level cache (float32).

Layout of a parameter vector P: for hidden layer l the weights ``[pad4(fan_in)][pad16(width)]`` at
``off[l]``, then its bias row at ``boff[l]``; the output layer is one row of ``pad16(fan_in)`` at
``off[L]`` and its bias at ``boff[L]``. Padding is zero and stays zero (its gradient is zero), and
padded units output f(0) = 0. Activations and their derivatives, in whose place the deltas come,
are ``[rows][pad16(width)]`` at ``hoff[l]`` of H and D. Only columns up to a multiple of 8 are
computed.

Arguments come in tuples, made by :mod:`simprior.training.draws`:

* ``net``: geometry of the network; ``law``: scales, bias ratios, uniform, mask (1 for parameters
  that move, 0 for padding and masked weights), thresholds of masks;
* ``data``: x (flat padded inputs of the training set), y (labels 0/1), sizes, all inputs, m;
* ``rule``: int64 values at the ``R_*`` positions; ``c``: scalars of the optimiser, float64;
* ``keys``: uint64 keys at the ``K_*`` positions; ``s``: scratch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from simprior.network.compiled import RELU, activate_with_slope, choose
from simprior.network.losses import LOSSES
from simprior.numerics.compiled import inner, named
from simprior.training.products import (
    RECTIFY,
    STORE,
    TIMES,
    address,
    dot16,
    gemm,
    groups_of,
    transpose16,
    weighted_row,
)
from simprior.training.updates import (
    ENTROPY,
    SGLD,
    STAGE,
    apply_mask,
    draw_mask,
    draw_noise,
    draw_parameters,
    draw_weighted,
    has_masks,
    prepare,
    random_labels,
    shuffle,
    update,
)

# mypy: disable-error-code="no-untyped-def"


BLOCK_ROWS = 64
"""Examples that go through the network at a time."""
LOOK_ROWS = 16
"""Examples at a time where one misclassified is enough."""

_FAST = {"contract", "nsz"}
_f = np.float32
_ZERO = np.float32(0.0)
_ONE = np.ones(1, np.float32)

# Of one type each, as numba compiles a function once more for every plain number it is called with.
_FLOAT, _NONE = np.int64(4), np.int64(0)
_EVERY, _ANY = np.bool_(True), np.bool_(False)


@inner()
def forward(P, net, x, x_row, rows, H, D, z):
    """Pre-activations of the output, z[0:rows], from ``rows`` (a multiple of 4) inputs at ``x``."""
    widths, pads, off, boff, hoff, _, code = net
    depth = widths.size - 1
    how = RECTIFY if code == RELU else STORE
    p, source, source_row = address(P), x, x_row
    for l in range(depth):  # noqa: E741
        cols = pads[l + 1]
        target = address(H) + 4 * hoff[l + 1]
        gemm(
            source,
            source_row,
            _FLOAT,
            p + 4 * off[l],
            4 * cols,
            target,
            4 * cols,
            p + 4 * boff[l],
            _NONE,
            rows,
            groups_of(widths[l + 1]),
            widths[l],
            how,
            address(D) + 4 * hoff[l + 1],
        )
        if code != RELU:
            activate_with_slope(code, H, D, hoff[l + 1], rows * cols)
        source, source_row = target, 4 * cols
    bias = P[boff[depth]]
    for s in range(rows):
        z[s] = dot16(source + s * source_row, p + 4 * off[depth], pads[depth] // 16) + bias


@inner()
def transpose_weights(P, net, T):
    """Transposes of the weight matrices that deltas pass through, into T (layer l at toff[l])."""
    widths, pads, off, _, _, toff, _ = net
    for l in range(1, widths.size - 1):  # noqa: E741
        cols, back = pads[l + 1], pads[l]
        for i in range(0, back, 16):
            for j in range(0, cols, 16):
                source = address(P) + 4 * (off[l] + i * cols + j)
                transpose16(source, 4 * cols, address(T) + 4 * (toff[l] + j * back + i), 4 * back)


@inner()
def _clear_padding(D, start, rows, width, pad):
    """Zero the computed columns of padded units: their dL/dh is not meaningful."""
    end = 8 * groups_of(width)
    if end == width:
        return
    for s in range(rows):
        D[start + s * pad + width : start + s * pad + end] = _ZERO


@inner(fastmath=_FAST)
def _output_delta(P, net, rows, D, dz):
    """Delta of the last hidden layer, in the place of its slopes."""
    _, pads, off, _, hoff, _, _ = net
    depth = pads.size - 1
    pad, v, h = np.uint64(pads[depth]), np.uint64(off[depth]), np.uint64(hoff[depth])
    for s in range(np.uint64(rows)):
        g, a = dz[s], h + s * pad
        for i in range(pad):
            D[a + i] = g * P[v + i] * D[a + i]


@inner()
def backward(P, G, net, x, rows, H, D, T, dz, first):
    """Gradient of sum_s dz[s] z[s], after :func:`forward` of the same ``rows`` inputs at ``x``.

    It is written into G if these are the ``first`` examples, else added. D is overwritten.
    """
    widths, pads, off, boff, hoff, toff, _ = net
    depth = widths.size - 1
    g, deltas, one = address(G), address(D), address(_ONE)
    total = _ZERO if first else G[boff[depth]]
    for s in range(rows):
        total += dz[s]
    G[boff[depth]] = total
    place = g + 4 * off[depth]
    before = _NONE if first else place
    source = address(H) + 4 * hoff[depth] if depth else x
    groups = groups_of(widths[depth])
    weighted_row(address(dz), _FLOAT, source, 4 * pads[depth], place, before, groups, rows)
    if depth:
        _output_delta(P, net, rows, D, dz)
    for l in range(depth - 1, -1, -1):  # noqa: E741
        cols, back = pads[l + 1], pads[l]
        source = address(H) + 4 * hoff[l] if l else x
        delta = deltas + 4 * hoff[l + 1]
        groups = groups_of(widths[l + 1])
        place, bias = g + 4 * off[l], g + 4 * boff[l]
        gemm(
            source,
            _FLOAT,
            4 * back,
            delta,
            4 * cols,
            place,
            4 * cols,
            _NONE if first else place,
            4 * cols,
            (widths[l] + 3) // 4 * 4,
            groups,
            rows,
            np.int64(STORE),
            place,
        )
        weighted_row(one, _NONE, delta, 4 * cols, bias, _NONE if first else bias, groups, rows)
        if l:
            target = deltas + 4 * hoff[l]
            gemm(
                delta,
                4 * cols,
                _FLOAT,
                address(T) + 4 * toff[l],
                4 * back,
                target,
                4 * back,
                _NONE,
                _NONE,
                rows,
                groups_of(widths[l]),
                widths[l + 1],
                np.int64(TIMES),
                target,
            )
            _clear_padding(D, hoff[l], rows, widths[l], back)


_compiled = inner(fastmath=_FAST, error_model="numpy")


def _gradient_loop(derivative: Any, name: str) -> Any:
    def loop(z, y, dz, rows, scale):
        for s in range(np.uint64(rows)):
            dz[s] = scale * derivative(z[s], y[s])

    return _compiled(named(loop, f"gradient_loop_{name}"))


def _value_loop(value: Any, name: str) -> Any:
    def loop(z, y, out, rows):
        for s in range(np.uint64(rows)):
            out[s] = value(z[s], y[s])

    return _compiled(named(loop, f"value_loop_{name}"))


_COMPILED = {name: loss.compiled() for name, loss in LOSSES.items()}
_gradient_of = choose(
    [_gradient_loop(derivative, name) for name, (_, derivative) in _COMPILED.items()], "gradient_of"
)
_value_of = choose([_value_loop(value, name) for name, (value, _) in _COMPILED.items()], "value_of")
_THRESHOLDS = tuple(_f(loss.threshold) for loss in LOSSES.values())


@inner()
def loss_gradient(z, y, dz, rows, padded, scale, loss):
    """dz[s] = scale d loss / d z of ``rows`` samples with labels y (0 or 1); 0 up to ``padded``."""
    _gradient_of(loss, z, y, dz, rows, scale)
    for s in range(np.uint64(rows), np.uint64(padded)):
        dz[s] = _ZERO


@inner()
def loss_values(z, y, out, rows, loss):
    """Loss of each sample (float32), label y 0 or 1."""
    _value_of(loss, z, y, out, rows)


@inner()
def threshold_of(loss):
    """The class is 1 iff the output is above this."""
    return _THRESHOLDS[loss]


# mypy: disable-error-code="no-untyped-def"


FIRST_FIT, EPOCHS, LOSS, STEPS = range(4)
R_OPTIMIZER, R_LOSS, R_BATCH, R_STOP, R_STOP_N, R_MAX_STEPS, R_CHECK, R_ADVERSARIAL, R_PRETRAIN = (
    range(9)
)
K_INIT, K_ORDER, K_NOISE, K_LABELS = range(4)


@inner()
def outputs(P, net, x, rows, s, z):
    """Pre-activations z[0:rows] of the ``rows`` inputs in the flat padded array ``x``."""
    H, D, part = s[2], s[3], s[6]
    pad = net[1][0]
    for first in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - first)
        forward(P, net, address(x) + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, part)
        for i in range(n):
            z[first + i] = part[i]


@inner()
def _misclassified(z, y, rows, threshold):
    errors = 0
    for i in range(rows):
        one = z[i] > threshold
        if one != (y[i] > np.float32(0.5)) or z[i] != z[i]:
            errors += 1
    return errors


@inner()
def count_errors(P, net, x, y, rows, threshold, all_of_them, s):
    """Number of misclassified samples; stops after the first block with one unless told not to.

    A pre-activation that is not a number is an error whatever the label.
    """
    H, D, z = s[2], s[3], s[6]
    pad = net[1][0]
    errors, block = 0, BLOCK_ROWS if all_of_them else LOOK_ROWS
    for first in range(0, rows, block):
        n = min(block, rows - first)
        forward(P, net, address(x) + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, z)
        errors += _misclassified(z, y[first:], n, threshold)
        if errors and not all_of_them:
            return errors
    return errors


@inner()
def mean_loss(P, net, x, y, rows, loss, s, each):
    """Mean loss over all samples; ``each`` gets the loss of every one."""
    outputs(P, net, x, rows, s, each)
    loss_values(each, y, each, rows, loss)
    total = 0.0
    for i in range(rows):
        total += each[i]
    return total / rows


@inner()
def function_of(P, net, x, m, threshold, s, packed):
    """Truth table on the m inputs in ``x``, packed (input 0 in the top bit of word 0)."""
    H, D, z = s[2], s[3], s[6]
    pad = net[1][0]
    packed[:] = np.uint64(0)
    for first in range(0, m, BLOCK_ROWS):
        n = min(BLOCK_ROWS, m - first)
        forward(P, net, address(x) + 4 * first * pad, 4 * pad, (n + 3) // 4 * 4, H, D, z)
        for i in range(n):
            j = first + i
            if z[i] > threshold:
                packed[j >> 6] |= np.uint64(1) << np.uint64(63 - (j & 63))


@inner()
def _gather(x, y, pad, chosen, first, count, rows, xb, yb):
    """The ``count`` examples ``chosen[first:]`` into xb, with zeros up to ``rows``, and yb."""
    width = np.uint64(pad)
    for i in range(count):
        j = chosen[first + i]
        yb[i] = y[j]
        source, target = np.uint64(j * pad), np.uint64(i * pad)
        for k in range(width):
            xb[target + k] = x[source + k]
    for k in range(count * pad, rows * pad):
        xb[k] = _ZERO


@inner()
def gradient(P, G, net, x, y, chosen, first, count, loss, s):
    """Mean-loss gradient over ``chosen[first : first + count]`` into G; with ``chosen`` empty over
    all ``count`` examples as they lie. Returns how many of them are misclassified."""
    H, D, T, dz, z, xb, yb = s[2:9]
    pad = net[1][0]
    transpose_weights(P, net, T)
    scale, threshold = np.float32(1.0) / np.float32(count), threshold_of(loss)
    errors = 0
    for start in range(0, count, BLOCK_ROWS):
        n = min(BLOCK_ROWS, count - start)
        rows = (n + 3) // 4 * 4
        if chosen.size:
            _gather(x, y, pad, chosen, first + start, n, rows, xb, yb)
            inputs, labels = address(xb), yb
        else:
            inputs, labels = address(x) + 4 * start * pad, y[start:]
        forward(P, net, inputs, 4 * pad, rows, H, D, z)
        errors += _misclassified(z, labels, n, threshold)
        loss_gradient(z, labels, dz, n, rows, scale, loss)
        backward(P, G, net, inputs, rows, H, D, T, dz, start == 0)
    return errors


@inner()
def record(shown, net, data, y, loss, threshold, s, watch, at, step):
    """Fill the rows of ``watch`` from ``at`` whose step has come; returns the next row."""
    x, _, size, everything, m = data
    steps, tables, errors, losses = watch
    while at < steps.size and steps[at] <= step:
        function_of(shown, net, everything, m, threshold, s, tables[at])
        errors[at] = count_errors(shown, net, x, y, size, threshold, _EVERY, s)
        losses[at] = mean_loss(shown, net, x, y, size, loss, s, s[16])
        at += 1
    return at


@inner()
def _takes_all(rule, size):
    """Whether every step takes all examples, in their order."""
    return rule[R_BATCH] >= size and rule[R_ADVERSARIAL] == 0


@inner()
def take_minibatch(P, G, member, step, net, data, y, rule, keys, s):
    """Gradient of the minibatch of step ``step`` (from 0) into G; returns its misclassified."""
    perm, chosen, each, cumulative, buf, words = s[14:]
    x, size, batch, loss = data[0], data[2], rule[R_BATCH], rule[R_LOSS]
    if _takes_all(rule, size):
        return gradient(P, G, net, x, y, perm[:0], _NONE, size, loss, s)
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
    elif start == 0:
        shuffle(perm, step // epoch_steps, member, keys[K_ORDER], buf, words)
    return gradient(P, G, net, x, y, perm, start, count, loss, s)


@inner()
def fit(P, member, net, law, data, y, rule, stop_loss, c, keys, s, watch):
    """Train from P until the rule says stop; the trained parameters are left in P.

    Returns (steps, step of the first fit or -1). ``watch`` is (steps at which to record, tables,
    errors, losses): row k is filled at step ``watch[0][k]`` if it is reached.
    """
    G, a, b, e, noise = s[9:14]
    x, size = data[0], data[2]
    code, loss, stop = rule[R_OPTIMIZER], rule[R_LOSS], rule[R_STOP]
    threshold = threshold_of(loss)
    epoch_steps = (size + rule[R_BATCH] - 1) // rule[R_BATCH]
    check = rule[R_CHECK] if rule[R_CHECK] > 0 else epoch_steps
    masked = has_masks(law[4])
    prepare(code, P, a, b, e, c)
    shown = a if code == ENTROPY else P
    step, first_fit, at = np.int64(0), np.int64(-1), np.int64(0)
    seen = _takes_all(rule, size) and code != ENTROPY  # a gradient also counts the errors
    while True:
        last = step >= rule[R_MAX_STEPS]
        at = record(shown, net, data, y, loss, threshold, s, watch, at, step)
        needed = last or ((stop != STEPS or first_fit < 0) and step % check == 0)
        errors = 0
        if not last and (seen or not needed):
            errors = take_minibatch(P, G, member, step, net, data, y, rule, keys, s)
        elif needed:
            errors = count_errors(shown, net, x, y, size, threshold, _ANY, s)
        if needed:
            fits = errors == 0
            if fits and first_fit < 0:
                first_fit = np.int64(step)
            done = last or (fits and stop == FIRST_FIT)
            if fits and stop == EPOCHS:
                done = done or step >= first_fit + rule[R_STOP_N] * epoch_steps
            elif fits and stop == LOSS:
                done = done or mean_loss(shown, net, x, y, size, loss, s, s[16]) <= stop_loss
            if done:
                break
            if not seen:
                take_minibatch(P, G, member, step, net, data, y, rule, keys, s)
        if masked:
            apply_mask(G, law[3])
        step += 1
        if code in (SGLD, ENTROPY):
            draw_noise(noise, step, member, keys[K_NOISE], s[18], s[19])
        update(code, P, G, a, b, e, noise, law[3], c, step)
    if code == ENTROPY:
        P[:] = a
    return step, first_fit


@inner()
def prepare_stage(stage, labels, rule, member, data, keys, s):
    """Labels and rule of a stage: 0 pre-training on random labels, 1 the training itself."""
    if stage == 1:
        labels[: data[2]] = data[1][: data[2]]
        return rule
    first = rule.copy()
    batch = rule[R_BATCH]
    random_labels(labels, member, keys[K_LABELS], s[18], s[19])
    first[R_STOP] = FIRST_FIT
    first[R_MAX_STEPS] = rule[R_PRETRAIN] * ((data[2] + batch - 1) // batch)
    return first


@njit(nogil=True, cache=True)
def train_members(P, first, count, net, law, data, rule, stop_loss, c, keys, s, out, watch):
    """Train members ``first .. first + count - 1``; row i of each array of ``out`` is member i's:
    (packed table, steps, first fit, errors, loss). ``watch`` as in :func:`fit`, a row a member."""
    x, _, size, everything, m = data
    tables, steps, fits, errors, losses = out
    scales, ratios, uniform, mask, kept = law
    loss, labels = rule[R_LOSS], s[1]
    threshold = threshold_of(loss)
    for i in range(count):
        member = np.uint64(first + i)
        key = keys[K_INIT]
        draw_parameters(P, net, scales, ratios, uniform, kept, member, key, s[0], s[18], s[19])
        draw_mask(mask, net, kept, member, key, s[0], s[18], s[19])
        for stage in range(0 if rule[R_PRETRAIN] > 0 else 1, 2):
            now = prepare_stage(stage, labels, rule, member, data, keys, s)
            mine = (watch[0][: watch[0].size * stage], watch[1][i], watch[2][i], watch[3][i])
            steps[i], fits[i] = fit(
                P,
                member + STAGE * np.uint64(1 - stage),
                net,
                law,
                data,
                labels,
                now,
                stop_loss,
                c,
                keys,
                s,
                mine,
            )
        errors[i] = count_errors(P, net, x, labels, size, threshold, _EVERY, s)
        losses[i] = mean_loss(P, net, x, labels, size, loss, s, s[16])
        function_of(P, net, everything, m, threshold, s, tables[i])


@njit(nogil=True, cache=True)
def guess_and_check(P, first, count, net, law, data, rule, keys, s, out):
    """Draw networks until one fits (Chiang et al. 2023); member i's draw j is network
    2^32 i + j of the initialisation stream. ``steps`` is the number of draws."""
    x, y, size, everything, m = data
    tables, steps, fits, errors, losses = out
    scales, ratios, uniform, _, kept = law
    threshold = threshold_of(rule[R_LOSS])
    for i in range(count):
        base = np.uint64(first + i) << np.uint64(32)
        steps[i], fits[i] = 0, -1
        while steps[i] < rule[R_MAX_STEPS]:
            member = base + np.uint64(steps[i])
            key = keys[K_INIT]
            draw_parameters(P, net, scales, ratios, uniform, kept, member, key, s[0], s[18], s[19])
            steps[i] += 1
            if count_errors(P, net, x, y, size, threshold, _ANY, s) == 0:
                fits[i] = steps[i]
                break
        errors[i] = count_errors(P, net, x, y, size, threshold, _EVERY, s)
        losses[i] = mean_loss(P, net, x, y, size, rule[R_LOSS], s, s[16])
        function_of(P, net, everything, m, threshold, s, tables[i])
