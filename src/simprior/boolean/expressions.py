"""Boolean functions written as expressions: ``x1^x2``, ``x1&x2|~x3``, ``parity:3^x5``.

Loosest first: ``|`` (or), ``^`` (exclusive or), ``&`` (and), ``~`` or ``!`` (not), brackets.
Atoms are 0, 1, the names of :func:`simprior.boolean.truthtable.named`, and

* ``NAME:k``, the named function of the first k bits (``parity:3`` is x1^x2^x3);
* ``junta:TABLE``, the function of the first k bits with this truth table, 2^k bits or ``0x`` and
  hex digits (``junta:0110`` is x1^x2).

May import: errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np

from simprior.errors import InputError

MARKS = set("^&|~!():")
"""Characters that only expressions have."""
_TOKEN = re.compile(r"\s*([A-Za-z_]\w*:[\w]+|\w+|[\^&|~!()])")
_DEEPEST = 100  # brackets and negations
_LEVELS = ("|", "^", "&")
_REMEDY = "write for example x1^x2, x1&x2|~x3, parity:3 or junta:0110"

Named = Callable[[str, int], np.ndarray]
"""(name, n) -> (2^n,) truth table."""


def is_expression(text: str, names: Collection[str]) -> bool:
    """Whether a text is meant as an expression of ``names``, not as a name.

    ``WORD:TEXT`` alone is one only where the word is a name: it may be a target of another kind.
    """
    marks = MARKS & set(text)
    return bool(marks) and (marks != {":"} or text.partition(":")[0] in {*names, "junta"})


def evaluate(text: str, n: int, named: Named) -> np.ndarray:
    """(2^n,) uint8 truth table of an expression on n bits; ``named`` knows the names.

    Raises :class:`InputError` with what could not be read, and where.
    """
    return _Parser(text, n, named).table()


class _Parser:
    """Recursive descent; each method returns the table of what it read."""

    def __init__(self, text: str, n: int, named: Named) -> None:
        self.text, self.n, self.named = text, n, named
        self.tokens, self.at, self.depth = _tokens(text), 0, 0

    def table(self) -> np.ndarray:
        found = self._level(0)
        if self.at < len(self.tokens):
            raise self._wrong(f"{self.tokens[self.at]!r} in it", "an operator between two operands")
        return found

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _level(self, level: int) -> np.ndarray:
        """Operands joined by the operator of a level."""
        if level == len(_LEVELS):
            return self._operand()
        found = self._level(level + 1)
        while self._peek() == _LEVELS[level]:
            self.at += 1
            other = self._level(level + 1)
            found = (found | other, found ^ other, found & other)[level]
        return found

    def _operand(self) -> np.ndarray:
        token = self._peek()
        self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._wrong("deep nesting", f"at most {_DEEPEST} brackets and negations")
        if token in ("~", "!"):
            found = self._operand() ^ 1
        elif token == "(":
            found = self._level(0)
            if self._peek() != ")":
                raise self._wrong("an open bracket", "a closing bracket for each")
            self.at += 1
        elif not token or token in "^&|)":
            where = repr(token) if token else "its end"
            raise self._wrong(f"nothing before {where}", "an operand on each side")
        else:
            found = self._atom(token)
        self.depth -= 1
        return found

    def _atom(self, token: str) -> np.ndarray:
        if token in ("0", "1"):
            return np.full(1 << self.n, int(token), np.uint8)
        name, colon, argument = token.partition(":")
        if not colon:
            return self.named(token, self.n)
        if name.lower() == "junta":
            return self._spread(self._junta(argument))
        if not argument.isdecimal() or not 1 <= int(argument[:6]) <= self.n:
            raise self._wrong(f"{token!r} in it", f"a number of bits from 1 to {self.n}")
        return self._spread(self.named(name, int(argument[:6])))

    def _junta(self, text: str) -> np.ndarray:
        digits = text.lower().removeprefix("0x")
        hexadecimal = digits != text.lower()
        if not digits or not set(digits) <= set("0123456789abcdef" if hexadecimal else "01"):
            raise self._wrong(f"junta:{text}", "bits, or 0x and hex digits")
        width = 4 if hexadecimal else 1
        bits = [int(d, 16) >> k & 1 for d in digits for k in range(width - 1, -1, -1)]
        if len(bits) & (len(bits) - 1) or not 2 <= len(bits) <= 1 << self.n:
            raise self._wrong(f"junta of {len(bits)} bits", f"2, 4, ... {1 << self.n} bits")
        return np.array(bits, np.uint8)

    def _spread(self, table: np.ndarray) -> np.ndarray:
        """A table on the first bits as one on all of them."""
        return np.repeat(table, (1 << self.n) // len(table))

    def _wrong(self, what: str, expected: str) -> InputError:
        return InputError(f"function {self.text!r} with {what}", expected, _REMEDY)


def _tokens(text: str) -> list[str]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            what = f"function {text!r} with {text[at:].strip()[:1]!r} in it"
            raise InputError(what, "names, 0, 1, brackets and ~ & ^ |", _REMEDY)
        tokens.append(found[1])
        at = found.end()
    return tokens
