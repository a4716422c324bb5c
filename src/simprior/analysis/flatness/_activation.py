"""Elementwise activations with their first two derivatives, on torch tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from simprior.errors import InputError
from simprior.network import Network

Tensor = torch.Tensor
Derivatives = tuple[Tensor, Tensor | None]
"""phi' and phi'' at the same points; None: phi'' is 0 everywhere (piecewise linear)."""


def value(network: Network) -> Callable[[Tensor], Tensor]:
    """The activation itself. Raises :class:`InputError` for a callable that does not take torch."""
    user = network.activation_callable()
    if user is None:
        return _VALUES[str(network.activation)]

    def checked(u: Tensor) -> Tensor:
        out = _call(user, u, network)
        return out.detach()

    return checked


def derivatives(network: Network) -> Callable[[Tensor, Tensor], Derivatives]:
    """(u, phi(u)) -> (phi'(u), phi''(u) or None); at a kink as torch's autograd has it.

    Raises :class:`InputError` for ``step``, which has no useful gradient.
    """
    user = network.activation_callable()
    if user is not None:
        return lambda u, _: _by_autograd(user, u, network)
    if network.activation == "step":
        raise InputError(
            "activation='step'", "an activation with a gradient",
            "leave out measures that need gradients (sharpness, hessian, fisher, relative)",
        )  # fmt: skip
    return _DERIVATIVES[str(network.activation)]


def _by_autograd(user: Callable[[Tensor], Tensor], u: Tensor, network: Network) -> Derivatives:
    with torch.enable_grad():
        leaf = u.detach().requires_grad_()
        out = _call(user, leaf, network)
        (first,) = torch.autograd.grad(out.sum(), leaf, create_graph=True)
        if not first.requires_grad:
            return first, None
        (second,) = torch.autograd.grad(first.sum(), leaf, allow_unused=True)
    return first.detach(), second


def _call(user: Callable[[Tensor], Tensor], u: Tensor, network: Network) -> Tensor:
    try:
        out = user(u)
        good = isinstance(out, Tensor) and out.shape == u.shape
    except (TypeError, RuntimeError, AttributeError):
        good = False
    if not good or (u.requires_grad and not out.requires_grad):
        raise InputError(
            f"activation={network.activation_name}", "an elementwise function of torch tensors",
            "write it with torch functions",
        )  # fmt: skip
    return out


def _gelu(u: Tensor, _: Tensor) -> Derivatives:
    density = torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    return torch.special.ndtr(u) + u * density, density * (2 - u * u)


def _erf(u: Tensor, _: Tensor) -> Derivatives:
    first = torch.exp(-u * u) * (2 / math.sqrt(math.pi))
    return first, -2 * u * first


def _tanh(_: Tensor, h: Tensor) -> Derivatives:
    first = 1 - h * h
    return first, -2 * h * first


_VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "sin": torch.sin,
    "gelu": torch.nn.functional.gelu, "linear": lambda u: u,
    "step": lambda u: (u > 0).to(u.dtype),
}  # fmt: skip
_DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Derivatives]] = {
    "relu": lambda u, _: ((u > 0).to(u.dtype), None), "tanh": _tanh, "erf": _erf, "gelu": _gelu,
    "sin": lambda u, h: (torch.cos(u), -h), "linear": lambda u, _: (torch.ones_like(u), None),
}  # fmt: skip
