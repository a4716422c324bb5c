"""Compiled part of annealing a network's parameters towards one function.

A particle is one network: a row of float32 parameters, layer by layer, unit by unit, the weights
into the unit and then its bias (scales included). The energy is (2V)^p, where

    V = sum over wrong inputs of |z| / sum over all inputs of |z|  +  share of inputs with z = 0
        whose label is 1

so that V = 0 exactly where the signs of z are those of the function (an exact 0 is the output 0).
An update leaves prior(w) exp(-lambda (2V)^p) invariant, and lambda may rise from update to update
of a sweep: that costs nothing, and weighs the steps with the energies of all that the sweep passes
through. An update moves one unit along an ellipse through the present weights and a fresh draw from
the prior (Murray, Adams & MacKay 2010). The first angle is uniform on the whole circle, so a unit
is drawn anew wherever it is free to be.

Only what hangs on the unit that moves is computed again: each angle tried costs two products a
unit above and input. Where outputs may be exactly 0 (no bias of the output) a difference is not
good enough, since V has no scale and rounding would pass for a function: the sums above are then
taken again without the unit (:func:`_take_out`).

Arrays of one worker, m inputs, all float32:

* ``h`` (d + all hidden units, m): inputs, then activations, layer by layer. While units of a layer
  move, those of the layer above may be old; they are brought up to date after the layer;
* ``pre``: pre-activations in the same rows (those of the inputs are not used);
* ``z`` (m,): outputs.

Random numbers are functions of (key, step, particle, position): see ``Dice``, made by ``dice``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.finite.vectors import add_rows, affine, rectified
from simprior.network.compiled import RELU, activate
from simprior.numerics.compiled import (
    BLOCK,
    UNCOUNTED,
    copy,
    copy_rows,
    fill,
    inner,
    log_f32,
    sincos_turn_f32,
    words_block,
)

_FAST = {"contract", "nsz", "reassoc"}
_INLINED = {"forceinline": True, **UNCOUNTED}  # a call pushes all arrays given, up to 250 words
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_MAX_TRIES = 60  # a bracket of 2 pi has shrunk to rounding before
INCOMING, OUTGOING = 0.2, 0.2  # shares of first-layer updates that move one side only
DEEP_OUTGOING = 0.7  # share of deeper updates that move the outgoing weights, too
_OUTPUT = 2  # units of the last layer between two updates of the output


@inner(fastmath=_FAST, error_model="numpy", **UNCOUNTED)
def violation(z, sign, ones):
    """V of outputs z (m,): ``sign`` (m,) is +-1, ``ones`` (m,) 1 where the label is 1.

    ``ones`` is empty where an exact 0 has probability 0 (a bias of the output).
    """
    wrong, total = _ZERO, _ZERO
    for j in range(z.size):
        value = z[j]
        wrong += max(-value * sign[j], _ZERO)
        total += abs(value)
    part = _ZERO
    for j in range(ones.size):
        part += ones[j] if z[j] == _ZERO else _ZERO
    part /= np.float32(z.size)
    return part if total == _ZERO else part + wrong / total


@inner(**UNCOUNTED)
def _layer(p, net, layer, pre, h):
    """Pre-activations and activations of hidden layer ``layer`` (0: the first)."""
    fans, widths, offsets, rows, _, _, code = net
    m = h.shape[1]
    for i in range(widths[layer]):
        g = rows[layer + 1] + i
        start = offsets[layer] + i * (fans[layer] + 1)
        affine(p, start, fans[layer], h, rows[layer], pre[g])
        copy(pre[g], h[g])
        activate(code, h[g], 0, m)


@inner(**UNCOUNTED)
def forward(p, net, pre, h, z):
    """Fill pre, h and z of the network with parameters p."""
    fans, widths, offsets, rows, _, _, _ = net
    depth = widths.size
    for layer in range(depth):
        _layer(p, net, layer, pre, h)
    affine(p, offsets[depth], fans[depth], h, rows[depth], z)


# Random numbers: ``dice`` = (normals, words, buffer, at, key). ``at`` holds the place in
# ``normals``, the next block of normals, the place in ``words``, the next block of words, the step.


@inner(**UNCOUNTED)
def _roll(dice, step, particle):
    """Start the stream of one particle at one step."""
    normals, _, _, at, _ = dice
    at[0], at[1], at[2], at[3], at[4], at[5] = normals.size, 0, BLOCK, 0, step, particle


@inner(**_INLINED)
def _normals(dice, count):
    """Where ``count`` fresh standard normals begin in ``normals``."""
    normals, _, buffer, at, key = dice
    if at[0] + count > normals.size:
        blocks = normals.size // BLOCK
        fill(
            normals, blocks, buffer, buffer.view(np.uint32), at[1], 2 * at[4], at[5], key, _ONE,
            False,
        )  # fmt: skip
        at[0] = 0
        at[1] += blocks
    found = at[0]
    at[0] += count
    return found


@inner(**_INLINED)
def _uniform(dice):
    """A uniform number in (0, 1)."""
    _, words, _, at, key = dice
    if at[2] >= BLOCK:
        words_block(words, at[3], 2 * at[4] + 1, at[5], key)
        at[2] = 0
        at[3] += 1
    word = words.view(np.uint32)[at[2]]
    at[2] += 1
    return (np.float64(word) + 0.5) * 2.0**-32


@inner(**_INLINED)
def _fresh(dice, out, fan, scale, bias_scale):
    """A row of weights and its bias from the prior."""
    normals = dice[0]
    start = _normals(dice, fan + 1)
    for k in range(fan):
        out[k] = scale * normals[start + k]
    out[fan] = bias_scale * normals[start + fan]


@inner(**_INLINED)
def _energy(v, power):
    """(2V)^p, float64."""
    twice = 2.0 * np.float64(v)
    return twice * twice * twice if power == 3.0 else twice**power


@inner(**_INLINED)
def threshold(energy, strength, power, dice):
    """Largest V of the slice: strength times the energy may rise by an exponential variable."""
    if strength <= 0.0:
        return np.float32(np.inf)
    rise = np.float64(log_f32(np.float32(_uniform(dice)))) / strength
    return np.float32(0.5 * (energy - rise) ** (1.0 / power))


@inner(**_INLINED)
def _on_circle(turns):
    """(sin, cos) of an angle of -1 to 1 turns."""
    return sincos_turn_f32(np.uint32(np.int64(turns * 2.0**32) & 0xFFFFFFFF))


@inner(fastmath=_FAST, **UNCOUNTED)
def _mix(c, a, s, b, out):
    for j in range(out.size):
        out[j] = c * a[j] + s * b[j]


@inner(fastmath=_FAST, **UNCOUNTED)
def _add(z, w_new, new, w_old, old, out):
    """out = z + w_new new - w_old old."""
    for j in range(out.size):
        out[j] = z[j] + w_new * new[j] - w_old * old[j]


@inner(**UNCOUNTED)
def _activate_rows(code, h, first, count):
    activate(code, h.reshape(-1), first * h.shape[1], count * h.shape[1])


@inner(**_INLINED)
def _above(p, net, layer, state, moved, fresh, z):
    """Outputs where one unit of ``layer`` moved; the layers above it are left in ``fresh``."""
    fans, widths, offsets, rows, _, _, code = net
    pre = state[0]
    pre_new, h_new = fresh
    new, old, w_new, w_old = moved
    depth, above = widths.size, layer + 1
    width, g = widths[above], rows[layer + 2]
    if above == depth - 1 and code == RELU:
        rectified(pre, g, w_new, new, w_old, old, width, p, offsets[depth], z)
        return
    copy_rows(pre, pre_new, g, g + width)
    add_rows(pre_new, g, w_new, new, w_old, old, width)
    copy_rows(pre_new, h_new, g, g + width)
    _activate_rows(code, h_new, g, width)
    for higher in range(above + 1, depth):
        _layer(p, net, higher, pre_new, h_new)
    affine(p, offsets[depth], fans[depth], h_new, rows[depth], z)


@inner(**_INLINED)
def _keep_above(net, layer, state, moved, fresh):
    """Pre-activations above a unit of ``layer`` after its move was accepted.

    ``h`` of the layer above is left for :func:`_refresh` where it is the last one.
    """
    _, widths, _, rows, _, _, _ = net
    pre, h, _ = state
    new, old, w_new, w_old = moved
    g = rows[layer + 2]
    if layer + 2 == widths.size:
        add_rows(pre, g, w_new, new, w_old, old, widths[layer + 1])
        return
    copy_rows(fresh[0], pre, g, pre.shape[0])
    copy_rows(fresh[1], h, g, pre.shape[0])


@inner(**UNCOUNTED)
def _refresh(net, layer, state):
    """Activations of hidden layer ``layer`` from its pre-activations."""
    _, widths, _, rows, _, _, code = net
    pre, h, _ = state
    g, width = rows[layer + 1], widths[layer]
    copy_rows(pre, h, g, g + width)
    _activate_rows(code, h, g, width)


@inner(**_INLINED)
def _direction(p, net, h, work, dice, layer, unit, incoming, outgoing):
    """What a unit may turn towards: fresh weights in and out, and what the former feed it.

    The weights out of it as they are go to ``out_old``, ``out_now`` and ``out_less`` (by which the
    sums above contain it). Returns their number.
    """
    fans, widths, offsets, rows, scales, bias_scales, _ = net
    q, _, _, _, nu, out_old, out_nu, out_now, out_less, _, _ = work
    up = 1 if layer == widths.size - 1 else widths[layer + 1]
    start, step = offsets[layer + 1] + unit, fans[layer + 1] + 1
    if incoming:
        _fresh(dice, nu, fans[layer], scales[layer], bias_scales[layer])
        affine(nu, 0, fans[layer], h, rows[layer], q)
    for i in range(up):
        out_old[i] = p[start + i * step]
        out_now[i] = out_old[i]
        out_less[i] = out_old[i]
    if outgoing:
        first = _normals(dice, up)
        for i in range(up):
            out_nu[i] = scales[layer + 1] * dice[0][first + i]
    return up


@inner(**_INLINED)
def _accept(p, net, state, work, layer, unit, incoming, outgoing, up, c, s):
    """The unit as it was tried last, at the angle with cosine c and sine s."""
    fans, widths, offsets, rows, _, _, _ = net
    pre, h, z = state
    _, hu, pu, z_new, nu, _, _, out_now, out_less, pre_new, h_new = work
    fan, g = fans[layer], rows[layer + 1] + unit
    if layer + 1 < widths.size:
        _keep_above(net, layer, state, (hu, h[g], out_now, out_less), (pre_new, h_new))
    if incoming:
        start = offsets[layer] + unit * (fan + 1)
        for k in range(fan + 1):
            p[start + k] = c * p[start + k] + s * nu[k]
        copy(pu, pre[g])
        copy(hu, h[g])
    if outgoing:
        start, step = offsets[layer + 1] + unit, fans[layer + 1] + 1
        for i in range(up):
            p[start + i * step] = out_now[i]
    copy(z_new, z)


@inner(**_INLINED)
def _try(p, net, state, work, layer, unit, incoming, outgoing, up, c, s):
    """Outputs with the unit at the angle with cosine c and sine s."""
    rows, code = net[3], net[6]
    pre, h, z = state
    q, hu, pu, z_new, _, out_old, out_nu, out_now, out_less, pre_new, h_new = work
    g = rows[layer + 1] + unit
    if incoming:
        _mix(c, pre[g], s, q, pu)
        copy(pu, hu)
        activate(code, hu, 0, z.size)
    else:
        copy(h[g], hu)
    if outgoing:
        for i in range(up):
            out_now[i] = c * out_old[i] + s * out_nu[i]
    if layer + 1 == net[1].size:
        _add(z, out_now[0], hu, out_less[0], h[g], z_new)
    else:
        _above(p, net, layer, state, (hu, h[g], out_now, out_less), (pre_new, h_new), z_new)


@inner(**UNCOUNTED)
def _take_out(p, net, state, work, layer, unit, up):
    """The sums above without the unit, exactly; ``out_less`` becomes 0."""
    fans, _, offsets, rows, _, _, _ = net
    pre, h, z = state
    hu, out_less = work[1], work[8]
    g, fan = rows[layer + 1] + unit, fans[layer + 1]
    copy(h[g], hu)
    h[g, :] = _ZERO
    for i in range(up):
        start = offsets[layer + 1] + i * (fan + 1)
        if layer + 2 == fans.size:
            affine(p, start, fan, h, rows[layer + 1], z)
        else:
            affine(p, start, fan, h, rows[layer + 1], pre[rows[layer + 2] + i])
        out_less[i] = _ZERO
    copy(hu, h[g])


@inner(**UNCOUNTED)
def _put_back(net, state, work, layer, unit, up):
    """Undo :func:`_take_out`: the unit stays as it was."""
    rows = net[3]
    pre, h, z = state
    out_old, out_less = work[5], work[8]
    old = h[rows[layer + 1] + unit]
    if layer + 1 == net[1].size:
        _add(z, out_old[0], old, out_less[0], old, z)
    else:
        add_rows(pre, rows[layer + 2], out_old, old, out_less, old, up)


@inner(**_INLINED)
def _update(p, net, state, work, labels, dice, v, limit, layer, unit, incoming, outgoing):
    """Move the weights into and out of one hidden unit; returns V and the number of tries."""
    up = _direction(p, net, state[1], work, dice, layer, unit, incoming, outgoing)
    exact = labels[1].size > 0
    if exact:
        _take_out(p, net, state, work, layer, unit, up)
    angle = _uniform(dice)
    low, high = angle - 1.0, angle
    for tries in range(1, _MAX_TRIES + 1):
        s, c = _on_circle(angle)
        _try(p, net, state, work, layer, unit, incoming, outgoing, up, c, s)
        v_new = violation(work[3], labels[0], labels[1])
        if v_new <= limit:
            _accept(p, net, state, work, layer, unit, incoming, outgoing, up, c, s)
            return v_new, tries
        if angle < 0.0:
            low = angle
        else:
            high = angle
        angle = low + (high - low) * _uniform(dice)
    if exact:
        _put_back(net, state, work, layer, unit, up)
    return v, _MAX_TRIES


@inner(**UNCOUNTED)
def _update_output(p, net, state, work, labels, dice, v, limit):
    """Move the weights and the bias of the output; returns V and the number of tries."""
    fans, _, offsets, rows, scales, bias_scales, _ = net
    _, h, z = state
    q, z_new, nu = work[0], work[3], work[4]
    depth = fans.size - 1
    fan, start = fans[depth], offsets[depth]
    _fresh(dice, nu, fan, scales[depth], bias_scales[depth])
    affine(nu, 0, fan, h, rows[depth], q)
    angle = _uniform(dice)
    low, high = angle - 1.0, angle
    for tries in range(1, _MAX_TRIES + 1):
        s, c = _on_circle(angle)
        _mix(c, z, s, q, z_new)
        v_new = violation(z_new, labels[0], labels[1])
        if v_new <= limit:
            for k in range(fan + 1):
                p[start + k] = c * p[start + k] + s * nu[k]
            copy(z_new, z)
            return v_new, tries
        if angle < 0.0:
            low = angle
        else:
            high = angle
        angle = low + (high - low) * _uniform(dice)
    return v, _MAX_TRIES


def updates(hidden):
    """Number of updates of a sweep of hidden layers of these widths."""
    return sum(hidden) + 3 + (hidden[-1] // _OUTPUT if len(hidden) else 0)


@inner(**_INLINED)
def _climb(v, at, path, power, gain, dice):
    """Go to lambda ``path[0, at]``: the largest V of the slice there.

    The log weight of the step in lambda, ``path[1, at]``, is added to ``gain`` (1,).
    """
    energy = _energy(v, power)
    gain[0] -= path[1, at] * energy
    return threshold(energy, path[0, at], power, dice)


@inner(**_INLINED)
def _sweep(p, net, state, work, labels, dice, v, path, power, gain):
    """Update every weight once or more along ``path`` (2, updates): V and the number of tries."""
    widths = net[1]
    limit = _climb(v, 0, path, power, gain, dice)
    v, tries = _update_output(p, net, state, work, labels, dice, v, limit)
    at = 1
    for layer in range(widths.size):
        last = layer == widths.size - 1
        for unit in range(widths[layer]):
            incoming, outgoing = True, True
            kind = _uniform(dice)
            if layer > 0:
                outgoing = kind < DEEP_OUTGOING
            elif kind < INCOMING:
                outgoing = False
            elif kind < INCOMING + OUTGOING:
                incoming = False
            limit = _climb(v, at, path, power, gain, dice)
            v, more = _update(
                p, net, state, work, labels, dice, v, limit, layer, unit, incoming, outgoing
            )
            tries += more
            at += 1
            if last and unit % _OUTPUT == _OUTPUT - 1:
                limit = _climb(v, at, path, power, gain, dice)
                v, more = _update_output(p, net, state, work, labels, dice, v, limit)
                tries += more
                at += 1
        if not last:
            _refresh(net, layer + 1, state)
        if layer == 0 or last:
            limit = _climb(v, at, path, power, gain, dice)
            v, more = _update_output(p, net, state, work, labels, dice, v, limit)
            tries += more
            at += 1
    while at < path.shape[1]:
        limit = _climb(v, at, path, power, gain, dice)
        v, more = _update_output(p, net, state, work, labels, dice, v, limit)
        tries += more
        at += 1
    return v, tries


@njit(nogil=True, cache=True)
def draw(params, net, state, labels, dice, values):
    """Fill ``params`` (N, P) with draws from the prior, ``values`` (N,) with their V."""
    fans, widths, offsets, _, scales, bias_scales, _ = net
    pre, h, z = state
    depth = widths.size
    for particle in range(params.shape[0]):
        p = params[particle]
        _roll(dice, 0, particle)
        for layer in range(depth + 1):
            units = 1 if layer == depth else widths[layer]
            fan = fans[layer]
            for i in range(units):
                start = offsets[layer] + i * (fan + 1)
                _fresh(dice, p[start : start + fan + 1], fan, scales[layer], bias_scales[layer])
        forward(p, net, pre, h, z)
        values[particle] = violation(z, labels[0], labels[1])


@njit(nogil=True, cache=True)
def move(params, net, state, work, labels, dice, values, step, path, power, gains, anew):
    """Sweeps of every particle along ``path`` (sweeps, 2, updates).

    ``values`` (N,) becomes their V, with ``anew`` that of a fresh forward pass. What sweeps add up
    in rounding ends with each call, as each begins with one. ``gains`` (N,) are the log weights of
    the steps in lambda. Returns the number of tries.
    """
    pre, h, z = state
    tries, gain = 0, np.zeros(1)
    for particle in range(params.shape[0]):
        p = params[particle]
        _roll(dice, step, particle)
        forward(p, net, pre, h, z)
        v = violation(z, labels[0], labels[1])
        gain[0] = 0.0
        for k in range(path.shape[0]):
            v, more = _sweep(p, net, state, work, labels, dice, v, path[k], power, gain)
            tries += more
        gains[particle] = gain[0]
        if anew:
            forward(p, net, pre, h, z)
            v = violation(z, labels[0], labels[1])
        values[particle] = v
    return tries


@njit(nogil=True, cache=True)
def classify(params, net, state, tables):
    """Fill ``tables`` (N, k) uint8 with the functions of the particles: 1 where z > 0."""
    pre, h, z = state
    for particle in range(params.shape[0]):
        forward(params[particle], net, pre, h, z)
        for j in range(z.size):
            tables[particle, j] = z[j] > _ZERO
