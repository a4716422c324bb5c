"""Formulas of functions: sizes of smallest normal forms, and the files of logic synthesis.

*Normal forms* (:func:`normal_forms`): numbers of terms and of literals of smallest disjunctive and
conjunctive forms. Up to four variables they are exact: fewest terms and, among such forms, fewest
literals, for all functions at once, by dynamic programming over unions of cubes. Beyond, the
espresso heuristic of the optional package pyeda gives an upper bound (extra ``dnf``). A CNF of f is
a DNF of its complement, clauses for terms. Constants: the constant 0 has no terms, the constant 1
one term without literals.

*Files*: PLA (espresso) and BLIF, one output each. The first input of the file is x1, the most
significant bit of an input's number (``docs/notation.md``). Only fully specified functions are
read: don't-cares are refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from simprior.boolean.sensitivity import Columns, bits_of, packed_tables
from simprior.boolean.truthtable import check_words, unpack
from simprior.checks import Whole, checked
from simprior.errors import InputError
from simprior.network.spec import MAX_BITS

EXACT_BITS = 4
_NONE = 255


def normal_forms(tables: np.ndarray) -> Columns:
    """:func:`normal_forms_packed` of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    return normal_forms_packed(words, m)


def normal_forms_packed(words: np.ndarray, m: int) -> Columns:
    """Sizes of small normal forms of packed functions on m = 2^n inputs.

    Returns
    -------
    dict of (F,) float64
        ``dnf_terms``, ``dnf_literals``, ``cnf_clauses``, ``cnf_literals``, and ``dnf_exact``: 1
        where they are the minimum (n <= 4), 0 where espresso's upper bound is given.

    Raises
    ------
    InputError
        m is no power of two, or n > 4 without the optional package.
    """
    n = bits_of(m)
    words = check_words(words, m)
    if n <= EXACT_BITS:
        terms, literals = minimal_dnf(n)
        code = (words[:, 0] >> np.uint64(64 - m)).astype(np.int64)
        other = code ^ ((1 << m) - 1)
        found = [terms[code], literals[code], terms[other], literals[other], np.ones(len(code))]
    else:
        distinct, where = np.unique(words, axis=0, return_inverse=True)
        tables = unpack(distinct, m)
        rows = [(*espresso(t), *espresso(1 - t), 0) for t in tables]
        found = list(np.array(rows, np.float64).reshape(-1, 5)[where.ravel()].T)
    names = ("dnf_terms", "dnf_literals", "cnf_clauses", "cnf_literals", "dnf_exact")
    return {k: np.asarray(v, np.float64) for k, v in zip(names, found, strict=True)}


@checked(n=Whole(1, 5))
def cubes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All 3^n terms on n variables: (C,) tables as integers (input 0 is the top bit), literals."""
    m, tables, literals = 1 << n, [], []
    for cube in itertools.product((0, 1, 2), repeat=n):  # x1 first; 2: the variable is absent
        table = 0
        for x in range(m):
            bits = [(x >> (n - 1 - i)) & 1 for i in range(n)]
            match = all(c in (2, b) for c, b in zip(cube, bits, strict=True))
            table = 2 * table + match
        tables.append(table)
        literals.append(sum(c != 2 for c in cube))
    return np.array(tables, np.int64), np.array(literals, np.int64)


@checked(n=Whole(1, EXACT_BITS))
@lru_cache(maxsize=EXACT_BITS)
def minimal_dnf(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(terms, literals) of the smallest DNF of every function of n <= 4 variables.

    Index: the truth table as an integer, input 0 its most significant bit. A form of t terms with
    the fewest terms stays smallest for its own function when a term is left out, so that unions of
    one more cube with the functions of t - 1 terms reach all functions of t terms.
    """
    return _union_closure(1 << (1 << n), *cubes(n))


@njit(cache=True, nogil=True)
def _union_closure(functions, tables, literals):  # type: ignore[no-untyped-def]
    terms = np.full(functions, _NONE, np.int64)
    cost = np.full(functions, 1 << 30, np.int64)
    terms[0] = cost[0] = 0
    reached, t = 1, 0
    while reached < functions:
        t += 1
        for f in range(functions):
            if terms[f] != t - 1:
                continue
            for c in range(tables.size):
                g = f | tables[c]
                if terms[g] == _NONE:
                    terms[g] = t
                    reached += 1
                if terms[g] == t:
                    cost[g] = min(cost[g], cost[f] + literals[c])
    return terms, cost


def espresso(table: np.ndarray) -> tuple[int, int]:
    """(terms, literals) of a small DNF of one (m,) table of 0/1, by espresso: an upper bound.

    Raises :class:`InputError` without the optional package pyeda.
    """
    m = len(table)
    n = bits_of(m)
    ones = np.flatnonzero(table)
    if len(ones) in (0, m):
        return (0, 0) if len(ones) == 0 else (1, 0)
    solve = _espresso()
    # positional notation: 1 is a negated, 2 a plain literal, 3 an absent variable
    cover = {(tuple(1 + (int(x) >> (n - 1 - i) & 1) for i in range(n)), (1,)) for x in ones}
    found = solve(n, 1, cover, intype=1)
    return len(found), sum(part != 3 for inputs, _ in found for part in inputs)


def _espresso() -> Any:
    try:
        from pyeda.boolalg.espresso import espresso as solve
    except ImportError:
        raise InputError(
            f"measure dnf of functions of more than {EXACT_BITS} bits",
            "the optional pyeda",
            "install it with: pip install 'simprior[dnf]'",
        ) from None
    return solve


_PLA_TYPES = ("f", "fd", "fr", "fdr")
_TIMING = """.area .delay .wire_load_slope .wire .input_arrival .default_input_arrival
.output_required .default_output_required .input_drive .default_input_drive .output_load
.default_output_load .max_input_load .default_max_input_load""".split()
_NOT_COMBINATIONAL = {
    ".latch": "it has a state",
    ".mlatch": "it has a state",
    ".clock": "it has a state",
    ".subckt": "it uses another model",
    ".gate": "it uses a library of gates",
    ".search": "it needs another file",
    ".exdc": "it has don't-cares",
    ".start_kiss": "it has a state",
}


@dataclass(frozen=True)
class LogicFunction:
    """A function read from a file: ``table`` (2^n,) uint8 of 0/1 and the names of its inputs."""

    table: np.ndarray
    inputs: tuple[str, ...]
    output: str

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.inputs)


def bad_line(name: str, number: int, text: str, expected: str, remedy: str) -> InputError:
    """The error for one line of a file; the text is cut."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return InputError(f"{name}, line {number}: {shown!r}", expected, remedy)


def input_columns(n: int) -> np.ndarray:
    """(n, 2^n) uint8: row i the value of input i (x1 first) in every one of all inputs."""
    index = np.arange(1 << n)
    return np.stack([(index >> (n - 1 - i) & 1).astype(np.uint8) for i in range(n)])


def cube_inputs(cube: str) -> np.ndarray:
    """Numbers of the inputs that a cube of 0, 1 and - covers."""
    free = [len(cube) - 1 - i for i, c in enumerate(cube) if c == "-"]
    covered = np.array([int(cube.replace("-", "0") or "0", 2)])
    for bit in free:
        covered = np.concatenate([covered, covered + (1 << bit)])
    return covered


# -- PLA ------------------------------------------------------------------------------------------


@dataclass
class _Pla:
    """What the lines of a PLA file say so far."""

    name: str
    n: int | None = None
    outputs: int | None = None
    terms: int | None = None
    kind: str = "fd"
    inputs: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    found: int = 0
    sets: dict[str, np.ndarray] = field(default_factory=dict)


def read_pla(name: str, lines: Iterable[tuple[int, str]]) -> LogicFunction:
    """The function of a PLA file (espresso's format), from its numbered lines.

    Types f and fd list where the output is 1; fr and fdr list where it is 1 and where it is 0,
    together all inputs. ``name`` is for messages.

    Raises
    ------
    InputError
        Several outputs, don't-cares, a function given as 0 and 1 on one input, an input not
        listed (fr), another number of terms than ``.p`` says, or a line that cannot be read.
    """
    pla = _Pla(name)
    for number, raw in lines:
        text = raw.split("#")[0].strip()
        if not text:
            continue
        if text.split()[0] in (".e", ".end"):
            break
        if text[0] == ".":
            _pla_keyword(pla, number, text)
        else:
            _pla_term(pla, number, text)
    return _pla_function(pla)


def _pla_keyword(pla: _Pla, number: int, text: str) -> None:
    key, *values = text.split()
    if key in (".i", ".o", ".type") and pla.found:
        raise bad_line(pla.name, number, text, f"{key} before the terms", "move it up")
    if key in (".i", ".o", ".p"):
        if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()):
            raise bad_line(pla.name, number, text, f"{key} and a whole number", "correct it")
        value = int(values[0][:9])
        if key == ".i":
            pla.n = value
        elif key == ".o":
            pla.outputs = value
        else:
            pla.terms = value
        if key == ".i" and not 1 <= value <= MAX_BITS:
            expected = f"1 to {MAX_BITS} inputs"
            raise bad_line(pla.name, number, text, expected, "longer tables cannot be used")
    elif key == ".ilb":
        pla.inputs = tuple(values)
    elif key == ".ob":
        pla.output_names = tuple(values)
    elif key == ".type":
        if len(values) != 1 or values[0] not in _PLA_TYPES:
            expected = f"one of {', '.join(_PLA_TYPES)}"
            raise bad_line(pla.name, number, text, expected, "convert the file")
        pla.kind = values[0]
    elif key != ".phase" or set("".join(values)) - {"1"}:
        expected = "one of .i .o .p .type .ilb .ob .e"
        raise bad_line(pla.name, number, text, expected, "write the plain function (espresso -o f)")
    _check_pla_outputs(pla, number, text)


def _check_pla_outputs(pla: _Pla, number: int, text: str) -> None:
    known = max(pla.outputs or 1, len(pla.output_names))
    if known > 1:
        names = f" ({', '.join(pla.output_names[:4])})" if pla.output_names else ""
        expected = f"one output, not {known}{names}"
        raise bad_line(pla.name, number, text, expected, "split it by outputs")


def _pla_term(pla: _Pla, number: int, text: str) -> None:
    if pla.n is None or pla.outputs != 1:
        raise bad_line(pla.name, number, text, ".i and .o 1 before the terms", "add them")
    term = "".join(text.replace("|", " ").split())
    cube, value = term[:-1].replace("2", "-"), term[-1]
    value = {"4": "1", "2": "-", "3": "~"}.get(value, value)
    if len(cube) != pla.n or set(cube) - set("01-") or value not in set("01-~"):
        expected = f"{pla.n} of 0, 1, - and an output 0, 1, - or ~"
        raise bad_line(pla.name, number, text, expected, "correct it")
    if value == "-" and pla.kind in ("fd", "fdr"):
        expected = "a fully specified function, no don't-care output"
        raise bad_line(pla.name, number, text, expected, "choose 0 or 1 for it (espresso does)")
    pla.found += 1
    if value in "01":
        chosen = pla.sets.setdefault(value, np.zeros(1 << pla.n, bool))
        chosen[cube_inputs(cube)] = True


def _pla_function(pla: _Pla) -> LogicFunction:
    if pla.n is None or pla.outputs != 1:
        raise InputError(f"file={pla.name}", "a PLA file with .i and .o 1", "add them")
    if pla.terms is not None and pla.terms != pla.found:
        found = f"{pla.name}: {pla.found} terms"
        raise InputError(found, f"{pla.terms}, as .p says", "is the file cut short?")
    if pla.inputs and len(pla.inputs) != pla.n:
        found = f"{pla.name}: {len(pla.inputs)} names in .ilb"
        raise InputError(found, f"{pla.n} as .i says", "correct them")
    none = np.zeros(1 << pla.n, bool)
    on, off = (pla.sets.get(value, none) for value in "10")
    if "r" in pla.kind:
        for wrong, expected in (
            (on & off, "one output for each input"),
            (~(on | off), "a fully specified function"),
        ):
            if wrong.any():
                where = np.binary_repr(int(np.argmax(wrong)), pla.n)
                what = "both 0 and 1" if (on & off).any() else "no output"
                found = f"{pla.name}: {what} for {int(wrong.sum())} inputs, such as {where}"
                raise InputError(found, expected, "correct the terms")
    inputs = pla.inputs or tuple(f"x{i + 1}" for i in range(pla.n))
    return LogicFunction(on.astype(np.uint8), inputs, "".join(pla.output_names[:1]) or "y")


# -- BLIF -----------------------------------------------------------------------------------------


@dataclass
class _Node:
    """A ``.names`` block: its signals, the line it starts at, the cubes of its cover and their
    output (a cover lists either the on-set or the off-set)."""

    fanin: tuple[str, ...]
    number: int
    cubes: list[str] = field(default_factory=list)
    value: str = ""


def read_blif(name: str, lines: Iterable[tuple[int, str]]) -> LogicFunction:
    """The function of a BLIF file with one model and one output, from its numbered lines.

    ``.names`` blocks (on-set or off-set), constants and inner signals are read.

    Raises
    ------
    InputError
        Several outputs or models, latches, subcircuits, gates, don't-cares, a signal that is
        missing, defined twice or depends on itself, or a line that cannot be read.
    """
    inputs: list[str] = []
    outputs: list[str] = []
    nodes: dict[str, _Node] = {}
    open_node: _Node | None = None
    models = 0
    for number, text in _joined(lines):
        key, *values = text.split()
        if key[0] != ".":
            _cover_line(name, number, text, open_node)
            continue
        open_node = None
        if key == ".model":
            models += 1
        elif key == ".inputs":
            inputs += values
        elif key == ".outputs":
            outputs += values
        elif key == ".names" and values:
            if values[-1] in nodes:
                expected = "each signal defined once"
                raise bad_line(name, number, text, expected, f"remove one {values[-1][:40]}")
            open_node = nodes[values[-1]] = _Node(tuple(values[:-1]), number)
        elif key == ".end":
            break
        elif key not in _TIMING:
            why = _NOT_COMBINATIONAL.get(key, "the line cannot be read")
            remedy = "write a combinational network of .names (ABC: strash; write_blif)"
            raise bad_line(name, number, text, f"one function of its inputs; {why}", remedy)
    if models > 1:
        raise InputError(f"{name}: {models} models", "one", "flatten the file")
    return _blif_function(name, inputs, outputs, nodes)


def _joined(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines without comments, those that end in a backslash with the next ones."""
    start, whole = 0, ""
    for number, raw in lines:
        text = raw.split("#")[0].strip()
        start = start if whole else number
        if text.endswith("\\"):
            whole += text[:-1] + " "
            continue
        whole += text
        if whole.strip():
            yield start, whole.strip()
        whole = ""
    if whole.strip():
        yield start, whole.strip()


def _cover_line(name: str, number: int, text: str, node: _Node | None) -> None:
    if node is None:
        raise bad_line(name, number, text, "a .names line before it", "correct or remove it")
    term = "".join(text.split())
    cube, value = term[:-1], term[-1]
    if len(cube) != len(node.fanin) or set(cube) - set("01-") or value not in "01":
        expected = f"{len(node.fanin)} of 0, 1, - and an output 0 or 1"
        raise bad_line(name, number, text, expected, "correct it")
    if node.value not in ("", value):
        expected = "a cover of the ones or of the zeros, not both"
        raise bad_line(name, number, text, expected, "correct it")
    node.value = value
    node.cubes.append(cube)


def _blif_function(
    name: str, inputs: list[str], outputs: list[str], nodes: dict[str, _Node]
) -> LogicFunction:
    if len(outputs) != 1:
        listed = f" ({', '.join(outputs[:4])})" if outputs else ""
        raise InputError(f"{name}: {len(outputs)} outputs{listed}", "one", "split it by outputs")
    if not 1 <= len(inputs) <= MAX_BITS or len(set(inputs)) < len(inputs):
        expected = f"1 to {MAX_BITS} different ones, named by .inputs"
        raise InputError(f"{name}: {len(inputs)} inputs", expected, "correct .inputs")
    driven = next((signal for signal in inputs if signal in nodes), None)
    if driven is not None:
        expected, remedy = "inputs without a .names block", "remove it from .inputs"
        raise bad_line(name, nodes[driven].number, f".names ... {driven}", expected, remedy)
    known = dict(zip(inputs, input_columns(len(inputs)), strict=True))
    waiting, path = [outputs[0]], set()
    while waiting:
        signal = waiting[-1]
        if signal in known:
            waiting.pop()
            continue
        node = nodes.get(signal)
        if node is None:
            what = f"{name}: signal {signal[:40]!r}"
            raise InputError(what, "an input or a .names block", "define it")
        missing = [other for other in node.fanin if other not in known]
        if signal in path and missing:
            what = f"{name}, line {node.number}: {signal[:40]!r} depends on itself"
            raise InputError(what, "a function of the inputs", "break the loop")
        path.add(signal)
        if missing:
            waiting += missing
        else:
            known[signal] = _evaluate(node, [known[f] for f in node.fanin], 1 << len(inputs))
    return LogicFunction(known[outputs[0]], tuple(inputs), outputs[0])


def _evaluate(node: _Node, fanin: list[np.ndarray], m: int) -> np.ndarray:
    """(m,) values of a node: the OR of its cubes, or its negation for a cover of the zeros."""
    covered = np.zeros(m, bool)
    for cube in node.cubes:
        term = np.ones(m, bool)
        for literal, value in zip(cube, fanin, strict=True):
            if literal != "-":
                term &= value == int(literal)
        covered |= term
    return (covered if node.value != "0" else ~covered).astype(np.uint8)
