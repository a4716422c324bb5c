"""alpha-rescaling of relu layers: other weights, the same function (Dinh et al., ICML 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch

from simprior.errors import InputError
from simprior.network import Network


def rescale(parameters: torch.Tensor, network: Network, alpha: Any, layer: int = 0) -> torch.Tensor:
    """(N, P) parameters with hidden layer ``layer`` times alpha and the next weights over alpha.

    W_l, b_l -> alpha W_l, alpha b_l and W_(l+1) -> W_(l+1) / alpha, other parameters as they are.
    A power of two only changes exponents, so that every product and sum of the next layer is the
    same to the last bit (barring overflow and subnormal numbers).

    Raises
    ------
    InputError
        The activation is not relu, alpha is not a finite number > 0, or there is no such layer.
    """
    if network.activation != "relu":
        raise InputError(
            f"rescaling with activation={network.activation_name}", "relu",
            "leave alpha out: other activations are not positively homogeneous",
        )  # fmt: skip
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not number or not math.isfinite(alpha) or alpha <= 0:
        raise InputError(f"alpha={alpha!r}", "a finite factor > 0", "pass for example alpha=4")
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < network.depth:
        span = f"a hidden layer, 0 to {network.depth - 1}" if network.depth else "a hidden layer"
        raise InputError(
            f"layer={layer!r} of a network with {network.depth} hidden layers", span,
            "only a hidden layer followed by another layer can be rescaled",
        )  # fmt: skip
    shapes = list(zip(network.fan_ins, (*network.hidden, 1), strict=True))
    start = sum((f + 1) * k for f, k in shapes[:layer])
    middle = start + (shapes[layer][0] + 1) * shapes[layer][1]
    end = middle + shapes[layer + 1][0] * shapes[layer + 1][1]
    out = parameters.clone()
    out[:, start:middle] *= alpha
    out[:, middle:end] /= alpha
    return out
