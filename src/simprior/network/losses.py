"""Losses of a binary classifier with one output z and labels y in {0, 1}, t = 2 y - 1.

* ``ce``: cross-entropy -ln sigmoid(t z); class 1 iff z > 0;
* ``mse01``: (z - y)^2, targets 0 and 1; class 1 iff z > 1/2;
* ``mse``: (z - t)^2, targets -1 and +1; class 1 iff z > 0;
* ``hinge``: max(0, 1 - t z); class 1 iff z > 0.

The loss of a batch is the mean over its examples. To add a loss, add one entry to :data:`LOSSES`;
the engines and the measures of weights take all they need from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.checks import Choice

# mypy: disable-error-code="no-untyped-def"


@dataclass(frozen=True)
class Loss:
    """One loss of an output z with label y (0 or 1), elementwise.

    Attributes
    ----------
    name : str
    arrays, tensors : callable
        (z, y) -> loss, on float64 arrays and on torch tensors.
    derivatives : callable
        (z, y) -> first and second derivative in z, on tensors.
    compiled : callable
        () -> (value, derivative), scalar numba functions of (z, y) in float32.
    threshold : float
        The class is 1 iff the output is above this.
    """

    name: str
    arrays: Callable[[np.ndarray, np.ndarray], np.ndarray]
    tensors: Callable[[Any, Any], Any]
    derivatives: Callable[[Any, Any], tuple[Any, Any]]
    compiled: Callable[[], tuple[Any, Any]]
    threshold: float = 0.0


def check_loss(name: Any) -> str:
    """``name`` if it is a loss, else :class:`InputError`."""
    Choice(LOSSES, "pass for example ce")("loss", name)
    return str(name)


def threshold(name: str) -> float:
    """The class is 1 iff the output is above this."""
    return LOSSES[name].threshold


def loss_values(name: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss of each example, shapes of ``z`` and ``y`` (0/1) broadcast, float64."""
    return LOSSES[name].arrays(np.asarray(z, np.float64), np.asarray(y, np.float64))


def _ce_tensors(z, y):
    import torch

    t = 2 * y - 1
    if z.dtype == torch.float32:
        return torch.nn.functional.softplus(-t * z)
    return -torch.nn.functional.logsigmoid(t * z)  # softplus is linear above 20: not float64


def _ce_derivatives(z, y):
    import torch

    t = 2 * y - 1
    wrong = torch.sigmoid(-t * z)
    return -t * wrong, wrong * torch.sigmoid(t * z)


def _compile_ce():
    from numba import njit

    from simprior.numerics.compiled import exp_f32, log_f32

    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)

    @njit(inline="always")
    def value(z, y):
        b = -(two * y - one) * z  # -ln sigmoid(-b), without overflow
        return max(b, zero) + log_f32(one + exp_f32(-abs(b)))

    @njit(inline="always")
    def derivative(z, y):
        return one / (one + exp_f32(-z)) - y

    return value, derivative


def _compile_mse01():
    from numba import njit

    two = np.float32(2.0)

    @njit(inline="always")
    def value(z, y):
        return (z - y) * (z - y)

    @njit(inline="always")
    def derivative(z, y):
        return two * (z - y)

    return value, derivative


def _compile_mse():
    from numba import njit

    one, two = np.float32(1.0), np.float32(2.0)

    @njit(inline="always")
    def value(z, y):
        t = two * y - one
        return (z - t) * (z - t)

    @njit(inline="always")
    def derivative(z, y):
        return two * (z - (two * y - one))

    return value, derivative


def _hinge_derivatives(z, y):
    import torch

    t = 2 * y - 1
    return -t * (t * z < 1), torch.zeros_like(z)


def _compile_hinge():
    from numba import njit

    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)

    @njit(inline="always")
    def value(z, y):
        return max(one - (two * y - one) * z, zero)

    @njit(inline="always")
    def derivative(z, y):
        t = two * y - one
        return -t if t * z < one else zero

    return value, derivative


def _square(target):
    """The values of a squared loss, for arrays and tensors alike."""
    return lambda z, y: (z - target(y)) ** 2


def _square_derivatives(target):
    def derivatives(z, y):
        import torch

        return 2 * (z - target(y)), torch.full_like(z, 2.0)

    return derivatives


def _signs(y):
    return 2 * y - 1


def _same(y):
    return y


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            name="ce",
            arrays=lambda z, y: np.logaddexp(0.0, -(2 * y - 1) * z),
            tensors=_ce_tensors,
            derivatives=_ce_derivatives,
            compiled=_compile_ce,
        ),
        Loss(
            name="mse01",
            arrays=_square(_same),
            tensors=_square(_same),
            derivatives=_square_derivatives(_same),
            compiled=_compile_mse01,
            threshold=0.5,
        ),
        Loss(
            name="mse",
            arrays=_square(_signs),
            tensors=_square(_signs),
            derivatives=_square_derivatives(_signs),
            compiled=_compile_mse,
        ),
        Loss(
            name="hinge",
            arrays=lambda z, y: np.maximum(0.0, 1 - (2 * y - 1) * z),
            tensors=lambda z, y: (1 - (2 * y - 1) * z).clamp(min=0),
            derivatives=_hinge_derivatives,
            compiled=_compile_hinge,
        ),
    )
}
"""Losses by name; compiled code knows each by its place."""
