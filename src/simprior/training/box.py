"""Training that is to be right in a box around each input: attacks by projected gradients.

The box of radius r around an input is all x' with |x'_i - x_i| <= r, cut to [0, 1] where all the
training inputs lie there (pixels). An attack looks for the point of the box at which a network is
wrong by most (projected gradient descent: Madry et al., ICLR 2018, section 2.1): from a random
point, ``steps`` steps of 2.5 r / steps along the sign of the gradient, back into the box after
each. It lowers the margin (z - c)(2y - 1), whose gradient has the sign of that of every loss whose
slope is in z alone and does not vanish where the loss does; c is the threshold of the loss.

An attack that finds no error does not prove that there is none: errors that it counts are a lower
bound. For a network without hidden layers it finds the worst point of the box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from simprior.errors import InputError
from simprior.numerics.random import philox_key
from simprior.training.spec import TrainSpec
from simprior.training.targets import Problem

STREAM = "train/box"
TRAINING, LOOKING, TESTING = range(3)
"""What random starts are for: a step, a look at the training set, one at the held-out inputs."""
_STEP = 2.5  # of the radius, over all steps (Madry et al. 2018)
_PAIRS = 1 << 22


class Box:
    """Attacks on networks of a problem; ``size`` inputs are attacked at once."""

    def __init__(self, spec: TrainSpec, problem: Problem, device: str, size: int) -> None:
        self.steps, self.radius, self.size, self.device = (
            spec.robust_steps, spec.robust, size, device,
        )  # fmt: skip
        self._key = philox_key(spec.seed, STREAM)
        known = problem.train_inputs
        self._unit = bool(known.min() >= 0 and known.max() <= 1)

    def starts(self, keys: np.ndarray, steps: np.ndarray, purpose: int, part: int) -> Any:
        """A maker of (E, B, d) uniform numbers of [-1, 1): of member, step, purpose and part."""

        def draw(shape: tuple[int, ...]) -> Tensor:
            drawn = np.empty(shape, np.float32)
            for row, (key, step) in enumerate(zip(keys, steps, strict=True)):
                counter = [0, int(step), purpose, part]
                source = np.random.Philox(key=[self._key, int(key)], counter=counter)
                drawn[row] = np.random.Generator(source).random(shape[1:], np.float32)
            return torch.from_numpy(2 * drawn - 1).to(self.device)

        return draw

    def attack(
        self, net: Any, P: Tensor, x: Tensor, y: Tensor, used: np.ndarray, cut: float,
        robust: Tensor, start: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(E, B, d) points of the boxes around ``x`` (E or 1, B, d) where E networks are worst on
        labels ``y`` (E, B), and (E, B) where an error was met on the way there.

        ``robust`` (E,) is 0 for networks whose inputs stay as they are.
        """
        x = x.expand(len(P), -1, -1)
        radius = self.radius * robust[:, None, None]
        low, high = x - radius, x + radius
        if self._unit:
            low, high = low.maximum(x.clamp(max=0)), high.minimum(x.clamp(min=1))
        at = (x + radius * start(tuple(x.shape))).clamp(low, high)
        sign, wrong = 1 - 2 * y, torch.zeros_like(y, dtype=torch.bool)
        for _ in range(self.steps):
            at.requires_grad_()
            with torch.enable_grad():
                z = net(P.detach(), at, used)
                slope = _slope((sign * z).sum(), at)
            if slope is None:
                raise InputError(
                    "robust with a module that no gradient passes through to its inputs",
                    "a module that is differentiable in its inputs", "leave robust out",
                )  # fmt: skip
            wrong |= is_wrong(z, y, cut)
            with torch.no_grad():
                step = _STEP / self.steps * radius * slope.nan_to_num(0.0).sign()
                at = (at.detach() + step).clamp(low, high)
        return at, wrong


def _slope(total: Tensor, x: Tensor) -> Tensor | None:
    """The gradient of ``total`` with respect to ``x``; None if it is no function of ``x``."""
    if not total.requires_grad:
        return None
    return torch.autograd.grad(total, x, allow_unused=True)[0]


def is_wrong(z: Tensor, y: Tensor, cut: float) -> Tensor:
    """Whether outputs ``z`` are on the other side of the threshold than the labels ``y``."""
    return ((z > cut) != (y > 0.5)) | torch.isnan(z)


def check_boxes(problem: Problem, radius: float) -> None:
    """Raise :class:`InputError` if boxes around training inputs of opposite labels overlap: no
    function is right in both."""
    x, y = problem.train_inputs, problem.labels
    zeros, ones = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    block = max(1, _PAIRS // max(1, len(ones)))
    for at in range(0, len(zeros), block):
        rows = zeros[at : at + block]
        apart = cdist(x[rows], x[ones], "chebyshev") if len(ones) else np.full((1, 1), np.inf)
        i, j = np.unravel_index(int(np.argmin(apart)), apart.shape)
        if apart[i, j] <= 2 * radius:
            raise _overlap(problem, int(rows[i]), int(ones[j]), float(apart[i, j]), radius)


def _overlap(problem: Problem, zero: int, one: int, distance: float, radius: float) -> InputError:
    rows = problem.fitted_index[[zero, one]]
    what = f"robust={radius:g} with the inputs {rows[0]} (label 0) and {rows[1]} (label 1)"
    expected = f"boxes of opposite labels without a point in common; these are {distance:.4g} apart"
    remedy = f"pass a radius below {distance / 2:.4g}, or take other or fewer training inputs"
    if distance == 0:
        remedy = "take other or fewer training inputs, or no corrupt labels or attack points"
    return InputError(what, expected, remedy)
