"""Where things go: results to stdout, logs to stderr."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

from simprior.analysis.tables import markdown

__all__ = ["human", "key_values", "markdown", "print_json", "say_unlisted", "set_up_logging"]


def set_up_logging(quiet: bool) -> None:
    """Send the ``simprior`` logger to stderr; ``quiet`` leaves nothing but errors."""
    logger = logging.getLogger("simprior")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


class _StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at the moment, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"simprior: {record.getMessage()}"
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)


def say_unlisted(path: Any, counts: Any) -> None:
    """Say on stderr that a table lists part of its samples only, if it does."""
    if not getattr(counts, "unlisted", 0):
        return
    unseen = counts.unseen
    logging.getLogger("simprior").warning(
        "%s lists %s of %s samples: P = count / samples, and the functions not listed have %.4g "
        "(95 %%: %.4g to %.4g) of the probability",
        path,
        f"{counts.samples - counts.unlisted:,}",
        f"{counts.samples:,}",
        unseen.mass,
        unseen.low,
        unseen.high,
    )


def print_json(value: Any) -> None:
    """Print strict JSON; NaN and infinities become null."""
    print(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def key_values(values: Mapping[str, Any]) -> str:
    """Aligned ``key  value`` lines."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{key:<{width}}  {human(value)}" for key, value in values.items())


def human(value: Any) -> str:
    """A value in words: digits grouped, floats to six figures."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(human(entry) for entry in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {human(entry)}" for key, entry in value.items()) or "none"
    return str(value)
