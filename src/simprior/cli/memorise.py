"""``simprior memorise``: which labels are known only because they were in the training set?"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    Cluster,
    ModuleOptions,
    NetworkOptions,
    ProblemOptions,
    Resumable,
    Seeded,
    build_problem,
    flags,
)
from simprior.cli.parse import Count, Integer, Number, Numbers

if TYPE_CHECKING:
    from simprior.analysis.memorise.run import Memorised

_TRAINING = "optimizer lr options loss batch_size stop max_epochs check pretrain"
SHARES = (0.05, 0.1, 0.2, 0.4)
_Training: Any = flags(_TRAINING.split())


@dataclass(frozen=True, kw_only=True)
class Memorise(
    _Training, ProblemOptions, ModuleOptions, NetworkOptions, Resumable, Cluster, Seeded
):
    """How far each training example is memorised: by trained networks, and by exact Bayes.

    An example is memorised as far as its label is found with it in the training set and not
    without (Feldman & Zhang 2020). Networks are trained on random subsets, and the Bayesian
    posterior is asked about the same ones; left out of the whole training set, the posterior has
    1 - P(C(S)) / P(C(S without i)), from one run of expectation propagation. Also influences on the
    other inputs, a noise ceiling, and what removing the most memorised examples does to the error.
    """

    subsets: Annotated[Count, arg(help="random subsets of the training set")] = 400
    share: Annotated[Number, arg(help="share of the training set in each")] = 0.7
    members: Annotated[Count, arg(help="networks trained on each subset")] = 1
    removal: Annotated[Numbers, arg(help="shares of examples to remove; 0 for none")] = SHARES
    removal_members: Annotated[Count, arg(help="networks trained on what is left")] = 50
    exact: Annotated[Integer, arg(help="examples also estimated without EP")] = 8
    top: Annotated[Count, arg(help="examples to print")] = 20


SPEC = Memorise


def run(spec: Memorise) -> int:
    """Compare, print the verdict, the most memorised examples, the removal and the totals."""
    found = compared(spec)
    frame = found.examples.sort_values("bayes", ascending=False, kind="stable").head(spec.top)
    values: dict[str, Any] = {"table": frame, "removal": found.removal}
    values["summary"] = {"verdict": found.verdict, **found.summary}
    spec.print_result(values, found.verdict, frame, found.removal, dict(found.summary))
    if found.summary["fitted"] < 1:
        logging.getLogger("simprior").warning(
            "%.3g %% of the networks fitted their subset: raise --max-epochs, or change --lr",
            100 * found.summary["fitted"],
        )
    spec.say_written()
    return 0


def compared(spec: Memorise) -> Memorised:
    """What the library returns for these flags."""
    from simprior.analysis.memorise.run import memorise
    from simprior.runs.tasks import progress_bar

    settings = spec.chosen("subsets share members removal_members exact seed")
    removal = spec.removal if isinstance(spec.removal, tuple) else (spec.removal,)
    running = spec.chosen("out resume overwrite executor executor_options")
    with progress_bar(spec.subsets, "subset", quiet=spec.quiet) as progress:
        return memorise(
            build_problem(spec),
            removal=() if removal == (0,) else removal,
            training=spec.chosen(_TRAINING),
            workers=spec.worker_count(),
            progress=progress,
            **settings,
            **running,
        )
