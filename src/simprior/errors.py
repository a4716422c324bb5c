"""Errors of simprior. One base class; every message is one line: value, expectation, remedy."""

from __future__ import annotations

_WORD, _TEXT = 200, 320  # characters: longer than any sensible name or path; a value beyond is cut
_HEAD, _TAIL = 60, 30


def shorten(text: str) -> str:
    """``text`` on one line, its overlong words cut to their ends, the number of characters said.

    A message repeats what the user gave, so that a value of 5,000 digits would hide what is wrong.
    """
    words = [_cut(word) if len(word) > _WORD else word for word in text.split()]
    return " ".join(words)


def _cut(text: str) -> str:
    return f"{text[:_HEAD]}...{text[-_TAIL:]} ({len(text):,} characters)"


class SimpriorError(Exception):
    """Base class of everything simprior raises on purpose; the command line prints it, exit 2."""


class InputError(SimpriorError, ValueError):
    """A value given by the user cannot be used.

    Parameters
    ----------
    what : str
        The name and the value, e.g. ``"n=17"``.
    expected : str
        What would have been accepted, e.g. ``"an integer from 1 to 16"``.
    remedy : str
        How to fix it, e.g. ``"pass --n 7"``.

    Overlong values in any of the three are shortened (:func:`shorten`).
    """

    def __init__(self, what: str, expected: str, remedy: str) -> None:
        what, expected, remedy = (shorten(str(part)) for part in (what, expected, remedy))
        what = _cut(what) if len(what) > _TEXT else what
        super().__init__(f"{what}: expected {expected}; {remedy}")
        self.what, self.expected, self.remedy = what, expected, remedy

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.what, self.expected, self.remedy)


class NumericalError(SimpriorError, ArithmeticError):
    """A computation left the domain where it can be trusted (NaN, not positive definite)."""


class StoreError(SimpriorError, OSError):
    """A run directory cannot be used: occupied, locked, corrupt, not writable or full."""


class MemoryShortage(SimpriorError, MemoryError):
    """A computation needs more memory than there is; the message says how to need less."""


class DeviceError(SimpriorError, RuntimeError):
    """The device asked for is not available."""
