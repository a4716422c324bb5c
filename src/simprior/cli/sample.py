"""``simprior sample``: draw random networks and count the functions they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from simprior.cli.options import ModuleOptions, NetworkOptions, RunOptions
from simprior.cli.parse import (
    AutoCount,
    Count,
    Fraction,
    FunctionList,
    MaybeCount,
    Number,
    Size,
    choice,
)
from simprior.errors import InputError
from simprior.training.settings import MODULE, ModuleSettings


@dataclass(frozen=True, kw_only=True)
class Sample(ModuleOptions, NetworkOptions, RunOptions):
    """Draw random networks and count the functions they compute."""

    model: Annotated[
        str,
        choice("network", "dnf", "modules"),
        arg(
            help="fully connected network, random DNF network, or torch modules (that is what "
            "--module and --architecture mean)"
        ),
    ] = "network"
    alpha: Annotated[Number, arg(help="model dnf: alpha 2^(n-1) clauses")] = 1.0
    samples: Annotated[Count, arg(help="networks to draw, e.g. 1e7")] = 10**7
    heads: Annotated[
        AutoCount, arg(help="output layers on the same hidden layers; 1 is independent networks")
    ] = "auto"
    no_mirror: Annotated[
        bool, arg(help="draw all heads: by default half of them are mirrors of the others (-z)")
    ] = False
    dtype: Annotated[str, choice("float32", "float64"), arg(help="precision of the networks")] = (
        "float32"
    )
    pool: Annotated[bool, arg(help="pool counts over the exact symmetries of the prior")] = False
    watch: Annotated[
        FunctionList,
        arg(help="count only these functions (bits, hex or names), in constant memory"),
    ] = None
    keep: Annotated[Fraction, arg(help="count only this share of all functions, by their hash")] = (
        1.0
    )
    complexity: Annotated[
        MaybeCount,
        arg(
            help="hidden draws whose functions are measured: complexity over all functions and "
            "given that they are not constant"
        ),
    ] = None
    memory: Annotated[Size, arg(help="counts spill to disk beyond this, e.g. 2GB")] = None
    top: Annotated[Count, arg(help="functions to print")] = 20
    workers: Annotated[
        MaybeCount,
        arg(
            help="threads, processes or jobs (default: available cores; 1 where torch draws the "
            "networks and there is no --out)"
        ),
    ] = None

    def worker_count(self) -> int:
        """``--workers``; by default all cores, or 1 where processes would send counts to memory.

        Compiled code runs in threads, which share it; torch itself uses several cores.
        """
        cores = super().worker_count()
        kept = self.out is not None or self.watch is not None or self.executor != "local"
        return cores if self.workers or kept or self._in_threads() else 1

    def _in_threads(self) -> bool:
        """Whether the compiled sampler draws the networks."""
        from simprior.network.activations import code_of
        from simprior.runs.tasks import resolve_device

        if self.model == "dnf":
            return True
        plain = not self.module and not self.architecture and code_of(self) is not None
        return plain and self.dtype == "float32" and resolve_device(self.device) == "cpu"


SPEC = Sample


def run(spec: Sample) -> int:
    """Sample, print the most frequent functions and the totals of the run."""
    model = build_model(spec)
    from simprior.boolean.sampling.sample import sample
    from simprior.runs.tasks import progress_bar

    with progress_bar(spec.samples, "net", quiet=spec.quiet) as progress:
        counts = sample(model, progress=progress, **sampling_options(spec))
    frame = counts.to_frame(top=spec.top)
    totals = counts.summary()
    values, parts = {"table": frame, "summary": totals}, [frame, totals]
    if spec.complexity is not None:
        measured = counts.complexity_frame()
        values["complexity"] = measured
        parts.append(measured[measured["quantity"] != "p_lz76"])  # a row a complexity that was met
    spec.print_result(values, *parts)
    spec.say_written()
    return 0


def sampling_options(spec: Sample) -> dict[str, Any]:
    """Keywords of ``simprior.boolean.sampling.sample.sample`` for these flags."""
    own = spec.chosen("samples seed heads device pool dtype watch keep memory complexity")
    own["mirror"] = False if spec.no_mirror else "auto"
    return own | spec.run_options()


def build_model(spec: Sample) -> Any:
    """The :class:`~simprior.network.spec.Network`, ``RandomDNF`` or
    :class:`~simprior.modules.spec.Module` that the flags describe.

    Raises
    ------
    InputError
        ``--model`` says another thing than the flags of modules, and see ``build_architecture``.
    """
    given = [name for name in MODULE if getattr(spec, name) != getattr(ModuleSettings, name)]
    named = {"module", "architecture"} & set(given)
    if (spec.model == "modules" and not named) or (spec.model == "dnf" and given):
        what = f"model={spec.model} with {' and '.join(given) or 'no module'}"
        remedy = "pass for example --architecture mlp, or --module mynets:make"
        raise InputError(what, "one of --module and --architecture", remedy)
    if spec.model == "dnf":
        from simprior.boolean.sampling.dnf import RandomDNF

        return RandomDNF(n=spec.n, alpha=spec.alpha)
    return spec.build_architecture()
