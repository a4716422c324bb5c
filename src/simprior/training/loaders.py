"""Data sets from local files in the formats of OpenML and torchvision. Nothing is unpickled.

=====================  ===========================================================================
``.arff``, ``.csv``,   OpenML's table formats: one column is the class (``label``; default: the
``.parquet``           last), all others must be numbers; classes are numbered in sorted order
                       unless they are whole numbers already
IDX (MNIST family)     ``*-images-idx3-ubyte`` (or ``.gz``) next to ``*-labels-idx1-ubyte``, or a
                       folder that holds them (``train`` and ``t10k`` parts are joined); pixel / 255
CIFAR binary           ``*.bin``: records of 1 label byte (CIFAR-100: 2, the fine label counts) and
                       3,072 pixels, or a folder of them; pixel / 255. The "python version" of
                       CIFAR is a pickle and is refused
=====================  ===========================================================================
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_PIXELS = 3072
_TABLES = (".arff", ".csv", ".parquet")


def is_file(data: str) -> bool:
    """Whether ``data`` names a file or folder rather than a built-in data set."""
    return Path(data).exists() or "/" in data or Path(data).suffix in (*_TABLES, ".bin", ".gz")


def load_file(path: str | Path, label: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Examples of a local file or folder.

    Returns
    -------
    (k, d) float64 features, (k,) int64 classes.

    Raises
    ------
    InputError
        The file is missing, damaged, of another format, or has missing or non-numeric features.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"data={str(path)!r}", "an existing file or folder", "check the path")
    try:
        if path.suffix.lower() in _TABLES:
            return _table(path, label)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        bins = [f for f in files if f.suffix == ".bin"]
        if bins:
            return _joined([_cifar(f) for f in bins], path)
        images = [f for f in files if "images-idx3" in f.name or "images.idx3" in f.name]
        if images:
            return _joined([_idx_pair(f) for f in images], path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _bad(path, " ".join(str(error).split())) from None
    raise InputError(
        f"data={str(path)!r}", ".arff, .csv, .parquet, *-images-idx3-ubyte or CIFAR's *.bin",
        "for CIFAR take the binary version: the python version is a pickle",
    )  # fmt: skip


def _joined(
    parts: list[tuple[np.ndarray, np.ndarray]], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    if len({x.shape[1] for x, _ in parts}) > 1:
        raise _bad(path, "files of different shapes")
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _bad(path: Path, reason: str) -> InputError:
    return InputError(f"data={str(path)!r}", f"a readable data file ({reason})", "check the file")


def _read(path: Path) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(path) as handle:
            return handle.read()
    return path.read_bytes()


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes (0x08) as an array. Raises :class:`InputError`."""
    data = _read(path)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or not 1 <= data[3] <= 4:
        raise _bad(path, "no IDX header of unsigned bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise _bad(path, "the header is cut off")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise _bad(path, f"{len(data) - start} bytes for shape {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _idx_pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    name = path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
    labels = path.with_name(name)
    if not labels.exists():
        raise _bad(path, f"there is no {name} beside it")
    x, y = read_idx(path), read_idx(labels)
    if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
        raise _bad(path, f"images {x.shape} with labels {y.shape}")
    return x.reshape(len(x), -1) / 255.0, y.astype(np.int64)


def _cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(_read(path), np.uint8)
    # CIFAR-10 has one label byte a record, CIFAR-100 two: a length may be a multiple of both only
    # for 3,074 k records, more than either set has in a file
    for labels in (1, 2):
        if len(data) and len(data) % (_PIXELS + labels) == 0:
            records = data.reshape(-1, _PIXELS + labels)
            return records[:, labels:] / 255.0, records[:, labels - 1].astype(np.int64)
    raise _bad(path, f"{len(data)} bytes, no whole number of CIFAR records")


def _table(path: Path, label: str | None) -> tuple[np.ndarray, np.ndarray]:
    frame = _frame(path)
    if len(frame) == 0 or len(frame.columns) < 2:
        raise _bad(path, "fewer than one row or two columns")
    names = [str(c) for c in frame.columns]
    frame.columns = names
    chosen = names[-1] if label is None else label
    if chosen not in names:
        raise InputError(
            f"label={chosen!r}", f"a column of {path.name}: {', '.join(names[:12])}",
            "check the spelling",
        )  # fmt: skip
    import pandas as pd

    features = frame.drop(columns=chosen).apply(pd.to_numeric, errors="coerce")
    wrong = [name for name in features if not np.isfinite(features[name].to_numpy(float)).all()]
    if wrong:
        raise _bad(path, f"column {wrong[0]!r} has missing values or words")
    return features.to_numpy(np.float64), _classes(frame[chosen].to_numpy())


def _classes(values: np.ndarray) -> np.ndarray:
    """Whole numbers as they are; other classes numbered in sorted order."""
    text = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    try:
        numbers = np.array([float(t) for t in text])
        if (numbers == np.floor(numbers)).all() and (numbers >= 0).all():
            return numbers.astype(np.int64)
    except ValueError:
        pass
    return np.unique(text, return_inverse=True)[1].astype(np.int64)


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            return pd.read_csv(path)
        if kind == ".parquet":
            return pd.read_parquet(path)
        from scipy.io import arff

        return pd.DataFrame(arff.loadarff(path)[0])
    except OSError:
        raise
    except Exception as error:  # every reader has its own classes of errors
        raise _bad(path, " ".join(str(error).split())[:120]) from None
