"""Infinite-width kernels for gpytorch models, with trainable sigma_w and sigma_b.

``NNGPKernel`` and ``NTKKernel`` compute what :mod:`simprior.gp.kernels` does, in float64 inside
whatever the dtype of the inputs, on tensors of any batch shape. They stand on
E[phi(u) phi(v)] and E[phi'(u) phi'(v)] in torch, (u, v) ~ N(0, [[a, c], [c, b]]), float64 tensors
that broadcast: the closed forms of :mod:`simprior.network.activations`, differentiable with finite
gradients. Where u = +-v the gradient along rho is that of the limit (0 for the step, whose own
derivative diverges there).

Import lazily: this module needs torch and gpytorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self

import gpytorch
import numpy as np
import torch
from torch import Tensor

from simprior.checks import Choice, Integer
from simprior.errors import InputError
from simprior.gp.duals import CLOSE, angle_parts, half_line, hermite_functions
from simprior.network.activations import ACTIVATIONS
from simprior.network.callables import differentiable, torch_ops
from simprior.network.density import refuse_density
from simprior.network.spec import Network

__all__ = ["NNGPKernel", "NTKKernel"]

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
    """Map of squared sines for kernels that need angles (see ``simprior.gp.duals``), or None."""
    entry = ACTIVATIONS.get(activation) if isinstance(activation, str) else None
    sine = entry.sine if entry and (tangent or entry.dual_needs_angle) else None
    return None if sine is None else lambda theta: sine(_OPS, theta)


def field_angle(
    sigma_w: Tensor, sigma_b: Tensor, a: Tensor, b: Tensor, c: Tensor, square: Tensor
) -> Tensor:
    """Angle of the fields sigma_b b + sigma_w w.h, from E[hh], E[h'h'], E[hh'] and 1 - kappa^2.

    Formula of ``simprior.gp.duals``. The gradient is 0 where the angle is.
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


Sigma = float | Sequence[float]


class _WideNetworkKernel(gpytorch.kernels.Kernel):
    """Shared part: parameters, and the recursion of both kernels."""

    has_lengthscale = False
    tangent = False

    def __init__(
        self,
        depth: int = 2,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        sigma_w: Sigma = 1.0,
        sigma_b: Sigma = 1.0,
        terms: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        depth = Integer(0, remedy="pass the hidden layers")("depth", depth)
        terms = Integer(1, remedy="pass terms=64", expected="a positive integer")("terms", terms)
        self.depth, self.activation, self.terms = depth, activation, terms
        resolve(activation, 1, self.tangent)
        widths, biases = self._values("sigma_w", sigma_w), self._values("sigma_b", sigma_b)
        if (widths <= 0).any():
            raise InputError(f"sigma_w={sigma_w!r}", "positive numbers", "pass sigma_w=1.0")
        if (biases < 0).any() or (0 < len(biases.nonzero()) < biases.numel()):
            raise InputError(
                f"sigma_b={sigma_b!r}", "all positive, or 0 for no biases at all", "pass 0.0"
            )
        self.bias = bool((biases > 0).any())
        self._register("sigma_w", widths)
        if self.bias:
            self._register("sigma_b", biases)

    @classmethod
    def from_network(cls, network: Network, **kwargs: Any) -> Self:
        """Kernel with depth, activation and sigmas of a spec (its inputs are yours to encode)."""
        refuse_density(network, "kernels of gpytorch")
        law = Choice(("gaussian",), remedy="use a gaussian law", expected="'gaussian'")
        law("weight_dist", network.weight_dist)
        return cls(
            depth=network.depth,
            activation=network.activation,
            sigma_w=network.sigma_w,
            sigma_b=network.sigma_b,
            **kwargs,
        )

    @property
    def sigma_w(self) -> Tensor:
        """Standard deviations of the weights, (*batch_shape, 1 or depth + 1)."""
        return self.raw_sigma_w_constraint.transform(self.raw_sigma_w)

    @sigma_w.setter
    def sigma_w(self, value: float | Tensor) -> None:
        self._assign("sigma_w", value)

    @property
    def sigma_b(self) -> Tensor:
        """Standard deviations of the biases, same shape; zeros if built with sigma_b = 0."""
        if not self.bias:
            return torch.zeros_like(self.raw_sigma_w)
        return self.raw_sigma_b_constraint.transform(self.raw_sigma_b)

    @sigma_b.setter
    def sigma_b(self, value: float | Tensor) -> None:
        if not self.bias:
            raise InputError("sigma_b", "a kernel with biases", "build it with sigma_b > 0")
        self._assign("sigma_b", value)

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor:
        """Kernel of x1 (..., n, d) and x2 (..., m, d): (..., n, m), or (..., n) if ``diag``."""
        del params
        if last_dim_is_batch:
            x1, x2 = (x.transpose(-1, -2).unsqueeze(-1) for x in (x1, x2))
        u, v = x1.double(), x2.double()
        cross = (u * v).sum(-1) if diag else u @ v.transpose(-1, -2)
        same = not diag and x1.shape == x2.shape and torch.equal(x1, x2)
        if same:
            cross = 0.5 * (cross + cross.transpose(-1, -2))
        left, right = (u * u).sum(-1), (v * v).sum(-1)
        extra = 1 if last_dim_is_batch else 0
        square = None
        if sines_of(self.activation, self.tangent) is not None:
            u, v = (u, v) if diag else (u.unsqueeze(-2), v.unsqueeze(-3))
            rows, cols = (None, None) if diag else (-1, -2)
            square = input_sines(u, v, cross, _expand(left, rows), _expand(right, cols))
            square = 0.5 * (square + square.transpose(-1, -2)) if same else square
        kernel = self._recursion(left, right, cross, square, u.shape[-1], diag, extra)
        return kernel.to(x1.dtype)

    def _recursion(
        self,
        left: Tensor,
        right: Tensor,
        cross: Tensor,
        square: Tensor | None,
        d: int,
        diag: bool,
        extra: int,
    ) -> Tensor:
        dual, slope = resolve(self.activation, self.terms, self.tangent)
        sines = sines_of(self.activation, self.tangent)
        sw, sb = self._layers(self.sigma_w, extra), self._layers(self.sigma_b, extra)
        rows, cols = (None, None) if diag else (-1, -2)

        def lift(layer: int, moment: Tensor, matrix: bool) -> Tensor:
            shape = (..., None, None) if matrix else (..., None)
            return sb[layer][shape] ** 2 + sw[layer][shape] ** 2 * moment

        def angle(layer: int, a: Tensor, b: Tensor, c: Tensor, square: Tensor | None) -> Any:
            if square is None:
                return None
            shape = (..., None) if diag else (..., None, None)
            wide, tall = _expand(a, rows), _expand(b, cols)
            return field_angle(sw[layer][shape], sb[layer][shape], wide, tall, c, square)

        field = angle(0, left / d, right / d, cross / d, square)
        a, b = lift(0, left / d, False), lift(0, right / d, False)
        c = lift(0, cross / d, not diag)
        theta = c
        for layer in range(1, self.depth + 1):
            wide, tall = _expand(a, rows), _expand(b, cols)
            if slope is not None:
                shape = (..., None) if diag else (..., None, None)
                gain = sw[layer][shape] ** 2 * slope(wide, tall, c, field)
            mean = dual(wide, tall, c, field)
            means = dual(a, a, a), dual(b, b, b)
            if sines is not None and field is not None:
                field = angle(layer, *means, mean, sines(field))
            c = lift(layer, mean, not diag)
            a, b = (lift(layer, q, False) for q in means)
            theta = c if slope is None else c + gain * theta
        return theta

    def _layers(self, sigma: Tensor, extra: int) -> list[Tensor]:
        full = sigma.double().expand(*sigma.shape[:-1], self.depth + 1)
        shape = (*sigma.shape[:-1], *[1] * extra)
        return [full[..., k].reshape(shape) for k in range(self.depth + 1)]

    def _values(self, name: str, value: Sigma) -> Tensor:
        values = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        if values.numel() not in (1, self.depth + 1) or not values.isfinite().all():
            raise InputError(
                f"{name}={value!r}", f"one finite number or {self.depth + 1}", f"pass {name}=1.0"
            )
        return values

    def _register(self, name: str, values: Tensor) -> None:
        shape = (*self.batch_shape, len(values))
        self.register_parameter(f"raw_{name}", torch.nn.Parameter(torch.zeros(shape)))
        self.register_constraint(f"raw_{name}", gpytorch.constraints.Positive())
        self._assign(name, values)

    def _assign(self, name: str, value: float | Tensor) -> None:
        raw = getattr(self, f"raw_{name}")
        target = torch.as_tensor(value, dtype=raw.dtype, device=raw.device).expand(raw.shape)
        constraint = getattr(self, f"raw_{name}_constraint")
        self.initialize(**{f"raw_{name}": constraint.inverse_transform(target)})


def _expand(variance: Tensor, dim: int | None) -> Tensor:
    return variance if dim is None else variance.unsqueeze(dim)


class NNGPKernel(_WideNetworkKernel):
    """Output covariance of an infinitely wide network, ``simprior.gp.nngp`` for gpytorch.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    activation : str or callable
        ``relu erf linear step sin gelu`` in closed form; ``tanh``, an import path or an
        elementwise torch function by ``terms`` terms of its Hermite series.
    sigma_w, sigma_b : float or sequence
        Initial standard deviations, one or ``depth + 1`` (then trained separately). They are
        kept positive by a softplus; ``sigma_b=0`` builds a kernel without biases.
    batch_shape, active_dims, ...
        As for any ``gpytorch.kernels.Kernel``.

    Raises
    ------
    InputError
        A parameter out of range.
    """


class NTKKernel(_WideNetworkKernel):
    """Neural tangent kernel, ``simprior.gp.ntk`` for gpytorch; parameters as `NNGPKernel`'s."""

    tangent = True
