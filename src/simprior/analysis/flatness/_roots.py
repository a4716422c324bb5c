"""First crossings of many functions of a radius at once: bracket by factors, then Chandrupatla."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Function = Callable[[Tensor, Tensor], Tensor]
"""(radii (R,), rows (R,)) -> values (R,) of the functions ``rows``; negative before a crossing."""


def crossings(
    function: Function, count: int, *, start: float, factor: float, largest: Tensor,
    tolerance: float, smallest: float = 1e-12,
) -> Tensor:  # fmt: skip
    """(count,) radii where each function turns from negative to non-negative.

    From ``start`` the radius is multiplied by ``factor`` while the function is negative, or divided
    by it while it is not; the bracket is then narrowed to ``tolerance`` in ln r. A function that
    stays negative up to ``largest`` (count,) gives ``inf``, one that is not negative at
    ``smallest`` gives 0. Excursions that lie between two radii of the search are not seen.
    """
    rows = torch.arange(count, device=largest.device)
    low = torch.full((count,), float(start), dtype=torch.float64, device=largest.device)
    f_low = function(low, rows)
    high, f_high = low.clone(), f_low.clone()
    up = f_low < 0
    out = torch.full_like(low, torch.nan)
    for sign, one in ((1, up), (-1, ~up)):
        todo = rows[one]
        r, f = low[todo], f_low[todo]
        while len(todo):
            new = r * factor**sign
            value = function(new, todo)
            turned = (value >= 0) if sign > 0 else (value < 0)
            inner, outer = (r, new) if sign > 0 else (new, r)
            f_in, f_out = (f, value) if sign > 0 else (value, f)
            done = todo[turned]
            low[done], high[done] = inner[turned], outer[turned]
            f_low[done], f_high[done] = f_in[turned], f_out[turned]
            over = ~turned & ((new >= largest[todo]) if sign > 0 else (new <= smallest))
            out[todo[over]] = torch.inf if sign > 0 else 0.0
            go = ~turned & ~over
            todo, r, f = todo[go], new[go], value[go]
    found = torch.isnan(out)
    x = _chandrupatla(
        function, rows[found], low[found].log(), high[found].log(), f_low[found], f_high[found],
        tolerance,
    )  # fmt: skip
    out[found] = x.exp()
    return out


def _chandrupatla(
    function: Function, rows: Tensor, a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, tolerance: float
) -> Tensor:
    """Roots x = ln r between a and b, where fa < 0 <= fb (Chandrupatla, Adv. Eng. Softw. 1997)."""
    out = torch.where(fa.abs() < fb.abs(), a, b)
    if not len(rows):
        return out
    place = torch.arange(len(rows), device=rows.device)
    c, fc = a.clone(), fa.clone()
    t = torch.full_like(a, 0.5)
    for _ in range(100):
        x = a + t * (b - a)
        f = function(x.exp(), rows[place])
        same = (f < 0) == (fa < 0)
        c, fc = torch.where(same, a, b), torch.where(same, fa, fb)
        b, fb = torch.where(same, b, a), torch.where(same, fb, fa)
        a, fa = x, f
        out[place] = torch.where(fa.abs() < fb.abs(), a, b)
        width = (b - a).abs()
        go = (width > 2 * tolerance) & (fa != 0)
        if not bool(go.all()):
            a, b, c, fa, fb, fc, place = (q[go] for q in (a, b, c, fa, fb, fc, place))
        if not len(place):
            break
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        inverse = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        steep = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (
            fc - fb
        )
        least = (tolerance / (b - a).abs()).clamp(max=0.5)
        guess = torch.where(inverse & torch.isfinite(steep), steep, 0.5)
        t = torch.minimum(torch.maximum(guess, least), 1 - least)
    return out
