"""``simprior posterior``: draw functions from the Bayesian posterior given a training set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    Device,
    NetworkOptions,
    ProblemOptions,
    Resumable,
    Seeded,
    Workers,
    build_problem,
    check_device,
)
from simprior.cli.parse import Count, MaybeCount, MaybeNumber, MaybePath, MaybeText, choice
from simprior.routes.methods import METHODS, OPTIONS, check_method

if TYPE_CHECKING:
    from simprior.boolean.sampling.counts import FunctionCounts

_CHAINS = [method for method, options in OPTIONS.items() if "chains" in options]
_OWN = sorted({name for options in OPTIONS.values() for name in options})


@dataclass(frozen=True, kw_only=True)
class Posterior(ProblemOptions, NetworkOptions, Resumable, Workers, Device, Seeded):
    """Draw functions from P_B(f|S): the prior, given the labels of a training set S.

    The problem (a target or data, S, corruption, attack points) is described as for simprior train,
    or taken from one of its runs (--from): both then know the same S.

    Infinite width: gp draws exactly from the truncated Gaussian; ep is the Gaussian approximation
    used in the literature, which violates S (the share that does is reported); features keeps one
    draw of the hidden layers and is exact for the last one. Finite width: rejection keeps prior
    draws that agree with S (exact); slice is elliptical slice sampling of the parameters; hmc and
    nuts use a likelihood with a gradient. Chains say whether they converged.
    """

    from_: Annotated[
        MaybePath, arg(name="from", help="run of simprior train: its network, target, S, test set")
    ] = None
    method: Annotated[str, choice(*METHODS), arg(help="how the posterior is sampled")] = "gp"
    likelihood: Annotated[
        MaybeText,
        arg(help="of a label: step, logistic (hmc, nuts), squared (gp, features, hmc, nuts)"),
    ] = None
    noise: Annotated[
        MaybeNumber, arg(help="squared: variance of the noise, or temperature (default 0.1)")
    ] = None
    max_draws: Annotated[
        MaybeCount, arg(help="rejection: networks to draw at most (default 1e9)")
    ] = None
    chains: Annotated[MaybeCount, arg(help="slice, hmc, nuts: independent chains")] = None
    thin: Annotated[MaybeCount, arg(help="slice, hmc, nuts: sweeps between draws (default 1)")] = (
        None
    )
    burn_in: Annotated[MaybeCount, arg(help="slice, hmc, nuts: sweeps before the first draw")] = (
        None
    )
    start: Annotated[
        MaybeText,
        arg(help="slice: chains begin at prior, trained networks, both, or auto (the default)"),
    ] = None
    beta: Annotated[
        MaybeNumber, arg(help="logistic: inverse temperature of the likelihood (default 10)")
    ] = None
    samples: Annotated[Count, arg(help="functions to draw, e.g. 1e5")] = 10**5
    top: Annotated[Count, arg(help="functions to print")] = 20


SPEC = Posterior


def run(spec: Posterior) -> int:
    """Draw, print the most frequent functions and what is known about the draws."""
    check_device(spec)
    counts = _counts(spec)
    report = counts.info["posterior"]
    frame, totals = counts.to_frame(top=spec.top), counts.summary()
    shown = {k: v for k, v in report.items() if k != "statistics" and v not in ("", None)}
    spec.print_result({"table": frame, "summary": totals | report}, frame, totals | shown)
    if spec.method in _CHAINS and not report["converged"]:
        logging.getLogger("simprior").warning("not converged: %s", report.get("reason"))
    if spec.method in ("gp", "features") and not report["reliable"]:
        k = report.get("pareto_k")
        logging.getLogger("simprior").warning(
            "the intervals are not reliable: Pareto k-hat of the proposals is %.2f, above 0.7",
            k if k is not None else float("nan"),
        )
    spec.say_written()
    return 0


def _counts(spec: Posterior) -> FunctionCounts:
    from simprior.routes.posterior import posterior
    from simprior.runs.tasks import progress_bar

    options = method_options(spec)
    check_method(spec.method, spec.likelihood, spec.noise, options)
    problem = build_problem(spec)
    rejection = spec.method == "rejection"
    total = (spec.max_draws or 10**9) if rejection else spec.samples
    with progress_bar(total, "net" if rejection else "function", quiet=spec.quiet) as progress:
        return posterior(
            problem,
            workers=spec.worker_count(),
            progress=progress,
            **spec.chosen("method samples seed likelihood noise out resume overwrite"),
            **options,
        )


def method_options(spec: Posterior) -> dict[str, Any]:
    """The options of methods that were given."""
    return {name: value for name, value in spec.chosen(" ".join(_OWN)).items() if value is not None}
