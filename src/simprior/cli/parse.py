"""What a flag's value may look like: text -> value, with the sentence that explains a refusal.

Each kind is a type for a field of a command's dataclass, e.g. ``samples: Count = 10**7``. A parser
raises ``Refused(expected, remedy)``; ``cli.parse`` adds the name of the field.

Arguments and ``--config`` file -> a command's frozen dataclass; every error is one line.

The dataclass is the only schema: its fields are the flags (``sigma_w`` is ``--sigma-w``), the keys
of the TOML file and what the manifest records. Tables of a TOML file are flattened, so that the
``config.toml`` of a run directory that records flags alone (``sample``, ``logp``) is itself a valid
``--config``; flags override the file. Where it records more (training: the problem), the error
names the command that made it.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff
from tyro.constructors import PrimitiveConstructorSpec

from simprior.checks import unknown
from simprior.errors import InputError, StoreError
from simprior.network.density import no_dropout
from simprior.runs.text_files import read_toml
from simprior.training.settings import LOG_STEPS, SWITCHES, number_or_text
from simprior.training.settings import text as show

__all__ = [
    "AutoCount",
    "Count",
    "Fraction",
    "FunctionList",
    "Integer",
    "MaybeCount",
    "MaybeCounts",
    "MaybeInteger",
    "MaybeNumber",
    "MaybePath",
    "MaybeText",
    "Number",
    "Numbers",
    "Option",
    "Options",
    "Refused",
    "Size",
    "Texts",
    "Widths",
    "choice",
    "help_text",
    "options",
    "parse",
    "show",
]


_COUNT = re.compile(r"(\d+(?:_\d+)*)(?:\.(\d+))?(?:e\+?(\d{1,3}))?\Z", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 100  # Python reads no whole number of more than 4,300 digits
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
_UNIT = r"""(?:[^,"'\[]|"[^"]*"|'[^']*'|\[[^\]]*\])"""
_PAIR, _PAIRS = re.compile(f"{_UNIT}+"), re.compile(f"{_UNIT}*(?:,{_UNIT}*)*")
COMMAS = 'check the commas: a value that holds some is quoted, exclude="n1,n2"'
_SIZES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Refused(Exception):
    """A text that a flag does not accept: what it expects and a remedy."""

    def __init__(self, expected: str, remedy: str) -> None:
        super().__init__(expected, remedy)
        self.expected, self.remedy = expected, remedy


def kind(parse: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec[Any]:
    """A tyro constructor for one token, from a function text -> value."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda tokens: parse(tokens[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [show(value)],
    )


def parse_count(text: str) -> int:
    """A whole number >= 1: ``1000``, ``10_000``, ``1e7``, ``1.5e6``."""
    match = _COUNT.match(text.strip()) if len(text) <= _MOST_DIGITS else None
    if match:
        whole, decimals, exponent = match[1], match[2] or "", int(match[3] or 0)
        digits = decimals.rstrip("0")
        if len(digits) <= exponent:
            value = int(whole.replace("_", "") + digits) * 10 ** (exponent - len(digits))
            if value >= 1:
                return value
    raise Refused("a whole number >= 1, such as 20 or 1e7", "pass for example {flag} {example}")


def parse_counts(text: str) -> tuple[int, ...]:
    """A comma list of counts, each once."""
    try:
        values = tuple(parse_count(part) for part in text.split(","))
    except Refused:
        expected = "whole numbers >= 1, one or several with commas between"
        raise Refused(expected, "pass for example {flag} 100,1000") from None
    if len(set(values)) < len(values):
        raise Refused("each count once", "leave one of them out")
    return values


def parse_integer(text: str) -> int:
    """A whole number (the library checks the range)."""
    if len(text) > _MOST_DIGITS:
        raise Refused("a whole number such as 7, of less than 100 digits", "write a smaller one")
    if re.fullmatch(r"[+-]?\d+(?:_\d+)*", text.strip(), re.ASCII):
        return int(text)
    raise Refused("a whole number such as 7", "write it in digits")


def parse_number(text: str) -> float:
    """A finite real number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    raise Refused("a finite number such as 1 or 0.5", "write it in digits")


def parse_radius(text: str) -> float:
    """A number of flips, or the radius of a box."""
    number = parse_number(text)
    return int(number) if number == int(number) else number


def parse_numbers(text: str) -> float | tuple[float, ...]:
    """One number, or a comma list with one number a layer."""
    try:
        values = tuple(parse_number(part) for part in text.split(","))
    except Refused:
        raise Refused("one number, or a comma list such as 1,2,1", "check the commas") from None
    return values[0] if len(values) == 1 else values


def parse_widths(text: str) -> tuple[int, ...]:
    """A comma list of widths; empty or ``none`` for a perceptron."""
    if text.strip().lower() in {"", "none", "()"}:
        return ()
    try:
        return tuple(parse_integer(part) for part in text.strip().strip("()").split(","))
    except Refused:
        raise Refused(
            "a comma list of widths such as 40,40", 'pass --hidden "" for a perceptron'
        ) from None


def parse_size(text: str) -> int:
    """Bytes: ``2GB``, ``500M``, ``1.5g`` (powers of 1024)."""
    match = _SIZE.match(text.strip()) if len(text) <= _MOST_DIGITS else None
    value = int(float(match[1]) * 1024 ** _SIZES[match[2].lower()]) if match else 0
    if value < 1:
        raise Refused("a size such as 2GB or 500M", "give a number and a unit (K, M, G, T)")
    return value


def parse_path(text: str) -> Path:
    """A path that a file system can hold."""
    if "\0" in text or any(len(part.encode(errors="replace")) > 255 for part in text.split("/")):
        raise Refused("a path with names of at most 255 bytes", "choose a shorter one")
    return Path(text)


def parse_fraction(text: str) -> float:
    """A fraction 1/2^k, written ``1/256`` or ``0.25`` or ``1``."""
    try:
        top, _, bottom = text.partition("/")
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if 0 < value <= 1 and math.frexp(value)[0] == 0.5:
        return value
    raise Refused("a fraction 1/2^k such as 1, 1/2 or 1/256", "round it to a power of one half")


def parse_auto_count(text: str) -> int | str:
    """A count, or ``auto``."""
    if text.strip().lower() == "auto":
        return "auto"
    try:
        return parse_count(text)
    except Refused as refused:
        raise Refused(f"auto, or {refused.expected}", refused.remedy) from None


def parse_functions(text: str) -> tuple[str, ...]:
    """A comma list of functions (bits, hex or names), or ``@file`` with one function a line."""
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            raise Refused(
                "a readable text file after @", "check the path; one function a line"
            ) from None
        found = [line.strip() for line in lines]
    else:
        found = [part.strip() for part in text.split(",")]
    functions = tuple(name for name in found if name and not name.startswith("#"))
    if not functions:
        raise Refused(
            "functions (bits, hex or names) with commas between, or @file", "name at least one"
        )
    return functions


def parse_texts(text: str) -> tuple[str, ...]:
    """A comma list of words, at least one."""
    words = tuple(part.strip() for part in text.split(",") if part.strip())
    if not words:
        raise Refused("one or more names with commas between", "name one, or leave {flag} out")
    return words


def parse_options(
    text: str, example: str = "partition=cpu,time=01:00:00", remedy: str = COMMAS
) -> dict[str, Any]:
    """``key=value`` pairs with commas between; numbers are taken as numbers.

    A comma inside quotes or square brackets belongs to the value. What is in quotes is a text, and
    so is what begins with a zero and another digit. ``example`` and ``remedy`` are for the message.
    """
    if not _PAIRS.fullmatch(text):
        raise Refused("quotes and brackets that are closed", remedy)
    parts = [part.strip() for part in _PAIR.findall(text) if part.strip()]
    pairs = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise Refused(f"key=value pairs such as {example}", remedy)
        if name.strip() in pairs:
            raise Refused(f"each key once, found {name.strip()} twice", "leave one of them out")
        pairs[name.strip()] = _option_value(value.strip())
    if not pairs:
        raise Refused(f"key=value pairs such as {example}", "name one, or leave {flag} out")
    return pairs


def _option_value(value: str) -> Any:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value if re.match(r"0\d", value) else number_or_text(value)


def _parse_module_options(text: str) -> dict[str, Any]:
    remedy = "commas stand between pairs; several numbers of one option are written 16x16"
    return parse_options(text, "width=16,layers=2", remedy)


def _parse_steps(text: str) -> tuple[int, ...]:
    """A comma list of steps, ``log`` (0 and the powers of 2), or ``none``."""
    if text.strip().lower() in {"", "none"}:
        return ()
    if text.strip().lower() == "log":
        return LOG_STEPS
    try:
        return tuple(sorted({parse_integer(part) for part in text.split(",")}))
    except Refused:
        raise Refused("steps with commas between, or log", "pass for example 0,10,100") from None


def _parse_seed(text: str) -> int | None:
    return None if text.strip().lower() == "none" else parse_integer(text)


def _parse_switch(text: str) -> bool:
    """``true`` or ``false``."""
    found = SWITCHES.get(text.strip().lower())
    if found is None:
        raise Refused("true or false", "pass for example {flag} false")
    return found


def choice(*names: str) -> PrimitiveConstructorSpec[Any]:
    """One of a few words: ``Annotated[str, choice("csv", "latex")]``."""

    def parse(text: str) -> str:
        if text in names:
            return text
        raise Refused(f"one of {', '.join(names)}", f"for example {names[0]}")

    return kind(parse, "|".join(names))


def _maybe(parse: Callable[[str], Any], empty: tuple[str, ...] = ("none",)) -> Any:
    return lambda text: None if text.lower() in empty else parse(text)


Count = Annotated[int, kind(parse_count, "COUNT")]
MaybeCount = Annotated[int | None, kind(_maybe(parse_count), "COUNT")]
MaybeCounts = Annotated[tuple[int, ...] | None, kind(_maybe(parse_counts), "COUNT[,COUNT...]")]
AutoCount = Annotated[int | str, kind(parse_auto_count, "auto|COUNT")]
Integer = Annotated[int, kind(parse_integer, "INT")]
Number = Annotated[float, kind(parse_number, "NUMBER")]
Radius = Annotated[float, kind(parse_radius, "NUMBER")]
Numbers = Annotated[float | tuple[float, ...], kind(parse_numbers, "NUMBER[,NUMBER...]")]
Widths = Annotated[tuple[int, ...], kind(parse_widths, "INT[,INT...]")]
Size = Annotated[int | None, kind(_maybe(parse_size), "SIZE")]
Fraction = Annotated[float, kind(parse_fraction, "1/2^k")]
FunctionList = Annotated[tuple[str, ...] | None, kind(_maybe(parse_functions), "LIST|@FILE")]
Texts = Annotated[tuple[str, ...] | None, kind(_maybe(parse_texts), "NAME[,NAME...]")]
Options = Annotated[dict[str, Any] | None, kind(_maybe(parse_options), "KEY=VALUE[,...]")]
ModuleOptions = Annotated[
    dict[str, Any] | None, kind(_maybe(_parse_module_options), "KEY=VALUE[,...]")
]
MaybeNumber = Annotated[float | None, kind(_maybe(parse_number), "NUMBER")]
MaybePath = Annotated[Path | None, kind(_maybe(parse_path), "PATH")]
MaybeText = Annotated[str | None, kind(_maybe(str), "TEXT")]
Steps = Annotated[tuple[int, ...], kind(_parse_steps, "STEP[,STEP...]|log")]
Switch = Annotated[bool | None, kind(_parse_switch, "true|false")]
MaybeSeed = Annotated[int | None, kind(_parse_seed, "INT")]
MaybeInteger = MaybeSeed

SETTINGS: dict[str, Any] = {
    "whole": Integer,
    "count": Count,
    "count?": MaybeCount,
    "whole?": MaybeSeed,
    "number": Number,
    "number?": MaybeNumber,
    "radius": Radius,
    "numbers": Numbers,
    "word": str,
    "word?": MaybeText,
    "widths": Widths,
    "sizes": Count,
    "steps": Steps,
    "options": Options,
    "texts": ModuleOptions,
    "switch": bool,
    "truth": Switch,
    "path?": MaybePath,
    "inputs": MaybeText,
}
"""The flag of each kind of setting (:mod:`simprior.training.settings`)."""


Spec = TypeVar("Spec")


@dataclass(frozen=True)
class Option:
    """One field of a command's dataclass, as the command line shows it."""

    name: str
    positional: bool
    many: bool
    switch: bool
    metavar: str
    help: str
    default: Any
    kind: PrimitiveConstructorSpec[Any] | None

    @property
    def flag(self) -> str:
        """``--sigma-w`` for ``sigma_w``; for a positional argument ``PATH``, ``PATH...`` if it may
        be given several times, in brackets if it need not be given."""
        if not self.positional:
            return "--" + self.name.strip("_").replace("_", "-")
        name = self.metavar + ("..." if self.many else "")
        return name if self.required else f"[{name}]"

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING

    @property
    def default_text(self) -> str:
        """The default as a flag would take it; empty when there is none to show."""
        return "" if self.required or self.switch or self.default is None else show(self.default)


@cache
def options(spec: Any) -> dict[str, Option]:
    """The options of a command's dataclass by field name, in order."""
    hints = get_type_hints(spec, include_extras=True)
    return {field.name: _option(field, hints[field.name]) for field in fields(spec)}


def _option(field: Any, hint: Any) -> Option:
    marks = getattr(hint, "__metadata__", ())
    base = getattr(hint, "__origin__", hint) if marks else hint
    kind = next((m for m in reversed(marks) if isinstance(m, PrimitiveConstructorSpec)), None)
    help_text = next((m.help for m in marks if getattr(m, "help", None)), "")
    positional = tyro.conf.Positional in marks
    metavar = field.name.upper() if kind is None or positional else kind.metavar
    default = field.default if field.default_factory is MISSING else field.default_factory()
    many = get_origin(base) is tuple
    return Option(field.name, positional, many, base is bool, metavar, help_text, default, kind)


def parse(command: str, spec: type[Spec], arguments: Sequence[str]) -> Spec | None:
    """Build ``spec`` from the arguments of ``simprior COMMAND``; None after printing ``--help``.

    Raises :class:`InputError` (one line) for an unknown or repeated flag, a missing value, a value
    of the wrong form, an unreadable ``--config`` file or an unknown key in it.
    """
    if any(token in {"-h", "--help"} for token in arguments):
        print(help_text(command, spec))
        return None
    known = options(cast(Any, spec))
    given, positionals = _split(command, known, arguments)
    tokens = {}
    if "config" in given:
        tokens = _read_config(Path(str(given["config"])), known)
    tokens.update(given)
    for name, text in tokens.items():
        _check(known[name], text)
    for text in positionals:  # the positional arguments of every command are paths
        try:
            parse_path(text)
        except Refused as refused:
            raise InputError(f"argument {_cut(text)!r}", refused.expected, refused.remedy) from None
    wanted = [option for option in known.values() if option.positional]
    if len(positionals) > len(wanted) and not (wanted and wanted[-1].many):
        extra = positionals[len(wanted)]
        expected = " ".join(o.flag for o in wanted) or "flags only"
        raise InputError(f"argument {extra!r}", expected, f"see simprior {command} --help")
    missing = [o.flag for o in wanted[len(positionals) :] if o.required]
    missing += [
        o.flag for o in known.values() if o.required and o.name not in tokens and not o.positional
    ]
    if missing:
        what = f"no {missing[0]}"
        raise InputError(what, f"simprior {command} {missing[0]}", f"see simprior {command} --help")
    line = [*(_token(known[name], text) for name, text in tokens.items()), "--", *positionals]
    return _tyro(command, spec, [token for token in line if token is not None])


def help_text(command: str, spec: type) -> str:
    """What ``simprior COMMAND --help`` prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        tyro.cli(spec, args=["--help"], **_settings(command, spec))
    return output.getvalue().rstrip()


def _settings(command: str, spec: type) -> dict[str, Any]:
    return {
        "prog": f"simprior {command}",
        "description": inspect.cleandoc(spec.__doc__ or ""),
        "config": (FlagCreatePairsOff,),
    }


def _tyro(command: str, spec: type[Spec], tokens: list[str]) -> Spec:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            return tyro.cli(spec, args=tokens, **_settings(command, spec))
    except SystemExit:
        words = [word for word in errors.getvalue().split() if set(word) - set("-─│╭╮╰╯")]
        text = " ".join(words).partition(" For full helptext")[0]
        remedy = f"see simprior {command} --help"
        raise InputError(text, "other arguments", remedy) from None


def _split(
    command: str, known: Mapping[str, Option], arguments: Sequence[str]
) -> tuple[dict[str, str | bool], list[str]]:
    """({field name: text, or True for a switch}, positional arguments)."""
    given: dict[str, str | bool] = {}
    positionals: list[str] = []
    rest: Iterator[str] = iter(arguments)
    for token in rest:
        if token == "--":
            positionals += list(rest)
        elif not token.startswith("-") or token == "-":
            positionals.append(token)
        else:
            flag, sign, value = token.partition("=")
            option = _lookup(command, known, flag)
            if option.switch:
                if sign:
                    raise InputError(f"{token}", f"{flag} without a value", "leave the value out")
                given[option.name] = True
                continue
            if not sign:
                follower = next(rest, None)
                if follower is None or (follower.startswith("--") and _is_flag(known, follower)):
                    raise InputError(flag, f"a value ({option.metavar})", f"write {flag}=VALUE")
                value = follower
            given[option.name] = value
    return given, positionals


def _is_flag(known: Mapping[str, Option], token: str) -> bool:
    return _field(known, token.partition("=")[0].removeprefix("--")) in known


def _field(known: Mapping[str, Option], name: str) -> str:
    """Field of a flag or key: ``sigma_w`` for ``sigma-w``, ``from_`` for the keyword ``from``."""
    name = name.replace("-", "_")
    return name if name in known or f"{name}_" not in known else f"{name}_"


_MOVED = {
    ("logp", "--study"): "use simprior study RECIPE, with a section [logp] in the recipe",
}
"""What to do in place of a flag that is gone."""


def _lookup(command: str, known: Mapping[str, Option], flag: str) -> Option:
    option = known.get(_field(known, flag.removeprefix("--"))) if flag[:2] == "--" else None
    if flag == "--dropout":
        raise no_dropout(flag)
    if option is None or option.positional:
        flags = [o.flag for o in known.values() if not o.positional]
        near = difflib.get_close_matches(flag, flags, 1)
        remedy = f"did you mean {near[0]}?" if near else f"see simprior {command} --help"
        remedy = _MOVED.get((command, flag), remedy)
        raise InputError(f"unknown flag {flag}", f"a flag of simprior {command}", remedy)
    return option


def _read_config(path: Path, known: Mapping[str, Option]) -> dict[str, str | bool]:
    values, _ = read_toml(path, "config")
    tokens: dict[str, str | bool] = {}
    for key, value in _leaves(values, known):
        name = _field(known, key)
        option = known.get(name)
        if name == "dropout":
            raise no_dropout(f"key {key!r} in {path}")
        if option is None or option.positional or name == "config":
            if made_by := _made_by(path):
                expected = "keys that are flags; this is what a run records"
                raise InputError(f"key {key!r} in {path}", expected, f"repeat: {made_by}")
            keys = [o.name for o in known.values() if not o.positional and o.name != "config"]
            raise unknown(f"key {key!r} in {path}", name, keys, "remove it")
        if name in tokens:
            raise InputError(f"key {key!r} in {path}", "each key once", "remove one of the two")
        if option.switch:
            if not isinstance(value, bool):
                raise InputError(f"{key}={value!r} in {path}", "true or false", "correct the file")
            if value:
                tokens[name] = True
        else:
            tokens[name] = _toml_text(value)
    return tokens


def _made_by(path: Path) -> str | None:
    """Command line of the run whose configuration this is, if a command made it."""
    from simprior.runs.directory import CONFIG, load_run
    from simprior.runs.tasks import is_console_script

    if path.name != CONFIG:
        return None
    try:
        program, *arguments = load_run(path.parent).manifest.get("argv") or [""]
    except StoreError:
        return None
    return shlex.join(["simprior", *arguments]) if is_console_script(program) else None


def _leaves(values: Mapping[str, Any], known: Mapping[str, Option]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and _field(known, key) not in known:
            yield from _leaves(value, known)
        else:
            yield key, value


def _toml_text(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(entry, list) for entry in value):
        return json.dumps(value)
    return show(value)


def _check(option: Option, text: str | bool) -> None:
    if option.kind is None or isinstance(text, bool):
        return
    try:
        option.kind.instance_from_str([text])
    except Refused as refused:
        example = option.default_text or "1"
        remedy = refused.remedy.format(flag=option.flag, example=example)
        raise InputError(f"{option.name}={_cut(text)}", refused.expected, remedy) from None


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:60]}...{text[-15:]} ({len(text):,} characters)"


def _token(option: Option, text: str | bool) -> str | None:
    return option.flag if text is True else f"{option.flag}={text}"
