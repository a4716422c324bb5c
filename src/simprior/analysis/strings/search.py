"""Where is the nearest input of another class, and how many random flips lead to one?

On strings of n bits, the Hamming distance to the nearest string of the other class is exact where
all smaller balls can be enumerated, an upper bound by search otherwise (:func:`nearest`):

1. *Singles.* All n strings at distance 1 are evaluated: distances 1 and 2 are always exact.
2. *Beam.* From distance d to d + 1 each of the ``beam`` best strings (smallest margin, the output
   towards its own class) tries the ``candidates`` bits that its gradient prefers; every new string
   is evaluated; the first of another class bounds the distance.
3. *Exchange.* At the distance just below the bound, one flipped bit is exchanged for another while
   this lowers the margin. If the class changes the bound falls by one, and so on.
4. *Certificate.* If all strings at distances 2 ... h - 1 are at most ``budget``, they are
   enumerated in order of distance: the result is then exact, whatever the search found.

Random flips are of distinct bits, in random order (:func:`first_change`). Both are exact from a
truth table, over all start strings and all orders (:func:`nearest_distances`,
:func:`expected_flips`).

On real inputs, a point is critical if a box of radius r around it holds a point of another class
(Arpit et al., ICML 2017, section 4, who search by Langevin steps). :func:`box_csr` searches for all
networks and points at once: signed gradient steps on the margin plus noise, projected on the box,
from the point itself and from random points of the box. A search can miss: the ratio found is a
lower bound of the true one. It is exact where it is 1, and grows with ``steps`` and ``restarts``.
For a network that is linear in the box one step from the point reaches the corner of least margin,
so that nothing is missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from simprior.analysis.strings.networks import Centred
from simprior.checks import Integer, Number, shown
from simprior.errors import InputError
from simprior.numerics.estimate import share_stderr
from simprior.numerics.random import generator

if TYPE_CHECKING:
    import torch

    from simprior.analysis.flatness.ensemble import Ensemble

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
    enumeration (0: none), whether ``distance`` is ``certified``, the flipped ``bits`` (h,), and
    ``singles``, how many bits change the class when flipped by themselves."""

    distance: int
    search: int
    certified: bool
    bits: np.ndarray
    singles: int = 0


def nearest(centred: Centred, search: Search = Search(), likely: bool = True) -> Nearest:
    """The distance of the start string of ``centred`` to the other class (see the module).

    Unless it is ``likely`` that there is another class, the beam search is made only if the class
    changes on a path that flips all bits, the most or the least promising ones first.
    """
    hunt = _Hunt(centred, search)
    bits = hunt.run(likely)
    found = 0 if bits is None else len(bits)
    least = enumerate_balls(centred, found or centred.n + 1, search.budget)
    if least is not None and len(least):
        return Nearest(len(least), found, True, least, hunt.singles)
    return Nearest(found, found, least is not None, _sorted(bits), hunt.singles)


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
        self.singles = 0

    def run(self, likely: bool = True) -> np.ndarray | None:
        """Flipped bits of a string of the other class, as few as the search finds, or None."""
        n = self.centred.n
        bits = np.arange(n)
        front = self._front(self.centred.flip(self.centred.root, bits), bits[:, None])
        self.singles = int(self._other(front).sum())
        if not (likely or self.singles or self._on_a_path()):
            return None
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

    def _on_a_path(self) -> bool:
        """Whether flipping all bits one after the other changes the class, in order of effects."""
        order = np.argsort(self.sign * self.centred.effects(self.centred.root)[0], kind="stable")
        return any(first_change(self.centred, one) for one in (order, order[::-1]))

    def _front(self, states: np.ndarray, sets: np.ndarray) -> _Front:
        parts = [
            self.centred.outputs(states[at : at + CHUNK]) for at in range(0, len(states), CHUNK)
        ]
        return _Front(states, sets, self.sign * np.concatenate(parts))

    def _changed(self, front: _Front) -> np.ndarray | None:
        """A set of flips whose output has the other class."""
        where = np.flatnonzero(self._other(front))
        return front.sets[where[np.argmin(front.margins[where])]] if len(where) else None

    def _other(self, front: _Front) -> np.ndarray:
        """(B,) whether each string has the other class."""
        return np.asarray(front.margins <= 0 if self.label else front.margins < 0)

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


STEPS, RESTARTS, RADIUS = 20, 2, 0.05
NOISE = 0.1  # standard deviation of the Langevin noise of a step, in radii


def box_csr(
    ensemble: Ensemble,
    X: np.ndarray | None = None,
    radius: float = RADIUS,
    seed: int = 0,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
) -> dict[str, np.ndarray]:
    """Share of the points with a differently classified point within ``radius`` in each coordinate.

    Parameters
    ----------
    ensemble : Ensemble
        N networks of one architecture.
    X : (m, d) array, optional
        The points (default: the examples fitted).
    radius : float
        Half the side of the box, in units of the inputs.
    seed : int
        Of noise and random starts; those of a network belong to (seed, its id).
    steps, restarts : int
        Gradient steps of a search, and searches a point (the first starts at the point).

    Returns
    -------
    dict
        ``box_csr`` (N,) the share found critical, a lower bound, and ``box_csr_stderr`` (N,) its
        standard error (``estimate.share_stderr`` of c, m) as an estimate for the population the
        points come from.

    Raises
    ------
    InputError
        A radius that is not > 0, points of the wrong shape, an activation without gradient.
    """
    found = critical_points(ensemble, X, radius, seed, steps=steps, restarts=restarts)
    share = found.mean(axis=1)
    return {"box_csr": share, "box_csr_stderr": share_stderr(share, found.shape[1])}


def critical_points(
    ensemble: Ensemble,
    X: np.ndarray | None = None,
    radius: float = RADIUS,
    seed: int = 0,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
) -> np.ndarray:
    """(N, m) bool: points for which :func:`box_csr` found another class in the box."""
    import torch

    for name, value in (("steps", steps), ("restarts", restarts)):
        Integer(1, remedy=f"pass for example {name}=20")(name, value)
    Number(0, open=True, remedy=f"pass for example {RADIUS}")("radius", radius)
    points = ensemble.X if X is None else _points(X, ensemble)
    numbers = len(points) * (4 * ensemble.passes.units + 4 * ensemble.network.d)
    parts = []
    with torch.no_grad():
        for rows in ensemble.chunks(numbers):
            search = _Search(ensemble.subset(rows), points, float(radius), seed, steps)
            parts.append(search.run(restarts))
    return np.concatenate(parts)


def _points(X: Any, ensemble: Ensemble) -> torch.Tensor:
    import torch

    array = np.array(X, np.float64)
    d = ensemble.network.d
    if array.ndim != 2 or array.shape[1] != d or not len(array) or not np.isfinite(array).all():
        raise InputError(f"X of shape {array.shape}", f"(m, {d}) finite points", "pass a matrix")
    return torch.from_numpy(array).to(ensemble.device)


class _Search:
    """The search for one chunk of networks."""

    def __init__(
        self, ensemble: Ensemble, points: torch.Tensor, radius: float, seed: int, steps: int
    ) -> None:
        from simprior.network.losses import threshold

        self.passes, self.points = ensemble.passes, points
        self.parameters = ensemble.parameters
        self.level = threshold(ensemble.loss)
        self.radius, self.steps = radius, steps
        self.rngs = [generator(seed, "box-csr", int(i)) for i in ensemble.ids]
        start = points.expand(len(ensemble), -1, -1)
        self.high = (
            self.passes.outputs_on(self.parameters, start) > self.level
        )  # the class of the point itself
        self.found = self.high.new_zeros(self.high.shape)

    def run(self, restarts: int) -> np.ndarray:
        """(N, m) bool."""
        for restart in range(restarts):
            x = self.points.expand(len(self.rngs), -1, -1)
            if restart:
                x = x + self.radius * (2 * self._random(uniform=True) - 1)
            self._descend(x)
        return np.asarray(self.found.cpu().numpy())

    def _descend(self, x: torch.Tensor) -> None:
        """Lower the margin from x (N, m, d); the first step may cross the box, later ones less."""
        low, high = self.points - self.radius, self.points + self.radius
        sign = (2.0 * self.high - 1.0).unsqueeze(2)
        for step in range(self.steps):
            slope = self.passes.input_slopes(self.parameters, x)
            size = 2 * self.radius / (1 + step)
            x = x - size * (sign * slope).sign()
            if step:
                x = x + NOISE * self.radius * self._random(uniform=False)
            x = x.clamp(low, high)
            z = self.passes.outputs_on(self.parameters, x)
            self.found |= (z > self.level) != self.high
            if bool(self.found.all()):
                return

    def _random(self, uniform: bool) -> torch.Tensor:
        import torch

        shape = tuple(self.points.shape)
        draws = [rng.random(shape) if uniform else rng.standard_normal(shape) for rng in self.rngs]
        return torch.from_numpy(np.stack(draws)).to(self.points.device)


FIRST, MOST_FLIPS = 32, 256  # strings of a path evaluated at once: doubled from FIRST to MOST


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
        state, at, size = states[-1:], at + size, min(2 * size, MOST_FLIPS)
    return 0


MOST_BITS = 12
"""Of truth tables whose flips are computed over all orders."""


def nearest_distances(tables: np.ndarray) -> np.ndarray:
    """Hamming distance of every string to the nearest string of the other class.

    Parameters
    ----------
    tables : (F, 2^n) array of 0 and 1
        Truth tables.

    Returns
    -------
    (F, 2^n) int array; 0 throughout for constant functions. A distance transform of the cube, one
    pass a bit: n 2^n steps a function.
    """
    bits, n = _bits_of(tables)
    far = n + 1
    to = [np.where(bits == label, 0, far).astype(np.int16) for label in (0, 1)]
    for d in to:
        for bit in range(n):
            pairs = d.reshape(len(d), -1, 2, 1 << bit)
            other = pairs[:, :, ::-1] + 1
            np.minimum(pairs, other, out=pairs)
    found = np.where(bits == 1, to[0], to[1])
    return np.where(found == far, 0, found).astype(np.int64)


def expected_flips(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean number of random flips of distinct bits until the class changes, over all orders.

    Returns (means, unchanged), each (F, 2^n) by start string: E min(T, n), and the probability
    that the class is the same all along, also with all bits flipped. A recursion over the sets of
    flipped bits: n 4^n steps a function.

    Raises :class:`InputError` for tables of more than 12 bits.
    """
    bits, n = _bits_of(tables)
    if n > MOST_BITS:
        raise InputError(
            f"truth tables of n={n} bits", f"at most {MOST_BITS}", "draw random flips instead"
        )
    means, unchanged = np.empty(bits.shape), np.empty(bits.shape)
    _flips(bits, n, means, unchanged)
    return means, unchanged


def _bits_of(tables: np.ndarray) -> tuple[np.ndarray, int]:
    bits = np.ascontiguousarray(tables, np.uint8)
    n = bits.shape[-1].bit_length() - 1
    if bits.ndim != 2 or bits.shape[1] != 1 << n or n < 1:
        raise InputError(
            f"tables of shape {bits.shape}", "(F, 2^n) truth tables", "pass one row a function"
        )
    return bits, n


@njit(nogil=True, cache=True)
def _flips(bits: np.ndarray, n: int, means: np.ndarray, unchanged: np.ndarray) -> None:
    size = 1 << n
    more, same = np.empty(size), np.empty(size)
    for f in range(bits.shape[0]):
        for start in range(size):
            label = bits[f, start]
            for flipped in range(size - 1, -1, -1):
                if bits[f, start ^ flipped] != label:
                    more[flipped], same[flipped] = 0.0, 0.0
                elif flipped == size - 1:
                    more[flipped], same[flipped] = 0.0, 1.0
                else:
                    steps, stays, left = 0.0, 0.0, 0
                    for bit in range(n):
                        if not (flipped >> bit) & 1:
                            steps += more[flipped | (1 << bit)]
                            stays += same[flipped | (1 << bit)]
                            left += 1
                    more[flipped], same[flipped] = 1.0 + steps / left, stays / left
            means[f, start], unchanged[f, start] = more[0], same[0]
