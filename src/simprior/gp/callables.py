"""User activations as float64 numpy functions, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simprior.errors import InputError
from simprior.network import Network

Scalar = Callable[[np.ndarray], np.ndarray]
PROBE = np.array([-1.5, -0.25, 0.0, 0.5, 2.0])


def activation_function(network: Network) -> Scalar:
    """phi of a network whose kernel has no closed form, as a float64 numpy function.

    Accepts an elementwise function of torch tensors or of numpy arrays.

    Raises
    ------
    InputError
        The callable takes neither, changes the shape or gives values that are not finite.
    """
    user = network.activation_callable()
    if user is None:
        return np.tanh
    for adapt in (_through_numpy, _through_torch):
        function = adapt(user)
        try:
            with np.errstate(all="ignore"):
                value = function(PROBE)
        except (Exception, SystemExit):  # whatever a user's function raises
            continue
        if value.shape == PROBE.shape and np.isfinite(value).all():
            return function
    raise InputError(
        f"activation={network.activation_name!r}",
        "an elementwise function of torch tensors or numpy arrays with finite values",
        "check it on torch.linspace(-2, 2, 5, dtype=torch.float64)",
    )


def activation_slope(network: Network) -> Scalar:
    """phi' of the same activation, by torch's automatic differentiation.

    Raises
    ------
    InputError
        The callable is not differentiable by torch (for example, it is a numpy function).
    """
    user = network.activation_callable()
    if user is None:
        return _tanh_slope
    slope = _differentiate(user)
    try:
        value = slope(PROBE)
    except (Exception, SystemExit):  # whatever a user's function raises
        value = np.empty(0)
    if value.shape != PROBE.shape or not np.isfinite(value).all():
        raise InputError(
            f"activation={network.activation_name!r}",
            "a function that torch can differentiate, for the neural tangent kernel",
            "write it with torch operations",
        )
    return slope


def _tanh_slope(u: np.ndarray) -> np.ndarray:
    return 1.0 - np.tanh(u) ** 2


def _through_torch(user: Callable[[Any], Any]) -> Scalar:
    import torch

    def function(u: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            value = user(torch.tensor(u, dtype=torch.float64))
        if not isinstance(value, torch.Tensor):
            raise TypeError("not a torch function")
        return value.to(torch.float64).numpy()

    return function


def _through_numpy(user: Callable[[Any], Any]) -> Scalar:
    return lambda u: np.asarray(user(u), dtype=np.float64)


def _differentiate(user: Callable[[Any], Any]) -> Scalar:
    import torch

    def slope(u: np.ndarray) -> np.ndarray:
        with torch.enable_grad():
            x = torch.tensor(u, dtype=torch.float64, requires_grad=True)
            (grad,) = torch.autograd.grad(user(x).sum(), x)
        return grad.numpy()

    return slope
