"""``simprior posterior``: draw functions from the Bayesian posterior given a training set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    Device,
    KernelOptions,
    NetworkOptions,
    ProblemOptions,
    Resumable,
    Seeded,
    Workers,
    build_problem,
    check_device,
    markdown,
)
from simprior.cli.parse import Count, MaybeCount, MaybeNumber, MaybePath, MaybeText, Texts
from simprior.errors import InputError
from simprior.routes.methods import DEFAULTS, METHODS, OPTIONS, check_method

if TYPE_CHECKING:
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.training.targets import Problem

_RUNS = [method for method, options in OPTIONS.items() if {"chains", "runs"} & {*options}]
_OWN = sorted({name for options in OPTIONS.values() for name in options})


@dataclass(frozen=True, kw_only=True)
class Posterior(ProblemOptions, KernelOptions, NetworkOptions, Resumable, Workers, Device, Seeded):
    """Draw functions from P_B(f|S): the prior, given the labels of a training set S.

    The problem (a target or data, S, corruption, attack points) is described as for simprior train,
    or taken from one of its runs (--from): both then know the same S.

    Infinite width: gp draws exactly from the truncated Gaussian; ep is the Gaussian approximation
    used in the literature, which violates S (the share that does is reported); features keeps one
    draw of the hidden layers and is exact for the last one. Finite width: rejection keeps prior
    draws that agree with S (exact); slice is elliptical slice sampling of the parameters; smc
    anneals networks from the prior to S in independent runs, and gives ln P(C(S)) too; hmc and nuts
    use a likelihood with a gradient. Chains and runs say whether they converged. Several methods
    (--method gp,slice) give a row each, and a run directory each below --out.
    """

    from_: Annotated[
        MaybePath, arg(name="from", help="run of simprior train: its network, target, S, test set")
    ] = None
    method: Annotated[
        Texts, arg(help=f"how the posterior is sampled: one or several of {', '.join(METHODS)}")
    ] = ("gp",)
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
    thin: Annotated[
        MaybeCount, arg(help="slice, smc, hmc, nuts: sweeps between draws (default 1)")
    ] = None
    burn_in: Annotated[MaybeCount, arg(help="slice, hmc, nuts: sweeps before the first draw")] = (
        None
    )
    start: Annotated[
        MaybeText,
        arg(help="slice: chains begin at prior, trained networks, both, or auto (the default)"),
    ] = None
    particles: Annotated[MaybeCount, arg(help="smc: networks a run (default 300)")] = None
    runs: Annotated[
        MaybeCount, arg(help="smc: independent runs, which give the errors (default 16)")
    ] = None
    max_particles: Annotated[
        MaybeCount, arg(help="smc: what did not converge is tried again with up to these")
    ] = None
    beta: Annotated[
        MaybeNumber, arg(help="logistic: inverse temperature of the likelihood (default 10)")
    ] = None
    samples: Annotated[Count, arg(help="functions to draw, e.g. 1e5")] = 10**5
    top: Annotated[Count, arg(help="functions to print")] = 20


SPEC = Posterior


def run(spec: Posterior) -> int:
    """Draw, print the most frequent functions and what is known about the draws.

    Of several methods: a row each, and whether their errors agree.
    """
    check_device(spec)
    methods = check_methods(spec)
    problem = build_problem(spec)
    if len(methods) > 1:
        return _several(spec, problem, methods)
    counts = _counts(spec, problem, methods[0], spec.out)
    report = counts.info["posterior"]
    frame, totals = counts.to_frame(top=spec.top), counts.summary()
    shown = {k: v for k, v in report.items() if k != "statistics" and v not in ("", None)}
    spec.print_result({"table": frame, "summary": totals | report}, frame, totals | shown)
    _warn(methods[0], report)
    spec.say_written()
    return 0


def check_methods(spec: Posterior) -> tuple[str, ...]:
    """The methods, each once. Raises :class:`InputError` for what does not go together."""
    methods, options = spec.method or (), method_options(spec)
    if not methods or len(set(methods)) < len(methods):
        found = f"method={','.join(methods)}"
        raise InputError(found, "each method once, at least one", "pass for example --method gp")
    for method in methods:
        own = {name: value for name, value in options.items() if name in OPTIONS.get(method, ())}
        check_method(method, spec.likelihood, spec.noise, own)
    for name, value in options.items():
        if not any(name in OPTIONS[method] for method in methods):
            check_method(methods[0], spec.likelihood, spec.noise, {name: value})
    if len(methods) > 1 and spec.out is not None and (spec.out / "manifest.json").exists():
        expected = "a directory for one run of each method"
        raise InputError(f"out={spec.out}, which is a run", expected, "pass another --out")
    return methods


def _several(spec: Posterior, problem: Problem, methods: tuple[str, ...]) -> int:
    """Each method into its own run directory below ``--out``; one that fails is a row that says
    why, unless all do."""
    from simprior.errors import NumericalError
    from simprior.routes.posterior import agreement

    rows: list[dict[str, Any]] = []
    reports, failed = {}, {}
    for method in methods:
        out = None if spec.out is None else spec.out / method
        try:
            counts = _counts(spec, problem, method, out)
        except NumericalError as error:
            failed[method] = str(error)
            logging.getLogger("simprior").warning("%s", error)
            continue
        report = reports[method] = counts.info["posterior"]
        _warn(method, report)
        size = {"samples": counts.samples, "functions": len(counts)}
        trusted = report.get("converged", True) and report["reliable"]
        rows.append(
            {"method": method, **size, **{k: report.get(k) for k in _ROW}, "trusted": bool(trusted)}
        )
    if not rows:
        raise NumericalError("; ".join(failed.values()))
    verdict = agreement(reports)
    summary = {"verdict": verdict, "failed": failed} if failed else {"verdict": verdict}
    cells = [["" if value is None else value for value in row.values()] for row in rows]
    table = markdown(list(rows[0]), cells)
    spec.print_result({"table": rows, "summary": summary}, verdict, table)
    spec.say_written()
    return 0


_ROW = """error error_stderr target_p target_p_low target_p_high log_evidence log_evidence_stderr
ess""".split()


def _warn(method: str, report: dict[str, Any]) -> None:
    """Say on stderr what is not to be trusted."""
    log = logging.getLogger("simprior")
    if method in _RUNS and not report["converged"]:
        log.warning("%s: not converged: %s", method, report.get("reason"))
    if method in ("gp", "features") and not report["reliable"]:
        k = report.get("pareto_k")
        log.warning(
            "%s: the intervals are not reliable: Pareto k-hat of the proposals is %.2f, above 0.7",
            method,
            k if k is not None else float("nan"),
        )


def _counts(spec: Posterior, problem: Problem, method: str, out: Path | None) -> FunctionCounts:
    from simprior.routes.posterior import posterior
    from simprior.runs.tasks import progress_bar

    options = method_options(spec)
    total, unit = spec.samples, "function"
    if method == "rejection":
        total, unit = spec.max_draws or DEFAULTS["max_draws"], "net"
    elif method == "smc":
        from simprior.finite.attempts import Effort
        from simprior.finite.posterior import RUNS

        total, unit = Effort(runs=spec.runs or RUNS).pieces, "run"
    with progress_bar(total, unit, quiet=spec.quiet) as progress:
        return posterior(
            problem,
            method,
            workers=spec.worker_count(),
            progress=progress,
            out=out,
            **spec.chosen("samples seed likelihood noise resume overwrite"),
            **{name: value for name, value in options.items() if name in OPTIONS[method]},
        )


def method_options(spec: Posterior) -> dict[str, Any]:
    """The options of methods that were given."""
    return {name: value for name, value in spec.chosen(" ".join(_OWN)).items() if value is not None}
