"""The parameters of any one network of a run, as plain matrices.

The compiled sampler never stores them; here they are drawn again from the same counters, for the
torch engine, for tests, and for anyone who wants to look at network number k of a run.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean._kernel import GROUP, draw_heads
from simprior.boolean._layers import draw_panel
from simprior.boolean._plan import Plan, make_plan, make_scratch
from simprior.boolean._tile import HEAD_TILE
from simprior.boolean.job import STREAM
from simprior.network import Network
from simprior.parameters import Parameters, shapes_of
from simprior.philox import fill
from simprior.rng import philox_key


class ParameterSource:
    """Draws the parameters of hidden draw k of the stream ``key``, for any k."""

    def __init__(self, network: Network, heads: int, key: int) -> None:
        self._plan: Plan = make_plan(network, heads, checked=False)
        self._scratch, self._buffers = make_scratch(self._plan)
        self._heads, self._key = heads, np.uint64(key)
        self._shapes = shapes_of(network, heads)

    def draw(self, cluster: int) -> Parameters:
        """Parameters of hidden draw ``cluster``."""
        _, _, tiles, _, uniform = self._plan.arch
        scales, ratios, *_ = self._plan.consts
        w, buf, words, *_ = self._scratch
        matrices = [np.empty((f + 1, k), np.float32) for f, k in self._shapes]
        for layer, matrix in enumerate(matrices[:-1]):
            _layer_matrix(
                matrix, w, buf, words, tiles[layer], layer, cluster, self._key, scales[layer],
                ratios[layer], uniform,
            )  # fmt: skip
        last = len(matrices) - 1
        _head_matrix(
            matrices[-1], self._buffers[0], buf, words, last, cluster, self._key, scales[last],
            ratios[last], uniform,
        )  # fmt: skip
        return Parameters(tuple(x[:-1] for x in matrices), tuple(x[-1] for x in matrices))


def draw_parameters(network: Network, seed: int, cluster: int, heads: int = 1) -> Parameters:
    """Parameters of hidden draw ``cluster`` of ``sample(network, seed=seed, heads=heads)``."""
    return ParameterSource(network, heads, philox_key(seed, STREAM)).draw(cluster)


@njit(nogil=True, cache=True)
def _layer_matrix(out, w, buf, words, nt, layer, network, key, scale, ratio, uniform):
    fan_in, width = out.shape[0] - 1, out.shape[1]
    for p in range((width + nt - 1) // nt):
        draw_panel(w, p, fan_in, nt, buf, words, layer, network, key, scale, ratio, uniform)
        for j in range(fan_in + 1):
            for i in range(min(nt, width - p * nt)):
                out[j, p * nt + i] = w[j * nt + i]


@njit(nogil=True, cache=True)
def _head_matrix(out, v, buf, words, layer, network, key, scale, ratio, uniform):
    fan_in, heads = out.shape[0] - 1, out.shape[1]
    if heads == 1:
        fill(v, (fan_in + 64) // 64, buf, words, 0, layer, network, key, scale, uniform)
        v[fan_in] *= ratio
        for j in range(fan_in + 1):
            out[j, 0] = v[j]
        return
    alive = np.ones(fan_in, np.uint8)
    for g in range((heads + GROUP - 1) // GROUP):
        draw_heads(
            v, g, fan_in, alive, buf, words, layer, network, key, scale, scale * ratio, uniform
        )
        for r in range(min(GROUP, heads - g * GROUP)):
            start = (r // HEAD_TILE) * (fan_in + 1) * HEAD_TILE + r % HEAD_TILE
            for j in range(fan_in + 1):
                out[j, g * GROUP + r] = v[start + j * HEAD_TILE]
