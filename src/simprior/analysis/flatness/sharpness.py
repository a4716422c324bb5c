"""Sharpness: how much the loss rises close to the weights, at most or on average.

Units: ``keskar`` is in per cent of 1 + L; ``sam`` and ``random_sharpness`` are in units of the loss
(nats for cross-entropy). All of them change under alpha-rescaling of relu layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness._ascent import Ball, Box, Function, Maximum, Region, ascend
from simprior.analysis.flatness._random import signs, unit_directions
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError

Tensor = torch.Tensor
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
    function: Callable[[Tensor], Tensor], centre: Tensor, radius: Tensor, *, seed: int = 0,
    starts: int = STARTS, iterations: int = ITERATIONS, tolerance: float = TOLERANCE,
) -> Sharpness:  # fmt: skip
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

    def both(points: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        leaf = points.detach().requires_grad_()
        values = function(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        gradient = gradient.clone()
        return values.detach(), gradient

    drawn = np.random.default_rng(seed).integers(2, size=(len(centre), starts, centre.shape[1]))
    others = torch.from_numpy(drawn * 2.0 - 1.0).to(centre)
    found, base = _from_starts(both, Box, centre, radius, others, iterations, tolerance)
    return _sharpness(found, base, tolerance, lambda gain, _: gain)


def keskar_sharpness(
    ensemble: Ensemble, seed: int = 0, *, zeta: float = ZETA, starts: int = STARTS,
    iterations: int = ITERATIONS, tolerance: float = TOLERANCE,
) -> Sharpness:  # fmt: skip
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
    ensemble: Ensemble, seed: int = 0, *, rho: float = RHO, one_step: bool = False,
    starts: int = 1, iterations: int = ITERATIONS, tolerance: float = TOLERANCE,
) -> Sharpness:  # fmt: skip
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
    function: Function, region: Region, centre: Tensor, radius: Tensor, others: Tensor,
    iterations: int, tolerance: float,
) -> tuple[list[Maximum], Tensor]:  # fmt: skip
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
    found: list[Maximum], base: Tensor, tolerance: float,
    value: Callable[[Tensor, Tensor], Tensor],
) -> Sharpness:  # fmt: skip
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
