"""Which columns a measures table can have, known before it is made."""

from __future__ import annotations

from collections.abc import Sequence

from simprior.analysis.measure_names import GROUPS, MEASURES
from simprior.analysis.records import IDENTITY, OUTCOME, SETTINGS
from simprior.checks import shown, unknown
from simprior.errors import InputError

SUFFIXES = ("_stderr", "_low", "_high", "_converged")


def columns() -> list[str]:
    """Names of settings, outcomes and measures, without their errors and limits."""
    return [*IDENTITY, *SETTINGS, *OUTCOME, "rank", "count", "stage", *MEASURES]


def is_column(name: str) -> bool:
    """Whether a table may have this column."""
    known = set(columns())
    return name in known or any(
        name.endswith(end) and name.removesuffix(end) in known for end in SUFFIXES
    )


def group_names(measures: str | Sequence[str]) -> list[str]:
    """The names in a list of groups, with commas or not."""
    if not isinstance(measures, str | Sequence):
        raise InputError(f"measures={shown(measures)}", "names of groups", "pass for example lz")
    given = measures.split(",") if isinstance(measures, str) else list(measures)
    return [str(name).strip() for name in given if str(name).strip()]


def check_names(measures: str | Sequence[str] | None) -> None:
    """Raise :class:`InputError` for no group at all or one that does not exist."""
    if measures is None:
        return
    names = group_names(measures)
    if not names:
        raise InputError("measures=''", f"some of {', '.join(GROUPS)}, all", "pass for example lz")
    for name in names:
        if name not in (*GROUPS, "all"):
            raise unknown(f"measures={name}", name, (*GROUPS, "all"))
