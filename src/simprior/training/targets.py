"""What is to be learned: a labelling of m inputs, a training set S, corruption and attack points.

A :class:`Problem` fixes the network, the m inputs on which its functions are compared, the true
labels, and the examples that must be fitted. Attack points are inputs outside S with WRONG labels
that must be fitted as well, which lowers generalisation at zero training error (as in Wu, Zhu & E
2017; Mingard et al., JMLR 2021); the test error is measured on the inputs that are in neither.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.balls import NOT_BITS, check_flips, robust_labels
from simprior.boolean.complexity import lz76_packed
from simprior.boolean.truthtable import input_matrix, pack, parse_functions, to_hex
from simprior.checks import (
    ARCHITECTURE,
    NETWORK,
    Maybe,
    Number,
    Text,
    Validator,
    Whole,
    checked,
    plain_array,
    shown,
    whole,
)
from simprior.display import Shown
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.callables import array_function
from simprior.network.density import mask_weights
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.data import SOURCES, corrupt_labels, split_dataset
from simprior.training.images import find_overlap

if TYPE_CHECKING:
    import pandas as pd

_DRAWN = re.compile(r"(random|lz|net)(?::([0-9.eE+-]+))?\Z")
_EXAMPLES = {"lz": ("a complexity", "lz:35"), "net": ("a width", "net:2")}
_MOVES, _STARTS = 20000, 256
_TEACHERS, _MAX_TEACHER = 1000, 10**6
BOX_REMEDY = "leave it out; only train takes the radius of a box"
SPLIT_STREAM = "posterior/training-set"


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Problem(Shown):
    """A network, the inputs on which its functions are compared, and the examples to be fitted.

    It is what every route takes: ``train``, ``posterior``, ``log_evidence``, ``bound``,
    ``measure``. The task is a Boolean function of the network's inputs, or a labelling of inputs
    that are given, or real data.

    Parameters
    ----------
    network : Network or Module
        Architecture and law of the parameters. With ``data`` or ``inputs`` its inputs are replaced.
    target : array or str
        The Boolean function to learn, in any accepted form (bits, hex, a name), or ``random``
        (uniform over functions), ``random:T`` (uniform over functions with T ones), ``lz:K`` (see
        :func:`lz_target`), ``net:W`` (a random teacher, see :func:`teacher_target`).
    train : int or sequence of int
        Size of S, 1 to m - 1, drawn without replacement; or the inputs themselves.
    data, classes, label, missing, scale, test
        Real data: a name of ``data.SOURCES`` or a local file in a format of ``loaders`` (whose
        class column is ``label``; ``missing`` values are refused, or their rows dropped); two sets
        of ``classes``; how features are scaled (see :mod:`simprior.training.data`). The function is
        the labelling of training, attack and ``test`` held-out inputs, in this order.
    inputs, labels, train_index
        Inputs (m, d) and their true labels (m,) of 0/1, of which ``train_index`` (or ``train`` of
        them, drawn) are the training set.
    corrupt : float
        Share of the labels of S replaced by coin flips (``data.corrupt_labels``).
    attack : int
        Number of attack points (module docstring).
    robust : int
        Bits: the label of each training string is to be fitted on all strings within so many
        flips of it (:mod:`simprior.boolean.balls`), which then are the training set.
    seed : int
        Of the target (if drawn), S, the corruption and the attack points, independent streams.

    Attributes
    ----------
    network : Network
        With the inputs of the problem.
    inputs : (m, d) float64
    target : (m,) uint8
        True labels.
    train_index, attack_index : (k,), (a,)
        Disjoint rows of ``inputs``.
    labels : (k + a,) uint8
        The labels to fit, training set first.
    n : int
        Number of bits if the inputs are all bit strings, else 0.
    settings, source
        Of data: what else determines the inputs (classes, label, missing, scale); what was read,
        and how many test inputs are training inputs too. With ``robust``: its value, and the
        training ``strings`` themselves.

    Raises
    ------
    InputError
        No task or two of them, not a function of the inputs, sizes that do not fit.
    """

    network: Network | Module
    name: str
    n: int
    inputs: np.ndarray
    target: np.ndarray
    train_index: np.ndarray
    attack_index: np.ndarray
    labels: np.ndarray
    seed: int
    corrupt: float
    settings: Mapping[str, Any]
    source: Mapping[str, Any]

    def __init__(
        self,
        network: Network | Module,
        target: Any = None,
        *,
        train: int | Sequence[int] = 64,
        data: str | None = None,
        classes: str | None = None,
        label: str | None = None,
        missing: str = "refuse",
        scale: str | None = None,
        test: int = 100,
        inputs: Any = None,
        labels: Any = None,
        train_index: Sequence[int] | np.ndarray | None = None,
        corrupt: float = 0.0,
        attack: int = 0,
        robust: int = 0,
        seed: int = 0,
    ) -> None:
        given = {k: v for k, v in locals().items() if k != "self"}
        _check_task(given)
        made = _data_fields(given) if data is not None else _function_fields(given)
        self._fill(**made)

    def _fill(self, **fields: Any) -> None:
        fields = {"settings": {}, "source": {}} | fields
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _of(cls, **fields: Any) -> Problem:
        """A problem with these fields."""
        problem: Problem = object.__new__(cls)
        problem._fill(**fields)
        return problem

    def lines(self) -> list[str]:
        """What is to be learned, by which network, from how many examples."""
        wrong = int((self.labels != self.target[self.fitted_index]).sum())
        kind = f"{self.n} bits" if self.n else f"{self.inputs.shape[1]} features"
        return [
            f"Problem: {_short(self.name)} on m={self.m} inputs of {kind}",
            f"network: {_in_words(self.network)}",
            f"to fit: {len(self.train_index)} training inputs, {len(self.attack_index)} attack "
            f"points, {wrong} wrong labels; {len(self.test_index)} test inputs",
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row an input: ``target``, ``set`` (train, attack or test), ``label`` (to be fitted; of
        test inputs the true one)."""
        import pandas as pd

        part = np.full(self.m, "test", object)
        part[self.train_index], part[self.attack_index] = "train", "attack"
        label = self.target.copy()
        label[self.fitted_index] = self.labels
        return pd.DataFrame({"target": self.target, "set": part, "label": label})

    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the problem, its network included."""
        text = json.dumps([self.network.digest(), self.describe()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

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


_CHECKS: Mapping[str, Validator] = {
    "network": ARCHITECTURE,
    "data": Maybe(Text()),
    "classes": Maybe(Text()),
    "label": Maybe(Text()),
    "scale": Maybe(Text()),
    "corrupt": Number(0, 1),
}
_DATA_ONLY = ("classes", "label", "scale", "missing")


def key_of(problem: Problem) -> str:
    """The name under which a run's configuration has the network or module of its problem."""
    if not problem.n:
        return "architecture"
    return "network" if isinstance(problem.network, Network) else "modules"


def recorded_network(config: Mapping[str, Any]) -> Network | Module:
    """The network or module of a configuration (:func:`key_of`); no module is built."""
    names = ("network", "modules", "architecture")
    values = next(config[name] for name in names if name in config)
    kind = Module if {"module", "architecture"} & set(values) else Network
    return kind.from_dict(values)


def _in_words(network: Network | Module) -> str:
    if isinstance(network, Network):
        hidden = ",".join(map(str, network.hidden)) or "none"
        return f"hidden {hidden}, {network.activation_name}"
    options = ", ".join(f"{name}={value}" for name, value in (network.options or {}).items())
    return _short(f"{network.make_name} {options}".strip())


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_task(given: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` unless the arguments of :class:`Problem` name one task."""
    for name, check in _CHECKS.items():
        check(name, given[name])
    tasks = [name for name in ("target", "data", "labels") if given[name] is not None]
    if len(tasks) != 1:
        what = f"target={shown(given['target'])}, data={given['data']!r}"
        what += "" if given["labels"] is None else ", labels"
        raise InputError(what, "one of the two", "pass for example --target lz:35")
    if _has_flips(given["robust"]) and (given["data"] is not None or given["inputs"] is not None):
        what = "inputs" if given["data"] is None else f"data={given['data']!r}"
        raise InputError(f"robust={shown(given['robust'])} with {what}", NOT_BITS, BOX_REMEDY)
    if given["data"] is None:
        found = {name: given[name] for name in _DATA_ONLY}
        found["missing"] = None if given["missing"] == "refuse" else given["missing"]
        for name, value in found.items():
            if value is not None:
                raise InputError(f"{name}={value!r}", "data to apply it to", "leave it out")
        return
    for name in ("inputs", "train_index"):
        if given[name] is not None:
            raise InputError(f"{name} with data={given['data']!r}", "one of the two", "drop one")


def _function_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a problem on a function of the network's inputs, or of those given."""
    network, seed, corrupt = given["network"], given["seed"], given["corrupt"]
    if given["inputs"] is not None:
        x = Network(inputs=given["inputs"])
        network = replace(network, n=x.n, inputs=x.inputs)
    inputs = input_matrix(network)
    m = len(inputs)
    n = network.n if network.inputs is None else 0
    asked = given["target"] if given["labels"] is None else given["labels"]
    name, table = make_target(asked, m, n, seed, network)
    train = given["train"] if given["train_index"] is None else given["train_index"]
    index = _training_set(train, m, seed)
    labels = corrupt_labels(table[index], corrupt, seed)
    settings: dict[str, Any] = {}
    robust = _flips(given["robust"], n)
    if robust:
        settings = {"robust": robust, "strings": index.tolist()}
        index, labels = robust_labels(index, labels, robust, n)
    points = _attack_points(np.setdiff1d(np.arange(m), index), given["attack"], seed)
    labels = np.concatenate([labels, 1 - table[points]])
    return {
        "settings": settings,
        "network": network,
        "name": name,
        "n": n,
        "inputs": inputs,
        "target": table,
        "train_index": index,
        "attack_index": points,
        "labels": labels,
        "seed": seed,
        "corrupt": float(corrupt),
    }


def _data_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a problem on real data."""
    data = given["data"]
    whole("attack", given["attack"], 0)
    whole("test", given["test"], 0)
    options = {name: given[name] for name in ("classes", "scale", "label", "missing", "seed")}
    train = whole("train", given["train"], 1)
    found = split_dataset(data, train=train, count=False, **options)
    settings: dict[str, Any] = {}
    if data not in SOURCES:
        settings = {"classes": found.classes, "missing": given["missing"], "scale": found.scale}
        if "label" in found.source:
            settings["label"] = found.source["label"]
    elif found.scale != SOURCES[data].scale:
        settings = {"scale": found.scale}
    parts = (found.X_train, found.y_train, found.X_test, found.y_test)
    chosen = {name: given[name] for name in ("test", "seed", "corrupt", "attack")}
    made = _split_fields(given["network"], f"{found.name} {found.classes}", *parts, **chosen)
    return made | {"settings": settings, "source": {**found.source, **made["source"]}}


def problem_from_arrays(
    network: Network | Module,
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
    """A problem on data that are split already: inputs (k, d) and (t, d), labels 0/1.

    ``test`` held-out inputs (default: all but the attack points) and ``attack`` points are drawn
    from the second part. Raises :class:`InputError`.
    """
    parts = (X_train, y_train, X_test, y_test)
    options: dict[str, Any] = {"test": test, "seed": seed, "corrupt": corrupt, "attack": attack}
    return Problem._of(**_split_fields(network, name, *parts, **options))


def problem_on(network: Network | Module, index: np.ndarray, labels: np.ndarray) -> Problem:
    """The problem of fitting ``labels`` at the inputs ``index``, the true labels unknown: those of
    the inputs outside are 0."""
    inputs = input_matrix(network)
    target = np.zeros(len(inputs), np.uint8)
    target[index] = labels
    return Problem._of(
        network=network,
        name="given",
        n=network.n if network.inputs is None else 0,
        inputs=inputs,
        target=target,
        train_index=np.asarray(index, np.int64),
        attack_index=np.zeros(0, np.int64),
        labels=np.asarray(labels, np.uint8),
        seed=0,
        corrupt=0.0,
    )


def _split_fields(
    network: Network | Module,
    name: str,
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    *,
    test: Any,
    seed: int,
    corrupt: float,
    attack: Any,
) -> dict[str, Any]:
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
    return {
        "network": replace(network, n=inputs.shape[1], inputs=inputs),
        "name": name,
        "n": 0,
        "inputs": inputs,
        "target": target,
        "train_index": np.arange(k),
        "attack_index": points,
        "labels": labels.astype(np.uint8),
        "seed": seed,
        "corrupt": float(corrupt),
        "source": twice.describe(),
    }


def make_target(
    target: Any, m: int, n: int, seed: int, network: Network | Module | None = None
) -> tuple[str, np.ndarray]:
    """(name, (m,) uint8 truth table) of a target in any form of :class:`Problem`.

    ``network`` gives a teacher (``net:W``) its inputs, activation and law of parameters.
    """
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
    if kind in _EXAMPLES and number is None:
        what, example = _EXAMPLES[kind]
        raise InputError(f"target={kind!r}", what, f"write for example {example}")
    if kind == "lz":
        assert number is not None
        return f"lz:{value}", lz_target(m, number, seed)
    if kind == "net":
        if not isinstance(network, Network):
            expected = "a Network, which gives its teacher inputs, activation and law"
            remedy = "pass the truth table of a teacher as the target"
            raise InputError(f"target={target!r} without a Network", expected, remedy)
        width = whole("target net:W with W", number, 1, _MAX_TEACHER)
        return f"net:{width}", teacher_target(network, width, seed)
    random = rng.generator(seed, "train/target")
    if number is None:
        return "random", random.integers(2, size=m).astype(np.uint8)
    ones = whole("target random:T with T", number, 0, m)
    table = np.zeros(m, np.uint8)
    table[random.permutation(m)[:ones]] = 1
    return f"random:{ones}", table


@checked(network=NETWORK, width=Whole(1))
def teacher_target(network: Network, width: int, seed: int) -> np.ndarray:
    """The labels that a random network with hidden layers of ``width`` gives to the inputs.

    The teacher has the depth (at least one hidden layer), the activation and the Gaussian law of
    parameters of ``network``, masks included. Constant functions are drawn again.

    Returns
    -------
    (m,) uint8 table of 0/1.

    Raises
    ------
    InputError
        None of 1,000 teachers gave two labels.
    """
    f = array_function(network)
    inputs, depth = input_matrix(network), max(network.depth, 1)
    laws = (network.sigma_ws, network.sigma_bs, network.densities)
    sigmas = [np.resize(s, depth + 1) for s in laws]
    random = rng.generator(seed, "train/teacher")
    for _ in range(_TEACHERS):
        h = inputs
        for layer in range(depth + 1):
            units = width if layer < depth else 1
            w = random.standard_normal((h.shape[1], units)) * sigmas[0][layer]
            w = mask_weights(w, sigmas[2][layer], network.rescale, random)
            z = h @ w / math.sqrt(h.shape[1]) + sigmas[1][layer] * random.standard_normal(units)
            h = f(z) if layer < depth else z
        table = (h[:, 0] > 0).astype(np.uint8)
        if table.min() < table.max():
            return table
    raise InputError(
        f"target=net:{width}", "a teacher that gives two labels", "pass a wider one, or sigma_b=0"
    )


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
    starts = np.stack([_start(m, random) for _ in range(_STARTS)])
    values = _lz(starts)
    best = int(np.abs(values - complexity).argmin())
    table, value = starts[best], float(values[best])
    nearest = value
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
        other = float(_lz(new)[0])
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


def _lz(tables: np.ndarray) -> np.ndarray:
    return lz76_packed(pack(tables), tables.shape[-1])


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
    expected = f"1 to {m - 1} of the {m} inputs"
    Whole(1, m - 1, "leave some inputs outside", expected)("train", size)
    return np.sort(rng.generator(seed, SPLIT_STREAM).permutation(m)[:size])


def _has_flips(robust: Any) -> bool:
    """Whether ``robust`` is anything but the number 0."""
    return not (isinstance(robust, int | np.integer) and robust == 0)


def _flips(robust: Any, n: int) -> int:
    """``robust`` on functions of ``n`` bits (0: other inputs). Raises :class:`InputError`."""
    if n == 0 and _has_flips(robust):
        raise InputError(f"robust={shown(robust)} with inputs", NOT_BITS, BOX_REMEDY)
    return check_flips(robust, n)


def _attack_points(outside: np.ndarray, attack: Any, seed: int) -> np.ndarray:
    attack = whole("attack", attack, 0)
    if attack and attack >= len(outside):
        expected = f"fewer than the {len(outside)} inputs outside the training set"
        raise InputError(f"attack={attack}", expected, "lower --attack or --train")
    return rng.generator(seed, "train/attack").permutation(outside)[:attack]
