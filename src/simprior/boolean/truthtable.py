"""Truth tables: packed words, text forms, names, and parsing of whatever the user gives.

A function is defined on m ordered inputs (``docs/notation.md``); x1 is the most significant bit of
the number of an input. Forms of F functions:

* tables: (F, m) uint8 of 0/1, entry j the output on input j;
* packed: (F, W) uint64, W = ceil(m/64); input 0 is the MOST significant bit of word 0; padding
  bits are zero, so equal functions have equal words, and words sort like bit strings;
* bits: a string of m characters, character j the output on input j;
* hex: ``"0x"`` and ceil(m/4) digits, the first digit holding inputs 0..3 (input 0 its most
  significant bit). If m is not a multiple of 4, the last digit is filled with zero bits on its
  right: m=2, outputs 1, 0 on inputs 0, 1 is ``0x8``.

The *reversed* bit string of older C++ tools (``std::bitset`` output) is read from its end: the
last character belongs to input 0, the one before to input 1, and so on, where input i has x1 as
its LEAST significant bit. With rev(i) the number whose n binary digits are those of i reversed,
character p of such a string is the output on our input rev(2^n - 1 - p), so ``table[j] =
string[2^n - 1 - rev(j)]``. The map is its own inverse. It needs m = 2^n.

The *reversed* hex of tools for logic synthesis (ABC, kitty) is the same string written as one
whole number, four characters a digit: bit i of the number (bit 0 the least significant) is the
output on input i, where x1 is bit 0 of i. So the last digit holds inputs 0..3, x1 is 0xaa..., and
for n = 1 the one digit has two zero bits on its left. Variables keep their names (the tools' first
variable is our x1), only their order in an input's number differs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from simprior.boolean.expressions import evaluate, is_expression
from simprior.checks import (
    ARCHITECTURE,
    Choice,
    Maybe,
    Tables,
    Text,
    Whole,
    checked,
    plain_array,
    shown,
    whole,
)
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.spec import Network, bit_matrix


@checked(network=ARCHITECTURE)
def input_matrix(network: Network | Module) -> np.ndarray:
    """The (m, d) float64 matrix of the inputs of ``network``, a fresh array.

    Explicit inputs are returned as given; otherwise :func:`bit_matrix` of (n, encoding).
    """
    return network.input_matrix()


def check_index(train_index: Any, m: int, remedy: str) -> np.ndarray:
    """(s,) distinct indices of inputs, 1 <= s < m, as intp; else :class:`InputError`."""
    index = np.atleast_1d(plain_array("train_index", train_index))
    if index.dtype.kind not in "iu" and index.size:
        what = f"train_index={shown(train_index)}"
        raise InputError(what, f"integers from 0 to {m - 1}", remedy)
    if index.ndim != 1 or index.size == 0 or index.size >= m:
        what = f"a training set of {index.size} of the {m} inputs"
        raise InputError(what, f"1 to {m - 1} inputs", "leave at least one input outside")
    if index.min() < 0 or index.max() >= m:
        what = f"train_index with values from {index.min()} to {index.max()}"
        raise InputError(what, f"integers from 0 to {m - 1}", remedy)
    if np.unique(index).size < index.size:
        raise InputError("train_index with repeated inputs", "each input once", "drop the repeats")
    return index.astype(np.intp)


_Rule = Callable[[np.ndarray, np.ndarray], Any]


def _is_prime(index: np.ndarray) -> np.ndarray:
    sieve = np.ones(index.size + 2, dtype=bool)
    sieve[:2] = False
    for p in range(2, int(sieve.size**0.5) + 1):
        if sieve[p]:
            sieve[p * p :: p] = False
    return sieve[index]


def _inner_product(x: np.ndarray) -> np.ndarray:
    pairs = x.shape[1] // 2
    return (x[:, 0 : 2 * pairs : 2] & x[:, 1 : 2 * pairs : 2]).sum(axis=1) % 2


# name -> (smallest n, one-line meaning, rule on the (2^n, n) bits and the (2^n,) indices)
_RULES: dict[str, tuple[int, str, _Rule]] = {
    "const0": (1, "always 0", lambda x, i: np.zeros(i.size)),
    "const1": (1, "always 1", lambda x, i: np.ones(i.size)),
    "parity": (1, "XOR of all bits", lambda x, i: x.sum(axis=1) % 2),
    "majority": (1, "more than n/2 ones", lambda x, i: 2 * x.sum(axis=1) > x.shape[1]),
    "and": (1, "AND of all bits", lambda x, i: x.all(axis=1)),
    "needle": (1, "AND of all bits", lambda x, i: x.all(axis=1)),
    "or": (1, "OR of all bits", lambda x, i: x.any(axis=1)),
    "and2": (2, "x1 AND x2", lambda x, i: x[:, 0] & x[:, 1]),
    "xor2": (2, "x1 XOR x2", lambda x, i: x[:, 0] ^ x[:, 1]),
    "mux": (3, "x2 if x1 else x3", lambda x, i: np.where(x[:, 0] == 1, x[:, 1], x[:, 2])),
    "ip": (2, "x1x2 XOR x3x4 XOR ..., floor(n/2) pairs", lambda x, i: _inner_product(x)),
    "prime": (1, "the index is prime", lambda x, i: _is_prime(i)),
    "mod3": (1, "the index is divisible by 3", lambda x, i: i % 3 == 0),
}


@checked(n=Whole(1, 16))
def function_names(n: int) -> list[str]:
    """Names that :func:`named` accepts at this ``n``: the fixed ones, then ``x1`` ... ``xn``."""
    fixed = [name for name, (smallest, _, _) in _RULES.items() if n >= smallest]
    return fixed + [f"x{k}" for k in range(1, n + 1)]


@checked(name=Text())
def describe(name: str) -> str:
    """One-line meaning of a name, e.g. ``"XOR of all bits"``."""
    return _RULES[name][1] if name in _RULES else f"the input bit {name}"


@checked(name=Text(), n=Whole(1, 16))
def named(name: str, n: int) -> np.ndarray:
    """Truth table of a named function.

    Parameters
    ----------
    name : str
        One of :func:`function_names` (case and surrounding blanks do not matter), or an expression
        of them (:mod:`simprior.boolean.expressions`): ``x1^x2``, ``x1&x2|~x3``, ``parity:3``.
    n : int
        Number of bits, 1 to 16.

    Returns
    -------
    (2^n,) uint8 array of 0/1, entry j the output on input j.

    Raises
    ------
    InputError
        If the name is unknown at this ``n``; the message lists the names and the nearest ones.
    """
    key = name.strip().lower()
    if is_expression(key, _RULES):
        return evaluate(key, n, named)
    known = function_names(n)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "or pass a bit string or hex 0x..."
        shown = ", ".join([*known[: len(known) - n], f"x1..x{n}"])
        raise InputError(f"function {name!r}", f"one of {shown} (n={n})", hint)
    bits = bit_matrix(n).astype(np.int64)
    if key not in _RULES:
        return bits[:, int(key[1:]) - 1].astype(np.uint8)
    return np.asarray(_RULES[key][2](bits, np.arange(1 << n))).astype(np.uint8)


ORDERS = ("standard", "reversed")


def n_words(m: int) -> int:
    """Number W of 64-bit words that hold ``m`` outputs."""
    return (m + 63) // 64


def check_words(words: np.ndarray, m: int) -> np.ndarray:
    """``words`` as a contiguous (F, W) uint64 array on m >= 1 inputs, else :class:`InputError`."""
    m, words = whole("m", m, 1), plain_array("words", words)
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != n_words(m):
        what = f"words of dtype {words.dtype}, shape {words.shape}"
        expected = f"uint64 of shape (F, {n_words(m)}) (m={m} inputs)"
        raise InputError(what, expected, "use truthtable.pack")
    return np.ascontiguousarray(words)


@checked(tables=Tables())
def pack(tables: np.ndarray) -> np.ndarray:
    """Pack (F, m) or (m,) tables of 0/1 of any dtype into (F, W) uint64 words.

    Raises :class:`InputError` on other values (-1/+1 tables go through :func:`parse_functions`).
    """
    tables = np.atleast_2d(tables)
    f, m = tables.shape
    octets = np.zeros((f, 8 * n_words(m)), dtype=np.uint8)
    octets[:, : (m + 7) // 8] = np.packbits(_as_zero_one(tables), axis=1)
    return _octets_to_words(octets)


@checked(m=Whole(1))
def unpack(words: np.ndarray, m: int) -> np.ndarray:
    """Unpack (F, W) uint64 words into (F, m) uint8 tables of 0/1; inverse of :func:`pack`."""
    return np.unpackbits(_words_to_octets(words, m), axis=1, count=m)


@checked(m=Whole(1), order=Text())
def to_hex(words: np.ndarray, m: int, order: str = "standard") -> list[str]:
    """Hex text of each of F packed functions: ``"0x"`` and ceil(m/4) digits (module docstring)."""
    if _check_order(order) == "reversed":
        tables = unpack(words, m)[:, _reversed_positions(m)]
        words, m = pack(np.pad(tables, ((0, 0), (-m % 4, 0)))), m + -m % 4
    octets = _words_to_octets(words, m)
    text, step, digits = octets.tobytes().hex(), 2 * octets.shape[1], (m + 3) // 4
    return ["0x" + text[k : k + digits] for k in range(0, len(text), step)]


@checked(m=Whole(1), order=Text())
def from_hex(texts: str | Sequence[str], m: int, order: str = "standard") -> np.ndarray:
    """Packed (F, W) words of hex texts, with or without ``0x``.

    ``order="reversed"`` reads the form of ABC and kitty (module docstring). Raises
    :class:`InputError` on a wrong length, digit or padding, or if m is no power of 2 when reversed.
    """
    if _check_order(order) == "reversed":
        return _from_reversed_hex(texts, m)
    texts = _texts(texts)
    digits = (m + 3) // 4
    clean = [t.strip().lower().removeprefix("0x") for t in texts]
    for text, given in zip(clean, texts, strict=True):
        if len(text) != digits or not set(text) <= set("0123456789abcdef"):
            what = f"function {_short(given)!r}"
            remedy = "write 0x and one digit for every four inputs, inputs 0..3 first"
            raise InputError(what, f"{digits} hex digits (m={m} inputs)", remedy)
    width = 16 * n_words(m)
    joined = bytes.fromhex("".join(text.ljust(width, "0") for text in clean))
    octets = np.frombuffer(joined, dtype=np.uint8).reshape(len(clean), width // 2)
    words = _octets_to_words(octets)
    _check_padding(words, m, texts)
    return words


def _from_reversed_hex(texts: str | Sequence[str], m: int) -> np.ndarray:
    """The reversed order: a whole number, so padding is on the left."""
    spare = -m % 4
    tables = unpack(from_hex(texts, m + spare), m + spare)
    bad = np.flatnonzero(tables[:, :spare].any(axis=1))
    if bad.size:
        given = [texts] if isinstance(texts, str) else list(texts)
        what = f"function {_short(given[bad[0]])!r}"
        raise InputError(what, f"zero bits before the last {m}", "check the number of inputs")
    return pack(tables[:, spare:][:, _reversed_positions(m)])


@checked(m=Whole(1), order=Text())
def to_bits(words: np.ndarray, m: int, order: str = "standard") -> list[str]:
    """Bit string of each of F packed functions, in the ``standard`` or ``reversed`` order."""
    tables = unpack(words, m)
    if _check_order(order) == "reversed":
        tables = tables[:, _reversed_positions(m)]
    text = (tables + np.uint8(48)).tobytes().decode("ascii")
    return [text[k : k + m] for k in range(0, len(text), m)]


@checked(m=Whole(1), order=Text())
def from_bits(texts: str | Sequence[str], m: int, order: str = "standard") -> np.ndarray:
    """Packed (F, W) words of bit strings of length ``m``.

    ``order="reversed"`` reads the form of older C++ tools (module docstring). Raises
    :class:`InputError` on another length or character, or if m is no power of 2 when reversed.
    """
    texts = _texts(texts)
    _check_order(order)
    clean = [t.strip() for t in texts]
    for text in clean:
        if len(text) != m or text.count("0") + text.count("1") != m:
            what = f"function {_short(text)!r}"
            expected = f"{m} characters 0 or 1 (m={m} inputs)"
            raise InputError(what, expected, "give one character for every input, input 0 first")
    octets = np.frombuffer("".join(clean).encode("ascii"), dtype=np.uint8)
    tables = octets.reshape(len(clean), m) - np.uint8(48)
    return pack(tables[:, _reversed_positions(m)] if order == "reversed" else tables)


@checked(m=Whole(1), n=Maybe(Whole(0, 64)))
def parse_functions(functions: Any, m: int, n: int | None = None) -> np.ndarray:
    """Tables of functions given in any accepted form.

    Parameters
    ----------
    functions : array, str, or sequence of str / arrays
        0/1, bool or -1/+1 arrays of shape (m,) or (F, m); or texts: a bit string of length m, hex
        starting with ``0x``, a name, or an expression of names (:func:`named`).
    m : int
        Number of inputs.
    n : int or None
        Number of bits, for names. None means log2(m) if m is a power of 2, i.e. the inputs are
        all bit strings in the standard order. Pass 0 for inputs that are not, to refuse names.

    Returns
    -------
    (F, m) uint8 array of 0/1.

    Raises
    ------
    InputError
        If a function cannot be read; the message names it and what was expected.
    """
    if isinstance(functions, str):
        return _parse_text(functions, m, n)[None, :]
    kind = getattr(getattr(functions, "dtype", None), "kind", "O")
    if isinstance(functions, Iterable) and kind in "OU":
        items = list(functions)
        if any(isinstance(item, str) for item in items):
            return np.concatenate([parse_functions(item, m, n) for item in items], axis=0)
        functions = items
    return _parse_array(functions, m)


def one_function(function: Any, m: int, name: str, n: int | None = None) -> np.ndarray:
    """(m,) uint8 table of one function in any accepted form; ``name`` is for messages.

    Without ``n`` names are of log2(m) bits, if m is a power of 2. Raises :class:`InputError`.
    """
    if n is None:
        n = m.bit_length() - 1 if m & (m - 1) == 0 and m > 1 else 0
    try:
        tables = parse_functions(function, m, n)
    except InputError as error:
        raise InputError(f"{name} ({error.what})", error.expected, error.remedy) from None
    if len(tables) != 1:
        raise InputError(f"{name} of {len(tables)} functions", "one function", "pass one row")
    table: np.ndarray = tables[0]
    return table


def _parse_text(text: str, m: int, n: int | None) -> np.ndarray:
    key = text.strip()
    if key[:2].lower() == "0x":
        return unpack(from_hex(key, m), m)[0]
    if key and set(key) <= {"0", "1"}:
        return unpack(from_bits(key, m), m)[0]
    bits = (m.bit_length() - 1 if _is_power_of_two(m) else 0) if n is None else n
    if bits < 1 or 1 << bits != m:
        what = f"function {_short(text)!r}"
        remedy = "names are defined only when the inputs are all bit strings of some length"
        raise InputError(what, f"a bit string of length {m} or hex (m={m} inputs)", remedy)
    return named(key, bits)


def _parse_array(functions: Any, m: int) -> np.ndarray:
    array = plain_array("functions", functions)
    array = array[None, :] if array.ndim == 1 else array
    numeric = array.dtype.kind in "biuf"
    if not numeric or array.ndim != 2 or array.shape[1] != m:
        what = f"functions of type {type(functions).__name__}, shape {array.shape}"
        expected = f"0/1 arrays of shape ({m},) or (F, {m}), bit strings, hex strings or names"
        raise InputError(what, expected, f"give one output for each of the m={m} inputs")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    ones = array == 1
    if not (np.all(ones | (array == 0)) or np.all(ones | (array == -1))):
        wrong = array[~(ones | (array == 0))]
        what = f"function value {wrong[0]!s}"
        expected = "outputs 0 and 1, or -1 and +1 throughout"
        raise InputError(what, expected, "threshold the outputs first, e.g. z > 0")
    return ones.astype(np.uint8)


def _reversed_positions(m: int) -> np.ndarray:
    """(m,) indices p(j) = m - 1 - rev(j); an involution (rev of the complement)."""
    if not _is_power_of_two(m):
        raise InputError(f"m={m}", "a power of 2 for the reversed order", "use order='standard'")
    index, rev = np.arange(m), np.zeros(m, dtype=np.int64)
    for k in range(m.bit_length() - 1):
        rev = 2 * rev + ((index >> k) & 1)
    return m - 1 - rev


def _octets_to_words(octets: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(octets).view(">u8").astype(np.uint64)


def _words_to_octets(words: np.ndarray, m: int) -> np.ndarray:
    return np.ascontiguousarray(check_words(words, m).astype(">u8")).view(np.uint8)


def _check_padding(words: np.ndarray, m: int, texts: Sequence[str]) -> None:
    spare = 64 * n_words(m) - m
    bad = np.flatnonzero(words[:, -1:] & np.uint64((1 << spare) - 1))
    if bad.size:
        what = f"function {_short(texts[bad[0]])!r}"
        expected = f"zero bits after the first {m}"
        raise InputError(what, expected, "fill the last hex digit with zeros on its right")


def _check_order(order: str) -> str:
    return Choice(ORDERS, "pass order='standard'")("order", order)


def _as_zero_one(tables: np.ndarray) -> np.ndarray:
    kind = tables.dtype.kind
    exact = kind == "b" or tables.dtype == np.uint8 or bool(((tables == 0) | (tables == 1)).all())
    small = tables.astype(np.uint8, copy=False) if exact else tables
    if not exact or (kind != "b" and small.size and small.max() > 1):
        what = f"a table with values outside 0 and 1 (dtype {tables.dtype})"
        raise InputError(what, "0/1 outputs", "use truthtable.parse_functions for -1/+1 tables")
    return small


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given) if _is_list(given) else [None]
    if not all(isinstance(text, str) for text in texts):
        what = f"texts={shown(given)}"
        raise InputError(what, "a text or a list of texts", "write functions out")
    return [str(text) for text in texts]


def _is_list(given: Any) -> bool:
    return isinstance(given, list | tuple | set) or getattr(given, "ndim", 0) == 1


def _is_power_of_two(m: int) -> bool:
    return m >= 1 and m & (m - 1) == 0


def _short(text: Any) -> str:
    shown = str(text)
    return shown if len(shown) <= 40 else shown[:37] + "..."
