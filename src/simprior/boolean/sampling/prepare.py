"""From the arguments of a sampling run to its checked :class:`~simprior.boolean.sampling.job.Job`.

What has to be found out on the way is the number of output layers ("heads") to draw on the same
hidden layers. Sharing hidden layers is marginally exact, and cheap because drawing and evaluating
the hidden layers is most of the work; but samples of one hidden draw are correlated, with
within-cluster correlation rho. At R heads a hidden draw the variance grows by 1 + (R - 1) rho and
the cost a sample falls as c_hidden / R + c_head, so the best R is
sqrt(c_hidden / c_head (1 - rho) / rho). rho is measured in a pilot run of its own random stream.
The costs are counted, not timed, so that the choice is the same on every machine.

With mirrors (``Job.mirror``) R heads take R / 2 output layers, whose weights are drawn 64 at a
time; the R of least cost times variance is then looked for among whole tiles of output layers.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np

from simprior.boolean.complexity import ones_packed
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.job import Job, symmetry_of
from simprior.boolean.sampling.kernel import GROUP
from simprior.boolean.sampling.tasks import count_range
from simprior.boolean.sampling.tile import HEAD_TILE
from simprior.boolean.symmetry import check_pooling
from simprior.checks import Choice, Integer, Whole, shown
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.spec import Network, check_size
from simprior.numerics.random import check_seed, derive
from simprior.runs.tasks import resolve_device

_LOG = logging.getLogger("simprior")
MOST_HEADS = 512  # output layers
_PILOT_HEADS, _PILOT_DRAWS = GROUP, 512
_MIN_DRAWS = 2000  # hidden draws, so that clustered standard errors have enough clusters
_RANDOM_COST = 8.0  # a normal number costs about as much as 8 multiply-adds
_COUNT_COST = 1500.0  # counting one function
_MODULE_DRAWS = 256  # of a pilot of torch modules
_ELEMENT_COST = 8.0  # writing a tensor's element costs about as much as 8 multiply-adds
_MODULE_COST = 1e8  # making a torch module
_TORCH = 4.0  # compiled kernels are about four times as fast


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
    if isinstance(network, Module):
        return _heads_of_module(job)
    assert isinstance(network, Network)
    if network.depth == 0:
        return GROUP, 0.0
    seed = int.from_bytes(derive(job.seed, "pilot")[:7], "little")
    size = _PILOT_HEADS * _PILOT_DRAWS
    pilot = replace(job, seed=seed, heads=_PILOT_HEADS, samples=size, mirror=False)
    draws = _PILOT_DRAWS if _cost_hidden(network) < 1e8 else _PILOT_DRAWS // 8
    ones = np.stack([_ones(pilot, i) for i in range(draws)])
    m = network.m
    events = ones[:, 0], ones[:, m // 4 : m - m // 4 + 1].sum(axis=1)
    if job.mirror and (layers := _mirrored_layers(job, _correlation(events))):
        return 2 * layers, _correlation(events)
    return _best_heads(job, events, _cost_hidden(network), _cost_head(network))


def _correlation(events: tuple[np.ndarray, np.ndarray]) -> float:
    """The larger rho of the (C,) counts of two events, within limits."""
    rho = max(within_cluster_correlation(e, _PILOT_HEADS) for e in events)
    return min(max(rho, 1e-4), 0.5)


def _mirrored_layers(job: Job, rho: float) -> int:
    """Output layers of a job with mirrors; 0 where independent networks are no dearer, or hidden
    draws would be too few."""
    network = job.model
    assert isinstance(network, Network)
    hidden = _cost_hidden(network)

    def dearness(layers: int) -> float:
        cost = hidden + _cost_layers(network, layers)
        return cost / (2 * layers) * (1.0 + (2 * layers - 1) * rho)

    most = min(MOST_HEADS, job.samples // (2 * _MIN_DRAWS))
    best = min(range(HEAD_TILE, most + 1, HEAD_TILE), key=dearness, default=0)
    if not best or dearness(best) >= hidden + _cost_head(network):
        return 0
    return best


def _best_heads(
    job: Job, events: tuple[np.ndarray, np.ndarray], hidden: float, head: float
) -> tuple[int, float]:
    """Heads for costs a hidden draw and a head, and rho, from the (C,) counts of two events."""
    rho = _correlation(events)
    best = math.sqrt(hidden / head * (1 - rho) / rho)
    best = min(best, MOST_HEADS, job.samples / _MIN_DRAWS)
    return (1 if best < 8 else max(16, round(best / 16) * 16)), rho


def _heads_of_module(job: Job) -> tuple[int, float]:
    """The same for torch modules; 1 where there is no last linear layer to draw many of."""
    from simprior.boolean.sampling.module_engine import functions_of

    assert isinstance(job.model, Module)
    built, m = job.model.built, job.model.m
    if built.last is None or built.drawn_whole:
        return 1, 0.0
    hidden, head = module_costs(job.model)
    seed = int.from_bytes(derive(job.seed, "pilot")[:7], "little")
    pilot = replace(job, seed=seed, heads=_PILOT_HEADS, samples=_PILOT_HEADS * _MODULE_DRAWS)
    words = np.concatenate([w for _, w in functions_of(pilot, 0, _MODULE_DRAWS)])
    ones = ones_packed(words, m).reshape(-1, _PILOT_HEADS)
    balanced = (ones >= m // 4) & (ones <= m - m // 4)
    events = ((ones == 0).sum(axis=1), balanced.sum(axis=1))
    return _best_heads(job, events, hidden, head)


def module_costs(module: Module) -> tuple[float, float]:
    """Multiply-adds that a hidden draw and a head of a torch module cost, about."""
    built, m = module.built, module.m
    size = sum(t.size for t in built.tensors)
    cost = built.cost.products + _ELEMENT_COST * built.cost.elements
    fan_in = 0 if built.last is None else built.last.fan_in
    head = (fan_in + 1) * (m + _RANDOM_COST) + _COUNT_COST + m * _ELEMENT_COST
    return cost + size * _RANDOM_COST + (_MODULE_COST if built.drawn_whole else 0.0), head


def work_of_sample(job: Job) -> float:
    """Multiply-adds of a sample of a torch module, weighted by how slowly torch does them."""
    assert isinstance(job.model, Module)
    hidden, head = module_costs(job.model)
    return _TORCH * (hidden / job.heads + head)


def _ones(pilot: Job, draw: int) -> np.ndarray:
    counter = count_range(pilot, draw, draw + 1, entries=4 * _PILOT_HEADS)
    histogram = counter.ones[:, 0].copy()
    histogram[0], histogram[-1] = counter.tally[0, 0], counter.tally[1, 0]
    return histogram


def _cost_hidden(network: Network) -> float:
    fans = network.fan_ins[:-1]
    units = zip(fans, network.hidden, strict=True)
    return sum((f + 1) * w * (network.m + _RANDOM_COST) for f, w in units)


def _cost_head(network: Network) -> float:
    return (network.fan_ins[-1] + 1) * (network.m + _RANDOM_COST) + _COUNT_COST


def _cost_layers(network: Network, layers: int) -> float:
    """Multiply-adds that so many output layers cost, whose weights are drawn 64 at a time."""
    drawn = -(-layers // GROUP) * GROUP
    weights = network.fan_ins[-1] + 1
    return weights * (drawn * _RANDOM_COST + layers * network.m) + layers * _COUNT_COST


DTYPES = ("float32", "float64")
DEFAULT_MEMORY = 4 * 2**30
MAX_SAMPLES = 10**13
MAX_HEADS = 1 << 16


def make_job(
    network: Network | RandomDNF | Module,
    samples: int | float,
    seed: int,
    heads: int | str = "auto",
    device: str = "cpu",
    dtype: str = "float32",
    pool: bool = False,
    keep: float = 1.0,
    complexity: int | None = None,
    *,
    mirror: bool | str = False,
    modules: bool = False,
) -> Job:
    """Checked :class:`Job`, its device and number of heads resolved (the pilot runs here).

    ``modules``: whether torch modules are taken. ``complexity``: hidden draws whose functions are
    measured (of independent networks: networks). ``mirror``: whether half of the heads are mirrors;
    with "auto" they are where they can be.
    """
    job = _plain_job(network, samples, seed, heads, device, dtype, pool, keep, mirror, modules)
    if complexity is None:
        return job
    if not job.iid:
        return replace(job, complexity=min(complexity, job.samples // job.heads))
    return replace(job, complexity=-(-min(complexity, job.samples) // job.heads))


def _plain_job(
    network: Network | RandomDNF | Module,
    samples: int | float,
    seed: int,
    heads: int | str,
    device: str,
    dtype: str,
    pool: bool,
    keep: float,
    mirror: bool | str,
    modules: bool,
) -> Job:
    """The job without measurements of its functions."""
    if not isinstance(network, Network | RandomDNF) and not (
        modules and isinstance(network, Module)
    ):
        expected = f"a Network{', a Module' if modules else ''} or a RandomDNF"
        raise InputError(f"network={shown(network)}", expected, "build one, e.g. Network(n=7)")
    Choice(DTYPES, "pass dtype='float32'")("dtype", dtype)
    if not isinstance(mirror, bool) and mirror != "auto":
        what = f"mirror={shown(mirror)}"
        raise InputError(what, "True, False or auto", "pass mirror='auto'")
    if pool:
        _check_pool(network, keep)
    job = Job(
        model=network,
        samples=check_samples(samples),
        seed=check_seed(seed),
        dtype=dtype,
        device=resolve_device(device),
        keep_shift=keep_shift(keep),
        pool=pool,
    )
    if isinstance(network, RandomDNF):
        if not isinstance(heads, str | int) or heads not in ("auto", 1):
            raise InputError(
                f"heads={shown(heads)}", "1 or auto for a DNF network", "leave heads out"
            )
        return _with_mirrors(job, mirror)
    if isinstance(network, Network):
        check_size(network)
    return _with_mirrors(_with_heads(job, heads, mirror), mirror)


def _with_heads(job: Job, heads: int | str, mirror: bool | str) -> Job:
    """The job with its number of heads, chosen or as asked for."""
    network = job.model
    assert not isinstance(network, RandomDNF)
    if isinstance(heads, str) and heads == "auto":
        asked = replace(job, mirror=bool(mirror))
        possible = isinstance(network, Network) and network.depth > 0 and not job.samples % 2
        chosen, _ = choose_heads(asked if possible else job)
        return replace(job, heads=chosen)
    expected = f"an integer from 1 to {MAX_HEADS} or auto"
    heads = Integer(1, MAX_HEADS, "pass heads='auto'", expected)("heads", heads)
    if isinstance(network, Module):
        _check_heads(network, heads)
        return replace(job, heads=min(heads, job.samples))
    assert isinstance(network, Network)  # DNFs have no heads
    return replace(job, heads=GROUP if network.depth == 0 else min(heads, job.samples))


def _with_mirrors(job: Job, mirror: bool | str) -> Job:
    """The job with mirrors if they are wanted, and can be."""
    if not mirror:
        return job
    why = _why_no_mirrors(job)
    if why is None:
        return replace(job, mirror=True)
    if mirror != "auto":
        expected = "an even number of networks that share hidden layers, 4 heads at least"
        raise InputError(f"mirror with {why}", expected, "leave mirror out")
    if isinstance(job.model, Network) and not job.iid:
        _LOG.info("no mirrors: %s", why)
    return job


def _why_no_mirrors(job: Job) -> str | None:
    """Why the heads of a job cannot be output layers and their mirrors; None if they can."""
    if isinstance(job.model, RandomDNF):
        return "a DNF network, which has no output layer"
    if isinstance(job.model, Module):
        return "a torch module, whose last layer need not have a symmetric law"
    if job.iid:
        return "independent networks"
    if job.heads % 2 or job.heads < 4:
        return f"heads={job.heads}"
    return f"samples={job.samples}, an odd number" if job.samples % 2 else None


def _check_heads(module: Module, heads: int) -> None:
    """Refuse several heads where there is no last linear layer to draw them from."""
    built = module.built
    if heads > 1 and (built.last is None or built.drawn_whole):
        why = (
            "whose output is not that of one linear layer"
            if built.last is None
            else "whose own initialiser draws whole modules"
        )
        what = f"heads={heads} with make={module.make_name}, {why}"
        raise InputError(what, "heads 1 or auto", "end the module in nn.Linear(k, 1), or pass 1")


def _check_pool(model: Network | RandomDNF | Module, keep: float) -> None:
    """Refuse to pool what has no classes, or not all of their members, before anything is drawn."""
    if keep_shift(keep):
        raise InputError(
            f"pool with keep={keep!r}",
            "keep 1: classes need all their members",
            "leave one of the two out",
        )
    if isinstance(model, Module):
        what, expected = "pool with a torch module", "a prior whose symmetries are known"
        raise InputError(what, expected, "leave pool (--pool) out")
    if isinstance(model, Network) and model.inputs is not None:
        raise InputError(
            "pool with explicit inputs",
            "all bit strings as inputs: their symmetries make the classes",
            "leave pool (--pool) or the inputs out",
        )
    check_pooling(symmetry_of(model), model.n, model.m)


def job_config(job: Job) -> dict[str, Any]:
    """What determines the result, for ``config.toml``; equal on resume."""
    kind = {RandomDNF: "dnf", Module: "modules"}.get(type(job.model), "network")
    given = {"complexity": job.complexity} if job.complexity else {}
    if job.mirror:  # runs made before there were mirrors do not name them
        given["mirror"] = True
    return given | {
        "model": kind,
        kind: {k: v for k, v in job.model.to_dict().items() if v is not None},
        "samples": job.samples,
        "seed": job.seed,
        "heads": job.heads,
        "dtype": job.dtype,
        "device": job.device,
        "keep": 2.0**-job.keep_shift,
        "pool": job.pool,
    }


def check_samples(samples: Any) -> int:
    """A whole number >= 1 (1e7 is accepted) as int; else :class:`InputError`."""
    expected = "a whole number from 1 to 1e13"
    return Whole(1, MAX_SAMPLES, "pass for example 1e7", expected)("samples", samples)


def check_memory(memory: int | None) -> int:
    """Bytes to work in: the default, or the value if it is at least 64 MiB."""
    if memory is None:
        return DEFAULT_MEMORY
    least = Integer(2**26, remedy="pass for example --memory 2GB", expected="at least 64 MiB")
    return least("memory", memory)


def keep_shift(keep: float) -> int:
    """k for keep = 2^-k, 0 <= k <= 40; else :class:`InputError`."""
    shift = -np.log2(keep) if isinstance(keep, int | float) and 0 < keep <= 1 else -1.0
    if not 0 <= shift <= 40 or shift != int(shift):
        raise InputError(
            f"keep={shown(keep)}", "1, 1/2, 1/4, ... 2^-40", "pass for example --keep 1/64"
        )
    return int(shift)
