"""The ordered inputs on which a function is defined (``docs/notation.md``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simprior.checks import NETWORK, Choice, Integer, checked, plain_array, shown
from simprior.errors import InputError
from simprior.network import ENCODINGS, MAX_BITS, Network


def bit_matrix(n: int, encoding: str = "01") -> np.ndarray:
    """All bit strings of length ``n``: row i is the binary form of i, most significant bit first.

    Parameters
    ----------
    n : int
        Number of bits, 1 to 16.
    encoding : str
        ``"01"`` gives entries 0 and 1; ``"pm1"`` maps 0 to -1.

    Returns
    -------
    (2^n, n) float64 array; column 0 is x1.

    Raises
    ------
    InputError
        If ``n`` or ``encoding`` is out of range.
    """
    n = Integer(1, MAX_BITS, "pass for example n=7")("n", n)
    Choice(ENCODINGS, "pass encoding='01'")("encoding", encoding)
    index = np.arange(1 << n)[:, None]
    bits = ((index >> np.arange(n - 1, -1, -1)) & 1).astype(np.float64)
    return bits if encoding == "01" else 2.0 * bits - 1.0


@checked(network=NETWORK)
def input_matrix(network: Network) -> np.ndarray:
    """The (m, d) float64 matrix of the inputs of ``network``, a fresh array.

    Explicit inputs are returned as given; otherwise :func:`bit_matrix` of (n, encoding).
    """
    if network.inputs is not None:
        return np.array(network.inputs, dtype=np.float64)
    return bit_matrix(network.n, network.encoding)


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
