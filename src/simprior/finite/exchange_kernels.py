"""Compiled part of replica exchange between nested sets of networks.

A *rung* is the prior of the networks whose shortfall U is at most a given level:

    U = sum over wrong inputs of sqrt|z| / sum over all inputs of sqrt|z|
        + share of inputs with z = 0 whose label is 1

so that U = 0 exactly where the network computes the function (an exact 0 is the output 0). The root
matters. With z^2 a network whose output towers above the others' on one input has a tiny U however
many of the others are wrong, and replicas are trapped there; with |z| it is better, not well.

One replica lives on each rung. A round draws the replica of the first rung anew, moves the others
by a sweep that leaves their law as it is, and lets neighbours change places: the replica of the
wider set moves down if it lies in the narrower one.

A sweep turns half of the units, one at a time: the weights into it, those out of it, or both, along
an ellipse through their present values and a fresh draw from the prior (Murray, Adams & MacKay
2010). The sums above are first taken without the unit, once a turn; every angle tried then adds it
again. With a bias of the output the unit is subtracted. Without one the sums are taken afresh,
since outputs may be exactly 0 there and rounding would give them a sign.

What a sweep adds up in rounding does not matter: U is that of a fresh forward pass, and a sweep
that ends outside its set by rounding is undone.

``net`` and ``state`` (pre, h, z) are laid out as in :class:`simprior.finite.particles.Machine`.
``work`` is made by :func:`scratch`, ``source`` (random numbers) by :func:`randomness`.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from simprior.network.compiled import RELU, activate
from simprior.numerics.compiled import BLOCK, UNCOUNTED, copy, copy_rows, fill, inner, words_block

_FAST = {"contract", "nsz", "reassoc"}
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_TURN = 2.0 * math.pi
_ANGLES = 50  # tries; the bracket has shrunk to rounding before
TURNED = 0.5  # share of the units that a sweep turns
_BOTH, _IN = 0.5, 0.75  # kinds of turns: both sides, the weights in alone, those out alone


def scratch(net: Any, m: int) -> tuple[np.ndarray, ...]:
    """Scratch arrays of one worker: feed, unit_pre, unit_h, z_new, rest, out_old, out_new, pre_new,
    h_new; float32."""
    widths, rows = net[1], net[3]
    up = max(int(widths.max()) if len(widths) else 1, 1)
    total = int(rows[-1])
    shapes = [(m,), (m,), (m,), (m,), (up, m), (up,), (up,), (total, m), (total, m)]
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


def randomness(net: Any, size: int, key: int) -> tuple[Any, ...]:
    """Random numbers of one run: room for the normals of a sweep, words, places in both, the key.

    ``size`` is the number of parameters. Numbers are functions of (key, time, rung, place).
    """
    fans, widths = net[0], net[1]
    above = [*widths[1:], 1]
    outward = sum(int(w) * int(up) for w, up in zip(widths, above, strict=False))
    need = size + outward + (len(widths) + 1) * (int(fans[-1]) + 1)
    normals = np.empty(-(-need // BLOCK) * BLOCK, np.float32)
    return normals, np.empty(BLOCK // 2, np.uint64), np.zeros(3, np.int64), np.uint64(key)


@inner(**UNCOUNTED)
def _begin(source, time, rung):
    """The numbers of one sweep (or one draw from the prior)."""
    normals, words, at, key = source
    blocks = normals.size // BLOCK
    fill(normals, blocks, words, words.view(np.uint32), 0, 2 * time, rung, key, _ONE, False)
    at[0], at[1], at[2] = 0, BLOCK, 0


@inner(**UNCOUNTED)
def _uniform_at(source, time, rung):
    """The next uniform number in (0, 1)."""
    _, words, at, key = source
    if at[1] == BLOCK:
        words_block(words, at[2], 2 * time + 1, rung, key)
        at[1] = 0
        at[2] += 1
    word = words.view(np.uint32)[at[1]]
    at[1] += 1
    return (np.float64(word) + 0.5) * 2.0**-32


@inner(**UNCOUNTED)
def _row_of_prior(source, fan, scale, bias_scale):
    """Where a fresh row of weights and its bias lie among the normals."""
    normals, at = source[0], source[2]
    first = at[0]
    for k in range(first, first + fan):
        normals[k] *= scale
    normals[first + fan] *= bias_scale
    at[0] = first + fan + 1
    return first


@inner(fastmath=_FAST, error_model="numpy", **UNCOUNTED)
def shortfall(z, sign, ones):
    """U of outputs z (m,): ``sign`` (m,) is +-1; ``ones`` (m,) 1 where the label is 1, or empty
    where outputs are never exactly 0."""
    missed, wrong, total = _ZERO, _ZERO, _ZERO
    for j in range(ones.size):
        missed += ones[j] if z[j] == _ZERO else _ZERO
    for j in range(z.size):
        value = z[j] * sign[j]
        root = np.sqrt(abs(value))
        wrong += root if value < _ZERO else _ZERO
        total += root
    missed /= np.float32(z.size)
    return missed if total == _ZERO else missed + wrong / total


@inner(fastmath=_FAST, **UNCOUNTED)
def _weigh(row, start, fan, h, first, out):
    """out = the unit with weights row[start : start + fan] and the bias after them."""
    m = out.size
    for j in range(m):
        out[j] = row[start + fan]
    k = 0
    while k + 1 < fan:
        a, b = row[start + k], row[start + k + 1]
        for j in range(m):
            out[j] += a * h[first + k, j] + b * h[first + k + 1, j]
        k += 2
    if k < fan:
        for j in range(m):
            out[j] += row[start + k] * h[first + k, j]


@inner(**UNCOUNTED)
def _hidden(p, net, layer, pre, h):
    """Fill the rows of one hidden layer."""
    fans, widths, offsets, rows, _, _, code = net
    fan, m, g = fans[layer], h.shape[1], rows[layer + 1]
    for i in range(widths[layer]):
        _weigh(p, offsets[layer] + i * (fan + 1), fan, h, rows[layer], pre[g + i])
    _activation(code, pre, h, g, widths[layer], m)


@inner(**UNCOUNTED)
def _activation(code, pre, h, first, count, m):
    copy_rows(pre, h, first, first + count)
    activate(code, h.reshape(-1), first * m, count * m)


@inner(**UNCOUNTED)
def evaluate(p, net, state):
    """Fill pre, h and z of the network with parameters p."""
    fans, widths, offsets, rows, _, _, _ = net
    pre, h, z = state
    for layer in range(widths.size):
        _hidden(p, net, layer, pre, h)
    last = widths.size
    _weigh(p, offsets[last], fans[last], h, rows[last], z)


@inner(fastmath=_FAST, **UNCOUNTED)
def _combine(c, a, s, b, out):
    for j in range(out.size):
        out[j] = c * a[j] + s * b[j]


@inner(fastmath=_FAST, **UNCOUNTED)
def _without(pre, first, count, weights, unit, rest):
    """rest = ``count`` rows of pre from ``first``, less what the unit gives them."""
    for i in range(count):
        w = weights[i]
        for j in range(unit.size):
            rest[i, j] = pre[first + i, j] - w * unit[j]


@inner(fastmath=_FAST, **UNCOUNTED)
def _with(rest, count, weights, unit, pre, first):
    """The inverse of :func:`_without`."""
    for i in range(count):
        w = weights[i]
        for j in range(unit.size):
            pre[first + i, j] = rest[i, j] + w * unit[j]


@inner(fastmath=_FAST, **UNCOUNTED)
def _through_relu(rest, count, weights, unit, p, start, z):
    """Outputs of a last relu layer with the unit below it added to ``rest``."""
    m = z.size
    for j in range(m):
        z[j] = p[start + count]
    i = 0
    while i + 1 < count:
        w0, w1, v0, v1 = weights[i], weights[i + 1], p[start + i], p[start + i + 1]
        for j in range(m):
            z[j] += v0 * max(rest[i, j] + w0 * unit[j], _ZERO) + v1 * max(
                rest[i + 1, j] + w1 * unit[j], _ZERO
            )
        i += 2
    if i < count:
        w0, v0 = weights[i], p[start + i]
        for j in range(m):
            z[j] += v0 * max(rest[i, j] + w0 * unit[j], _ZERO)


@inner(**UNCOUNTED)
def _remainder(p, net, state, work, layer, unit, up, exact):
    """Fill ``rest`` (the sums above without the unit) and ``out_old`` (its weights out)."""
    fans, widths, offsets, rows, _, _, _ = net
    pre, h, z = state
    unit_h, rest, out_old = work[2], work[4], work[5]
    fan, g = fans[layer + 1], rows[layer + 1] + unit
    for i in range(up):
        out_old[i] = p[offsets[layer + 1] + i * (fan + 1) + unit]
    if exact:
        copy(h[g], unit_h)
        h[g, :] = _ZERO
        for i in range(up):
            _weigh(p, offsets[layer + 1] + i * (fan + 1), fan, h, rows[layer + 1], rest[i])
        copy(unit_h, h[g])
    elif layer + 1 == widths.size:
        _combine(_ONE, z, -out_old[0], h[g], rest[0])
    else:
        _without(pre, rows[layer + 2], up, out_old, h[g], rest)


@inner(**UNCOUNTED)
def _outputs(p, net, work, layer, up):
    """Outputs z_new with the unit's new activations unit_h and weights out_new."""
    fans, widths, offsets, rows, _, _, code = net
    _, _, unit_h, z_new, rest, _, out_new, pre_new, h_new = work
    depth = widths.size
    if layer + 1 == depth:
        _combine(_ONE, rest[0], out_new[0], unit_h, z_new)
        return
    if layer + 2 == depth and code == RELU:
        _through_relu(rest, up, out_new, unit_h, p, offsets[depth], z_new)
        return
    g = rows[layer + 2]
    _with(rest, up, out_new, unit_h, pre_new, g)
    _activation(code, pre_new, h_new, g, up, z_new.size)
    for higher in range(layer + 2, depth):
        _hidden(p, net, higher, pre_new, h_new)
    _weigh(p, offsets[depth], fans[depth], h_new, rows[depth], z_new)


@inner(**UNCOUNTED)
def _keep(p, net, state, work, layer, unit, up, turn_in, turn_out, direction, c, s, normals):
    """Make the angle tried last the present state."""
    fans, widths, offsets, rows, _, _, _ = net
    pre, h, z = state
    _, unit_pre, unit_h, z_new, rest, _, out_new, pre_new, h_new = work
    g, fan = rows[layer + 1] + unit, fans[layer]
    copy(z_new, z)
    if layer + 1 < widths.size:
        _with(rest, up, out_new, unit_h, pre, rows[layer + 2])
    if layer + 2 < widths.size:
        copy_rows(h_new, h, rows[layer + 2], h.shape[0])
        copy_rows(pre_new, pre, rows[layer + 3], pre.shape[0])
    if turn_in:
        copy(unit_pre, pre[g])
        copy(unit_h, h[g])
        start = offsets[layer] + unit * (fan + 1)
        for k in range(fan + 1):
            p[start + k] = c * p[start + k] + s * normals[direction + k]
    if turn_out:
        for i in range(up):
            p[offsets[layer + 1] + i * (fans[layer + 1] + 1) + unit] = out_new[i]


@inner(**UNCOUNTED)
def _turn_unit(p, net, state, work, target, source, level, when, layer, unit, turn_in, turn_out):
    """Turn the weights into and out of one hidden unit."""
    fans, widths, _, rows, scales, biases, code = net
    pre, h, z = state
    feed, unit_pre, unit_h, z_new, _, out_old, out_new, _, _ = work
    normals, at = source[0], source[2]
    up = 1 if layer + 1 == widths.size else widths[layer + 1]
    g, fan = rows[layer + 1] + unit, fans[layer]
    direction = _row_of_prior(source, fan, scales[layer], biases[layer])
    outward = at[0]
    at[0] += up
    if turn_in:
        _weigh(normals, direction, fan, h, rows[layer], feed)
    _remainder(p, net, state, work, layer, unit, up, target[1].size > 0)
    copy(h[g], unit_h)
    copy(out_old[:up], out_new[:up])
    angle = _TURN * _uniform_at(source, when[0], when[1])
    low, high = angle - _TURN, angle
    for tries in range(1, _ANGLES + 1):
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        if turn_in:
            _combine(c, pre[g], s, feed, unit_pre)
            copy(unit_pre, unit_h)
            activate(code, unit_h, 0, z.size)
        if turn_out:
            for i in range(up):
                out_new[i] = c * out_old[i] + s * scales[layer + 1] * normals[outward + i]
        _outputs(p, net, work, layer, up)
        if shortfall(z_new, target[0], target[1]) <= level:
            _keep(p, net, state, work, layer, unit, up, turn_in, turn_out, direction, c, s, normals)
            return tries
        if angle < 0.0:
            low = angle
        else:
            high = angle
        angle = low + (high - low) * _uniform_at(source, when[0], when[1])
    return _ANGLES


@inner(**UNCOUNTED)
def _turn_output(p, net, state, work, target, source, level, when):
    """Turn the weights and the bias of the output."""
    fans, widths, offsets, rows, scales, biases, _ = net
    _, h, z = state
    feed, z_new, normals = work[0], work[3], source[0]
    last = widths.size
    fan, start = fans[last], offsets[last]
    direction = _row_of_prior(source, fan, scales[last], biases[last])
    _weigh(normals, direction, fan, h, rows[last], feed)
    angle = _TURN * _uniform_at(source, when[0], when[1])
    low, high = angle - _TURN, angle
    for tries in range(1, _ANGLES + 1):
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        _combine(c, z, s, feed, z_new)
        if shortfall(z_new, target[0], target[1]) <= level:
            copy(z_new, z)
            for k in range(fan + 1):
                p[start + k] = c * p[start + k] + s * normals[direction + k]
            return tries
        if angle < 0.0:
            low = angle
        else:
            high = angle
        angle = low + (high - low) * _uniform_at(source, when[0], when[1])
    return _ANGLES


@inner(**UNCOUNTED)
def sweep(p, net, state, work, target, source, level, when):
    """Turn a share ``TURNED`` of the units, and the output after each layer, within U <= level;
    returns the number of angles tried.

    ``state`` must be that of p. ``when`` is (time, rung), ``target`` (signs, ones).
    """
    widths, rows, code = net[1], net[3], net[6]
    depth = widths.size
    _begin(source, when[0], when[1])
    tries = _turn_output(p, net, state, work, target, source, level, when)
    for layer in range(depth):
        for unit in range(widths[layer]):
            if _uniform_at(source, when[0], when[1]) >= TURNED:
                continue
            kind = _uniform_at(source, when[0], when[1])
            turn_in = kind < _IN or layer + 1 == depth
            turn_out = kind < _BOTH or kind >= _IN
            tries += _turn_unit(
                p, net, state, work, target, source, level, when, layer, unit, turn_in, turn_out
            )
        if layer + 1 < depth:
            _activation(code, state[0], state[1], rows[layer + 2], widths[layer + 1], state[2].size)
        tries += _turn_output(p, net, state, work, target, source, level, when)
    return tries


@inner(**UNCOUNTED)
def from_prior(p, net, source, when):
    """Fill p with a draw from the prior."""
    fans, widths, offsets, _, scales, biases, _ = net
    _begin(source, when[0], when[1])
    normals = source[0]
    for layer in range(widths.size + 1):
        fan = fans[layer]
        for i in range(1 if layer == widths.size else widths[layer]):
            first = _row_of_prior(source, fan, scales[layer], biases[layer])
            start = offsets[layer] + i * (fan + 1)
            copy(normals[first : first + fan + 1], p[start : start + fan + 1])


@inner(**UNCOUNTED)
def _step(p, value, level, machine, when, sweeps):
    """Move one replica on its rung; returns its U and the number of angles tried."""
    net, state, work, target, source, spare = machine
    copy(p, spare)
    evaluate(p, net, state)
    tries = 0
    for number in range(sweeps):
        moment = (when[0] * sweeps + number, when[1])
        tries += sweep(p, net, state, work, target, source, level, moment)
    evaluate(p, net, state)
    found = shortfall(state[2], target[0], target[1])
    if found <= level:
        return found, tries
    copy(spare, p)
    return value, tries


@inner(**UNCOUNTED)
def _exchange(params, values, levels, heading, low, high, odd, spare):
    """Let neighbours change places: pairs (k, k + 1), k of one parity."""
    for k in range(low + (low + odd) % 2, high - 1, 2):
        if values[k] <= levels[k + 1]:
            copy(params[k], spare)
            copy(params[k + 1], params[k])
            copy(spare, params[k + 1])
            values[k], values[k + 1] = values[k + 1], values[k]
            heading[k], heading[k + 1] = heading[k + 1], heading[k]


@inner(**UNCOUNTED)
def _count_trips(heading, low, high, trips):
    """Note who is at an end: 1 has been on the first rung last, -1 on the last one, 0 on neither.

    ``trips`` (2,): journeys down, journeys up.
    """
    if heading[high - 1] == 1:
        trips[0] += 1
    heading[high - 1] = -1
    if heading[low] == -1:
        trips[1] += 1
    heading[low] = 1


@njit(nogil=True, cache=True)
def play(replicas, window, clock, machine, sweeps, trace, trips):
    """Rounds of all replicas of the rungs window[0] ... window[1] - 1, a row of ``trace`` each.

    ``replicas`` is (params (rungs, P), their U (rungs,), levels (rungs,), the first of them inf,
    heading (rungs,), see :func:`_count_trips`). ``clock`` (1,) counts rounds. ``machine`` is (net,
    state, work, target, source, spare). ``trace`` (rounds, rungs) takes the U before neighbours
    change places. Returns the number of angles tried.
    """
    params, values, levels, heading = replicas
    net, state, _, target, source, spare = machine
    low, high = window
    tries = 0
    for row in range(trace.shape[0]):
        time = clock[0]
        for k in range(low, high):
            if k == 0:
                from_prior(params[k], net, source, (time * sweeps, k))
                evaluate(params[k], net, state)
                values[k] = shortfall(state[2], target[0], target[1])
            else:
                values[k], more = _step(params[k], values[k], levels[k], machine, (time, k), sweeps)
                tries += more
            trace[row, k] = values[k]
        _count_trips(heading, low, high, trips)
        _exchange(params, values, levels, heading, low, high, time % 2, spare)
        clock[0] += 1
    return tries
