"""Posterior samplers as ratios measured in one run: (7, 40, 40, 1), 0-1 likelihood.

* elliptical slice sampling: sweeps a second, and effective samples a second (of the number of ones
  of the function), against one chain in numpy that moves all weights on one ellipse with a forward
  pass a trial point, as is usual. A sweep moves all hidden units in blocks, and draws
  the output layer exactly after each block;
* rejection: posterior functions a second, against drawing networks with torch, 128 at a time, and
  keeping those that agree with S (|S| = 3, so that the plain way gets anywhere).

Run: ``python benchmarks/bench_mcmc.py``. One thread; medians, both ways in turns.
"""

from __future__ import annotations

import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.boolean.truthtable import input_matrix, named
from simprior.network.spec import Network
from simprior.training.posterior import rejection_posterior, slice_posterior
from simprior.training.posterior.chains import ess

NETWORK, TARGET, REPEATS = Network(n=7, hidden=(40, 40)), "x1", 5
SHAPES = ((7, 40), (40, 40), (40, 1))


def numpy_outputs(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Outputs of a network whose standard normal parameters are ``w``."""
    at, h = 0, x
    for i, (fan_in, width) in enumerate(SHAPES):
        W = w[at : at + fan_in * width].reshape(fan_in, width) / np.sqrt(fan_in)
        h = h @ W + w[at + fan_in * width : at + (fan_in + 1) * width]
        at += (fan_in + 1) * width
        h = np.maximum(h, 0) if i < len(SHAPES) - 1 else h
    return h[:, 0]


def plain_slice(x: np.ndarray, index: np.ndarray, target: np.ndarray, moves: int, seed: int):
    """(moves, effective samples) a second of elliptical slice sampling (Murray et al. 2010)."""
    rng = np.random.default_rng(seed)
    size = sum((f + 1) * k for f, k in SHAPES)
    w, labels = rng.standard_normal(size), target[index] > 0
    agree, ones, settled = 0, [], False
    start = time.perf_counter()
    while len(ones) < moves:
        other, angle = rng.standard_normal(size), rng.uniform(0, 2 * np.pi)
        low, high = angle - 2 * np.pi, angle
        while True:
            trial = w * np.cos(angle) + other * np.sin(angle)
            found = int(((numpy_outputs(trial, x[index]) > 0) == labels).sum())
            if found >= agree:  # the slice: no fewer agreements than so far
                w, agree = trial, found
                break
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)
        if agree == len(index):
            if not settled:
                settled, start = True, time.perf_counter()
            ones.append((numpy_outputs(w, x) > 0).sum())
    seconds = time.perf_counter() - start
    return moves / seconds, ess(np.array(ones, float)[None]) / seconds


def our_slice(index: np.ndarray, sweeps: int, seed: int):
    """(sweeps, effective samples) a second."""
    start = time.perf_counter()
    found = slice_posterior(
        NETWORK, index, target=TARGET, samples=sweeps, chains=4, burn_in=0, seed=seed
    )
    seconds = time.perf_counter() - start
    return sweeps / seconds, found.info["posterior"]["ess"] / seconds


def plain_rejection(x: np.ndarray, labels: np.ndarray, index: np.ndarray, seconds: float) -> float:
    """Accepted functions a second with batched torch."""
    torch.manual_seed(0)
    inputs, wanted = torch.tensor(x, dtype=torch.float32), torch.tensor(labels)
    kept, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        h = inputs.expand(128, -1, -1)
        for i, (f, k) in enumerate(SHAPES):
            h = torch.baddbmm(torch.randn(128, 1, k), h, torch.randn(128, f, k) / f**0.5)
            h = torch.relu(h) if i < len(SHAPES) - 1 else h
        kept += int(((h[:, index, 0] > 0) == wanted).all(dim=1).sum())
    return kept / (time.perf_counter() - start)


def our_rejection(index: np.ndarray, samples: int, seed: int) -> float:
    """Accepted functions a second."""
    start = time.perf_counter()
    rejection_posterior(NETWORK, index, target=TARGET, samples=samples, seed=seed)
    return samples / (time.perf_counter() - start)


def main() -> None:
    """Print two lines."""
    torch.set_num_threads(1)
    x, target = input_matrix(NETWORK), named(TARGET, 7)
    index = np.sort(np.random.default_rng(0).permutation(128)[:32])
    our_slice(index, 50, 0)
    ours, plain = [], []
    for seed in range(REPEATS):
        plain.append(plain_slice(x, index, target, 2000, seed))
        ours.append(our_slice(index, 8000, seed))
    a, b = np.median(ours, axis=0), np.median(plain, axis=0)
    print(f"slice sampling, |S| = 32: {a[0]:10,.0f} sweeps/s     plain {b[0]:7,.0f} moves/s")
    print(f"  effective samples:      {a[1]:10,.1f} /s           plain {b[1]:7,.1f}/s   "
          f"{a[1] / b[1]:6.1f}x")  # fmt: skip
    few = np.array([5, 70, 100])
    our_rejection(few, 1000, 0)
    fast, slow = [], []
    for seed in range(REPEATS):
        slow.append(plain_rejection(x, target[few] > 0, few, 2.0))
        fast.append(our_rejection(few, 20_000, seed))
    a, b = statistics.median(fast), statistics.median(slow)
    print(f"rejection, |S| = 3:       {a:10,.0f} functions/s  plain {b:7,.0f}/s   {a / b:6.1f}x")


if __name__ == "__main__":
    main()
