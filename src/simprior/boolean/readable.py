"""Functions in words: a name where there is one, else a short formula, else hex.

Formulas are those of switching algebra: ``x1 x2 + ¬x3``; a bar over all of it is written
``¬(...)``. They are short, not shortest (a greedy cover by prime implicants).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simprior.boolean.truthtable import function_names, named, pack, to_hex, unpack

NAMED_BITS = 16
FORMULA_BITS = 5
"""Variables up to which a formula is looked for."""
LONGEST = 34
"""Characters of a formula; longer ones are no help, and the function stays in hex."""


def readable(words: np.ndarray, m: int, n: int) -> list[str]:
    """A text for each of (F, W) packed functions on m inputs.

    Inputs that are not the 2^n bit strings (``n`` = 0) have no names: all texts are hex.
    """
    hexes = to_hex(words, m)
    if not 1 <= n <= NAMED_BITS or m != 1 << n:
        return hexes
    known = _names(n)
    return [
        known.get(row.tobytes()) or _formula(table) or text
        for row, table, text in zip(words, unpack(words, m), hexes, strict=True)
    ]


def _names(n: int) -> dict[bytes, str]:
    """{packed function: its name}; complements are names with a bar."""
    names = [*(f"x{k}" for k in range(1, n + 1)), *function_names(n)]
    tables = np.array([named(name, n) for name in names], np.uint8)
    constants = np.array([[0], [1]], np.uint8).repeat(1 << n, axis=1)
    rows = pack(np.concatenate([constants, tables, 1 - tables]))
    texts = ["0", "1", *names, *(f"¬{name}" for name in names)]
    found: dict[bytes, str] = {}
    for row, text in zip(rows, texts, strict=True):
        found.setdefault(row.tobytes(), text)
    return found


def _formula(table: np.ndarray) -> str:
    """A sum of products for a table of 0/1, or for its complement if that is shorter; or ''."""
    n = len(table).bit_length() - 1
    if n > FORMULA_BITS:
        return ""
    plain, barred = _sum_of_products(table), f"¬({_sum_of_products(1 - table)})"
    shorter = min(plain, barred, key=len)
    return shorter if len(shorter) <= LONGEST else ""


def _sum_of_products(table: np.ndarray) -> str:
    """A greedy cover of the ones of a table by its largest cubes."""
    cubes, texts = _cubes(len(table).bit_length() - 1)
    ones = table.astype(bool)
    inside = ~(cubes & ~ones).any(axis=1)
    cubes, texts = cubes[inside], [t for t, i in zip(texts, inside, strict=True) if i]
    terms, open_ = [], ones.copy()
    while open_.any():
        best = int((cubes & open_).sum(axis=1).argmax())
        terms.append(texts[best])
        open_ &= ~cubes[best]
    return " + ".join(terms)


@lru_cache(maxsize=FORMULA_BITS)
def _cubes(n: int) -> tuple[np.ndarray, list[str]]:
    """All products on n variables, those of few literals first: (3^n, 2^n) tables, and texts."""
    inputs = np.arange(1 << n)
    bits = np.array([(inputs >> (n - 1 - i)) & 1 for i in range(n)], bool)
    rows: list[tuple[int, np.ndarray, str]] = [(0, np.ones(1 << n, bool), "1")]
    for i in range(n):
        with_it = [
            (
                count + 1,
                table & (bits[i] == value),
                _product(text, ("¬" * (not value)) + f"x{i + 1}"),
            )
            for count, table, text in rows
            for value in (True, False)
        ]
        rows += with_it
    rows.sort(key=lambda row: row[0])
    return np.array([table for _, table, _ in rows]), [text for _, _, text in rows]


def _product(text: str, literal: str) -> str:
    return literal if text == "1" else f"{text} {literal}"
