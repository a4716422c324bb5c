"""Annealing at finite width, (7, 40, 40, 1) relu: sweeps a second, and time to a standard error.

* sweeps a second of the compiled moves, halfway through the annealing to x1 xor x2, against the
  same moves in plain torch: one unit at a time along an ellipse, one forward pass a trial point;
* seconds of one core to +- .05 nats for each function: those of the runs made, times (error / .05)
  squared, with the error from the spread of 16 runs, so it is known to a factor of about 1.5.

Run: ``python benchmarks/bench_finite.py [FUNCTION ...]``. One thread; medians, both ways in turns.
Seconds are processor time, so that other work on the machine counts little.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.boolean.truthtable import named
from simprior.finite import smc
from simprior.finite.particles import distinct_inputs
from simprior.network.spec import Network

NETWORK, REPEATS, PARTICLES, RUNS, POWER = Network(n=7, hidden=(40, 40)), 5, 100, 16, 3
FUNCTIONS = ("needle", "and2", "x1", "majority", "xor2")
WIDTHS = (*NETWORK.hidden, 1)
WANTED = 0.05  # nats


class Plain:
    """One network in torch; layers are (weights and bias) rows, one a unit, scales included."""

    def __init__(self, X: np.ndarray, bits: np.ndarray) -> None:
        self.inputs = torch.tensor(X, dtype=torch.float32)
        self.signs = torch.tensor(2.0 * bits - 1.0, dtype=torch.float32)
        self.dice = np.random.default_rng(0)
        self.layers = [self.fresh(layer, WIDTHS[layer]) for layer in range(NETWORK.depth + 1)]

    @staticmethod
    def fresh(layer: int, count: int) -> torch.Tensor:
        """Rows from the prior."""
        fan = NETWORK.fan_ins[layer]
        rows = torch.randn(count, fan + 1)
        rows[:, :fan] /= math.sqrt(fan)
        return rows

    def violation(self) -> float:
        """V after a forward pass."""
        h = self.inputs
        for layer, rows in enumerate(self.layers):
            h = torch.addmm(rows[:, -1], h, rows[:, :-1].T)
            h = torch.relu(h) if layer < NETWORK.depth else h
        z = h[:, 0]
        return float(torch.clamp(-self.signs * z, min=0).sum() / z.abs().sum())

    def move(
        self, views: list[torch.Tensor], new: list[torch.Tensor], v: float, lam: float
    ) -> float:
        """One elliptical slice of the weights in ``views``; V after it."""
        limit = 0.5 * ((2 * v) ** POWER - math.log(self.dice.random()) / lam) ** (1 / POWER)
        old = [view.clone() for view in views]
        angle = 2 * math.pi * self.dice.random()
        low, high = angle - 2 * math.pi, angle
        while True:
            c, s = math.cos(angle), math.sin(angle)
            for view, a, b in zip(views, old, new, strict=True):
                torch.add(c * a, b, alpha=s, out=view)
            v_new = self.violation()
            if v_new <= limit:
                return v_new
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = low + (high - low) * self.dice.random()

    def sweep(self, lam: float) -> None:
        """Every unit once: what goes in and (mostly) what comes out; the output three times."""
        v = self.violation()
        for layer in range(NETWORK.depth):
            v = self.move([self.layers[-1]], [self.fresh(NETWORK.depth, 1)], v, lam)
            for unit in range(WIDTHS[layer]):
                views, new = [self.layers[layer][unit]], [self.fresh(layer, 1)[0]]
                if self.dice.random() < 0.75:
                    views.append(self.layers[layer + 1][:, unit])
                    above = self.fresh(layer + 1, WIDTHS[layer + 1])
                    new.append(above[:, unit])
                v = self.move(views, new, v, lam)
        self.move([self.layers[-1]], [self.fresh(NETWORK.depth, 1)], v, lam)


def anneal(name: str, particles: int) -> smc.Anneal:
    """Annealing to a named function."""
    inputs = distinct_inputs(NETWORK)
    bits = inputs.labels(named(name, NETWORK.n).astype(np.uint8))
    assert bits is not None
    return smc.Anneal(NETWORK, inputs.X, bits, particles, 1, POWER, 0, 2000)


def sweeps_a_second(lam: float, sweeps: int) -> tuple[float, float]:
    """(ours, plain)."""
    work = anneal("xor2", PARTICLES)
    swarm = smc.Swarm(work, PARTICLES, "bench")
    swarm.reweight(lam)
    start = time.thread_time()
    for _ in range(sweeps):
        swarm.move()
    ours = sweeps * PARTICLES / (time.thread_time() - start)
    plain = Plain(work.X, work.bits)
    start = time.thread_time()
    for _ in range(sweeps):
        plain.sweep(lam)
    return ours, sweeps / (time.thread_time() - start)


def seconds_to_error(name: str) -> tuple[float, float, float]:
    """(ln P, its standard error, processor seconds to ``WANTED``)."""
    work = anneal(name, 300)
    start = time.thread_time()
    ladder = smc.pilot(work)
    pilot = time.thread_time() - start
    logs = np.array([smc.run(work, ladder.strengths, k).value for k in range(RUNS)])
    seconds = time.thread_time() - start - pilot
    value = float(np.logaddexp.reduce(logs)) - math.log(RUNS)
    error = float(logs.std(ddof=1)) / math.sqrt(RUNS)
    return value, error, pilot + seconds * (error / WANTED) ** 2


def processor() -> str:
    """What the system calls the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (models or [platform.processor() or platform.machine()])[0]


def main() -> None:
    """Print a line a measurement."""
    torch.set_num_threads(1)
    print(processor())
    ladder = smc.pilot(anneal("xor2", 50))
    lam = float(ladder.strengths[len(ladder.strengths) // 2])
    sweeps_a_second(lam, 1)
    found = [sweeps_a_second(lam, 10) for _ in range(REPEATS)]
    ours, plain = np.median(found, axis=0)
    ratio = np.median([a / b for a, b in found])
    print(f"sweeps:    {ours:8,.0f} /s    plain torch {plain:6,.1f} /s    {ratio:6.0f}x")
    for name in sys.argv[1:] or FUNCTIONS:
        value, error, seconds = seconds_to_error(name)
        print(f"{name:10s} ln P = {value:8.3f} +- {error:.3f}    +- {WANTED} in {seconds:6.1f} s")


if __name__ == "__main__":
    main()
