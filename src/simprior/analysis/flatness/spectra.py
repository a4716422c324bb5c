"""Curvature of the training loss: largest eigenvalue and trace of the Hessian, units of the loss.

The Hessian is that of the mean loss on everything fitted, with respect to all weights and biases,
attack points included. At kinks of piecewise linear activations (a null set) it is what automatic
differentiation gives: the second derivative of relu is 0.

Fisher-Rao norm and relative flatness: curvature that relu rescaling cannot change.

Norms of the weights and margins of the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness.curvature import (
    exact_cost,
    exact_trace,
    layer_curvature,
    top_eigenvalues,
)
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.volume import normals, signs
from simprior.errors import InputError
from simprior.network.losses import threshold

Tensor = torch.Tensor
EXACT_SIZE, DRAWS = 5000, 64
METHODS = ("auto", "exact", "hutchinson")


@dataclass(frozen=True, eq=False)
class TopEigenvalue:
    """(N,) arrays: ``value`` the largest eigenvalue; ``residual`` |H v - value v| / |value| of its
    unit vector v (an eigenvalue lies that close); ``converged``; ``products`` with H done."""

    value: np.ndarray
    residual: np.ndarray
    converged: np.ndarray
    products: np.ndarray


def hessian_top(
    ensemble: Ensemble, seed: int = 0, *, tolerance: float = 1e-7, iterations: int = 200
) -> TopEigenvalue:
    """Largest (algebraic) eigenvalue of every network's Hessian.

    Lanczos with full reorthogonalisation from a random vector, until the residual is at most
    ``tolerance`` times the value (the error of the value is of second order in it) or after
    ``iterations`` products. Networks that have converged leave the batch.

    Raises :class:`InputError` for an activation without gradients.
    """

    def measure(part: Ensemble) -> dict[str, Tensor]:
        start = normals(part, seed, "lanczos", 1)[:, 0]
        value, residual, products = top_eigenvalues(part, start, tolerance, iterations)
        good = residual <= tolerance
        return {"value": value, "residual": residual, "converged": good, "products": products}

    return TopEigenvalue(**ensemble.per_chunk(measure, 8 * ensemble.pass_numbers))


@dataclass(frozen=True, eq=False)
class Trace:
    """(N,) arrays: ``value`` the trace, ``stderr`` its standard error (0: exact); ``method``."""

    value: np.ndarray
    stderr: np.ndarray
    method: str


def hessian_trace(
    ensemble: Ensemble, seed: int = 0, *, method: str = "auto", draws: int = DRAWS
) -> Trace:
    """Trace of every network's Hessian.

    Parameters
    ----------
    ensemble, seed
        Networks; seed of the random vectors.
    method : str
        ``exact``: second-order back-propagation (``_curvature``), any activation and size.
        ``hutchinson``: mean of v.Hv over ``draws`` random sign vectors (Hutchinson 1989) with the
        standard error of that mean. ``auto``: exact for P <= 5,000 and wherever it costs no more
        than Hutchinson's estimate (always for relu and with one or two hidden layers).

    Raises
    ------
    InputError
        Unknown method, fewer than 2 draws, or an activation without gradients.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r}", f"one of {', '.join(METHODS)}", "pass auto")
    if method == "auto":
        sampled = 12.0 * draws * ensemble.examples * ensemble.size
        small = ensemble.size <= EXACT_SIZE or exact_cost(ensemble) <= sampled
        method = "exact" if small else "hutchinson"
    if method == "exact":
        found = ensemble.per_chunk(exact_trace, 2 * ensemble.pass_numbers)
        return Trace(found["trace"], np.zeros(len(ensemble)), method)
    if draws < 2:
        raise InputError(f"draws={draws}", "at least 2", f"pass for example draws={DRAWS}")

    def measure(part: Ensemble) -> dict[str, Tensor]:
        vectors = signs(part, seed, "hutchinson", draws)
        p = part.passes.point(part.parameters, part.X, part.labels(), part.loss)
        each = torch.stack([(v * part.passes.hvp(p, v)).sum(1) for v in vectors.unbind(1)], dim=1)
        return {"trace": each.mean(1), "stderr": each.std(1) / draws**0.5}

    found = ensemble.per_chunk(measure, 16 * ensemble.pass_numbers + draws * ensemble.size)
    return Trace(found["trace"], found["stderr"], method)


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


QUANTILE = 0.1


def frobenius_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) sqrt(sum over layers of |W_l|_F^2): Euclidean length of all weights, biases left out.

    The parameter norm of Jiang et al. (ICLR 2020), appendix C, as a length. Changes under
    alpha-rescaling.
    """
    squares = [w.square().sum((1, 2)) for w, _ in ensemble.passes.layers(ensemble.parameters)]
    return _array(torch.stack(squares).sum(0).sqrt())


def log_frobenius_product(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln prod |W_l|_F (Neyshabur, Tomioka & Srebro, COLT 2015): unchanged by rescaling."""
    layers = ensemble.passes.layers(ensemble.parameters)
    return _array(torch.stack([w.square().sum((1, 2)) for w, _ in layers]).log().sum(0) / 2)


def spectral_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln prod |W_l|_2, the log of the product of the layers' largest singular values.

    The first factor of eq. (1.2) of Bartlett, Foster & Telgarsky (NeurIPS 2017); biases left out.
    Unchanged by alpha-rescaling.
    """
    layers = ensemble.passes.layers(ensemble.parameters)
    return _array(torch.stack([_largest_singular(w) for w, _ in layers]).log().sum(0))


def path_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln of the l2 path norm: 1/2 ln of the sum over paths of the product of squared weights.

    Neyshabur, Tomioka & Srebro (COLT 2015), p = 2. Paths start at an input or at a bias
    (a unit that is always 1), as in Jiang et al. (2020), appendix C: it is the output of the
    linear network of squared parameters on the all-ones input. Unchanged by alpha-rescaling.
    """
    h: Tensor | None = None
    for w, b in ensemble.passes.layers(ensemble.parameters):
        into = w.square()
        reached = into.sum(1, keepdim=True) if h is None else torch.bmm(h, into)
        h = reached + b.square()
    assert h is not None
    return _array(h[:, 0, 0].log() / 2)


def distance_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) |w - w_0|_2, distance from the parameters before training; NaN where not known.

    Nagarajan & Kolter (2019); Jiang et al. (2020), appendix C. Changes under alpha-rescaling (the
    initial parameters are not rescaled).
    """
    if ensemble.initial is None:
        return np.full(len(ensemble), np.nan)
    return _array((ensemble.parameters - ensemble.initial).norm(dim=1))


def margin(
    ensemble: Ensemble, *, quantile: float = QUANTILE, normalise: bool = False
) -> np.ndarray:
    """(N,) output margin: a quantile over the examples of t (z - c), in units of the output z.

    t = +-1 is the label, c the threshold of the class. ``quantile`` 0 is the smallest margin; 0.1
    is the choice of Jiang et al. (2020), appendix C, robust against single examples.
    ``normalise``: over prod |W_l|_2 (Bartlett et al. 2017). Unchanged by alpha-rescaling.

    Raises :class:`InputError` unless 0 <= quantile <= 1.
    """
    if isinstance(quantile, bool) or not 0 <= quantile <= 1:
        raise InputError(f"quantile={quantile!r}", "a share from 0 to 1", "pass 0 or 0.1")
    signed = (2 * ensemble.labels() - 1) * (ensemble.outputs() - threshold(ensemble.loss))
    found = _array(torch.quantile(signed, float(quantile), dim=1))
    return found / np.exp(spectral_norm(ensemble)) if normalise else found


def _largest_singular(w: Tensor) -> Tensor:
    """(N,) largest singular value of each matrix."""
    if min(w.shape[1:]) == 1:
        return w.square().sum((1, 2)).sqrt()
    return torch.linalg.matrix_norm(w, ord=2)


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.cpu().numpy())
