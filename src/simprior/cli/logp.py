"""``simprior logp``: ln P of given functions under the infinite-width prior."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    METHOD_HELP,
    DataOptions,
    Reading,
    RunOptions,
    check_device,
    check_no_data,
    data_config,
    frame_text,
    load_data,
    prior_config,
)
from simprior.cli.parse import Count, FunctionList, MaybeCount, MaybePath, MaybeText, Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from simprior.gp.orthant import Request
    from simprior.network.spec import Network

SHOWN = """name method logp log10 stderr ess pareto_k reliable seconds
rank count p p_low p_high""".split()
_NAME_WIDTH = 36


@dataclass(frozen=True, kw_only=True)
class LogP(DataOptions, RunOptions, Reading):
    """ln P(f) of given functions under the prior of an infinitely wide network, in nats.

    The functions are given (--functions), taken from a run of simprior sample, train or posterior
    (--from; --data then is the data file of the run), or are the labels of real data (--data).
    P(f) is the probability that the signs are those of f: a step likelihood, no noise. Several
    methods are compared in a sentence. Comparisons over many priors, of EP with the exact value or
    of finite widths with the limit, are stages [logp] of simprior study.
    """

    functions: Annotated[
        FunctionList,
        arg(help="functions: bits, hex, names, lz:K, random, net:W, with commas between"),
    ] = None
    from_: Annotated[
        MaybePath,
        arg(name="from", help="run of sample, train or posterior: its commonest functions"),
    ] = None
    top: Annotated[Count, arg(help="functions to take from the run")] = 1000
    method: Annotated[Texts, arg(help=METHOD_HELP)] = ("tilted",)
    draws: Annotated[MaybeCount, arg(help="draws a function, for the sampling methods")] = None
    tol: Annotated[
        MaybeText, arg(help="wanted standard error in nats; draws are doubled until it is reached")
    ] = None
    show: Annotated[Count, arg(help="rows to print")] = 20


SPEC = LogP


def run(spec: LogP) -> int:
    """Compute, print the table and the totals."""
    check_device(spec)
    sources = {"functions": spec.functions, "from": spec.from_, "data": spec.data}
    given = [name for name, value in sources.items() if value]
    if given == ["from", "data"]:  # the data file of the run
        given = ["from"]
    if len(given) != 1:
        what = f"functions from {' and '.join(given) or 'nowhere'}"
        expected = "one of --functions, --from, --data"
        raise InputError(what, expected, "pass for example --functions x1,parity")
    frame = _table(spec)
    _show(frame, spec)
    warn_unreliable(frame)
    spec.say_written()
    return 0


def _table(spec: LogP) -> pd.DataFrame:
    from simprior.gp.orthant import log_prior_table
    from simprior.runs.tasks import progress_bar

    request, config, read = _request(spec)
    total = len(request.tables) * len(request.methods)
    with progress_bar(total, "estimate", quiet=spec.quiet) as progress:
        options = spec.run_options()
        return log_prior_table(request, config=config, progress=progress, results=read, **options)


def _request(spec: LogP) -> tuple[Request, dict[str, Any], dict[str, Any]]:
    """What to compute, the configuration that determines it, and what data was read."""
    from simprior.gp.orthant import Request
    from simprior.routes.evidence import kernel_of, tables_of

    options = _estimator_options(spec)
    common: dict[str, Any] = {"methods": spec.method or (), "seed": spec.seed}
    common["options"] = options
    config: dict[str, Any] = {"method": list(common["methods"]), "seed": spec.seed, **options}
    if spec.from_ is not None:
        if spec.data is None:
            check_no_data(spec)
        return *_from_run(spec, common, config), {}
    if spec.data is not None:
        data = load_data(spec)
        network = spec.build_network(data.X_train)
        name = f"{data.name} {data.classes} ({data.m} labels)"
        request = Request(kernel_of(network), data.y_train[None], names=(name,), **common)
        config = {"network": prior_config(spec, network), **data_config(spec, data), **config}
        return request, config, {"data": data.describe()}
    check_no_data(spec)
    network = spec.build_network()
    names = spec.functions or ()
    tables = tables_of(network, list(names), spec.seed)
    request = Request(kernel_of(network, spec.worker_count()), tables, names=tuple(names), **common)
    config = {"network": prior_config(spec, network), "functions": list(names), **config}
    return request, config, {}


def _from_run(
    spec: LogP, common: dict[str, Any], config: dict[str, Any]
) -> tuple[Request, dict[str, Any]]:
    import numpy as np

    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.gp.orthant import Request
    from simprior.routes.evidence import kernel_of

    assert spec.from_ is not None
    counts = FunctionCounts.load(spec.from_, top=spec.top)
    network = _network_of(spec, counts.info.get("model"))
    low, high = counts.intervals()
    joined = {
        "rank": np.arange(1, len(counts) + 1),
        "count": counts.count,
        "p": counts.p,
        "p_stderr": counts.stderr,
        "p_low": low,
        "p_high": high,
    }
    K = kernel_of(network, spec.worker_count())
    request = Request(K, counts.tables(), joined=joined, **common)
    found = {"from": str(spec.from_), "top": spec.top, **config}
    return request, found | ({} if spec.data is None else {"data": spec.data})


def _network_of(spec: LogP, model: Any) -> Network:
    """The network of the run ``--from``, on the inputs of its functions."""
    from simprior.network.spec import Network
    from simprior.runs.directory import load_run
    from simprior.training.replay import problem_of_run

    assert spec.from_ is not None
    if load_run(spec.from_).command in ("train", "posterior"):
        return problem_of_run(spec.from_, spec.data, spec.label).network
    if not isinstance(model, Network):
        remedy = "imported counts and DNF networks have no kernel: pass --functions and the network"
        raise InputError(f"from={spec.from_}", "a run of simprior sample on networks", remedy)
    return model


def _estimator_options(spec: LogP) -> dict[str, Any]:
    options: dict[str, Any] = {} if spec.draws is None else {"draws": spec.draws}
    if spec.tol is not None:
        try:
            options["tol"] = float(spec.tol)
        except ValueError:
            options["tol"] = -1.0
        if not options["tol"] > 0:
            raise InputError(f"tol={spec.tol}", "a standard error > 0 in nats", "pass --tol 0.01")
    return options


def warn_unreliable(frame: pd.DataFrame) -> None:
    """Say on stderr how many standard errors are not to be trusted."""
    sampled = frame["stderr"].notna()
    count = int((sampled & ~frame["reliable"].astype(bool)).sum())
    if count:
        logging.getLogger("simprior").warning(
            "%d of %d estimates are not reliable (Pareto k-hat above 0.7, EP not converged, fewer "
            "than 256 draws, or "
            "--tol not reached): raise --draws, or check them with --method smc or minimax",
            count,
            len(frame),
        )


def _show(frame: pd.DataFrame, spec: LogP) -> None:
    from simprior.gp.agreement import agreement
    from simprior.gp.orthant import summarise

    totals = summarise({str(name): frame[name].to_numpy() for name in frame})
    part = frame[[name for name in SHOWN if name in frame]].head(spec.show).copy()
    if "name" in part:
        part["name"] = [_short(name) for name in part["name"]]
    table = frame_text(part)
    if len(frame) > spec.show:
        table += f"\n... {len(frame) - spec.show} rows more"
    said = agreement({str(name): frame[name].to_numpy() for name in frame})
    verdict = {"verdict": said} if said else {}
    notes = ["logp is in nats, log10 in decades; stderr, a standard error, is in nats."]
    if "pareto_k" in part:
        notes.append("pareto_k: the weights of the draws are to be trusted up to 0.7.")
    summary = verdict | totals
    parts = [*verdict.values(), table, "\n".join(f"- {note}" for note in notes), totals]
    spec.print_result({"table": frame, "summary": summary | {"notes": notes}}, *parts)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3] + "..."
