"""``simprior train``: train many networks on one training set and count what they find."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.common import RunOptions, frame_text
from simprior.cli.data_options import DataSource
from simprior.cli.network_options import NetworkOptions
from simprior.cli.values import (
    Count,
    Integer,
    MaybeNumber,
    MaybeText,
    Options,
    Refused,
    choice,
    kind,
    parse_integer,
)

if TYPE_CHECKING:
    import pandas as pd

    from simprior.store import RunDir
    from simprior.training.records import TrainResult

TRAJECTORY_LOGP = "tables/trajectories-logp.parquet"


def _parse_steps(text: str) -> tuple[int, ...]:
    """A comma list of steps, ``log`` (0 and the powers of 2), or ``none``."""
    if text.strip().lower() in {"", "none"}:
        return ()
    if text.strip().lower() == "log":
        from simprior.training.settings import LOG_STEPS

        return LOG_STEPS
    try:
        return tuple(sorted({parse_integer(part) for part in text.split(",")}))
    except Refused:
        raise Refused("steps with commas between, or log", "pass for example 0,10,100") from None


def _parse_seed(text: str) -> int | None:
    return None if text.strip().lower() == "none" else parse_integer(text)


Steps = Annotated[tuple[int, ...], kind(_parse_steps, "STEP[,STEP...]|log")]
MaybeSeed = Annotated[int | None, kind(_parse_seed, "INT")]


@dataclass(frozen=True, kw_only=True)
class Train(DataSource, NetworkOptions, RunOptions):
    """Train many networks on one training set and count the functions they find: P_opt(f|S).

    Every member has its own draw of the initial parameters and its own minibatch order. Members
    that do not fit the training set within --max-epochs are counted and reported.
    """

    target: Annotated[
        MaybeText,
        arg(help="function to learn: bits, hex, a name, random, random:T (T ones), lz:K"),
    ] = None
    train: Annotated[Count, arg(help="size of the training set")] = 64
    test: Annotated[Count, arg(help="held-out examples of real data")] = 100
    attack: Annotated[
        Integer, arg(help="mislabelled points outside the training set to be fitted as well")
    ] = 0
    data_seed: Annotated[
        MaybeSeed, arg(help="seed of target, split, corruption, attack (default: --seed)")
    ] = None
    runs: Annotated[Count, arg(help="networks to train, e.g. 1e5")] = 1000
    optimizer: Annotated[
        str,
        arg(
            help="sgd, momentum, nesterov, gd, adam, adamw, rmsprop, adagrad, adadelta, sgld, "
            "entropy-sgd, advsgd, guess-and-check"
        ),
    ] = "adam"
    lr: Annotated[MaybeNumber, arg(help="learning rate (default: that of torch.optim)")] = None
    options: Annotated[
        Options, arg(help="options of the optimiser, e.g. weight_decay=0.01,beta1=0.8")
    ] = None
    loss: Annotated[
        str, choice("ce", "mse", "mse01", "hinge"), arg(help="mse: targets -1, 1; mse01: 0, 1")
    ] = "ce"
    batch_size: Annotated[Count, arg(help="examples a step")] = 32
    stop: Annotated[
        str,
        arg(help="first-fit, epochs:N (after it), loss:X, or steps:N"),
    ] = "first-fit"
    max_epochs: Annotated[Count, arg(help="a member is given up after this many epochs")] = 1000
    check: Annotated[
        Integer, arg(help="steps between looks at the training error; 0 is once an epoch")
    ] = 0
    pretrain: Annotated[
        Integer, arg(help="bad initialisation: epochs on random labels, at most; 0 is none")
    ] = 0
    record: Annotated[Steps, arg(help="steps at which trajectories are recorded")] = ()
    record_runs: Annotated[Count, arg(help="members whose trajectories are recorded")] = 100
    record_logp: Annotated[
        bool, arg(help="also ln P(f) of recorded functions, infinite width (slow)")
    ] = False
    engine: Annotated[
        str, choice("auto", "compiled", "torch"), arg(help="compiled kernel, or batched torch")
    ] = "auto"
    members: Annotated[
        Integer, arg(help="members at once in the torch engine; 0 is the default of the device")
    ] = 0
    top: Annotated[Count, arg(help="functions to print")] = 20


SPEC = Train


def run(spec: Train) -> int:
    """Train, print the commonest functions and the totals of the run."""
    from simprior.engine import progress_bar

    if spec.record_logp:
        check_logp(spec)
    logp: list[pd.DataFrame] = []

    def complement(result: TrainResult, store: RunDir) -> None:
        logp.append(logp_table(result, spec))
        keep_logp(logp[0], store)

    with progress_bar(spec.runs, "run", quiet=spec.quiet) as progress:
        result = trained(spec, progress, complement if spec.record_logp else None)
    frame, totals = function_table(result, spec.top), result.summary()
    spec.print_result({"summary": totals, "functions": frame}, frame, totals)
    log = logging.getLogger("simprior")
    if not result.fitted.any():
        log.warning("no member fitted the training set: raise --max-epochs, change --lr or --loss")
    if spec.record_logp:
        show_logp(logp[0] if logp else logp_table(result, spec), spec)
    spec.say_written()
    return 0


def trained(spec: Train, progress: Any = None, complement: Any = None) -> TrainResult:
    """What the library returns for these flags."""
    from simprior.training.ensemble import train
    from simprior.training.settings import KINDS, NETWORK

    settings = spec.chosen(" ".join(name for name in KINDS if name not in NETWORK))
    hooks = {"progress": progress, "complement": complement}
    return train(
        spec.build_network(), device=spec.device, **settings, **hooks, **spec.run_options()
    )


def function_table(result: TrainResult, top: int) -> pd.DataFrame:
    """The commonest functions with intervals and their test errors."""
    import pandas as pd

    from simprior.training.records import test_errors

    if not result.fitted.any():
        return pd.DataFrame()
    part = result.counts.head(top)
    frame = part.to_frame(top=None)
    frame.insert(3, "test_error", test_errors(part.words, result.problem))
    return frame


def check_logp(spec: Train) -> None:
    """Refuse ``--record-logp`` before the training where it cannot be done after it.

    The estimator is tried on one function, so that a kernel or an activation that it cannot use is
    found now.
    """
    import numpy as np

    from simprior.analysis.prior_measures import Prior
    from simprior.boolean.truthtable import n_words
    from simprior.errors import InputError
    from simprior.training.losses import threshold

    if not spec.record:
        raise InputError(
            "record_logp without steps", "steps to record", "pass for example --record log"
        )
    for name in ("data", "inputs"):
        if getattr(spec, name) is not None:
            raise InputError(
                f"record_logp with {name}={getattr(spec, name)}",
                "all bit strings as inputs",
                "leave --record-logp out; simprior measure has ln P(f) of trained networks",
            )
    network = spec.build_network()
    prior = Prior(network, spec.seed, threshold(spec.loss), draws=1000)
    prior.log_p(np.zeros((1, n_words(network.m)), np.uint64))


def logp_table(result: TrainResult, spec: Train) -> pd.DataFrame:
    """The trajectories with ln P(f) of every recorded function."""
    from simprior.analysis.prior_measures import with_log_p
    from simprior.errors import InputError

    if not spec.record or "network" not in result.config:
        raise InputError(
            "record_logp", "Boolean inputs and steps to record", "pass for example --record log"
        )
    return with_log_p(result, spec.seed)


def show_logp(frame: pd.DataFrame, spec: Train) -> None:
    """Print mean ln P(f) by step."""
    if spec.json:
        return
    columns = ["train_error", "loss", "logp", "lz76", "test_error"]
    means = frame.groupby("step")[columns].mean().reset_index()
    print()
    print(frame_text(means))


def keep_logp(frame: pd.DataFrame, store: RunDir) -> None:
    """Write the table into the run directory, unless it is there already."""
    from simprior.store import write_table

    if store.has_file(TRAJECTORY_LOGP):
        return
    path = store.make_folder("tables") / Path(TRAJECTORY_LOGP).name
    columns = {k: frame[k].to_numpy() for k in frame}
    columns["function"] = columns["function"].astype(object)
    write_table(path, columns)
    store.add_file(path, rows=len(frame))
