"""The activations in compiled code: one function a use, which is told the activation by number.

Made from the entries of :mod:`simprior.network.activations`; numbers are places in
:data:`simprior.network.activations.COMPILED`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simprior.network.activations import ACTIVATIONS, COMPILED
from simprior.numerics.compiled import inner, named

# mypy: disable-error-code="no-untyped-def"


RELU = COMPILED.index("relu")
_FAST = {"contract", "nsz"}


def _in_place(f: Any, name: str) -> Any:
    def loop(z, start, count):
        a, n = np.uint64(start), np.uint64(count)
        for i in range(a, a + n):
            z[i] = f(z[i])

    compiled = inner(fastmath=_FAST, error_model="numpy")
    return compiled(named(loop, f"in_place_{name}"))


def _with_slope(f: Any, name: str) -> Any:
    def loop(h, d, start, count):
        a, n = np.uint64(start), np.uint64(count)
        for i in range(a, a + n):
            y, slope = f(h[i])
            h[i] = y
            d[i] = slope

    compiled = inner(fastmath=_FAST, error_model="numpy")
    return compiled(named(loop, f"with_slope_{name}"))


def _one(f: Any, name: str) -> Any:
    def call(z):
        return f(z)

    return inner()(named(call, f"one_{name}"))


def choose(functions: list[Any], name: str) -> Any:
    """Compiled function (k, ...) that calls the k-th of ``functions`` with the other arguments.

    The last one also stands for numbers that are too large. ``name`` is that of no other choice
    (:func:`named`).
    """
    chosen: Any = None
    for number, function in reversed(list(enumerate(functions))):
        chosen = _case(number, function, chosen, f"{name}_{number}")
    return chosen


def _case(number: int, function: Any, otherwise: Any, name: str) -> Any:
    def last(k, *rest):
        return function(*rest)

    def case(k, *rest):
        if k == number:
            return function(*rest)
        return otherwise(k, *rest)

    return inner()(named(last if otherwise is None else case, name))


_FORMS = {name: ACTIVATIONS[name].compiled() for name in COMPILED}  # type: ignore[misc]

activate = choose([_in_place(form.single, name) for name, form in _FORMS.items()], "activate")
"""(code, z, start, count): f in place on ``z[start : start + count]``, float32."""

activate_with_slope = choose(
    [_with_slope(form.pair, name) for name, form in _FORMS.items()], "activate_with_slope"
)
"""(code, h, d, start, count): h <- f(h) and d <- f'(h) on ``[start : start + count]``, float32."""

activation_at = choose([_one(form.double, name) for name, form in _FORMS.items()], "activation_at")
"""(code, z): f(z), float64."""
