"""Is it worth having workers? Seconds with one process and with two, and their ratio.

    python benchmarks/bench_workers.py [--quick] [--only sample,train,...]

Each line is one command's work, in memory or into a run directory, the start of the processes
included. A ratio above 1 means that two workers are *slower* than one: the default of ``--workers``
must then be 1. One and two are timed in turn, medians of the repeats. Elapsed time means little
on a busy machine, so the last columns give processor time: that of two workers is split into this
process and its children, and "idle" is the ratio to expect on two idle cores if nothing overlaps,
(this process + children / 2) / (one process).
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

import simprior as sp  # noqa: E402

Work = Callable[[int, "Path | None"], Any]


def sampling(samples: float, **options: Any) -> Work:
    def work(workers: int, out: Path | None) -> None:
        sp.sample(sp.Network(), samples=int(samples), workers=workers, out=out, **options)

    return work


def training(runs: float) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.training import train

        train(sp.Network(), "x1", train=32, runs=int(runs), workers=workers, out=out)

    return work


def posterior(samples: float, method: str) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.boolean.truthtable import parse_functions
        from simprior.training import posterior as mcmc

        network = sp.Network(n=5)
        target = parse_functions("x1", 32, 5)[0]
        function = getattr(mcmc, f"{method}_posterior")
        size = 3 if method == "rejection" else 12
        function(network, np.arange(size), None, int(samples), 0, target=target, workers=workers)

    return work


def log_priors(functions: float) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.gp.kernels import nngp
        from simprior.gp.orthant import Request, log_prior_table

        tables = np.random.default_rng(0).integers(0, 2, (int(functions), 128), np.uint8)
        request = Request(np.asarray(nngp(sp.Network())), tables, methods=("tilted",))
        log_prior_table(request, out=out, workers=workers)

    return work


def table(size: float) -> dict[str, tuple[Work, bool]]:
    """Work and whether it can go into a run directory."""
    return {
        "sample": (sampling(2e7 * size), True),
        "sample --watch": (sampling(4e6 * size, watch=["const0", "x1"]), True),
        "train": (training(4e3 * size), True),
        "posterior, rejection": (posterior(1e6 * size, "rejection"), False),
        "posterior, slice": (posterior(2e4 * size, "slice"), False),
        "logp, tilted": (log_priors(1e3 * size), True),
    }


def cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def seconds(work: Work, workers: int, stored: bool) -> np.ndarray:
    """Elapsed seconds, and processor seconds of this process and of its children."""
    clocks = [
        time.perf_counter,
        functools.partial(cpu, resource.RUSAGE_SELF),
        functools.partial(cpu, resource.RUSAGE_CHILDREN),
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = np.array([clock() for clock in clocks])
        work(workers, Path(folder) / "run" if stored else None)
        return np.array([clock() for clock in clocks]) - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, fewer repeats")
    parser.add_argument("--only", default="", help="lines whose name begins so, e.g. sample,train")
    options = parser.parse_args()
    size, repeats = (0.2, 1) if options.quick else (1.0, 3)
    only = tuple(options.only.split(","))
    small = table(0.01)
    print("| work | results | one, s | two, s | two / one | one, CPU s | two, CPU s | idle |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (work, can_store) in table(size).items():
        if not name.startswith(only):
            continue
        for stored in (False, True)[: 1 + can_store]:
            run = functools.partial(seconds, work, stored=stored)
            seconds(small[name][0], 1, stored)  # compile
            times: dict[int, list[np.ndarray]] = {1: [], 2: []}
            for _ in range(repeats):
                for workers, found in times.items():
                    found.append(run(workers))
            one, two = (np.median(times[workers], axis=0) for workers in (1, 2))
            where = "run directory" if stored else "memory"
            idle = (two[1] + two[2] / 2) / one[1]
            print(
                f"| {name} | {where} | {one[0]:.1f} | {two[0]:.1f} | {two[0] / one[0]:.2f} "
                f"| {one[1]:.1f} | {two[1]:.1f} + {two[2]:.1f} | {idle:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
