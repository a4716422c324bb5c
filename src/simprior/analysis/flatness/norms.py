"""Norms of the weights and margins of the outputs."""

from __future__ import annotations

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError
from simprior.training.losses import threshold

Tensor = torch.Tensor
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
