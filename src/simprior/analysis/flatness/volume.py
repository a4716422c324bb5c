"""How far from its weights a network still does the same, along random directions.

Random directions belong to (seed, run, network id): they are the same in any chunk or subset. Where
a function of the radius crosses a level is found for many networks at once: the crossing is
bracketed by factors, then Chandrupatla's method finds it (:func:`crossings`).

*Local volume.* Along a random ray w + r u the region in which the network does the same ends at
r(u). If the region is star-shaped around w its volume is V = V_P E[r(u)^P], with
V_P = pi^(P/2) / Gamma(P/2 + 1) the volume of the unit ball (Wu, Zhu & E 2017, on basin volumes;
Scherlis & Belrose 2025). ln V is estimated by log-mean-exp over rays.

The stated bias: r^P has heavy tails when P is large, the mean is carried by directions too rare to
be drawn, and ln V is underestimated, E[estimate] <= ln V (Jensen), by tens of nats or more; only
comparisons between networks of one architecture with the same number of rays make sense. ``ess``
says how many rays carry the estimate. Regions can be unbounded (a network with the same labels as w
is also met at infinity): "local" means within 10 |w|, and longer rays end there.

*PAC-Bayes sigma flatness.* How much Gaussian noise the weights bear (:func:`sigma_flatness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.checks import Choice, Maybe, Number, Whole
from simprior.errors import InputError
from simprior.network.losses import threshold
from simprior.numerics import random as rng

Tensor = torch.Tensor


def normals(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent standard normals."""
    shape = (count, ensemble.size)
    name = f"flatness/{ensemble.stream}{stream}"
    parts = [rng.generator(seed, name, int(i)).standard_normal(shape) for i in ensemble.ids]
    return torch.from_numpy(np.stack(parts)).to(ensemble.device)


def signs(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent signs -1 or +1."""
    numbers = count * ensemble.size
    parts = []
    name = f"flatness/{ensemble.stream}{stream}"
    for i in ensemble.ids:
        bits = rng.generator(seed, name, int(i)).bytes(-(-numbers // 8))
        parts.append(np.unpackbits(np.frombuffer(bits, np.uint8), count=numbers))
    out = np.stack(parts).reshape(len(parts), count, ensemble.size) * 2.0 - 1.0
    return torch.from_numpy(out).to(ensemble.device)


def unit_directions(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent directions, uniform on the unit sphere."""
    drawn = normals(ensemble, seed, stream, count)
    return drawn / drawn.norm(dim=2, keepdim=True)


Function = Callable[[Tensor, Tensor], Tensor]
"""(radii (R,), rows (R,)) -> values (R,) of the functions ``rows``; negative before a crossing."""


def crossings(
    function: Function,
    count: int,
    *,
    start: float,
    factor: float,
    largest: Tensor,
    tolerance: float,
    smallest: float = 1e-12,
) -> Tensor:
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
        function,
        rows[found],
        low[found].log(),
        high[found].log(),
        f_low[found],
        f_high[found],
        tolerance,
    )
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


RAYS, ERROR_RISE, LOSS_RISE = 32, 0.1, 0.1
CRITERIA = ("labels", "error", "loss")
_REACH = 10.0


@dataclass(frozen=True, eq=False)
class Volume:
    """(N,) arrays, in nats: ``value`` ln V; ``stderr`` its jackknife standard error over rays;
    ``ess`` effective number of rays (1: one ray carries everything); ``mean_log_radius`` the mean
    of ln r, a robust companion; ``capped`` share of rays that did not leave within the reach."""

    value: np.ndarray
    stderr: np.ndarray
    ess: np.ndarray
    mean_log_radius: np.ndarray
    capped: np.ndarray


def local_volume(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    criterion: str = "labels",
    rise: float | None = None,
    rays: int = RAYS,
    inputs: Any = None,
) -> Volume:
    """ln of the local volume around every network.

    Parameters
    ----------
    criterion : str
        Where a ray ends: ``labels``: some class of the inputs changes (for zero training error this
        is the volume of the same labels, for all bit strings that of the same function);
        ``error``: the training error has risen by more than ``rise`` (default 0.1); ``loss``: the
        mean loss has risen by ``rise`` (default 0.1).
    rays : int
        Random directions a network.
    inputs : (m, d) array, optional
        For ``labels``: other inputs than those fitted, e.g. all bit strings.

    Raises
    ------
    InputError
        Unknown criterion, rise not > 0 (error: < 1), fewer than 2 rays, inputs of another width.
    """
    _check(criterion, rise, rays)
    if inputs is not None and np.shape(inputs)[1:] != (ensemble.network.d,):
        raise InputError(
            f"inputs of shape {np.shape(inputs)}", f"(m, {ensemble.network.d})", "correct it"
        )

    def measure(part: Ensemble) -> dict[str, Tensor]:
        rays_of = unit_directions(part, seed, "volume", rays).flatten(0, 1)
        reach = _REACH * part.parameters.norm(dim=1)
        owner = torch.arange(len(part), device=part.device).repeat_interleave(rays)
        ends = _level(part, criterion, rise, inputs)

        def function(r: Tensor, rows: Tensor) -> Tensor:
            out = []
            step = part.chunk(2 * part.size + 3 * part.examples * part.passes.units)
            for at in range(0, len(rows), step):
                some = rows[at : at + step]
                w = part.parameters[owner[some]] + r[at : at + step, None] * rays_of[some]
                out.append(ends(w, owner[some]))
            return torch.cat(out)

        r = crossings(
            function,
            len(owner),
            start=1.0,
            factor=2.0,
            largest=reach[owner],
            tolerance=1e-3 / part.size,
        )
        return _summary(r.unflatten(0, (len(part), rays)), reach, part.size)

    found = ensemble.per_chunk(measure, (2 * rays + 4) * ensemble.size)
    return Volume(**found)


def log_unit_ball(size: int) -> float:
    """ln volume of the unit ball in ``size`` dimensions."""
    return 0.5 * size * math.log(math.pi) - math.lgamma(0.5 * size + 1)


def _level(part: Ensemble, criterion: str, rise: float | None, inputs: Any) -> Any:
    """(points, networks) -> how far beyond the end of the region, negative inside."""
    cut = threshold(part.loss)
    if criterion == "loss":
        base = part.losses() + (LOSS_RISE if rise is None else rise)
        return lambda w, rows: part.losses(w, rows) - base[rows]
    if criterion == "labels":
        signs = 2 * part.classes(inputs).double() - 1
        return lambda w, rows: -(signs[rows] * (part.outputs(inputs, w) - cut)).amin(1)
    allowed = part.errors() + (ERROR_RISE if rise is None else rise)
    wrong = (allowed * part.examples + 1e-9).floor().long().clamp(max=part.examples - 1)
    signs = 2 * part.labels() - 1

    def order(w: Tensor, rows: Tensor) -> Tensor:
        """Minus the (wrong + 1)-th smallest margin: >= 0 once more examples than allowed fail."""
        mine = signs[rows] if len(signs) > 1 else signs
        margins = (mine * (part.outputs(None, w) - cut)).sort(dim=1).values
        return -margins.gather(1, wrong[rows].unsqueeze(1))[:, 0]

    return order


def _summary(r: Tensor, reach: Tensor, size: int) -> dict[str, Tensor]:
    capped = torch.isinf(r)
    logs = torch.minimum(r, reach.unsqueeze(1)).clamp(min=1e-300).log()
    scaled, rays = size * logs, r.shape[1]
    whole = scaled.logsumexp(1)
    shares = (scaled - whole.unsqueeze(1)).exp()
    left = torch.eye(rays, dtype=torch.bool, device=r.device)
    others = scaled.unsqueeze(1).masked_fill(left, -torch.inf).logsumexp(2) - math.log(rays - 1)
    deviation = (others - others.mean(1, keepdim=True)).square().sum(1)
    return {
        "value": log_unit_ball(size) + whole - math.log(rays),
        "stderr": (deviation * (rays - 1) / rays).sqrt(),
        "ess": 1 / shares.square().sum(1),
        "mean_log_radius": logs.mean(1),
        "capped": capped.double().mean(1),
    }


def _check(criterion: str, rise: float | None, rays: int) -> None:
    Choice(CRITERIA, "pass labels")("criterion", criterion)
    positive = Number(0, open=True, remedy="pass for example 0.1", expected="a number > 0")
    Maybe(positive)("rise", rise)
    Whole(2, remedy=f"pass for example rays={RAYS}", expected="at least 2")("rays", rays)


TARGET, DRAWS = 0.1, 32
_SLOPE, _START = 0.1, 1 / 64
SIGMA_CRITERIA = ("error", "loss")


def sigma_flatness(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    target: float = TARGET,
    criterion: str = "error",
    draws: int = DRAWS,
    tolerance: float = 5e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """sigma with E[L(w + sigma e)] - L(w) = target, e ~ N(0, 1) in every weight and bias.

    Jiang et al. (ICLR 2020), appendix C (Neyshabur et al. 2017): the largest noise, as STANDARD
    DEVIATION (not variance), at which the expected rise of the training error is still 0.1; large
    is flat. The expectation is a mean over ``draws`` noise vectors kept fixed during the search
    (common random numbers), so that it is one curve in sigma; its first crossing of the target is
    bracketed by factors of 2 and found to ``tolerance`` in ln sigma.

    Parameters
    ----------
    criterion : str
        ``error``: the training error (share); ``loss``: the mean loss, in its units.

    Returns
    -------
    (N,) sigma, in units of the weights; ``inf`` where noise never raises the target (up to 1e6)
    (N,) standard errors: of the mean over draws, over the slope of the curve (delta method); nan
    where sigma is infinite. Noise vectors that all give the same error are no certainty: 1 / draws.

    Raises
    ------
    InputError
        target <= 0, unknown criterion, fewer than 2 draws.
    """
    Choice(SIGMA_CRITERIA, "pass criterion='error'", "error or loss")("criterion", criterion)
    rise = Number(0, open=True, remedy=f"pass for example {TARGET}", expected="a rise > 0")
    rise("target", target)
    draws = Whole(2, remedy=f"pass for example draws={DRAWS}", expected="at least 2")(
        "draws", draws
    )

    def measure(part: Ensemble) -> dict[str, Tensor]:
        noise = normals(part, seed, "sigma", draws)
        level = part.errors if criterion == "error" else part.losses
        base = level()

        def rises(sigma: Tensor, rows: Tensor) -> Tensor:
            """(R, draws) rises at one sigma a network."""
            out = []
            step = part.chunk(draws * (2 * part.size + 3 * part.examples * part.passes.units))
            for at in range(0, len(rows), step):
                r = rows[at : at + step]
                s = sigma[at : at + step, None, None]
                points = (part.parameters[r].unsqueeze(1) + s * noise[r]).flatten(0, 1)
                every = r.repeat_interleave(draws)
                out.append(level(points, every).unflatten(0, (len(r), draws)))
            return torch.cat(out) - base[rows].unsqueeze(1)

        sigma = crossings(
            lambda s, rows: rises(s, rows).mean(1) - target,
            len(part),
            start=_START,
            factor=2.0,
            largest=torch.full_like(base, 1e6),
            tolerance=tolerance,
        )
        return {"sigma": sigma, "stderr": _stderr(rises, sigma, draws)}

    found = ensemble.per_chunk(measure, 2 * draws * ensemble.size)
    return found["sigma"], found["stderr"]


def _stderr(rises: Callable[[Tensor, Tensor], Tensor], sigma: Tensor, draws: int) -> Tensor:
    out = torch.full_like(sigma, torch.nan)
    rows = torch.nonzero(torch.isfinite(sigma) & (sigma > 0))[:, 0]
    if not len(rows):
        return out
    s = sigma[rows]
    low, at, high = (rises(s * q, rows) for q in (1 - _SLOPE, 1.0, 1 + _SLOPE))
    slope = (high - low).mean(1) / (2 * _SLOPE * s)
    spread = at.std(1) / draws**0.5
    spread = torch.where(spread > 0, spread, 1.0 / (draws + 2))  # a share, as share_stderr does
    out[rows] = torch.where(slope > 0, spread / slope, torch.inf)
    return out
