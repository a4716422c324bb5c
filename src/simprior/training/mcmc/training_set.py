"""The training set S of a posterior: which inputs, which labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.complexity import ones_packed
from simprior.boolean.inputs import check_index
from simprior.boolean.truthtable import pack, parse_functions
from simprior.errors import InputError


@dataclass(frozen=True)
class TrainingSet:
    """``index`` (s,) inputs, ``bits`` (s,) uint8 labels, of ``m`` inputs; ``target`` (m,) or None.

    ``target`` is the function that the labels come from, if known: it defines the error of a draw
    on the inputs outside S.
    """

    m: int
    index: np.ndarray
    bits: np.ndarray
    target: np.ndarray | None = None

    @property
    def outside(self) -> np.ndarray:
        """(m - s,) inputs outside S."""
        return np.setdiff1d(np.arange(self.m), self.index)

    def wrong(self, words: np.ndarray) -> np.ndarray:
        """(F,) numbers of inputs outside S where (F, W) packed functions differ from the target."""
        assert self.target is not None
        outside = np.zeros(self.m, np.uint8)
        outside[self.outside] = 1
        different = (words ^ pack(self.target)[0]) & pack(outside)[0]
        return ones_packed(different, self.m).astype(np.int64)

    def agree(self, tables: np.ndarray) -> np.ndarray:
        """(F,) bool: which of the (F, m) ``tables`` agree with S."""
        agree: np.ndarray = (tables[..., self.index] == self.bits).all(axis=-1)
        return agree


def make_training_set(
    m: int, train_index: Sequence[int] | np.ndarray, labels: Any, target: Any = None
) -> TrainingSet:
    """Checked training set.

    Parameters
    ----------
    m : int
        Number of inputs of a function.
    train_index : (s,) integers
        The inputs in S, 1 <= s < m, each once.
    labels : (s,) of 0/1 or -1/+1, or None
        Their labels; None takes them from ``target``.
    target : function, optional
        The function on all m inputs, in any accepted form.

    Raises
    ------
    InputError
        S is empty or everything, labels are missing, not binary, or not those of the target.
    """
    index = check_index(train_index, m, "number the inputs as the bits of a truth table")
    table = None if target is None else _one(target, m, "target")
    if labels is None:
        if table is None:
            raise InputError("labels=None", "labels or a target", "pass labels, one an input of S")
        bits = table[index]
    else:
        bits = _one(labels, index.size, "labels")
    if table is not None and (table[index] != bits).any():
        raise InputError(
            "labels that differ from the target", "the target's labels", "leave labels out (None)"
        )
    return TrainingSet(m, index, bits, table)


def _one(function: Any, m: int, name: str) -> np.ndarray:
    power = m & (m - 1) == 0 and m > 1
    try:
        tables = parse_functions(function, m, m.bit_length() - 1 if power else 0)
    except InputError as error:
        raise InputError(f"{name} ({error.what})", error.expected, error.remedy) from None
    if len(tables) != 1:
        raise InputError(f"{name} of {len(tables)} functions", "one function", "pass one row")
    table: np.ndarray = tables[0]
    return table
