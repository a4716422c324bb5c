"""Errors of simprior. One base class; every message is one line: value, expectation, remedy.

Memory: how much there is, refusing beforehand what cannot fit, and naming what did not.

The errors of numpy, torch, DuckDB and Arrow for a failed allocation are all turned into one
:class:`~simprior.errors.MemoryShortage`. May import: errors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

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


REMEDY = "ask for less (fewer samples, runs, inputs or workers, narrower layers, less --memory)"
_TYPES = {"OutOfMemoryException", "ArrowMemoryError", "OutOfMemoryError", "_ArrayMemoryError"}
_WORDS = re.compile(
    r"can't allocate memory|not enough memory|std::bad_alloc|out of memory|"
    r"maximum allowed (size|dimension) exceeded|array is too big|cannot allocate memory",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"(?:allocate|allocating)[^\d]*(\d[\d.,]*)\s*([KMGTPE]i?B|bytes)?", re.I)


def available_memory() -> int:
    """Bytes that a process may still allocate, as far as the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(what: str, need: float, remedy: str = REMEDY) -> None:
    """Raise :class:`MemoryShortage` if ``need`` bytes for ``what`` are more than there are."""
    have = available_memory()
    if need > have:
        raise MemoryShortage(
            f"{shorten(what)}: expected at most {in_words(have)} of memory, {in_words(need)} are "
            f"needed; {remedy}"
        )


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated, whichever library raised it."""
    if isinstance(error, MemoryError) or type(error).__name__ in _TYPES:
        return True
    text = str(error) if isinstance(error, RuntimeError | ValueError) else ""
    return bool(_WORDS.search(text))


def shortage(error: BaseException, remedy: str = REMEDY) -> MemoryShortage:
    """The one-line error for a failed allocation, with the amount where the library tells it."""
    if isinstance(error, MemoryShortage):
        return error
    found = _AMOUNT.search(str(error))
    amount = f"{found[1].rstrip('.,')} {found[2] or 'bytes'}" if found else "an unknown amount"
    return MemoryShortage(
        f"out of memory: {amount} could not be allocated, {in_words(available_memory())} are "
        f"available; {remedy}"
    )


def in_words(size: float) -> str:
    """``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            digits = ".3g" if size < 100 else ".0f" if size < 1e6 else ".0e"
            return f"{size:{digits}} {unit}"
        size /= 1024
    raise AssertionError
