"""The geometry of networks at their weights: curvature of the loss, norms, margins.

The Hessian is that of the mean loss on everything fitted, with respect to all weights and biases,
attack points included; its eigenvalues and trace have the unit of the loss. At kinks of piecewise
linear activations (a null set) it is what automatic differentiation gives: the second derivative of
relu is 0. The largest eigenvalue comes from Lanczos' method, for many networks at once. Fisher-Rao
norm and relative flatness are curvatures that relu rescaling cannot change.

The exact trace needs no product with the whole Hessian. For the output z of one example and a
weight w_ab of the affine map u = h W + b of a layer, d2z/dw_ab2 = h_a^2 d2z/du_b^2, so that

    tr H = mean over examples of  l'' |dz/dw|^2 + l' sum over layers (|h|^2 + 1) tr S,

with S = d2z/du2 (width x width) of the layer. S follows from the layer above,

    S_l = D_l W S_(l+1) W' D_l + diag(phi''(u_l) dz/dh_l),   D_l = diag(phi'(u_l)),

and S = 0 in the output layer: the recursion of Botev, Ritter & Barber (ICML 2017), section 3,
kept per example, so that nothing is approximated. Piecewise linear activations have S = 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble, Point
from simprior.analysis.flatness.modules import ModulePasses
from simprior.analysis.flatness.volume import normals, signs
from simprior.checks import Choice, Integer, Number, Whole
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.losses import threshold
from simprior.network.parameters import shapes_of
from simprior.network.spec import Network

Tensor = torch.Tensor
EXACT_SIZE, DRAWS = 5000, 64
_DEARER = 4.0  # times the cost of an estimate that an exact trace of modules may have
METHODS = ("auto", "exact", "hutchinson")


def exact_cost(ensemble: Ensemble) -> float:
    """Multiplications of the exact trace of one network (those that grow faster than a pass)."""
    network = ensemble.network
    if isinstance(network, Module):  # a product with the Hessian for each parameter
        return 12.0 * ensemble.size * ensemble.examples * ensemble.size
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
        passes = each.passes
        parts.append(passes.trace(p) if isinstance(passes, ModulePasses) else _trace(each, p))
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
    assert isinstance(ensemble.network, Network)
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
        self.passes, self.inputs = ensemble.passes, ensemble.X
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
        if len(self.rows):
            self.point = self.passes.take(self.point, rows, self.inputs)


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
        ``exact``: second-order back-propagation (see the module), any activation and size; of
        torch modules a product with the Hessian for each parameter.
        ``hutchinson``: mean of v.Hv over ``draws`` random sign vectors (Hutchinson 1989) with the
        standard error of that mean. ``auto``: exact for P <= 5,000 and wherever it costs no more
        than Hutchinson's estimate (always for relu and with one or two hidden layers); of torch
        modules only if it costs no more than four times as much.

    Raises
    ------
    InputError
        Unknown method, fewer than 2 draws, or an activation without gradients.
    """
    Choice(METHODS, "pass auto")("method", method)
    if method == "auto":
        sampled = 12.0 * draws * ensemble.examples * ensemble.size
        if isinstance(ensemble.network, Module):
            small = exact_cost(ensemble) <= _DEARER * sampled
        else:
            small = ensemble.size <= EXACT_SIZE or exact_cost(ensemble) <= sampled
        method = "exact" if small else "hutchinson"
    if method == "exact":
        found = ensemble.per_chunk(exact_trace, 2 * ensemble.pass_numbers)
        return Trace(found["trace"], np.zeros(len(ensemble)), method)
    draws = Whole(2, remedy=f"pass for example draws={DRAWS}", expected="at least 2")(
        "draws", draws
    )

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
        z_dot = each.passes.tangent(p, each.parameters)
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
    if isinstance(ensemble.network, Module):
        what = f"relative flatness of make={ensemble.network.make_name}"
        raise InputError(what, "a Network, whose layers are known", "leave the group relative out")
    depth = ensemble.network.depth
    affine = Integer(0, depth, "leave it out", f"an affine layer, 0 to {depth}")
    chosen = max(depth - 1, 0) if layer is None else affine("layer", layer)
    width = shapes_of(ensemble.network)[chosen][1]
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

    Embeddings of torch modules are weights; gains and shifts of normalisations are none.
    The parameter norm of Jiang et al. (ICLR 2020), appendix C, as a length. Changes under
    alpha-rescaling.
    """
    weights = ensemble.passes.weights(ensemble.parameters)
    squares = [w.square().flatten(1).sum(1) for w in weights]
    return _array(torch.stack(squares).sum(0).sqrt())


def log_frobenius_product(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln prod |W_l|_F (Neyshabur, Tomioka & Srebro, COLT 2015): unchanged by rescaling.

    NaN for torch modules that are no chain of linear layers, as :func:`path_norm` is.
    """
    layers = ensemble.passes.layers(ensemble.parameters)
    if layers is None:
        return _undefined(ensemble)
    return _array(torch.stack([w.square().sum((1, 2)) for w, _ in layers]).log().sum(0) / 2)


def spectral_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln prod |W_l|_2, the log of the product of the layers' largest singular values.

    The first factor of eq. (1.2) of Bartlett, Foster & Telgarsky (NeurIPS 2017); biases left out.
    Unchanged by alpha-rescaling. NaN for torch modules that are no chain of linear layers.
    """
    layers = ensemble.passes.layers(ensemble.parameters)
    if layers is None:
        return _undefined(ensemble)
    return _array(torch.stack([_largest_singular(w) for w, _ in layers]).log().sum(0))


def path_norm(ensemble: Ensemble) -> np.ndarray:
    """(N,) ln of the l2 path norm: 1/2 ln of the sum over paths of the product of squared weights.

    Neyshabur, Tomioka & Srebro (COLT 2015), p = 2. Paths start at an input or at a bias
    (a unit that is always 1), as in Jiang et al. (2020), appendix C: it is the output of the
    linear network of squared parameters on the all-ones input. Unchanged by alpha-rescaling. NaN
    for torch modules that are no chain of linear layers.
    """
    layers = ensemble.passes.layers(ensemble.parameters)
    if layers is None:
        return _undefined(ensemble)
    h: Tensor | None = None
    for w, b in layers:
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
    Number(0, 1, remedy="pass 0 or 0.1", expected="a share from 0 to 1")("quantile", quantile)
    signed = (2 * ensemble.labels() - 1) * (ensemble.outputs() - threshold(ensemble.loss))
    found = _array(torch.quantile(signed, float(quantile), dim=1))
    return found / np.exp(spectral_norm(ensemble)) if normalise else found


_said: set[str] = set()


def _undefined(ensemble: Ensemble) -> np.ndarray:
    """NaN for every network of a module without layers in a chain; the reason is said once."""
    assert isinstance(ensemble.network, Module)
    name = ensemble.network.make_name
    if name not in _said:
        _said.add(name)
        logging.getLogger("simprior").info(
            "path and spectral norms of %s are left empty: they are defined for linear layers one "
            "after the other with activations between",
            name,
        )
    return np.full(len(ensemble), np.nan)


def _largest_singular(w: Tensor) -> Tensor:
    """(N,) largest singular value of each matrix."""
    if min(w.shape[1:]) == 1:
        return w.square().sum((1, 2)).sqrt()
    return torch.linalg.matrix_norm(w, ord=2)


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.cpu().numpy())
