"""Randomness: (root seed, stream name, index) -> an independent, explicit source.

Two kinds of source are made here and nowhere else:

* :func:`generator` returns a ``numpy.random.Generator`` for set-up work (small draws);
* :func:`philox_key` returns the 64-bit key of the counter-based kernel in
  ``simprior.numerics.compiled``, where number ``i`` of network ``k`` is a pure function of ``(key,
  k, i)``.

Neither depends on the number of workers, on chunk sizes or on the order of evaluation.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from simprior.checks import Integer

if TYPE_CHECKING:
    import numpy as np

SEED_LIMIT = 2**63
_SEED = Integer(0, SEED_LIMIT - 1, "pass for example --seed 0", "an integer from 0 to 2^63 - 1")


def check_seed(seed: int) -> int:
    """Return ``seed`` if it is an integer in [0, 2^63), else raise :class:`InputError`."""
    return _SEED("seed", seed)


def derive(seed: int, stream: str, index: int = 0) -> bytes:
    """32 bytes that depend on (seed, stream, index) with full avalanche (SHA-256)."""
    text = f"simprior/{check_seed(seed)}/{stream}/{index}"
    return hashlib.sha256(text.encode()).digest()


def philox_key(seed: int, stream: str) -> int:
    """64-bit key for the counter-based generator in ``simprior.numerics.compiled``."""
    return int.from_bytes(derive(seed, stream)[:8], "little")


def seed_from(seed: int, stream: str, index: int = 0) -> int:
    """A seed below 2^62 of its own for (seed, stream, index), for what takes a seed."""
    return int(generator(seed, stream, index).integers(2**62))


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """Independent ``numpy.random.Generator`` (Philox) for (seed, stream, index)."""
    import numpy as np

    entropy = int.from_bytes(derive(seed, stream, index), "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
