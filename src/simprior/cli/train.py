"""``simprior train``: train many networks on one training set and count what they find."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    ModuleOptions,
    NetworkOptions,
    RunOptions,
    TrainingOptions,
    frame_text,
)
from simprior.cli.parse import Count

if TYPE_CHECKING:
    import pandas as pd

    from simprior.runs.directory import RunDir
    from simprior.training.records import TrainResult

TRAJECTORY_LOGP = "tables/trajectories-logp.parquet"


@dataclass(frozen=True, kw_only=True)
class Train(TrainingOptions, ModuleOptions, NetworkOptions, RunOptions):
    """Train many networks on one training set and count the functions they find: P_opt(f|S).

    Every member has its own draw of the initial parameters and its own minibatch order. Members
    that do not fit the training set within --max-epochs are counted and reported.
    """

    record_logp: Annotated[
        bool, arg(help="also ln P(f) of recorded functions, infinite width (slow)")
    ] = False
    top: Annotated[Count, arg(help="functions to print")] = 20


SPEC = Train


def run(spec: Train) -> int:
    """Train, print the commonest functions and the totals of the run."""
    from simprior.runs.tasks import progress_bar

    if spec.record_logp:
        check_logp(spec)
    logp: list[pd.DataFrame] = []

    def complement(result: TrainResult, store: RunDir) -> None:
        logp.append(logp_table(result, spec))
        keep_logp(logp[0], store)

    with progress_bar(spec.runs, "run", quiet=spec.quiet) as progress:
        result = trained(spec, progress, complement if spec.record_logp else None)
    frame, totals = result.function_table(spec.top), result.summary()
    spec.print_result({"table": frame, "summary": totals}, frame, totals)
    log = logging.getLogger("simprior")
    if not result.fitted.any():
        log.warning("no member fitted the training set: raise --max-epochs, change --lr or --loss")
    if spec.record_logp:
        show_logp(logp[0] if logp else logp_table(result, spec), spec)
    spec.say_written()
    return 0


def trained(spec: Train, progress: Any = None, complement: Any = None) -> TrainResult:
    """What the library returns for these flags."""
    from simprior.training.settings import TRAINING
    from simprior.training.train import train

    settings = spec.chosen(" ".join(TRAINING))
    hooks = {"progress": progress, "complement": complement}
    return train(
        spec.build_architecture(), device=spec.device, **settings, **hooks, **spec.run_options()
    )


def check_logp(spec: Train) -> None:
    """Refuse ``--record-logp`` before the training where it cannot be done after it.

    The estimator is tried on one function, so that a kernel or an activation that it cannot use is
    found now.
    """
    import numpy as np

    from simprior.analysis.measure.prior import Prior
    from simprior.boolean.truthtable import n_words
    from simprior.errors import InputError
    from simprior.network.losses import threshold

    if not spec.record:
        what = "record_logp without steps"
        raise InputError(what, "steps to record", "pass for example --record log")
    for name in ("data", "inputs"):
        if getattr(spec, name) is not None:
            what = f"record_logp with {name}={getattr(spec, name)}"
            remedy = "leave --record-logp out; simprior measure has ln P(f) of trained networks"
            raise InputError(what, "all bit strings as inputs", remedy)
    network = spec.build_architecture()
    prior = Prior(network, spec.seed, threshold(spec.loss), draws=1000)
    prior.log_p(np.zeros((1, n_words(network.m)), np.uint64))


def logp_table(result: TrainResult, spec: Train) -> pd.DataFrame:
    """The trajectories with ln P(f) of every recorded function."""
    from simprior.analysis.measure.prior import with_log_p

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
    from simprior.runs.directory import write_table

    if store.has_file(TRAJECTORY_LOGP):
        return
    path = store.make_folder("tables") / Path(TRAJECTORY_LOGP).name
    columns = {k: frame[k].to_numpy() for k in frame}
    columns["function"] = columns["function"].astype(object)
    write_table(path, columns)
    store.add_file(path, rows=len(frame))
