"""Speed of the estimators of ln P, as ratios measured in one run.

* EP against the textbook sequential algorithm in numpy, to the same tolerance;
* `tilted` against scipy's ``multivariate_normal.cdf`` at equal error in ln P;
* time a function against m = 32..2048 with the fitted exponent;
* many labels in place, against the same estimators on copies, and the memory of both.

Run ``OMP_NUM_THREADS=1 python benchmarks/bench_logp.py`` (about a minute; ``--quick``: m <= 512).
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import multivariate_normal

from simprior.boolean.truthtable import bit_matrix
from simprior.gp.covariance import Event, factor, make_event
from simprior.gp.kernels import nngp
from simprior.gp.orthant import log_prior
from simprior.gp.tilted import tilted
from simprior.network.spec import Network


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median time of ``repeats`` calls after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def kernel(n: int) -> np.ndarray:
    """NNGP, relu, 2 hidden layers, sigmas 1, all inputs {0,1}."""
    return nngp(Network(n=n, hidden=(40, 40)), bit_matrix(n, "01"))


def functions(n: int, count: int) -> np.ndarray:
    """Constant, x1, majority, parity, then different functions drawn from the prior."""
    x = bit_matrix(n, "01").astype(int)
    named = [np.ones(len(x), int), x[:, 0], (x.sum(1) > n / 2).astype(int), x.sum(1) % 2]
    L = np.linalg.cholesky(kernel(n))
    z = L @ np.random.default_rng(0).standard_normal((len(x), 20 * count))
    drawn = np.unique((z.T > 0).astype(int), axis=0)
    drawn = np.random.default_rng(1).permutation(drawn)
    return np.array([*named, *drawn])[:count]


def textbook_ep(K: np.ndarray, tol: float = 1e-7) -> float:
    """Sequential Heaviside EP with numpy rank-1 updates (Rasmussen & Williams 2006, alg. 3.5)."""
    m = len(K)
    tau, nu, cov, mean = np.zeros(m), np.zeros(m), K.copy(), np.zeros(m)
    for _ in range(200):
        change = 0.0
        for i in range(m):
            v = cov[i, i]
            t = 1.0 / v - tau[i]
            cm, sd = (mean[i] / v - nu[i]) / t, 1.0 / math.sqrt(t)
            z = cm / sd
            ratio = math.exp(-0.5 * z * z - 0.9189385332046727 - log_ndtr(z))
            new_mean, new_var = cm + sd * ratio, sd * sd * (1.0 - ratio * (z + ratio))
            change = max(change, abs(new_mean - mean[i]) / math.sqrt(v) + abs(new_var / v - 1.0))
            d_tau, new_nu = 1.0 / new_var - t - tau[i], new_mean / new_var - cm * t
            tau[i], nu[i] = tau[i] + d_tau, new_nu
            s = cov[:, i].copy()
            cov -= np.outer(s, s) * (d_tau / (1.0 + d_tau * v))
            mean = cov @ nu
        if change < tol:
            break
    root = np.sqrt(tau)
    B = np.eye(m) + root[:, None] * K * root
    t = 1.0 / np.diag(cov) - tau
    cm = (mean / np.diag(cov) - nu) / t
    site = log_ndtr(cm * np.sqrt(t)) + 0.5 * np.log1p(tau / t)
    site += 0.5 * t * cm**2 - 0.5 * (t * cm + nu) ** 2 / (t + tau)
    return float(site.sum() + 0.5 * nu @ mean - np.log(np.diag(np.linalg.cholesky(B))).sum())


def bench_ep() -> None:
    """Milliseconds a function at n = 7, and the ratio."""
    K, tables = kernel(7), functions(7, 12)
    signs = 2.0 * tables - 1.0
    ours = seconds(lambda: log_prior(tables, K, "ep")) / len(tables)
    began = time.perf_counter()
    values = [textbook_ep(K * np.outer(s, s)) for s in signs]
    theirs = (time.perf_counter() - began) / len(tables)
    gap = max(abs(a.value - b) for a, b in zip(log_prior(tables, K, "ep"), values, strict=True))
    print(
        f"EP n=7: {1e3 * ours:.2f} ms a function, textbook numpy {1e3 * theirs:.1f} ms, "
        f"ratio {theirs / ours:.0f} (largest difference {gap:.1e} nats)"
    )


def bench_tilted() -> None:
    """Time and error at n = 7 over 60 functions."""
    K, tables = kernel(7), functions(7, 60)
    truth = np.array([r.value for r in log_prior(tables, K, draws=50_000, seed=99)])
    for draws in (256, 400, 1024):
        took = seconds(lambda d=draws: log_prior(tables, K, draws=d)) / len(tables)
        errors = np.abs([r.value for r in log_prior(tables, K, draws=draws)] - truth)
        print(
            f"tilted n=7, {draws:5d} draws: {1e3 * took:.2f} ms a function, "
            f"median error {np.median(errors):.4f}, worst {errors.max():.3f} nats"
        )


def bench_scipy(cap: int = 4_000_000) -> None:
    """scipy's cdf with more and more points until its error is that of 1,024 tilted draws."""
    K = kernel(5)
    for name, bits in zip(("const1", "x1", "majority"), functions(5, 3), strict=True):
        event: Event = make_event(bits, K, factor(K))
        truth = tilted(event, draws=200_000, seed=99).value
        runs = [tilted(event, seed=k).value - truth for k in range(20)]
        ours, error = seconds(lambda e=event: tilted(e)), float(np.sqrt(np.mean(np.square(runs))))
        points = 4_000
        while True:
            laws = [
                multivariate_normal(
                    np.zeros(len(K)), event.K, maxpts=points, abseps=0, releps=0, seed=k
                )
                for k in range(5)
            ]
            began = time.perf_counter()
            with np.errstate(divide="ignore"):
                found = np.array([law.logcdf(np.zeros(len(K))) for law in laws]) - truth
            took = (time.perf_counter() - began) / len(laws)
            miss = float(np.sqrt(np.mean(np.square(found))))
            if miss <= error or points >= cap:
                break
            points *= 4
        reached = "at equal error" if miss <= error else f"scipy still at {miss:.2f} nats"
        print(
            f"m=32 {name}: tilted {1e3 * ours:.2f} ms (error {error:.4f}), "
            f"scipy cdf {1e3 * took:.0f} ms, ratio {took / ours:.0f} ({reached})"
        )


def bench_scaling(largest: int) -> None:
    """Time against m, for x1, with the exponent of the last three sizes."""
    sizes, times = [], []
    for n in range(5, largest + 1):
        K = kernel(n)
        event = make_event(bit_matrix(n, "01")[:, 0], K, factor(K))
        draws = 2048 if n >= 10 else 1024
        result = tilted(event, draws=draws)
        took = seconds(lambda e=event, d=draws: tilted(e, draws=d), 1 if n > 8 else 5)
        sizes.append(len(K))
        times.append(took)
        print(
            f"m={len(K):5d} x1, {draws} draws: {took:.4f} s, stderr {result.stderr:.3f}, "
            f"EP error {result.diagnostics['ep'] - result.value:+.2f}"
        )
    slope = np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0]
    print(f"time ~ m^{slope:.2f} over m = {sizes[-3]}..{sizes[-1]}")


def bench_in_place(m: int) -> None:
    """`tilted` and `ep` on m inputs in place and on copies: processor time, largest memory."""
    for large in (True, False):
        for name in ("tilted", "ep"):
            program = _PROGRAM.format(m=m, limit=1 if large else 10**9, name=name)
            took, peak, value = subprocess.run(
                [sys.executable, "-c", program], check=True, capture_output=True, text=True
            ).stdout.split()
            how = "in place" if large else "on copies"
            print(f"m={m} {name} {how}: {took} s, {peak} matrices m x m, ln P {value}")


_PROGRAM = """
import resource, time
import numpy as np
from simprior.gp import covariance
from simprior.gp.kernels import nngp
from simprior.gp.orthant import log_prior
from simprior.network.spec import Network
covariance.LARGE = {limit}
rng = np.random.default_rng(0)
def problem(m):
    x = rng.normal(size=(m, 20))
    return nngp(Network(n=20, inputs=x), x), (x[:, 0] + rng.normal(size=m) > 0).astype(int)
log_prior(problem(300)[1], problem(300)[0], "{name}")
K, labels = problem({m})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
found = log_prior(labels, K, "{name}")[0]
took, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{{took:.1f}} {{1 + (peak - before) * 1024 / 8 / {m} ** 2:.1f}} {{found.value:.3f}}")
"""


def main() -> None:
    """Print one line a measurement."""
    bench_ep()
    bench_tilted()
    bench_scipy()
    bench_scaling(9 if "--quick" in sys.argv else 11)
    bench_in_place(1000 if "--quick" in sys.argv else 3000)


if __name__ == "__main__":
    main()
