"""Errors of simprior. One base class; every message is one line: value, expectation, remedy."""

from __future__ import annotations


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
    """

    def __init__(self, what: str, expected: str, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}; {remedy}")
        self.what, self.expected, self.remedy = what, expected, remedy

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.what, self.expected, self.remedy)


class NumericalError(SimpriorError, ArithmeticError):
    """A computation left the domain where it can be trusted (NaN, not positive definite)."""


class StoreError(SimpriorError, OSError):
    """A run directory cannot be used: occupied, locked, corrupt, not writable or full."""


class DeviceError(SimpriorError, RuntimeError):
    """The device asked for is not available."""
