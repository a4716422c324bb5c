"""Frozen specification of a random fully connected network (``docs/notation.md``).

The spec says what determines the distribution over functions and nothing else; options of a run
(samples, seed, workers, device) are kept apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import Choice, Integer, Switch, Table, finite, real_array, shown
from simprior.errors import InputError, check_fits
from simprior.network.activations import ACTIVATIONS
from simprior.network.architecture import Last, ParameterTensor
from simprior.network.callables import (
    check_importable,
    import_activation,
    name_of,
    tensor_function,
)
from simprior.network.density import Density, check_density, refuse_density, refuse_dropout

if TYPE_CHECKING:
    from torch import Tensor

ENCODINGS = ("01", "pm1")
WEIGHT_DISTS = ("gaussian", "uniform")
MASK_FIELDS = ("density", "rescale")
MAX_BITS = 16
MAX_WIDTH = 2**40  # of a layer; what fits in memory is checked where networks are drawn


class _Assumed(int):
    """A number of bits that nobody gave: the default, or the columns of ``inputs``."""

    __slots__ = ()


DEFAULT_BITS = _Assumed(7)

Activation = str | Callable[[Any], Any]
_announced: set[str] = set()


class NamedActivation(str):
    """The import path of an activation as a file names it: its code runs when a network is
    evaluated, which is said, and never while the file is only read."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Network:
    """A random network x -> sign(z(x)): its architecture and its law of parameters.

    Weights are ``w ~ N(0, sigma_w^2 / fan_in)`` and biases ``b ~ N(0, sigma_b^2)`` in every layer,
    the output layer included; ``sigma_w`` and ``sigma_b`` are standard deviations, one for all
    layers or one a layer (``len(hidden) + 1`` of them). ``weight_dist="uniform"`` draws both from
    the uniform law with the same variance. The output is 1 iff z(x) > 0.

    Parameters
    ----------
    n : int
        Number of input bits, 1 to 16; the inputs are all 2^n bit strings, row i the binary form
        of i, most significant bit first. With ``inputs`` it is d; another number is refused.
    hidden : tuple of int
        Widths of the hidden layers; ``()`` is a perceptron.
    activation : str or callable
        One of ``relu tanh erf gelu sin linear step``, an import path ``"package.module:name"``, or
        any elementwise callable on torch tensors or numpy arrays.
    sigma_w, sigma_b : float or tuple of float
        Standard deviations (``sigma_w > 0``, ``sigma_b >= 0``).
    encoding : str
        ``"01"``: bits are 0 and 1. ``"pm1"``: -1 and +1.
    weight_dist : str
        ``"gaussian"`` or ``"uniform"``.
    inputs : (m, d) array or None
        Explicit inputs in place of the bit strings.
    density : float or tuple of float
        Probability that a weight is kept, one for all layers or one a layer: each network has a
        random mask, whose other weights are exactly 0. Biases have none.
    rescale : bool
        Whether the weights kept are multiplied by 1/sqrt(density), so that variances stay as they
        were. Without effect, and always True, where the density is 1.
    dropout
        Refused: f would not be a function of the parameters.

    Raises
    ------
    InputError
        If a field is out of range; the message names the field, its value and the remedy.
    """

    n: int = DEFAULT_BITS
    hidden: tuple[int, ...] = (40, 40)
    activation: Activation = "relu"
    sigma_w: float | tuple[float, ...] = 1.0
    sigma_b: float | tuple[float, ...] = 1.0
    encoding: str = "01"
    weight_dist: str = "gaussian"
    inputs: np.ndarray | None = None
    density: Density = 1.0
    rescale: bool = True
    dropout: InitVar[float] = 0.0

    def __post_init__(self, dropout: float) -> None:
        refuse_dropout(dropout)
        if self.inputs is not None:
            object.__setattr__(self, "inputs", check_inputs(self.inputs))
        object.__setattr__(self, "n", check_bits(self.n, self.inputs))
        object.__setattr__(self, "hidden", _check_hidden(self.hidden))
        _check_activation(self.activation)
        for name in ("sigma_w", "sigma_b"):
            value = _check_sigma(name, getattr(self, name), len(self.hidden) + 1)
            object.__setattr__(self, name, value)
        for name, known in (("encoding", ENCODINGS), ("weight_dist", WEIGHT_DISTS)):
            Choice(known, remedy=f"pass {name}={known[0]!r}")(name, getattr(self, name))
        object.__setattr__(self, "density", check_density(self.density, len(self.hidden) + 1))
        rescale = Switch()("rescale", self.rescale)
        object.__setattr__(self, "rescale", rescale or not self.masked)

    @property
    def m(self) -> int:
        """Number of inputs on which a function is defined (2^n, or the rows of ``inputs``)."""
        return 1 << self.n if self.inputs is None else int(self.inputs.shape[0])

    @property
    def d(self) -> int:
        """Input dimension (fan-in of the first layer)."""
        return self.n

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.hidden)

    @property
    def fan_ins(self) -> tuple[int, ...]:
        """Fan-in of each of the ``depth + 1`` affine layers."""
        return (self.d, *self.hidden)

    @property
    def sigma_ws(self) -> tuple[float, ...]:
        """sigma_w of each of the ``depth + 1`` affine layers."""
        return _per_layer(self.sigma_w, self.depth + 1)

    @property
    def sigma_bs(self) -> tuple[float, ...]:
        """sigma_b of each of the ``depth + 1`` affine layers."""
        return _per_layer(self.sigma_b, self.depth + 1)

    @property
    def masked(self) -> bool:
        """Whether some weights are masked: a density below 1."""
        return self.density != 1.0

    @property
    def densities(self) -> tuple[float, ...]:
        """Density of each of the ``depth + 1`` affine layers."""
        return _per_layer(self.density, self.depth + 1)

    @property
    def weight_scales(self) -> tuple[float, ...]:
        """Standard deviation of a weight that is kept, of each of the ``depth + 1`` layers."""
        shares = self.densities if self.rescale else (1.0,) * (self.depth + 1)
        parts = zip(self.sigma_ws, self.fan_ins, shares, strict=True)
        return tuple(s / math.sqrt(fan_in) / math.sqrt(share) for s, fan_in, share in parts)

    @property
    def wide_sigma_ws(self) -> tuple[float, ...]:
        """sigma_w of each layer of dense networks with the same variances: sigma_w, times
        sqrt(density) where the weights kept are not rescaled."""
        if self.rescale:
            return self.sigma_ws
        pairs = zip(self.sigma_ws, self.densities, strict=True)
        return tuple(s * math.sqrt(share) for s, share in pairs)

    # -- the protocol Architecture (simprior.modules.architecture) ------------------------------

    def input_matrix(self) -> np.ndarray:
        """The (m, d) float64 inputs, a fresh array."""
        if self.inputs is not None:
            return np.array(self.inputs, dtype=np.float64)
        return bit_matrix(self.n, self.encoding)

    def tensors(self) -> tuple[ParameterTensor, ...]:
        """The parameters layer by layer: ``l.weight`` (width, fan_in), ``l.bias`` (width,).

        Raises :class:`InputError` for masked weights, whose law is none of entries alone.
        """
        refuse_density(self, "parameters that are drawn tensor by tensor")
        uniform, found = self.weight_dist == "uniform", []
        laws = zip(self.weight_scales, self.sigma_bs, strict=True)
        widths = (*self.hidden, 1)
        for layer, (scale, sigma_b) in enumerate(laws):
            shape = (widths[layer], self.fan_ins[layer])
            w = ParameterTensor(f"{layer}.weight", shape, "weight", 0.0, scale, uniform)
            b = ParameterTensor(f"{layer}.bias", shape[:1], "bias", 0.0, sigma_b, uniform)
            found += [w, b]
        return tuple(found)

    def last(self) -> Last:
        """The output layer."""
        return Last(f"{self.depth}.weight", f"{self.depth}.bias", self.fan_ins[-1])

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m) outputs of B networks with stacked ``parameters`` on inputs ``x`` (m, d)."""
        h = self.features(parameters, x)
        return _layer(parameters, self.depth, h)[..., 0]

    def features(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m, k): what the output layer reads; its own parameters are not used."""
        act, count = tensor_function(self), len(next(iter(parameters.values())))
        h = x.expand(count, *x.shape)
        for layer in range(self.depth):
            h = act(_layer(parameters, layer, h))
        return h

    @property
    def activation_name(self) -> str:
        """Name for manifests: the string itself, or ``module:qualname`` of a callable."""
        if isinstance(self.activation, str):
            return self.activation
        return name_of(self.activation)

    def activation_callable(self) -> Callable[[Any], Any] | None:
        """The user's callable, or None when the activation is one of the built-in names."""
        if not isinstance(self.activation, str):
            return self.activation
        if self.activation in ACTIVATIONS:
            return None
        if isinstance(self.activation, NamedActivation) and self.activation not in _announced:
            _announced.add(self.activation)
            module = self.activation.partition(":")[0]
            logging.getLogger("simprior").warning(
                "importing the module %s, which the run names as its activation (%s): "
                "its code is executed",
                module,
                self.activation,
            )
        return import_activation(self.activation)

    def check_storable(self) -> None:
        """Raise :class:`InputError` if a run directory could not name this activation, so that the
        run could not be continued or evaluated: lambdas, local functions, those of a script."""
        name = self.activation_name
        if name in ACTIVATIONS or isinstance(self.activation, NamedActivation):
            return
        check_importable("activation", name, self.activation, "myact:swish")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML/JSON; explicit inputs become nested lists.

        Without masks there is no ``density`` and no ``rescale`` (nor had specs written before).
        """
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        out["hidden"] = list(self.hidden)
        out["activation"] = self.activation_name
        for name in ("sigma_w", "sigma_b", "density"):
            out[name] = list(out[name]) if isinstance(out[name], tuple) else out[name]
        for name in MASK_FIELDS if not self.masked else ():
            del out[name]
        out["inputs"] = None if self.inputs is None else self.inputs.tolist()
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """Inverse of :meth:`to_dict`; unknown keys raise :class:`InputError`.

        The activation is not imported: ``values`` may come from a file. That happens when the
        network is evaluated (:meth:`activation_callable`), and is said.
        """
        known = {f.name for f in fields(cls)}
        values = Table()("network", values)
        refuse_dropout(values.get("dropout", 0))
        for key in values:
            if key not in known:
                raise InputError(
                    f"network.{key}={shown(values[key])}", f"one of {sorted(known)}", "remove it"
                )
        given = values.get("activation", "relu")
        if isinstance(given, str) and given not in ACTIVATIONS:
            values = {**values, "activation": NamedActivation(given)}
        return cls(**values)

    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the distribution."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.n, self.hidden, self.m))  # equal networks have these in common


def _layer(parameters: Mapping[str, Tensor], number: int, h: Tensor) -> Tensor:
    """(B, m, width) pre-activations of a layer of B networks."""
    weight, bias = parameters[f"{number}.weight"], parameters[f"{number}.bias"]
    return h @ weight.transpose(1, 2) + bias[:, None, :]


def bit_matrix(n: int, encoding: str = "01") -> np.ndarray:
    """All bit strings of length ``n``: row i is the binary form of i, most significant bit first.

    Parameters
    ----------
    n : int
        Number of bits, 1 to 16.
    encoding : str
        ``"01"`` gives entries 0 and 1; ``"pm1"`` maps 0 to -1.

    Returns
    -------
    (2^n, n) float64 array; column 0 is x1.

    Raises
    ------
    InputError
        If ``n`` or ``encoding`` is out of range.
    """
    n = Integer(1, MAX_BITS, "pass for example n=7")("n", n)
    Choice(ENCODINGS, "pass encoding='01'")("encoding", encoding)
    index = np.arange(1 << n)[:, None]
    bits = ((index >> np.arange(n - 1, -1, -1)) & 1).astype(np.float64)
    return bits if encoding == "01" else 2.0 * bits - 1.0


def check_size(network: Network, copies: int = 1) -> None:
    """Refuse widths whose weights (one layer at a time) and units do not fit in memory, float32.

    Raises :class:`simprior.errors.MemoryShortage`.
    """
    widths = zip(network.fan_ins, (*network.hidden, 1), strict=True)
    need = max(4.0 * width * (fan_in + network.m) for fan_in, width in widths)
    what = f"hidden={shown(network.hidden)} on {network.m} inputs"
    check_fits(what, copies * need, "pass smaller --hidden")


def check_bits(n: int, inputs: np.ndarray | None) -> int:
    """n, or d of (m, d) inputs; :class:`InputError` if that is out of range, or another number of
    bits was given (``DEFAULT_BITS`` was not)."""
    if inputs is None:
        bits = Integer(1, MAX_BITS, remedy="pass for example n=7")("n", n)
        return n if type(n) is _Assumed else bits
    columns = inputs.shape[1]
    if type(n) is _Assumed or (isinstance(n, int | np.integer) and n == columns):
        return _Assumed(columns)
    raise InputError(
        f"n={shown(n)} with inputs of shape {inputs.shape}",
        f"n={columns}, the number of columns",
        "leave n out where inputs are given",
    )


def input_rows(name: str, value: Any) -> np.ndarray:
    """``value`` as a finite (m, d) float64 matrix of inputs, else :class:`InputError`."""
    array = real_array(name, value)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise InputError(
            f"{name} of shape {array.shape}",
            "a finite (m, d) matrix with m, d >= 1",
            "one row an input, one column a coordinate",
        )
    return array


def check_inputs(inputs: Any) -> np.ndarray:
    """``inputs`` as a read-only (m, d) float64 matrix; :class:`InputError` if they are none."""
    array = input_rows("inputs", inputs)
    array.setflags(write=False)
    return array


def _check_hidden(hidden: Any) -> tuple[int, ...]:
    widths = (
        tuple(hidden)
        if isinstance(hidden, Sequence | np.ndarray) and not isinstance(hidden, str)
        else (hidden,)
    )
    for w in widths:
        if isinstance(w, bool) or not isinstance(w, int | np.integer) or not 1 <= w <= MAX_WIDTH:
            raise InputError(
                f"hidden={shown(hidden)}",
                "positive integers, one a hidden layer",
                "pass for example hidden=(40, 40), or () for a perceptron",
            )
    return tuple(int(w) for w in widths)


def _check_activation(activation: Any) -> None:
    if isinstance(activation, NamedActivation):
        module, _, name = activation.partition(":")
        if not module or not name:
            raise InputError(
                f"activation={str(activation)!r}",
                f"one of {', '.join(ACTIVATIONS)} or an import path module:function",
                "correct the file that names it",
            )
    elif isinstance(activation, str):
        if activation not in ACTIVATIONS:
            import_activation(activation)
    elif not callable(activation):
        raise InputError(
            f"activation={shown(activation)}",
            f"one of {', '.join(ACTIVATIONS)} or a callable",
            "pass a name or an elementwise function",
        )


def _check_sigma(name: str, value: Any, layers: int) -> float | tuple[float, ...]:
    values = (
        tuple(value)
        if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        else (value,)
    )
    low = "> 0" if name == "sigma_w" else ">= 0"
    if len(values) not in (1, layers):
        raise InputError(
            f"{name}={shown(value)}",
            f"one number or {layers} (one a layer, the output layer included)",
            "give a single standard deviation or one for each layer",
        )
    for v in values:
        bad = isinstance(v, bool) or not isinstance(v, int | float | np.floating | np.integer)
        if bad or not finite(v) or v < 0 or (name == "sigma_w" and v == 0):
            raise InputError(
                f"{name}={shown(v)}",
                f"a finite standard deviation {low}",
                f"pass for example {name}=1.0",
            )
    return float(values[0]) if len(values) == 1 else tuple(float(v) for v in values)


def _per_layer(value: float | tuple[float, ...], layers: int) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * layers
