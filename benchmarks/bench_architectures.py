"""Speed of sampling torch modules as ratios measured in one run (never part of the tests).

    python benchmarks/bench_architectures.py [--quick]

One core. *Stacked* is ``sp.sample`` of the module, functions counted. *One by one* builds each
module by its factory, draws its parameters by the same law, evaluates it and counts its function
in a dictionary: what a script does. Samples with heads share hidden layers; *effective* samples
are samples divided by the design effect of the constant functions.
"""

from __future__ import annotations

import argparse
import os
import time

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import simprior as sp  # noqa: E402

SETTINGS = {
    "mlp 40x40": ("mlp", {}),
    "mlp 40x40, layer norm": ("mlp", {"norm": "layer"}),
    "transformer d=32, 2 layers": ("transformer", {}),
    "lstm 32": ("lstm", {}),
    "cnn 16x16": ("cnn", {}),
}


def one_by_one(module: sp.Module, size: int) -> float:
    """Samples a second of processor time."""
    x = torch.from_numpy(module.input_matrix()).float()
    counts: dict[bytes, int] = {}
    began = time.process_time()
    with torch.no_grad():
        for _ in range(size):
            net = module.built.make()
            named = dict(net.named_parameters())
            for t in module.tensors():
                named[t.name].normal_(0.0, t.deviation or 0.0)
                if t.centre:
                    named[t.name].fill_(t.centre)
            row = np.packbits((net(x) > 0).numpy().ravel()).tobytes()
            counts[row] = counts.get(row, 0) + 1
    return size / (time.process_time() - began)


def stacked(module: sp.Module, size: int, heads: int | str) -> tuple[float, float]:
    """Samples and effective samples a second of processor time; the pilot for heads counts."""
    began = time.process_time()
    counts = sp.sample(module, size, seed=1, heads=heads)
    rate = size / (time.process_time() - began)
    return rate, rate / counts.constant_design_effect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    part = 8 if parser.parse_args().quick else 1
    torch.set_num_threads(1)
    print("samples a second | one by one | stacked, 1 head | with heads | effective | ratio")
    for name, (make, options) in SETTINGS.items():
        module = sp.Module(make, n=7, options=options)
        sp.sample(module, 64, heads=1)  # compiles
        base = one_by_one(module, 200 // part)
        single, _ = stacked(module, (8192 if make in ("mlp", "cnn") else 1024) // part, 1)
        size = (1_000_000 if make == "mlp" else 100_000) // part
        many, effective = stacked(module, size, "auto")
        row = (base, single, many, effective, many / base)
        print(f"{name:28s}", *(f"{value:12,.0f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
