"""Random flips until the class changes: distinct bits, in random order."""

from __future__ import annotations

import numpy as np

from simprior.analysis.hamming.networks import Centred

FIRST, MOST = 32, 256  # strings of a path evaluated at once: doubled from FIRST to MOST


def first_change(centred: Centred, order: np.ndarray) -> int:
    """How many bits of ``order`` are flipped, one after the other, until the class changes.

    Parameters
    ----------
    centred : Centred
        A classifier at its start string.
    order : (n,) int array
        A permutation of the bits.

    Returns
    -------
    int
        1 to n, or 0 if the class is the same all along, also with every bit flipped.
    """
    label = centred.outputs(centred.root)[0] > 0
    state, at, size = centred.root, 0, FIRST
    while at < len(order):
        states = centred.path(state, order[at : at + size])
        changed = np.flatnonzero((centred.outputs(states) > 0) != label)
        if len(changed):
            return at + int(changed[0]) + 1
        state, at, size = states[-1:], at + size, min(2 * size, MOST)
    return 0
