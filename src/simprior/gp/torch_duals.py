"""E[phi(u) phi(v)] and E[phi'(u) phi'(v)] in torch, differentiable with finite gradients.

Same formulas as ``simprior.gp.activations`` (see there for the sources); (u, v) ~ N(0, [[a, c],
[c, b]]), float64 tensors that broadcast. Where u = +-v the gradient along rho is that of the limit
(0 for the step, whose own derivative diverges there). Import lazily: this module needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from simprior.errors import InputError
from simprior.gp.angles import CLOSE
from simprior.gp.quadrature import half_line, hermite_functions
from simprior.network import ACTIVATIONS, import_activation

Dual = Callable[[Tensor, Tensor, Tensor], Tensor]
ONE = 1.0 - 4.0 * torch.finfo(torch.float64).eps
NONE = 1e-30  # squared sines below it are rounding: angle 0, with gradient 0
LIMIT, ORDER = 13, 20
MOST = 1 << 26


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with gradient 0 at 0."""
    some = x > 0
    return torch.where(some, torch.sqrt(torch.where(some, x, 1.0)), 0.0)


def correlation(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(rho clipped to [-1, 1], sqrt(ab)); rho is 0, with gradient 0, where a variance is 0."""
    r = safe_sqrt(a) * safe_sqrt(b)
    some = r > 0
    rho = c / torch.where(some, r, 1.0)
    return torch.where(some, rho, 0.0).clamp(-1.0, 1.0), r


def _angle(rho: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(inside, theta, sine): the angle where |rho| < 1, and pi/2 outside, to be masked."""
    inside = rho.abs() < ONE
    x = torch.where(inside, rho, 0.0)
    sine = torch.sqrt((1.0 - x) * (1.0 + x))
    return inside, torch.atan2(sine, x), sine


def relu(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Arc-cosine kernel of order 1."""
    rho, r = correlation(a, b, c)
    inside, theta, sine = _angle(rho)
    ends = torch.where(rho > 0, rho, 0.0)
    return 0.5 * r * torch.where(inside, rho + (sine - theta * rho) / math.pi, ends)


def step(a: Tensor, b: Tensor, c: Tensor, angle: Tensor | None = None) -> Tensor:
    """Arc-cosine kernel of order 0; also the slope of relu.

    ``angle`` is that between u and v where it is known better than from the covariance.
    """
    rho, r = correlation(a, b, c)
    if angle is not None:
        return torch.where(r > 0, 0.5 - angle / (2.0 * math.pi), 0.0)
    inside, theta, _ = _angle(rho)
    ends = torch.where(rho > 0, 0.5, 0.0)
    value = torch.where(inside, 0.5 - theta / (2.0 * math.pi), ends)
    return torch.where(r > 0, value, 0.0)


def linear(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """c."""
    return c + 0.0 * (a + b)


def linear_slope(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(a + b + c)


def erf(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Arcsine kernel."""
    gap = 1.0 + 2.0 * (a + b) + 4.0 * (a * b - c * c).clamp_min(0.0)
    return 2.0 / math.pi * torch.atan2(2.0 * c, torch.sqrt(gap))


def erf_slope(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Slope of erf."""
    gap = 1.0 + 2.0 * (a + b) + 4.0 * (a * b - c * c).clamp_min(0.0)
    return 4.0 / math.pi * torch.rsqrt(gap)


def sin(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """exp(-(a+b)/2) sinh c."""
    mean = 0.5 * (a + b)
    return 0.5 * (torch.exp(c - mean) - torch.exp(-c - mean))


def sin_slope(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """exp(-(a+b)/2) cosh c."""
    mean = 0.5 * (a + b)
    return 0.5 * (torch.exp(c - mean) + torch.exp(-c - mean))


def _gelu_parts(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    det = (a * b - c * c).clamp_min(0.0)
    full = 1.0 + a + b + det
    root = torch.sqrt(full)
    g = 0.25 + torch.atan2(c, root) / (2.0 * math.pi)
    return g, 1.0 / (2.0 * math.pi * root), full, det


def gelu(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """u Phi(u)."""
    g, j, _, det = _gelu_parts(a, b, c)
    return c * g + j * (det + c * (c / (1.0 + a) + c / (1.0 + b)))


def gelu_slope(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Slope of gelu."""
    g, j, full, _ = _gelu_parts(a, b, c)
    return g + c * j * (1.0 / (1.0 + a) + 1.0 / (1.0 + b) + 1.0 / full)


DUALS: dict[str, Dual] = {
    "relu": relu,
    "step": step,
    "linear": linear,
    "erf": erf,
    "sin": sin,
    "gelu": gelu,
}
SLOPES: dict[str, Dual] = {
    "relu": step,
    "linear": linear_slope,
    "erf": erf_slope,
    "sin": sin_slope,
    "gelu": gelu_slope,
}


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

    def dual(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
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
        Unknown name, or the step with ``tangent`` (its derivative is a delta function).
    """
    if activation == "step" and tangent:
        raise InputError(
            "activation='step'", "an activation with a derivative", "use erf, or NNGPKernel"
        )
    if isinstance(activation, str) and activation in DUALS:
        return DUALS[activation], SLOPES[activation] if tangent else None
    if isinstance(activation, str):
        phi = torch.tanh if activation in ACTIVATIONS else import_activation(activation)
    elif callable(activation):
        phi = activation
    else:
        raise InputError(
            f"activation={activation!r}", f"one of {', '.join(ACTIVATIONS)} or a callable",
            "pass a name or an elementwise torch function",
        )  # fmt: skip
    slope = hermite_dual(derivative(phi), terms) if tangent else None
    return hermite_dual(phi, terms), slope


def relu_sine(theta: Tensor) -> Tensor:
    """Squared sine of the angle between relu(u) and relu(v) (:mod:`simprior.gp.activations`)."""
    sine, cosine = torch.sin(theta), torch.cos(theta)
    lack = 2.0 * torch.sin(0.5 * theta) ** 2 - (sine - theta * cosine) / math.pi
    return (lack * (2.0 - lack)).clamp_min(0.0)


def step_sine(theta: Tensor) -> Tensor:
    """Squared sine of the angle between step(u) and step(v)."""
    lack = theta / math.pi
    return lack * (2.0 - lack)


def sines_of(
    activation: str | Callable[[Tensor], Tensor], tangent: bool
) -> Callable[[Tensor], Tensor] | None:
    """Map of squared sines for kernels that need angles (see ``simprior.gp.angles``), or None."""
    if activation == "step":
        return step_sine
    return relu_sine if activation == "relu" and tangent else None


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
    lack = torch.where(kappa > 0, square / (1.0 + kappa.clamp_min(0.0)), 1.0 - kappa)
    square = p * p * q * q * square + (u * q - v * p) ** 2 + 2.0 * p * q * u * v * lack
    sine = safe_sqrt(torch.where(square > NONE, square, 0.0))
    return torch.atan2(sine, torch.where(some, u * v + p * q * kappa, 1.0))


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
