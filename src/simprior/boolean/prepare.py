"""From the arguments of a sampling run to its checked :class:`~simprior.boolean.job.Job`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simprior.boolean._kernel import GROUP
from simprior.boolean.dnf import RandomDNF
from simprior.boolean.heads import choose_heads
from simprior.boolean.job import Job
from simprior.checks import Choice, Integer, Whole, shown
from simprior.device import resolve_device
from simprior.errors import InputError
from simprior.network import Network, check_size
from simprior.rng import check_seed

DTYPES = ("float32", "float64")
DEFAULT_MEMORY = 4 * 2**30
MAX_SAMPLES = 10**13
MAX_HEADS = 1 << 16


def make_job(
    network: Network | RandomDNF, samples: int | float, seed: int, heads: int | str = "auto",
    device: str = "cpu", dtype: str = "float32", pool: bool = False, keep: float = 1.0,
) -> Job:  # fmt: skip
    """Checked :class:`Job`, its device and number of heads resolved (the pilot runs here)."""
    if not isinstance(network, Network | RandomDNF):
        raise InputError(
            f"network={shown(network)}", "a Network or a RandomDNF", "build one, e.g. Network(n=7)"
        )
    Choice(DTYPES, "pass dtype='float32'")("dtype", dtype)
    if pool and keep_shift(keep):
        raise InputError(
            f"pool with keep={keep!r}",
            "keep 1: classes need all their members",
            "leave one of the two out",
        )
    job = Job(
        model=network, samples=check_samples(samples), seed=check_seed(seed), dtype=dtype,
        device=resolve_device(device), keep_shift=keep_shift(keep), pool=pool,
    )  # fmt: skip
    if isinstance(network, RandomDNF):
        if not isinstance(heads, str | int) or heads not in ("auto", 1):
            raise InputError(
                f"heads={shown(heads)}", "1 or auto for a DNF network", "leave heads out"
            )
        return job
    check_size(network)
    if isinstance(heads, str) and heads == "auto":
        chosen, _ = choose_heads(job)
        return replace(job, heads=chosen)
    expected = f"an integer from 1 to {MAX_HEADS} or auto"
    heads = Integer(1, MAX_HEADS, "pass heads='auto'", expected)("heads", heads)
    return replace(job, heads=GROUP if network.depth == 0 else min(heads, job.samples))


def job_config(job: Job) -> dict[str, Any]:
    """What determines the result, for ``config.toml``; equal on resume."""
    kind = "dnf" if isinstance(job.model, RandomDNF) else "network"
    return {
        "model": kind,
        kind: {k: v for k, v in job.model.to_dict().items() if v is not None},
        "samples": job.samples, "seed": job.seed, "heads": job.heads,
        "dtype": job.dtype, "device": job.device,
        "keep": 2.0**-job.keep_shift, "pool": job.pool,
    }  # fmt: skip


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
