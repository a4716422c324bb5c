"""Streams: reproducible, distinct, bad seeds refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.errors import InputError
from simprior.numerics.random import SEED_LIMIT, check_seed, derive, generator, philox_key


def test_streams_are_reproducible_and_distinct() -> None:
    names = [(s, t, i) for s in (0, 1, SEED_LIMIT - 1) for t in ("a", "b", "a/1") for i in (0, 1)]
    digests = {derive(*name) for name in names}
    assert len(digests) == len(names) and all(len(d) == 32 for d in digests)
    draws = [generator(*name).random(4) for name in names]
    for name, draw in zip(names, draws, strict=True):
        np.testing.assert_array_equal(generator(*name).random(4), draw)
    assert len({tuple(d) for d in draws}) == len(names)


def test_keys_have_64_bits() -> None:
    keys = np.array([philox_key(seed, "networks") for seed in range(4000)], np.uint64)
    assert len(np.unique(keys)) == 4000
    ones = np.unpackbits(keys.view(np.uint8)).reshape(4000, 64).mean(0)
    # 64 means of 4000 fair bits: |z| < 5 for all fails once in 3e4 draws of the stream's name
    assert (np.abs(ones - 0.5) * 2 * np.sqrt(4000) < 5).all()


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT, 1.0, True, "1", None])
def test_bad_seeds(seed: object) -> None:
    for use in (check_seed, lambda s: philox_key(s, "x"), lambda s: generator(s, "x")):
        with pytest.raises(InputError) as error:
            use(seed)  # type: ignore[operator]
        assert str(error.value) == (
            f"seed={seed!r}: expected an integer from 0 to 2^63 - 1; pass for example --seed 0"
        )
