"""Strict JSON of any value, for tables and for what commands print with ``--json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any) -> str:
    """``value`` as JSON without a newline at its end; NaN and infinities become null."""
    return json.dumps(jsonable(value), indent=1, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:
    """``value`` in the types that JSON has.

    Arrays and scalars of numpy become lists and numbers; NaN, infinities and missing values become
    None; any other object becomes its text.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if not isinstance(value, str | int | float | bool | None):
        return None if str(value) in ("<NA>", "NaT") else str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
