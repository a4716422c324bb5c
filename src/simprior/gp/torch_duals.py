"""E[phi(u) phi(v)] and E[phi'(u) phi'(v)] in torch, differentiable with finite gradients.

The closed forms are those of :mod:`simprior.activations`; (u, v) ~ N(0, [[a, c], [c, b]]), float64
tensors that broadcast. Where u = +-v the gradient along rho is that of the limit (0 for the step,
whose own derivative diverges there). Import lazily: this module needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from simprior.activations import ACTIVATIONS
from simprior.arrays import torch_ops
from simprior.callables import differentiable
from simprior.errors import InputError
from simprior.gp.angles import CLOSE, angle_parts
from simprior.gp.quadrature import half_line, hermite_functions
from simprior.network import Network

Dual = Callable[..., Tensor]
"""(a, b, c, angle or None) -> expectations."""
ONE = 1.0 - 4.0 * torch.finfo(torch.float64).eps
NONE = 1e-30  # squared sines below it are rounding: angle 0, with gradient 0
LIMIT, ORDER = 13, 20
MOST = 1 << 26

safe_sqrt = torch_ops().sqrt


def correlation(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(rho clipped to [-1, 1], sqrt(ab)); rho is 0, with gradient 0, where a variance is 0."""
    r = safe_sqrt(a) * safe_sqrt(b)
    some = r > 0
    rho = c / torch.where(some, r, 1.0)
    return torch.where(some, rho, 0.0).clamp(-1.0, 1.0), r


def _angle(rho: Tensor) -> tuple[Tensor, Tensor]:
    """(theta, sin theta) of cos theta = rho; 0 or pi, without gradient, where |rho| is 1."""
    inside = rho.abs() < ONE
    x = torch.where(inside, rho, 0.0)
    sine = torch.sqrt((1.0 - x) * (1.0 + x))
    ends = torch.where(rho > 0, 0.0, math.pi).to(rho.dtype)
    return torch.where(inside, torch.atan2(sine, x), ends), torch.where(inside, sine, 0.0)


_OPS = SimpleNamespace(
    **vars(torch_ops()),
    correlation=correlation,
    angle=_angle,
    determinant=lambda a, b, c: (a * b - c * c).clamp_min(0.0),
)


def hermite_dual(phi: Callable[[Tensor], Tensor], terms: int) -> Dual:
    """E[phi(u) phi(v)] by ``terms`` terms of the Hermite series: positive semidefinite always.

    The relative error is that of the truncation, sum of the squared coefficients left out over
    E[phi^2] (exponentially small for smooth phi, about terms^-1.5 for a kink, terms^-0.5 a jump).
    """
    z, w = half_line(LIMIT, ORDER)
    z, w = np.concatenate([-z[::-1], z]), np.concatenate([w[::-1], w])
    weight = w * np.exp(-0.25 * z * z) / math.sqrt(2.0 * math.pi)
    nodes, basis = torch.tensor(z), torch.tensor((hermite_functions(z, terms) * weight).T.copy())

    def coefficients(var: Tensor) -> Tensor:
        return phi(safe_sqrt(var)[..., None] * nodes.to(var.device)) @ basis.to(var.device)

    def dual(a: Tensor, b: Tensor, c: Tensor, angle: Tensor | None = None) -> Tensor:
        left, right = coefficients(a), coefficients(b)
        rho, _ = correlation(a, b, c)
        out = torch.zeros_like(rho)
        for k in range(terms - 1, -1, -1):
            out = out * rho + left[..., k] * right[..., k]
        return out

    return dual


def derivative(phi: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """phi' by automatic differentiation, itself differentiable."""

    def slope(u: Tensor) -> Tensor:
        with torch.enable_grad():
            x = u if u.requires_grad else u.detach().requires_grad_()
            (grad,) = torch.autograd.grad(phi(x).sum(), x, create_graph=True)
        return grad if u.requires_grad else grad.detach()

    return slope


def resolve(
    activation: str | Callable[[Tensor], Tensor], terms: int, tangent: bool
) -> tuple[Dual, Dual | None]:
    """(dual, slope or None) of an activation's name, import path or torch callable.

    Raises
    ------
    InputError
        Unknown name, a callable that torch cannot differentiate, or the step with ``tangent`` (its
        derivative is a delta function).
    """
    entry = ACTIVATIONS.get(activation) if isinstance(activation, str) else None
    if entry is not None and tangent and not entry.has_gradient:
        raise InputError(
            f"activation={entry.name!r}",
            "an activation with a derivative",
            "use erf, or NNGPKernel",
        )
    dual = entry.dual if entry else None
    slope = entry.slope if entry else None
    phi = _function(activation) if dual is None or (tangent and slope is None) else None
    left = hermite_dual(phi, terms) if phi and dual is None else _bound(dual)
    if not tangent:
        return left, None
    return left, hermite_dual(derivative(phi), terms) if phi and slope is None else _bound(slope)


def _bound(dual: Dual | None) -> Dual:
    assert dual is not None
    return lambda a, b, c, angle=None: dual(_OPS, a, b, c, angle)


def _function(activation: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The activation on tensors."""
    return differentiable(Network(activation=activation), "kernels of gpytorch")


def sines_of(
    activation: str | Callable[[Tensor], Tensor], tangent: bool
) -> Callable[[Tensor], Tensor] | None:
    """Map of squared sines for kernels that need angles (see ``simprior.gp.angles``), or None."""
    entry = ACTIVATIONS.get(activation) if isinstance(activation, str) else None
    sine = entry.sine if entry and (tangent or entry.dual_needs_angle) else None
    return None if sine is None else lambda theta: sine(_OPS, theta)


def field_angle(
    sigma_w: Tensor, sigma_b: Tensor, a: Tensor, b: Tensor, c: Tensor, square: Tensor
) -> Tensor:
    """Angle of the fields sigma_b b + sigma_w w.h, from E[hh], E[h'h'], E[hh'] and 1 - kappa^2.

    Formula of ``simprior.gp.angles``. The gradient is 0 where the angle is.
    """
    first, second = safe_sqrt(a), safe_sqrt(b)
    left = torch.hypot(sigma_b + 0.0 * first, sigma_w * first)
    right = torch.hypot(sigma_b + 0.0 * second, sigma_w * second)
    some = (left > 0) & (right > 0)
    left, right = torch.where(left > 0, left, 1.0), torch.where(right > 0, right, 1.0)
    p, q, u, v = sigma_w * first / left, sigma_w * second / right, sigma_b / left, sigma_b / right
    weight = first * second
    kappa = torch.where(weight > 0, c / torch.where(weight > 0, weight, 1.0), 0.0).clamp(-1.0, 1.0)
    square, cosine = angle_parts(_OPS, p, q, u, v, kappa, square)
    sine = safe_sqrt(torch.where(square > NONE, square, 0.0))
    return torch.atan2(sine, torch.where(some, cosine, 1.0))


def input_sines(u: Tensor, v: Tensor, cross: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """1 - kappa^2 of pairs of inputs u, v (broadcasting over (..., d)), as ``angles.input_sines``.

    Where all differences would not fit in ``MOST`` numbers, only those of the closest are taken.
    """
    weight = safe_sqrt(left) * safe_sqrt(right)
    kappa = torch.where(weight > 0, cross / torch.where(weight > 0, weight, 1.0), 0.0)
    lack = 1.0 - kappa.clamp(-1.0, 1.0).abs()
    square, limit = lack * (2.0 - lack), CLOSE
    close = (lack < limit) & (weight > 0)
    while int(close.sum()) * u.shape[-1] > MOST and limit > 1e-15:
        limit *= 0.1
        close = (lack < limit) & (weight > 0)
    shape = (*cross.shape, u.shape[-1])
    x, y = u.expand(shape)[close], v.expand(shape)[close]
    beta = (x * y).sum(-1, keepdim=True) / (x * x).sum(-1, keepdim=True)
    rest = ((y - beta * x) ** 2).sum(-1) / (y * y).sum(-1)
    square = square.clone()
    square[close] = rest.clamp_max(1.0)
    return square
