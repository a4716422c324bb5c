"""Arguments and ``--config`` file -> a command's frozen dataclass; every error is one line.

The dataclass is the only schema: its fields are the flags (``sigma_w`` is ``--sigma-w``), the keys
of the TOML file and what the manifest records. Tables of a TOML file are flattened, so that the
``config.toml`` of a run directory is itself a valid ``--config``; flags override the file.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff
from tyro.constructors import PrimitiveConstructorSpec

from simprior.checks import unknown
from simprior.cli.values import Refused, parse_path
from simprior.errors import InputError
from simprior.store_toml import read_toml
from simprior.training.settings import text as show

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
        if option is None or option.positional or name == "config":
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


__all__ = ["Option", "help_text", "options", "parse"]
