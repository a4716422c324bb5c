"""Lanczos' method for the largest Hessian eigenvalue of many networks at once."""

from __future__ import annotations

import torch

from simprior.analysis.flatness._passes import Point
from simprior.analysis.flatness.ensemble import Ensemble

Tensor = torch.Tensor
_FIRST_LOOK, _LOOK, _GROW = 8, 4, 32
_TINY = 1e-13  # an off-diagonal entry below this times the norm is rounding


def top_eigenvalues(
    ensemble: Ensemble, start: Tensor, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(value, residual / |value|, products) of each network, from the vectors ``start`` (N, P)."""
    value = start.new_zeros(len(start))
    residual, products = torch.zeros_like(value), torch.zeros_like(value, dtype=torch.int64)
    step = ensemble.chunk(2 * ensemble.pass_numbers)
    for at in range(0, len(start), step):
        part = slice(at, min(at + step, len(start)))
        run = _Run(ensemble.subset(part), start[part])
        while len(run.rows):
            run.advance()
            theta, error = run.look(tolerance, iterations)
            if theta is None or error is None:
                continue
            done = (error <= tolerance) | (run.count >= min(iterations, ensemble.size))
            rows = run.rows[done] + at
            value[rows], residual[rows] = theta[done], error[done]
            products[rows] = run.count
            run.keep(~done)
    return value, residual, products


class _Run:
    """The Krylov spaces of a chunk of networks; ``rows`` are those not yet done."""

    def __init__(self, ensemble: Ensemble, start: Tensor) -> None:
        self.passes = ensemble.passes
        self.point = self.passes.point(
            ensemble.parameters, ensemble.X, ensemble.labels(), ensemble.loss
        )
        self.rows = torch.arange(len(start), device=start.device)
        n, size = start.shape
        self.basis = start.new_zeros(n, min(_GROW, size), size)
        self.basis[:, 0] = start / start.norm(dim=1, keepdim=True)
        self.alpha = start.new_zeros(n, 0)
        self.beta = start.new_zeros(n, 0)
        self.count = 0

    def advance(self) -> None:
        """One product with each Hessian, one more basis vector."""
        j, q = self.count, self.basis[:, self.count]
        w = self.passes.hvp(self.point, q.contiguous())
        alpha = (w * q).sum(1)
        known = self.basis[:, : j + 1]
        for _ in range(2):  # twice is enough
            w = w - torch.bmm(known.mT, torch.bmm(known, w.unsqueeze(2)))[:, :, 0]
        beta = w.norm(dim=1)
        scale = torch.cat([self.alpha.abs(), self.beta, alpha.abs().unsqueeze(1)], 1).amax(1)
        over = beta <= _TINY * scale  # an invariant space: what follows is inside the spectrum
        if self.count:
            closed = self.beta[:, -1] == 0
            alpha = torch.where(closed, self.alpha[:, 0], alpha)
            over |= closed
        beta = torch.where(over, 0.0, beta)
        self.alpha = torch.cat([self.alpha, alpha.unsqueeze(1)], 1)
        self.beta = torch.cat([self.beta, beta.unsqueeze(1)], 1)
        self.count = j + 1
        n, room, size = self.basis.shape
        if self.count == room and room < size:
            more = self.basis.new_zeros(n, min(_GROW, size - room), size)
            self.basis = torch.cat([self.basis, more], 1)
        if self.count < self.basis.shape[1]:
            divisor = torch.where(over, 1.0, beta).unsqueeze(1)
            self.basis[:, self.count] = torch.where(over.unsqueeze(1), 0.0, w / divisor)

    def look(self, tolerance: float, iterations: int) -> tuple[Tensor | None, Tensor | None]:
        """Largest Ritz values and their relative residuals, at the steps where it is looked."""
        j, size = self.count, self.basis.shape[2]
        last = j >= min(iterations, size)
        if not last and (j < _FIRST_LOOK or j % _LOOK):
            return None, None
        T = torch.diag_embed(self.alpha)
        if j > 1:
            off = self.beta[:, : j - 1]
            T = T + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        values, vectors = torch.linalg.eigh(T)
        theta, tail = values[:, -1], vectors[:, -1, -1].abs()
        error = self.beta[:, -1] * tail
        if j == size:
            error = torch.zeros_like(error)
        return theta, torch.where(error > 0, error / theta.abs().clamp(min=1e-300), 0.0)

    def keep(self, rows: Tensor) -> None:
        """Forget the networks that are done."""
        if bool(rows.all()):
            return
        self.rows = self.rows[rows]
        self.basis, self.alpha, self.beta = self.basis[rows], self.alpha[rows], self.beta[rows]
        self.point = take(self.point, rows)


def take(p: Point, rows: Tensor) -> Point:
    """The point of some of its networks."""
    each = lambda items: [t[rows] for t in items]  # noqa: E731
    layers = [(w[rows], b[rows]) for w, b in p.layers]
    second = [None if t is None else t[rows] for t in p.second]
    return Point(
        layers, each(p.inputs), each(p.first), second, each(p.deltas), each(p.behind),
        p.z[rows], p.slope[rows], p.bend[rows],
    )  # fmt: skip
