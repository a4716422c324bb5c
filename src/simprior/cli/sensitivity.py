"""``simprior sensitivity``: distance to the other class, and flips until the class changes."""

from __future__ import annotations

import logging
import math
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, RunOptions
from simprior.cli.parse import (
    Count,
    Integer,
    MaybePath,
    Numbers,
    Refused,
    Widths,
    choice,
    kind,
    parse_widths,
)
from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.analysis.strings.records import SensitivitySettings

_SHOWN = """n networks distance distance_stderr certified bias ratio asymptote gp_distance_low
exact_distance flips flips_stderr gp_flips gp_flips_stderr exact_flips unchanged""".split()


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        found = parse_widths(text)
    except Refused:
        found = ()
    if not found:
        raise Refused("lengths of strings such as 100,200,400", "separate them with commas")
    return found


Sizes = Annotated[tuple[int, ...], kind(_parse_sizes, "INT[,INT...]")]


SIZES, HIDDEN = (100, 200, 400), (1000, 1000)


@dataclass(frozen=True, kw_only=True)
class Sensitivity(RunOptions, Reading):
    """Sensitivity of random networks on strings of n bits, also where no truth table is possible.

    Measures the Hamming distance from random strings to the nearest string of the other class, and
    the number of random bits flipped until the class changes (De Palma, Kiani & Lloyd 2019), with
    fits over n and the prediction of the infinitely wide network. With PATH, a run of simprior
    train on all strings of n bits, both are computed exactly for the trained networks.
    """

    path: Annotated[
        Positional[MaybePath], arg(help="a run of simprior train, in place of random networks")
    ] = None
    n: Annotated[Sizes, arg(help="lengths of the strings, 2 or more bits each")] = SIZES
    hidden: Annotated[Widths, arg(help='widths of the hidden layers; "" is a perceptron')] = HIDDEN
    activation: Annotated[
        str, arg(help="relu, tanh, erf, gelu, sin, linear, step, or package.module:function")
    ] = "relu"
    sigma_w: Annotated[Numbers, arg(help="weights: standard deviation times sqrt(fan-in)")] = 1.0
    sigma_b: Annotated[Numbers, arg(help="biases: standard deviation")] = 0.0
    encoding: Annotated[str, choice("pm1", "01"), arg(help="bits as -1 and 1, or as 0 and 1")] = (
        "pm1"
    )
    weight_dist: Annotated[
        str, choice("gaussian", "uniform"), arg(help="law of weights and biases (same variance)")
    ] = "gaussian"
    classifier: Annotated[
        str,
        choice("network", "uniform"),
        arg(help="uniform: a fair coin for every string, as a check (distance 1, flips 2)"),
    ] = "network"
    networks: Annotated[Count, arg(help="networks at each length")] = 500
    strings: Annotated[Count, arg(help="start strings a network")] = 1
    paths: Annotated[Count, arg(help="orders of flips a start string")] = 1
    beam: Annotated[Count, arg(help="search: strings kept at each distance")] = 8
    candidates: Annotated[Count, arg(help="search: bits tried from each of them")] = 32
    budget: Annotated[
        Integer, arg(help="strings to enumerate at most to make a distance exact; 0 is none")
    ] = 50_000
    gp_draws: Annotated[
        Integer, arg(help="Gaussian sequences a length for the predicted flips; 0 is none")
    ] = 20_000


SPEC = Sensitivity


def run(spec: Sensitivity) -> int:
    """Measure, print the table by length and the fits."""
    if spec.device == "cuda":
        raise InputError("device=cuda", "cpu (or auto)", "leave --device out")
    if spec.path is not None:
        return _run_trained(spec)
    from simprior.analysis.result_runs import sensitivity
    from simprior.runs.tasks import progress_bar

    study = build_study(spec)
    with progress_bar(spec.networks * len(study.n), "net", quiet=spec.quiet) as progress:
        options = spec.run_options()
        result = sensitivity(study, progress=progress, command=command_line(), **options)
    values = {"table": result.summary, "fits": result.fits, "summary": {"notes": result.notes}}
    columns = [name for name in _SHOWN if name in result.summary]
    fits = [result.fits] if len(result.fits) else []
    spec.print_result(values, result.summary[columns], *fits)
    for note in result.notes:
        logging.getLogger("simprior").info("note: %s", note)
    spec.say_written()
    return 0


def build_study(spec: Sensitivity) -> SensitivitySettings:
    """The study that the flags describe. Raises :class:`InputError`."""
    from simprior.analysis.strings.records import SensitivitySettings
    from simprior.analysis.strings.search import Search
    from simprior.network.spec import Network

    law = spec.chosen("hidden activation sigma_w sigma_b encoding weight_dist")
    settings = spec.chosen("n classifier networks strings paths gp_draws seed")
    search = Search(spec.beam, spec.candidates, spec.budget)
    return SensitivitySettings(network=Network(n=1, **law), search=search, **settings)


def command_line() -> str:
    """The command that makes the tables, for the comments in their files."""
    return shlex.join(["simprior", *sys.argv[1:]])


def _run_trained(spec: Sensitivity) -> int:
    from simprior.analysis.result_runs import save_trained
    from simprior.analysis.strings.records import means, trained_sensitivity
    from simprior.runs.wipe import check_occupied

    assert spec.path is not None
    for name, default in (("n", SIZES), ("hidden", HIDDEN), ("classifier", "network")):
        if getattr(spec, name) != default:
            what = f"--{name} with the run {spec.path}"
            expected = "flags of random networks without a run"
            raise InputError(what, expected, "leave one of the two out")
    if spec.out is not None:
        check_occupied(spec.out, "sensitivity", resume=spec.resume, overwrite=spec.overwrite)
    frame = trained_sensitivity(spec.path)
    fitted = frame[frame["fitted"]]
    summary: dict[str, Any] = {"members": len(frame), "fitted": len(fitted), **means(fitted)}
    if spec.out is not None:
        state = spec.chosen("resume overwrite")
        save_trained(frame, spec.path, spec.out, command_line(), **state)
    spec.print_result({"table": frame, "summary": summary}, with_errors(summary))
    spec.say_written()
    return 0


def with_errors(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary for a terminal: each mean with its standard error, rounded to it."""
    from simprior.analysis.text.numbers import decimals_of, fixed

    out: dict[str, Any] = {}
    for name, value in summary.items():
        error = summary.get(f"{name}_stderr", math.nan)
        decimals = decimals_of(error)
        if name.endswith("_stderr"):
            continue
        missing = isinstance(value, float) and math.isnan(value)
        out[name] = "-" if missing else value
        if decimals is not None:
            out[name] = f"{fixed(value, decimals)} ± {fixed(error, decimals)}"
    return out
