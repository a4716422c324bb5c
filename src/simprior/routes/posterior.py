"""The Bayesian posterior over the functions of a problem, P_B(f|S), by any method.

============  ================================================================================
gp            infinite width, exact draws: of the truncated Gaussian (likelihood ``step``), of the
              Gaussian (``squared``)
ep            infinite width, the Gaussian approximation used in the literature
features      random features: ONE draw of the hidden layers is kept, the last layer is Bayesian;
              exact, as ``gp`` with the kernel of these features
rejection     finite width, exact: prior draws that fit S
slice         finite width: elliptical slice sampling of the parameters
smc           finite width: networks annealed from the prior until they fit S, in independent runs;
              with ln P(C(S)) of the finite network
hmc, nuts     finite width: a likelihood with a gradient (``logistic`` or ``squared``)
============  ================================================================================

Likelihoods of a label y_j = +-1 given the output z_j: ``step`` (the sign of z_j is y_j),
``logistic`` (sigmoid(beta y_j z_j)), ``squared`` (exp(-(y_j - z_j)^2 / 2 v), v the ``noise``
variance, or temperature).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from simprior.boolean.sampling.chains import stored_posterior
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.checks import (
    RUN_OPTIONS,
    Choice,
    Kind,
    Maybe,
    Number,
    checked,
)
from simprior.errors import NumericalError, SimpriorError
from simprior.gp.sampled import MOST_SECOND, Jackknife, SampledKernel, over_groups
from simprior.modules.spec import Module, network_only
from simprior.network.density import refuse_density
from simprior.network.spec import Network
from simprior.numerics.estimate import share_stderr
from simprior.routes.evidence import SEED, kernel_of, log_evidence
from simprior.routes.methods import DEFAULTS, OF_MODULES, OPTIONS, check_method
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions
from simprior.training.targets import Problem, key_of


@checked(
    **{name: RUN_OPTIONS[name] for name in ("workers", "out", "resume", "overwrite", "progress")},
    problem=Kind(("Problem",)),
    seed=SEED,
    noise=Maybe(Number(0, open=True)),
)
def posterior(
    problem: Problem,
    method: str = "gp",
    samples: int | float = 10**5,
    seed: int = 0,
    *,
    likelihood: str | None = None,
    noise: float | None = None,
    workers: int = 1,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> FunctionCounts:
    """Draw functions from the Bayesian posterior of a problem.

    Parameters
    ----------
    problem : Problem
        Network, training set (with its corruption and attack points) and true labels. Functions
        are labellings of all inputs of the problem.
    method : str
        See the module docstring. The widths of the network matter for all but ``gp`` and ``ep``,
        which are also those for a ``Module``.
    samples : int
        Functions to draw.
    seed : int
        Of the draws; the training set has the seed of the problem.
    likelihood : str, optional
        ``step``, ``logistic`` or ``squared``; by default the first that the method knows.
    noise : float, optional
        Variance of the noise of the squared likelihood (default 0.1).
    workers, out, resume, overwrite, progress
        As in :func:`simprior.sample`.
    options
        ``gp`` and ``ep`` of a module: ``kernel_draws``, as of :func:`simprior.log_prior`.
        ``rejection``: ``max_draws``. ``slice``, ``hmc``, ``nuts``: ``chains``, ``thin``,
        ``burn_in``; ``slice``: ``start``; ``hmc`` and ``nuts``: ``beta``. ``smc``: ``particles``,
        ``runs``, ``max_particles``, ``thin``. See the functions in
        :mod:`simprior.training.posterior` and :func:`simprior.finite.smc_posterior`.

    Returns
    -------
    FunctionCounts
        ``info["posterior"]`` says what is known about the draws: among others ``error`` and
        ``error_stderr``, the mean share of test inputs where a draw differs from the true labels;
        ``target_p`` with its interval, P_B of the target; ``converged`` of chains.

    Raises
    ------
    InputError, NumericalError, StoreError, Interrupted
        Among others for an option that the method does not have.
    """
    how = RunOptions.of(locals())
    likelihood = check_method(method, likelihood, noise, options)
    if isinstance(problem.network, Module):
        remedy = "use one of these, or describe the network by a Network"
        Choice(OF_MODULES, remedy, f"{' or '.join(OF_MODULES)} with a torch module")(
            "method", method
        )
    own = {name: DEFAULTS.get(name) for name in OPTIONS[method]} | options
    if likelihood == "squared":
        own.pop("beta", None)
        own["noise"] = DEFAULTS["noise"] if noise is None else float(noise)
    options = {name: value for name, value in own.items() if value is not None}
    wanted = _Wanted(problem, method, likelihood, samples, seed, options)

    def draw(store: RunDir | None) -> FunctionCounts:
        return wanted.draw(workers=workers, progress=progress, store=store)

    if out is None:
        counts = draw(None)
        counts.info["posterior"] |= _about(problem, counts)
        counts.info["posterior"].pop("train_index")
        return counts
    problem.network.check_storable()
    config = posterior_config(problem, method, samples, seed)
    config |= {} if likelihood != "squared" else {"likelihood": likelihood}
    return stored_posterior(draw, config | options, how, partial(_about, problem))


def agreement(reports: Mapping[str, Mapping[str, Any]], level: float = 0.95) -> str:
    """Whether methods agree in the mean test error of their draws, in a sentence.

    ``reports`` are ``info["posterior"]`` of each. All pairs are compared by the difference over its
    standard error; together they say "differ" of equal ones in 1 - ``level`` of cases at most
    (Bonferroni). A method that gives its error without a standard error, since it doubts it, is
    said to have not converged and is not compared.
    """
    errors = {
        name: (r["error"], _known(r["error_stderr"])) for name, r in reports.items() if "error" in r
    }
    said = ", ".join(
        f"{name} {e:.4f} " + ("(not converged)" if math.isnan(se) else f"± {se:.2g}")
        for name, (e, se) in errors.items()
    )
    trusted = [name for name, (_, stderr) in errors.items() if not math.isnan(stderr)]
    pairs = list(itertools.combinations(trusted, 2))
    if not pairs:
        return f"Mean test error: {said}."
    gaps = {}
    for a, b in pairs:
        (x, sx), (y, sy) = errors[a], errors[b]
        gaps[a, b] = abs(x - y) / math.hypot(sx, sy)
    worst = max(pairs, key=lambda pair: gaps[pair])
    limit = NormalDist().inv_cdf(1.0 - (1.0 - level) / 2.0 / len(pairs))
    largest = f"{worst[0]} and {worst[1]} are {gaps[worst]:.1f} standard errors apart"
    if gaps[worst] > limit:
        return f"Mean test error: {said}. They differ: {largest}."
    return f"Mean test error: {said}. No difference is shown: {largest}."


def _known(stderr: float | None) -> float:
    """A standard error; nan where there is none (a report that was read from a file has None)."""
    return math.nan if stderr is None else float(stderr)


def posterior_config(
    problem: Problem, method: str, samples: int | float, seed: int
) -> dict[str, Any]:
    """What determines the draws, but for the options of the method.

    For a Boolean target the names are those of the flags; of other problems it is what a training
    run records too (``architecture``, ``problem``).
    """
    network = problem.network
    law = {k: v for k, v in network.to_dict().items() if v is not None}
    if law["weight_dist"] == "gaussian":
        del law["weight_dist"]
    chosen = {"method": method, "samples": samples, "seed": seed}
    if problem.settings or problem.source:
        law.pop("inputs", None)
        return {key_of(problem): law, "problem": problem.describe(), **chosen}
    config: dict[str, Any] = {"modules" if isinstance(network, Module) else "network": law}
    config["target"] = problem.target_text if problem.name == "given" else problem.name
    config["train"] = len(problem.train_index)
    if not _is_drawn(problem):
        config["train"] = problem.train_index.tolist()
    config |= chosen
    if problem.corrupt:
        config["corrupt"] = problem.corrupt
    if len(problem.attack_index):
        config["attack"] = len(problem.attack_index)
    if problem.seed != seed:
        config["data_seed"] = problem.seed
    return config


def _is_drawn(problem: Problem) -> bool:
    """Whether the training set is the one that its size and the seed of the problem give."""
    from simprior.training.targets import draw_training_set

    index = problem.train_index
    return np.array_equal(draw_training_set(problem.m, len(index), problem.seed), index)


def _about(problem: Problem, counts: FunctionCounts) -> dict[str, Any]:
    """What the report says of the target and the training set."""
    p, low, high = counts.share(problem.target)
    if kernel := 1.96 * counts.info["posterior"].get("target_p_kernel_stderr", 0.0):
        low = max(0.0, p - math.hypot(p - low, kernel))
        high = min(1.0, p + math.hypot(high - p, kernel))
    fitted = problem.fitted_index
    truth = problem.target[fitted]
    found: dict[str, Any] = {"target": problem.target_text, "train": len(problem.train_index)}
    found |= {"target_p": p, "target_p_low": low, "target_p_high": high}
    wrong = int((truth != problem.labels).sum())
    if wrong:
        found["wrong_labels"] = wrong
    return found | {"train_index": fitted.tolist()}


@dataclass(frozen=True)
class _Wanted:
    """The draws that are wanted, and the options of the method that is to give them."""

    problem: Problem
    method: str
    likelihood: str
    samples: int | float
    seed: int
    options: dict[str, Any]

    @property
    def given(self) -> tuple[np.ndarray, np.ndarray, int | float, int]:
        """The training set with its labels, how many draws, their seed."""
        return self.problem.fitted_index, self.problem.labels, self.samples, self.seed

    def draw(self, **how: Any) -> FunctionCounts:
        """Counts by the chosen method; ``how``: workers, progress, store."""
        problem, method, network = self.problem, self.method, self.problem.network
        if method == "features":
            return _gaussian(
                self, features(network_only(network, "method features"), self.seed), how
            )
        if method in ("gp", "ep"):
            K = kernel_of(network, 1, (), self.options.get("kernel_draws"), self.seed)
            if isinstance(K, SampledKernel):
                return _of_sampled(self, K, how)
            return _gaussian(self, K, how)
        from simprior import finite
        from simprior.training import posterior as chains

        if method == "rejection":
            _check_hope(problem, float(self.options["max_draws"]))
        home = finite if method == "smc" else chains
        name = f"{method}_posterior"
        if method == "slice" and isinstance(network, Module):
            name = f"module_{name}"
        function: Callable[..., FunctionCounts] = getattr(home, name)
        return function(network, *self.given, target=problem.target, **self.options, **how)


_HOPELESS = -30.0  # ln of the expected number of prior draws that fit S
_MOST = 500  # examples for which ln P(C(S)) takes seconds


def _check_hope(problem: Problem, draws: float) -> None:
    """Refuse a rejection that would go on for hours and keep nothing.

    ln P(C(S)) is that of infinite width. Real networks fit S more often, by up to e^26 for the
    targets that were looked at (docs/finite-width.md): what is refused is far beyond that.

    Raises :class:`NumericalError`.
    """
    if problem.size > _MOST:
        return
    try:
        evidence = log_evidence(problem, draws=1024)
    except SimpriorError:  # no kernel, or labels that only a finite network can give: just draw
        return
    if isinstance(problem.network, Module) and not evidence.diagnostics["reliable"]:
        return
    if evidence.value + math.log(draws) < _HOPELESS:
        raise NumericalError(
            f"rejection: ln P(C(S)) of the {problem.size} training labels is about "
            f"{evidence.value:.0f} nats, so that none of {draws:.0e} networks would agree: "
            "expected at least one; use slice sampling or the Gaussian process, or a smaller "
            "training set"
        )


def _gaussian(wanted: _Wanted, K: np.ndarray, how: dict[str, Any]) -> FunctionCounts:
    from simprior.gp.posterior import sample_posterior
    from simprior.gp.regression import sample_regression

    problem = wanted.problem
    how = {k: v for k, v in wanted.options.items() if k != "kernel_draws"} | how
    how |= {"target": problem.target, "n": problem.n if problem.n else 0}
    if wanted.likelihood == "squared":
        how.pop("store", None)
        counts = sample_regression(K, *wanted.given, **how)
    else:
        kind = "ep" if wanted.method == "ep" else "exact"
        counts = sample_posterior(K, *wanted.given, kind, **how)
    if wanted.method == "features":
        counts.info["posterior"]["method"] = "features"
    return counts


_FEW = 2000  # draws at a time, of the error that a sampled kernel makes


def _of_sampled(wanted: _Wanted, kernel: SampledKernel, how: dict[str, Any]) -> FunctionCounts:
    """Draws with a sampled kernel, whose own error is part of the numbers that are reported.

    The posterior of fewer draws (``_FEW``) is drawn from the kernels of groups and of halves of the
    networks. By the rules of :mod:`simprior.gp.sampled` they give the noise and the bias of the
    mean test error, of ln P(C(S)) and of P(target|S). The functions counted have the bias, so that
    it is not taken off, but counts as an error. It is added to ``error_stderr`` and
    ``log_evidence_stderr``; ``target_p_kernel_stderr`` has it, since the intervals of single
    functions are those of the draws alone. As ln P, it is not reliable beyond half a nat of
    second-order bias.
    """
    few = replace(wanted, samples=min(int(wanted.samples), _FEW))

    def of(K: np.ndarray) -> list[float]:
        counts = _gaussian(few, K, {"workers": how["workers"]})
        found = counts.info["posterior"]
        return [found["error"], found["log_evidence"], counts.share(wanted.problem.target)[0]]

    counts = _gaussian(wanted, kernel.K, how)
    report = counts.info["posterior"]
    found = [Jackknife.of(*column) for column in over_groups(kernel, of)]
    error, evidence, target = (math.hypot(j.noise, j.bias, j.second) for j in found)
    target = target or float(share_stderr(0.0, few.samples))  # no kernel gave it, or all always did
    report["error_stderr"] = math.hypot(report["error_stderr"], error)
    report["log_evidence_stderr"] = math.hypot(report["log_evidence_stderr"], evidence)
    report |= {"kernel_draws": kernel.draws, "target_p_kernel_stderr": target}
    if kernel.singular or abs(found[1].second) > MOST_SECOND:
        report["reliable"] = False
    logging.getLogger("simprior").warning(
        "the kernel is sampled: error_stderr, log_evidence_stderr and the interval of the target "
        "hold its error, those of other functions do not (of the target's P it is %.2g)",
        target,
    )
    return counts


def features(network: Network, seed: int) -> np.ndarray:
    """(m, m) covariance of the outputs given one draw of the hidden layers, by ``seed``.

    K = sigma_w^2 / p h h^T + sigma_b^2 with the p activations h of the last hidden layer: what
    random features (Rahimi & Recht 2007) give, and the last layer of the finite network exactly.
    """
    from simprior.boolean.truthtable import input_matrix
    from simprior.network.callables import array_function
    from simprior.numerics import random as rng

    refuse_density(network, "method features")
    Choice(("gaussian",), "use rejection for other laws", "gaussian")(
        "weight_dist", network.weight_dist
    )
    h, f = input_matrix(network), array_function(network)
    source = rng.generator(seed, "posterior/features")
    for layer, width in enumerate(network.hidden):
        w = source.standard_normal((h.shape[1], width)) * network.sigma_ws[layer]
        b = source.standard_normal(width) * network.sigma_bs[layer]
        h = f(h @ w / math.sqrt(h.shape[1]) + b)
    K = network.sigma_ws[-1] ** 2 / h.shape[1] * (h @ h.T) + network.sigma_bs[-1] ** 2
    return np.asarray((K + K.T) / 2)
