"""User activations as float64 numpy functions, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simprior.errors import InputError
from simprior.network import Network

Scalar = Callable[[np.ndarray], np.ndarray]
PROBE = np.array([-1.5, -0.25, 0.0, 0.5, 2.0])
REACH, POINTS, HALVINGS = 16.0, 1 << 14, 44
MOST_JUMPS, LEAST_JUMP = 32, 1e-6


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


def jumps(function: Scalar) -> np.ndarray:
    """Where a function jumps (of a slope: where its integral has a kink), ascending, in [-16, 16].

    The largest steps between points of a fine grid, halved down to neighbouring numbers: a step
    that is still there is a jump. A jump is missed if many others are larger.
    """
    grid = np.linspace(-REACH, REACH, POINTS + 1)
    with np.errstate(all="ignore"):
        values = function(grid)
        step = np.where(np.isfinite(values[1:] - values[:-1]), np.abs(np.diff(values)), 0.0)
        least = LEAST_JUMP * float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
        at = np.argsort(-step, kind="stable")[:MOST_JUMPS]
        at = at[step[at] > least]
        low, high = grid[at], grid[at + 1]
        for _ in range(HALVINGS if len(at) else 0):
            middle = 0.5 * (low + high)
            a, b, c = function(low), function(middle), function(high)
            left = np.abs(b - a) >= np.abs(c - b)
            low, high = np.where(left, low, middle), np.where(left, middle, high)
        found = np.sort(high[np.abs(function(high) - function(low)) > least])
    return found[np.diff(found, prepend=-np.inf) > 1e-9]


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
