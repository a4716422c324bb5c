"""What a flag's value may look like: text -> value, with the sentence that explains a refusal.

Each kind is a type for a field of a command's dataclass, e.g. ``samples: Count = 10**7``. A parser
raises ``Refused(expected, remedy)``; ``cli.parse`` adds the name of the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from simprior.training.settings import LOG_STEPS
from simprior.training.settings import text as show

__all__ = [
    "AutoCount",
    "Count",
    "Fraction",
    "FunctionList",
    "Integer",
    "MaybeCount",
    "MaybeNumber",
    "MaybePath",
    "MaybeText",
    "Number",
    "Numbers",
    "Options",
    "Refused",
    "Size",
    "Texts",
    "Widths",
    "choice",
    "show",
]

_COUNT = re.compile(r"(\d+(?:_\d+)*)(?:\.(\d+))?(?:e\+?(\d{1,3}))?\Z", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 100  # Python reads no whole number of more than 4,300 digits
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
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


def parse_options(text: str) -> dict[str, Any]:
    """``key=value`` pairs with commas between; numbers are taken as numbers."""
    pairs = {}
    for part in parse_texts(text):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise Refused("key=value pairs such as mem_gb=4,timeout_min=60", "check the commas")
        pairs[name.strip()] = _number_or_text(value.strip())
    return pairs


def _number_or_text(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


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
AutoCount = Annotated[int | str, kind(parse_auto_count, "auto|COUNT")]
Integer = Annotated[int, kind(parse_integer, "INT")]
Number = Annotated[float, kind(parse_number, "NUMBER")]
Numbers = Annotated[float | tuple[float, ...], kind(parse_numbers, "NUMBER[,NUMBER...]")]
Widths = Annotated[tuple[int, ...], kind(parse_widths, "INT[,INT...]")]
Size = Annotated[int | None, kind(_maybe(parse_size), "SIZE")]
Fraction = Annotated[float, kind(parse_fraction, "1/2^k")]
FunctionList = Annotated[tuple[str, ...] | None, kind(_maybe(parse_functions), "LIST|@FILE")]
Texts = Annotated[tuple[str, ...] | None, kind(_maybe(parse_texts), "NAME[,NAME...]")]
Options = Annotated[dict[str, Any] | None, kind(_maybe(parse_options), "KEY=VALUE[,...]")]
MaybeNumber = Annotated[float | None, kind(_maybe(parse_number), "NUMBER")]
MaybePath = Annotated[Path | None, kind(_maybe(parse_path), "PATH")]
MaybeText = Annotated[str | None, kind(_maybe(str), "TEXT")]
Steps = Annotated[tuple[int, ...], kind(_parse_steps, "STEP[,STEP...]|log")]
MaybeSeed = Annotated[int | None, kind(_parse_seed, "INT")]

SETTINGS: dict[str, Any] = {
    "whole": Integer,
    "count": Count,
    "whole?": MaybeSeed,
    "number": Number,
    "number?": MaybeNumber,
    "numbers": Numbers,
    "word": str,
    "word?": MaybeText,
    "widths": Widths,
    "sizes": Count,
    "steps": Steps,
    "options": Options,
    "inputs": MaybeText,
}
"""The flag of each kind of setting (:mod:`simprior.training.settings`)."""
