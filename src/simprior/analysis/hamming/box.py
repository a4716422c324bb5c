"""Critical sample ratio on real inputs: is there another class in a box around the point?

Arpit et al. (ICML 2017, section 4) call a point critical if a box of radius r around it holds a
point of another class, found by a Langevin search for adversarial samples. The same here, for all
networks and points at once: signed gradient steps on the margin plus noise, projected on the box,
from the point itself and from random points of the box.

A search can miss: the ratio found is a lower bound of the true one. It is exact where it is 1, and
grows with ``steps`` and ``restarts``. For a network that is linear in the box one step from the
point reaches the corner of least margin, so that nothing is missed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.errors import InputError
from simprior.estimate import share_stderr
from simprior.rng import generator

if TYPE_CHECKING:
    import torch

    from simprior.analysis.flatness.ensemble import Ensemble

STEPS, RESTARTS, RADIUS = 20, 2, 0.05
NOISE = 0.1  # standard deviation of the Langevin noise of a step, in radii


def box_csr(
    ensemble: Ensemble,
    X: np.ndarray | None = None,
    radius: float = RADIUS,
    seed: int = 0,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
) -> dict[str, np.ndarray]:
    """Share of the points with a differently classified point within ``radius`` in each coordinate.

    Parameters
    ----------
    ensemble : Ensemble
        N networks of one architecture.
    X : (m, d) array, optional
        The points (default: the examples fitted).
    radius : float
        Half the side of the box, in units of the inputs.
    seed : int
        Of noise and random starts; those of a network belong to (seed, its id).
    steps, restarts : int
        Gradient steps of a search, and searches a point (the first starts at the point).

    Returns
    -------
    dict
        ``box_csr`` (N,) the share found critical, a lower bound, and ``box_csr_stderr`` (N,) its
        standard error (``estimate.share_stderr`` of c, m) as an estimate for the population the
        points come from.

    Raises
    ------
    InputError
        A radius that is not > 0, points of the wrong shape, an activation without gradient.
    """
    found = critical_points(ensemble, X, radius, seed, steps=steps, restarts=restarts)
    share = found.mean(axis=1)
    return {
        "box_csr": share, "box_csr_stderr": share_stderr(share, found.shape[1])
    }  # fmt: skip


def critical_points(
    ensemble: Ensemble,
    X: np.ndarray | None = None,
    radius: float = RADIUS,
    seed: int = 0,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
) -> np.ndarray:
    """(N, m) bool: points for which :func:`box_csr` found another class in the box."""
    import torch

    for name, value in (("steps", steps), ("restarts", restarts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}", "an integer >= 1", f"pass for example {name}=20")
    if not (isinstance(radius, int | float) and math.isfinite(radius) and radius > 0):
        raise InputError(f"radius={radius!r}", "a finite number > 0", f"pass for example {RADIUS}")
    points = ensemble.X if X is None else _points(X, ensemble)
    numbers = len(points) * (4 * ensemble.passes.units + 4 * ensemble.network.d)
    parts = []
    with torch.no_grad():
        for rows in ensemble.chunks(numbers):
            search = _Search(ensemble.subset(rows), points, float(radius), seed, steps)
            parts.append(search.run(restarts))
    return np.concatenate(parts)


def _points(X: Any, ensemble: Ensemble) -> torch.Tensor:
    import torch

    array = np.array(X, np.float64)
    d = ensemble.network.d
    if array.ndim != 2 or array.shape[1] != d or not len(array) or not np.isfinite(array).all():
        raise InputError(f"X of shape {array.shape}", f"(m, {d}) finite points", "pass a matrix")
    return torch.from_numpy(array).to(ensemble.device)


class _Search:
    """The search for one chunk of networks."""

    def __init__(
        self, ensemble: Ensemble, points: torch.Tensor, radius: float, seed: int, steps: int
    ) -> None:
        from simprior.training.losses import threshold

        self.passes, self.points = ensemble.passes, points
        self.layers = ensemble.passes.layers(ensemble.parameters)
        self.derive = ensemble.passes.derivatives()
        self.level = threshold(ensemble.loss)
        self.radius, self.steps = radius, steps
        self.rngs = [generator(seed, "box-csr", int(i)) for i in ensemble.ids]
        start = points.expand(len(ensemble), -1, -1)
        self.high = self._outputs(start)[0] > self.level  # the class of the point itself
        self.found = self.high.new_zeros(self.high.shape)

    def run(self, restarts: int) -> np.ndarray:
        """(N, m) bool."""
        for restart in range(restarts):
            x = self.points.expand(len(self.rngs), -1, -1)
            if restart:
                x = x + self.radius * (2 * self._random(uniform=True) - 1)
            self._descend(x)
        return np.asarray(self.found.cpu().numpy())

    def _descend(self, x: torch.Tensor) -> None:
        """Lower the margin from x (N, m, d); the first step may cross the box, later ones less."""
        low, high = self.points - self.radius, self.points + self.radius
        sign = (2.0 * self.high - 1.0).unsqueeze(2)
        for step in range(self.steps):
            slope = self._slopes(x)
            size = 2 * self.radius / (1 + step)
            x = x - size * (sign * slope).sign()
            if step:
                x = x + NOISE * self.radius * self._random(uniform=False)
            x = x.clamp(low, high)
            self.found |= (self._outputs(x)[0] > self.level) != self.high
            if bool(self.found.all()):
                return

    def _outputs(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """(N, m) outputs on (N, m, d) inputs, and (u, phi(u)) of the hidden layers."""
        hidden, h = [], x
        for i, (w, b) in enumerate(self.layers):
            h = b + h @ w
            if i < len(self.layers) - 1:
                u, h = h, self.passes.activation(h)
                hidden.append((u, h))
        return h[:, :, 0], hidden

    def _slopes(self, x: torch.Tensor) -> torch.Tensor:
        """(N, m, d) gradients of the outputs in the inputs."""
        _, hidden = self._outputs(x)
        back = self.layers[-1][0].mT.expand(-1, x.shape[1], -1)
        for (w, _), (u, h) in zip(self.layers[-2::-1], hidden[::-1], strict=True):
            back = (self.derive(u, h)[0] * back) @ w.mT
        return back

    def _random(self, uniform: bool) -> torch.Tensor:
        import torch

        shape = tuple(self.points.shape)
        draws = [rng.random(shape) if uniform else rng.standard_normal(shape) for rng in self.rngs]
        return torch.from_numpy(np.stack(draws)).to(self.points.device)
