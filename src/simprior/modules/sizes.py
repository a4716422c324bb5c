"""How many networks of a module are trained together, by its cost: the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

from simprior.errors import check_fits
from simprior.modules.flat import Layout
from simprior.modules.spec import Module

_LEAST, _MOST = 32, {"cpu": 256, "cuda": 4096}
_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}  # of the largest layer of all members at once
_STATES = 8  # tensors of the size of the parameters: gradients, states of optimisers, copies
_KEPT = 4  # what is kept for the gradients, in layers of the largest size
_LARGE = 1 << 20  # parameters, beyond which fewer members than _LEAST are taken together


@dataclass(frozen=True)
class Sizes:
    """How many members of a module are taken together on a device: ``least`` to ``most``, powers
    of 2; and on how many inputs ``least`` of them are evaluated without gradients."""

    least: int
    most: int
    rows: int

    @classmethod
    def of(cls, module: Module, batch: int, device: str) -> Sizes:
        """By the cost of the module and the minibatch alone.

        Raises :class:`simprior.errors.MemoryShortage` if that many do not fit in memory.
        """
        cost, parameters = module.built.cost, Layout(module.tensors()).size
        each, room = max(1.0, cost.largest / cost.inputs), _ELEMENTS[device]
        least = min(_LEAST, _power_below(_LEAST * _LARGE / parameters))
        fitting = _power_below(min(room / (each * batch), 4.0 * room / parameters))
        most = max(least, min(_MOST[device], fitting))
        rows = max(8, _power_below(8.0 * room / (each * least)))
        need = 4.0 * most * (_STATES * parameters + _KEPT * each * batch)
        what = f"{most} modules of {parameters:,} parameters each, trained together,"
        check_fits(what, need, "take a smaller one, or a smaller batch_size")
        return cls(least, most, rows)

    def together(self, count: int) -> int:
        """How many are taken together where ``count`` are wanted."""
        return max(self.least, 1 << (count - 1).bit_length())


def _power_below(number: float) -> int:
    """The largest power of 2 that is at most ``number``, and at least 1."""
    return 1 << (max(1, int(number)).bit_length() - 1)
