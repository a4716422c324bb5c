"""Local volume: the region of parameter space around a network where it still does the same.

Along a random ray w + r u the region ends at r(u); if it is star-shaped around w its volume is
V = V_P E[r(u)^P], V_P = pi^(P/2) / Gamma(P/2 + 1) the volume of the unit ball (Wu, Zhu & E 2017, on
basin volumes; Scherlis & Belrose 2025). ln V is estimated by log-mean-exp over rays.

The stated bias: r^P has heavy tails when P is large, the mean is carried by directions too rare to
be drawn, and ln V is underestimated, E[estimate] <= ln V (Jensen), by tens of nats or more; only
comparisons between networks of one architecture with the same number of rays make sense. ``ess``
says how many rays carry the estimate. Regions can be unbounded (a network with the same labels as w
is also met at infinity): "local" means within 10 |w|, and longer rays end there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simprior.analysis.flatness._random import unit_directions
from simprior.analysis.flatness._roots import crossings
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError
from simprior.training.losses import threshold

Tensor = torch.Tensor
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
    ensemble: Ensemble, seed: int = 0, *, criterion: str = "labels", rise: float | None = None,
    rays: int = RAYS, inputs: Any = None,
) -> Volume:  # fmt: skip
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
        "stderr": (deviation * (rays - 1) / rays).sqrt(), "ess": 1 / shares.square().sum(1),
        "mean_log_radius": logs.mean(1), "capped": capped.double().mean(1),
    }  # fmt: skip


def _check(criterion: str, rise: float | None, rays: int) -> None:
    if criterion not in CRITERIA:
        raise InputError(f"criterion={criterion!r}", f"one of {', '.join(CRITERIA)}", "pass labels")
    if rise is not None and (not np.isfinite(rise) or rise <= 0):
        raise InputError(f"rise={rise!r}", "a number > 0", "pass for example 0.1")
    if rays < 2:
        raise InputError(f"rays={rays}", "at least 2", f"pass for example rays={RAYS}")
