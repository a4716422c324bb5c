"""The activations in compiled code: one function a use, which is told the activation by number.

Made from the entries of :mod:`simprior.network.activations`; numbers are places in
:data:`simprior.network.activations.COMPILED`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from simprior.network.activations import ACTIVATIONS, COMPILED

# mypy: disable-error-code="no-untyped-def"


RELU = COMPILED.index("relu")
_FAST = {"contract", "nsz"}


def _in_place(f: Any) -> Any:
    @njit(nogil=True, fastmath=_FAST, error_model="numpy")
    def loop(z, start, count):
        a, n = np.uint64(start), np.uint64(count)
        for i in range(a, a + n):
            z[i] = f(z[i])

    return loop


def _with_slope(f: Any) -> Any:
    @njit(nogil=True, fastmath=_FAST, error_model="numpy")
    def loop(h, d, start, count):
        a, n = np.uint64(start), np.uint64(count)
        for i in range(a, a + n):
            y, slope = f(h[i])
            h[i] = y
            d[i] = slope

    return loop


def _one(f: Any) -> Any:
    @njit(nogil=True)
    def call(z):
        return f(z)

    return call


def choose(functions: list[Any]) -> Any:
    """Compiled function (k, ...) that calls the k-th of ``functions`` with the other arguments.

    The last one also stands for numbers that are too large.
    """
    chosen: Any = None
    for number, function in reversed(list(enumerate(functions))):
        chosen = _case(number, function, chosen)
    return chosen


def _case(number: int, function: Any, otherwise: Any) -> Any:
    if otherwise is None:

        @njit(nogil=True)
        def last(k, *rest):
            return function(*rest)

        return last

    @njit(nogil=True)
    def case(k, *rest):
        if k == number:
            return function(*rest)
        return otherwise(k, *rest)

    return case


_FORMS = [ACTIVATIONS[name].compiled() for name in COMPILED]  # type: ignore[misc]

activate = choose([_in_place(form.single) for form in _FORMS])
"""(code, z, start, count): f in place on ``z[start : start + count]``, float32."""

activate_with_slope = choose([_with_slope(form.pair) for form in _FORMS])
"""(code, h, d, start, count): h <- f(h) and d <- f'(h) on ``[start : start + count]``, float32."""

activation_at = choose([_one(form.double) for form in _FORMS])
"""(code, z): f(z), float64."""
