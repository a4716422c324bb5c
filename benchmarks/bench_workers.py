"""Is it worth having workers? Seconds with one and with two, and their ratio.

    python benchmarks/bench_workers.py [--quick] [--only sample,train,...]

Each line is one command's work, in memory or into a run directory, from its call to its result.
Work whose heavy part is compiled runs in threads of this process, the rest in processes, whose
start is included. One and two are timed in turn, and the least of the repeats is shown. Two workers
should be 1.8 times as fast as one where two cores are idle.

On a busy machine elapsed time says little. Two columns help:

* "cores" is what the machine gives: two processes that do the same work of one worker at once, in
  units of what one of them does alone. It is 2 with two idle cores. No pair of workers can be
  faster.
* "lock" is the share of the time of one worker in which it holds Python's lock, or may: time that
  is not spent in compiled code, in products, sorts and copies of numpy, or in Parquet. Two threads
  wait for each other there, so that their ratio is at most 2 / (1 + share) or so.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import logging
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import threading
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
        from simprior.training.train import train

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


def gaussian(samples: float) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.gp.architectures import kernel
        from simprior.gp.posterior import sample_posterior

        K = np.asarray(kernel(sp.Network()))
        sample_posterior(K, np.arange(16), np.arange(16) % 2, int(samples), workers=workers)

    return work


def log_priors(functions: float) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.gp.architectures import kernel
        from simprior.gp.orthant import Request, log_prior_table

        tables = np.random.default_rng(0).integers(0, 2, (int(functions), 128), np.uint8)
        request = Request(np.asarray(kernel(sp.Network())), tables, methods=("tilted",))
        log_prior_table(request, out=out, workers=workers)

    return work


def annealing(particles: float) -> Work:
    def work(workers: int, out: Path | None) -> None:
        from simprior.finite import log_prior_finite

        network = sp.Network(n=4, hidden=(20, 20))
        log_prior_finite(network, "x1", particles=int(particles), check=False, workers=workers)

    return work


@functools.cache
def _trained(runs: int) -> Any:
    from simprior.training.train import train

    return train(sp.Network(), "x1", train=32, runs=runs)


def measuring(networks: float, groups: str) -> Work:
    def work(workers: int, out: Path | None) -> None:
        result = _trained(max(100, int(networks)))
        sp.measure(result, measures=groups, workers=workers, out=out, quiet=True)

    return work


def table(size: float) -> dict[str, tuple[Work, bool]]:
    """Work and whether it can go into a run directory."""
    return {
        "sample": (sampling(1e8 * size), True),
        "sample --watch": (sampling(4e6 * size, watch=["const0", "x1"]), True),
        "train": (training(8e3 * size), True),
        "posterior, rejection": (posterior(1e7 * size, "rejection"), False),
        "posterior, slice": (posterior(4e4 * size, "slice"), False),
        "posterior, gp": (gaussian(4e6 * size), False),
        "posterior, hmc (processes)": (posterior(4e3 * size, "hmc"), False),
        "logp, tilted": (log_priors(1e3 * size), True),
        "logp, smc": (annealing(1e3 * size), False),
        "measure, functions": (measuring(4e3 * size, "lz,csr,walsh,prior"), True),
        "measure, weights": (measuring(4e3 * size, "sharpness,norms"), True),
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


UNLOCKED = ("argsort", "sort", "lexsort", "take", "matmul", "dot", "standard_normal", "random")
"""Builtins of numpy that give up Python's lock."""


def locked_share(work: Work, stored: bool) -> float:
    """Share of one worker's processor time that may be spent under Python's lock."""
    profile = cProfile.Profile(time.thread_time)

    def run() -> None:  # not in the main thread: the worker is this one
        profile.enable()
        seconds(work, 1, stored)
        profile.disable()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    stats, kernels, free = pstats.Stats(profile), _compiled_names(), 0.0
    for (file, _, name), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        compiled = name in kernels.get(file, ())
        numpy = file == "~" and any(f"'{one}'" in name or f" {one}" in name for one in UNLOCKED)
        parquet = "pyarrow" in file and name in ("write_table", "read", "read_table")
        free += own if compiled or numpy or parquet else 0.0
    return 1.0 - free / stats.total_tt  # type: ignore[attr-defined]


def _compiled_names() -> dict[str, set[str]]:
    """Names of compiled functions by file."""
    from numba.core.registry import CPUDispatcher

    found: dict[str, set[str]] = {}
    for module in list(sys.modules.values()):
        for value in vars(module).values():
            if isinstance(value, CPUDispatcher):
                code = value.py_func.__code__
                found.setdefault(code.co_filename, set()).add(code.co_name)
    return found


def capacity(name: str, size: float, stored: bool) -> float:
    """What two processes that do the same work at once do, over what one does alone."""
    command = [sys.executable, __file__, "--alone", name, str(size), "stored" if stored else ""]
    took = []
    for count in (1, 2):
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running = [subprocess.Popen(command, **pipes) for _ in range(count)]
        for one in running:
            one.stdout.readline()  # ready
        for one in running:
            one.stdin.write("go\n")
            one.stdin.flush()
        took.append(max(float(one.communicate()[0]) for one in running))
    return 2.0 * took[0] / took[1]


def alone(name: str, size: float, stored: bool) -> None:
    """One of the processes of :func:`capacity`."""
    seconds(table(0.01)[name][0], 1, stored)
    print("ready", flush=True)
    sys.stdin.readline()
    print(seconds(table(size)[name][0], 1, stored)[0], flush=True)


def main() -> None:
    logging.getLogger("simprior").setLevel(logging.ERROR)
    if sys.argv[1:2] == ["--alone"]:
        alone(sys.argv[2], float(sys.argv[3]), sys.argv[4] == "stored")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, fewer repeats")
    parser.add_argument("--only", default="", help="lines whose name begins so, e.g. sample,train")
    options = parser.parse_args()
    size, repeats = (0.2, 2) if options.quick else (1.0, 3)
    only = tuple(options.only.split(","))
    small = table(0.01)
    print(
        "| work | results | one, s | two, s | one / two | cores | one, CPU s | two, CPU s | lock |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (work, can_store) in table(size).items():
        if not name.startswith(only):
            continue
        for stored in (False, True)[: 1 + can_store]:
            seconds(small[name][0], 1, stored)  # compile
            times: dict[int, list[np.ndarray]] = {1: [], 2: []}
            for _ in range(repeats):
                for workers, found in times.items():
                    found.append(seconds(work, workers, stored))
            one, two = (min(times[workers], key=lambda t: t[0]) for workers in (1, 2))
            where = "run directory" if stored else "memory"
            children = f" + {two[2]:.1f}" if two[2] > 0.05 else ""
            print(
                f"| {name} | {where} | {one[0]:.1f} | {two[0]:.1f} | {one[0] / two[0]:.2f} "
                f"| {capacity(name, size, stored):.2f} | {one[1]:.1f} | {two[1]:.1f}{children} "
                f"| {100 * locked_share(work, stored):.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
