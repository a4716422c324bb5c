"""Infinite-width kernels for gpytorch models, with trainable sigma_w and sigma_b.

``NNGPKernel`` and ``NTKKernel`` compute what ``simprior.gp.kernels`` does, in float64 inside
whatever the dtype of the inputs, on tensors of any batch shape. Import lazily: needs gpytorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import gpytorch
import torch
from torch import Tensor

from simprior.checks import Integer
from simprior.errors import InputError
from simprior.gp.torch_duals import field_angle, input_sines, resolve, sines_of
from simprior.network import Network

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
        if network.weight_dist != "gaussian":
            raise InputError(
                f"weight_dist={network.weight_dist!r}", "'gaussian'", "use a gaussian law"
            )
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
        self, left: Tensor, right: Tensor, cross: Tensor, square: Tensor | None, d: int,
        diag: bool, extra: int,
    ) -> Tensor:  # fmt: skip
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


__all__ = ["NNGPKernel", "NTKKernel"]
