"""``simprior sample``: draw random networks and count the functions they compute."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.network_options import NetworkOptions
from simprior.cli.output import key_values, markdown, print_json, set_up_logging
from simprior.cli.values import (
    AutoCount,
    Count,
    Fraction,
    FunctionList,
    MaybeCount,
    Number,
    Size,
    choice,
)

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Sample(NetworkOptions):
    """Draw random networks and count the functions they compute."""

    model: Annotated[
        str, choice("network", "dnf"), arg(help="fully connected network, or random DNF network")
    ] = "network"
    alpha: Annotated[Number, arg(help="model dnf: alpha 2^(n-1) clauses")] = 1.0
    samples: Annotated[Count, arg(help="networks to draw, e.g. 1e7")] = 10**7
    heads: Annotated[
        AutoCount, arg(help="output layers on the same hidden layers; 1 is independent networks")
    ] = "auto"
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
    memory: Annotated[Size, arg(help="counts spill to disk beyond this, e.g. 2GB")] = None
    top: Annotated[Count, arg(help="functions to print")] = 20
    workers: Annotated[
        MaybeCount,
        arg(help="processes or jobs (default: cores with --out or --watch, else 1)"),
    ] = None

    def worker_count(self) -> int:
        """In memory 1: sending the tables between processes takes longer than filling them."""
        cores = super().worker_count()
        here = self.out is None and self.watch is None and self.executor == "local"
        return 1 if here and self.workers is None else cores


SPEC = Sample


def run(spec: Sample) -> int:
    """Sample, print the most frequent functions and the totals of the run."""
    set_up_logging(spec.quiet)
    model = build_model(spec)
    from simprior.boolean.sampling import sample
    from simprior.engine import progress_bar

    with progress_bar(spec.samples, "net", quiet=spec.quiet) as progress:
        counts = sample(model, progress=progress, **sampling_options(spec))
    show(counts, spec)
    if spec.out is not None:
        logging.getLogger("simprior").info("written to %s", spec.out)
    return 0


def sampling_options(spec: Sample) -> dict[str, Any]:
    """Keywords of ``simprior.boolean.sampling.sample`` for these flags."""
    names = ["samples", "seed", "out", "resume", "overwrite", "heads", "device", "pool", "dtype"]
    names += ["watch", "keep", "memory", "executor"]
    options = {name: getattr(spec, name) for name in names}
    if spec.executor_options:
        options["executor_options"] = spec.executor_options
    return {**options, "workers": spec.worker_count()}


def build_model(spec: Sample) -> Any:
    """The :class:`~simprior.network.Network` or ``RandomDNF`` that the flags describe."""
    if spec.model == "dnf":
        from simprior.boolean.dnf import RandomDNF

        return RandomDNF(n=spec.n, alpha=spec.alpha)
    return spec.build_network()


def show(counts: Any, spec: Sample) -> None:
    """Print the table and the totals, or both as one JSON object."""
    frame = counts.to_frame(top=spec.top)
    if spec.json:
        print_json({"summary": counts.summary(), "functions": frame.to_dict(orient="records")})
        return
    print(markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()))
    print()
    print(key_values(counts.summary()))
