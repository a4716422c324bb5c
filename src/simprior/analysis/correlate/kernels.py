"""Weighted correlation coefficients and their cluster-robust standard errors (numba).

A weight is how often a point was drawn: a point of weight 2 is two equal points. Every function
takes columns ``V`` (n, 2 + q): measure, outcome, q controls.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_TINY = 1e-12


@njit(cache=True, nogil=True)
def ranks(values, order, weight, out):  # type: ignore[no-untyped-def]
    """Mid-ranks of weighted points into ``out``; ``order`` sorts ``values``."""
    n = values.size
    below = 0.0
    at = 0
    while at < n:
        end, tied = at, 0.0
        while end < n and values[order[end]] == values[order[at]]:
            tied += weight[order[end]]
            end += 1
        for k in range(at, end):
            out[order[k]] = below + 0.5 * (tied + 1.0)
        below += tied
        at = end


@njit(cache=True, nogil=True)
def _residuals(V, weight, column, out):  # type: ignore[no-untyped-def]
    """Residuals of ``V[:, column]`` on the controls (columns 2 on) and a constant; weighted."""
    n, q = V.shape[0], V.shape[1] - 2
    A, b = np.zeros((q + 1, q + 1)), np.zeros(q + 1)
    row = np.empty(q + 1)
    for i in range(n):
        if weight[i] == 0:
            continue
        row[0] = 1.0
        for k in range(q):
            row[k + 1] = V[i, 2 + k]
        for k in range(q + 1):
            b[k] += weight[i] * row[k] * V[i, column]
            for j in range(q + 1):
                A[k, j] += weight[i] * row[k] * row[j]
    scale = 1.0
    for k in range(q + 1):
        A[k, k] *= 1.0 + _TINY  # collinear controls: any solution has the same residuals
        scale = max(scale, A[k, k])
    beta = np.linalg.solve(A + _TINY * 1e-3 * scale * np.eye(q + 1), b) if q else b / A[0, 0]
    for i in range(n):
        fit = beta[0]
        for k in range(q):
            fit += beta[k + 1] * V[i, 2 + k]
        out[i] = V[i, column] - fit


@njit(cache=True, nogil=True)
def _within_cells(V, weight, cell, cells):  # type: ignore[no-untyped-def]
    """Columns less their weighted means over the points of each cell."""
    n, columns = V.shape
    total, sums = np.zeros(cells), np.zeros((cells, columns))
    for i in range(n):
        total[cell[i]] += weight[i]
        for k in range(columns):
            sums[cell[i], k] += weight[i] * V[i, k]
    out = np.empty_like(V)
    for i in range(n):
        c = cell[i]
        for k in range(columns):
            out[i, k] = V[i, k] - sums[c, k] / total[c] if total[c] > 0 else 0.0
    return out


@njit(cache=True, nogil=True)
def moment_coefficient(V, weight, cluster, clusters, drawn, cell, cells):  # type: ignore[no-untyped-def]
    """(r, standard error of r) of the residuals of measure and outcome given the controls, within
    cells.

    The error is the linearised one by cluster: with u, v the standardised residuals a point adds
    u v - r (u^2 + v^2) / 2; sums over clusters, squared, times G / (G - 1). ``drawn`` (G,) is how
    often each cluster was drawn. NaN if a residual is constant.
    """
    n = V.shape[0]
    x, y = np.empty(n), np.empty(n)
    inner = _within_cells(V, weight, cell, cells)
    _residuals(inner, weight, 0, x)
    _residuals(inner, weight, 1, y)
    total = sxx = syy = sxy = 0.0
    vx = vy = 0.0
    for i in range(n):
        w = weight[i]
        total += w
        sxx += w * x[i] * x[i]
        syy += w * y[i] * y[i]
        sxy += w * x[i] * y[i]
        vx = max(vx, abs(V[i, 0]))
        vy = max(vy, abs(V[i, 1]))
    if sxx <= _TINY * total * vx * vx or syy <= _TINY * total * vy * vy:
        return np.nan, np.nan
    r = sxy / np.sqrt(sxx * syy)
    sums = np.zeros(clusters)
    for i in range(n):
        u, v = x[i] / np.sqrt(sxx / total), y[i] / np.sqrt(syy / total)
        sums[cluster[i]] += u * v - 0.5 * r * (u * u + v * v)
    return min(1.0, max(-1.0, r)), _error(sums, drawn, total)


@njit(cache=True, nogil=True)
def _error(sums, drawn, total):  # type: ignore[no-untyped-def]
    variance = number = 0.0
    for g in range(sums.size):
        variance += drawn[g] * sums[g] * sums[g]
        number += drawn[g]
    return np.sqrt(variance * number / max(number - 1.0, 1.0)) / total


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
def kendall_coefficient(signs, in_x, in_y, sizes, drawn):  # type: ignore[no-untyped-def]
    """(tau_b, standard error) from :func:`pair_signs` and how often each cluster was drawn."""
    clusters = sizes.size
    top = bottom_x = bottom_y = total = 0.0
    pull = np.zeros(clusters)
    for g in range(clusters):
        if drawn[g] == 0:
            continue
        total += drawn[g] * sizes[g]
        for h in range(clusters):
            pull[g] += signs[g, h] * drawn[h]
            bottom_x += drawn[g] * in_x[g, h] * drawn[h]
            bottom_y += drawn[g] * in_y[g, h] * drawn[h]
        top += drawn[g] * pull[g]
    scale = np.sqrt(bottom_x * bottom_y)
    if scale == 0.0:
        return np.nan, np.nan
    tau = top / scale
    slope = np.zeros(clusters)
    for g in range(clusters):
        if drawn[g] == 0:
            continue
        of_x = of_y = 0.0
        for h in range(clusters):
            of_x += in_x[g, h] * drawn[h]
            of_y += in_y[g, h] * drawn[h]
        slope[g] = 2.0 * pull[g] / scale - tau * (of_x / bottom_x + of_y / bottom_y)
    return tau, _error(slope * total, drawn, total)


@njit(cache=True, nogil=True)
def many_moments(V, orders, rank, cluster, clusters, draws, cell, cells):  # type: ignore[no-untyped-def]
    """(B, 2) coefficients and errors of B resamples ``draws`` (B, G); ``rank``: of ranks."""
    n, columns = V.shape
    out = np.empty((draws.shape[0], 2))
    weight, used = np.empty(n), V.copy()
    for b in range(draws.shape[0]):
        for i in range(n):
            weight[i] = draws[b, cluster[i]]
        if rank:
            for k in range(columns):
                ranks(V[:, k], orders[k], weight, used[:, k])
        r, error = moment_coefficient(used, weight, cluster, clusters, draws[b], cell, cells)
        out[b, 0], out[b, 1] = r, error
    return out


@njit(cache=True, nogil=True)
def many_kendall(signs, in_x, in_y, sizes, draws):  # type: ignore[no-untyped-def]
    """(B, 2) tau_b and errors of B resamples ``draws`` (B, G)."""
    out = np.empty((draws.shape[0], 2))
    for b in range(draws.shape[0]):
        tau, error = kendall_coefficient(signs, in_x, in_y, sizes, draws[b])
        out[b, 0], out[b, 1] = tau, error
    return out
