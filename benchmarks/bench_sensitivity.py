"""Speed of the two quantities of De Palma, Kiani & Lloyd as ratios measured in one run.

Random relu networks with two hidden layers, n bits: seconds a network for the nearest string of the
other class and for the random flips, against a plain torch search that treats one network at a
time: ``nn.Sequential``, greedy (at each distance every single flip is evaluated in one batch, the
best is kept), flips one after the other until the class changes. Same networks, same strings; both
distances are printed, since the plain one is only an upper bound as well.

Run ``python benchmarks/bench_sensitivity.py``; one thread.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.analysis.strings.networks import RandomNetwork, Source, Spec
from simprior.analysis.strings.search import Search, first_change, nearest
from simprior.network.spec import Network


def module(network: RandomNetwork) -> torch.nn.Sequential:
    """The same network as a torch module."""
    layers: list[torch.nn.Module] = []
    for w, b in zip(network.weights, network.biases, strict=True):
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@torch.no_grad()
def plain_nearest(model: torch.nn.Sequential, x: torch.Tensor) -> int:
    """Greedy search: all single flips of the present string, the best is kept."""
    sign = torch.sign(model(x[None])[0, 0])
    flipped = torch.zeros(len(x), dtype=torch.bool)
    for distance in range(1, len(x) + 1):
        strings = x.repeat(len(x), 1)
        strings.diagonal().mul_(-1)
        margins = sign * model(strings)[:, 0]
        margins[flipped] = torch.inf
        best = int(margins.argmin())
        if margins[best] <= 0:
            return distance
        flipped[best] = True
        x = strings[best]
    return 0


@torch.no_grad()
def plain_flips(model: torch.nn.Sequential, x: torch.Tensor, order: np.ndarray) -> int:
    """One string after the other."""
    x = x.clone()
    label = bool(model(x[None])[0, 0] > 0)
    for count, bit in enumerate(order, start=1):
        x[bit] = -x[bit]
        if bool(model(x[None])[0, 0] > 0) != label:
            return count
    return 0


SEARCHES = {"8 x 32": Search(8, 32, 0), "1 x 8": Search(1, 8, 0)}


def compare(n: int, width: int, networks: int) -> None:
    """Print milliseconds a network, ratios, and the mean distances found."""
    law = Network(n=1, hidden=(width, width), sigma_b=0.0, encoding="pm1")
    source = Source(Spec(n, law), 0)
    seconds, found = np.zeros(5), np.zeros((3, networks))
    for k in range(-1, networks):  # -1: compile and warm up
        network = source.draw(max(k, 0))
        bits = source.rng("strings", max(k, 0)).integers(0, 2, n)
        order = source.rng("orders", max(k, 0)).permutation(n)
        marks, distances = [time.perf_counter()], []
        for search in SEARCHES.values():
            distances.append(nearest(network.at(bits), search).distance)
            marks.append(time.perf_counter())
        flips = first_change(network.at(bits), order)
        marks.append(time.perf_counter())
        model, x = module(network), torch.from_numpy(2.0 * bits - 1.0).float()
        start = time.perf_counter()
        distances.append(plain_nearest(model, x))
        middle = time.perf_counter()
        same = plain_flips(model, x, order)
        plain = (middle - start, time.perf_counter() - middle)
        if same != flips:
            print(f"network {k}: flips {flips} and {same} (an output near 0)")
        if k >= 0:
            seconds += [*np.diff(marks), *plain]
            found[:, k] = distances
    beam, greedy, walk, plain_near, plain_walk = seconds / networks * 1e3
    print(
        f"| {n} | {width} | {plain_near:.1f} | {beam:.1f} ({plain_near / beam:.1f}) | "
        f"{greedy:.1f} ({plain_near / greedy:.1f}) | {plain_walk:.1f} | "
        f"{walk:.1f} ({plain_walk / walk:.1f}) | {found[2].mean():.2f} | {found[0].mean():.2f} | "
        f"{found[1].mean():.2f} |",
        flush=True,
    )


def main() -> None:
    torch.set_num_threads(1)
    print("times in ms a network (plain / ours in brackets); beam x candidates, no enumeration\n")
    print("| n | width | plain search | 8 x 32 | 1 x 8 | plain flips | flips |"
          " distance plain | 8 x 32 | 1 x 8 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for n, width, networks in (
        (100, 100, 200), (100, 1000, 60), (400, 1000, 40), (1600, 1000, 20),
    ):  # fmt: skip
        compare(n, width, networks)


if __name__ == "__main__":
    main()
