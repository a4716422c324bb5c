"""Compiled parts of the samplers of a posterior: elliptical slice sampling, and rejection.

*Slice sampling.* State of one chain on a training set of s inputs, for L hidden layers, all in
arrays (padded to the largest layer; see :class:`simprior.training.posterior.slice.State`):

* ``w`` (L + 1, widest, 1 + widest fan-in): row i of layer l holds the weights into unit i, scales
  included, and its bias last (position fan_in);
* ``h`` (L + 1, widest, s): inputs (h[0]) and activations; ``pre`` (L, widest, s): pre-activations;
* ``z`` (s,): output.

Given that the label of every active input is right, an update keeps it right.

*Rejection.* Hidden draw -> functions -> keep those that agree with S.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simprior.boolean.sampling.kernel import GROUP, head_functions, head_layer, hidden_features
from simprior.boolean.sampling.table import reverse64
from simprior.network.compiled import RELU, activation_at
from simprior.numerics.compiled import inner

_HALF_PI = math.pi / 2
_MAX_TRIES = 200  # a bracket of 2 pi shrinks below 1e-16 long before


@inner()
def affine(row, fan_in, below, out):
    """out[j] = bias + sum over k of row[k] below[k, j]."""
    for j in range(out.size):
        out[j] = row[fan_in]
    for k in range(fan_in):
        r = row[k]
        if r != 0.0:
            source = below[k]
            for j in range(out.size):
                out[j] += r * source[j]


@inner()
def apply(source, out, code):
    """out[j] = activation(source[j])."""
    if code == RELU:
        for j in range(out.size):
            out[j] = max(source[j], 0.0)
    else:
        for j in range(out.size):
            out[j] = activation_at(code, source[j])


@njit(nogil=True, cache=True)
def forward(w, fans, widths, code, h, pre, z):
    """Fill pre, h[1:] and z from w and the inputs h[0]."""
    depth = widths.size
    for layer in range(depth):
        for i in range(widths[layer]):
            affine(w[layer, i], fans[layer], h[layer], pre[layer, i])
            apply(pre[layer, i], h[layer + 1, i], code)
    affine(w[depth, 0], fans[depth], h[depth], z)


@inner()
def agrees(z, bits, active):
    """Whether z > 0 exactly on the active inputs with label 1, and nowhere else among them."""
    for j in range(z.size):  # noqa: SIM110
        if active[j] and (z[j] > 0.0) != (bits[j] != 0):
            return False
    return True


@inner()
def fresh_row(row, fan_in, scale, bias_scale, rng):
    """A row of weights and its bias from the prior."""
    for k in range(fan_in):
        row[k] = scale * rng.standard_normal()
    row[fan_in] = bias_scale * rng.standard_normal() if bias_scale > 0.0 else 0.0


@inner()
def output_update(w, fans, scales, bias_scales, h, z, q, nu, bits, active, rng):
    """Exact draw on an ellipse through the output weights, given the features.

    z(phi) = z cos phi + q sin phi agrees with the label of input j on a half circle around phi = 0;
    the intersection is one arc, from which phi is drawn uniformly: the slice without rejections
    (Gessner, Kanagawa & Hennig 2020, section 2).
    """
    last = fans.size - 1
    fan_in = fans[last]
    fresh_row(nu, fan_in, scales[last], bias_scales[last], rng)
    affine(nu, fan_in, h[last], q)
    low, high = -math.pi, math.pi
    for j in range(z.size):
        if not active[j] or (z[j] == 0.0 and q[j] == 0.0):
            continue
        if bits[j] != 0:
            middle = math.atan2(q[j], z[j])
        else:
            middle = math.atan2(-q[j], -z[j])
        low = max(low, middle - _HALF_PI)
        high = min(high, middle + _HALF_PI)
    phi = low + (high - low) * rng.random()
    c, s = math.cos(phi), math.sin(phi)
    for j in range(z.size):
        q[j] = c * z[j] + s * q[j]
    if not agrees(q, bits, active):
        return  # phi fell on the end of the arc, within rounding
    row = w[last, 0]
    for k in range(fan_in + 1):
        row[k] = c * row[k] + s * nu[k]
    z[:] = q


@inner()
def _propose(  # noqa: PLR0912
    first, stop, layer, w, fans, widths, code, h, pre, z, delta, q, phi, h_new, pre_new, z_new
):
    """Network with units first .. stop - 1 of ``layer`` at angle phi; outputs in z_new."""
    depth = widths.size
    s = z.size
    c, sn = math.cos(phi), math.sin(phi)
    last = layer == depth - 1
    if last:
        z_new[:] = z
    else:
        for i in range(widths[layer + 1]):
            pre_new[layer + 1, i, :] = pre[layer + 1, i]
    for u in range(first, stop):
        old, direction = pre[layer, u], q[u - first]
        target = pre_new[layer, u]
        for j in range(s):
            target[j] = c * old[j] + sn * direction[j]
        apply(target, h_new[layer + 1, u], code)
        moved = False
        for j in range(s):
            delta[j] = h_new[layer + 1, u, j] - h[layer + 1, u, j]
            moved |= delta[j] != 0.0
        if not moved:
            continue
        if last:
            weight = w[depth, 0, u]
            for j in range(s):
                z_new[j] += weight * delta[j]
        else:
            for i in range(widths[layer + 1]):
                weight = w[layer + 1, i, u]
                row = pre_new[layer + 1, i]
                for j in range(s):
                    row[j] += weight * delta[j]
    if last:
        return
    for above in range(layer + 1, depth):
        for i in range(widths[above]):
            if above > layer + 1:
                affine(w[above, i], fans[above], h_new[above], pre_new[above, i])
            apply(pre_new[above, i], h_new[above + 1, i], code)
    affine(w[depth, 0], fans[depth], h_new[depth], z_new)


@inner()
def block_update(
    layer,
    first,
    stop,
    w,
    fans,
    widths,
    scales,
    bias_scales,
    code,
    h,
    pre,
    z,
    delta,
    q,
    nu,
    h_new,
    pre_new,
    z_new,
    bits,
    active,
    rng,
):
    """Elliptical slice update of the weights into units first .. stop - 1 of a hidden layer.

    Murray, Adams & MacKay 2010, figure 2, with a likelihood of 0 or 1 (the slice is the set that
    agrees). Pre-activations are linear on the ellipse, so that a try costs no product with the
    layer below. Returns the number of tries.
    """
    fan_in = fans[layer]
    for u in range(first, stop):
        fresh_row(nu[u - first], fan_in, scales[layer], bias_scales[layer], rng)
        affine(nu[u - first], fan_in, h[layer], q[u - first])
    phi = 2.0 * math.pi * rng.random()
    low, high = phi - 2.0 * math.pi, phi
    tries = 0
    while True:
        tries += 1
        _propose(
            first,
            stop,
            layer,
            w,
            fans,
            widths,
            code,
            h,
            pre,
            z,
            delta,
            q,
            phi,
            h_new,
            pre_new,
            z_new,
        )
        if agrees(z_new, bits, active):
            break
        if tries >= _MAX_TRIES:
            return tries
        if phi < 0.0:
            low = phi
        else:
            high = phi
        phi = low + (high - low) * rng.random()
    c, sn = math.cos(phi), math.sin(phi)
    for u in range(first, stop):
        row, extra = w[layer, u], nu[u - first]
        for k in range(fan_in + 1):
            row[k] = c * row[k] + sn * extra[k]
        pre[layer, u, :] = pre_new[layer, u]
        h[layer + 1, u, :] = h_new[layer + 1, u]
    for above in range(layer + 1, widths.size):
        for i in range(widths[above]):
            pre[above, i, :] = pre_new[above, i]
            h[above + 1, i, :] = h_new[above + 1, i]
    z[:] = z_new
    return tries


@njit(nogil=True, cache=True)
def sweep(spec, state, work, blocks, bits, active, rng):
    """Update every parameter once: each hidden layer in blocks of units, the output after each.

    The block size of a layer is drawn from ``blocks[layer]`` (units), the same at every state, so
    that the sweep leaves the posterior invariant. Returns (updates of blocks, tries). Inputs whose
    label is right become active (in a chain that has started, all of them are).
    """
    fans, widths, scales, bias_scales, code = spec
    w, h, pre, z = state
    delta, q, nu, h_new, pre_new, z_new = work
    updates, tries = 0, 0
    output_update(w, fans, scales, bias_scales, h, z, q[0], nu[0], bits, active, rng)
    for layer in range(widths.size):
        size = blocks[layer, int(rng.random() * blocks.shape[1])]
        first = np.int64(0)  # a plain 0 is a type of its own: compiled twice
        while first < widths[layer]:
            stop = min(first + size, widths[layer])
            tries += block_update(
                layer,
                first,
                stop,
                w,
                fans,
                widths,
                scales,
                bias_scales,
                code,
                h,
                pre,
                z,
                delta,
                q,
                nu,
                h_new,
                pre_new,
                z_new,
                bits,
                active,
                rng,
            )
            output_update(w, fans, scales, bias_scales, h, z, q[0], nu[0], bits, active, rng)
            updates += 1
            first = stop
            for j in range(z.size):
                if (z[j] > 0.0) == (bits[j] != 0):
                    active[j] = True
    return updates, tries


@njit(nogil=True, cache=True)
def sweeps(spec, state, work, blocks, bits, active, rng, count):
    """``count`` sweeps without a record."""
    for _ in range(count):
        sweep(spec, state, work, blocks, bits, active, rng)


@njit(nogil=True, cache=True)
def run_chain(spec, state, work, blocks, bits, active, rng, thin, full, tables):
    """Record the function on all inputs after every ``thin`` sweeps: (T, m) uint8 ``tables``.

    ``full`` = (h, pre, z) on all m inputs. The activations on S are computed afresh before each
    record, so that rounding does not build up. Returns (updates, tries).
    """
    fans, widths, _scales, _bias_scales, code = spec
    w, h, pre, z = state
    h_all, pre_all, z_all = full
    updates, tries = 0, 0
    for t in range(tables.shape[0]):
        forward(w, fans, widths, code, h, pre, z)
        for _ in range(thin):
            u, n = sweep(spec, state, work, blocks, bits, active, rng)
            updates += u
            tries += n
        forward(w, fans, widths, code, h_all, pre_all, z_all)
        for j in range(z_all.size):
            tables[t, j] = np.uint8(z_all[j] > 0.0)
    return updates, tries


@njit(nogil=True, cache=True)
def settle(spec, state, work, blocks, bits, active, rng, limit):
    """Sweep with the labels that are right so far as constraints, until all are; sweeps done.

    -1 if ``limit`` sweeps do not suffice.
    """
    fans, widths, _scales, _bias_scales, code = spec
    w, h, pre, z = state
    for done in range(limit):
        forward(w, fans, widths, code, h, pre, z)
        for j in range(z.size):
            active[j] = active[j] or (z[j] > 0.0) == (bits[j] != 0)
        if active.all() and agrees(z, bits, active):
            return done
        sweep(spec, state, work, blocks, bits, active, rng)
    return -1


@inner()
def _keep(keys, rows, tail, mask, want, draw, found, owner, filled):
    """Append the rows of ``keys`` that equal ``want`` under ``mask`` (all in lane order)."""
    last = keys.shape[1] - 1
    for r in range(rows):
        keys[r, last] &= tail
        agree = True
        for w in range(keys.shape[1]):
            if (keys[r, w] & mask[w]) != want[w]:
                agree = False
                break
        if agree:
            for w in range(keys.shape[1]):
                found[filled, w] = reverse64(keys[r, w])
            owner[filled] = draw
            filled += 1
    return filled


@njit(nogil=True, cache=True)
def accept_draws(
    arch, consts, scratch, heads_arch, buffers, at, stop, total, key, mask, want, found, owner
):
    """Make hidden draws ``at .. stop - 1`` and keep the heads that agree with S.

    The same networks as :func:`simprior.boolean.sampling.kernel.count_draws` makes. ``mask`` and
    ``want`` are (W,) in lane order. Kept functions go to ``found`` (B, W), packed, their hidden
    draws to ``owner`` (B,); B must be at least the number of heads. Returns (next hidden draw,
    functions kept); stops early when there may be no room for another hidden draw.
    """
    heads, _n_words, _full, tail, _iid, _keep_shift, ones_list = heads_arch
    keys = buffers[2]
    layer = head_layer(arch, consts, scratch, buffers)
    draw, filled = at, 0
    while draw < stop and filled + heads <= owner.size:
        wanted = min(heads, total - draw * heads)
        below = hidden_features(arch, consts, scratch, ones_list, draw, key)
        done = 0
        while done < wanted:
            rows = min(GROUP, wanted - done)
            head_functions(layer, below, heads, draw, done, rows, key, False)
            filled = _keep(keys, rows, tail, mask, want, draw, found, owner, filled)
            done += rows
        draw += 1
    return draw, filled
