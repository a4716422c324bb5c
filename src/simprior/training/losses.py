"""Losses of a binary classifier with one output z and labels y in {0, 1}, t = 2 y - 1.

* ``ce``: cross-entropy -ln sigmoid(t z); class 1 iff z > 0;
* ``mse``: (z - t)^2, targets -1 and +1; class 1 iff z > 0;
* ``mse01``: (z - y)^2, targets 0 and 1; class 1 iff z > 1/2;
* ``hinge``: max(0, 1 - t z); class 1 iff z > 0.

The loss of a batch is the mean over its examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simprior.checks import Choice

LOSSES = ("ce", "mse01", "mse", "hinge")
"""Names, in the order of the codes of the compiled kernel."""


def check_loss(name: Any) -> str:
    """``name`` if it is a loss, else :class:`InputError`."""
    Choice(LOSSES, "pass for example ce")("loss", name)
    return str(name)


def threshold(name: str) -> float:
    """The class is 1 iff the output is above this."""
    return 0.5 if name == "mse01" else 0.0


def loss_values(name: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss of each example, shapes of ``z`` and ``y`` (0/1) broadcast, float64."""
    z, y = np.asarray(z, np.float64), np.asarray(y, np.float64)
    t = 2 * y - 1
    if name == "ce":
        return np.logaddexp(0.0, -t * z)
    if name == "hinge":
        return np.maximum(0.0, 1 - t * z)
    return (z - (y if name == "mse01" else t)) ** 2
