"""Maximise N functions at once over a box or a ball: projected ascent along feasible directions.

Each step goes from v towards a point of the region: the extreme point of the linearised function
while the function curves upwards along the last move (then the whole step is accepted: the
conditional-gradient step, which for a convex function never decreases it), or the projection of
v + tau g with the Barzilai-Borwein step tau where it curves downwards (spectral projected
gradient, Birgin, Martinez & Raydan, SIAM J. Optim. 2000, algorithm SPG2, monotone). Steps that
fail Armijo's condition are shortened by quadratic interpolation. Functions that are done leave the
batch.

The certificate is the conditional-gradient gap, max over the region of g.(s - v) >= 0: zero
exactly at points that satisfy the first-order (KKT) conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Tensor = torch.Tensor
Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (R, P), rows (R,)) -> values (R,) and gradients (R, P) of the functions ``rows``."""

_ARMIJO, _SHORTEST = 1e-4, 0.05


class Box:
    """|v_i| <= 1."""

    @staticmethod
    def extreme(g: Tensor, v: Tensor) -> Tensor:
        """A maximiser of g.s; coordinates without gradient stay where they are."""
        return torch.where(g == 0, v, torch.sign(g))

    @staticmethod
    def project(v: Tensor) -> Tensor:
        """The nearest point of the region."""
        return v.clamp(-1.0, 1.0)

    @staticmethod
    def gap(g: Tensor, v: Tensor) -> Tensor:
        """max g.(s - v) over the region."""
        return (g.abs() - g * v).sum(1)


class Ball:
    """|v| <= 1."""

    @staticmethod
    def extreme(g: Tensor, v: Tensor) -> Tensor:
        """The maximiser of g.s; v where there is no gradient."""
        norm = g.norm(dim=1, keepdim=True)
        return torch.where(norm > 0, g / norm.clamp(min=1e-300), v)

    @staticmethod
    def project(v: Tensor) -> Tensor:
        """The nearest point of the region."""
        return v / v.norm(dim=1, keepdim=True).clamp(min=1.0)

    @staticmethod
    def gap(g: Tensor, v: Tensor) -> Tensor:
        """max g.(s - v) over the region."""
        return (g.norm(dim=1) - (g * v).sum(1)).clamp(min=0)


Region = type[Box] | type[Ball]


@dataclass(frozen=True, eq=False)
class Maximum:
    """What an ascent found, a row a function: ``value`` (N,), ``point`` (N, P), ``gap`` (N,) the
    certificate at that point, ``evaluations`` (N,) of value and gradient."""

    value: Tensor
    point: Tensor
    gap: Tensor
    evaluations: Tensor


def ascend(
    function: Function, region: Region, start: Tensor, base: Tensor, *, iterations: int,
    tolerance: float,
) -> Maximum:  # fmt: skip
    """Local maxima of N functions over a region, from ``start`` (N, P) inside it.

    A function is done when its gap is at most ``tolerance`` times the gain over ``base`` (N,), its
    value at the origin, or after ``iterations`` evaluations.
    """
    n = len(start)
    rows = torch.arange(n, device=start.device)
    value, gradient = function(start, rows)
    out = Maximum(value.clone(), start.clone(), region.gap(gradient, start), torch.ones_like(rows))
    v, f, g = start.clone(), value, gradient
    tau = torch.full_like(f, torch.inf)
    for _ in range(iterations - 1):
        keep = region.gap(g, v) > tolerance * (f - base[rows]).clamp(min=0)
        if not bool(keep.all()):
            v, f, g, tau, rows = v[keep], f[keep], g[keep], tau[keep], rows[keep]
        if not len(rows):
            break
        v, f, g, tau, stuck = _step(function, region, v, f, g, tau, rows, out.evaluations)
        out.value[rows], out.point[rows], out.gap[rows] = f, v, region.gap(g, v)
        if bool(stuck.any()):
            go = ~stuck
            v, f, g, tau, rows = v[go], f[go], g[go], tau[go], rows[go]
    return out


def _step(
    function: Function, region: Region, v: Tensor, f: Tensor, g: Tensor, tau: Tensor, rows: Tensor,
    evaluations: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """One accepted step of every function; those that cannot rise any more are ``stuck``."""
    whole = torch.isinf(tau)
    d = region.extreme(g, v) - v
    if not bool(whole.all()):
        bounded = torch.where(whole, 1.0, tau).unsqueeze(1)
        d = torch.where(whole.unsqueeze(1), d, region.project(v + bounded * g) - v)
    slope = (g * d).sum(1)
    length = torch.ones_like(f)
    new_v, new_f, new_g = v, f, g
    todo = torch.arange(len(rows), device=rows.device)
    for _ in range(12):
        if len(todo) == len(rows) and bool((length == 1).all()):
            point = v + d
        else:
            point = v[todo] + length[todo].unsqueeze(1) * d[todo]
        value, gradient = function(point, rows[todo])
        evaluations[rows[todo]] += 1
        rise = length[todo] * slope[todo]
        good = value >= f[todo] + _ARMIJO * rise
        if bool(good.all()) and len(todo) == len(rows):
            new_v, new_f, new_g, todo = point, value, gradient, todo[:0]
            break
        if new_v is v:
            new_v, new_f, new_g = v.clone(), f.clone(), g.clone()
        done = todo[good]
        new_v[done], new_f[done], new_g[done] = point[good], value[good], gradient[good]
        todo = todo[~good]
        if not len(todo):
            break
        loss = (f[todo] + rise[~good] - value[~good]).clamp(min=1e-300)
        best = 0.5 * length[todo] * (rise[~good] / loss)
        low, high = _SHORTEST * length[todo], 0.5 * length[todo]
        length[todo] = torch.minimum(torch.maximum(best, low), high)
    stuck = torch.zeros_like(whole)
    stuck[todo] = True
    s, change = new_v - v, new_g - g
    bend = (s * change).sum(1)
    square = (s * s).sum(1)
    tau = torch.where(bend >= 0, torch.inf, square / (-bend).clamp(min=1e-300))
    return new_v, new_f, new_g, tau, stuck
