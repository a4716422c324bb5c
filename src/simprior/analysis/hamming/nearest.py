"""Hamming distance from a string to the nearest string of the other class.

Exact where all smaller balls can be enumerated, an upper bound by search otherwise:

1. *Singles.* All n strings at distance 1 are evaluated: distances 1 and 2 are always exact.
2. *Beam.* From distance d to d + 1 each of the ``beam`` best strings (smallest margin, the output
   towards its own class) tries the ``candidates`` bits that its gradient prefers; every new string
   is evaluated; the first of another class bounds the distance.
3. *Exchange.* At the distance just below the bound, one flipped bit is exchanged for another while
   this lowers the margin. If the class changes the bound falls by one, and so on.
4. *Certificate.* If all strings at distances 2 ... h - 1 are at most ``budget``, they are
   enumerated in order of distance: the result is then exact, whatever the search found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from simprior.analysis.hamming.networks import Centred
from simprior.checks import shown
from simprior.errors import InputError

ROUNDS = 12  # exchanges in a row, at most
CHUNK = 512  # strings evaluated at once


MOST = {"beam": 10**6, "candidates": 10**6, "budget": 10**10}
"""Strings that are held or tried at once, and enumerated; beyond, no search ends."""


@dataclass(frozen=True)
class Search:
    """How hard to look: width of the beam, bits tried from each string, strings to enumerate."""

    beam: int = 8
    candidates: int = 32
    budget: int = 50_000

    def __post_init__(self) -> None:
        for name, least in (("beam", 1), ("candidates", 1), ("budget", 0)):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool)
            if not good or not least <= value <= MOST[name]:
                raise InputError(
                    f"{name}={shown(value)}",
                    f"an integer >= {least} (and <= {MOST[name]:,})",
                    f"pass --{name} {max(least, 8)}",
                )


@dataclass(frozen=True)
class Nearest:
    """``distance`` h (0: no string of the other class was found), ``search`` the bound before the
    enumeration (0: none), whether ``distance`` is ``certified``, and the flipped ``bits`` (h,)."""

    distance: int
    search: int
    certified: bool
    bits: np.ndarray


def nearest(centred: Centred, search: Search = Search()) -> Nearest:
    """The distance of the start string of ``centred`` to the other class (see the module)."""
    hunt = _Hunt(centred, search)
    bits = hunt.run()
    found = 0 if bits is None else len(bits)
    least = enumerate_balls(centred, found or centred.n + 1, search.budget)
    if least is not None and len(least):
        return Nearest(len(least), found, True, least)
    return Nearest(found, found, least is not None, _sorted(bits))


def enumerate_balls(centred: Centred, below: int, budget: int) -> np.ndarray | None:
    """The flips of a nearest string of the other class at a distance 2 ... ``below`` - 1.

    Returns an empty array if there is none, and None, without looking, if the strings are more
    than ``budget``.
    """
    n = centred.n
    total = 0
    for h in range(2, below):
        total += math.comb(n, h)
        if total > budget:
            return None
    label = centred.outputs(centred.root)[0] > 0
    for h in range(2, below):
        for sets in _subsets(n, h):
            states = centred.root
            for column in range(h):
                states = centred.flip(states, sets[:, column])
            changed = np.flatnonzero((centred.outputs(states) > 0) != label)
            if len(changed):
                return np.asarray(sets[changed[0]])
    return np.zeros(0, np.int64)


def _subsets(n: int, h: int) -> Iterator[np.ndarray]:
    source = combinations(range(n), h)
    while block := list(islice(source, CHUNK)):
        yield np.array(block, np.int64)


def _sorted(bits: np.ndarray | None) -> np.ndarray:
    return np.zeros(0, np.int64) if bits is None else np.sort(bits)


@dataclass
class _Front:
    """Strings at one distance d: states (B, ...), flipped bits (B, d), margins (B,)."""

    states: np.ndarray
    sets: np.ndarray
    margins: np.ndarray

    def best(self, count: int) -> _Front:
        """The ``count`` smallest margins, each set of bits once."""
        _, first = np.unique(np.sort(self.sets, axis=1), axis=0, return_index=True)
        order = first[np.argsort(self.margins[first], kind="stable")][:count]
        return _Front(self.states[order], self.sets[order], self.margins[order])


class _Hunt:
    """The search of one start string."""

    def __init__(self, centred: Centred, search: Search) -> None:
        self.centred, self.search = centred, search
        self.label = bool(centred.outputs(centred.root)[0] > 0)
        self.sign = np.float32(1.0 if self.label else -1.0)

    def run(self) -> np.ndarray | None:
        """Flipped bits of a string of the other class, as few as the search finds, or None."""
        n = self.centred.n
        bits = np.arange(n)
        front = self._front(self.centred.flip(self.centred.root, bits), bits[:, None])
        fronts: list[_Front] = []
        for _ in range(n):
            if (found := self._changed(front)) is not None:
                break
            front = front.best(self.search.beam)
            fronts.append(front)
            if front.sets.shape[1] == n:
                return None
            front = self._extend(front)
        while len(fronts) > 1 and found is not None:  # distance 1 was tried in full
            closer = self._exchange(fronts.pop())
            if closer is None:
                break
            found = closer
        return found

    def _front(self, states: np.ndarray, sets: np.ndarray) -> _Front:
        parts = [
            self.centred.outputs(states[at : at + CHUNK]) for at in range(0, len(states), CHUNK)
        ]
        return _Front(states, sets, self.sign * np.concatenate(parts))

    def _changed(self, front: _Front) -> np.ndarray | None:
        """A set of flips whose output has the other class."""
        other = front.margins <= 0 if self.label else front.margins < 0
        where = np.flatnonzero(other)
        return front.sets[where[np.argmin(front.margins[where])]] if len(where) else None

    def _preferred(self, front: _Front) -> np.ndarray:
        """(B, n) estimated change of the margin by flipping each bit; flipped bits at +inf."""
        effects = self.sign * self.centred.effects(front.states)
        np.put_along_axis(effects, front.sets, np.inf, axis=1)
        return np.asarray(effects)

    def _extend(self, front: _Front) -> _Front:
        d = front.sets.shape[1]
        count = min(self.search.candidates, self.centred.n - d)
        effects = self._preferred(front)
        chosen = _smallest(effects, count)
        rows = np.repeat(np.arange(len(chosen)), count)
        sets = np.concatenate([front.sets[rows], chosen.reshape(-1, 1)], axis=1)
        return self._front(self.centred.flip(front.states[rows], chosen.ravel()), sets)

    def _exchange(self, front: _Front) -> np.ndarray | None:
        """Exchange bits at the same distance while the margin falls; flips that change the class,
        or None."""
        for _ in range(ROUNDS):
            least = front.margins.min()
            tried = self._swaps(front)
            if (found := self._changed(tried)) is not None:
                return found
            front = _Front(
                np.concatenate([front.states, tried.states]),
                np.concatenate([front.sets, tried.sets]),
                np.concatenate([front.margins, tried.margins]),
            ).best(self.search.beam)
            if not front.margins.min() < least:
                return None
        return None

    def _swaps(self, front: _Front) -> _Front:
        """For every string of the beam: some flipped bits out, some others in."""
        d = front.sets.shape[1]
        side = max(2, math.isqrt(self.search.candidates))
        outs, ins = min(side, d), min(side, self.centred.n - d)
        effects = self.sign * self.centred.effects(front.states)
        gain = np.take_along_axis(effects, front.sets, axis=1)  # least useful flips: largest
        leave = _smallest(-gain, outs)
        np.put_along_axis(effects, front.sets, np.inf, axis=1)
        enter = _smallest(effects, ins)
        size = outs * ins
        rows = np.repeat(np.arange(len(front.sets)), size)
        place = np.repeat(leave, ins, axis=1).ravel()
        new = np.tile(enter, (1, outs)).ravel()
        sets = front.sets[rows]
        old = sets[np.arange(len(sets)), place].copy()
        sets[np.arange(len(sets)), place] = new
        states = self.centred.flip(self.centred.unflip(front.states[rows], old), new)
        return self._front(states, sets)


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """(B, count) columns of the smallest entries of each row, in increasing order."""
    if count < values.shape[1]:
        part = np.argpartition(values, count - 1, axis=1)[:, :count]
    else:
        part = np.broadcast_to(np.arange(values.shape[1]), values.shape).copy()
    order = np.argsort(np.take_along_axis(values, part, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(part, order, axis=1))
