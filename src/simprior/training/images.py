"""Image files in the formats of torchvision's data sets: IDX (MNIST family) and CIFAR's binary.

A folder may hold a file in two forms (``X`` and ``X.gz``, ``t10k-images.idx3-ubyte`` and
``t10k-images-idx3-ubyte``); one of them is read. The "python version" of CIFAR is a pickle and is
refused.

What is read of any data file is made plain here, too. Labels become classes (:func:`classify`):

* Numeric labels that are whole (``5``, ``5.0``, ``-1``) are the classes themselves.
* Other numeric labels (0.5, 1.5) are classes in the order of their values, named by them, as long
  as they are few and recur; a continuous target is refused.
* Words are numbered in sorted order; ``names[i]`` is the word of class i.

Inputs that occur more than once, in the training and in the test part or with both labels, are
found by :func:`find_overlap`.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from simprior.runs.text_files import is_number, short, unreadable

PIXELS = 3072
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_IMAGES = re.compile(r"images([-.])idx3")
_PART = re.compile(r"[-_.]?(train|t10k|test)[-_.]?images.*\Z")
Part = tuple[np.ndarray, np.ndarray]


def image_files(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """(CIFAR files, IDX images) among ``files``, each in order of names."""
    found = list(files)
    bins = [f for f in found if _stem(f.name).endswith(".bin")]
    return bins, [f for f in found if _IMAGES.search(f.name)]


def read_images(path: Path, files: Iterable[Path]) -> tuple[list[Part], list[str]] | None:
    """Parts (images (k, d) / 255, (k,) classes) of the image files at ``path``, and what was left
    out; None if none of them is an image file.

    Raises :class:`InputError` for damaged files, and for those of several data sets.
    """
    bins, images = image_files(files)
    if bins and images:
        raise unreadable(_what(path), "CIFAR's files and IDX files in one folder", "name one file")
    chosen, notes = _one_of_each(bins or images)
    if not chosen:
        return None
    if bins:
        read = [_cifar(file) for file in chosen]
        if len({labels for _, labels in read}) > 1:
            reason = "files of CIFAR-10 and of CIFAR-100, whose classes differ"
            raise unreadable(_what(path), reason, "name one file")
        parts = [part for part, _ in read]
    else:
        sets = sorted({_PART.sub("", _stem(file.name)) for file in chosen})
        if len(sets) > 1:
            reason = f"files of several data sets: {', '.join(map(short, sets[:6]))}"
            raise unreadable(_what(path), reason, "name one of its image files")
        parts = [_idx_pair(file) for file in chosen]
    if len({x.shape[1] for x, _ in parts}) > 1:
        raise unreadable(_what(path), "files of different shapes")
    if len(chosen) > 1:
        names = ", ".join(short(file.name) for file in chosen[:8])
        notes.insert(0, f"{len(chosen)} files joined: {names}{', ...' if len(chosen) > 8 else ''}")
    return parts, notes


def _what(path: Path) -> str:
    return f"data={str(path)!r}"


def _stem(name: str) -> str:
    return name.removesuffix(".gz")


def _one_of_each(files: list[Path]) -> tuple[list[Path], list[str]]:
    """One file of each stem, the uncompressed one if there is a choice. Raises
    :class:`InputError` where two of a stem differ."""
    chosen: dict[str, Path] = {}
    notes = []
    for file in sorted(files, key=lambda f: (f.suffix == ".gz", f.name)):
        key = _stem(file.name).replace(".idx", "-idx")
        if key in chosen:
            if _read(file) != _read(chosen[key]):
                reason = f"{short(chosen[key].name)} beside it holds other data"
                raise unreadable(_what(file), reason, "remove one of the two")
            notes.append(f"{short(file.name)} left out (it is {short(chosen[key].name)} again)")
        else:
            chosen[key] = file
    return sorted(chosen.values(), key=lambda f: f.name), notes


def _read(path: Path) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(path) as handle:
            return handle.read()
    return path.read_bytes()


def read_idx(path: Path) -> np.ndarray:
    """An IDX file as an array of its type. Raises :class:`InputError`."""
    data, what = _read(path), _what(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or not 1 <= data[3] <= 4:
        raise unreadable(what, "no IDX header")
    dtype, start = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise unreadable(what, "the header is cut off")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    size = 1
    for length in shape:
        size *= length
    if len(data) - start != size * dtype.itemsize:
        raise unreadable(what, f"{len(data) - start} bytes for {dtype.name} of shape {shape}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _labels_beside(path: Path) -> Path:
    """The labels of an image file: ``labels-idx1-ubyte``, or QMNIST's ``labels-idx2-int``."""
    first = _IMAGES.sub(lambda m: f"labels{m[1]}idx1", path.name)
    stem = _stem(first)
    head = stem[: stem.index("idx1")]
    heads = dict.fromkeys((head, f"{head[:-1]}-", f"{head[:-1]}."))
    kinds = ("idx1-ubyte", "idx1-int", "idx2-int")
    names = [stem, *(f"{h}{kind}" for h in heads for kind in kinds)]
    ends = (".gz", "") if path.suffix == ".gz" else ("", ".gz")
    for name in names:
        for end in ends:
            if path.with_name(name + end).exists():
                return path.with_name(name + end)
    raise unreadable(_what(path), f"there is no {first} beside it")


def _idx_pair(path: Path) -> Part:
    labels = _labels_beside(path)
    x, y = read_idx(path), read_idx(labels)
    if y.ndim == 2 and y.shape[1] == 8 and y.dtype == ">i4":
        y = y[:, 0]  # QMNIST: the class, then the writer and where the digit was found
    if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
        raise unreadable(_what(path), f"images {x.shape} with labels {y.shape}")
    if not x.size:
        raise unreadable(_what(path), "it has no images")
    if x.dtype != np.uint8 or y.dtype.kind not in "ui":
        raise unreadable(_what(path), f"images of {x.dtype.name} with labels of {y.dtype.name}")
    return x.reshape(len(x), -1) / 255.0, y.astype(np.int64)


def read_cifar(path: Path) -> Part:
    """Images / 255 and classes (CIFAR-100: the fine ones). Raises :class:`InputError`."""
    return _cifar(path)[0]


def _cifar(path: Path) -> tuple[Part, int]:
    """As :func:`read_cifar`, with the number of label bytes a record."""
    data = np.frombuffer(_read(path), np.uint8)
    # CIFAR-10 has one label byte a record, CIFAR-100 two: a length may be a multiple of both only
    # for 3,074 k records, more than either set has in a file
    for labels in (1, 2):
        if len(data) and len(data) % (PIXELS + labels) == 0:
            records = data.reshape(-1, PIXELS + labels)
            classes = records[:, labels - 1].astype(np.int64)
            return (records[:, labels:] / 255.0, classes), labels
    raise unreadable(_what(path), f"{len(data)} bytes, no whole number of CIFAR records")


MISSING = frozenset(
    ("", "?", "na", "n/a", "nan", "-nan", "+nan", "none", "null", "<na>", "nat", "#n/a", "#na")
)
"""What stands for a missing value, in lower case."""
MOST_FRACTIONS = 50
_WHOLE = re.compile(r"[+-]?\d+\Z", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?\Z", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Labels:
    """``y`` (k,) int64 classes; ``names`` the text of class i where the classes are not numbers."""

    y: np.ndarray
    names: tuple[str, ...] | None


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip().lower() in MISSING


def as_text(value: Any) -> str | None:
    """One label as text without blanks around it; None if it is missing."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and math.isnan(value):
        return None
    text = str(value).strip()
    return None if is_missing(text) else text


def classify(texts: Sequence[str], mixed: bool = False) -> Labels:
    """Classes of labels that are all there.

    Parameters
    ----------
    texts : sequence of str
        The labels, none of them missing.
    mixed : bool
        Whether numbers and words may stand side by side (the column is declared as words).

    Raises
    ------
    ValueError
        They are not labels; the message says why.
    """
    counts = Counter(texts)
    numeric = {text for text in counts if is_number(text)}
    infinite = [text for text in counts if _INFINITE.match(text)]
    if numeric and infinite:
        raise ValueError(f"the label {infinite[0]!r} is not finite")
    if len(numeric) < len(counts):
        if numeric and not mixed:
            words = [text for text in counts if text not in numeric]
            raise ValueError(
                f"labels are numbers but for {sum(counts[w] for w in words)}, such as "
                f"{short(words[0])!r}: correct them, or write all classes as words"
            )
        return _named(texts, sorted(counts))
    values = {text: _value(text) for text in counts}
    whole = [value for value in values.values() if isinstance(value, int)]
    if len(whole) == len(values):
        if any(abs(value) >= 2**63 for value in whole):
            raise ValueError("the labels are whole numbers beyond 2^63: no classes")
        return Labels(np.array([values[text] for text in texts], np.int64), None)
    distinct = sorted(set(values.values()))
    if len(distinct) > MOST_FRACTIONS or 2 * len(distinct) > len(texts):
        raise ValueError(
            f"{len(distinct)} different numbers such as {_fraction(counts)} among {len(texts)} "
            "labels, not all whole: that is a continuous target, and classes are wanted"
        )
    places = {value: place for place, value in enumerate(distinct)}
    names = tuple(str(v if isinstance(v, int) else v.normalize()) for v in distinct)
    return Labels(np.array([places[values[text]] for text in texts], np.int64), names)


def _named(texts: Sequence[str], names: list[str]) -> Labels:
    places = {name: place for place, name in enumerate(names)}
    return Labels(np.array([places[text] for text in texts], np.int64), tuple(names))


def _value(text: str) -> int | Decimal:
    """A numeric label exactly: an int if it is whole, however it is written (5, 5.0, 5e0)."""
    if _WHOLE.match(text) and len(text) < 40:
        return int(text)
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return 2**63
    if value.adjusted() > 40:
        return 2**63
    return int(value) if value == value.to_integral_value() else value


def _fraction(counts: Counter[str]) -> str:
    return next(text for text in counts if not isinstance(_value(text), int))


@dataclass(frozen=True)
class Overlap:
    """Inputs that occur more than once: test inputs among the training inputs, how many of those
    with another label, and training inputs with both labels."""

    duplicates: int = 0
    disagree: int = 0
    contradictions: int = 0

    def describe(self) -> dict[str, int]:
        """Plain values for manifests."""
        return {"test_in_train": self.duplicates, "contradictions": self.contradictions}

    def report(self, name: str, train: int, test: int) -> None:
        """Say it in the log: as a warning if there are any."""
        log = logging.getLogger("simprior")
        log.log(
            logging.WARNING if self.duplicates else logging.INFO,
            "%s: %d training and %d test inputs, %d test inputs are training inputs too%s",
            name,
            train,
            test,
            self.duplicates,
            f" ({self.disagree} of them with another label)" if self.disagree else "",
        )
        if self.contradictions:
            log.warning(
                "%s: %d inputs to be fitted occur with both labels, which no function fits",
                name,
                self.contradictions,
            )


def find_overlap(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray
) -> Overlap:
    """Which inputs, as the network sees them, occur more than once."""
    labels: dict[bytes, int] = {}
    for key, label in zip(_keys(X_train), y_train.tolist(), strict=True):
        labels[key] = labels.get(key, 0) | 1 << label
    both = sum(seen == 3 for seen in labels.values())
    same = disagree = 0
    for key, label in zip(_keys(X_test), y_test.tolist(), strict=True):
        if key in labels:
            same += 1
            disagree += not labels[key] >> label & 1
    return Overlap(same, disagree, both)


def _keys(X: np.ndarray) -> Iterator[bytes]:
    """A digest of each row; 0.0 and -0.0 are one."""
    for row in X:
        yield hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest()
