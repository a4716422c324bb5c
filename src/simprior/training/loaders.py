"""Data sets from local files in the formats of OpenML and torchvision. Nothing is unpickled.

=====================  ===========================================================================
``.csv``, ``.tsv``,    Tables: one column holds the labels (``label``; default: the only column
``.parquet``,          called label, class, target or y), all others must be numbers. Whole numbers
``.arff``              are the classes themselves, words are numbered in sorted order
IDX (MNIST family)     ``*-images-idx3-ubyte`` (or ``.gz``) next to ``*-labels-idx1-ubyte`` (QMNIST:
                       ``idx2-int``), or a folder that holds them (``train`` and ``t10k`` parts are
                       joined); pixel / 255
CIFAR binary           ``*.bin``: records of 1 label byte (CIFAR-100: 2, the fine label counts) and
                       3,072 pixels, or a folder of them; pixel / 255. The "python version" of
                       CIFAR is a pickle and is refused
=====================  ===========================================================================

Every reader says in one line what it read (logger ``simprior``), and refuses what is ambiguous.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simprior.checks import Choice
from simprior.errors import InputError
from simprior.runs.text_files import short, unreadable
from simprior.training.images import classify, read_idx, read_images
from simprior.training.table_files import SUFFIXES, Columns, read_table, table_suffix

__all__ = ["MISSING", "Examples", "is_file", "load_file", "read_data", "read_idx", "unsaid"]

MISSING = ("refuse", "drop")
_CLASSES_SHOWN = 12
_KEPT = 1 << 29  # bytes
_LAST: dict[Any, Examples] = {}


@dataclass(frozen=True, eq=False)
class Examples:
    """What a source of data holds.

    ``X`` (k, d) float64 features; ``y`` (k,) int64 classes; ``names`` the text of class i if the
    classes are words; ``top`` the largest value a feature can take, if it is known (images: 1,
    after division by 255); ``label`` the column of the labels; ``notes`` what was left out.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...] | None = None
    top: float | None = None
    label: str | None = None
    notes: tuple[str, ...] = ()

    def class_name(self, value: int) -> str:
        """A class as text."""
        return str(value) if self.names is None else self.names[value]

    def counts(self) -> dict[int, int]:
        """Examples of each class, in order."""
        values, counts = np.unique(self.y, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    def describe(self) -> dict[str, Any]:
        """Plain values for manifests."""
        counts = self.counts()
        shown = list(counts)[: 4 * _CLASSES_SHOWN]
        out: dict[str, Any] = {
            "examples": len(self.y),
            "features": self.X.shape[1],
            "class_number": len(counts),
            "class_counts": {self.class_name(c): counts[c] for c in shown},
        }
        if self.label is not None:
            out["label"] = self.label
        return out | ({"notes": list(self.notes)} if self.notes else {})

    def line(self) -> str:
        """What was read, for people."""
        counts = self.counts()
        shown = [f"{self._shown(c)} ({counts[c]})" for c in list(counts)[:_CLASSES_SHOWN]]
        if len(counts) > _CLASSES_SHOWN:
            shown.append(f"and {len(counts) - _CLASSES_SHOWN} more")
        label = "" if self.label is None else f"label column {short(self.label)!r}, "
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"{short(self.name)}: {_many(len(self.y), 'example')}, "
            f"{_many(self.X.shape[1], 'feature')}, {label}"
            f"{_many(len(counts), 'class', 'classes')}: {', '.join(shown)}{notes}"
        )

    def _shown(self, value: int) -> str:
        return str(value) if self.names is None else f"{value}={short(self.names[value])}"


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


@contextlib.contextmanager
def unsaid() -> Iterator[None]:
    """Keep what is read inside from being logged: it was logged when it was first read."""
    log = logging.getLogger("simprior")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def is_file(data: str) -> bool:
    """Whether ``data`` names a file or folder rather than a built-in data set."""
    endings = (*SUFFIXES, ".bin", ".gz")
    return "/" in data or data.lower().endswith(endings) or _exists(Path(data))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def load_file(
    path: str | Path, label: str | None = None, missing: str = "refuse"
) -> tuple[np.ndarray, np.ndarray]:
    """(k, d) float64 features and (k,) int64 classes, see :func:`read_data`."""
    found = read_data(path, label, missing)
    return found.X.copy(), found.y.copy()


def read_data(path: str | Path, label: str | None = None, missing: str = "refuse") -> Examples:
    """Examples of a local file or folder, and a line about them in the log.

    Parameters
    ----------
    path : path
        A file of a format above, or a folder of image files.
    label : str, optional
        The column with the labels of a table; of a file without names its number (from 1), or
        ``first`` or ``last``.
    missing : str
        ``refuse`` a table in which a value is missing, or ``drop`` those rows.

    Raises
    ------
    InputError
        The file is missing, damaged, of another format or ambiguous, or has missing values or
        features that are no numbers.
    """
    path = Path(path)
    what = f"data={str(path)!r}"
    Choice(MISSING, "pass missing='drop'")("missing", missing)
    if not _exists(path):
        what = f"data={short(path, 200)!r}"
        raise InputError(what, "an existing file or folder", "check the path")
    try:
        found = _read_again(path, label, missing)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(what, " ".join(str(error).split())) from None
    if found is None:
        expected = ".csv, .tsv, .parquet, .arff, *-images-idx3-ubyte or CIFAR's *.bin"
        remedy = "for CIFAR take the binary version: the python version is a pickle"
        raise InputError(what, expected, remedy)
    if not len(found.y) or not found.X.shape[1]:
        raise unreadable(what, "it has no examples")
    logging.getLogger("simprior").info("%s", found.line())
    return found


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file, or one in a folder, does."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _read_again(path: Path, label: str | None, missing: str) -> Examples | None:
    """As :func:`_read`; what was read last is kept, unless it is large: a sweep has many cells."""
    key = (str(path), label, missing, _state(path))
    if key in _LAST:
        return _LAST[key]
    _LAST.clear()
    found = _read(path, label, missing)
    if found is not None:
        found.X.setflags(write=False)
        found.y.setflags(write=False)
        if found.X.nbytes <= _KEPT:
            _LAST[key] = found
    return found


def _read(path: Path, label: str | None, missing: str) -> Examples | None:
    if path.is_file() and table_suffix(path) is not None:
        return _complete(path, read_table(path, label), missing)
    found = read_images(path, sorted(path.iterdir()) if path.is_dir() else [path])
    if found is None:
        return None
    if label is not None:
        raise InputError(f"label={short(label)!r} of image files", "a table", "leave label out")
    parts, notes = found
    X = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y for _, y in parts])
    return Examples(path.name, X, y, top=1.0, notes=tuple(notes))


def _complete(path: Path, table: Columns, missing: str) -> Examples:
    """The rows of a table without missing values, with classes."""
    what = f"data={str(path)!r}"
    if not len(table.labels):
        raise unreadable(what, "it has no rows")
    endless = np.flatnonzero(np.isinf(table.features).any(axis=0))
    if len(endless):
        name = short(table.names[endless[0]])
        raise unreadable(what, f"column {name!r} has infinite values")
    no_label = np.array([text is None for text in table.labels])
    holes = np.isnan(table.features)
    gone = no_label | holes.any(axis=1)
    if gone.any():
        reason = _what_is_missing(table, no_label, holes)
        if missing != "drop":
            why = f"{reason}, of {_many(len(gone), 'row')}"
            raise unreadable(what, why, "correct them, or pass --missing drop")
        table.notes.append(f"{_many(int(gone.sum()), 'row')} dropped: {reason}")
        if gone.all():
            raise unreadable(what, f"no row without a missing value: {reason}")
    texts = [text for text in table.labels if text is not None]
    kept = [text for text, out in zip(table.labels, gone, strict=True) if not out]
    try:
        classify(texts, table.mixed)
        labels = classify([str(text) for text in kept], table.mixed)
    except ValueError as error:
        why = f"label column {short(table.label)!r}: {error}"
        raise unreadable(what, why, "name another with --label") from None
    return Examples(
        path.name,
        table.features[~gone],
        labels.y,
        labels.names,
        None,
        table.label,
        tuple(table.notes),
    )


def _what_is_missing(table: Columns, no_label: np.ndarray, holes: np.ndarray) -> str:
    parts = []
    if no_label.any():
        marks = ", ".join(repr(short(mark)) for mark in sorted(set(table.marks))[:3])
        where = f"first in row {_first(no_label)}"
        where = f"written {marks}, {where}" if any(table.marks) else where
        parts.append(f"{_many(int(no_label.sum()), 'label')} missing ({where})")
    number = holes.sum(axis=0)
    columns = Counter({short(table.names[i]): int(number[i]) for i in np.flatnonzero(number)})
    if columns:
        rows = np.asarray(holes.any(axis=1))
        most = ", ".join(f"{name!r} {count}" for name, count in columns.most_common(3))
        parts.append(
            f"features missing in {int(rows.sum())} (first in row {_first(rows)}; by column: {most}"
            + (", ...)" if len(columns) > 3 else ")")
        )
    return " and ".join(parts)


def _first(rows: np.ndarray) -> int:
    return int(np.argmax(rows)) + 1
