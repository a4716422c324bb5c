"""The measures that ``simprior measure`` knows: everything about each of them, told here only.

A group of measures (:class:`Group`) is one entry below, made by :func:`group` around the function
that computes it. The entry says the group's name for ``--measures``, its columns with labels, units
and sources, what it needs, and its line of docs/measures.md. The command line, the table, the
figures, the correlations and the documentation read it from here: a new measure is one new entry.

Loading this module is quick. The functions import what they compute with when they are called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from simprior.checks import shown, unknown
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from simprior.analysis.flatness.ensemble import Ensemble
    from simprior.analysis.measure.prior import Prior
    from simprior.analysis.measure.settings import Request
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.training.targets import Problem

    Columns = dict[str, np.ndarray]

IDENTITY = ("run", "member", "function")
SETTINGS = (
    *("optimizer", "lr", "batch_size", "loss", "train_size", "attack", "corrupt", "data_seed"),
    *(
        "seed",
        "architecture",
        "hidden",
        "depth",
        "width",
        "activation",
        "sigma_w",
        "sigma_b",
        "encoding",
    ),
    *("weight_dist", "options", "stop", "max_epochs", "check", "pretrain", "n", "m", "target"),
    "alpha",
)
OUTCOME = (
    *("fitted", "steps", "train_loss", "train_error", "test_error", "test_size"),
    *("held_out_error", "held_out_size", "total_error", "majority_error", "cluster"),
)
SAMPLED = {"test_error": "test_size", "held_out_error": "held_out_size"}
"""Outcomes that are shares of a sample of inputs, and the column with its size."""

NEVER = -1
MOST_BITS = 16
"""Families with a column a bit, or a degree, are listed for so many bits."""
PRIOR, FUNCTION, WEIGHTS = "prior", "function", "weights"
CHAINS = ("_stderr", "_converged", "_rhat", "_accepted", "_step", "_halved", "_halved_stderr")
"""Endings of what belongs to a measure that is drawn by Markov chains."""
SUFFIXES = ("_low", "_high", *CHAINS)
"""Endings of the columns that belong to a measure: its errors and limits, success of a search."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a column is.

    ``label`` without unit; ``unit`` ("1" for pure numbers); ``source``: paper or definition;
    ``weights``: needs trained weights, not only a function; ``moves``: changes when a relu layer is
    rescaled although the function does not; ``log``: the natural logarithm of the quantity that the
    source defines; ``also``: endings of the columns that come with it (of :data:`SUFFIXES`);
    ``bits``: there are inputs of at least so many bits; ``family``: how the documentation names the
    columns that differ in a number only; ``group``: filled in by the registry.
    """

    label: str
    unit: str = "1"
    source: str = ""
    weights: bool = False
    moves: bool = False
    log: bool = False
    also: tuple[str, ...] = ()
    bits: int = 0
    family: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Measures that are computed together: one name of ``--measures``.

    ``of`` decides with what ``compute`` is called; it returns a float64 (or bool) array of length
    F, or N, for every column:

    * ``FUNCTION``: ``compute(words, m, n, **settings)``, packed (F, W) functions on m inputs, all
      bit strings of n bits or, if n is 0, data;
    * ``WEIGHTS``: ``compute(ensemble, seed, **options)``, N trained networks, in one thread;
    * ``PRIOR``: ``compute(request, prior, problem, words, index)``, the functions that networks of
      one training run found, and the inputs that count.

    ``on_data``: ``(ensemble, points, request)``, what is computed in place where inputs are data;
    ``on_table``: ``(request, counts, rows, words)``, the same for rows of a table of functions.
    ``settings``: settings of a request that ``compute`` takes, and their names there.
    ``needs_bits``: the inputs must be all bit strings. ``gradients``: the activation must have a
    gradient. ``layered``: the networks must be fully connected, no torch modules. ``default``:
    measured if no groups are named. ``all_bits``: ``all`` includes it for at most so many bits
    (None: always; ``NEVER``: only by name). ``text``: its line in the documentation.
    """

    name: str
    of: str
    measures: Mapping[str, Measure]
    compute: Callable[..., Columns]
    on_data: Callable[..., Columns] | None = None
    on_table: Callable[..., Columns] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    needs_bits: bool = False
    gradients: bool = False
    layered: bool = False
    default: bool = False
    all_bits: int | None = None
    text: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that ``compute`` takes by keyword."""
        given = inspect.signature(self.compute).parameters.values()
        return tuple(p.name for p in given if p.kind is p.KEYWORD_ONLY)

    def columns(self, n: int = MOST_BITS) -> tuple[str, ...]:
        """Columns of functions of n bits, in order, with the errors that come with each."""
        return tuple(
            name + end
            for name, one in self.measures.items()
            if one.bits <= n and not (one.weights and self.of == FUNCTION)
            for end in ("", *one.also)
        )


GROUPS: dict[str, Group] = {}
"""What ``--measures`` accepts, besides ``all``, in the order of the table's columns."""
FUNCTION_GROUPS: dict[str, Group] = {}
"""Those that need nothing but a truth table."""
WEIGHT_GROUPS: dict[str, Group] = {}
"""Those that need trained weights."""
MEASURES: dict[str, Measure] = {}
"""Every column with a measure, by name."""


def register(new: Group) -> None:
    """Add a group of measures, which every command then knows."""
    measures = {
        name: replace(one, group=new.name, weights=one.weights or new.of == WEIGHTS)
        for name, one in new.measures.items()
    }
    new = replace(new, measures=measures)
    GROUPS[new.name] = new
    if new.of != PRIOR:
        (FUNCTION_GROUPS if new.of == FUNCTION else WEIGHT_GROUPS)[new.name] = new
    MEASURES.update(measures)


def group(
    name: str, of: str, measures: Mapping[str, Measure], **more: Any
) -> Callable[[Callable[..., Columns]], Callable[..., Columns]]:
    """Register the decorated function as what computes a group; see :class:`Group`."""

    def decorate(compute: Callable[..., Columns]) -> Callable[..., Columns]:
        made = _alone(compute) if of == WEIGHTS else compute
        register(Group(name=name, of=of, measures=measures, compute=made, **more))
        return made

    return decorate


def _alone(compute: Callable[..., Columns]) -> Callable[..., Columns]:
    """``compute`` in one thread.

    The matrices are small, and threads that wait for each other make the whole five times slower on
    a busy machine (norms: 200 times). Processes use more cores.
    """

    @wraps(compute)
    def run(*args: object, **keywords: object) -> Columns:
        from simprior.runs.tasks import one_torch_thread

        with one_torch_thread():
            return compute(*args, **keywords)

    return run


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None: of others a function has its own default."""
    return {name: value for name, value in options.items() if value is not None}


_VALLE = "Valle-Perez, Camargo & Louis 2019"
_QUINE = "Quine 1952"
_FRANCO = "Franco & Anthony 2006"
_ARPIT = "Arpit et al. 2017"
_WALSH = "O'Donnell 2014, Analysis of Boolean Functions, ch. 1-3"
_JIANG = "Jiang et al. 2020, appendix C"
_LOSS, _LENGTH = "unit of the loss", "unit of the weights"
_STDERR, _CONVERGED = ("_stderr",), ("_converged",)


def _log_p_of_table(
    request: Request, counts: FunctionCounts, rows: np.ndarray, words: np.ndarray
) -> Columns:
    from simprior.analysis.measure.prior import Prior, sampled_log_p
    from simprior.network.spec import Network

    columns = sampled_log_p(counts, rows)
    model = counts.info.get("model")
    if isinstance(model, Network):
        columns |= Prior(model, request.seed, **request.prior_options()).log_p(words)
    return columns


@group(
    "prior",
    PRIOR,
    {
        "log_p": Measure(label="ln P(f)", unit="nats", source=_VALLE, log=True, also=_STDERR),
        "log_p_sampled": Measure(
            label="ln P(f), sampled", unit="nats", source=_VALLE, log=True, also=_STDERR
        ),
    },
    on_table=_log_p_of_table,
    default=True,
    text="ln P(f) under the infinite-width prior, on all bit strings, or on the training and test "
    "inputs of data (not the attack points: their number would decide it); with `--prior-from RUN`,"
    " or for tables of `simprior sample`, `log_p_sampled` and `count` from frequencies "
    "([GP priors](gp.md))",
)
def _log_p(
    request: Request, prior: Prior, problem: Problem, words: np.ndarray, index: np.ndarray
) -> Columns:
    from simprior.analysis.measure.prior import looked_up

    columns = prior.log_p(words, index)
    if request.prior_from is not None:
        columns |= looked_up(request.prior_from, words, prior.m, prior.level)
    return columns


@group(
    "bound",
    PRIOR,
    {
        "log_evidence": Measure(
            label="ln P(C(S))", unit="nats", source=_VALLE, log=True, also=_STDERR
        ),
        "bound": Measure(
            label="PAC-Bayes bound on the error", source=_VALLE, also=("_low", "_high")
        ),
    },
    text="ln P(C(S)) and the PAC-Bayes bound of what was fitted: of the training set, the same for "
    "all its networks ([GP priors](gp.md))",
)
def _bound(
    request: Request, prior: Prior, problem: Problem, words: np.ndarray, index: np.ndarray
) -> Columns:
    import numpy as np

    from simprior.analysis.measure.prior import bound_columns

    found = bound_columns(prior, problem, request.delta)
    return {name: np.full(len(words), value) for name, value in found.items()}


_COMPLEXITY = "([complexity](complexity.md))"


@group(
    "lz",
    FUNCTION,
    {
        "lz76": Measure(
            label="LZ complexity", unit="bits", source="Dingle, Camargo & Louis 2018, eq. 5"
        ),
        "lz76_truncated": Measure(
            label="LZ complexity (truncated)", unit="bits", source="Mingard 2025"
        ),
    },
    default=True,
    text=f"Lempel-Ziv complexity of the truth table {_COMPLEXITY}",
)
def _lz(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.complexity import lz76_packed, lz76_truncated_packed

    return {"lz76": lz76_packed(words, m), "lz76_truncated": lz76_truncated_packed(words, m)}


@group(
    "entropy",
    FUNCTION,
    {
        "entropy": Measure(label="entropy of the outputs", unit="bits", source="Shannon 1948"),
        "ones": Measure(label="number of ones", source="T(f)"),
    },
    text=f"balance of the outputs {_COMPLEXITY}",
)
def _entropy(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.complexity import entropy_packed, ones_packed

    return {"entropy": entropy_packed(words, m), "ones": ones_packed(words, m).astype(float)}


@group(
    "dnf",
    FUNCTION,
    {
        "dnf_terms": Measure(label="terms of the minimal DNF", source=_QUINE),
        "dnf_literals": Measure(label="literals of the minimal DNF", source=_QUINE),
        "cnf_clauses": Measure(label="clauses of the minimal CNF", source=_QUINE),
        "cnf_literals": Measure(label="literals of the minimal CNF", source=_QUINE),
        "dnf_exact": Measure(label="DNF and CNF are minimal", unit="0 or 1"),
    },
    needs_bits=True,
    all_bits=4,
    text=f"size of the minimal normal forms {_COMPLEXITY}",
)
def _dnf(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.logic import normal_forms_packed

    return normal_forms_packed(words, m)


@group(
    "gc",
    FUNCTION,
    {
        "gc1": Measure(label="generalisation complexity, distance 1", source=_FRANCO),
        "gc2": Measure(label="generalisation complexity, distance 2", source=_FRANCO),
        "gc": Measure(label="generalisation complexity", source=_FRANCO),
    },
    needs_bits=True,
    text=f"pairs of close inputs with different outputs {_COMPLEXITY}",
)
def _gc(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.sensitivity import generalisation_complexity_packed

    return generalisation_complexity_packed(words, m)


@group(
    "csr",
    FUNCTION,
    {"csr": Measure(label="critical sample ratio", source=_ARPIT)},
    needs_bits=True,
    text=f"share of inputs next to one of the other class {_COMPLEXITY}",
)
def _csr(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.sensitivity import sensitivity_packed

    return {"csr": sensitivity_packed(words, m)["csr"]}


@group(
    "walsh",
    FUNCTION,
    {
        "walsh_linf": Measure(label="largest Walsh coefficient", source=_WALSH),
        "walsh_l1": Measure(label="L1 norm of the Walsh spectrum", source=_WALSH),
        "walsh_degree": Measure(label="Walsh degree", source=_WALSH),
        "walsh_mean_degree": Measure(label="mean Walsh degree", source=_WALSH),
        **{
            f"walsh_weight_{k}": Measure(
                label=f"Walsh weight of degree {k}", source=_WALSH, bits=k, family="walsh_weight_k"
            )
            for k in range(MOST_BITS + 1)
        },
    },
    needs_bits=True,
    text=f"size and degree of the Walsh-Fourier coefficients {_COMPLEXITY}",
)
def _walsh(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.sensitivity import walsh_packed

    return walsh_packed(words, m)


def _box_csr(ensemble: Ensemble, points: np.ndarray, request: Request) -> Columns:
    from simprior.analysis.strings.search import box_csr

    return box_csr(ensemble, points, request.radius, request.seed)


@group(
    "sensitivity",
    FUNCTION,
    {
        "average_sensitivity": Measure(label="average sensitivity", source=_WALSH),
        "max_sensitivity": Measure(label="sensitivity", source="Cook et al. 1986"),
        "block_sensitivity": Measure(label="block sensitivity", source="Nisan 1991"),
        "noise_stability": Measure(label="noise stability", source=_WALSH),
        "box_csr": Measure(
            label="critical sample ratio in a box", source=_ARPIT, weights=True, also=_STDERR
        ),
    },
    on_data=_box_csr,
    settings={"noise": "rho"},
    needs_bits=True,
    default=True,
    text="how many single bits, or blocks of them, change the output; on data `box_csr` alone, of "
    "the weights: share of inputs with another class within `--radius` "
    "([sensitivity](sensitivity.md))",
)
def _sensitivity(words: np.ndarray, m: int, n: int, rho: float = 0.9) -> Columns:
    """Average, largest, block sensitivity (NaN beyond 10 bits) and noise stability at ``rho``."""
    import numpy as np

    from simprior.boolean.sensitivity import (
        BLOCK_BITS,
        block_sensitivity_packed,
        noise_stability_packed,
        sensitivity_packed,
    )

    found = sensitivity_packed(words, m)
    del found["csr"]
    blocks = np.full(len(words), np.nan)
    if n <= BLOCK_BITS:
        blocks = block_sensitivity_packed(words, m)
    stability = noise_stability_packed(words, m, rho)
    return found | {"block_sensitivity": blocks, "noise_stability": stability}


@group(
    "influence",
    FUNCTION,
    {
        f"influence_{i}": Measure(
            label=f"influence of bit {i}", source=_WALSH, bits=i, family="influence_i"
        )
        for i in range(1, MOST_BITS + 1)
    },
    needs_bits=True,
    all_bits=0,
    text=f"share of inputs whose output changes with a bit {_COMPLEXITY}",
)
def _influence(words: np.ndarray, m: int, n: int) -> Columns:
    from simprior.boolean.sensitivity import influences_packed

    return {f"influence_{i + 1}": c.copy() for i, c in enumerate(influences_packed(words, m).T)}


_FLATNESS = "([flatness](flatness.md))"


@group(
    "sharpness",
    WEIGHTS,
    {
        "keskar": Measure(
            label="Keskar sharpness",
            unit="%",
            source="Keskar et al. 2017, metric 2.1",
            moves=True,
            also=_CONVERGED,
        ),
        "sam": Measure(
            label="SAM sharpness",
            unit=_LOSS,
            source="Foret et al. 2021, eq. 1",
            moves=True,
            also=_CONVERGED,
        ),
        "random_sharpness": Measure(
            label="random-direction sharpness",
            unit=_LOSS,
            source="mean rise over a sphere",
            moves=True,
            also=_STDERR,
        ),
    },
    settings={"zeta": "zeta"},
    gradients=True,
    default=True,
    text=f"rise of the loss close to the weights {_FLATNESS}",
)
def _sharpness(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    zeta: float | None = None,
    sam_rho: float | None = None,
    random_rho: float | None = None,
    starts: int | None = None,
    iterations: int | None = None,
    draws: int | None = None,
) -> Columns:
    from simprior.analysis.flatness import sharpness

    search = _given(iterations=iterations)
    keskar = sharpness.keskar_sharpness(
        ensemble, seed, **search, **_given(zeta=zeta, starts=starts)
    )
    sam = sharpness.sam_sharpness(ensemble, seed, **search, **_given(rho=sam_rho))
    mean, stderr = sharpness.random_sharpness(ensemble, seed, **_given(rho=random_rho, draws=draws))
    return {
        "keskar": keskar.value,
        "keskar_converged": keskar.converged,
        "sam": sam.value,
        "sam_converged": sam.converged,
        "random_sharpness": mean,
        "random_sharpness_stderr": stderr,
    }


@group(
    "hessian",
    WEIGHTS,
    {
        "hessian_top": Measure(
            label="largest Hessian eigenvalue",
            unit=_LOSS,
            source="largest eigenvalue of the Hessian of the loss",
            moves=True,
            also=_CONVERGED,
        ),
        "hessian_trace": Measure(
            label="trace of the Hessian",
            unit=_LOSS,
            source="trace of the Hessian of the loss",
            moves=True,
            also=_STDERR,
        ),
    },
    gradients=True,
    text=f"curvature of the loss {_FLATNESS}",
)
def _hessian(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    trace: str | None = None,
    draws: int | None = None,
    tolerance: float | None = None,
) -> Columns:
    from simprior.analysis.flatness.geometry import hessian_top, hessian_trace

    top = hessian_top(ensemble, seed, **_given(tolerance=tolerance))
    whole = hessian_trace(ensemble, seed, **_given(method=trace, draws=draws))
    return {
        "hessian_top": top.value,
        "hessian_top_converged": top.converged,
        "hessian_trace": whole.value,
        "hessian_trace_stderr": whole.stderr,
    }


@group(
    "fisher",
    WEIGHTS,
    {
        "fisher_rao": Measure(
            label="Fisher-Rao norm", unit=_LOSS, source="Liang et al. 2019, definition 2"
        )
    },
    gradients=True,
    text=f"length of the weights in the Fisher metric {_FLATNESS}",
)
def _fisher(ensemble: Ensemble, seed: int = 0) -> Columns:
    from simprior.analysis.flatness.geometry import fisher_rao

    return {"fisher_rao": fisher_rao(ensemble)}


@group(
    "sigma",
    WEIGHTS,
    {
        "sigma_flatness": Measure(
            label="PAC-Bayes flatness, σ", unit=_LENGTH, source=_JIANG, moves=True, also=_STDERR
        )
    },
    text=f"noise on the weights that raises the training error by 0.1 {_FLATNESS}",
)
def _sigma(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    target: float | None = None,
    criterion: str | None = None,
    draws: int | None = None,
) -> Columns:
    from simprior.analysis.flatness.volume import sigma_flatness

    options = _given(target=target, criterion=criterion, draws=draws)
    value, stderr = sigma_flatness(ensemble, seed, **options)
    return {"sigma_flatness": value, "sigma_flatness_stderr": stderr}


@group(
    "norms",
    WEIGHTS,
    {
        "frobenius_norm": Measure(label="Frobenius norm", unit=_LENGTH, source=_JIANG, moves=True),
        "spectral_norm": Measure(
            label="ln product of spectral norms",
            source="first factor of Bartlett et al. 2017, eq. 1.2",
            log=True,
        ),
        "path_norm": Measure(label="ln path norm", source="Neyshabur et al. 2015", log=True),
        "distance_norm": Measure(
            label="distance from initialisation", unit=_LENGTH, source=_JIANG, moves=True
        ),
    },
    default=True,
    text=f"size of the weights {_FLATNESS}",
)
def _norms(ensemble: Ensemble, seed: int = 0) -> Columns:
    from simprior.analysis.flatness import geometry as norms

    names = ["frobenius_norm", "spectral_norm", "path_norm", "distance_norm"]
    return {name: getattr(norms, name)(ensemble) for name in names}


@group(
    "margin",
    WEIGHTS,
    {
        "margin": Measure(
            label="output margin, 10 % quantile", unit="unit of the output", source=_JIANG
        )
    },
    text=f"distance of the outputs from the threshold of the class {_FLATNESS}",
)
def _margin(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    quantile: float | None = None,
    normalise: bool | None = None,
) -> Columns:
    from simprior.analysis.flatness.geometry import margin

    return {"margin": margin(ensemble, **_given(quantile=quantile, normalise=normalise))}


@group(
    "relative",
    WEIGHTS,
    {
        "relative_flatness": Measure(
            label="relative flatness", unit=_LOSS, source="Petzka et al. 2021, definition 3"
        )
    },
    gradients=True,
    layered=True,
    text=f"curvature times size of the weights of one layer {_FLATNESS}",
)
def _relative(ensemble: Ensemble, seed: int = 0, *, layer: int | None = None) -> Columns:
    from simprior.analysis.flatness.geometry import relative_flatness

    return {"relative_flatness": relative_flatness(ensemble, layer=layer)}


@group(
    "volume",
    WEIGHTS,
    {
        "log_volume": Measure(
            label="ln local volume",
            unit="nats",
            source="Wu, Zhu & E 2017; Scherlis & Belrose 2025",
            moves=True,
            log=True,
            also=_STDERR,
        )
    },
    text=f"volume around the weights in which no class changes {_FLATNESS}",
)
def _volume(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    volume_criterion: str | None = None,
    rise: float | None = None,
    rays: int | None = None,
) -> Columns:
    from simprior.analysis.flatness.volume import local_volume

    options = _given(criterion=volume_criterion, rise=rise, rays=rays)
    found = local_volume(ensemble, seed, **options)
    return {"log_volume": found.value, "log_volume_stderr": found.stderr}


def _learning_coefficient(ensemble: Ensemble, seed: int, name: str, **options: Any) -> Columns:
    """The columns of ``llc``, or of ``llc_sgld``, by the method that the name says."""
    from simprior.analysis.flatness.llc import Chains, ensemble_llc

    found = ensemble_llc(ensemble, seed, Chains(**_given(**options)))
    ends = (end.removeprefix("_") for end in CHAINS)
    return {name: found.value, **{f"{name}_{end}": getattr(found, end) for end in ends}}


_LLC = Measure(
    label="local learning coefficient",
    source="Lau et al. 2023",
    moves=True,
    also=CHAINS,
)


@group(
    "llc",
    WEIGHTS,
    {"llc": _LLC},
    gradients=True,
    all_bits=NEVER,
    text="local learning coefficient, by chains with Metropolis' correction; `_rhat`, and the same "
    f"at half the step (`_halved`) {_FLATNESS}",
)
def _llc(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    chains: int | None = None,
    warmup: int | None = None,
    draws: int | None = None,
    leaps: int | None = None,
    gamma: float | None = None,
) -> Columns:
    options = {"chains": chains, "warmup": warmup, "draws": draws, "leaps": leaps, "gamma": gamma}
    return _learning_coefficient(ensemble, seed, "llc", **options)


@group(
    "llc-sgld",
    WEIGHTS,
    {"llc_sgld": replace(_LLC, label="local learning coefficient, SGLD")},
    gradients=True,
    all_bits=NEVER,
    text="the same by Langevin steps without correction, to compare: its value depends on the step "
    f"{_FLATNESS}",
)
def _llc_sgld(
    ensemble: Ensemble,
    seed: int = 0,
    *,
    chains: int | None = None,
    warmup: int | None = None,
    draws: int | None = None,
    leaps: int | None = None,
    gamma: float | None = None,
    step: float | None = None,
) -> Columns:
    import logging

    logging.getLogger("simprior").warning(
        "llc-sgld: without Metropolis' correction the value depends on the step; "
        "where llc_sgld_converged is false it says nothing (use llc)"
    )
    options = {"chains": chains, "warmup": warmup, "draws": draws, "leaps": leaps, "gamma": gamma}
    return _learning_coefficient(ensemble, seed, "llc_sgld", method="sgld", step=step, **options)


def measure_weights(
    ensemble: Ensemble,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
) -> Columns:
    """All columns of the chosen groups of weights (default: those of ``all``), (N,) arrays.

    ``options`` go to every chosen group that has them. Raises :class:`InputError` on a group or an
    option that does not exist, or an activation without gradients where they are needed.
    """
    usual = [name for name, one in WEIGHT_GROUPS.items() if one.all_bits is None]
    chosen = usual if groups is None else list(groups)
    for name in chosen:
        if name not in WEIGHT_GROUPS:
            known = ", ".join(WEIGHT_GROUPS)
            raise InputError(f"measure group {name!r}", f"one of {known}", "check the spelling")
    given = dict(options or {})
    known_options = dict.fromkeys(o for name in chosen for o in WEIGHT_GROUPS[name].options)
    for name, value in given.items():
        if name not in known_options:
            expected = f"one of {', '.join(known_options)}"
            raise InputError(f"option {name}={value!r}", expected, "remove it")
    out: Columns = {}
    for name in chosen:
        one = WEIGHT_GROUPS[name]
        out |= one.compute(ensemble, seed, **{k: v for k, v in given.items() if k in one.options})
    return out


def columns() -> list[str]:
    """Names of settings, outcomes and measures of a table, without their errors and limits."""
    return [*IDENTITY, *SETTINGS, *OUTCOME, "rank", "count", "stage", *MEASURES]


def is_column(name: str) -> bool:
    """Whether a table may have this column."""
    known = set(columns())
    return name in known or any(
        name.endswith(end) and name.removesuffix(end) in known for end in SUFFIXES
    )


def measure_columns(frame: pd.DataFrame) -> list[str]:
    """Columns of a table with a measure (:data:`MEASURES`), in order."""
    return [name for name in map(str, frame.columns) if name in MEASURES]


def group_names(measures: str | Sequence[str]) -> list[str]:
    """The names in a list of groups, with commas or not."""
    if not isinstance(measures, str | Sequence):
        raise InputError(f"measures={shown(measures)}", "names of groups", "pass for example lz")
    given = measures.split(",") if isinstance(measures, str) else list(measures)
    return [str(name).strip() for name in given if str(name).strip()]


def check_names(measures: str | Sequence[str] | None) -> None:
    """Raise :class:`InputError` for no group at all or one that does not exist."""
    if measures is None:
        return
    names = group_names(measures)
    if not names:
        raise InputError("measures=''", f"some of {', '.join(GROUPS)}, all", "pass for example lz")
    for name in names:
        if name not in (*GROUPS, "all"):
            raise unknown(f"measures={name}", name, (*GROUPS, "all"))


def reference() -> str:
    """The table of docs/measures.md: a row a group, with its columns and units."""
    rows = ["| `--measures` | columns | what they are |", "|---|---|---|"]
    for one in GROUPS.values():
        named = dict.fromkeys(
            f"`{measure.family or name}`" + ("" if measure.unit == "1" else f" ({measure.unit})")
            for name, measure in one.measures.items()
        )
        rows.append(f"| `{one.name}` | {', '.join(named)} | {one.text} |")
    return "\n".join(rows)
