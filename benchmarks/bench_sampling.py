"""Speed of the sampler as ratios measured in one run (never part of the tests).

    python benchmarks/bench_sampling.py [--quick]

One core (except the line with two workers), counting included, medians of repeats, processor time
(so that other processes matter less). An *effective* sample is a sample divided by the design
effect of the constant function, so that shared hidden layers are not credited with correlated
samples. (With mirrors the effect of a constant is below 1: a head that gives one of the two gives
the other, too.) The roofline of independent networks adds the matrix products at the measured sgemm
rate to the normal numbers at the measured rate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from simprior import Network  # noqa: E402
from simprior.boolean.sampling.prepare import make_job  # noqa: E402
from simprior.boolean.sampling.sample import sample  # noqa: E402
from simprior.boolean.truthtable import input_matrix  # noqa: E402
from simprior.numerics.compiled import BLOCK, fill  # noqa: E402


def rate(work: Callable[[int], None], size: int, repeats: int) -> float:
    """Median of units a processor second over ``repeats`` calls of ``work(size)``, after one to
    warm up."""
    work(max(1, size // 50))
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work(size)
        found.append(size / (time.process_time() - start))
    return statistics.median(found)


def count_bits(counts: dict[bytes, int], bits: np.ndarray) -> None:
    for row in np.packbits(bits, axis=1):
        name = row.tobytes()
        counts[name] = counts.get(name, 0) + 1


def module_loop(network: Network) -> Callable[[int], None]:
    """One ``torch.nn.Sequential`` a sample, counted in a dictionary: what a script does."""
    x = torch.tensor(input_matrix(network), dtype=torch.float32)
    sizes = (*network.fan_ins, 1)

    def one() -> torch.nn.Sequential:
        parts: list[torch.nn.Module] = []
        for fan, width in pairwise(sizes):
            linear = torch.nn.Linear(fan, width)
            torch.nn.init.normal_(linear.weight, 0.0, float(network.sigma_w) / fan**0.5)  # type: ignore[arg-type]
            torch.nn.init.normal_(linear.bias, 0.0, float(network.sigma_b))  # type: ignore[arg-type]
            parts += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*parts[:-1])

    def work(size: int) -> None:
        counts: dict[bytes, int] = {}
        with torch.no_grad():
            for _ in range(size):
                count_bits(counts, (one()(x) > 0).numpy().reshape(1, -1))

    return work


def batched_torch(network: Network, batch: int = 128) -> Callable[[int], None]:
    """Batches of independent networks by ``torch.baddbmm``, counted in a dictionary."""
    x = torch.tensor(input_matrix(network), dtype=torch.float32)
    sizes = (*network.fan_ins, 1)

    def work(size: int) -> None:
        counts: dict[bytes, int] = {}
        with torch.no_grad():
            for _ in range(-(-size // batch)):
                h = x.expand(batch, *x.shape)
                for layer, (fan, width) in enumerate(pairwise(sizes)):
                    w = torch.empty(batch, fan, width).normal_(
                        0, network.sigma_ws[layer] / fan**0.5
                    )
                    b = torch.empty(batch, 1, width).normal_(0, network.sigma_bs[layer])
                    h = torch.baddbmm(b, h, w)
                    if layer < network.depth:
                        h = h.relu_()
                count_bits(counts, (h[:, :, 0] > 0).numpy())

    return work


def ours(
    network: Network, heads: int, effects: list[float] | None = None, mirror: bool = False
) -> Any:
    seeds = iter(range(10**6))

    def work(size: int) -> None:
        even = size + size % 2
        counts = sample(network, samples=even, seed=next(seeds), heads=heads, mirror=mirror)
        if effects is not None:
            effects.append(counts.constant_design_effect())

    return work


def effective_rate(
    network: Network, size: int, repeats: int, mirror: bool = True
) -> tuple[float, float, float]:
    """(samples a second, design effect, effective samples a second) with the heads that
    ``heads="auto"`` chooses for a long run."""
    job = make_job(network, 10**8, 0, mirror="auto" if mirror else False)
    effects: list[float] = []
    work = ours(network, job.heads, effects, job.mirror)
    speed = rate(work, max(size, 64 * job.heads), repeats)
    effect = statistics.median(effects[1:])
    return speed, effect, speed / effect


def gemm_rate(size: int = 768) -> float:
    """Single-thread sgemm, floating-point operations a second."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    best = 0.0
    for _ in range(12):
        start = time.process_time()
        a @ a
        best = max(best, 2 * size**3 / (time.process_time() - start))
    return best


def normal_rate(repeats: int) -> float:
    """Normal numbers a second from the counter-based generator, in cache."""
    blocks = 64
    out, buf = np.empty(blocks * BLOCK, np.float32), np.empty(32, np.uint64)
    key, one = np.uint64(1), np.float32(1)

    def work(size: int) -> None:
        for i in range(size // (blocks * BLOCK)):
            fill(out, blocks, buf, buf.view(np.uint32), 0, 0, np.uint64(i), key, one, False)

    return rate(work, 40_000_000, repeats)


def roofline(network: Network, gemm: float, normals: float) -> float:
    """Independent networks a second if nothing but products and random numbers took time."""
    layers = list(zip(network.fan_ins, (*network.hidden, 1), strict=True))
    products = sum(2 * network.m * fan * width for fan, width in layers)
    numbers = sum((fan + 1) * width for fan, width in layers)
    return 1 / (products / gemm + numbers / normals)


def two_workers(network: Network, size: int, repeats: int) -> tuple[float, float]:
    """Samples a second through ``sample`` with one and with two workers, start-up included."""
    found = []
    for workers in (1, 2):
        sample(network, samples=10**5, workers=workers)
        times = []
        for seed in range(repeats):
            start = time.perf_counter()
            sample(network, samples=size, seed=seed, workers=workers)
            times.append(time.perf_counter() - start)
        found.append(size / statistics.median(times))
    return found[0], found[1]


def table(header: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller sizes")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    scale, repeats = (0.2, 3) if quick else (1.0, 5)

    def n(size: float) -> int:
        return max(1, int(size * scale))

    network = Network()
    gemm, normals = gemm_rate(), normal_rate(repeats)
    print(f"sgemm {gemm / 1e9:.0f} GFLOP/s, normals {normals / 1e6:.0f} M/s on one core\n")

    base = rate(module_loop(network), n(4000), repeats)
    batch = rate(batched_torch(network), n(50_000), repeats)
    single = rate(ours(network, 1), n(10**6), repeats)
    rows = [
        ["one nn.Sequential a sample, dict", f"{base:,.0f}", "1"],
        ["batched torch, dict", f"{batch:,.0f}", f"{batch / base:.1f}"],
        ["ours, independent (heads=1)", f"{single:,.0f}", f"{single / base:.0f}"],
    ]
    for mirror, how in ((False, "heads=auto without mirrors"), (True, "heads=auto")):
        plain, effect, good = effective_rate(network, n(10**7), repeats, mirror)
        name = f"ours, {how} (design effect {effect:.3f})"
        rows += [
            [name, f"{plain:,.0f}", f"{plain / base:.0f}"],
            [f"ours, {how}, effective samples", f"{good:,.0f}", f"{good / base:.0f}"],
        ]
    print("(7,40,40,1) relu, sigma_w = sigma_b = 1")
    table(["method", "samples/s", "ratio"], rows)

    roof = roofline(network, gemm, normals)
    print(f"roofline of independent networks {roof:,.0f}/s; reached {single / roof:.0%}\n")

    rows = []
    for bits, width in product((5, 7) if quick else (5, 7, 10, 12), (40, 128, 1024)):
        net = Network(n=bits, hidden=(width, width))
        guess = roofline(net, gemm, normals)
        size = max(32, min(n(10**6), int(guess * (0.3 if quick else 1.0))))
        few = repeats if size > 1000 else 1
        alone = rate(ours(net, 1), size, few)
        _, effect, good = effective_rate(net, min(n(5e6), 10 * size), few)
        speeds = [f"{alone:,.0f}", f"{alone / guess:.0%}", f"{good:,.0f}", f"{effect:.2f}"]
        rows.append([str(bits), str(width), *speeds])
    table(["n", "width", "independent/s", "of roofline", "effective/s (auto)", "effect"], rows)

    one, two = two_workers(network, n(4 * 10**7), min(repeats, 3))
    print(f"two workers against one: {two:,.0f} / {one:,.0f} = {two / one:.2f}")


if __name__ == "__main__":
    main()
