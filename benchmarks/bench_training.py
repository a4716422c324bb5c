"""Training speed as ratios measured in one run: (7, w, w, 1), |S| = 64, Adam, to first fit.

Widths w of 40 and 400, minibatches of 8 and the full batch of 64; seconds of processor time, all on
one core. Three ways to train an ensemble:

* a plain PyTorch loop, one network at a time, as is usual;
* JAX (``pip install jax``, else left out): vmapped, one jitted loop (``jax_peer.py``), at the best
  of several numbers of members; compilation is not counted, but shown;
* the compiled engine.

Microseconds are a step and member. Those of JAX count the steps of members that are done and wait
for the last; its networks a second do not, as for the others. With ``--members`` or ``--figure``
then runs/s of both engines against the number of members (for torch: trained at once).

Run ``python benchmarks/bench_training.py [--widths 40] [--members] [--figure out.pdf]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.network.spec import Network
from simprior.training.targets import Problem
from simprior.training.train import train

TARGET, LR, MAX_EPOCHS = "lz:66.5", 0.01, 1000
WIDTHS, BATCHES = (40, 400), (8, 64)
RUNS = {40: (8, 1000), 400: (2, 30)}
"""Networks of the plain loop and of the compiled engine in a turn, by width."""
MEMBERS = {40: (1, 4, 16, 64), 400: (1, 4, 16)}
"""Members that JAX trains at once, by width."""
TURNS = 3


def processor() -> str:
    """What the system calls the processor, with its family and model."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    named = [found.get(key, "").strip() for key in ("model name\t", "cpu family\t", "model\t\t")]
    if not named[0]:
        return platform.processor() or platform.machine()
    return f"{named[0]}, family {named[1]}, model {named[2]}"


def plain_loop(problem: Problem, batch: int, runs: int, seed: int) -> tuple[float, int]:
    """(seconds, steps) of ``runs`` networks trained one after the other, as is usual."""
    torch.manual_seed(seed)
    width = problem.network.hidden[0]
    x = torch.tensor(problem.train_inputs, dtype=torch.float32)
    y = torch.tensor(problem.labels, dtype=torch.float32)[:, None]
    loss_function = torch.nn.BCEWithLogitsLoss()
    steps, start = 0, time.process_time()
    for _ in range(runs):
        model = torch.nn.Sequential(
            torch.nn.Linear(7, width), torch.nn.ReLU(), torch.nn.Linear(width, width),
            torch.nn.ReLU(), torch.nn.Linear(width, 1),
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
    return time.process_time() - start, steps


def ensemble(problem: Problem, batch: int, runs: int, **options) -> tuple[float, int]:
    start = time.process_time()
    result = train(
        problem, runs=runs, batch_size=batch, optimizer="adam", lr=LR, seed=1,
        max_epochs=MAX_EPOCHS, **options,
    )  # fmt: skip
    return time.process_time() - start, int(result.steps.sum())


def peer(problem: Problem, batch: int) -> tuple[float, float, str] | None:
    """(seconds a step and member, networks a second, what else is known) of JAX at its best."""
    if importlib.util.find_spec("jax") is None:
        return None
    import jax_peer

    width = problem.network.hidden[0]
    runs = {
        members: jax_peer.run(
            problem.train_inputs,
            problem.labels,
            (7, width, width, 1),
            members=members,
            batch=batch,
            lr=LR,
            epochs=MAX_EPOCHS,
            seed=0,
        )
        for members in MEMBERS[width]
    }
    step, at_step = min((run.seconds / run.lanes, members) for members, run in runs.items())
    rate, at_rate = max((run.fitted / run.seconds, members) for members, run in runs.items())
    longest = max(run.compile_seconds for run in runs.values())
    note = f"best at {at_step} and {at_rate} members; compiled in {longest:.0f} s"
    return step, rate, note


def compare(problem: Problem) -> None:
    width = problem.network.hidden[0]
    few, many = RUNS[width]
    for batch in BATCHES:
        base: list[tuple[float, int]] = []
        fast: list[tuple[float, int]] = []
        for seed in range(TURNS):  # in turns, so that a busy machine slows both
            base.append(plain_loop(problem, batch, few, seed))
            fast.append(ensemble(problem, batch, many))
        other = peer(problem, batch)
        fast.append(ensemble(problem, batch, many))
        plain = min(seconds / steps for seconds, steps in base)
        rate = few * TURNS / sum(seconds for seconds, _ in base)
        rows = [("plain", plain, rate, "")]
        if other is not None:
            rows.append(("jax", *other))
        ours = min(seconds / steps for seconds, steps in fast)
        rows.append(("compiled", ours, many / min(seconds for seconds, _ in fast), ""))
        for name, step, runs, note in rows:
            speed = f"{1e6 * step:14.2f}  {runs:9.2f}"
            ratios = f"{plain / step:10.1f}  {runs / rate:12.1f}"
            print(f"{width:5d}  {batch:5d}  {name:9s}  {speed}  {ratios}  {note}", flush=True)


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
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--members", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX starts its threads
    torch.set_num_threads(1)
    print(processor())
    if importlib.util.find_spec("jax") is None:
        print("jax: not installed, left out (pip install jax)")
    problems = {w: Problem(Network(n=7, hidden=(w, w)), TARGET, train=64, seed=0) for w in WIDTHS}
    first = problems[WIDTHS[0]]
    print(f"target with {np.sum(first.target)} ones of 128, |S| = {first.size}")
    print("width  batch  engine     us/step/member     runs/s  ratio/step  ratio runs/s")
    for width in options.widths:
        ensemble(problems[width], 8, 2)  # compile, or load the compiled kernel
        compare(problems[width])
    if options.members or options.figure is not None:
        against_members(first, options.figure)


if __name__ == "__main__":
    main()
