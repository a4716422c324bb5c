"""Exact second-order quantities that need no product with the whole Hessian.

For the output z of one example and a weight w_ab of the affine map u = h W + b of a layer,
d2z/dw_ab2 = h_a^2 d2z/du_b^2, so that

    tr H = mean over examples of  l'' |dz/dw|^2 + l' sum over layers (|h|^2 + 1) tr S,

with S = d2z/du2 (width x width) of the layer. S follows from the layer above,

    S_l = D_l W S_(l+1) W' D_l + diag(phi''(u_l) dz/dh_l),   D_l = diag(phi'(u_l)),

and S = 0 in the output layer: the recursion of Botev, Ritter & Barber (ICML 2017), section 3,
kept per example, so that nothing is approximated. Piecewise linear activations have S = 0.

Lanczos' method for the largest Hessian eigenvalue of many networks at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from simprior.analysis.flatness.ensemble import Ensemble, Point

Tensor = torch.Tensor


def exact_cost(ensemble: Ensemble) -> float:
    """Multiplications of the exact trace of one network (those that grow faster than a pass)."""
    network = ensemble.network
    if network.activation in ("relu", "linear") or network.depth < 3:
        return 0.0
    return (
        2.0
        * ensemble.examples
        * sum(
            a * b * (a + b) for a, b in zip(network.hidden[1:-1], network.hidden[2:], strict=True)
        )
        + ensemble.examples * network.hidden[0] * network.hidden[1] ** 2
    )


def exact_trace(ensemble: Ensemble) -> dict[str, Tensor]:
    """{"trace": (N,)} Hessian traces."""
    parts = []
    for part in ensemble.chunks(2 * ensemble.pass_numbers):
        each = ensemble.subset(part)
        p = each.passes.point(each.parameters, each.X, each.labels(), each.loss)
        parts.append(_trace(each, p))
    return {"trace": torch.cat(parts)}


def _trace(ensemble: Ensemble, p: Point) -> Tensor:
    fans = [h.square().sum(2) + 1 for h in p.inputs]
    size = torch.stack([f * d.square().sum(2) for f, d in zip(fans, p.deltas, strict=True)])
    total = p.bend * size.sum(0)
    if any(s is not None for s in p.second):
        for rows in _examples(ensemble, p):
            total[:, rows] += p.slope[:, rows] * _bend_of_output(p, rows, fans)
    return total.mean(1)


def _examples(ensemble: Ensemble, p: Point) -> Iterator[slice]:
    """Examples at a time, so that the matrices S fit the memory."""
    widest = max(ensemble.network.hidden)
    step = ensemble.chunk(4 * len(p.z) * widest * widest)
    for at in range(0, p.z.shape[1], step):
        yield slice(at, at + step)


def _bend_of_output(p: Point, rows: slice, fans: list[Tensor]) -> Tensor:
    """(N, rows) trace of d2z/dw2 of each example."""
    top = len(p.first) - 1
    diagonal = _own(p, top, rows)
    out = fans[top][:, rows] * diagonal.sum(2)
    if top == 0:
        return out
    full: Tensor | None = None  # S of the layer above; None: diag(diagonal)
    for i in range(top - 1, -1, -1):
        w = p.layers[i + 1][0]
        if full is None:
            above = torch.bmm(diagonal, w.square().mT)  # diagonal of W S W'
        else:
            ws = torch.einsum("nab,nkbc->nkac", w, full)
            above = (ws * w.unsqueeze(1)).sum(3)
        own = _own(p, i, rows)
        slope = p.first[i][:, rows]
        trace = (slope.square() * above + own).sum(2)
        out = out + fans[i][:, rows] * trace
        if i:
            full = _below(w, full, diagonal, slope, own)
    return out


def _own(p: Point, i: int, rows: slice) -> Tensor:
    """phi'' dz/dh of hidden layer i, (N, rows, width)."""
    bend = p.second[i]
    if bend is None:
        return torch.zeros_like(p.first[i][:, rows])
    return bend[:, rows] * p.behind[i][:, rows]


def _below(w: Tensor, full: Tensor | None, diagonal: Tensor, slope: Tensor, own: Tensor) -> Tensor:
    """S of a layer (N, rows, width, width) from that of the layer above."""
    scaled = slope.unsqueeze(3) * w.unsqueeze(1)  # D W
    if full is None:
        out = torch.matmul(scaled * diagonal.unsqueeze(2), scaled.mT)
    else:
        out = torch.matmul(torch.matmul(scaled, full), scaled.mT)
    out.diagonal(dim1=2, dim2=3).add_(own)
    return out


def layer_curvature(p: Point, layer: int, rows: slice) -> Tensor | None:
    """S of affine layer ``layer``, (N, rows, width, width); None where it is zero."""
    top = len(p.first) - 1
    if layer > top or all(s is None for s in p.second):
        return None
    diagonal, full = _own(p, top, rows), None
    for i in range(top - 1, layer - 1, -1):
        full = _below(p.layers[i + 1][0], full, diagonal, p.first[i][:, rows], _own(p, i, rows))
    return torch.diag_embed(diagonal) if full is None else full


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
        layers,
        each(p.inputs),
        each(p.first),
        second,
        each(p.deltas),
        each(p.behind),
        p.z[rows],
        p.slope[rows],
        p.bend[rows],
    )
