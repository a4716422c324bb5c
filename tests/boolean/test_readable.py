"""Functions in words: every formula and name means the function it stands for."""

from __future__ import annotations

import numpy as np

from simprior.boolean.readable import LONGEST, readable
from simprior.boolean.truthtable import bit_matrix, function_names, named, pack, to_hex


def value(text: str, n: int) -> np.ndarray:
    """Truth table of a text that :func:`readable` gave, by reading it anew."""
    if text.startswith("¬(") and text.endswith(")"):
        return 1 - value(text[2:-1], n)
    if text in ("0", "1"):
        return np.full(1 << n, int(text))
    if text.lstrip("¬") in function_names(n):
        table = named(text.lstrip("¬"), n)
        return 1 - table if text.startswith("¬") else table
    bits = bit_matrix(n).astype(int)
    found = np.zeros(1 << n, int)
    for term in text.split(" + "):
        product = np.ones(1 << n, int)
        for literal in term.split():
            column = bits[:, int(literal.lstrip("¬")[1:]) - 1]
            product &= 1 - column if literal.startswith("¬") else column
        found |= product
    return found


def test_all_functions_of_three_bits() -> None:
    tables = (np.arange(256)[:, None] >> np.arange(7, -1, -1)) & 1
    texts = readable(pack(tables.astype(np.uint8)), 8, 3)
    long = [text for text in texts if text.startswith("0x")]
    assert len(set(texts)) == 256 and len(long) < 20  # three terms of three literals
    for table, text in zip(tables, texts, strict=True):
        if text in long:
            continue
        np.testing.assert_array_equal(value(text, 3), table, err_msg=text)
    assert {"0", "1", "x1", "¬x3", "parity", "majority", "mux"} <= set(texts)


def test_long_formulas_stay_in_hex() -> None:
    random = np.random.default_rng(0)
    tables = random.integers(0, 2, (40, 32)).astype(np.uint8)
    words = pack(tables)
    for text, table, raw in zip(readable(words, 32, 5), tables, to_hex(words, 32), strict=True):
        assert text == raw or len(text) <= LONGEST
        if text != raw:
            np.testing.assert_array_equal(value(text, 5), table)
    assert readable(words, 32, 0) == to_hex(words, 32)  # inputs that are no bit strings
    wide = named("parity", 9)
    assert readable(pack(np.stack([wide, 1 - wide])), 512, 9) == ["parity", "¬parity"]
