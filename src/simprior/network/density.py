"""Random masks on weights: which numbers a ``density`` may be, and who can use them.

Each weight of a layer is kept with probability ``density``, independently, once a network; the
others are exactly 0 and stay so in training. A mask is drawn with the weights, so f is a function
of the parameters still. Dropout is not: it draws units anew at each evaluation.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simprior.checks import finite, shown
from simprior.errors import InputError
from simprior.network.architecture import ParameterTensor

if TYPE_CHECKING:
    import numpy as np

Density = float | tuple[float, ...]
DENSE = 1 << 32
"""The threshold of a layer without a mask."""


def check_density(value: Any, layers: int) -> Density:
    """``value`` as one number or one a layer, in (0, 1]; 1.0 where that is so in all layers.

    Raises :class:`InputError`.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    listed = isinstance(plain, Sequence) and not isinstance(plain, str)
    values = tuple(plain) if listed else (plain,)
    if len(values) not in (1, layers):
        raise InputError(
            f"density={shown(value)}",
            f"one number or {layers} (one a layer, the output layer included)",
            "give a single density or one for each layer",
        )
    for one in values:
        number = isinstance(one, numbers.Real)
        if isinstance(one, bool) or not number or not finite(one) or not 0 < one <= 1:
            raise InputError(
                f"density={shown(one)}",
                "a probability of keeping a weight, above 0 and at most 1",
                "pass for example density=0.5, or leave it out",
            )
    if all(one == 1 for one in values):
        return 1.0
    return float(values[0]) if len(values) == 1 else tuple(float(one) for one in values)


def masked_tensors(
    tensors: Sequence[ParameterTensor], density: Density, rescale: bool
) -> tuple[ParameterTensor, ...]:
    """``tensors`` with masks on their weights: ``density`` is one number, or one a tensor of
    weights in the order of ``tensors``.

    Raises :class:`InputError` for another number of densities.
    """
    weights = [t.name for t in tensors if t.law == "weight"]
    if isinstance(density, tuple) and len(density) != len(weights):
        listed = ", ".join(weights) or "none"
        raise InputError(
            f"density={shown(density)}",
            f"one number, or {len(weights)}: one a tensor of weights ({listed})",
            "give a single density or one for each",
        )
    each = density if isinstance(density, tuple) else (density,) * len(weights)
    shares = dict(zip(weights, each, strict=True))

    def masked(t: ParameterTensor) -> ParameterTensor:
        share = shares.get(t.name, 1.0)
        if share == 1.0 or t.deviation is None:
            return t
        gain = math.sqrt(share) if rescale else 1.0
        return replace(t, density=share, deviation=t.deviation / gain)

    return tuple(masked(t) for t in tensors)


def thresholds(densities: Sequence[float]) -> np.ndarray:
    """(layers,) uint64: a weight is kept where its random 32-bit word is below that."""
    import numpy as np

    return np.array([max(1, round(one * DENSE)) for one in densities], np.uint64)


def mask_weights(
    weights: np.ndarray, share: float, rescale: bool, source: np.random.Generator
) -> np.ndarray:
    """``weights`` of a layer under a random mask of density ``share``; no number is drawn at 1."""
    if share == 1.0:
        return weights
    kept = weights * (source.random(weights.shape) < share)
    return kept / math.sqrt(share) if rescale else kept


def refuse_dropout(value: Any) -> None:
    """Raise :class:`InputError` unless ``value`` is 0: dropout is no law of parameters."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != 0:
        raise no_dropout(f"dropout={shown(value)}")


def no_dropout(what: str) -> InputError:
    """The error for ``what`` asks for dropout."""
    return InputError(
        what,
        "a function f that the parameters determine (dropout draws units anew at each evaluation)",
        "use density, whose masks are drawn once a network",
    )


HONOURED = "leave density out, or sample, train or use rejection, which honour it"


def refuse_density(network: Any, what: str, remedy: str = HONOURED) -> None:
    """Raise :class:`InputError` if ``network`` has masks, which ``what`` does not take."""
    if network.masked:
        raise InputError(f"density={shown(network.density)}", f"density 1 for {what}", remedy)
