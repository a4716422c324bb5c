"""Options that describe a network and its inputs, for the commands that take one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from simprior.cli.common import Output
from simprior.cli.values import Integer, MaybeText, Numbers, Widths, choice
from simprior.delimited import read_matrix
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from simprior.network import Network


BITS = 7


@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions(Output):
    """Architecture, variances and inputs."""

    n: Annotated[Integer, arg(help="input bits, 1 to 16")] = BITS
    hidden: Annotated[Widths, arg(help='widths of the hidden layers; "" is a perceptron')] = (
        40,
        40,
    )
    activation: Annotated[
        str, arg(help="relu, tanh, erf, gelu, sin, linear, step, or package.module:function")
    ] = "relu"
    sigma_w: Annotated[
        Numbers, arg(help="standard deviation of weights times sqrt(fan-in), one or one a layer")
    ] = 1.0
    sigma_b: Annotated[Numbers, arg(help="standard deviation of biases, one or one a layer")] = 1.0
    encoding: Annotated[str, choice("01", "pm1"), arg(help="bits as 0 and 1, or as -1 and 1")] = (
        "01"
    )
    inputs: Annotated[
        MaybeText, arg(help="explicit inputs in place of all bit strings: .npy or .csv, one a row")
    ] = None

    def build_network(self, inputs: np.ndarray | None = None) -> Network:
        """The network, on ``inputs`` if given. Raises :class:`InputError`."""
        from simprior.network import Network

        if inputs is None and self.inputs is not None:
            inputs = load_inputs(self.inputs)
        law = self.chosen("hidden activation sigma_w sigma_b encoding")
        if hasattr(self, "weight_dist"):
            law["weight_dist"] = self.weight_dist
        if inputs is None or self.n != BITS:
            law["n"] = self.n
        return Network(inputs=inputs, **law)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(ArchitectureOptions):
    """The same with the law of the parameters."""

    weight_dist: Annotated[
        str, choice("gaussian", "uniform"), arg(help="law of weights and biases (same variance)")
    ] = "gaussian"


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
