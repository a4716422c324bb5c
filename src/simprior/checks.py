"""Checks of what a user gives, shared by all layers: declared validators, generated messages.

A validator is a small frozen object that is called with the name and the value of an argument and
returns the value in its plain form (``1e5`` as 100000, a list as an array) or raises
:class:`InputError`. Public functions declare theirs with :func:`checked`, in the manner of
scikit-learn's ``validate_params``: what is wrong in kind (a text for a number, a complex or masked
array, a NaN) is refused at the door; what is wrong in context, by the function itself.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from simprior.errors import InputError, SimpriorError, is_shortage, shortage

if TYPE_CHECKING:
    import numpy as np

SHOWN = 40
_LONGEST = 80  # characters of a value in a message
_BITS = 14_000  # of a whole number: 4,214 digits
_DIGITS = 40  # whole numbers beyond are described, not written out
Function = TypeVar("Function", bound=Callable[..., Any])
Validator = Callable[[str, Any], Any]


def checked(**validators: Validator) -> Callable[[Function], Function]:
    """Decorator: pass each argument named here through its validator before the function runs.

    Default values are not looked at. A failed allocation inside the function, whichever library
    raised it, becomes :class:`simprior.errors.MemoryShortage`.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        unknown_names = set(validators) - set(signature.parameters)
        assert not unknown_names, (function.__qualname__, unknown_names)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            bound = signature.bind(*args, **keywords)
            for name, value in bound.arguments.items():
                _readable(name, value)
            for name, validate in validators.items():
                if name in bound.arguments:
                    bound.arguments[name] = validate(name, bound.arguments[name])
            try:
                return function(*bound.args, **bound.kwargs)
            except SimpriorError:
                raise
            except Exception as error:
                if is_shortage(error):
                    raise shortage(error) from error
                raise

        return cast(Function, call)

    return decorate


def _readable(name: str, value: Any) -> None:
    """Refuse whole numbers that Python itself does not write out (more than 4,300 digits)."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if isinstance(one, int) and one.bit_length() > _BITS:
            what = f"{name}={shown(one)}"
            raise InputError(what, "a whole number that fits", "write a smaller one")


def shown(value: Any) -> str:
    """A value for a message: its repr on one line, or its kind where that would be long."""
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {shape}, dtype {kind}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * _DIGITS:
        return f"a whole number of about {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # repr of a user's object, or a list with a number of 5,000 digits
        return f"a value of type {type(value).__name__}"
    if len(text) > _LONGEST:
        return f"{text[: _LONGEST - 20]}...{text[-15:]} ({len(text):,} characters)"
    return text


def whole(name: str, value: Any, low: int, high: int = 2**53) -> int:
    """``value`` as an int in [low, high] (1e5 is accepted), else :class:`InputError`."""
    return Whole(low, high)(name, value)


def finite(value: Any) -> bool:
    """Whether a number of any type is finite as a float (10**400 is not)."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that is most like ``name``; None where none is near."""
    near = difflib.get_close_matches(name[:200], names, 1)
    return near[0] if near else None


def unknown(
    what: str, name: str, known: Iterable[Any], remedy: str = "check the spelling"
) -> InputError:
    """The error for a name that is not one of ``known``: the nearest of them, or ``remedy``.

    Of more than ``SHOWN`` names, all are listed only where none is near.
    """
    names = [str(one) for one in known]
    near = nearest(name, names)
    hint = f"did you mean {near}?" if near else remedy
    listed = ", ".join(names) or "none"
    if near and len(names) > SHOWN:
        listed = f"{len(names)} names"
    return InputError(what, f"one of {listed}", hint)


def _bad(name: str, value: Any, expected: str, remedy: str) -> InputError:
    return InputError(f"{name}={shown(value)}", expected, remedy)


@dataclass(frozen=True)
class Maybe:
    """None, or what ``inner`` accepts."""

    inner: Validator

    def __call__(self, name: str, value: Any) -> Any:
        """The value in its plain form."""
        return None if value is None else self.inner(name, value)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``, as int; 1e5 is accepted, True is not.

    ``remedy`` and ``expected`` (by default the range, in words) are the texts of the message.
    """

    low: int = 0
    high: int = 2**53
    remedy: str = ""
    expected: str = ""

    def __call__(self, name: str, value: Any) -> int:
        """The value in its plain form."""
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if number and self.low <= value <= self.high and value == int(value):
            return int(value)
        span = f">= {self.low}" if self.high == 2**53 else f", {self.low} to {self.high}"
        expected = f"a whole number {span}".replace(" ,", ",")
        flag = "--" + name.replace("_", "-")
        remedy = f"pass for example {flag} {max(self.low, 1)}"
        raise _bad(name, value, self.expected or expected, self.remedy or remedy)


@dataclass(frozen=True)
class Integer:
    """An integer from ``low`` to ``high``, of Python or numpy; a float is not one, even if whole.

    ``remedy`` and ``expected`` (by default the range, in words) are the texts of the message.
    """

    low: int
    high: int | None = None
    remedy: str = ""
    expected: str = ""

    def __call__(self, name: str, value: Any) -> int:
        """The value in its plain form."""
        good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not good or value < self.low or (self.high is not None and value > self.high):
            span = f">= {self.low}" if self.high is None else f"from {self.low} to {self.high}"
            raise _bad(name, value, self.expected or f"an integer {span}", self.remedy)
        return int(value)


@dataclass(frozen=True)
class Choice:
    """One of the texts ``names``; ``remedy`` and ``expected`` are the texts of the message."""

    names: Collection[str]
    remedy: str = "check the spelling"
    expected: str = ""

    def __call__(self, name: str, value: Any) -> str:
        """The value in its plain form."""
        if not isinstance(value, str) or value not in self.names:
            listed = self.expected or f"one of {', '.join(self.names)}"
            raise _bad(name, value, listed, self.remedy)
        return value


@dataclass(frozen=True)
class Number:
    """A finite real number between ``low`` and ``high`` (themselves excluded if ``open``).

    ``remedy`` and ``expected`` (by default the range, in words) are the texts of the message.
    """

    low: float = -math.inf
    high: float = math.inf
    open: bool = False
    finite: bool = True
    remedy: str = ""
    expected: str = ""

    def __call__(self, name: str, value: Any) -> float:
        """The value in its plain form."""
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        try:
            number = float(value) if real else math.nan
        except OverflowError:
            number = math.nan
        good = not math.isnan(number) and (math.isfinite(number) or not self.finite)
        good &= self.low <= number <= self.high
        if not good or (self.open and number in (self.low, self.high)):
            remedy = self.remedy or f"pass a number for {name}"
            raise _bad(name, value, self.expected or self.text(), remedy)
        return value if isinstance(value, int) else number

    def text(self) -> str:
        """What is expected, in words."""
        kind = "a finite number" if self.finite else "a number"
        if math.isinf(self.low) and math.isinf(self.high):
            return kind
        if math.isinf(self.high):
            return f"{kind} {'>' if self.open else '>='} {self.low:g}"
        between = "between" if self.open else "from"
        return f"a number {between} {self.low:g} {'and' if self.open else 'to'} {self.high:g}"


LEVEL = Number(0, 1, open=True)
"""A confidence level, or a probability that is neither 0 nor 1."""


@dataclass(frozen=True)
class Text:
    """A text."""

    def __call__(self, name: str, value: Any) -> str:
        """The value in its plain form."""
        if not isinstance(value, str):
            raise _bad(name, value, "a text", "write it in quotes")
        return str(value)


@dataclass(frozen=True)
class Switch:
    """True or False (numpy's too)."""

    def __call__(self, name: str, value: Any) -> bool:
        """The value in its plain form."""
        if type(value).__name__ not in {"bool", "bool_"}:
            raise _bad(name, value, "True or False", f"pass {name}=True or leave it out")
        return bool(value)


@dataclass(frozen=True)
class File:
    """A path, as text or ``Path``."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value in its plain form."""
        if not isinstance(value, str | os.PathLike):
            raise _bad(name, value, "a path", "pass a text or a pathlib.Path")
        return value


@dataclass(frozen=True)
class Table:
    """A mapping with texts as keys, e.g. ``options={"beta1": 0.5}``."""

    def __call__(self, name: str, value: Any) -> dict[str, Any]:
        """The value in its plain form."""
        good = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        if not good:
            raise _bad(name, value, "a mapping of names to values", f"pass {name}={{'name': 1}}")
        return dict(value)


@dataclass(frozen=True)
class Numbers:
    """One or more finite numbers, as a tuple of floats."""

    def __call__(self, name: str, value: Any) -> tuple[float, ...]:
        """The value in its plain form."""
        array = real_array(name, value)
        if array.ndim > 1 or not array.size or not all(map(math.isfinite, array.ravel())):
            raise _bad(name, value, "finite numbers", "pass for example (0.5, 1.0)")
        return tuple(map(float, array.ravel()))


@dataclass(frozen=True)
class Kind:
    """An object of a class of ours, named (so that the class need not be imported here)."""

    names: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> Any:
        """The value in its plain form."""
        if not {base.__name__ for base in type(value).__mro__} & set(self.names):
            article = " or a ".join(self.names)
            raise _bad(name, value, f"a {article}", "build one first")
        return value


NETWORK = Kind(("Network",))
ARCHITECTURE = Kind(("Network", "Module"))


@dataclass(frozen=True)
class Updates:
    """An object with ``update(number)``, as ``tqdm`` has it, or None."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value in its plain form."""
        collection = isinstance(value, dict | set)  # they have an update() of another kind
        if value is not None and (collection or not callable(getattr(value, "update", None))):
            raise _bad(name, value, "an object with update(number)", "pass a tqdm bar, or None")
        return value


@dataclass(frozen=True)
class Array:
    """A finite real array of ``ndim`` dimensions, as float64: no NaN, complex, masked, or text."""

    ndim: int | None = None
    empty: bool = False

    def __call__(self, name: str, value: Any) -> np.ndarray:
        """The value in its plain form."""
        import numpy as np

        array = real_array(name, value)
        good = self.ndim is None or array.ndim == self.ndim
        if not good or (not self.empty and not array.size) or not np.isfinite(array).all():
            wanted = "array" if self.ndim is None else {1: "vector", 2: "matrix"}[self.ndim]
            what = f"{name} of shape {array.shape}"
            if good and array.size:
                what = f"{name} with infinite or NaN entries"
            raise InputError(what, f"a finite {wanted}", f"check the shape and values of {name}")
        return array


def real_array(name: str, value: Any) -> np.ndarray:
    """``value`` as a float64 array of any shape; :class:`InputError` unless it is real numbers."""
    import numpy as np

    numeric = plain_array(name, value)
    if numeric.dtype.kind == "O":  # a list of Python numbers that numpy does not unify
        numeric = np.array(None)
    if numeric.dtype.kind not in "biuf":
        found = "complex numbers" if numeric.dtype.kind == "c" else shown(value)
        raise InputError(f"{name}={found}", "real numbers", f"convert {name} to a float array")
    return numeric.astype(np.float64)


def plain_array(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of its own dtype; :class:`InputError` if it is masked or ragged."""
    import numpy as np

    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        what = f"{name} with {int(np.ma.getmaskarray(value).sum())} masked entries"
        expected = "an array without missing values"
        raise InputError(what, expected, f"fill or drop them: {name}.filled(value)")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise _bad(
            name, value, "an array of numbers", "rows of equal length, numbers only"
        ) from None


@dataclass(frozen=True)
class Tables:
    """(F, m) or (m,) outputs 0/1 of any real dtype, as an array of their dtype."""

    def __call__(self, name: str, value: Any) -> np.ndarray:
        """The value in its plain form."""
        array = plain_array(name, value)
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or not array.shape[-1]:
            what = f"{name} of shape {array.shape}, dtype {array.dtype}"
            expected = "an (F, m) array of 0 and 1"
            raise InputError(what, expected, "use truthtable.parse_functions for other forms")
        return array


RUN_OPTIONS: dict[str, Validator] = {
    "workers": Whole(1),
    "out": Maybe(File()),
    "resume": Switch(),
    "overwrite": Switch(),
    "executor": Text(),
    "executor_options": Maybe(Table()),
    "progress": Updates(),
}
"""Arguments that the functions which compute something into a run directory have in common."""
