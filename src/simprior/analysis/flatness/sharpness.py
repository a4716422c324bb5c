"""Sharpness: how much the loss rises close to the weights, at most or on average.

``keskar`` is in per cent of 1 + L; ``sam`` and ``random_sharpness`` are in units of the loss (nats
for cross-entropy). All of them change under alpha-rescaling of relu layers.

The largest rise is a maximum over a box or a ball, for N networks at once, found by projected
ascent along feasible directions (:func:`ascend`). Each step goes from v towards a point of the
region: the extreme point of the linearised function while the function curves upwards along the
last move (then the whole step is accepted: the conditional-gradient step, which for a convex
function never decreases it), or the projection of v + tau g with the Barzilai-Borwein step tau
where it curves downwards (spectral projected gradient, Birgin, Martinez & Raydan, SIAM J. Optim.
2000, algorithm SPG2, monotone). Steps that fail Armijo's condition are shortened by quadratic
interpolation. Functions that are done leave the batch.

The certificate is the conditional-gradient gap, max over the region of g.(s - v) >= 0: zero
exactly at points that satisfy the first-order (KKT) conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.volume import signs, unit_directions
from simprior.errors import InputError

Tensor = torch.Tensor
Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (R, P), rows (R,)) -> values (R,) and gradients (R, P) of the functions ``rows``."""


def differentiated(loss: Callable[[Tensor], Tensor]) -> Function:
    """Values and gradients, by torch, of a loss that maps (R, P) points to (R,) values."""

    def both(points: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        leaf = points.detach().requires_grad_()
        values = loss(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient.clone()

    return both


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
    function: Function,
    region: Region,
    start: Tensor,
    base: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> Maximum:
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
    function: Function,
    region: Region,
    v: Tensor,
    f: Tensor,
    g: Tensor,
    tau: Tensor,
    rows: Tensor,
    evaluations: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
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


ZETA, RHO, RANDOM_RHO = 1e-4, 0.05, 0.5
STARTS, ITERATIONS, TOLERANCE, AGREE = 2, 100, 1e-3, 1e-2
DRAWS = 32


@dataclass(frozen=True, eq=False)
class Sharpness:
    """A maximum of the loss near each of N networks; (N,) arrays.

    ``value``: the measure; ``gain``: largest rise of the loss found; ``gap``: the first-order
    certificate of the best point (``_ascent``) over its gain, 0 at a KKT point; ``agreement``:
    relative difference between the gains of the best and the second best start; ``converged``:
    gap <= the tolerance and agreement <= 1 %; ``evaluations`` of the loss and its gradient.
    """

    value: np.ndarray
    gain: np.ndarray
    gap: np.ndarray
    agreement: np.ndarray
    converged: np.ndarray
    evaluations: np.ndarray


def box_maximum(
    function: Callable[[Tensor], Tensor],
    centre: Tensor,
    radius: Tensor,
    *,
    seed: int = 0,
    starts: int = STARTS,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Sharpness:
    """Largest rise of any loss over a box around each row of ``centre``.

    Parameters
    ----------
    function : callable
        (R, P) points -> (R,) values, differentiable with torch; the same function for all rows.
    centre, radius : (N, P) tensors
        Boxes |w - centre| <= radius, float64.
    seed, starts, iterations, tolerance
        As for :func:`keskar_sharpness`; ``value`` is the rise.
    """

    drawn = np.random.default_rng(seed).integers(2, size=(len(centre), starts, centre.shape[1]))
    others = torch.from_numpy(drawn * 2.0 - 1.0).to(centre)
    found, base = _from_starts(
        differentiated(function), Box, centre, radius, others, iterations, tolerance
    )
    return _sharpness(found, base, tolerance, lambda gain, _: gain)


def keskar_sharpness(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    zeta: float = ZETA,
    starts: int = STARTS,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Sharpness:
    """100 (max L - L) / (1 + L) over the box |dw_i| <= zeta (|w_i| + 1), in per cent.

    Keskar et al. (ICLR 2017), metric 2.1 with A the identity; 1e-4, 5e-4 and 1e-3 are usual. The
    maximum is sought from the weights themselves (the first step goes to the vertex of the signs
    of the gradient), from the opposite vertex and from ``starts`` random vertices, in at most
    ``iterations`` evaluations each. A local method: the value is a lower bound of the maximum,
    and ``converged`` says how good.

    Raises
    ------
    InputError
        zeta is not > 0, or the activation has no gradient.
    """
    zeta = _positive("zeta", zeta)

    def measure(part: Ensemble) -> dict[str, Tensor]:
        w = part.parameters
        radius = zeta * (w.abs() + 1)
        others = signs(part, seed, "keskar", starts)
        found, base = _from_starts(
            part.value_and_gradients, Box, w, radius, others, iterations, tolerance
        )
        made = _sharpness(found, base, tolerance, lambda gain, loss: 100 * gain / (1 + loss))
        return {k: torch.from_numpy(v) for k, v in vars(made).items()}

    return Sharpness(**ensemble.per_chunk(measure, (12 + 2 * starts) * ensemble.size))


def sam_sharpness(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    rho: float = RHO,
    one_step: bool = False,
    starts: int = 1,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Sharpness:
    """max over |dw|_2 <= rho of L(w + dw) - L(w), in units of the loss.

    Foret et al. (ICLR 2021), eq. (1), p = 2. ``one_step``: the value at their first-order step
    dw = rho g / |g| (eq. 2); else the ascent continues until its certificate is met, from there,
    from the opposite point and from ``starts`` random points. Raises :class:`InputError` as above.
    """
    rho = _positive("rho", rho)

    def measure(part: Ensemble) -> dict[str, Tensor]:
        w = part.parameters
        if one_step:
            base, g = part.value_and_gradients()
            d = Ball.extreme(g, torch.zeros_like(g))
            value, after = part.value_and_gradients(w + rho * d)
            single = Maximum(value, d, rho * Ball.gap(after, d), torch.full_like(value, 2))
            made = _sharpness([single], base, tolerance, lambda gain, _: gain)
        else:
            others = unit_directions(part, seed, "sam", starts)
            radius = torch.full_like(w[:, :1], rho)
            found, base = _from_starts(
                part.value_and_gradients, Ball, w, radius, others, iterations, tolerance
            )
            made = _sharpness(found, base, tolerance, lambda gain, _: gain)
        return {k: torch.from_numpy(v) for k, v in vars(made).items()}

    return Sharpness(**ensemble.per_chunk(measure, (12 + 2 * starts) * ensemble.size))


def random_sharpness(
    ensemble: Ensemble, seed: int = 0, *, rho: float = RANDOM_RHO, draws: int = DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of L(w + dw) - L(w) over dw uniform on the sphere |dw|_2 = rho, in units of the loss.

    The average counterpart of :func:`sam_sharpness` (random directions in place of the worst one),
    for small rho about rho^2 tr H / 2P; the default radius is larger, as a random direction is
    flatter by far. ``draws`` directions are used with both signs, which removes the slope.

    Returns
    -------
    (N,) means, (N,) standard errors over directions (nan where all give the same rise, as on a
    plateau: they cannot tell)
    """
    rho = _positive("rho", rho)

    def measure(part: Ensemble) -> dict[str, Tensor]:
        steps = rho * unit_directions(part, seed, "random", draws)
        base = part.losses()
        values = [
            0.5 * (part.losses(part.parameters + s) + part.losses(part.parameters - s)) - base
            for s in steps.unbind(1)
        ]
        each = torch.stack(values, dim=1)
        spread = each.std(1) / draws**0.5
        return {"mean": each.mean(1), "stderr": torch.where(spread > 0, spread, torch.nan)}

    draws = max(2, int(draws))
    found = ensemble.per_chunk(measure, (2 * draws + 4) * ensemble.size)
    return found["mean"], found["stderr"]


def _from_starts(
    function: Function,
    region: Region,
    centre: Tensor,
    radius: Tensor,
    others: Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[list[Maximum], Tensor]:
    """A maximum from each start, in coordinates v = (w - centre) / radius; and the loss at 0."""

    def scaled(v: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        all_of_them = len(rows) == len(centre)  # rows are increasing: no need to copy
        c, r = (centre, radius) if all_of_them else (centre[rows], radius[rows])
        values, gradient = function(torch.addcmul(c, r, v), rows)
        return values, gradient.mul_(r)

    zero = torch.zeros_like(centre)
    base, g = scaled(zero, torch.arange(len(centre), device=centre.device))
    opposite = -region.extreme(g, zero)
    begin = [zero, opposite, *others.unbind(1)]
    found = [
        ascend(scaled, region, s, base, iterations=iterations, tolerance=tolerance) for s in begin
    ]
    return found, base


def _sharpness(
    found: list[Maximum],
    base: Tensor,
    tolerance: float,
    value: Callable[[Tensor, Tensor], Tensor],
) -> Sharpness:
    gains = torch.stack([m.value for m in found]) - base
    best, which = gains.max(0)
    gain = best.clamp(min=0)
    gaps = torch.stack([m.gap for m in found]).gather(0, which.unsqueeze(0))[0]
    relative = torch.where(gaps > 0, gaps / gain, 0.0)
    spread = torch.zeros_like(gain)
    if len(found) > 1:
        second = gains.topk(2, dim=0).values[1].clamp(min=0)
        spread = torch.where(gain > 0, 1 - second / gain, 0.0)
    work = torch.stack([m.evaluations for m in found]).sum(0)
    good = (relative <= tolerance) & (spread <= AGREE)
    columns = (value(gain, base), gain, relative, spread, good, work)
    return Sharpness(*(c.cpu().numpy() for c in columns))


def _positive(name: str, number: float) -> float:
    if isinstance(number, bool) or not np.isfinite(number) or number <= 0:
        raise InputError(f"{name}={number!r}", "a finite number > 0", f"pass for example {name}=1")
    return float(number)
