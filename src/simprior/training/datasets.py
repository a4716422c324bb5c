"""Real data with binary labels: scikit-learn's digits and breast cancer, split and scaled.

Class sets are written ``A:B``, label 0 for A and 1 for B, each a comma list of classes and ranges:
``3:8``, ``0-4:5-9``, ``1,7:3,8``. Short forms: ``3,8`` is ``3:8``; ``even`` or ``odd`` stands for
its classes, and ``even:odd`` may be written ``even``. Examples of other classes are dropped.

Scaling (recorded in ``Dataset.scale``):

* ``range``: features divided by the largest value they can take (digits: pixel / 16, in [0, 1]);
  the default for digits;
* ``standard``: each feature minus its mean, over its standard deviation, both of the TRAINING part
  (features constant there become 0 everywhere); the default for breast cancer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior import rng
from simprior.checks import Maybe, Number, Switch, Text, Whole, checked, plain_array, shown, whole
from simprior.errors import InputError

SCALES = ("range", "standard")
_RANGE = re.compile(r"(\d+)-(\d+)\Z")


@dataclass(frozen=True)
class Dataset:
    """Training and test part of a binary classification task.

    ``X_train`` (m, d) and ``X_test`` (t, d) float64, ``y_train`` (m,) and ``y_test`` (t,) uint8 of
    0/1. ``y_train`` includes the corruption, ``y_test`` never does. ``train_index`` and
    ``test_index`` are rows of the data as scikit-learn gives them.
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

    @property
    def m(self) -> int:
        """Number of training examples."""
        return len(self.y_train)

    def describe(self) -> dict[str, Any]:
        """Plain values for manifests and messages."""
        return {
            "data": self.name, "classes": self.classes, "train": self.m, "test": len(self.y_test),
            "features": self.X_train.shape[1], "share_of_ones": float(self.y_train.mean()),
            "scale": self.scale, "corrupt": self.corrupt, "seed": self.seed,
        }  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """Where a data set comes from: loader, largest feature value, default classes and scaling."""

    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    top: np.ndarray | float | None
    classes: str
    scale: str


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


SOURCES = {
    "digits": _Source(_digits, 16.0, "even:odd", "range"),
    "breast-cancer": _Source(_breast_cancer, None, "0:1", "standard"),
}
"""Data sets by name. digits: 1,797 images of 8 x 8, classes 0-9. breast-cancer: 569 patients, 30
features, classes 0 (malignant) and 1 (benign)."""


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
) -> Dataset:
    """A training set of ``train`` examples drawn without replacement; all others are the test set.

    Parameters
    ----------
    name : str
        ``digits`` or ``breast-cancer``.
    classes : str, optional
        Class sets (module docstring); default: digits ``even:odd``, breast cancer ``0:1``.
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

    Raises
    ------
    InputError
        Unknown name, class or scaling, or (without ``clip``) more examples wanted than there are.
    """
    if name not in SOURCES:
        raise InputError(f"data={name!r}", f"one of {', '.join(SOURCES)}", "check the spelling")
    source = SOURCES[name]
    X, target = source.load()
    text = source.classes if classes is None else classes
    zero, one = parse_classes(text, np.unique(target))
    rows = np.flatnonzero(np.isin(target, zero + one))
    labels = np.isin(target[rows], one).astype(np.uint8)
    if clip and train is not None:
        train = min(train, _available(labels, balanced))
    chosen = _choose(labels, train, seed, balanced, f"{name} {text}")
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    how = source.scale if scale is None else scale
    X_train, X_test = _scaled(X[rows[chosen]], X[rows[rest]], how, source.top)
    return Dataset(
        name, text, X_train, corrupt_labels(labels[chosen], corrupt, seed), X_test, labels[rest],
        rows[chosen], rows[rest], how, float(corrupt), seed,
    )  # fmt: skip


def corrupt_labels(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Replace a share of the labels by fair coin flips (Zhang et al., ICLR 2017).

    round(fraction m) positions are drawn without replacement, and each gets a uniformly random
    label, so that about half of them change and fraction 1 gives entirely random labels. For one
    seed the positions are nested: a larger fraction keeps those of a smaller one.

    Raises :class:`InputError` unless 0 <= fraction <= 1.
    """
    real = isinstance(fraction, int | float | np.floating) and not isinstance(fraction, bool)
    if not real or not 0.0 <= fraction <= 1.0:
        raise InputError(
            f"corrupt={shown(fraction)}", "a share from 0 to 1", "pass for example 0.1"
        )
    labels = plain_array("labels", labels)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise InputError(f"labels={shown(labels)}", "a vector of 0 and 1", "pass binary labels")
    labels = labels.astype(np.uint8)
    random = rng.generator(seed, "data/corrupt")
    order, flips = random.permutation(len(labels)), random.integers(2, size=len(labels))
    where = order[: round(fraction * len(labels))]
    labels[where] = flips[where]
    return labels


def parse_classes(text: str, known: np.ndarray) -> tuple[list[int], list[int]]:
    """The classes with label 0 and those with label 1 (module docstring).

    Raises :class:`InputError` on an unknown class, an empty side, or a class on both sides.
    """
    names = [int(c) for c in known]
    stripped = text.replace(" ", "").lower()
    parts = stripped.split(":")
    if len(parts) == 1 and stripped in {"even", "odd"}:
        parts = ["even", "odd"] if stripped == "even" else ["odd", "even"]
    elif len(parts) == 1 and stripped.count(",") == 1 and "-" not in stripped:
        parts = stripped.split(",")
    if len(parts) != 2:
        raise _bad_classes(text, names, "two sets A:B")
    zero, one = (_class_set(part, text, names) for part in parts)
    if set(zero) & set(one):
        raise _bad_classes(text, names, "two sets without a class in common")
    return zero, one


def _class_set(part: str, text: str, names: list[int]) -> list[int]:
    if part in {"even", "odd"}:
        return [c for c in names if c % 2 == (part == "odd")]
    found: set[int] = set()
    for item in part.split(","):
        match = _RANGE.match(item)
        if match:
            found |= set(range(int(match[1]), int(match[2]) + 1))
        elif item.isascii() and item.isdigit():
            found.add(int(item))
        else:
            raise _bad_classes(text, names, "classes as numbers or ranges")
    if not found or not found <= set(names):
        raise _bad_classes(text, names, "known classes")
    return sorted(found)


def _bad_classes(text: str, names: list[int], wanted: str) -> InputError:
    return InputError(
        f"classes={text!r}", f"{wanted}, from {names[0]} to {names[-1]}",
        "write for example 3,8 or 0-4:5-9",
    )  # fmt: skip


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
    wanted = len(labels) if train is None else whole("train", train, 1)
    order = rng.generator(seed, "data/split").permutation(len(labels))
    if isinstance(wanted, bool) or not 1 <= wanted <= len(labels):
        raise InputError(
            f"train={wanted!r}", f"1 to {len(labels)} examples of {name}", "ask for fewer"
        )
    if not balanced:
        return order[:wanted]
    halves = [order[labels[order] == 0], order[labels[order] == 1]]
    counts = [(wanted + 1) // 2, wanted // 2]
    if any(len(half) < count for half, count in zip(halves, counts, strict=True)):
        raise InputError(
            f"train={wanted} balanced", f"at most {2 * min(map(len, halves))} examples of {name}",
            "ask for fewer, or leave balanced out",
        )  # fmt: skip
    both = np.concatenate([half[:count] for half, count in zip(halves, counts, strict=True)])
    return order[np.isin(order, both)]


def _scaled(
    X_train: np.ndarray, X_test: np.ndarray, scale: str, top: np.ndarray | float | None
) -> tuple[np.ndarray, np.ndarray]:
    if scale not in SCALES:
        raise InputError(f"scale={scale!r}", f"one of {', '.join(SCALES)}", "check the spelling")
    if scale == "range":
        if top is None:
            top = np.abs(np.concatenate([X_train, X_test])).max(axis=0)
        return X_train / top, X_test / top
    mean, sd = X_train.mean(axis=0), X_train.std(axis=0)
    constant = np.ptp(X_train, axis=0) == 0
    inverse = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, sd))
    return (X_train - mean) * inverse, (X_test - mean) * inverse
