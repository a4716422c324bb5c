"""Progress on stderr: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

_logger = logging.getLogger("simprior")
LOG_SECONDS = 30.0


class Progress(Protocol):
    """Anything that can be told how much has been done."""

    def update(self, n: int = 1) -> object:
        """``n`` more units are done."""


class LogProgress:
    """A log line with rate and time left, at most every ``interval`` seconds."""

    def __init__(
        self, total: int, unit: str, start: int = 0, interval: float = LOG_SECONDS
    ) -> None:
        self.total, self.unit, self.done, self.start = total, unit, start, start
        self.interval, self.began = interval, time.monotonic()
        self._last = self.began

    def update(self, n: int = 1) -> None:
        """Count ``n`` units; write a line if the interval has passed."""
        self.done += n
        moment = time.monotonic()
        if moment - self._last >= self.interval:
            self._last = moment
            _logger.info(self.line(moment - self.began))

    def line(self, seconds: float) -> str:
        """The text after ``seconds`` of work."""
        rate = (self.done - self.start) / seconds if seconds > 0 else 0.0
        share = 100.0 * self.done / self.total if self.total else 100.0
        left = f"{_duration((self.total - self.done) / rate)} left" if rate > 0 else "unknown left"
        done = f"{self.done:,} of {self.total:,} {self.unit}"
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{done} ({share:.1f} %), {speed} {self.unit}/s, {left}"


class _Silent:
    def update(self, n: int = 1) -> None:
        """Nothing to show."""


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str = "net", *, start: int = 0, quiet: bool = False, description: str = ""
) -> Iterator[Progress]:
    """A progress display for ``total`` units, of which ``start`` are done already.

    On a terminal a bar with rate and time left, otherwise a log line every 30 s.
    """
    if quiet:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield LogProgress(total, unit, start)
    else:
        from tqdm import tqdm

        with tqdm(
            total=total,
            initial=start,
            unit=unit,
            unit_scale=True,
            desc=description or None,
            file=sys.stderr,
            disable=None,
            smoothing=0.1,
        ) as bar:
            yield bar


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
