"""Members of an ensemble that are torch modules: their forward pass, and their random numbers.

The torch engine trains E members as the rows of an (E, p) tensor; for a module the layout of a row
is that of :class:`simprior.modules.flat.Layout`.

A float32 sum may be rounded otherwise if it is made for another number of networks or of inputs, or
of numbers that begin elsewhere in a line of the cache; and an exponential otherwise at the end of
an array than in its middle. So members are taken together by powers of 2, 32 of them or more, with
member i in a slot that differs from i by a multiple of 16 (numbers of 4 bytes a line), and all
inputs of a problem in blocks of one size. What a member becomes then does not depend on those
beside it, and it can be trained again in other company.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from simprior.modules.build import users_code
from simprior.modules.draws import Draws
from simprior.modules.flat import Layout
from simprior.modules.gradients import trainable
from simprior.modules.sizes import Sizes
from simprior.modules.spec import Module
from simprior.numerics.compiled import BLOCK
from simprior.training.draws import Choices
from simprior.training.updates import draw_noise

_LOG = logging.getLogger("simprior")
_announced: set[str] = set()


class Flat(NamedTuple):
    """Numbers of one member, as :class:`simprior.network.parameters.Parameters` has them."""

    values: np.ndarray

    def flat(self) -> np.ndarray:
        """(p,) float32 in the layout of the rows."""
        return self.values


class ModuleSource(Choices):
    """Random choices of the members of ``(module, seed)``, for any member."""

    def __init__(self, module: Module, seed: int) -> None:
        super().__init__(seed)
        self._layout = Layout(module.tensors())
        self._draws = Draws(module.built, 1, seed, "cpu", "float32", "train/init")

    def parameters(self, member: int) -> Flat:
        """Initial parameters of ``member``, by the law of the module."""
        return Flat(self._layout.flat(self._draws.network(member))[0].numpy())

    def mask(self, member: int) -> Flat:
        """1 for the parameters of ``member`` that training moves, 0 for its masked weights."""
        return Flat(self._layout.flat(self._draws.mask(member))[0].numpy())

    def noise(self, member: int, step: int) -> Flat:
        """Standard normals added at step ``step`` (from 1) by SGLD and Entropy-SGD."""
        size = self._layout.size
        out = np.zeros(-(-size // BLOCK) * BLOCK, np.float32)
        draw_noise(out, step, np.uint64(member), self._noise, self._buf, self._words)
        return Flat(out[:size])


class ModuleBatch:
    """Forward pass of E modules whose parameters are the rows of an (E, p) tensor.

    Raises :class:`simprior.errors.InputError` if they are to be ``trained`` and cannot be.
    """

    least_rows = 1

    def __init__(self, module: Module, batch: int, device: str, trained: bool = True) -> None:
        self.built = module.built
        if trained:
            self.built = trainable(self.built, module.make_name, module.input_matrix())
        self.name, self.layout = module.make_name, Layout(module.tensors())
        self.size, self._sizes = self.layout.size, Sizes.of(module, batch, device)
        self.at_once, self.together = self._sizes.most, self._sizes.together
        self._began: float | None = None

    def __call__(self, P: Tensor, x: Tensor, used: np.ndarray) -> Tensor:
        """Outputs (E, B) on inputs (E, B, d) or (1, B, d); those of members that are not ``used``
        (E,) are any numbers.

        Without gradients, members and inputs are taken in blocks, so that a large B fits in memory.
        """
        if not self.built.stacked:
            return self._one_by_one(P, x, used)
        if torch.is_grad_enabled() or len(x) > 1:
            return self._together(P, x)
        blocks = x.split(self._sizes.rows, dim=1)
        size = self._sizes.least if len(blocks) > 1 else self._sizes.most
        parts = P.split(size)
        rows = [torch.cat([self._together(p, block) for block in blocks], dim=1) for p in parts]
        return torch.cat(rows)

    def _one_by_one(self, P: Tensor, x: Tensor, used: np.ndarray) -> Tensor:
        if torch.is_grad_enabled():
            self._say_rate(int(used.sum()))
        rows = torch.from_numpy(np.flatnonzero(used)).to(P.device)
        z = torch.zeros((len(P), x.shape[1]), device=P.device)
        return z.index_put((rows,), self._together(P[rows], x if len(x) == 1 else x[rows]))

    def _say_rate(self, members: int) -> None:
        """Say once how fast members are trained one by one: from a step to the next one."""
        now = time.perf_counter()
        if self._began is not None and self.name not in _announced:
            _announced.add(self.name)
            _LOG.info(
                "%s: about %.0f steps of members a second",
                self.name,
                members / (now - self._began),
            )
        self._began = now

    def _together(self, P: Tensor, x: Tensor) -> Tensor:
        with users_code(self.name, x[0]):
            return self.built.apply(self.layout.stacked(P), x[0] if len(x) == 1 else x)
