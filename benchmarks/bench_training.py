"""Training speed as ratios measured in one run: (7, 40, 40, 1), |S| = 64, Adam, to first fit.

Runs/s and microseconds a step and member of the compiled kernel against a plain PyTorch loop that
trains one network at a time on the same problem, minibatches of 8 and the full batch of 64; then
runs/s of both engines against the number of members (for torch: trained at once).

Run ``python benchmarks/bench_training.py [--figure out.pdf]``; one thread.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.network.spec import Network
from simprior.training.targets import Problem
from simprior.training.train import train

NETWORK = Network(n=7, hidden=(40, 40))
TARGET, LR, MAX_EPOCHS = "lz:66.5", 0.01, 1000


def plain_loop(problem: Problem, batch: int, runs: int, seed: int) -> tuple[float, int]:
    """(seconds, steps) of ``runs`` networks trained one after the other, as is usual."""
    torch.manual_seed(seed)
    x = torch.tensor(problem.train_inputs, dtype=torch.float32)
    y = torch.tensor(problem.labels, dtype=torch.float32)[:, None]
    loss_function = torch.nn.BCEWithLogitsLoss()
    steps, start = 0, time.perf_counter()
    for _ in range(runs):
        model = torch.nn.Sequential(
            torch.nn.Linear(7, 40), torch.nn.ReLU(), torch.nn.Linear(40, 40), torch.nn.ReLU(),
            torch.nn.Linear(40, 1),
        )  # fmt: skip
        with torch.no_grad():
            for layer in model[::2]:
                torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                torch.nn.init.normal_(layer.bias)
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        for _ in range(MAX_EPOCHS):
            order = torch.randperm(len(x))
            for at in range(0, len(x), batch):
                chosen = order[at : at + batch]
                optimizer.zero_grad()
                loss_function(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
                steps += 1
            with torch.no_grad():
                if bool(((model(x) > 0) == (y > 0.5)).all()):
                    break
    return time.perf_counter() - start, steps


def ensemble(problem: Problem, batch: int, runs: int, **options) -> tuple[float, int]:
    start = time.perf_counter()
    result = train(
        NETWORK, problem, runs=runs, batch_size=batch, optimizer="adam", lr=LR, seed=1,
        max_epochs=MAX_EPOCHS, **options,
    )  # fmt: skip
    return time.perf_counter() - start, int(result.steps.sum())


def compare(problem: Problem) -> None:
    print("batch  engine       runs  us/step/member    runs/s  ratio/step  ratio runs/s")
    for batch in (8, 64):
        base: list[tuple[float, int]] = []
        fast: list[tuple[float, int]] = []
        for seed in range(3):  # in turns, so that a busy machine slows both
            base.append(plain_loop(problem, batch, 8, seed))
            fast.append(ensemble(problem, batch, 1000))
        plain = min(seconds / steps for seconds, steps in base)
        rate = sum(8 for _ in base) / sum(seconds for seconds, _ in base)
        print(f"{batch:5d}  plain        {24:5d}  {1e6 * plain:14.1f}  {rate:8.2f}")
        ours = min(seconds / steps for seconds, steps in fast)
        best = 1000 / min(seconds for seconds, _ in fast)
        print(f"{batch:5d}  compiled     {1000:5d}  {1e6 * ours:14.2f}  {best:8.1f}"
              f"  {plain / ours:10.0f}  {best / rate:12.0f}")  # fmt: skip


def against_members(problem: Problem, figure: str | None) -> None:
    print("\nmembers  batch  torch runs/s  torch us/step/member  compiled runs/s")
    ensemble(problem, 8, 8, engine="torch", members=8)  # import, warm up
    sizes, curves = (4, 16, 64, 256), {}
    for batch in (8, 64):
        torch_rate, compiled_rate = [], []
        for members in sizes:
            # members that are done are replaced: several times as many runs as members at once
            runs = 4 * members
            seconds, steps = ensemble(problem, batch, runs, engine="torch", members=members)
            torch_rate.append(runs / seconds)
            compiled_rate.append(runs / ensemble(problem, batch, runs)[0])
            print(f"{members:7d}  {batch:5d}  {torch_rate[-1]:12.1f}  {1e6 * seconds / steps:20.1f}"
                  f"  {compiled_rate[-1]:15.1f}")  # fmt: skip
        curves[f"torch, batch {batch}"] = torch_rate
        curves[f"compiled, batch {batch}"] = compiled_rate
    if figure is not None:
        draw(sizes, curves, figure)


def draw(sizes: tuple[int, ...], curves: dict[str, list[float]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, rate in curves.items():
        axes.loglog(sizes, rate, "o-", label=name)
    axes.set(xlabel="members E", ylabel="runs a second (one core)")
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problem = Problem(NETWORK, TARGET, train=64, seed=0)
    print(f"target with {np.sum(problem.target)} ones of 128, |S| = {problem.size}")
    ensemble(problem, 8, 16)  # compile, or load the compiled kernel
    compare(problem)
    against_members(problem, options.figure)


if __name__ == "__main__":
    main()
