"""Image files in the formats of torchvision's data sets: IDX (MNIST family) and CIFAR's binary.

A folder may hold a file in two forms (``X`` and ``X.gz``, ``t10k-images.idx3-ubyte`` and
``t10k-images-idx3-ubyte``); one of them is read. The "python version" of CIFAR is a pickle and is
refused.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from simprior.delimited import short, unreadable

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
