"""How many output layers ("heads") to draw on the same hidden layers.

Sharing hidden layers is marginally exact, and cheap because drawing and evaluating the hidden
layers is most of the work; samples of one hidden draw are correlated, with within-cluster
correlation rho. At R heads a hidden draw the variance grows by 1 + (R - 1) rho and the cost a
sample falls as c_hidden / R + c_head, so the best R is sqrt(c_hidden / c_head (1 - rho) / rho).
rho is measured in a pilot run of its own random stream; the costs are counted, not timed, so that
the choice is the same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from simprior.boolean._kernel import GROUP
from simprior.boolean._tasks import count_range
from simprior.boolean.job import Job
from simprior.network import Network
from simprior.rng import derive

MAX_HEADS = 512
_PILOT_HEADS, _PILOT_CLUSTERS = GROUP, 512
_MIN_CLUSTERS = 2000  # so that clustered standard errors have enough clusters
_RANDOM_COST = 8.0  # a normal number costs about as much as 8 multiply-adds
_COUNT_COST = 1500.0  # counting one function


def within_cluster_correlation(counts: np.ndarray, heads: int) -> float:
    """ANOVA estimate of rho from (C,) counts of an event among ``heads`` heads a cluster.

    Donner & Koval 1980, eq. for the one-way intraclass correlation of a 0/1 variable.
    """
    p = counts / heads
    mean = p.mean()
    if mean <= 0.0 or mean >= 1.0 or len(p) < 2:
        return 0.0
    between = heads * p.var(ddof=1)
    within = (heads * p * (1 - p)).sum() / (len(p) * (heads - 1))
    return float((between - within) / (between + (heads - 1) * within))


def choose_heads(job: Job) -> tuple[int, float]:
    """Number of heads for ``job`` and the correlation rho behind it.

    rho is the larger one of two events: the function is constant 0, and it is balanced (between a
    quarter and three quarters of the outputs are 1). Perceptrons have no hidden layer to share:
    their heads are independent networks and the number says only how many are made at once.
    """
    network = job.model
    assert isinstance(network, Network)
    if network.depth == 0:
        return GROUP, 0.0
    seed = int.from_bytes(derive(job.seed, "pilot")[:7], "little")
    pilot = replace(job, seed=seed, heads=_PILOT_HEADS, samples=_PILOT_HEADS * _PILOT_CLUSTERS)
    draws = _PILOT_CLUSTERS if _cost_hidden(network) < 1e8 else _PILOT_CLUSTERS // 8
    ones = np.stack([_ones(pilot, c) for c in range(draws)])
    m = network.m
    balanced = ones[:, m // 4 : m - m // 4 + 1].sum(axis=1)
    events = (ones[:, 0], balanced)
    rho = max(within_cluster_correlation(e, _PILOT_HEADS) for e in events)
    rho = min(max(rho, 1e-4), 0.5)
    best = math.sqrt(_cost_hidden(network) / _cost_head(network) * (1 - rho) / rho)
    best = min(best, MAX_HEADS, job.samples / _MIN_CLUSTERS)
    return (1 if best < 8 else max(16, round(best / 16) * 16)), rho


def _ones(pilot: Job, cluster: int) -> np.ndarray:
    counter = count_range(pilot, cluster, cluster + 1)
    histogram = counter.ones[:, 0].copy()
    histogram[0], histogram[-1] = counter.tally[0, 0], counter.tally[1, 0]
    return histogram


def _cost_hidden(network: Network) -> float:
    fans = network.fan_ins[:-1]
    units = zip(fans, network.hidden, strict=True)
    return sum((f + 1) * w * (network.m + _RANDOM_COST) for f, w in units)


def _cost_head(network: Network) -> float:
    return (network.fan_ins[-1] + 1) * (network.m + _RANDOM_COST) + _COUNT_COST
