"""What is to be learned: a labelling of m inputs, a training set S, corruption and attack points.

A :class:`Problem` fixes the m inputs on which functions are compared, the true labels, and the
examples that must be fitted. Attack points are inputs outside S with WRONG labels that must be
fitted as well, which lowers generalisation at zero training error (as in Wu, Zhu & E 2017; Mingard
et al., JMLR 2021); the test error is measured on the inputs that are in neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from simprior.boolean.complexity import lz76_packed
from simprior.boolean.truthtable import input_matrix, pack, parse_functions, to_hex
from simprior.checks import NETWORK, Maybe, Number, Text, Whole, checked, plain_array, shown, whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.data import SOURCES, corrupt_labels, split_dataset
from simprior.training.images import find_overlap

_DRAWN = re.compile(r"(random|lz)(?::([0-9.eE+-]+))?\Z")
_MOVES, _STARTS = 20000, 256
SPLIT_STREAM = "posterior/training-set"


@dataclass(frozen=True, eq=False)
class Problem:
    """A labelling of ``m`` inputs and the examples to be fitted.

    ``inputs`` (m, d) float64; ``target`` (m,) uint8 true labels; ``train_index`` (k,) and
    ``attack_index`` (a,) disjoint rows of ``inputs``; ``labels`` (k + a,) uint8 the labels to fit,
    training set first. ``n`` is the number of bits if the inputs are all bit strings, else 0.
    ``settings`` (of data) is what else determines the inputs: classes, label, missing, scale;
    ``source`` says what was read, and how many test inputs are training inputs too.
    """

    name: str
    n: int
    inputs: np.ndarray
    target: np.ndarray
    train_index: np.ndarray
    attack_index: np.ndarray
    labels: np.ndarray
    seed: int
    corrupt: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def m(self) -> int:
        """Number of inputs on which functions are compared."""
        return len(self.target)

    @property
    def size(self) -> int:
        """Number of examples to fit, attack points included."""
        return len(self.labels)

    @property
    def fitted_index(self) -> np.ndarray:
        """Rows of ``inputs`` to be fitted, in the order of ``labels``."""
        return np.concatenate([self.train_index, self.attack_index])

    @property
    def test_index(self) -> np.ndarray:
        """Rows in neither the training set nor the attack set."""
        return np.setdiff1d(np.arange(self.m), self.fitted_index)

    @property
    def train_inputs(self) -> np.ndarray:
        """(k + a, d) inputs to be fitted."""
        return np.asarray(self.inputs[self.fitted_index])

    @property
    def majority_error(self) -> float:
        """Test error of the constant that the labels to fit favour (a baseline)."""
        test = self.target[self.test_index]
        guess = self.labels.mean() > 0.5
        return float(np.mean(test != guess)) if len(test) else math.nan

    @property
    def target_text(self) -> str:
        """The target as text that any command reads: its name as given, or hex."""
        drawn = _DRAWN.match(self.name) or self.name == "given" or self.n == 0
        return to_hex(pack(self.target), self.m)[0] if drawn else self.name

    def describe(self) -> dict[str, Any]:
        """Plain values for manifests: everything that determines the problem."""
        return {
            "name": self.name,
            "n": self.n,
            "m": self.m,
            "text": self.target_text,
            "target": to_hex(pack(self.target), self.m)[0],
            "seed": self.seed,
            "corrupt": self.corrupt,
            "train_index": self.train_index.tolist(),
            "attack_index": self.attack_index.tolist(),
            "labels": "".join(map(str, self.labels)),
            "majority_error": self.majority_error,
            **self.settings,
        }


@checked(network=NETWORK, corrupt=Number(0, 1))
def boolean_problem(
    network: Network,
    target: Any,
    train: int | Sequence[int],
    *,
    seed: int = 0,
    corrupt: float = 0.0,
    attack: int = 0,
) -> Problem:
    """A Boolean function and a random training set.

    Parameters
    ----------
    network : Network
        Gives the inputs.
    target : array or str
        A function in any accepted form (bits, hex, a name), ``random`` (uniform over functions),
        ``random:T`` (uniform over functions with T ones) or ``lz:K`` (see :func:`lz_target`).
    train : int or sequence of int
        Size of S, 1 to m - 1, drawn without replacement; or the indices themselves.
    seed : int
        Of the target (if drawn), S, the corruption and the attack points, independent streams.
    corrupt : float
        Share of the labels of S replaced by coin flips (``datasets.corrupt_labels``).
    attack : int
        Number of attack points.

    Raises
    ------
    InputError
        Not a function of the inputs, or sizes that do not fit.
    """
    inputs = input_matrix(network)
    m = len(inputs)
    n = network.n if network.inputs is None else 0
    name, table = make_target(target, m, n, seed)
    index = _training_set(train, m, seed)
    points = _attack_points(np.setdiff1d(np.arange(m), index), attack, seed)
    labels = corrupt_labels(table[index], corrupt, seed)
    labels = np.concatenate([labels, 1 - table[points]])
    return Problem(name, n, inputs, table, index, points, labels, seed, float(corrupt))


@checked(
    data=Text(),
    classes=Maybe(Text()),
    label=Maybe(Text()),
    scale=Maybe(Text()),
    train=Whole(1),
    test=Whole(0),
    attack=Whole(0),
    corrupt=Number(0, 1),
)
def data_problem(
    data: str,
    *,
    classes: str | None = None,
    train: int = 100,
    test: int = 100,
    seed: int = 0,
    corrupt: float = 0.0,
    attack: int = 0,
    scale: str | None = None,
    label: str | None = None,
    missing: str = "refuse",
) -> Problem:
    """Real data: the function is the labelling of training, attack and test inputs, in this order.

    ``data`` is a name of ``datasets.SOURCES``, or a local file in a format of ``loaders`` (whose
    class column is ``label``; ``missing`` values are refused, or their rows dropped); ``test``
    held-out inputs and ``attack`` points are drawn from the examples outside the training set.
    Scaling as in ``datasets``. Raises :class:`InputError`.
    """
    found = split_dataset(
        data,
        classes=classes,
        train=whole("train", train, 1),
        seed=seed,
        scale=scale,
        label=label,
        missing=missing,
        count=False,
    )
    settings: dict[str, Any] = {}
    if data not in SOURCES:
        settings = {"classes": found.classes, "missing": missing, "scale": found.scale}
        if "label" in found.source:
            settings["label"] = found.source["label"]
    elif found.scale != SOURCES[data].scale:
        settings = {"scale": found.scale}
    problem = problem_from_arrays(
        f"{found.name} {found.classes}",
        found.X_train,
        found.y_train,
        found.X_test,
        found.y_test,
        test=test,
        seed=seed,
        corrupt=corrupt,
        attack=attack,
    )
    return replace(problem, settings=settings, source={**found.source, **problem.source})


def problem_from_arrays(
    name: str,
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    *,
    test: int | None = None,
    seed: int = 0,
    corrupt: float = 0.0,
    attack: int = 0,
) -> Problem:
    """As :func:`data_problem` from arrays: inputs (k, d) and (t, d), labels 0/1."""
    k = len(y_train)
    attack = whole("attack", attack, 0)
    test = whole("test", len(y_test) - attack if test is None else test, 1)
    if attack + test > len(y_test):
        what = f"test={test}, attack={attack}"
        raise InputError(what, f"at most {len(y_test)} held-out examples together", "ask for fewer")
    order = rng.generator(seed, "train/held-out").permutation(len(y_test))[: attack + test]
    inputs = np.concatenate([X_train, X_test[order]])
    target = np.concatenate([y_train, y_test[order]]).astype(np.uint8)
    points = np.arange(k, k + attack)
    labels = np.concatenate([corrupt_labels(target[:k], corrupt, seed), 1 - target[points]])
    fitted = k + attack
    twice = find_overlap(inputs[:fitted], labels, inputs[fitted:], target[fitted:])
    twice.report(name, fitted, test)
    examples = (np.arange(k), points, labels.astype(np.uint8))
    about = twice.describe()
    return Problem(name, 0, inputs, target, *examples, seed, float(corrupt), source=about)


def make_target(target: Any, m: int, n: int, seed: int) -> tuple[str, np.ndarray]:
    """(name, (m,) uint8 truth table) of a target in any form of :func:`boolean_problem`."""
    match = _DRAWN.match(target.strip().lower()) if isinstance(target, str) else None
    if match is None:
        tables = parse_functions(target, m, n)
        if len(tables) != 1:
            raise InputError(f"{len(tables)} targets", "one function", "train once for each")
        return (target.strip() if isinstance(target, str) else "given"), tables[0]
    kind, value = match[1], match[2]
    try:
        number = None if value is None else float(value)
    except ValueError:
        number = math.nan
    if kind == "lz":
        if number is None:
            raise InputError("target='lz'", "a complexity", "write for example lz:35")
        return f"lz:{value}", lz_target(m, number, seed)
    random = rng.generator(seed, "train/target")
    if number is None:
        return "random", random.integers(2, size=m).astype(np.uint8)
    ones = whole("target random:T with T", number, 0, m)
    table = np.zeros(m, np.uint8)
    table[random.permutation(m)[:ones]] = 1
    return f"random:{ones}", table


@checked(m=Whole(2, 2**20), complexity=Number(finite=False), tolerance=Maybe(Number(0)))
def lz_target(m: int, complexity: float, seed: int, tolerance: float | None = None) -> np.ndarray:
    """A random function on m inputs with LZ complexity within ``tolerance`` of ``complexity``.

    The nearest of some repeated random patterns, then a Metropolis search over truth tables with
    the energy |K - complexity|: moves flip one output or copy a segment onto another place. It
    samples targets OF a complexity, not uniformly among those with it. The default tolerance is
    half a step of K, log2(m) / 4.

    Returns
    -------
    (m,) uint8 table of 0/1.

    Raises
    ------
    InputError
        If no such function was found (K runs from log2(m) to about 1.3 m).
    """
    step = math.log2(m) / 2
    tolerance = step / 2 + 1e-9 if tolerance is None else tolerance
    random = rng.generator(seed, "train/lz-target")
    starts = [_start(m, random) for _ in range(_STARTS)]
    table = min(starts, key=lambda f: abs(_lz(f) - complexity))
    value = nearest = _lz(table)
    for _ in range(_MOVES if math.isfinite(complexity) else 0):
        if abs(value - complexity) <= tolerance:
            return table
        new = table.copy()
        if random.random() < 0.5:
            new[random.integers(m)] ^= 1
        else:
            length = int(random.integers(1, m // 2 + 1))
            a, b = random.integers(m - length + 1, size=2)
            new[a : a + length] = table[b : b + length]
        other = _lz(new)
        gain = (abs(value - complexity) - abs(other - complexity)) / step
        if gain >= 0 or random.random() < math.exp(2 * gain):
            table, value = new, other
            nearest = min(nearest, value, key=lambda k: abs(k - complexity))
    what = f"target lz:{complexity:g}"
    expected = f"a complexity that functions of {m} inputs have"
    raise InputError(what, expected, f"the nearest found is {nearest:.4g}; pass lz:{nearest:.4g}")


def _start(m: int, random: np.random.Generator) -> np.ndarray:
    """A random pattern, of random length and share of ones, repeated over the inputs."""
    pattern = random.random(int(random.integers(1, m + 1))) < random.random()
    return np.resize(pattern, m).astype(np.uint8)


def _lz(table: np.ndarray) -> float:
    return float(lz76_packed(pack(table), len(table))[0])


def _training_set(train: Any, m: int, seed: int) -> np.ndarray:
    if isinstance(train, Sequence | np.ndarray) and not isinstance(train, str):
        index = plain_array("train", train)
        good = index.ndim == 1 and index.dtype.kind in "iu" and 1 <= len(index) < m
        if (
            not good
            or len(set(index.tolist())) < len(index)
            or index.min() < 0
            or (index.max() >= m)
        ):
            expected = f"1 to {m - 1} distinct indices from 0 to {m - 1}"
            raise InputError("train=indices", expected, "leave at least one input for the test")
        return index.astype(np.int64)
    if isinstance(train, int | float) and not isinstance(train, bool) and not 1 <= train < m:
        expected = f"a size from 1 to {m - 1} (there are {m} inputs)"
        raise InputError(f"train={shown(train)}", expected, "leave at least one input for the test")
    return draw_training_set(m, whole("train", train, 1, m - 1), seed)


def draw_training_set(m: int, size: int, seed: int) -> np.ndarray:
    """(size,) sorted inputs of a random training set, drawn without replacement from ``m``.

    Training and posterior draw the same one from the same seed. Raises :class:`InputError`.
    """
    if not 1 <= size < m:
        what = f"train={size}"
        raise InputError(what, f"1 to {m - 1} of the {m} inputs", "leave some inputs outside")
    return np.sort(rng.generator(seed, SPLIT_STREAM).permutation(m)[:size])


def _attack_points(outside: np.ndarray, attack: Any, seed: int) -> np.ndarray:
    attack = whole("attack", attack, 0)
    if attack >= len(outside):
        expected = f"fewer than the {len(outside)} inputs outside the training set"
        raise InputError(f"attack={attack}", expected, "lower --attack or --train")
    return rng.generator(seed, "train/attack").permutation(outside)[:attack]
