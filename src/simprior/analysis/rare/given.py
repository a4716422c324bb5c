"""The one network whose outputs are asked about: a trained member, a file, a module, or a draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import shown
from simprior.errors import InputError, NumericalError
from simprior.modules.spec import Module
from simprior.network.callables import array_function, array_slope
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.network.states import FILES
from simprior.training.records import TrainResult

if TYPE_CHECKING:
    from simprior.analysis.flatness.ensemble import AnyPasses
    from simprior.training.targets import Problem

BLOCK = 1 << 14
"""Inputs that are evaluated at a time."""
STREAM = "rare/network"


@dataclass(frozen=True, eq=False)
class Given:
    """One network.

    ``parameters`` (1, p) float64 are in the layout of its passes
    (:mod:`simprior.analysis.flatness`); ``name`` says for messages where it comes from; ``data``
    (m, d) are the inputs that it belongs to.
    """

    network: Network | Module
    parameters: np.ndarray
    name: str
    data: np.ndarray = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without the passes and layers, which every process makes for itself."""
        made = ("passes", "layers", "plain")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    @property
    def d(self) -> int:
        """Entries of an input."""
        return self.network.d

    @cached_property
    def passes(self) -> AnyPasses:
        """Forward and backward passes of the architecture."""
        from simprior.analysis.flatness.ensemble import passes_of

        return passes_of(self.network)

    def digest(self) -> str:
        """SHA-256 (hex) of the architecture and the parameters."""
        found = hashlib.sha256(self.network.digest().encode())
        found.update(np.ascontiguousarray(self.parameters).tobytes())
        return found.hexdigest()

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """(N,) float64 outputs z. Raises :class:`NumericalError` unless they are finite."""
        starts = range(0, len(inputs), BLOCK)
        z = np.concatenate([self._evaluated(inputs[start : start + BLOCK]) for start in starts])
        if not np.isfinite(z).all():
            raise NumericalError(f"{self.name}: an output that is not finite")
        return z

    def _evaluated(self, inputs: np.ndarray) -> np.ndarray:
        """(N,) outputs: small networks by numpy, whose calls cost less than those of torch."""
        if isinstance(self.network, Network):
            return self.layers.outputs(inputs)
        import torch

        x = torch.from_numpy(np.ascontiguousarray(inputs))
        found = self.passes.outputs(torch.from_numpy(self.parameters), x)[0]
        return np.asarray(found.detach().numpy())

    def slopes(self, inputs: np.ndarray) -> np.ndarray:
        """(N, d) gradients of the output in the inputs.

        Raises :class:`InputError` where there are none: of tokens, of steps.
        """
        import torch

        P, x = torch.from_numpy(self.parameters), torch.from_numpy(inputs[None])
        return np.asarray(self.passes.input_slopes(P, x)[0].detach().numpy())

    def has_slopes(self) -> bool:
        """Whether :meth:`slopes` gives any."""
        try:
            found = self.slopes(np.ascontiguousarray(self.data[:4], dtype=np.float64))
        except InputError:
            return False
        return bool(np.isfinite(found).all())

    @cached_property
    def plain(self) -> Network | None:
        """The fully connected network that this is, if it is one (or a plain ``mlp``)."""
        if isinstance(self.network, Network):
            return self.network
        options = dict(self.network.options or {})
        if self.network.make != "mlp" or options.get("norm", "none") != "none":
            return None
        if options.get("residual"):
            return None
        from simprior.modules.shipped import widths_of

        widths = widths_of("hidden", options.get("hidden", (40, 40)))
        activation = options.get("activation", "relu")
        return Network(n=self.d, inputs=self.data, hidden=tuple(widths), activation=activation)

    @cached_property
    def layers(self) -> Layers:
        """Weights, biases and activation of a fully connected network.

        Raises :class:`InputError` for any other module.
        """
        if isinstance(self.network, Network):
            found = Parameters.from_flat(self.parameters[0], self.network)
            return Layers(found.weights, found.biases, self.network)
        import torch

        if self.plain is None:
            what = f"layers of {self.name}, a torch module"
            raise InputError(what, "a fully connected network", "leave gaussian and qld out")
        pairs = self.passes.layers(torch.from_numpy(self.parameters))
        assert pairs is not None
        weights = tuple(np.asarray(w[0].numpy()) for w, _ in pairs)
        biases = tuple(np.asarray(b[0, 0].numpy()) for _, b in pairs)
        return Layers(weights, biases, self.plain)


@dataclass(frozen=True, eq=False)
class Layers:
    """A fully connected network: ``weights[l]`` (fan_in, width), ``biases[l]`` (width,), float64;
    ``network`` has its activation."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    network: Network

    def fields(self, inputs: np.ndarray) -> np.ndarray:
        """(N, width) fields of the last hidden layer, before its activation."""
        act, h = array_function(self.network), inputs
        for number, (w, b) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            h = (act(h) if number else h) @ w + b
        return np.asarray(h)

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """(N,) outputs."""
        if len(self.weights) == 1:
            return np.asarray(inputs @ self.weights[0][:, 0] + self.biases[0][0])
        return self.of_fields(self.fields(inputs))

    def of_fields(self, fields: np.ndarray) -> np.ndarray:
        """(...) outputs from the fields (..., width) of the last hidden layer."""
        act = array_function(self.network)
        return np.asarray(act(fields) @ self.weights[-1][:, 0] + self.biases[-1][0])

    def slopes_of_fields(self, fields: np.ndarray) -> np.ndarray:
        """(..., width) gradients of :meth:`of_fields`. Raises :class:`InputError` without any."""
        return np.asarray(array_slope(self.network, "qld")(fields) * self.weights[-1][:, 0])


def find_given(
    given: Any,
    network: Network | Module | None = None,
    member: int | None = None,
    seed: int = 0,
    *,
    data: str | None = None,
    label: str | None = None,
) -> Given:
    """The network that ``given`` means.

    Parameters
    ----------
    given
        A run of ``simprior train`` (its directory or result); a file of networks, a torch module, a
        state dict or parameters, which ``network`` says how to read; or a :class:`Network` or
        :class:`Module`, of which a random network is drawn.
    network
        Architecture of a file, module or state.
    member
        Which network: of a run (default: the first that fitted), a file, or a law (default: 0).
    seed
        Of random networks.
    data, label
        The data file of a run on one.

    Raises
    ------
    InputError, StoreError, NumericalError
        No such network, or networks of another architecture.
    """
    if isinstance(given, Network | Module):
        if network is not None:
            what = f"a {type(given).__name__} and network="
            raise InputError(what, "one of the two", "leave network out: it is for files")
        return _drawn(given, 0 if member is None else member, seed)
    if _is_run(given):
        if network is not None:
            what = f"network= with the run {shown(given)}"
            raise InputError(what, "the network of the run", "leave network out")
        return _trained(given, member, data, label)
    if network is None:
        what, remedy = f"given={shown(given)}", "pass network=sp.Network(...) or sp.Module(make)"
        raise InputError(what, "the architecture of a network from elsewhere", remedy)
    if not isinstance(network, Network | Module):
        what = f"network={shown(network)}"
        raise InputError(what, "an sp.Network or an sp.Module", "build one first")
    return _from_elsewhere(given, network, 0 if member is None else member)


def _is_run(given: Any) -> bool:
    if isinstance(given, str | Path):
        return Path(given).suffix not in FILES
    return isinstance(given, TrainResult)


def _trained(given: Any, member: int | None, data: str | None, label: str | None) -> Given:
    from simprior.analysis.flatness.ensemble import passes_of
    from simprior.analysis.measure.sources import rebuilt
    from simprior.training.replay import load_result, retrain

    result = load_result(given)
    if member is None:
        fitted = np.flatnonzero(result.fitted)
        if not len(fitted):
            what = f"a run with 0 fitted of {result.runs} members"
            raise InputError(what, "a member that fitted", "name one: --member 0")
        member = int(fitted[0])
    problem: Problem = rebuilt(result, data, label)
    spec, problem, found = retrain(result, np.array([member]), problem=problem)
    rows = _as_tensor(found.parameters)
    P = np.asarray(passes_of(spec.network).arranged(rows).numpy())
    return Given(spec.network, P, f"member {member}", problem.inputs)


def _as_tensor(parameters: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.asarray(parameters, np.float64))


def _from_elsewhere(given: Any, network: Network | Module, member: int) -> Given:
    if isinstance(network, Network):
        from simprior.network.states import flat_parameters

        flat = flat_parameters(given, network, "given")
    else:
        from simprior.modules.states import module_parameters

        flat = module_parameters(given, network, "given")
    if member >= len(flat):
        what = f"member={member} of {len(flat)} networks"
        raise InputError(what, f"0 to {len(flat) - 1}", "pass for example --member 0")
    name = Path(given).name if isinstance(given, str | Path) else "the network given"
    return Given(network, flat[member : member + 1], name, network.input_matrix())


def _drawn(network: Network | Module, member: int, seed: int) -> Given:
    name = f"random network {member}"
    if isinstance(network, Network):
        from simprior.boolean.sampling.torch_engine import draw_parameters

        flat = draw_parameters(network, seed, member).flat().astype(np.float64)[None]
        return Given(network, flat, name, network.input_matrix())
    from simprior.modules.build import evaluation
    from simprior.modules.draws import Draws
    from simprior.modules.flat import Layout

    with evaluation():
        found = Draws(network.built, 1, seed, "cpu", "float32", STREAM).network(member)
    flat = Layout(network.tensors(), transposed=True).flat(found).double().numpy()
    return Given(network, np.asarray(flat), name, network.input_matrix())
