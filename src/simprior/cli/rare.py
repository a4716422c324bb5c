"""``simprior rare``: how probable is an output that hardly any input gives?"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.analysis.rare.laws import LAWS, SIDES
from simprior.cli.options import (
    Cluster,
    ModuleOptions,
    NetworkOptions,
    Reading,
    Resumable,
    Seeded,
)
from simprior.cli.parse import (
    Count,
    MaybeCount,
    MaybePath,
    MaybeSeed,
    MaybeText,
    Numbers,
    Texts,
    choice,
)
from simprior.errors import InputError
from simprior.network.states import FILES
from simprior.training.settings import MODULE, NETWORK, ModuleSettings, TrainSettings, text

if TYPE_CHECKING:
    from simprior.analysis.rare.run import RareOutputs

_SHOWN = "threshold method kind logp stderr low high off ess evaluations reliable".split()


@dataclass(frozen=True, kw_only=True)
class Rare(ModuleOptions, NetworkOptions, Resumable, Cluster, Seeded, Reading):
    """The probability of a rare output of one given network over random inputs, in nats.

    PATH is a run of simprior train (a --member of it), or a file of networks (.safetensors, .pt)
    whose architecture the other flags describe, --module and --architecture among them. Without
    PATH a random network is drawn from that architecture. Estimated by plain sampling, importance
    sampling (tilt, itgis), Metropolis chains (mhis, splitting), and approximated by Gaussian
    propagation (gaussian) and from fitted normal laws (gld, qld); up to 20 bits all are held to
    exact enumeration.
    """

    path: Annotated[
        Positional[MaybePath], arg(help="a run of simprior train, or a file of networks")
    ] = None
    member: Annotated[
        MaybeSeed,
        arg(help="which network (default: the first, of a run the first that fitted)"),
    ] = None
    law: Annotated[
        str,
        choice(*LAWS),
        arg(help="random inputs: uniform bits, standard normal, or a Gaussian like the data"),
    ] = "bits"
    threshold: Annotated[Numbers, arg(help="of the output z, one or more")] = 0.0
    event: Annotated[
        str, choice(*SIDES), arg(help="above: z > threshold; below; or the rarer of the two")
    ] = "rare"
    methods: Annotated[
        Texts,
        arg(
            help="some of exact, sampling, tilt, itgis, mhis, splitting, gaussian, gld, qld "
            "(default: all that apply)"
        ),
    ] = None
    samples: Annotated[Count, arg(help="inputs of plain and importance sampling")] = 100_000
    particles: Annotated[Count, arg(help="chains in each run of mhis and splitting")] = 500
    runs: Annotated[Count, arg(help="independent runs of mhis and splitting")] = 16
    moves: Annotated[
        MaybeCount, arg(help="Metropolis steps a level (default: twice the bits, at least 20)")
    ] = None
    data: Annotated[MaybeText, arg(help="of a run on a file of data: that file")] = None
    label: Annotated[MaybeText, arg(help="of a run on a file of data: its class column")] = None


SPEC = Rare


def run(spec: Rare) -> int:
    """Estimate, print the verdict and the table."""
    found = estimated(spec)
    summary = dict(found.summary)
    spec.print_result(
        {"table": found.table, "summary": summary}, found.verdict, found.table[_SHOWN]
    )
    for row in found.table[~found.table["reliable"]].itertuples():
        logging.getLogger("simprior").warning(
            "threshold %g, %s: %s", row.threshold, row.method, row.note
        )
    for note in summary["notes"]:
        logging.getLogger("simprior").warning("%s", note)
    spec.say_written()
    return 0


def estimated(spec: Rare) -> RareOutputs:
    """What the library returns for these flags."""
    from simprior.analysis.rare.methods import METHODS
    from simprior.analysis.rare.run import rare
    from simprior.runs.tasks import progress_bar

    given, network = _network(spec)
    own = spec.chosen("member law threshold event samples particles runs moves data label seed")
    thresholds = len(spec.threshold) if isinstance(spec.threshold, tuple) else 1
    running = spec.chosen("out resume overwrite executor executor_options")
    rows = len(METHODS if spec.methods is None else spec.methods) * thresholds
    with progress_bar(rows, "estimate", quiet=spec.quiet) as progress:
        return rare(
            given,
            network=network,
            methods=spec.methods,
            workers=spec.worker_count(),
            progress=progress,
            **own,
            **running,
        )


def _network(spec: Rare) -> tuple[Any, Any]:
    """What is given, and the architecture of a file. Raises :class:`InputError`."""
    if spec.path is None or spec.path.suffix in FILES:
        if spec.data is not None or spec.label is not None:
            name = "data" if spec.data is not None else "label"
            what = f"{name}={getattr(spec, name)} without a run"
            raise InputError(what, "a run on a file of data", f"leave {name} out")
        made = spec.build_architecture()
        return (made, None) if spec.path is None else (spec.path, made)
    for name in (*NETWORK, *MODULE):
        usual = getattr(ModuleSettings if name in MODULE else TrainSettings, name)
        if getattr(spec, name) != usual:
            what = f"{name}={text(getattr(spec, name))} with the run {spec.path}"
            raise InputError(what, "the network of the run", f"leave {name} out")
    return spec.path, None
