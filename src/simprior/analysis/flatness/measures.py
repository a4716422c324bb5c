"""The measures that need weights, by group: what ``simprior measure`` can compute of an ensemble.

What each column is (unit, source, whether alpha-rescaling of relu layers changes it) says
``analysis.measure_names``.

Groups compute in one thread: the matrices are small, and threads that wait for each other made the
whole five times slower on a busy machine (norms: 200 times). Use processes for more cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps

import numpy as np
import torch

from simprior.analysis.flatness import fisher, norms
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.hessian import hessian_top, hessian_trace
from simprior.analysis.flatness.sharpness import (
    ITERATIONS,
    RANDOM_RHO,
    RHO,
    STARTS,
    ZETA,
    keskar_sharpness,
    random_sharpness,
    sam_sharpness,
)
from simprior.analysis.flatness.sigma import TARGET, sigma_flatness
from simprior.analysis.flatness.volume import RAYS, local_volume
from simprior.errors import InputError
from simprior.threads import one_thread

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class WeightMeasure:
    """A group: its columns, ``compute(ensemble, seed, **options) -> {column: (N,) array}``, the
    names of its options, and whether it needs gradients."""

    columns: tuple[str, ...]
    compute: Callable[..., Columns]
    options: tuple[str, ...]
    gradients: bool


def _sharpness(
    ensemble: Ensemble, seed: int = 0, *, zeta: float = ZETA, sam_rho: float = RHO,
    random_rho: float = RANDOM_RHO, starts: int = STARTS, iterations: int = ITERATIONS,
    draws: int = 32,
) -> Columns:  # fmt: skip
    keskar = keskar_sharpness(ensemble, seed, zeta=zeta, starts=starts, iterations=iterations)
    sam = sam_sharpness(ensemble, seed, rho=sam_rho, iterations=iterations)
    mean, stderr = random_sharpness(ensemble, seed, rho=random_rho, draws=draws)
    return {
        "keskar": keskar.value, "keskar_converged": keskar.converged, "sam": sam.value,
        "sam_converged": sam.converged, "random_sharpness": mean,
        "random_sharpness_stderr": stderr,
    }  # fmt: skip


def _hessian(
    ensemble: Ensemble, seed: int = 0, *, trace: str = "auto", draws: int = 64,
    tolerance: float = 1e-7,
) -> Columns:  # fmt: skip
    top = hessian_top(ensemble, seed, tolerance=tolerance)
    whole = hessian_trace(ensemble, seed, method=trace, draws=draws)
    return {
        "hessian_top": top.value, "hessian_top_converged": top.converged,
        "hessian_trace": whole.value, "hessian_trace_stderr": whole.stderr,
    }  # fmt: skip


def _fisher(ensemble: Ensemble, seed: int = 0) -> Columns:
    return {"fisher_rao": fisher.fisher_rao(ensemble)}


def _sigma(
    ensemble: Ensemble, seed: int = 0, *, target: float = TARGET, criterion: str = "error",
    draws: int = 32,
) -> Columns:  # fmt: skip
    value, stderr = sigma_flatness(ensemble, seed, target=target, criterion=criterion, draws=draws)
    return {"sigma_flatness": value, "sigma_flatness_stderr": stderr}


def _norms(ensemble: Ensemble, seed: int = 0) -> Columns:
    return {
        "frobenius_norm": norms.frobenius_norm(ensemble),
        "spectral_norm": norms.spectral_norm(ensemble), "path_norm": norms.path_norm(ensemble),
        "distance_norm": norms.distance_norm(ensemble),
    }  # fmt: skip


def _margin(
    ensemble: Ensemble, seed: int = 0, *, quantile: float = norms.QUANTILE, normalise: bool = False
) -> Columns:
    return {"margin": norms.margin(ensemble, quantile=quantile, normalise=normalise)}


def _relative(ensemble: Ensemble, seed: int = 0, *, layer: int | None = None) -> Columns:
    return {"relative_flatness": fisher.relative_flatness(ensemble, layer=layer)}


def _volume(
    ensemble: Ensemble, seed: int = 0, *, volume_criterion: str = "labels",
    rise: float | None = None, rays: int = RAYS,
) -> Columns:  # fmt: skip
    found = local_volume(ensemble, seed, criterion=volume_criterion, rise=rise, rays=rays)
    return {"log_volume": found.value, "log_volume_stderr": found.stderr}


_OPTIONS = {
    "sharpness": ("zeta", "sam_rho", "random_rho", "starts", "iterations", "draws"),
    "hessian": ("trace", "draws", "tolerance"),
    "fisher": (),
    "sigma": ("target", "criterion", "draws"),
    "norms": (),
    "margin": ("quantile", "normalise"),
    "relative": ("layer",),
    "volume": ("volume_criterion", "rise", "rays"),
}  # fmt: skip


def _group(
    name: str, columns: tuple[str, ...], compute: Callable[..., Columns], gradients: bool
) -> WeightMeasure:

    @wraps(compute)
    def alone(*args: object, **keywords: object) -> Columns:
        with _single_thread():
            return compute(*args, **keywords)

    return WeightMeasure(columns, alone, _OPTIONS[name], gradients)


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """torch and its linear algebra use one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_thread():
            yield
    finally:
        torch.set_num_threads(before)


WEIGHT_MEASURES: dict[str, WeightMeasure] = {
    "sharpness": _group(
        "sharpness",
        ("keskar", "keskar_converged", "sam", "sam_converged", "random_sharpness",
         "random_sharpness_stderr"),
        _sharpness, True,
    ),
    "hessian": _group(
        "hessian",
        ("hessian_top", "hessian_top_converged", "hessian_trace", "hessian_trace_stderr"),
        _hessian, True,
    ),
    "fisher": _group("fisher", ("fisher_rao",), _fisher, True),
    "sigma": _group("sigma", ("sigma_flatness", "sigma_flatness_stderr"), _sigma, False),
    "norms": _group(
        "norms", ("frobenius_norm", "spectral_norm", "path_norm", "distance_norm"), _norms, False
    ),
    "margin": _group("margin", ("margin",), _margin, False),
    "relative": _group("relative", ("relative_flatness",), _relative, True),
    "volume": _group("volume", ("log_volume", "log_volume_stderr"), _volume, False),
}  # fmt: skip
"""Groups by name, in the order of the documentation."""


def measure_weights(
    ensemble: Ensemble, groups: list[str] | tuple[str, ...] | None = None, seed: int = 0,
    options: Mapping[str, object] | None = None,
) -> Columns:  # fmt: skip
    """All columns of the chosen groups (default: all), a (N,) array each.

    ``options`` go to every chosen group that has them. Raises :class:`InputError` on a group or an
    option that does not exist, or an activation without gradients where they are needed.
    """
    chosen = list(WEIGHT_MEASURES) if groups is None else list(groups)
    for name in chosen:
        if name not in WEIGHT_MEASURES:
            raise InputError(
                f"measure group {name!r}", f"one of {', '.join(WEIGHT_MEASURES)}",
                "check the spelling",
            )  # fmt: skip
    given = dict(options or {})
    known = [option for name in chosen for option in WEIGHT_MEASURES[name].options]
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"option {name}={value!r}", f"one of {', '.join(dict.fromkeys(known))}",
                "remove it",
            )  # fmt: skip
    out: Columns = {}
    for name in chosen:
        group = WEIGHT_MEASURES[name]
        own = {k: v for k, v in given.items() if k in group.options}
        out |= group.compute(ensemble, seed, **own)
    return out
