"""``simprior sensitivity``: distance to the other class, and flips until the class changes."""

from __future__ import annotations

import logging
import math
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from simprior.analysis.strings.settings import LAW, NAMES, StringsSettings, module_law
from simprior.cli.options import Reading, RunOptions, flags
from simprior.cli.parse import MaybePath, Refused, kind, parse_widths
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.training.settings import MODULE, ModuleSettings, architecture_of

_SHOWN = """n networks distance distance_stderr certified bias ratio asymptote gp_distance_low
exact_distance not_found flips flips_stderr gp_flips gp_flips_stderr exact_flips unchanged
sensitivity sensitivity_stderr sensitivity_nonconstant sensitivity_nonconstant_stderr""".split()
_OF_MODULES = ("not_found",)


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        found = parse_widths(text)
    except Refused:
        found = ()
    if not found:
        raise Refused("lengths of strings such as 100,200,400", "separate them with commas")
    return found


Sizes = Annotated[tuple[int, ...], kind(_parse_sizes, "INT[,INT...]")]


_Settings: Any = flags([name for name in NAMES if name not in ("n", "seed")], StringsSettings)
_Module: Any = flags(MODULE, ModuleSettings)


@dataclass(frozen=True, kw_only=True)
class _What(RunOptions, Reading):
    """What is measured."""

    path: Annotated[
        Positional[MaybePath], arg(help="a run of simprior train, in place of random networks")
    ] = None
    n: Annotated[Sizes, arg(help="lengths of the strings, 2 or more bits each")] = StringsSettings.n


@dataclass(frozen=True, kw_only=True)
class Sensitivity(_Module, _Settings, _What):
    """Sensitivity of random networks on strings of n bits, also where no truth table is possible.

    Measures the Hamming distance from random strings to the nearest string of the other class, and
    the number of random bits flipped until the class changes (De Palma, Kiani & Lloyd 2019), with
    fits over n and the prediction of the infinitely wide network. Of torch modules
    (--architecture, --module) also the number of bits that change the class by themselves. With
    PATH, a run of simprior train on all strings of n bits, both are computed exactly for the
    trained networks.
    """


SPEC = Sensitivity


def run(spec: Sensitivity) -> int:
    """Measure, print the table by length and the fits."""
    if spec.device == "cuda":
        raise InputError("device=cuda", "cpu (or auto)", "leave --device out")
    if spec.path is not None:
        return _run_trained(spec)
    from simprior.analysis.table_runs import sensitivity
    from simprior.runs.tasks import progress_bar

    settings = _settings(spec)
    with progress_bar(settings.total, "net", quiet=spec.quiet) as progress:
        options = spec.run_options()
        result = sensitivity(settings, progress=progress, command=command_line(), **options)
    values = {"table": result.summary, "fits": result.fits, "summary": {"notes": result.notes}}
    hidden = () if settings.module is not None else _OF_MODULES
    columns = [name for name in _SHOWN if name in result.summary and name not in hidden]
    fits = [result.fits] if len(result.fits) else []
    spec.print_result(values, result.summary[columns], *fits)
    for note in result.notes:
        logging.getLogger("simprior").info("note: %s", note)
    spec.say_written()
    return 0


def _settings(spec: Sensitivity) -> StringsSettings:
    """The settings that the flags describe. Raises :class:`InputError`."""
    module = _module(spec)
    if module is None:
        return StringsSettings(**spec.chosen(" ".join(NAMES)))
    own = " ".join(name for name in NAMES if name not in LAW)
    return StringsSettings(module=module, **spec.chosen(own))


def _module(spec: Sensitivity) -> Module | None:
    """The torch module that the flags describe, if there is one. Raises :class:`InputError`."""
    given = {name: getattr(spec, name) for name in MODULE}
    given = {k: v for k, v in given.items() if v != getattr(ModuleSettings, k)}
    if not given.keys() & {"module", "architecture"}:
        architecture_of(given)  # refuses what means nothing without one
        return None
    law = {name: getattr(spec, name) for name in LAW}
    given |= {k: v for k, v in law.items() if v != getattr(StringsSettings, k)}
    found = architecture_of(module_law(given))
    assert isinstance(found, Module)
    return found


def command_line() -> str:
    """The command that makes the tables, for the comments in their files."""
    return shlex.join(["simprior", *sys.argv[1:]])


def _run_trained(spec: Sensitivity) -> int:
    from simprior.analysis.strings.run import means, trained_sensitivity
    from simprior.analysis.table_runs import save_trained
    from simprior.runs.wipe import check_occupied

    assert spec.path is not None
    usual = {name: getattr(StringsSettings, name) for name in ("n", "hidden", "classifier")}
    usual |= {name: getattr(ModuleSettings, name) for name in ("module", "architecture")}
    for name, value in usual.items():
        if getattr(spec, name) != value:
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
