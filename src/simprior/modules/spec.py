"""``Module``: the spec of a random function made from any torch module.

The spec holds what determines the distribution over functions and nothing else, as
:class:`simprior.network.spec.Network` does. The torch module itself is built when it is first
needed, so that specs can be read from files without running anyone's code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import Choice, Number, Switch, Table, shown, unknown
from simprior.errors import InputError
from simprior.modules.architecture import Last, ParameterTensor
from simprior.network.callables import check_importable, import_callable, name_of
from simprior.network.density import Density, check_density, masked_tensors
from simprior.network.spec import (
    DEFAULT_BITS,
    ENCODINGS,
    MASK_FIELDS,
    WEIGHT_DISTS,
    Network,
    bit_matrix,
    check_bits,
    check_inputs,
)

if TYPE_CHECKING:
    from torch import Tensor

    from simprior.modules.build import Built

SHIPPED = ("mlp", "transformer", "lstm", "cnn", "cnn2d")
"""Architectures that come with simprior (:mod:`simprior.modules.shipped`)."""
INITS = ("simprior", "own")
NORMS = ("none", "layer", "rms")
FLAGGED = ("hidden", "activation", "norm", "residual")
"""Options of the shipped mlp that are flags of their own on the command line."""
_POSITIVE = Number(0, open=True, remedy="pass for example sigma_w=1.0")
_announced: set[str] = set()


class NamedFactory(str):
    """The import path of a factory as a file names it: its code runs when the module is built,
    which is said, and never while the file is only read."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Module:
    """A random function x -> sign(z(x)) whose z is a torch module with random parameters.

    The law of the parameters is that of :class:`simprior.Network`, carried over to every kind of
    layer (:mod:`simprior.modules.laws`), or the module's own.

    Parameters
    ----------
    make : callable or str
        A function that returns a new ``torch.nn.Module``, its import path ``"package.module:name"``
        (the working directory is searched), or one of ``mlp transformer lstm cnn cnn2d``. The
        module maps inputs (m, d), float32 or float64, to (m,) or (m, 1). If the function has an
        argument called ``n``, it gets d.
    n : int
        Number of input bits, 1 to 16. With ``inputs`` it is their number of columns.
    options : mapping, optional
        Further keyword arguments of ``make``.
    sigma_w, sigma_b : float
        Standard deviations (``sigma_w > 0``, ``sigma_b >= 0``), of all layers.
    encoding, weight_dist, inputs
        As those of :class:`simprior.Network`.
    init : str
        ``"simprior"``: the law above. ``"own"``: what ``make`` itself draws; ``sigma_w``,
        ``sigma_b`` and ``weight_dist`` then mean nothing.
    density, rescale
        As those of :class:`simprior.Network`; several densities are those of the tensors of weights
        in the order of :meth:`tensors` (of the shipped mlp: its layers).
    laws : mapping, optional
        Laws of parameters whose layer does not tell it: {name or pattern: ``weight``, ``bias``,
        ``embedding``, ``one``, ``zero`` or ``constant``}.

    Raises
    ------
    InputError
        If a field is out of range. What is wrong with the torch module is said when it is built:
        by :meth:`tensors`, and by whatever samples it.
    """

    make: str | Callable[..., Any]
    n: int = DEFAULT_BITS
    options: Mapping[str, Any] | None = None
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    encoding: str = "01"
    weight_dist: str = "gaussian"
    inputs: np.ndarray | None = None
    init: str = "simprior"
    laws: Mapping[str, str] | None = None
    density: Density = 1.0
    rescale: bool = True

    def __post_init__(self) -> None:
        _check_make(self.make)
        if self.inputs is not None:
            object.__setattr__(self, "inputs", check_inputs(self.inputs))
        object.__setattr__(self, "n", check_bits(self.n, self.inputs))
        for name in ("options", "laws"):
            object.__setattr__(self, name, Table()(name, getattr(self, name) or {}))
        object.__setattr__(self, "sigma_w", float(_POSITIVE("sigma_w", self.sigma_w)))
        low = Number(0, remedy="pass for example sigma_b=1.0")
        object.__setattr__(self, "sigma_b", float(low("sigma_b", self.sigma_b)))
        words = {"encoding": ENCODINGS, "weight_dist": WEIGHT_DISTS, "init": INITS}
        for name, known in words.items():
            Choice(known, remedy=f"pass {name}={known[0]!r}")(name, getattr(self, name))
        layers = len(self.density) if isinstance(self.density, tuple | list) else 1
        object.__setattr__(self, "density", check_density(self.density, layers))
        rescale = Switch()("rescale", self.rescale)
        object.__setattr__(self, "rescale", rescale or not self.masked)
        if self.masked and self.init == "own":
            what, remedy = f"density={shown(self.density)} with init=own", "leave one of them out"
            raise InputError(what, "init=simprior with it", remedy)

    @property
    def m(self) -> int:
        """Number of inputs on which a function is defined (2^n, or the rows of ``inputs``)."""
        return 1 << self.d if self.inputs is None else int(self.inputs.shape[0])

    @property
    def d(self) -> int:
        """Dimension of an input."""
        return self.n

    def input_matrix(self) -> np.ndarray:
        """The (m, d) float64 inputs, a fresh array."""
        if self.inputs is not None:
            return np.array(self.inputs)
        return bit_matrix(self.d, self.encoding)

    @property
    def masked(self) -> bool:
        """Whether some weights are masked: a density below 1."""
        return self.density != 1.0

    @property
    def make_name(self) -> str:
        """What manifests call ``make``: a shipped name or an import path."""
        return str(self.make) if isinstance(self.make, str) else name_of(self.make)

    def factory(self) -> Callable[..., Any]:
        """``make`` as a callable. Raises :class:`InputError` if it cannot be imported."""
        if not isinstance(self.make, str):
            return self.make
        if self.make in SHIPPED:
            return import_callable("make", f"simprior.modules.shipped:{self.make}", "", "")
        if isinstance(self.make, NamedFactory) and self.make not in _announced:
            _announced.add(self.make)
            logging.getLogger("simprior").warning(
                "importing %s, which the run names as the factory of its modules: its code is "
                "executed",
                self.make,
            )
        return _imported(self.make)

    # -- the protocol Architecture ------------------------------------------------------------

    @cached_property
    def built(self) -> Built:
        """The torch module, built once and tested. Raises :class:`InputError`."""
        from simprior.modules.build import build

        options = dict(self.options or {})
        uniform = self.weight_dist == "uniform"
        law = (self.sigma_w, self.sigma_b, self.laws or {}, uniform)
        inputs = self.input_matrix()
        found = build(self.factory(), self.make_name, options, inputs, law, self.init)
        if self.make in SHIPPED:
            _say_idle(str(self.make), found.skeleton, inputs)
        if not self.masked:
            return found
        tensors = masked_tensors(found.tensors, self.density, self.rescale)
        return replace(found, tensors=tensors)

    def tensors(self) -> tuple[ParameterTensor, ...]:
        """The parameters in the order of their layout. Raises :class:`InputError`."""
        return self.built.tensors

    def last(self) -> Last | None:
        """The last linear layer, None if the output is not that of one."""
        return self.built.last

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m) outputs of B networks with stacked ``parameters`` on inputs ``x`` (m, d)."""
        return self.built.apply(parameters, x)

    def features(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m, k): what the last linear layer reads; its own parameters are not used."""
        return self.built.features(parameters, x)

    # -- files ----------------------------------------------------------------------------------

    def check_storable(self) -> None:
        """Raise :class:`InputError` if a run directory could not name what makes the modules."""
        if self.make not in SHIPPED and not isinstance(self.make, NamedFactory):
            check_importable("make", self.make_name, self.make, "mynets:make")
        for name, value in (self.options or {}).items():
            if not _is_plain(value):
                raise InputError(
                    f"options[{name!r}]={shown(value)} with a run directory",
                    "numbers, texts, True, False, or lists of them",
                    "build it from such values inside the factory, or run without out",
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML and JSON, under the names of the command line's flags."""
        options = dict(self.options or {})
        shipped = self.make in SHIPPED
        out: dict[str, Any] = {"architecture" if shipped else "module": self.make_name}
        if shipped:
            out |= {name: options.pop(name) for name in FLAGGED if name in options}
        names = "n sigma_w sigma_b encoding weight_dist init".split()
        names += MASK_FIELDS if self.masked else ()
        out |= {name: getattr(self, name) for name in names}
        out["option"] = {k: v if _is_plain(v) else repr(v) for k, v in options.items()} or None
        out["laws"] = dict(self.laws or {}) or None
        out["inputs"] = None if self.inputs is None else self.inputs.tolist()
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in out.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Module:
        """Inverse of :meth:`to_dict`; unknown keys raise :class:`InputError`.

        The factory is not imported: ``values`` may come from a file. That happens when the module
        is built (:meth:`factory`), and is said.
        """
        values = dict(Table()("modules", values))
        options = dict(Table()("option", values.pop("option", None) or {}))
        options |= {name: values.pop(name) for name in FLAGGED if name in values}
        path = values.pop("module", None)
        make = values.pop("architecture", None) if path is None else NamedFactory(path)
        known = "n sigma_w sigma_b encoding weight_dist init laws inputs density rescale".split()
        if isinstance(values.get("density"), list):
            values["density"] = tuple(values["density"])
        for key, value in values.items():
            if key not in known:
                raise unknown(f"modules.{key}={shown(value)}", key, known, "remove it")
        return cls(make, options=options, **values)  # type: ignore[arg-type]

    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the distribution, the factory by its name."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Module) or self.to_dict() != other.to_dict():
            return False
        strings = isinstance(self.make, str) or isinstance(other.make, str)
        return strings or (self.make is other.make and self.options == other.options)

    def __hash__(self) -> int:
        return hash(self.digest())

    def __getstate__(self) -> dict[str, Any]:
        """Without what was built, which every process makes for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "built"}


def _say_idle(make: str, skeleton: Any, inputs: np.ndarray) -> None:
    """Say once what of a shipped architecture means nothing, or less than one might think, here."""
    said = ""
    if make == "transformer" and len(np.unique(inputs)) > 2:
        said = "transformer: its tokens are x > 0; the inputs have more than two values"
    elif make == "mlp" and skeleton.residual and not any(skeleton.adds):
        said = "mlp: no hidden layer is as wide as the one before it: residual changes nothing"
    if said and said not in _announced:
        _announced.add(said)
        logging.getLogger("simprior").warning("%s", said)


def network_only(model: Network | Module, purpose: str) -> Network:
    """``model``, if it is a network.

    Raises :class:`InputError`, which says what its ``purpose`` was, if it is a module.
    """
    if isinstance(model, Network):
        return model
    what = f"{purpose} of a torch module ({model.make_name})"
    raise InputError(what, "a Network", "describe it by a Network, or leave this out")


def _check_make(make: Any) -> None:
    if isinstance(make, NamedFactory):
        if not all(make.partition(":")[::2]):
            raise InputError(f"make={str(make)!r}", _EXPECTED, "correct the file that names it")
    elif isinstance(make, str):
        if make not in SHIPPED:
            _imported(make)
    elif not callable(make) or (hasattr(make, "named_parameters") and not isinstance(make, type)):
        what = f"make={type(make).__name__}(...)" if callable(make) else f"make={shown(make)}"
        expected = "a function or class that returns a new torch.nn.Module"
        raise InputError(what, expected, "wrap the construction: lambda: MyModel(...)")


_EXPECTED = f"one of {', '.join(SHIPPED)}, or an import path module:function"


def _imported(path: str) -> Callable[..., Any]:
    if ":" not in path:
        raise unknown(f"make={shown(path)}", path, SHIPPED, "or pass an import path mynets:make")
    remedy = "check the spelling; files of the working directory are found"
    return import_callable("make", path, _EXPECTED, remedy)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) and not isinstance(entry, list | tuple) for entry in value)
    return isinstance(value, bool | int | str) or (
        isinstance(value, float) and math.isfinite(value)
    )
