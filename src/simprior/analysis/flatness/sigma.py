"""PAC-Bayes sigma flatness: how much Gaussian noise the weights bear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from simprior.analysis.flatness._random import normals
from simprior.analysis.flatness._roots import crossings
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError

Tensor = torch.Tensor
TARGET, DRAWS = 0.1, 32
_SLOPE, _START = 0.1, 1 / 64
CRITERIA = ("error", "loss")


def sigma_flatness(
    ensemble: Ensemble, seed: int = 0, *, target: float = TARGET, criterion: str = "error",
    draws: int = DRAWS, tolerance: float = 5e-3,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
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
    if criterion not in CRITERIA:
        raise InputError(f"criterion={criterion!r}", "error or loss", "pass criterion='error'")
    if isinstance(target, bool) or not np.isfinite(target) or target <= 0:
        raise InputError(f"target={target!r}", "a rise > 0", f"pass for example {TARGET}")
    if draws < 2:
        raise InputError(f"draws={draws}", "at least 2", f"pass for example draws={DRAWS}")

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
            lambda s, rows: rises(s, rows).mean(1) - target, len(part), start=_START, factor=2.0,
            largest=torch.full_like(base, 1e6), tolerance=tolerance,
        )  # fmt: skip
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
