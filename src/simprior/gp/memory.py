"""How much memory an estimate on m inputs takes, and a refusal before it is too late."""

from __future__ import annotations

import logging

from simprior.errors import InputError
from simprior.memory import available_memory

MATRICES = 18  # m x m float64 matrices alive at the peak of `tilted`, measured at m = 500 to 1797
TESTED = 2048  # inputs; errors and times are documented up to here
_GIB = float(2**30)


def bytes_needed(m: int) -> int:
    """Peak memory of ``tilted`` and of the posterior on m inputs, in bytes: 18 matrices m x m."""
    return MATRICES * 8 * m * m


def check_memory(m: int, copies: int = 1, available: int | None = None) -> None:
    """Refuse an m whose matrices do not fit; log a line above the tested size.

    Parameters
    ----------
    m : int
        Number of inputs.
    copies : int
        Workers that compute at the same time, each with matrices of its own.
    available : int, optional
        Bytes to fit in; what the system reports as available by default.

    Raises
    ------
    InputError
        Names the memory that m needs, the memory there is, and the largest m that fits.
    """
    have = available_memory() if available is None else available
    need = copies * bytes_needed(m)
    if need > have:
        largest = int((have / (copies * MATRICES * 8)) ** 0.5)
        raise InputError(
            f"m={m} inputs", f"at most {largest} in the {have / _GIB:.1f} GiB available",
            f"{m} need about {need / _GIB:.1f} GiB ({MATRICES} matrices of m x m float64, "
            f"{copies} at a time): ask for fewer inputs (--train), or fewer --workers",
        )  # fmt: skip
    if m > TESTED:
        logging.getLogger("simprior").warning(
            "m=%d inputs: about %.1f GiB, and time grows as m^3 (5 s at 2048); errors are tested "
            "up to m=%d, so look at stderr and pareto_k", m, need / _GIB, TESTED,
        )  # fmt: skip
