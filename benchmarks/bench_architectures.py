"""Speed of torch modules, sampled and trained, as ratios measured in one run (never a test).

    python benchmarks/bench_architectures.py [--quick]

One core. *Stacked* is ``sp.sample`` of the module, functions counted. *One by one* builds each
module by its factory, draws its parameters by the same law, evaluates it and counts its function
in a dictionary: what a script does. Samples with heads share hidden layers; *effective* samples
are samples divided by the design effect of the constant functions.

Training counts steps of members (one minibatch of one network) a second, by Adam on 64 digits for
20 epochs with a look at the training error after each. *One by one* is the plain loop over modules
with ``torch.optim``. Medians of three ratios, the two measured in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
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


class DigitsCNN(torch.nn.Module):
    """Two convolutions with stride 2 over 8 x 8 pixels, mean over places, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.second = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x.reshape(len(x), 1, 8, 8)))
        return self.head(torch.relu(self.second(h)).mean(dim=(2, 3)))


TRAINED = {
    "conv2d 4-8 on digits": sp.Module(DigitsCNN),
    "mlp 40x40, layer norm": sp.Module("mlp", options={"norm": "layer"}),
    "cnn 4x8 over 64 pixels": sp.Module("cnn", options={"channels": "4x8"}),
}
EPOCHS, LR = 20, 0.01


def trained_alone(problem: sp.Problem, members: int, batch: int) -> float:
    """Steps of members a second of processor time, in a loop over modules."""
    x = torch.from_numpy(problem.train_inputs).float()
    y = torch.from_numpy(problem.labels).float()
    module, loss = problem.network, torch.nn.functional.binary_cross_entropy_with_logits
    steps, began = 0, time.process_time()
    for _ in range(members):
        net = module.built.make().requires_grad_(True)
        named = dict(net.named_parameters())
        with torch.no_grad():
            for t in module.tensors():
                named[t.name].normal_(t.centre, t.deviation or 0.0)
        optimizer = torch.optim.Adam(net.parameters(), LR)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(x)).split(batch):
                optimizer.zero_grad()
                loss(net(x[part])[:, 0], y[part]).backward()
                optimizer.step()
                steps += 1
            with torch.no_grad():
                bool(((net(x)[:, 0] > 0) == (y > 0.5)).all())
    return steps / (time.process_time() - began)


def trained_together(problem: sp.Problem, members: int, batch: int) -> float:
    """The same for an ensemble of simprior."""
    steps = EPOCHS * -(-problem.size // batch)
    began = time.process_time()
    sp.train(problem, runs=members, lr=LR, batch_size=batch, stop=f"steps:{steps}")
    return members * steps / (time.process_time() - began)


def training(part: int) -> None:
    """Print a row a module and size of the minibatch."""
    print("steps of members a second | one by one | together | ratio")
    for name, module in TRAINED.items():
        problem = sp.Problem(module, data="digits", classes="3,8", train=64, test=50)
        for batch in (8, 32):
            trained_together(problem, 32, batch)  # compiles
            alone, together, ratios = [], [], []
            for _ in range(3):
                alone.append(trained_alone(problem, max(1, 4 // part), batch))
                together.append(trained_together(problem, 256, batch))
                ratios.append(together[-1] / alone[-1])
            row = (statistics.median(alone), statistics.median(together))
            ratio = statistics.median(ratios)
            print(f"{name:24s} batch {batch:2d}", *(f"{v:10,.0f}" for v in row), f"{ratio:6.1f}")


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
    training(part)


if __name__ == "__main__":
    main()
