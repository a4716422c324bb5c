"""Flatness of 1,000 networks at once, as ratios to one network at a time with plain torch.

Run: ``python benchmarks/bench_flatness.py [--networks N]``. One thread; the plain way is measured
on a few networks (the same numbers to rounding), each measure by both ways in one run, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.geometry import (
    fisher_rao,
    hessian_top,
    hessian_trace,
    spectral_norm,
)
from simprior.analysis.flatness.sharpness import keskar_sharpness, random_sharpness
from simprior.analysis.flatness.volume import sigma_flatness
from simprior.network.spec import Network
from simprior.training.draws import Parameters, Source

FEW, DRAWS, POWER = 8, 32, 40
ASCENT, BISECTIONS, ZETA = 10, 12, 1e-4


def make(networks: int) -> tuple[Ensemble, list[Parameters]]:
    """Random (7, 40, 40, 1) networks and 64 examples."""
    net = Network(n=7, hidden=(40, 40))
    rng = np.random.default_rng(0)
    source = Source(net, 0)
    parameters = [source.parameters(i) for i in range(networks)]
    X = rng.integers(0, 2, (64, 7)).astype(float)
    return Ensemble.of_parameters(parameters, net, X, rng.integers(0, 2, 64)), parameters


class Plain:
    """One torch module, its loss, and what is usually written for a single network."""

    def __init__(self, ensemble: Ensemble, p: Parameters) -> None:
        layers: list[torch.nn.Module] = []
        for i, (w, b) in enumerate(zip(p.weights, p.biases, strict=True)):
            layer = torch.nn.Linear(*w.shape).double()
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(w.T))
                layer.bias.copy_(torch.tensor(b))
            layers += [layer, torch.nn.ReLU()] if i < len(p.weights) - 1 else [layer]
        self.model = torch.nn.Sequential(*layers)
        self.weights = list(self.model.parameters())
        self.X, self.y = ensemble.X, ensemble.y[:, None]
        self.loss_function = torch.nn.BCEWithLogitsLoss()

    def loss(self) -> torch.Tensor:
        return self.loss_function(self.model(self.X), self.y)

    def hvp(self, vectors: list[torch.Tensor]) -> list[torch.Tensor]:
        gradient = torch.autograd.grad(self.loss(), self.weights, create_graph=True)
        product = sum((g * v).sum() for g, v in zip(gradient, vectors, strict=True))
        return list(torch.autograd.grad(product, self.weights))

    def top(self) -> float:
        """Power iteration, as in the usual Hessian packages."""
        v = [torch.randn_like(w) for w in self.weights]
        value = 0.0
        for _ in range(POWER):
            norm = float(torch.sqrt(sum((a * a).sum() for a in v)))
            v = [a / norm for a in v]
            u = self.hvp(v)
            value = float(sum((a * b).sum() for a, b in zip(u, v, strict=True)))
            v = u
        return value

    def trace(self) -> float:
        """Hutchinson's estimate from DRAWS sign vectors."""
        total = 0.0
        for _ in range(DRAWS):
            v = [torch.randint_like(w, 2) * 2 - 1 for w in self.weights]
            total += float(sum((a * b).sum() for a, b in zip(self.hvp(v), v, strict=True)))
        return total / DRAWS

    def random(self) -> float:
        """Mean rise in DRAWS pairs of opposite directions."""
        start, base = [w.detach().clone() for w in self.weights], float(self.loss().detach())
        total = 0.0
        with torch.no_grad():
            for _ in range(DRAWS):
                v = [torch.randn_like(w) for w in start]
                norm = float(torch.sqrt(sum((a * a).sum() for a in v)))
                for sign in (0.05, -0.05):
                    for w, s, a in zip(self.weights, start, v, strict=True):
                        w.copy_(s + sign / norm * a)
                    total += float(self.loss()) - base
            for w, s in zip(self.weights, start, strict=True):
                w.copy_(s)
        return total / (2 * DRAWS)

    def keskar(self) -> float:
        """ASCENT gradient evaluations: steps to the vertex that the gradient points to."""
        start, base = [w.detach().clone() for w in self.weights], float(self.loss().detach())
        best = base
        for _ in range(ASCENT):
            loss = self.loss()
            best = max(best, float(loss.detach()))
            gradient = torch.autograd.grad(loss, self.weights)
            with torch.no_grad():
                for w, s, g in zip(self.weights, start, gradient, strict=True):
                    w.copy_(s + ZETA * (s.abs() + 1) * g.sign())
        with torch.no_grad():
            for w, s in zip(self.weights, start, strict=True):
                w.copy_(s)
        return 100 * (best - base) / (1 + base)

    def sigma(self) -> float:
        """Bisection for the noise that raises the training error by 0.1."""
        start = [w.detach().clone() for w in self.weights]
        noise = [[torch.randn_like(w) for w in start] for _ in range(DRAWS)]
        low, high = 1e-3, 10.0
        with torch.no_grad():
            base = self.error()
            for _ in range(BISECTIONS):
                sigma, rise = (low * high) ** 0.5, 0.0
                for e in noise:
                    for w, s, a in zip(self.weights, start, e, strict=True):
                        w.copy_(s + sigma * a)
                    rise += self.error() - base
                low, high = (low, sigma) if rise / DRAWS > 0.1 else (sigma, high)
            for w, s in zip(self.weights, start, strict=True):
                w.copy_(s)
        return low

    def error(self) -> float:
        return float(((self.model(self.X) > 0) != (self.y > 0.5)).double().mean())

    def fisher(self) -> float:
        """Gradients of the examples, one after the other."""
        total = 0.0
        for x, y in zip(self.X, self.y, strict=True):
            loss = self.loss_function(self.model(x[None]), y[None])
            gradient = torch.autograd.grad(loss, self.weights)
            pairs = zip(gradient, self.weights, strict=True)
            total += float(sum((g * w.detach()).sum() for g, w in pairs)) ** 2
        return (total / len(self.X)) ** 0.5

    def spectral(self) -> float:
        return sum(
            float(torch.linalg.matrix_norm(w.detach(), 2).log())
            for w in self.weights
            if w.ndim == 2
        )


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print a line a measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=1000)
    networks = parser.parse_args().networks
    torch.set_num_threads(1)
    ensemble, parameters = make(networks)
    few = [Plain(ensemble, p) for p in parameters[:FEW]]
    rows: dict[str, tuple[Callable[[], object], Callable[[Plain], object]]] = {
        "keskar": (lambda: keskar_sharpness(ensemble), Plain.keskar),
        "sigma_flatness": (lambda: sigma_flatness(ensemble, draws=DRAWS), Plain.sigma),
        "hessian_trace": (lambda: hessian_trace(ensemble), Plain.trace),
        "hessian_top": (lambda: hessian_top(ensemble), Plain.top),
        "random_sharpness": (lambda: random_sharpness(ensemble, draws=DRAWS), Plain.random),
        "fisher_rao": (lambda: fisher_rao(ensemble), Plain.fisher),
        "spectral_norm": (lambda: spectral_norm(ensemble), Plain.spectral),
    }
    print(f"{networks} networks (7, 40, 40, 1), 64 examples, one thread; ms a network")
    for name, (ours, plain) in rows.items():
        ours()
        a = 1e3 * seconds(ours) / networks
        b = 1e3 * seconds(lambda p=plain: [p(one) for one in few]) / FEW
        print(f"{name:18s} ours {a:8.3f}   plain torch {b:8.2f}   ratio {b / a:8.1f}")


if __name__ == "__main__":
    main()
