"""``simprior sample``: draw random networks and count the functions they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from simprior.checks import unknown
from simprior.cli.options import BITS, NetworkOptions, RunOptions, load_inputs
from simprior.cli.parse import (
    AutoCount,
    Count,
    Fraction,
    FunctionList,
    MaybeCount,
    MaybeText,
    Number,
    Options,
    Size,
    choice,
    show,
)
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sample(NetworkOptions, RunOptions):
    """Draw random networks and count the functions they compute."""

    model: Annotated[
        str,
        choice("network", "dnf", "modules"),
        arg(
            help="fully connected network, random DNF network, or torch modules (that is what "
            "--module and --architecture mean)"
        ),
    ] = "network"
    module: Annotated[
        MaybeText,
        arg(help="package.module:function that returns a torch module (m, n) -> (m,) or (m, 1)"),
    ] = None
    architecture: Annotated[
        MaybeText, arg(help="a shipped one: mlp, transformer, lstm, cnn (docs: architectures)")
    ] = None
    option: Annotated[
        Options, arg(help="options of the architecture or module, e.g. d_model=32,layers=2")
    ] = None
    norm: Annotated[
        str, choice("none", "layer", "rms"), arg(help="architecture mlp: normalisation")
    ] = "none"
    residual: Annotated[bool, arg(help="architecture mlp: each layer adds to the one before")] = (
        False
    )
    init: Annotated[
        str, choice("simprior", "own"), arg(help="modules: parameters by sigma_w, sigma_b, or own")
    ] = "simprior"
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
        arg(help="processes or jobs (default: cores with --out or --watch, else 1)"),
    ] = None

    def worker_count(self) -> int:
        """``--workers``; the default is 1 where the counts stay in memory.

        Sending the tables between processes would take longer than filling them.
        """
        cores = super().worker_count()
        here = self.out is None and self.watch is None and self.executor == "local"
        return 1 if here and self.workers is None else cores


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
    return own | spec.run_options()


def build_model(spec: Sample) -> Any:
    """The :class:`~simprior.network.spec.Network`, ``RandomDNF`` or
    :class:`~simprior.modules.spec.Module` that the flags describe."""
    if spec.module is not None or spec.architecture is not None or spec.model == "modules":
        return build_module(spec)
    for name in ("option", "norm", "residual", "init"):
        if getattr(spec, name) != getattr(Sample, name):
            what = f"{name}={show(getattr(spec, name))} without a module"
            raise InputError(what, "--architecture or --module", f"leave {name} out, or add one")
    if spec.model == "dnf":
        from simprior.boolean.sampling.dnf import RandomDNF

        return RandomDNF(n=spec.n, alpha=spec.alpha)
    return spec.build_network()


def build_module(spec: Sample) -> Any:
    """The :class:`~simprior.modules.spec.Module` that the flags describe.

    Raises
    ------
    InputError
        Both or neither of --module and --architecture, or a flag that means nothing for them.
    """
    from simprior.modules.spec import FLAGGED, SHIPPED, Module

    given = [name for name in ("module", "architecture") if getattr(spec, name) is not None]
    if len(given) != 1 or spec.model == "dnf":
        what = f"model={spec.model} with {' and '.join(given) or 'no module'}"
        remedy = "pass for example --architecture mlp, or --module mynets:make"
        raise InputError(what, "one of --module and --architecture", remedy)
    if spec.architecture is not None and spec.architecture not in SHIPPED:
        raise unknown(f"architecture={spec.architecture!r}", spec.architecture, SHIPPED)
    options = dict(spec.option or {})
    for name in FLAGGED:
        value = getattr(spec, name)
        if spec.architecture == "mlp":
            options.setdefault(name, value)
        elif value != getattr(Sample, name):
            what = f"{name}={show(value)} with {given[0]}={getattr(spec, given[0])}"
            expected = "flags that the module takes"
            raise InputError(what, expected, f"pass --option {name}=... if it has such an option")
    if isinstance(spec.sigma_w, tuple) or isinstance(spec.sigma_b, tuple):
        what = f"sigma_w={show(spec.sigma_w)}, sigma_b={show(spec.sigma_b)} with {given[0]}"
        raise InputError(what, "one number each", "torch modules have one for all layers")
    for name in ("sigma_w", "sigma_b", "weight_dist"):
        if spec.init == "own" and getattr(spec, name) != getattr(Sample, name):
            what = f"{name}={show(getattr(spec, name))} with init=own"
            remedy = f"leave {name} out, or leave --init out"
            raise InputError(what, "--init simprior with it", remedy)
    inputs = None if spec.inputs is None else load_inputs(spec.inputs)
    law = spec.chosen("sigma_w sigma_b encoding weight_dist init")
    if inputs is None or spec.n != BITS:
        law["n"] = spec.n
    return Module(getattr(spec, given[0]), options=options, inputs=inputs, **law)
