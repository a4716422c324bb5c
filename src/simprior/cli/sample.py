"""``simprior sample``: draw random networks and count the functions they compute."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.common import RunOptions
from simprior.cli.output import key_values, markdown, print_json, set_up_logging
from simprior.cli.values import (
    AutoCount,
    Count,
    Fraction,
    FunctionList,
    Integer,
    MaybeText,
    Number,
    Numbers,
    Size,
    Widths,
    choice,
)
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Sample(RunOptions):
    """Draw random networks and count the functions they compute."""

    model: Annotated[
        str, choice("network", "dnf"), arg(help="fully connected network, or random DNF network")
    ] = "network"
    n: Annotated[Integer, arg(help="input bits, 1 to 16")] = 7
    hidden: Annotated[Widths, arg(help='widths of the hidden layers; "" is a perceptron')] = (
        40,
        40,
    )
    activation: Annotated[
        str, arg(help="relu, tanh, erf, gelu, sin, linear, step, or package.module:function")
    ] = "relu"
    sigma_w: Annotated[
        Numbers, arg(help="standard deviation of weights times sqrt(fan-in), one or one a layer")
    ] = 1.0
    sigma_b: Annotated[Numbers, arg(help="standard deviation of biases, one or one a layer")] = 1.0
    encoding: Annotated[str, choice("01", "pm1"), arg(help="bits as 0 and 1, or as -1 and 1")] = (
        "01"
    )
    weight_dist: Annotated[
        str, choice("gaussian", "uniform"), arg(help="law of weights and biases (same variance)")
    ] = "gaussian"
    inputs: Annotated[
        MaybeText, arg(help="explicit inputs in place of all bit strings: .npy or .csv, one a row")
    ] = None
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
    from simprior.network import Network

    return Network(
        n=spec.n,
        hidden=spec.hidden,
        activation=spec.activation,
        sigma_w=spec.sigma_w,
        sigma_b=spec.sigma_b,
        encoding=spec.encoding,
        weight_dist=spec.weight_dist,
        inputs=None if spec.inputs is None else load_inputs(spec.inputs),
    )


def load_inputs(text: str) -> np.ndarray:
    """An (m, d) matrix from a ``.npy`` or ``.csv`` file, or written out as ``[[0, 1], [1, 0]]``."""
    import numpy as np

    path, expected = Path(text), "a .npy or .csv file with one input a row"
    try:
        if text.lstrip().startswith("["):
            return np.asarray(json.loads(text), dtype=np.float64)
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        if path.suffix == ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an empty file
                return np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2)
    except (OSError, ValueError, TypeError, EOFError, UserWarning) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"inputs={text}", expected, f"it cannot be read ({reason})") from None
    raise InputError(f"inputs={text}", expected, "save it in one of these two forms")


def show(counts: Any, spec: Sample) -> None:
    """Print the table and the totals, or both as one JSON object."""
    frame = counts.to_frame(top=spec.top)
    if spec.json:
        print_json({"summary": counts.summary(), "functions": frame.to_dict(orient="records")})
        return
    print(markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()))
    print()
    print(key_values(counts.summary()))
