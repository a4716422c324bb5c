"""Fisher-Rao norm and relative flatness: curvature that relu rescaling cannot change."""

from __future__ import annotations

import numpy as np
import torch

from simprior.analysis.flatness._curvature import layer_curvature
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError

Tensor = torch.Tensor


def fisher_rao(ensemble: Ensemble) -> np.ndarray:
    """(N,) Fisher-Rao norms |w|_fr = sqrt(w' I(w) w), in units of the loss.

    Liang, Poggio, Rakhlin & Stokes (AISTATS 2019), definition 2, with the empirical Fisher matrix
    of the training examples and their labels: |w|_fr^2 = mean over examples of <w, dl/dw>^2. For
    networks without biases it equals (depth + 1)^2 mean (l'(z) z)^2 (their section 3). Unchanged
    by alpha-rescaling. Raises :class:`InputError` for an activation without gradients.
    """
    parts = []
    for part in ensemble.chunks(2 * ensemble.pass_numbers):
        each = ensemble.subset(part)
        p = each.passes.point(each.parameters, each.X, each.labels(), each.loss)
        z_dot, *_ = each.passes.tangent(p, each.parameters)
        parts.append((p.slope * z_dot).square().mean(1).sqrt())
    return np.asarray(torch.cat(parts).cpu().numpy())


def relative_flatness(ensemble: Ensemble, *, layer: int | None = None) -> np.ndarray:
    """(N,) relative flatness of the weights into one layer, in units of the loss; large is sharp.

    Petzka, Kamp, Adilova, Sminchisescu & Boley (NeurIPS 2021), relative flatness with the trace:
    kappa = sum over units s, s' of <w_s, w_s'> Tr(H_ss'), w_s the weights into unit s and H_ss' the
    block of the Hessian of the mean loss in (w_s, w_s'). Exact. ``layer`` counts affine layers from
    0; default the one into the last hidden layer (the penultimate, as in the paper). Unchanged by
    alpha-rescaling. Raises :class:`InputError` if there is no such layer.
    """
    depth = ensemble.network.depth
    chosen = max(depth - 1, 0) if layer is None else layer
    if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen <= depth:
        raise InputError(f"layer={layer!r}", f"an affine layer, 0 to {depth}", "leave it out")
    width = ensemble.passes.shapes[chosen][1]
    deep = 0 if chosen >= depth - 1 else 3 * ensemble.examples * width * width
    parts = []
    for part in ensemble.chunks(2 * ensemble.pass_numbers + deep):
        parts.append(_relative(ensemble.subset(part), chosen))
    return np.asarray(torch.cat(parts).cpu().numpy())


def _relative(ensemble: Ensemble, layer: int) -> Tensor:
    p = ensemble.passes.point(ensemble.parameters, ensemble.X, ensemble.labels(), ensemble.loss)
    w, h = p.layers[layer][0], p.inputs[layer].square().sum(2)
    gauss = torch.bmm(p.deltas[layer], w.mT).square().sum(2)  # |W dz/du|^2
    total = p.bend * gauss
    S = layer_curvature(p, layer, slice(None))
    if S is not None:
        gram = torch.bmm(w.mT, w)
        total = total + p.slope * (S * gram.unsqueeze(1)).sum((2, 3))
    return (h * total).mean(1)
