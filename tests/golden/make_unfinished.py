"""Write the interrupted runs of ``tests/golden/unfinished``; no arguments.

Later versions must finish them with ``resume=True`` from the shards that are there (the case
``resumed`` of ``core_cases``). They are made again only when a change of the format is meant.
"""

from __future__ import annotations

import os
import shutil
import signal

from core_cases import UNFINISHED, UNFINISHED_RUNS

import simprior as sp


class StopAfter:
    """A progress bar that sends SIGINT after some tasks."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def update(self, amount: int) -> None:
        self.tasks -= 1
        if self.tasks == 0:
            os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    shutil.rmtree(UNFINISHED, ignore_errors=True)
    for name, run in UNFINISHED_RUNS.items():
        out = UNFINISHED / name
        try:
            run(out=out, progress=StopAfter(2))
        except sp.SimpriorError as error:
            print(f"{name}: {error}")
        for extra in (".simprior.lock", "log.txt"):
            (out / extra).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
