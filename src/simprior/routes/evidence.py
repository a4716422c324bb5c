"""ln P of functions and of training sets under the prior of a network, and what follows from it.

The prior is that of the infinitely wide network, whose kernel is built here, on its inputs; or,
with ``width="finite"``, that of the network itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import (
    ARCHITECTURE,
    LEVEL,
    Choice,
    Integer,
    Kind,
    Maybe,
    Text,
    Whole,
    checked,
    shown,
)
from simprior.display import Shown
from simprior.errors import InputError
from simprior.gp.posterior import Bound, marginal_likelihood_bound
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb
from simprior.training.targets import Problem, make_target

if TYPE_CHECKING:
    import pandas as pd

    from simprior.gp.sampled import SampledKernel
    from simprior.modules.spec import Module

SEED = Integer(0, 2**63 - 1, "pass for example seed=0")
_KERNEL_DRAWS = Maybe(Whole(1))
UNSURE = 0.05  # chance that ln P(C(S)) at finite width is below the limit taken for it


def kernel_of(
    network: Network | Module,
    workers: int = 1,
    methods: Sequence[str] = (),
    kernel_draws: int | None = None,
    seed: int = 0,
) -> np.ndarray | SampledKernel:
    """:func:`simprior.gp.architectures.kernel`: the output covariance on the network's inputs.

    Raises :class:`~simprior.errors.MemoryShortage` if ``methods`` (default: any estimator) with
    ``workers`` processes would not fit in memory.
    """
    from simprior.gp.architectures import kernel
    from simprior.gp.covariance import check_memory
    from simprior.gp.orthant import METHODS, matrices

    check_memory(network.m, workers, matrices=matrices(methods or list(METHODS), network.m))
    return kernel(network, draws=kernel_draws, seed=seed)


def finite_network(network: Network | Module, kernel_draws: int | None = None) -> Network:
    """The network, or :class:`InputError` for what ``width="finite"`` does not know."""
    if not isinstance(network, Network):
        what = f"width=finite with the module {network.make_name}"
        remedy = "leave width out; simprior sample counts the functions of modules as they are"
        raise InputError(what, "a Network", remedy)
    if kernel_draws is not None:
        what = f"kernel_draws={kernel_draws} with width=finite"
        raise InputError(what, "a kernel", "leave it out")
    return network


WIDTHS = ("infinite", "finite")


@checked(
    network=ARCHITECTURE,
    method=Maybe(Text()),
    width=Choice(WIDTHS),
    kernel_draws=_KERNEL_DRAWS,
    seed=SEED,
)
def log_prior(
    network: Network | Module,
    functions: Any,
    method: str | None = None,
    *,
    width: str = "infinite",
    kernel_draws: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """ln P(f), in nats, of functions under the prior of a network.

    Parameters
    ----------
    network : Network or Module
        The widths of a ``Network`` matter with ``width="finite"`` only. Of a module the prior is
        the Gaussian process with its kernel (:func:`simprior.kernel`).
    functions : str, array or sequence
        A name (``"parity"``), bits, hex, or an (m,) table: one function. A sequence of these, or
        an (F, m) array: F functions. Targets that are drawn (``lz:35``, ``random``, ``net:2``)
        are drawn by ``seed``.
    width : str
        ``infinite``: the Gaussian process. ``finite``: the network as it is, with its widths; not
        of modules.
    kernel_draws : int, optional
        Networks from which the kernel of a module is sampled where it has no closed form.
        ``stderr`` holds the kernel's own error.
    method, seed, options
        As of :func:`simprior.gp.log_prior` (``draws``, ``tol``, ...); by default ``tilted``. Of
        ``width="finite"`` as of :func:`simprior.finite.log_prior_by` (``tol``, ``particles``,
        ``runs``, ``workers``, ...); by default ``auto``.

    Returns
    -------
    LogProb, or list of LogProb
        Of one function, or of each in the sequence, in order.

    Raises
    ------
    InputError, NumericalError
        As of :func:`simprior.gp.log_prior`.
    """
    from simprior.gp.orthant import log_prior as estimate

    if not isinstance(functions, Iterable):
        what, expected = f"functions={shown(functions)}", "names, bits, hex or truth tables"
        raise InputError(what, expected, "pass for example functions=['x1', 'parity']")
    one = isinstance(functions, str) or not any(
        isinstance(f, str | Sequence | np.ndarray) for f in functions
    )
    tables = tables_of(network, [functions] if one else functions, seed)
    if width == "finite":
        from simprior.finite.methods import DEFAULT, log_prior_by

        real = finite_network(network, kernel_draws)
        chosen = DEFAULT if method is None else method
        found = log_prior_by(real, tables, chosen, seed=seed, **options)
        return found[0] if one else found
    n = network.n if network.inputs is None else 0
    check_limit_method(method)
    K = kernel_of(network, 1, [method or "tilted"], kernel_draws, seed)
    found = estimate(tables, K, method or "tilted", n=n, seed=seed, **options)
    return found[0] if one else found


def check_limit_method(method: str | None) -> None:
    """Raise :class:`InputError` for a method that networks of finite width alone have."""
    from simprior.finite.methods import METHODS as FINITE
    from simprior.gp.orthant import METHODS

    if method in FINITE and method not in METHODS:
        what, expected = f"method={method!r} with width=infinite", f"one of {', '.join(METHODS)}"
        raise InputError(what, expected, "leave it out, or ask for width finite")


def tables_of(network: Network | Module, functions: Any, seed: int = 0) -> np.ndarray:
    """(F, m) uint8 tables of functions in any form that a target may have.

    Raises :class:`~simprior.errors.InputError`.
    """
    from simprior.boolean.truthtable import parse_functions

    n = network.n if network.inputs is None else 0
    if isinstance(functions, np.ndarray) or not any(isinstance(f, str) for f in functions):
        return parse_functions(functions, network.m, n)
    teacher = network if isinstance(network, Network) else None
    found = [make_target(f, network.m, n, seed, teacher)[1] for f in functions]
    return np.stack(found)


@checked(problem=Kind(("Problem",)), method=Maybe(Text()), width=Choice(WIDTHS), seed=SEED)
def log_evidence(
    problem: Problem,
    method: str | None = None,
    *,
    width: str = "infinite",
    seed: int = 0,
    **options: Any,
) -> LogProb:
    """ln P(C(S)), in nats: the probability that a random network fits S.

    S is everything that the problem has to fit: the training set with its corruption, and the
    attack points. ``width``, ``method`` and options (``kernel_draws`` among them) as of
    :func:`log_prior`: by default the network is infinitely wide.
    """
    inputs = problem.train_inputs
    network = replace(problem.network, n=inputs.shape[1], inputs=inputs)
    return evidence_of(network, problem.labels, method, width, seed, **options)


def evidence_of(
    network: Network | Module,
    labels: np.ndarray,
    method: str | None = None,
    width: str = "infinite",
    seed: int = 0,
    kernel_draws: int | None = None,
    **options: Any,
) -> LogProb:
    """ln P that the labels (s,) of all inputs of a network are those it gives, in nats."""
    if width == "finite":
        real = finite_network(network, kernel_draws)
        from simprior.finite.methods import log_prior_by

        if method is not None:
            what = f"method={method!r} with width='finite'"
            raise InputError(what, "no method", "leave method out")
        return log_prior_by(real, labels[None], "smc", seed=seed, **options)[0]
    from simprior.gp.orthant import log_prior as estimate
    from simprior.runs.tasks import one_thread

    K = kernel_of(network, 1, [method or "tilted"], kernel_draws, seed)
    with one_thread():
        return estimate(labels, K, method or "tilted", n=0, seed=seed, **options)[0]


_ENDS = {"": "error", "_low": "low", "_high": "high"}


@dataclass(frozen=True, repr=False)
class Bounds(Shown):
    """Both PAC-Bayes bounds of a training set of ``size`` examples, from ln P(C(S)).

    ``guess`` is the error on S of its commoner label. ``basis`` says which value of ln P(C(S)) they
    take in place of its estimate, if they do.
    """

    evidence: LogProb
    size: int
    guess: float
    gibbs: Bound
    single: Bound
    basis: str = ""

    def lines(self) -> list[str]:
        """Both bounds, and what they were computed from."""
        found = self.evidence
        error = "" if math.isnan(found.stderr) else f" ± {found.stderr:.2g}"
        said = [
            f"Bounds: on the error, from a training set of {self.size}",
            f"gibbs: below {self.gibbs.error:.4g}; single: below {self.single.error:.4g}",
            f"ln P(C(S)) = {found.value:.5g}{error} nats by {found.method}",
        ]
        return [*said, f"taken at {self.basis}"] if self.basis else said

    @property
    def verdict(self) -> str:
        """What the bounds say, and whether that is more than guessing the commoner label."""
        said = []
        for found, of in (
            (self.gibbs, "averaged over the posterior"),
            (self.single, "of one draw from it"),
        ):
            limits = f" ({found.low:.3g} to {found.high:.3g})" if found.low < found.high else ""
            confidence = f"{100 * found.confidence:.4g} %"
            said.append(f"below {found.error:.3g}{limits} {of} with confidence {confidence}")
        ends = [
            end
            for end in (self.gibbs.low, self.gibbs.high, self.gibbs.error)
            if not math.isnan(end)
        ]
        worth = "which cannot be told from"
        if max(ends) < self.guess:
            worth = "which is better than"
        elif min(ends) >= self.guess:
            worth = "which says no more than"
        label = f"the commoner label, wrong on {self.guess:.3g} of S"
        taken = ""
        if self.basis:
            taken = f" ln P(C(S)) is taken at {self.basis}; {100 * UNSURE:g} % of doubt are for it."
        return f"The error is {', '.join(said)}, {worth} {label}.{taken}"

    def row(self) -> dict[str, Any]:
        """Both bounds in one row of a table over sizes of S; ``bound`` is that of gibbs."""
        found = self.evidence
        return {
            "train_size": self.size,
            "log_evidence": found.value,
            "log_evidence_stderr": found.stderr,
            **{f"bound{end}": getattr(self.gibbs, part) for end, part in _ENDS.items()},
            **{f"single{end}": getattr(self.single, part) for end, part in _ENDS.items()},
            "guess": self.guess,
            "ess": found.ess,
            "method": found.method,
            "reliable": bool(found.diagnostics.get("reliable", False)),
        }

    def to_frame(self) -> pd.DataFrame:
        """A row a bound: form, error_below, low, high, exponent, confidence."""
        import pandas as pd

        rows = [self.gibbs.to_frame(), self.single.to_frame()]
        return pd.concat(rows, ignore_index=True)


@checked(
    problem=Kind(("Problem",)),
    method=Maybe(Text()),
    width=Choice(WIDTHS),
    delta=LEVEL,
    gamma=LEVEL,
    seed=SEED,
)
def bound(
    problem: Problem,
    method: str | None = None,
    *,
    width: str = "infinite",
    delta: float = 0.01,
    gamma: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> Bounds:
    """PAC-Bayes bounds on the error of the Bayesian posterior of a problem.

    ``gibbs`` bounds the error averaged over the posterior (Valle-Perez et al. 2019), ``single``
    that of one function drawn from it (Valle-Perez & Louis 2020); see
    :func:`simprior.gp.posterior.marginal_likelihood_bound`. Attack points count as training
    examples. With ``width="finite"`` the posterior is that of the network itself, and the bounds
    are conservative: see :func:`bounds_of`.
    """
    evidence = log_evidence(problem, method, width=width, seed=seed, **options)
    return bounds_of(evidence, problem.labels, delta, gamma)


def bounds_of(
    evidence: LogProb, labels: np.ndarray, delta: float = 0.01, gamma: float = 0.01
) -> Bounds:
    """Both bounds from ln P(C(S)) of the ``labels`` of S, 0 or 1.

    From an estimate at finite width the bounds are conservative: ln P(C(S)) is taken at the low end
    of its 95 % interval, or, if it did not converge, at ``bound_low``, which holds with 95 %
    confidence whatever the runs missed. ``low`` of a bound is then that of the high end, or nan.
    These 5 % are added to the ``delta`` of both bounds, and so taken off their confidence.
    Raises :class:`InputError` where no value of ln P(C(S)) is known.
    """
    size, share = len(labels), float(np.mean(labels))

    def both(value: LogProb | float) -> list[Bound]:
        return [
            marginal_likelihood_bound(value, size, delta, form="gibbs"),
            marginal_likelihood_bound(value, size, delta, form="single", gamma=gamma),
        ]

    found, basis = both(evidence) if "bound_low" not in evidence.diagnostics else [], ""
    if not found:
        low, high, basis = _conservative(evidence)
        ends = [bound.error for bound in both(high)] if math.isfinite(high) else [math.nan] * 2
        found = [
            replace(
                bound,
                low=end,
                high=bound.error,
                delta=min(1.0, delta + UNSURE),
                log_evidence=evidence.value,
                log_evidence_stderr=evidence.stderr,
            )
            for bound, end in zip(both(low), ends, strict=True)
        ]
    return Bounds(evidence, size, min(share, 1 - share), found[0], found[1], basis)


def _conservative(evidence: LogProb) -> tuple[float, float, str]:
    """(low, high, which) of ln P(C(S)) at finite width for a bound; high may be nan."""
    about = evidence.diagnostics
    if about["reliable"]:
        which = f"the low end of its 95 % interval, {about['low']:.5g} nats"
        return min(about["low"], 0.0), min(about["high"], 0.0), which
    low = float(about["bound_low"])
    if not math.isfinite(low):
        what = f"ln P(C(S)) at finite width ({about['reason']})"
        raise InputError(what, "runs that all fit S", "raise particles or max_particles")
    which = f"its lower bound of 95 % confidence, {low:.5g} nats, as it did not converge"
    return min(low, 0.0), math.nan, f"{which} ({about['reason']})"
