"""Exact second-order quantities that need no product with the whole Hessian.

For the output z of one example and a weight w_ab of the affine map u = h W + b of a layer,
d2z/dw_ab2 = h_a^2 d2z/du_b^2, so that

    tr H = mean over examples of  l'' |dz/dw|^2 + l' sum over layers (|h|^2 + 1) tr S,

with S = d2z/du2 (width x width) of the layer. S follows from the layer above,

    S_l = D_l W S_(l+1) W' D_l + diag(phi''(u_l) dz/dh_l),   D_l = diag(phi'(u_l)),

and S = 0 in the output layer: the recursion of Botev, Ritter & Barber (ICML 2017), section 3,
kept per example, so that nothing is approximated. Piecewise linear activations have S = 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from simprior.analysis.flatness._passes import Point
from simprior.analysis.flatness.ensemble import Ensemble

Tensor = torch.Tensor


def exact_cost(ensemble: Ensemble) -> float:
    """Multiplications of the exact trace of one network (those that grow faster than a pass)."""
    network = ensemble.network
    if network.activation in ("relu", "linear") or network.depth < 3:
        return 0.0
    return 2.0 * ensemble.examples * sum(
        a * b * (a + b) for a, b in zip(network.hidden[1:-1], network.hidden[2:], strict=True)
    ) + ensemble.examples * network.hidden[0] * network.hidden[1] ** 2  # fmt: skip


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
