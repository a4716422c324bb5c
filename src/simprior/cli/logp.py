"""``simprior logp``: ln P of given functions, at infinite width or of the finite network."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    METHOD_HELP,
    DataOptions,
    KernelOptions,
    Reading,
    RunOptions,
    check_device,
    check_no_data,
    data_config,
    frame_text,
    load_data,
    prior_config,
)
from simprior.cli.parse import (
    Count,
    FunctionList,
    MaybeCount,
    MaybeInteger,
    MaybePath,
    MaybeText,
    Texts,
    Widths,
)
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from simprior.finite.attempts import Effort
    from simprior.modules.spec import Module
    from simprior.network.spec import Network

SHOWN = """name part labels width method logp log10 stderr ess pareto_k bound_low reliable seconds
rank count p p_low p_high""".split()
_NAME_WIDTH = 36
FINITE_HELP = (
    "where --width has finite they are those of the finite network: auto (the default: for each "
    "function what suits it), smc, exchange, conditional, first-order"
)
DRAWS_HELP = (
    "draws a function, for the sampling methods; of hidden layers by conditional (200), of outputs "
    "by first-order (32768)"
)


@dataclass(frozen=True, kw_only=True)
class LogP(KernelOptions, DataOptions, RunOptions, Reading):
    """ln P(f) of given functions under the prior of a network, infinitely wide or finite, in nats.

    The functions are given (--functions), taken from a run of simprior sample, train or posterior
    (--from; --data then is the data file of the run), or are the labels of real data (--data).
    P(f) is the probability that the signs are those of f: a step likelihood, no noise. Several
    methods are compared in a sentence. With --width finite it is that of the network of --hidden
    itself, by annealing its weights or, for wide networks, by averaging over its hidden layers: a
    value that did not converge is given without a standard error. Of a torch module it is that of
    the Gaussian process with its kernel, whose error is part of stderr if it is sampled.
    Comparisons over many priors, of EP with the exact value or of finite widths with the limit, are
    stages [logp] of simprior study.
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
    method: Annotated[Texts, arg(help=f"{METHOD_HELP}; {FINITE_HELP}")] = None
    draws: Annotated[MaybeCount, arg(help=DRAWS_HELP)] = None
    tol: Annotated[
        MaybeText, arg(help="wanted standard error in nats; draws are doubled until it is reached")
    ] = None
    hidden: Annotated[
        Widths, arg(help='hidden layers (their widths matter with --width finite); "" is none')
    ] = (40, 40)
    width: Annotated[
        Texts, arg(help="infinite (the Gaussian process), finite (of --hidden), or finite,infinite")
    ] = ("infinite",)
    particles: Annotated[MaybeCount, arg(help="--width finite: networks a run (300)")] = None
    runs: Annotated[MaybeCount, arg(help="--width finite: independent runs, at least 4 (8)")] = None
    max_particles: Annotated[
        MaybeCount,
        arg(help="--width finite: what did not converge is tried again with up to these"),
    ] = None
    robust: Annotated[
        MaybeInteger,
        arg(help="ln P of the labels of --train or --strings on all strings within so many flips"),
    ] = None
    strings: Annotated[
        Texts, arg(help="--robust: training strings, bits with commas between, or hamming")
    ] = None
    places: Annotated[
        MaybeInteger, arg(help="--robust: draws of as many labels at random places (8)")
    ] = None
    show: Annotated[Count, arg(help="rows to print")] = 20


SPEC = LogP


def run(spec: LogP) -> int:
    """Compute, print the table and the totals."""
    from simprior.finite.table import check_widths

    check_device(spec)
    if spec.robust is not None:
        return _run_robust(spec)
    for name, value in spec.chosen("strings places").items():
        if value is not None:
            what = f"{name} without robust"
            raise InputError(what, "--robust with it", "add --robust 1, or leave it out")
    sources = {"functions": spec.functions, "from": spec.from_, "data": spec.data}
    given = [name for name, value in sources.items() if value]
    if given == ["from", "data"]:  # the data file of the run
        given = ["from"]
    if len(given) != 1:
        what = f"functions from {' and '.join(given) or 'nowhere'}"
        expected = "one of --functions, --from, --data"
        raise InputError(what, expected, "pass for example --functions x1,parity")
    check_widths(tuple(spec.width or ()))
    finite = "finite" in (spec.width or ())
    if not finite:
        _refuse_idle(spec)
    frame = _finite_table(spec) if finite else _table(spec)
    _show(frame, spec)
    if finite:
        _warn_unconverged(frame)
        frame = frame[frame["width"] == "infinite"]
    module = spec.module is not None or spec.architecture is not None
    warn_unreliable(frame, "raise --kernel-draws or --draws" if module else "raise --draws")
    spec.say_written()
    return 0


def _run_robust(spec: LogP) -> int:
    """What robustness costs: the table of events, and the costs of each function."""
    from simprior.routes.robust import cost_table

    frame = _robust_table(spec)
    costs = cost_table(frame)
    shown = frame[[name for name in SHOWN if name in frame]].head(spec.show).copy()
    shown["name"] = [_short(name) for name in shown["name"]]
    said = [
        "logp and costs are in nats; a cost is ln P of what is named minus ln P of the balls.",
        "against_strings: the labels alone; against_places: as many labels at random places.",
    ]
    notes = "\n".join(f"- {note}" for note in said)
    values = {"table": frame, "costs": costs, "summary": {"notes": said}}
    spec.print_result(values, costs, shown, notes)
    warn_unreliable(frame)
    spec.say_written()
    return 0


def _robust_table(spec: LogP) -> pd.DataFrame:
    from simprior.boolean.balls import NOT_BITS
    from simprior.routes.evidence import tables_of
    from simprior.routes.robust import RobustRequest, bits_only, robust_table
    from simprior.runs.tasks import progress_bar

    assert spec.robust is not None
    for name in ("data", "from_"):
        if getattr(spec, name) is not None:
            what = f"robust={spec.robust} with {name.strip('_')}={getattr(spec, name)}"
            raise InputError(what, NOT_BITS, "pass --functions, or leave --robust out")
    if not spec.functions:
        what = f"robust={spec.robust} without functions"
        raise InputError(what, "functions that give the labels", "pass --functions random")
    if tuple(spec.width or ()) != ("infinite",):
        what = f"robust={spec.robust} with width={','.join(spec.width or ())}"
        raise InputError(what, "--width infinite", "leave --width out")
    _refuse_idle(spec)
    check_no_data(replace(spec, train=None))
    network = spec.build_architecture()
    n = bits_only(network, spec.robust)
    strings = _training_strings(spec, n)
    methods = ("tilted",) if spec.method is None else spec.method
    options = _estimator_options(spec)
    places = {} if spec.places is None else {"places": spec.places}
    request = RobustRequest(
        network,
        tables_of(network, list(spec.functions), spec.seed),
        tuple(spec.functions),
        strings,
        spec.robust,
        methods=methods,
        seed=spec.seed,
        kernel_draws=spec.kernel_draws,
        options=options,
        **places,
    )
    config: dict[str, Any] = {"network": prior_config(spec, network)}
    config |= {"functions": list(spec.functions)}
    config |= spec.chosen("robust train strings") | places | options
    config = {key: value for key, value in config.items() if value is not None}
    config |= {"method": list(methods), "seed": spec.seed}
    total = len(request.pieces()) * len(methods)
    with progress_bar(total, "estimate", quiet=spec.quiet) as progress:
        return robust_table(request, config=config, progress=progress, **spec.run_options())


def _training_strings(spec: LogP, n: int) -> Any:
    """Numbers of the strings given, or of ``--train`` drawn ones. Raises :class:`InputError`."""
    from simprior.boolean.balls import read_strings
    from simprior.training.targets import draw_training_set

    if (spec.strings is None) is (spec.train is None):
        both = "no training strings" if spec.train is None else "strings and train"
        what = f"robust={spec.robust} with {both}"
        raise InputError(what, "--strings or --train", "pass for example --strings hamming")
    if spec.train is not None:
        return draw_training_set(1 << n, spec.train, spec.seed)
    return read_strings(spec.strings or (), n)


def _refuse_idle(spec: LogP) -> None:
    """Refuse flags that mean something at finite width only."""
    from simprior.routes.evidence import check_limit_method

    for name, value in spec.chosen("particles runs max_particles").items():
        if value is not None:
            raise InputError(f"{name}={value}", "--width finite with it", "add --width finite")
    for method in spec.method or ():
        check_limit_method(method)


def _table(spec: LogP) -> pd.DataFrame:
    from simprior.gp.orthant import Request, log_prior_table
    from simprior.routes.evidence import kernel_of
    from simprior.runs.tasks import progress_bar

    given = _given(spec)
    options = _estimator_options(spec)
    methods = ("tilted",) if spec.method is None else spec.method
    workers = 1 if spec.data is not None else spec.worker_count()
    request = Request(
        kernel_of(given.network, workers, methods, spec.kernel_draws, spec.seed),
        given.tables,
        methods=methods,
        seed=spec.seed,
        names=given.names,
        options=options,
        joined=given.joined,
    )
    config = {**given.config, "method": list(methods), "seed": spec.seed, **options}
    total = len(request.tables) * len(request.methods)
    with progress_bar(total, "estimate", quiet=spec.quiet) as progress:
        return log_prior_table(
            request, config=config, progress=progress, results=given.read, **spec.run_options()
        )


def _finite_table(spec: LogP) -> pd.DataFrame:
    """The table with the finite network in it."""
    from simprior.finite.methods import amount, check_methods
    from simprior.finite.table import FiniteRequest, finite_table
    from simprior.routes.evidence import finite_network
    from simprior.runs.tasks import RunOptions as Computing
    from simprior.runs.tasks import progress_bar

    methods = _finite_methods(spec)
    given, effort, options = _given(spec), _effort(spec), _estimator_options(spec)
    network = finite_network(given.network, spec.kernel_draws)
    check_methods(methods, network)
    _check_own(spec, methods)
    widths = tuple(spec.width or ())
    request = FiniteRequest(
        network,
        given.tables,
        effort,
        seed=spec.seed,
        widths=widths,
        names=given.names,
        joined=given.joined,
        options=options,
        methods=methods,
    )
    config = {**given.config, "width": list(widths), "method": list(methods)}
    config |= {"seed": spec.seed, **options}
    config |= spec.chosen("particles runs")
    config = {key: value for key, value in config.items() if value is not None}
    if spec.max_particles is not None:
        config["max_particles"] = spec.max_particles
    total = sum(amount(method, effort, len(request.tables)) for method in methods)
    with progress_bar(total, "run", quiet=spec.quiet) as progress:
        how = Computing.of({**spec.run_options(), "progress": progress})
        return finite_table(request, how, config=config, results=given.read)


def _check_own(spec: LogP, methods: tuple[str, ...]) -> None:
    """Refuse flags that none of the methods reads. Raises :class:`InputError`."""
    from simprior.finite.methods import check_options

    own = spec.chosen("particles runs max_particles")
    if "infinite" not in (spec.width or ()):  # else they are those of the limit
        own |= spec.chosen("draws")
    check_options(methods, own)


def _effort(spec: LogP) -> Effort:
    """How hard to try at finite width. Raises :class:`InputError`."""
    from simprior.finite.attempts import Effort
    from simprior.finite.methods import OPTIONS

    chosen = spec.chosen("particles runs max_particles") | _estimator_options(spec)
    given = {name: value for name, value in chosen.items() if value is not None}
    return Effort(**{name: OPTIONS[name](name, value) for name, value in given.items()})


def _finite_methods(spec: LogP) -> tuple[str, ...]:
    """The methods for the finite network. Raises :class:`InputError` for those of the limit."""
    from simprior.finite.methods import DEFAULT, METHODS
    from simprior.gp.orthant import METHODS as LIMIT

    if spec.method is None:
        return (DEFAULT,)
    for method in spec.method:
        if method in LIMIT and method not in METHODS:
            found = f"method={method} with width={','.join(spec.width or ())}"
            raise InputError(
                found,
                f"a method at finite width ({', '.join(METHODS)}): --method is for the finite "
                "network, the limit is by tilted",
                f"leave --method out, or run --width infinite --method {method} by itself",
            )
    return spec.method


@dataclass(frozen=True)
class _Given:
    """Functions, their network, what determines them, and what data were read."""

    network: Network | Module
    tables: Any
    config: dict[str, Any]
    names: tuple[str, ...] = ()
    joined: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)


def _given(spec: LogP) -> _Given:
    """The functions that the flags name."""
    from simprior.routes.evidence import tables_of

    if spec.from_ is not None:
        if spec.data is None:
            check_no_data(spec)
        return _from_run(spec)
    if spec.data is not None:
        data = load_data(spec)
        network = spec.build_architecture(data.X_train)
        name = f"{data.name} {data.classes} ({data.m} labels)"
        config = {"network": prior_config(spec, network), **data_config(spec, data)}
        read = {"data": data.describe()}
        return _Given(network, data.y_train[None], config, names=(name,), read=read)
    check_no_data(spec)
    network = spec.build_architecture()
    names = tuple(spec.functions or ())
    tables = tables_of(network, list(names), spec.seed)
    config = {"network": prior_config(spec, network), "functions": list(names)}
    return _Given(network, tables, config, names=names)


def _from_run(spec: LogP) -> _Given:
    import numpy as np

    from simprior.boolean.sampling.counts import FunctionCounts

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
    config: dict[str, Any] = {"from": str(spec.from_), "top": spec.top}
    config |= {} if spec.data is None else {"data": spec.data}
    return _Given(network, counts.tables(), config, joined=joined)


def _network_of(spec: LogP, model: Any) -> Network | Module:
    """The network or module of the run ``--from``, on the inputs of its functions."""
    from simprior.modules.spec import Module
    from simprior.network.spec import Network
    from simprior.runs.directory import load_run
    from simprior.training.replay import problem_of_run

    assert spec.from_ is not None
    if load_run(spec.from_).command in ("train", "posterior"):
        return problem_of_run(spec.from_, spec.data, spec.label).network
    if not isinstance(model, Network | Module):
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


def warn_unreliable(frame: pd.DataFrame, remedy: str = "raise --draws") -> None:
    """Say on stderr how many standard errors are not to be trusted, and what to do."""
    sampled = frame["stderr"].notna()
    count = int((sampled & ~frame["reliable"].astype(bool)).sum())
    if count:
        logging.getLogger("simprior").warning(
            "%d of %d estimates are not reliable (Pareto k-hat above 0.7, EP not converged, fewer "
            "than 256 draws, --tol not reached, or a kernel sampled too roughly): %s, or check "
            "them with --method smc or minimax",
            count,
            len(frame),
            remedy,
        )


_REMEDIES = {
    "finite-smc": "raise --particles or --max-particles; what holds is ln P > bound_low (95 %)",
    "finite-exchange": "raise --particles or --max-particles, or use --method smc",
}


def _warn_unconverged(frame: pd.DataFrame) -> None:
    """Say on stderr how many values of the finite network have no error, and why."""
    finite = frame[frame["width"] == "finite"]
    doubted = finite[~finite["reliable"].astype(bool)]
    if len(doubted):
        first = doubted.iloc[0]
        remedy = _REMEDIES.get(first["method"], "raise --draws, or use --method smc")
        logging.getLogger("simprior").warning(
            "%d of %d values at finite width did not converge and have no standard error (%s by "
            "%s: %s): %s",
            len(doubted),
            len(finite),
            _short(first["name"]),
            first["method"],
            first["reason"],
            remedy,
        )


def _show(frame: pd.DataFrame, spec: LogP) -> None:
    from simprior.gp.orthant import summarise

    totals = summarise({str(name): frame[name].to_numpy() for name in frame})
    part = frame[[name for name in SHOWN if name in frame]].head(spec.show).copy()
    if "name" in part:
        part["name"] = [_short(name) for name in part["name"]]
    table = frame_text(part)
    if len(frame) > spec.show:
        table += f"\n... {len(frame) - spec.show} rows more"
    said = _agreement(frame, spec)
    verdict = {"verdict": said} if said else {}
    notes = ["logp is in nats, log10 in decades; stderr, a standard error, is in nats."]
    if "pareto_k" in part:
        notes.append("pareto_k: the weights of the draws are to be trusted up to 0.7.")
    summary = verdict | totals
    parts = [*verdict.values(), table, "\n".join(f"- {note}" for note in notes), totals]
    spec.print_result({"table": frame, "summary": summary | {"notes": notes}}, *parts)


def _agreement(frame: pd.DataFrame, spec: LogP) -> str:
    """The sentence on several methods; widths are meant to differ."""
    from simprior.gp.agreement import agreement

    columns = {str(name): frame[name].to_numpy() for name in frame}
    if "width" not in columns:
        return agreement(columns)
    from simprior.finite.table import finite_agreement

    return finite_agreement(columns, _finite_methods(spec))


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3] + "..."
