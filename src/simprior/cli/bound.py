"""``simprior bound``: marginal-likelihood PAC-Bayes bound of a training set."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from simprior.checks import LEVEL
from simprior.cli.options import (
    METHOD_HELP,
    DataOptions,
    Device,
    check_device,
    kernel,
    load_data,
    markdown,
)
from simprior.cli.parse import MaybeCount, Number
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Bound(DataOptions, Device):
    """PAC-Bayes bounds on the error of the Bayesian posterior from ln P(C(S)), with its error.

    gibbs bounds the error averaged over the posterior (Valle-Perez et al. 2019), single that of one
    function drawn from it (Valle-Perez & Louis 2020).
    """

    delta: Annotated[Number, arg(help="the bound may fail with this probability over S")] = 0.01
    gamma: Annotated[Number, arg(help="single: and with this one over the function")] = 0.01
    method: Annotated[str, arg(help=METHOD_HELP)] = "tilted"
    draws: Annotated[MaybeCount, arg(help="draws, for the sampling methods")] = None


SPEC = Bound


def run(spec: Bound) -> int:
    """Estimate ln P(C(S)) and print both bounds."""
    check_device(spec)
    if spec.data is None:
        raise InputError("no data", "a training set", "pass for example --data digits")
    for name in ("delta", "gamma"):  # before the work
        LEVEL(name, getattr(spec, name))
    from simprior.gp.orthant import log_prior
    from simprior.gp.posterior import FORMS, marginal_likelihood_bound
    from simprior.runs.tasks import one_thread

    data = load_data(spec)
    network = spec.build_network(data.X_train)
    options: dict[str, Any] = {} if spec.draws is None else {"draws": spec.draws}
    K = kernel(network)
    with one_thread():
        evidence = log_prior(data.y_train, K, spec.method, n=0, seed=spec.seed, **options)[0]
    rows: list[dict[str, Any]] = []
    for form in FORMS:
        gamma = {"gamma": spec.gamma} if form == "single" else {}
        bound = marginal_likelihood_bound(evidence, data.m, spec.delta, form=form, **gamma)
        row = {"form": form, "error_below": bound.error, "low": bound.low, "high": bound.high}
        rows.append(row | {"exponent": bound.exponent, "confidence": bound.confidence})
    summary = data.describe() | {
        "method": evidence.method,
        "log_evidence": evidence.value,
        "log_evidence_stderr": evidence.stderr,
        "ess": evidence.ess,
    }
    found = evidence.diagnostics
    summary |= {name: found.get(name) for name in ("pareto_k", "reliable", "seconds")}
    if summary["pareto_k"] is not None and not summary["reliable"]:
        logging.getLogger("simprior").warning(
            "ln P(C(S)) is not reliable (Pareto k-hat %.2f): raise --draws", summary["pareto_k"]
        )
    table = markdown(list(rows[0]), [list(row.values()) for row in rows])
    share = float(data.y_train.mean())
    verdict = _verdict(rows, min(share, 1 - share))
    values = {"table": rows, "summary": {"verdict": verdict, **summary}}
    spec.print_result(values, verdict, table, summary)
    return 0


def _verdict(rows: list[dict[str, Any]], guess: float) -> str:
    """What the bounds say, and whether that is more than guessing the commoner label."""
    said = []
    for row, of in zip(rows, ("averaged over the posterior", "of one draw from it"), strict=True):
        limits = f" ({row['low']:.3g} to {row['high']:.3g})" if row["low"] < row["high"] else ""
        confidence = f"{100 * row['confidence']:.4g} %"
        said.append(f"below {row['error_below']:.3g}{limits} {of} with confidence {confidence}")
    ends = [row[end] for row in rows[:1] for end in ("low", "high", "error_below")]
    if max(end for end in ends if not math.isnan(end)) < guess:
        worth = "which is better than"
    elif min(end for end in ends if not math.isnan(end)) >= guess:
        worth = "which says no more than"
    else:
        worth = "which cannot be told from"
    return f"The error is {', '.join(said)}, {worth} the commoner label, wrong on {guess:.3g} of S."
