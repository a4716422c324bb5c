"""``simprior bound``: marginal-likelihood PAC-Bayes bound of a training set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import arg

from simprior.checks import LEVEL, Choice
from simprior.cli.options import (
    METHOD_HELP,
    DataOptions,
    Device,
    KernelOptions,
    Resumable,
    Workers,
    check_device,
    check_no_data,
    flags,
    load_data,
)
from simprior.cli.parse import MaybeCount, MaybeCounts, MaybePath, Number
from simprior.errors import InputError
from simprior.runs.text_files import plain

if TYPE_CHECKING:
    from simprior.routes.evidence import Bounds
    from simprior.training.targets import Problem

_Task: Any = flags(["target", "attack", "data_seed"])
_SIZE = 64
METHOD = "tilted"


@dataclass(frozen=True, kw_only=True)
class Bound(_Task, KernelOptions, DataOptions, Resumable, Device, Workers):
    """PAC-Bayes bounds on the error of the Bayesian posterior from ln P(C(S)), with its error.

    S is a training set of real data (--data, all of it by default), of a Boolean function
    (--target, 64 inputs by default), or that of a run of simprior train (--from). gibbs bounds the
    error averaged over the posterior (Valle-Perez et al. 2019), single that of one function drawn
    from it (Valle-Perez & Louis 2020). With --width finite both are of the network itself and
    conservative: ln P(C(S)), found by annealing its weights, is taken at the low end of its
    interval, or, if it did not converge, at a lower bound that holds with 95 % confidence. Of a
    torch module the prior is the Gaussian process with its kernel. With several sizes, such as
    those of --train 100,1000, it is a table with a row a size; --out keeps it for simprior plot and
    table.
    """

    train: Annotated[
        MaybeCounts,
        arg(help="training examples, one number or several (default, and if there are fewer: all)"),
    ] = None  # type: ignore[assignment]  # the flags it is among take one number

    from_: Annotated[
        MaybePath, arg(name="from", help="run of train or posterior: its network and S")
    ] = None
    delta: Annotated[Number, arg(help="the bound may fail with this probability over S")] = 0.01
    gamma: Annotated[Number, arg(help="single: and with this one over the function")] = 0.01
    method: Annotated[str, arg(help=METHOD_HELP)] = METHOD
    draws: Annotated[MaybeCount, arg(help="draws, for the sampling methods")] = None
    width: Annotated[
        str, arg(help="infinite (the Gaussian process), or finite (the network of --hidden)")
    ] = "infinite"
    particles: Annotated[MaybeCount, arg(help="--width finite: networks a run (300)")] = None
    runs: Annotated[MaybeCount, arg(help="--width finite: independent runs, at least 4 (8)")] = None
    max_particles: Annotated[
        MaybeCount,
        arg(help="--width finite: what did not converge is tried again with up to these"),
    ] = None


SPEC = Bound


def run(spec: Bound) -> int:
    """Estimate ln P(C(S)) and print both bounds, or a table with a row a size of S."""
    check_device(spec)
    for name in ("delta", "gamma"):  # before the work
        LEVEL(name, getattr(spec, name))
    options = _estimator_options(spec)
    asked: Sequence[int | None] = spec.train or (None,)
    sizes = {size: replace(spec, train=cast(Any, size)) for size in asked}
    if len(sizes) > 1 or spec.out is not None:
        return _run_sizes(spec, sizes, options)
    bounds, summary = _bounds(sizes[asked[0]], options)
    evidence = bounds.evidence
    summary |= {
        "method": evidence.method,
        "log_evidence": evidence.value,
        "log_evidence_stderr": evidence.stderr,
        "ess": evidence.ess,
    }
    found = evidence.diagnostics
    shown = ("bound_low", "reason") if spec.width == "finite" else ("pareto_k",)
    summary |= {name: found.get(name) for name in (*shown, "reliable", "seconds")}
    if summary.get("pareto_k") is not None and not summary["reliable"]:
        logging.getLogger("simprior").warning(
            "ln P(C(S)) is not reliable (Pareto k-hat %.2f): raise --draws", summary["pareto_k"]
        )
    table = bounds.to_frame()
    values = {"table": table, "summary": {"verdict": bounds.verdict, **summary}}
    spec.print_result(values, bounds.verdict, table, summary)
    return 0


def _run_sizes(spec: Bound, sizes: Mapping[int | None, Bound], options: dict[str, Any]) -> int:
    """A row a size, printed and, with ``--out``, kept."""
    from simprior.analysis.bound_sizes import bounds_table
    from simprior.runs.tasks import RunOptions, progress_bar

    config = {name: getattr(spec, name) for name in _determining(spec)}
    config = plain({key.rstrip("_"): value for key, value in config.items() if value is not None})
    note = spec.command_line("bound", [], " ".join([*_determining(spec), "out"]))
    with progress_bar(len(sizes), "size", quiet=spec.quiet) as progress:
        how = RunOptions(**spec.chosen("out resume overwrite"), progress=progress)
        found = {size: partial(_bounds_alone, one, options) for size, one in sizes.items()}
        frame, verdict = bounds_table(found, config, note, how)
    for row in frame[~frame["reliable"].astype(bool)].itertuples():
        logging.getLogger("simprior").warning(
            "ln P(C(S)) of %d examples by %s is not reliable", row.train_size, row.method
        )
    summary = {"verdict": verdict, "rows": len(frame)}
    spec.print_result({"table": frame, "summary": summary}, verdict, frame)
    spec.say_written()
    return 0


def _bounds_alone(spec: Bound, options: dict[str, Any]) -> Bounds:
    return _bounds(spec, options)[0]


def _determining(spec: Bound) -> list[str]:
    """Names of the flags that determine the result."""
    others = {"config", "json", "quiet", "workers", "device", "out", "resume", "overwrite"}
    return [field.name for field in fields(spec) if field.name not in others]


def _bounds(spec: Bound, options: dict[str, Any]) -> tuple[Bounds, dict[str, Any]]:
    """The bounds, and what is said of the training set."""
    from simprior.routes.evidence import bound, bounds_of, evidence_of

    problem = _problem(spec)
    if problem is not None:
        found = bound(problem, seed=spec.seed, **spec.chosen("delta gamma"), **options)
        about = {"name": problem.name, "train": len(problem.train_index)}
        return found, about | {"attack": len(problem.attack_index), "corrupt": problem.corrupt}
    data = load_data(spec)
    network = spec.build_architecture(data.X_train)
    evidence = evidence_of(network, data.y_train, seed=spec.seed, **options)
    found = bounds_of(evidence, data.y_train, spec.delta, spec.gamma)
    return found, data.describe()


def _estimator_options(spec: Bound) -> dict[str, Any]:
    """How ln P(C(S)) is estimated. Raises :class:`InputError` for flags of the other width."""
    from simprior.routes.evidence import WIDTHS

    Choice(WIDTHS, "pass --width finite")("width", spec.width)
    finite = {k: v for k, v in spec.chosen("particles runs max_particles").items() if v is not None}
    if spec.width == "infinite":
        for name, value in finite.items():
            raise InputError(f"{name}={value}", "--width finite with it", "add --width finite")
        chosen = {"method": spec.method, **spec.chosen("draws kernel_draws")}
        return {name: value for name, value in chosen.items() if value is not None}
    if spec.method != METHOD:
        what = f"method={spec.method} with width=finite"
        raise InputError(what, "methods with --width infinite alone", "leave --method out")
    if spec.draws is not None:
        what = f"draws={spec.draws} with width=finite"
        raise InputError(what, "draws with --width infinite alone", "pass --particles or --runs")
    finite |= {} if spec.kernel_draws is None else spec.chosen("kernel_draws")
    return {"width": "finite", "workers": spec.worker_count(), **finite}


def _problem(spec: Bound) -> Problem | None:
    """The problem of ``--from`` or ``--target``; None for data without attack points."""
    from simprior.training.replay import problem_of_run
    from simprior.training.targets import Problem

    if spec.from_ is not None:
        if spec.target is not None:
            what = f"target={spec.target} with --from"
            raise InputError(what, "the target of the run", "leave --target out")
        if spec.train is not None:
            what = f"train={spec.train} with --from"
            raise InputError(what, "the training set of the run", "leave --train out")
        return problem_of_run(spec.from_, spec.data, spec.label)
    seed = spec.seed if spec.data_seed is None else spec.data_seed
    task = spec.chosen("corrupt attack")
    if spec.target is not None and spec.data is None:
        if spec.balanced or spec.classes or spec.scale or spec.label:
            check_no_data(spec)
        train = spec.train or _SIZE
        return Problem(spec.build_architecture(), spec.target, train=train, seed=seed, **task)
    if spec.data is None:
        raise InputError("no data", "a training set", "pass for example --data digits")
    if spec.target is not None:
        what = f"target={spec.target} and data={spec.data}"
        raise InputError(what, "one of the two", "drop one")
    if not spec.attack and spec.data_seed is None:
        return None
    if spec.train is None or spec.balanced:
        what = f"attack={spec.attack}, data_seed={spec.data_seed}"
        raise InputError(what, "--train N, without --balanced", "pass for example --train 100")
    task |= spec.chosen("data classes label missing scale train")
    return Problem(spec.build_architecture(), test=1, seed=seed, **task)
