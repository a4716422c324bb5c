"""The ordered inputs on which a function is defined (``docs/notation.md``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simprior.checks import NETWORK, checked, plain_array, shown
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
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= MAX_BITS:
        raise InputError(
            f"n={shown(n)}", f"an integer from 1 to {MAX_BITS}", "pass for example n=7"
        )
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise InputError(
            f"encoding={shown(encoding)}", f"one of {', '.join(ENCODINGS)}", "pass encoding='01'"
        )
    index = np.arange(1 << int(n))[:, None]
    bits = ((index >> np.arange(int(n) - 1, -1, -1)) & 1).astype(np.float64)
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
        raise InputError(
            f"train_index={shown(train_index)}", f"integers from 0 to {m - 1}", remedy
        )  # fmt: skip
    if index.ndim != 1 or index.size == 0 or index.size >= m:
        raise InputError(
            f"a training set of {index.size} of the {m} inputs", f"1 to {m - 1} inputs",
            "leave at least one input outside",
        )  # fmt: skip
    if index.min() < 0 or index.max() >= m:
        raise InputError(
            f"train_index with values from {index.min()} to {index.max()}",
            f"integers from 0 to {m - 1}", remedy,
        )  # fmt: skip
    if np.unique(index).size < index.size:
        raise InputError("train_index with repeated inputs", "each input once", "drop the repeats")
    return index.astype(np.intp)
