"""Random torch modules as classifiers of n-bit strings (``Centred`` of :mod:`.networks`).

A state is the string itself. Many strings are evaluated at once by one network, in blocks that
depend on the module and n only. A module may read tokens, so that there is no gradient to say what
flipping a bit does to the output: every flip is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from simprior.errors import NumericalError
from simprior.modules.build import evaluation, users_code
from simprior.modules.draws import Draws
from simprior.modules.spec import Module
from simprior.numerics.random import generator

PROBES = 64
"""Random strings on which a module is built and tested; all 2^n strings are too many."""
_ELEMENTS = 1 << 20  # of the largest tensor of a block of strings
_MOST_AT_ONCE = 512


def on_strings(module: Module, n: int) -> Module:
    """The module on strings of ``n`` bits: its inputs are :data:`PROBES` random ones."""
    bits = generator(0, f"sensitivity/probes/{n}").integers(0, 2, (PROBES, n)).astype(float)
    return replace(module, n=n, inputs=2.0 * bits - 1.0 if module.encoding == "pm1" else bits)


class ModuleDraws:
    """Random networks of a module on strings of ``n`` bits, by their numbers.

    Network k is a function of (seed, n, k).
    """

    def __init__(self, module: Module, n: int, seed: int) -> None:
        self.module = on_strings(module, n)
        stream = f"sensitivity/{n}/modules"
        self._draws = Draws(self.module.built, 1, seed, "cpu", "float32", stream)

    def draw(self, index: int) -> RandomModule:
        """Network ``index``."""
        with evaluation():
            stacked = self._draws.network(index)
        return RandomModule(self.module, {name: t[0] for name, t in stacked.items()})


class RandomModule:
    """One network: the named ``parameters`` of a module."""

    def __init__(self, module: Module, parameters: Mapping[str, Tensor]) -> None:
        self.module, self._parameters = module, parameters
        cost = module.built.cost
        most = int(_ELEMENTS * cost.inputs / max(1.0, cost.largest))
        self._at_once = max(1, min(_MOST_AT_ONCE, most))

    def at(self, bits: np.ndarray) -> CentredModule:
        """Centre the network at the string ``bits``, (n,) of 0 and 1."""
        return CentredModule(self, bits)

    def outputs(self, strings: np.ndarray) -> np.ndarray:
        """(B,) float32 outputs on strings (B, n) of 0 and 1.

        Raises :class:`NumericalError` unless they are finite.
        """
        x = torch.from_numpy(strings.astype(np.float32))
        x = 2.0 * x - 1.0 if self.module.encoding == "pm1" else x
        built, name = self.module.built, self.module.make_name
        with evaluation(), users_code(name, x):
            parts = [
                built.outputs_of_one(self._parameters, part) for part in x.split(self._at_once)
            ]
        z = np.asarray(torch.cat(parts).numpy())
        if not np.isfinite(z).all():
            raise NumericalError(
                f"{name} gave NaN or infinity: expected finite outputs; lower sigma_w and sigma_b"
            )
        return z


class CentredModule:
    """A module seen from a start string; states are strings (B, n) of 0 and 1."""

    def __init__(self, network: RandomModule, bits: np.ndarray) -> None:
        self.n, self._network = len(bits), network
        self.root = bits.astype(np.int8)[None]

    def flip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`simprior.analysis.strings.networks.Centred`."""
        count = np.broadcast_shapes(states.shape[:1], bits.shape)[0]
        out = np.broadcast_to(states, (count, self.n)).copy()
        out[np.arange(count), bits] ^= 1
        return out

    unflip = flip

    def path(self, state: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`simprior.analysis.strings.networks.Centred`."""
        steps = np.zeros((len(bits), self.n), np.int8)
        steps[np.arange(len(bits)), bits] = 1
        return np.asarray(np.bitwise_xor.accumulate(steps) ^ state)

    def outputs(self, states: np.ndarray) -> np.ndarray:
        """See :class:`simprior.analysis.strings.networks.Centred`."""
        return self._network.outputs(states)

    def effects(self, states: np.ndarray) -> np.ndarray:
        """(B, n) changes of the output when each bit of the first state is flipped by itself; the
        other states, a few flips away from it, are taken to be like it."""
        first = states[:1]
        changes = self.outputs(first ^ np.eye(self.n, dtype=np.int8)) - self.outputs(first)
        signed = np.where(first[0] == self.root[0], changes, -changes)
        return np.repeat(signed[None], len(states), axis=0)
