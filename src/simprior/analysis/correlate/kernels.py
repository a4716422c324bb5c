"""Weighted correlation coefficients and their cluster-robust standard errors (numba).

A weight is how often a point was drawn: a point of weight 2 is two equal points. Points have
columns ``V`` (n, 2 + q): measure, outcome, q controls.

Thousands of resamples or permutations of the same points are wanted at a time. They are worked on
``LANES`` at a time, one in each lane of a vector register, so that the sums of each are still taken
point by point, in the order of the points: the result does not depend on how many there are.
Kendall's tau is made of whole numbers, whose sums are the same in any order: a matrix product
counts pairs for all resamples, and a tree of counts those of a permutation.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.numerics.compiled import inner

_TINY = 1e-12
LANES = 16


@inner()
def _ranks(values, order, drawn, cluster, out):  # type: ignore[no-untyped-def]
    """Mid-ranks (n, L) of points drawn ``drawn`` (G, L) times; ``order`` sorts ``values``."""
    n, lanes = out.shape
    below, tied = np.zeros(lanes), np.zeros(lanes)
    at = 0
    while at < n:
        end = at
        tied[:] = 0.0
        while end < n and values[order[end]] == values[order[at]]:
            g = cluster[order[end]]
            for k in range(LANES):
                tied[k] += drawn[g, k]
            end += 1
        for j in range(at, end):
            i = order[j]
            for k in range(LANES):
                out[i, k] = below[k] + 0.5 * (tied[k] + 1.0)
        for k in range(LANES):
            below[k] += tied[k]
        at = end


@inner(error_model="numpy")
def _centre_in_cells(V, drawn, cluster, cell, cells):  # type: ignore[no-untyped-def]
    """Take from the columns ``V`` (2 + q, n, L), in place, their weighted means within cells."""
    columns, n, lanes = V.shape
    total, sums = np.zeros((cells, lanes)), np.zeros((cells, lanes))
    for i in range(n):
        for k in range(LANES):
            total[cell[i], k] += drawn[cluster[i], k]
    for c in range(columns):
        sums[:] = 0.0
        for i in range(n):
            for k in range(LANES):
                sums[cell[i], k] += drawn[cluster[i], k] * V[c, i, k]
        for j in range(cells):
            for k in range(LANES):
                sums[j, k] /= total[j, k]
        for i in range(n):
            for k in range(LANES):
                V[c, i, k] = V[c, i, k] - sums[cell[i], k] if total[cell[i], k] > 0 else 0.0


@inner(error_model="numpy")
def _fits(V, drawn, cluster):  # type: ignore[no-untyped-def]
    """(2, 1 + q, L) weighted regressions of columns 0 and 1 on a constant and the controls."""
    columns, n, lanes = V.shape
    q = columns - 2
    A, b = np.zeros((q + 1, q + 1, lanes)), np.zeros((2, q + 1, lanes))
    weight = np.empty(lanes)
    for i in range(n):
        for k in range(LANES):
            w = drawn[cluster[i], k]
            A[0, 0, k] += w
            b[0, 0, k] += w * V[0, i, k]
            b[1, 0, k] += w * V[1, i, k]
        for c in range(q):
            for k in range(LANES):
                weight[k] = drawn[cluster[i], k] * V[2 + c, i, k]
                A[0, c + 1, k] += drawn[cluster[i], k] * V[2 + c, i, k]
                A[c + 1, 0, k] += weight[k]
                b[0, c + 1, k] += weight[k] * V[0, i, k]
                b[1, c + 1, k] += weight[k] * V[1, i, k]
            for d in range(q):
                for k in range(LANES):
                    A[c + 1, d + 1, k] += weight[k] * V[2 + d, i, k]
    beta = np.empty((2, q + 1, lanes))
    for k in range(lanes):
        scale = 1.0
        for c in range(q + 1):
            A[c, c, k] *= 1.0 + _TINY  # collinear controls: any solution has the same residuals
            scale = max(scale, A[c, c, k])
        for c in range(2):
            if q:
                ridge = _TINY * 1e-3 * scale * np.eye(q + 1)
                beta[c, :, k] = np.linalg.solve(A[:, :, k].copy() + ridge, b[c, :, k].copy())
            else:
                beta[c, 0, k] = b[c, 0, k] / A[0, 0, k]
    return beta


@inner()
def _largest(values):  # type: ignore[no-untyped-def]
    """(L,) largest absolute values of (n, L)."""
    out = np.zeros(values.shape[1])
    for i in range(len(values)):
        for k in range(LANES):
            out[k] = max(out[k], abs(values[i, k]))
    return out


@inner()
def _take_fits(V, beta):  # type: ignore[no-untyped-def]
    """Take from columns 0 and 1 of ``V``, in place, what :func:`_fits` predicts."""
    columns, n, lanes = V.shape
    fit = np.empty(lanes)
    for i in range(n):
        for c in range(2):
            fit[:] = beta[c, 0]
            for d in range(columns - 2):
                for k in range(LANES):
                    fit[k] += beta[c, d + 1, k] * V[2 + d, i, k]
            for k in range(LANES):
                V[c, i, k] -= fit[k]


@inner(error_model="numpy")
def _moments(V, drawn, cluster, cell, cells, out):  # type: ignore[no-untyped-def]
    """(L, 2) r and its standard error, of the residuals of measure and outcome given the controls,
    within cells; ``V`` (2 + q, n, L) is overwritten.

    The error is the linearised one by cluster: with u, v the standardised residuals a point adds
    u v - r (u^2 + v^2) / 2; sums over clusters, squared, times G / (G - 1). ``drawn`` (G, L) is how
    often each cluster was drawn. NaN if a residual is constant.
    """
    n, lanes = V.shape[1:]
    vx, vy = _largest(V[0]), _largest(V[1])
    _centre_in_cells(V, drawn, cluster, cell, cells)
    _take_fits(V, _fits(V, drawn, cluster))
    total, sxx = np.zeros(lanes), np.zeros(lanes)
    syy, sxy = np.zeros(lanes), np.zeros(lanes)
    for i in range(n):
        for k in range(LANES):
            w, x, y = drawn[cluster[i], k], V[0, i, k], V[1, i, k]
            total[k] += w
            sxx[k] += w * x * x
            syy[k] += w * y * y
            sxy[k] += w * x * y
    r = sxy / np.sqrt(sxx * syy)
    sx, sy = np.sqrt(sxx / total), np.sqrt(syy / total)
    sums = np.zeros(drawn.shape)
    for i in range(n):
        for k in range(LANES):
            u, v = V[0, i, k] / sx[k], V[1, i, k] / sy[k]
            sums[cluster[i], k] += u * v - 0.5 * r[k] * (u * u + v * v)
    variance, number = np.zeros(lanes), np.zeros(lanes)
    for g in range(len(drawn)):
        for k in range(LANES):
            variance[k] += drawn[g, k] * sums[g, k] * sums[g, k]
            number[k] += drawn[g, k]
    for k in range(lanes):
        constant_x = sxx[k] <= _TINY * total[k] * vx[k] * vx[k]
        if constant_x or syy[k] <= _TINY * total[k] * vy[k] * vy[k]:
            out[k] = np.nan
        else:
            out[k, 0] = min(1.0, max(-1.0, r[k]))
            out[k, 1] = np.sqrt(variance[k] * number[k] / max(number[k] - 1.0, 1.0)) / total[k]


@njit(cache=True, nogil=True)
def many_moments(V, orders, rank, cluster, draws, cell, cells):  # type: ignore[no-untyped-def]
    """(B, 2) coefficients and errors of B resamples ``draws`` (B, G); ``rank``: of ranks."""
    n, columns = V.shape
    number, clusters = draws.shape
    out, found = np.empty((number, 2)), np.empty((LANES, 2))
    drawn, used = np.empty((clusters, LANES)), np.empty((columns, n, LANES))
    for first in range(0, number, LANES):
        for g in range(clusters):
            for k in range(LANES):
                drawn[g, k] = draws[min(first + k, number - 1), g]
        for c in range(columns):
            if rank:
                _ranks(V[:, c], orders[c], drawn, cluster, used[c])
            else:
                for i in range(n):
                    used[c, i] = V[i, c]
        _moments(used, drawn, cluster, cell, cells, found)
        last = min(first + LANES, number)
        for k in range(last - first):
            out[first + k, 0], out[first + k, 1] = found[k, 0], found[k, 1]
    return out


@njit(cache=True, nogil=True)
def permuted_moments(V, outcomes, cluster, clusters, cell, cells):  # type: ignore[no-untyped-def]
    """(P, 2) coefficients and errors with each of ``outcomes`` (n, P) as column 1."""
    n, columns = V.shape
    number = outcomes.shape[1]
    out, found = np.empty((number, 2)), np.empty((LANES, 2))
    drawn, used = np.ones((clusters, LANES)), np.empty((columns, n, LANES))
    for first in range(0, number, LANES):
        for i in range(n):
            for c in range(columns):
                used[c, i] = V[i, c]
            for k in range(LANES):
                used[1, i, k] = outcomes[i, min(first + k, number - 1)]
        _moments(used, drawn, cluster, cell, cells, found)
        last = min(first + LANES, number)
        for k in range(last - first):
            out[first + k, 0], out[first + k, 1] = found[k, 0], found[k, 1]
    return out


@njit(cache=True, nogil=True)
def pair_signs(x, y, cluster, clusters):  # type: ignore[no-untyped-def]
    """(G, G) sums of sign(xi - xj) sign(yi - yj) and of the two squares, over pairs of clusters."""
    signs = np.zeros((clusters, clusters))
    in_x, in_y = np.zeros((clusters, clusters)), np.zeros((clusters, clusters))
    for i in range(x.size):
        for j in range(i):
            a = np.sign(x[i] - x[j])
            b = np.sign(y[i] - y[j])
            g, h = cluster[i], cluster[j]
            signs[g, h] += a * b
            in_x[g, h] += a * a
            in_y[g, h] += b * b
    for table in (signs, in_x, in_y):
        for g in range(clusters):
            table[g, g] *= 2.0
            for h in range(g):
                table[g, h] += table[h, g]
                table[h, g] = table[g, h]
    return signs, in_x, in_y


@njit(cache=True, nogil=True)
def kendall(pull, in_x, in_y, sizes, draws):  # type: ignore[no-untyped-def]
    """(B, 2) tau_b and standard error of resamples ``draws`` (B, G).

    ``pull``, ``in_x``, ``in_y`` (B, G) are the sums of :func:`pair_signs` over all drawn partners
    of each cluster; ``sizes`` (G,) is the points of each.
    """
    number, clusters = draws.shape
    out, slope = np.empty((number, 2)), np.empty(clusters)
    for b in range(number):
        top = bottom_x = bottom_y = total = count = variance = 0.0
        for g in range(clusters):
            total += draws[b, g] * sizes[g]
            top += draws[b, g] * pull[b, g]
            bottom_x += draws[b, g] * in_x[b, g]
            bottom_y += draws[b, g] * in_y[b, g]
            count += draws[b, g]
        scale = np.sqrt(bottom_x * bottom_y)
        if scale == 0.0:
            out[b] = np.nan
            continue
        tau = top / scale
        for g in range(clusters):
            both = in_x[b, g] / bottom_x + in_y[b, g] / bottom_y
            slope[g] = (2.0 * pull[b, g] / scale - tau * both) * total
        for g in range(clusters):
            variance += draws[b, g] * slope[g] * slope[g]
        out[b, 0] = tau
        out[b, 1] = np.sqrt(variance * count / max(count - 1.0, 1.0)) / total
    return out


@njit(cache=True, nogil=True)
def permuted_pulls(x, order, outcomes, orders, cluster, clusters):  # type: ignore[no-untyped-def]
    """(2, P, G) sums of sign(xi - xj) sign(yi - yj) and of sign(yi - yj)^2 over all partners j of
    the points i of each cluster, for each of the ``outcomes`` (P, n).

    ``order`` sorts ``x``, ``orders`` (P, n) sort the outcomes. Points enter a binary indexed tree
    of counts (Fenwick 1994) in the order of ``x``: n log n steps.
    """
    number, n = outcomes.shape
    out = np.zeros((2, number, clusters))
    rank, below, equal = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    seen, tree = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    for p in range(number):
        at, level = 0, 0
        while at < n:
            end = at
            while end < n and outcomes[p, orders[p, end]] == outcomes[p, orders[p, at]]:
                end += 1
            level += 1
            for j in range(at, end):
                i = orders[p, j]
                rank[i], below[i], equal[i] = level, at, end - at
                out[1, p, cluster[i]] += n - (end - at)
            at = end
        seen[: level + 1] = 0
        tree[: level + 1] = 0
        at = 0
        while at < n:
            end = at
            while end < n and x[order[end]] == x[order[at]]:
                i = order[end]
                less = _count(tree, rank[i] - 1)
                more = at - less - seen[rank[i]]
                out[0, p, cluster[i]] += less - more
                end += 1
            for j in range(at, end):
                k = rank[order[j]]
                seen[k] += 1
                while k <= level:
                    tree[k] += 1
                    k += k & -k
            for j in range(at, end):
                i = order[j]
                less = _count(tree, rank[i] - 1)
                more = end - less - seen[rank[i]]
                above = n - below[i] - equal[i]
                out[0, p, cluster[i]] += (above - more) - (below[i] - less)
            at = end
    return out


@inner()
def _count(tree, k):  # type: ignore[no-untyped-def]
    """How many points of level 1 .. k are in the tree."""
    found = 0
    while k > 0:
        found += tree[k]
        k -= k & -k
    return found


@njit(cache=True, nogil=True)
def permutations(members, start, number, rng):  # type: ignore[no-untyped-def]
    """(P, n) points whose outcomes each point gets: clusters in random order, and the members of
    each too, from the numpy Generator ``rng`` as ``rng.permutation`` would give them.

    ``members[start[g] : start[g + 1]]`` are the points of cluster g. A cluster that is larger than
    the one whose outcomes it gets takes them in turn.
    """
    clusters = start.size - 1
    out = np.empty((number, members.size), np.int64)
    order = np.empty(clusters, np.int64)
    for p in range(number):
        for g in range(clusters):
            order[g] = g
        rng.shuffle(order)
        for g in range(clusters):
            given = members[start[order[g]] : start[order[g] + 1]].copy()
            if given.size > 1:
                rng.shuffle(given)
            for j in range(start[g], start[g + 1]):
                out[p, members[j]] = given[(j - start[g]) % given.size]
    return out


@njit(cache=True, nogil=True)
def sign_counts(mu, g, setting, group):  # type: ignore[no-untyped-def]
    """(groups, 2, 2) ordered pairs of points by the signs of their differences in ``mu`` and ``g``.

    A pair is of the group ``group[setting[i], setting[j]]``; pairs that are equal in either are
    left out.
    """
    out = np.zeros((group.max() + 1, 2, 2), np.int64)
    for i in range(mu.size):
        for j in range(mu.size):
            if mu[i] != mu[j] and g[i] != g[j]:
                out[group[setting[i], setting[j]], int(mu[i] > mu[j]), int(g[i] > g[j])] += 1
    return out
