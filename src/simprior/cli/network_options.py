"""Options that describe a network and its training, made from the settings of a training run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.common import Output
from simprior.cli.values import SETTINGS, choice
from simprior.delimited import read_matrix
from simprior.errors import InputError
from simprior.training.settings import TRAINING, TrainSettings, declared

if TYPE_CHECKING:
    import numpy as np

    from simprior.network import Network


_LAW = "hidden activation sigma_w sigma_b encoding"
BITS = TrainSettings.n


def flags(names: Iterable[str]) -> Any:
    """A base class of options: the flags of some settings, by their names."""
    known = declared()
    found = []
    for name in names:
        kind, default = known[name].kind, getattr(TrainSettings, name)
        hint = Annotated[str, choice(*kind)] if isinstance(kind, tuple) else SETTINGS[kind]
        found.append((name, Annotated[hint, arg(help=known[name].help)], field(default=default)))
    return make_dataclass("Flags", found, bases=(Output,), frozen=True, kw_only=True)


TrainingOptions: Any = flags([name for name in TRAINING if name != "seed"])
"""Everything that determines a training run, but for its network and its seed."""
DataSource: Any = flags("data classes label missing corrupt scale".split())
"""Where real data come from and how they are read."""
_Architecture: Any = flags(["n", *_LAW.split(), "inputs"])
_Law: Any = flags(["weight_dist"])


@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions(_Architecture):
    """Architecture, variances and inputs."""

    def build_network(self, inputs: np.ndarray | None = None) -> Network:
        """The network, on ``inputs`` if given. Raises :class:`InputError`."""
        from simprior.network import Network

        if inputs is None and self.inputs is not None:
            inputs = load_inputs(self.inputs)
        law = self.chosen(_LAW)
        if hasattr(self, "weight_dist"):
            law["weight_dist"] = self.weight_dist
        if inputs is None or self.n != BITS:
            law["n"] = self.n
        return Network(inputs=inputs, **law)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(_Law, ArchitectureOptions):
    """The same with the law of the parameters."""


def load_inputs(text: str) -> np.ndarray:
    """An (m, d) matrix from a ``.npy`` or ``.csv`` file, or written out as ``[[0, 1], [1, 0]]``."""
    import numpy as np

    path, expected = Path(text), "a .npy or .csv file with one input a row"
    try:
        if text.lstrip().startswith("["):
            return np.asarray(json.loads(text), dtype=np.float64)
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        if path.suffix == ".csv":
            return np.array(read_matrix(path), dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, UserWarning, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"inputs={text}", expected, f"it cannot be read ({reason})") from None
    raise InputError(f"inputs={text}", expected, "save it in one of these two forms")
