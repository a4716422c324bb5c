"""How complex the functions of a run are, over all of them and given that they are not constant.

Measured on the first hidden draws of a run, as many as the caller asks for: Lempel-Ziv complexity,
average sensitivity, weight by Fourier degree, and the number of relevant inputs (those whose flip
changes the output somewhere). Most differences of such means between architectures are differences
in the probability of the two constant functions, so every mean is given both ways.

What is kept are sums of whole numbers over hidden draws. They are the same in any order, whatever
the tasks were. The heads of a hidden draw are one cluster; no more than ``MOST_HEADS`` of them are
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simprior.boolean.complexity import lz76_packed, most_words, ones_packed
from simprior.boolean.sensitivity import flips_packed, weights_packed
from simprior.numerics.estimate import Ratio, korn_graubard
from simprior.runs.files import whole_in

if TYPE_CHECKING:
    import pandas as pd

MOST_HEADS = 64
"""Heads of a hidden draw that are measured: more of the same one say little that is new."""
_MOST = 2**62
_BLOCK = 1 << 14  # functions measured at a time
COLUMNS = ("quantity", "at", "value", "low", "high", "all", "all_low", "all_high", "draws")
"""Columns of the table, see :meth:`ComplexitySums.to_frame`."""


class Estimate(NamedTuple):
    """A value and its limits; None where nothing is known."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Kind:
    """A quantity: its name in tables, the value of a constant function, and its range.

    ``share``: a probability, whose interval is that of a binomial share.
    """

    name: str
    constant: float
    low: float
    high: float
    share: bool = False


@dataclass(frozen=True)
class ComplexitySums:
    """Sums over hidden draws c of what the functions of their heads are like.

    n_c is the number of heads whose functions are not constant. Y_c is the sum of a quantity over
    these, in units in which it is a whole number.

    Attributes
    ----------
    m, n : int
        Number of inputs, and of bits; n = 0 where the inputs are not all bit strings (then only
        Lempel-Ziv complexity is measured).
    heads, draws : int
        Heads measured of each hidden draw (1: independent networks), and hidden draws.
    count, squares : int
        Sums of n_c and n_c^2.
    sums : mapping
        {key of a quantity: (sum of Y_c, of Y_c^2, of n_c Y_c)}. Keys: ``words`` (words of both LZ76
        parses), ``flips`` (pairs of an input and a bit whose flip changes the output),
        ``relevant``, ``weight:k`` (4^n W_k), ``atmost:k`` (functions with at most k relevant
        inputs), ``lz:w`` (functions with w words).
    """

    m: int
    n: int
    heads: int
    draws: int = 0
    count: int = 0
    squares: int = 0
    sums: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def measured(self, words: np.ndarray) -> ComplexitySums:
        """The sums of (draws * heads, W) packed functions, ``heads`` in turn a hidden draw."""
        draws = len(words) // self.heads
        t = ones_packed(words, self.m)
        inner = (t > 0) & (t < self.m)
        owner = np.flatnonzero(inner) // self.heads
        n = np.bincount(owner, minlength=draws)
        found = {
            key: (int(y.sum()), _dot(y, y), _dot(n, y))
            for key, y in _columns(words[inner], self.m, self.n, owner, draws)
        }
        given = (self.m, self.n, self.heads, draws, int(n.sum()), _dot(n, n))
        return ComplexitySums(*given, {k: v for k, v in found.items() if v[0]})

    def __add__(self, other: ComplexitySums) -> ComplexitySums:
        none = (0, 0, 0)
        keys = sorted({*self.sums, *other.sums})
        pairs = ((key, self.sums.get(key, none), other.sums.get(key, none)) for key in keys)
        sums = {key: (a[0] + b[0], a[1] + b[1], a[2] + b[2]) for key, a, b in pairs}
        numbers = (self.draws + other.draws, self.count + other.count, self.squares + other.squares)
        return ComplexitySums(self.m, self.n, self.heads, *numbers, sums)

    # -- estimates ----------------------------------------------------------------------------

    def given(self, key: str, level: float = 0.95) -> Estimate:
        """Mean of a quantity over the functions that are not constant.

        A ratio of sums over clusters (:class:`simprior.numerics.estimate.Ratio`). A mean has an
        interval of Student's t, a probability that of Korn and Graubard.
        """
        parts = (*self._sums(key), self.count, self.squares)
        return self._estimate(key, Ratio(*map(float, parts)), level)

    def over_all(self, key: str, level: float = 0.95) -> Estimate:
        """The same over all functions, the constants included."""
        total, squares, products = self._sums(key)
        kind, unit = self._kind(key)
        c, h, d = round(kind.constant / unit), self.heads, self.draws
        rest = h * d - self.count  # constants
        squares += 2 * c * (h * total - products)
        squares += c * c * (h * h * d - 2 * h * self.count + self.squares)
        total += c * rest
        parts = (total, squares, h * total, h * d, h * h * d)
        return self._estimate(key, Ratio(*map(float, parts)), level)

    def constant_effect(self, heads: int) -> float:
        """Design effect of P(constant) with ``heads`` heads a hidden draw.

        That of the heads that were measured, 1 + (heads - 1) rho, with the same rho.
        """
        h, d = self.heads, self.draws
        rest = h * d - self.count
        squares = h * h * d - 2 * h * self.count + self.squares
        ratio = Ratio(*map(float, (rest, squares, h * rest, h * d, h * h * d)))
        if h == 1:
            return 1.0
        return max(1.0, 1.0 + (heads - 1.0) * (ratio.design_effect - 1.0) / (h - 1.0))

    def _estimate(self, key: str, ratio: Ratio, level: float) -> Estimate:
        kind, unit = self._kind(key)
        if ratio.count == 0:
            return Estimate(None, None, None)
        mean = unit * ratio.mean
        if ratio.clusters < 2:
            return Estimate(mean, None, None)
        if kind.share:
            effect = self._pooled(key)
            if effect == 0 or 0.0 < ratio.mean < 1.0:
                effect = max(ratio.design_effect, effect)
            count = np.array([ratio.total])
            lows, highs = korn_graubard(count, ratio.count, effect, level, clusters=ratio.clusters)
            return Estimate(mean, float(lows[0]), float(highs[0]))
        reach = unit * ratio.reach(level, (kind.high - kind.low) / unit)
        low, high = max(mean - reach, kind.low), min(mean + reach, kind.high)
        return Estimate(mean, low, high)

    def _pooled(self, key: str) -> float:
        """Design effect of all the probabilities of a distribution together, given not constant.

        One that was met in few hidden draws, or in none, cannot show how it clusters. 0 where none
        was met.
        """
        stem = key.partition(":")[0]
        ratios = [
            Ratio(*map(float, (*self._sums(one), self.count, self.squares)))
            for one in self.sums
            if one.partition(":")[0] == stem
        ]
        between = math.fsum(r.stderr**2 for r in ratios)
        binomial = math.fsum(r.mean * (1 - r.mean) / r.count for r in ratios)
        return between / binomial if binomial > 0 else 0.0

    def _sums(self, key: str) -> tuple[int, int, int]:
        return self.sums.get(key, (0, 0, 0))

    def _kind(self, key: str) -> tuple[_Kind, float]:
        """What a key stands for, and the value of one of its units."""
        bits = math.log2(self.m)
        n, stem = float(self.n), key.partition(":")[0]
        known = {
            "words": (_Kind("lz76", bits, bits, bits * most_words(self.m)), bits / 2.0),
            "flips": (_Kind("sensitivity", 0.0, 0.0, n), 1.0 / self.m),
            "relevant": (_Kind("relevant_inputs", 0.0, 0.0, n), 1.0),
            "weight": (_Kind("fourier_weight", 0.0, 0.0, 1.0), 1.0 / self.m**2),
            "atmost": (_Kind("p_relevant_at_most", 1.0, 0.0, 1.0, True), 1.0),
            "lz": (_Kind("p_lz76", 0.0, 0.0, 1.0, True), 1.0),
        }
        kind, unit = known[stem]
        if key == "weight:0":
            kind = _Kind(kind.name, 1.0, 0.0, 1.0)
        return kind, unit

    def keys(self) -> list[str]:
        """Keys of the quantities in the order of the table."""
        bits = range(1, self.n)
        keys = ["words"]
        if self.n:
            keys += ["flips", "relevant"]
            keys += [f"weight:{k}" for k in range(self.n + 1)]
            keys += [f"atmost:{k}" for k in bits]
        met = sorted(int(key[3:]) for key in self.sums if key.startswith("lz:"))
        return keys + [f"lz:{w}" for w in met]

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """A row a quantity (and a degree, number or complexity ``at``), columns :data:`COLUMNS`.

        ``value``, ``low``, ``high``: given that the function is not constant; ``all``, ``all_low``,
        ``all_high``: over all functions. Quantities: ``lz76`` (bits), ``sensitivity`` (the average
        sensitivity: bits whose flip changes the output), ``relevant_inputs``, ``fourier_weight``
        (W_k of the function as signs, ``at`` k), ``p_relevant_at_most`` (P(at most ``at`` relevant
        inputs)), ``p_lz76`` (P(LZ76 = ``at`` bits)). NaN where nothing is known.
        """
        import pandas as pd

        rows = []
        for key in self.keys():
            kind, _ = self._kind(key)
            number = key.partition(":")[2]
            at = float(number or "nan")
            at *= math.log2(self.m) / 2.0 if kind.name == "p_lz76" else 1.0
            found = (*self.given(key, level), *self.over_all(key, level))
            rows.append((kind.name, at, *found, self.draws))
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.astype(dict.fromkeys(COLUMNS[1:-1], float))

    # -- files ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values for manifests."""
        out: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        return out | {"sums": {key: list(self.sums[key]) for key in sorted(self.sums)}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComplexitySums:
        """Inverse of :meth:`to_dict`."""
        sums = {str(key): (a, b, c) for key, (a, b, c) in values["sums"].items()}
        return cls(**{name: values[name] for name in _NUMBERS}, sums=sums)

    @classmethod
    def fits(cls, values: Any, m: int) -> bool:
        """Whether ``values`` of a manifest are such sums, of functions on ``m`` inputs."""
        if not isinstance(values, Mapping) or set(values) != {*_NUMBERS, "sums"}:
            return False
        if not all(whole_in(values[name], 0, _MOST) for name in _NUMBERS):
            return False
        sums = values["sums"]
        return (
            values["m"] == m
            and values["n"] in (0, m.bit_length() - 1)
            and values["heads"] >= 1
            and values["count"] <= values["heads"] * values["draws"]
            and isinstance(sums, Mapping)
            and all(_key_fits(key) and _sums_fit(entry) for key, entry in sums.items())
        )


@dataclass
class Measuring:
    """Gathers the functions of the first hidden draws of a run as they are made, and measures them.

    Attributes
    ----------
    sums : ComplexitySums
        What was measured up to now.
    stop : int
        Hidden draws 0 .. stop - 1 are measured, later ones are passed over.
    made : int
        Heads of each hidden draw. Those of independent networks (``sums.heads`` 1) are all
        measured, each for itself; of others the first ``sums.heads``.
    """

    sums: ComplexitySums
    stop: int
    made: int
    _waiting: list[np.ndarray] = field(default_factory=list)
    _rows: int = 0

    def add(self, first: int, words: np.ndarray, made: int = 0) -> None:
        """Take (rows, W) packed functions: ``made`` in turn a hidden draw, from ``first`` on."""
        made = made or self.made
        words = words[: max(0, self.stop - first) * made]
        if 1 < self.sums.heads < made:
            shape = (-1, made, words.shape[1])
            words = words.reshape(shape)[:, : self.sums.heads].reshape(-1, words.shape[1])
        self._waiting.append(words)
        self._rows += len(words)
        if self._rows >= _BLOCK:
            self._measure()

    def result(self) -> ComplexitySums:
        """The sums over all that was taken."""
        self._measure()
        return self.sums

    def _measure(self) -> None:
        if self._rows:
            words = np.ascontiguousarray(np.concatenate(self._waiting))
            self.sums = self.sums + self.sums.measured(words)
        self._waiting, self._rows = [], 0


_NUMBERS = ("m", "n", "heads", "draws", "count", "squares")
_STEMS = ("weight", "atmost", "lz")


def _key_fits(key: Any) -> bool:
    stem, sign, number = str(key).partition(":")
    if not sign:
        return stem in ("words", "flips", "relevant")
    return stem in _STEMS and number.isascii() and number.isdigit()


def _sums_fit(entry: Any) -> bool:
    three = isinstance(entry, list | tuple) and len(entry) == 3
    return three and all(type(value) is int for value in entry)


def _columns(
    words: np.ndarray, m: int, n: int, owner: np.ndarray, draws: int
) -> Iterator[tuple[str, np.ndarray]]:
    """(key, (draws,) int64 sums of a quantity) of functions that are not constant and belong to the
    hidden draws ``owner``."""

    def by_draw(values: np.ndarray) -> np.ndarray:
        out = np.zeros(draws, np.int64)
        np.add.at(out, owner, values.astype(np.int64))
        return out

    if not len(words):
        return
    parse = np.rint(2.0 * lz76_packed(words, m) / math.log2(m)).astype(np.int64)
    yield "words", by_draw(parse)
    for value in np.unique(parse):
        yield f"lz:{value}", by_draw(parse == value)
    if not n:
        return
    changes = flips_packed(words, m)
    yield "flips", by_draw(changes.sum(axis=1))
    relevant = (changes > 0).sum(axis=1)
    yield "relevant", by_draw(relevant)
    for k in range(1, n):
        yield f"atmost:{k}", by_draw(relevant <= k)
    weights = np.rint(weights_packed(words, m) * float(m) * m)
    for k in range(n + 1):
        yield f"weight:{k}", by_draw(weights[:, k])


def _dot(a: np.ndarray, b: np.ndarray) -> int:
    """The exact scalar product of two vectors of whole numbers >= 0, however large."""
    if not len(a):
        return 0
    if float(a.max()) * float(b.max()) * len(a) < _MOST:
        return int(a @ b)
    return sum(int(x) * int(y) for x, y in zip(a, b, strict=True))
