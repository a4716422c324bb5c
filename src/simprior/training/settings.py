"""Settings of one training run by name, as a TOML file or a cell of a grid gives them.

The names are those of the flags of ``simprior train`` (``-`` or ``_``); a value may be of its own
type or the text that the flag takes (``"40,40"``, ``"1e5"``). What is left out has the default of
the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simprior.checks import unknown
from simprior.delimited import read_matrix
from simprior.errors import InputError
from simprior.network import Network
from simprior.rng import derive
from simprior.store_io import sha256_file
from simprior.store_manifest import MANIFEST

LOG_STEPS = (0, *(1 << k for k in range(24)))
"""The steps that ``record = "log"`` means: 0 and the powers of 2."""
_FILES = ("data", "inputs", "prior_from")


@dataclass(frozen=True)
class Settings:
    """One training run: its network, its target, and the other keywords of ``training.train``."""

    network: Network
    target: Any
    keywords: dict[str, Any]

    @property
    def runs(self) -> int:
        """Members of the ensemble."""
        return int(self.keywords["runs"])


def text(value: Any) -> str:
    """A value as a flag would take it: ``40,40``, ``true``, ``none``, ``beta1=0.9,eps=1e-08``."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ",".join(text(entry) for entry in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def settings(cell: Mapping[str, Any], seed: int = 0) -> Settings:
    """The training run that ``cell`` describes; where it gives no seed, one from ``seed``: the same
    for all runs, or, with a ``data_seed``, for all runs on one data set.

    Raises :class:`InputError` for an unknown name or a value of the wrong form.
    """
    values: dict[str, Any] = {"runs": 1000}
    for key, value in cell.items():
        name = key.replace("-", "_")
        if name not in KINDS:
            flags = [known.replace("_", "-") for known in KINDS]
            flag = name.replace("_", "-")
            raise unknown(f"setting {flag}", flag, flags, "remove it")
        try:
            values[name] = KINDS[name](value)
        except (TypeError, ValueError, OverflowError):
            expected = str(KINDS[name].__doc__)
            raise InputError(f"{name}={text(value)}", expected, "correct the file") from None
    values.setdefault("seed", _own_seed(values, seed))
    network = Network(**{name: values.pop(name) for name in NETWORK if name in values})
    return Settings(network, values.pop("target", None), values)


def _own_seed(values: Mapping[str, Any], seed: int) -> int:
    """Seed of a run that gives none: with a ``data_seed``, one for each data set (data seed and
    target). Data sets are then independent of each other in all, initial weights included, and
    what differs otherwise (optimiser, size, attack points) still starts from equal weights."""
    if values.get("data_seed") is None:
        return seed
    names = ("data_seed", "target", "data", "classes")
    key = "/".join(str(values.get(name)) for name in names)
    return int.from_bytes(derive(seed, f"train/data/{key}")[:7], "little")


def files_read(values: Any) -> dict[str, str]:
    """{path: SHA-256} of every file or run that settings name as ``data``, ``inputs``,
    ``prior_from``, at any depth; of a run directory, the hash of its manifest."""
    found: dict[str, str] = {}
    if isinstance(values, Mapping):
        for key, value in values.items():
            named = value if isinstance(value, list | tuple) else [value]
            for entry in named if str(key).replace("-", "_") in _FILES else ():
                path = Path(str(entry))
                path = path / MANIFEST if (path / MANIFEST).is_file() else path
                if path.is_file():
                    found[str(entry)] = sha256_file(path)[0]
                elif path.is_dir():
                    found |= {f"{entry}/{f.name}": sha256_file(f)[0] for f in _image_files(path)}
            found |= files_read(value)
    elif isinstance(values, list | tuple):
        for value in values:
            found |= files_read(value)
    return found


def _image_files(folder: Path) -> list[Path]:
    """What a folder of images would be read from."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    return [f for f in files if "idx" in f.name or ".bin" in f.suffixes]


def _whole(value: Any) -> int:
    """a whole number such as 100 or 1e5"""
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError
    return value if isinstance(value, int) else int(number)


def _maybe_whole(value: Any) -> int | None:
    """a whole number, or none"""
    return None if _is_none(value) else _whole(value)


def _number(value: Any) -> float:
    """a finite number"""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _maybe_number(value: Any) -> float | None:
    """a number, or none"""
    return None if _is_none(value) else _number(value)


def _word(value: Any) -> str:
    """a text"""
    if not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _maybe_word(value: Any) -> str | None:
    """a text, or none"""
    return None if _is_none(value) else _word(value)


def _widths(value: Any) -> tuple[int, ...]:
    """widths such as [40, 40] or "40,40" """
    return tuple(_whole(part) for part in _parts(value))


def _numbers(value: Any) -> float | tuple[float, ...]:
    """a number, or a list with one number a layer"""
    values = tuple(_number(part) for part in _parts(value))
    return values[0] if len(values) == 1 else values


def _indices(value: Any) -> int | tuple[int, ...]:
    """a size, or a list of indices"""
    return tuple(_whole(v) for v in value) if isinstance(value, list | tuple) else _whole(value)


def _steps(value: Any) -> tuple[int, ...]:
    """steps such as [0, 10, 100], or "log" """
    if isinstance(value, str) and value.strip().lower() == "log":
        return LOG_STEPS
    return tuple(sorted({_whole(part) for part in _parts(value)}))


def _options(value: Any) -> dict[str, Any] | None:
    """a table such as {weight_decay = 0.01}"""
    if _is_none(value):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    pairs = [part.partition("=") for part in _parts(value)]
    if any(not sign for _, sign, _ in pairs):
        raise ValueError
    return {name.strip(): _number(entry) for name, _, entry in pairs}


def _inputs(value: Any) -> Any:
    """a matrix with one input a row, or a .npy or .csv file of one"""
    import numpy as np

    if _is_none(value):
        return None
    if not isinstance(value, str):
        return np.asarray(value, np.float64)
    path = Path(value)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), np.float64)
        return np.array(read_matrix(path), np.float64)
    except (OSError, EOFError) as error:
        raise ValueError from error


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == "none")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        bare = value.strip().strip("()")
        return [] if bare.lower() in {"", "none"} else [part.strip() for part in bare.split(",")]
    return [value]


NETWORK = ("n", "hidden", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist", "inputs")
KINDS: dict[str, Callable[[Any], Any]] = {
    "n": _whole, "hidden": _widths, "activation": _word, "sigma_w": _numbers, "sigma_b": _numbers,
    "encoding": _word, "weight_dist": _word, "inputs": _inputs, "target": _maybe_word,
    "data": _maybe_word, "classes": _maybe_word, "label": _maybe_word, "missing": _word,
    "scale": _maybe_word, "train": _indices,
    "test": _whole, "corrupt": _number, "attack": _whole, "data_seed": _maybe_whole, "runs": _whole,
    "optimizer": _word, "lr": _maybe_number, "options": _options, "loss": _word,
    "batch_size": _whole, "stop": _word, "max_epochs": _whole, "check": _whole,
    "pretrain": _whole, "seed": _whole, "record": _steps, "record_runs": _whole, "engine": _word,
    "members": _whole,
}  # fmt: skip
