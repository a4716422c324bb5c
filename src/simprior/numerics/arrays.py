"""Elementwise functions under one set of names, for numpy arrays and for torch tensors.

A formula that takes such a set as its first argument is written once and works on both:
``ops.exp`` is ``numpy.exp`` in :func:`numpy_ops` and ``torch.exp`` in :func:`torch_ops`. Only the
functions that formulas of activations need are here. Libraries are imported on the first call.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

Ops = Any
"""A set of functions, as :func:`numpy_ops` and :func:`torch_ops` return."""


@cache
def numpy_ops() -> Ops:
    """The functions for numpy arrays."""
    import numpy as np
    from scipy.special import ndtr

    return SimpleNamespace(
        exp=np.exp,
        sin=np.sin,
        cos=np.cos,
        sqrt=np.sqrt,
        arctan2=np.arctan2,
        where=np.where,
        normal_cdf=ndtr,
        ones_like=np.ones_like,
        not_below_0=lambda x: np.maximum(x, 0.0),
        is_positive=lambda x: (x > 0).astype(x.dtype),
    )


@cache
def torch_ops() -> Ops:
    """The functions for torch tensors; the gradient of ``sqrt`` at 0 is 0."""
    import torch

    def sqrt(x: torch.Tensor) -> torch.Tensor:
        some = x > 0
        return torch.where(some, torch.sqrt(torch.where(some, x, 1.0)), 0.0)

    return SimpleNamespace(
        exp=torch.exp,
        sin=torch.sin,
        cos=torch.cos,
        sqrt=sqrt,
        arctan2=torch.atan2,
        where=torch.where,
        normal_cdf=torch.special.ndtr,
        ones_like=torch.ones_like,
        not_below_0=lambda x: x.clamp_min(0.0),
        is_positive=lambda x: (x > 0).to(x.dtype),
    )
