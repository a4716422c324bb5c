"""The functions of some hidden draws of the compiled sampler, one by one in place of their counts.

They are those that :func:`simprior.boolean.sampling.kernel.count_draws` counts, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from simprior.boolean.sampling.job import STREAM, Job, Plan, make_plan, make_scratch
from simprior.boolean.sampling.kernel import GROUP, head_functions, head_layer, hidden_features
from simprior.boolean.sampling.table import reverse64
from simprior.network.spec import Network
from simprior.numerics.random import philox_key

_ROWS = 1 << 14  # functions at a time


def compiled_functions(
    job: Job, first: int, stop: int, heads: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(hidden draw, functions) of the hidden draws ``first .. stop - 1``, some of them at a time.

    The functions are (draws * heads, W) packed words: of each hidden draw from the one named on its
    first ``heads`` heads.
    """
    assert isinstance(job.model, Network)
    plan: Plan = make_plan(job.model, job.output_layers)
    scratch, buffers = make_scratch(plan)
    key = np.uint64(philox_key(job.seed, STREAM))
    step = max(1, _ROWS // heads)
    for start in range(first, stop, step):
        end = min(start + step, stop)
        out = np.empty(((end - start) * heads, plan.n_words), np.uint64)
        _fill(
            plan.arch, plan.consts, scratch, plan.heads_arch, buffers, start, end, heads, key, out
        )
        yield start, out


@njit(nogil=True, cache=True)
def _fill(arch, consts, scratch, heads_arch, buffers, first, stop, wanted, key, out):  # type: ignore[no-untyped-def]
    """Write the first ``wanted`` heads of the hidden draws ``first .. stop - 1`` into ``out``."""
    heads, n_words, _full, tail, _iid, _keep_shift, ones_list = heads_arch
    keys = buffers[2]
    layer = head_layer(arch, consts, scratch, buffers)
    row = 0
    for draw in range(first, stop):
        below = hidden_features(arch, consts, scratch, ones_list, draw, key)
        done = 0
        while done < wanted:
            rows = min(GROUP, wanted - done)
            head_functions(layer, below, heads, draw, done, rows, key, False)
            for r in range(rows):
                keys[r, n_words - 1] &= tail
                for w in range(n_words):
                    out[row, w] = reverse64(keys[r, w])
                row += 1
            done += rows
