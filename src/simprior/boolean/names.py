"""Named Boolean functions on n bits. x1 is the most significant bit of the input index."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from simprior.boolean.inputs import bit_matrix
from simprior.checks import Text, Whole, checked
from simprior.errors import InputError

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
        One of :func:`function_names` (case and surrounding blanks do not matter).
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
