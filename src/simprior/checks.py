"""Checks of what a user gives, shared by all layers."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

from simprior.errors import InputError

SHOWN = 40


def whole(name: str, value: Any, low: int, high: int = 2**53) -> int:
    """``value`` as an int in [low, high] (1e5 is accepted), else :class:`InputError`."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or (not low <= value <= high):
        span = f"a whole number >= {low}" if high == 2**53 else f"a whole number, {low} to {high}"
        flag = "--" + name.replace("_", "-")
        raise InputError(f"{name}={value!r}", span, f"pass for example {flag} {max(low, 1)}")
    return int(value)


def unknown(
    what: str, name: str, known: Iterable[Any], remedy: str = "check the spelling"
) -> InputError:
    """The error for a name that is not one of ``known``: the nearest of them, or ``remedy``.

    Of more than ``SHOWN`` names, all are listed only where none is near.
    """
    names = [str(one) for one in known]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else remedy
    listed = ", ".join(names) or "none"
    if near and len(names) > SHOWN:
        listed = f"{len(names)} names"
    return InputError(what, f"one of {listed}", hint)
