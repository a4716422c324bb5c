"""Tasks that go on until a test lets them, and a Ctrl-C from another thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

SAID = "finishing the tasks in work"
GO_ON = threading.Event()


def blocked(task: int) -> int:
    """A task that goes on until the test lets it: as a long call of compiled code."""
    GO_ON.wait(60)
    return task


def press() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def interrupt(caplog: pytest.LogCaptureFixture, then: Callable[[], object]) -> None:
    """From another thread: Ctrl-C at once, and ``then`` when it was announced."""

    def run() -> None:
        time.sleep(0.3)
        press()
        for _ in range(600):
            time.sleep(0.05)
            if SAID in caplog.text:
                break
        then()

    threading.Thread(target=run, daemon=True).start()
