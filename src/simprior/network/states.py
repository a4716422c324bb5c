"""Networks from elsewhere: named tensors of modules, state dicts and files, as flat parameters.

A *state* is a mapping from names to tensors, as ``torch.nn.Module.state_dict`` gives it: for each
affine layer ``NAME.weight`` (width, fan_in) and ``NAME.bias`` (width,). Names are free
(``0.weight``, ``fc1.weight``). Layers count in the order of appearance; those of a
``.safetensors`` file, which keeps no order, in that of their names, with numbers as numbers. Where
that order does not fit the network, layers are told apart by their shapes.

A state may hold N networks: every tensor then has a first axis of length N, as
``torch.func.stack_module_state`` makes it.

Weights are taken as they are: scales such as sigma_w / sqrt(fan_in) are part of them. The last
layer has one output. Nothing here runs code of a file: a ``.safetensors`` file is plain numbers,
and torch's own files are read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import shown
from simprior.errors import InputError
from simprior.network.callables import array_function
from simprior.network.density import refuse_density
from simprior.network.parameters import Parameters, shapes_of
from simprior.network.spec import Network

if TYPE_CHECKING:
    from torch.nn import Module

State = Mapping[str, Any]
TORCH_FILES = (".pt", ".pth")
FILES = (".safetensors", *TORCH_FILES)
"""Endings of the files that :func:`read_states` reads."""
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_CLOSE = 1e-3
"""Outputs of a module and of the network with its weights agree within this share of their size."""


def flat_parameters(given: Any, network: Network, what: str = "networks") -> np.ndarray:
    """(N, p) float64 parameters, in the flat layout of ``network``, of the networks ``given``.

    ``given`` is a file, a module, a state, a :class:`Parameters`, or a list of these; ``what`` is
    the name of the argument for messages. Of a module that can be called it is checked that its
    outputs are those of ``network`` with its weights.

    Raises
    ------
    InputError
        A file that is not one of networks, or networks of another architecture: the message names
        the first layer that does not fit, its shape, and the shape expected.
    """
    refuse_density(network, f"{what} from elsewhere, whose masks are not known")
    if isinstance(given, list | tuple):
        if not given:
            raise InputError(f"{what}=[]", "at least one network", "pass a module or a file")
        return np.concatenate(
            [flat_parameters(one, network, f"{what}[{i}]") for i, one in enumerate(given)]
        )
    if isinstance(given, str | Path):
        return np.concatenate([_flat(s, network, where) for where, s in read_states(given)])
    if isinstance(given, Parameters):
        state = {
            f"{i}.{name}": values
            for i, pair in enumerate(zip(given.weights, given.biases, strict=True))
            for name, values in (("weight", pair[0].T), ("bias", pair[1]))
        }
        return _flat(state, network, what)
    if isinstance(given, Mapping):
        return _flat(given, network, what)
    if callable(getattr(given, "state_dict", None)):
        flat = _flat(given.state_dict(), network, what)
        _check_outputs(given, flat, network, what)
        return flat
    raise InputError(
        f"{what}={shown(given)}",
        f"torch modules, their state dicts, or files {', '.join(FILES)}",
        "pass for example networks=[model]",
    )


def read_states(path: Path | str) -> list[tuple[str, State]]:
    """(where it is, state) of the states in a file: one, or those of a list in a file of torch.

    Raises :class:`InputError` for a file that is missing, damaged, or of another kind.
    """
    path = Path(path)
    if path.suffix not in FILES:
        raise InputError(
            f"networks={path}", f"a file {', '.join(FILES)}", "save a state dict with safetensors"
        )
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path)
        return [(path.name, {name: tensors[name] for name in sorted(tensors, key=_natural)})]
    found = _torch_file(path)
    states = found if isinstance(found, list) else [found]
    for state in states:
        if not isinstance(state, Mapping) or not state:
            raise InputError(
                f"{path}, which holds {shown(state)}",
                "the state dict of a network, or a list of them",
                "save model.state_dict()",
            )
    names = [path.name] if states is not found else [f"{path.name}[{i}]" for i in range(len(found))]
    return list(zip(names, states, strict=True))


def _torch_file(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what the file holds
        reason = (" ".join(str(error).split()) or type(error).__name__)[:150]
        raise InputError(
            f"{path}, which cannot be read ({reason})",
            "a state dict of plain tensors",
            "save it with safetensors.torch.save_file(model.state_dict(), FILE)",
        ) from None


def read_safetensors(path: Path | str) -> dict[str, np.ndarray]:
    """The tensors of a ``.safetensors`` file, in float64.

    The format: the length of the header (8 bytes, little-endian), the header (JSON: for each name
    ``dtype``, ``shape``, and ``data_offsets`` from the end of the header), then the numbers, row by
    row and little-endian.

    Raises :class:`InputError` for a file that cannot be read, is not of this format, or has tensors
    that are not of floating point numbers.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"networks={path}", "a readable file", str(error.strerror)) from None
    try:
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > min(_LONGEST_HEADER, len(content) - 8):
            raise ValueError("it is shorter than its header says")
        header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_distinct)
        header.pop("__metadata__", None)
        data = memoryview(content)[8 + length :]
        return {str(name): _tensor(name, entry, data) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(
            f"{path}, which cannot be read ({reason})",
            "a safetensors file of floating point numbers",
            "write it again with safetensors.torch.save_file",
        ) from None


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _tensor(name: str, entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
    """One tensor of a file. Raises :class:`ValueError`."""
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"{name} is of type {dtype}")
    whole = all(isinstance(k, int) and k >= 0 for k in (*shape, begin, end))
    kind = np.dtype(_DTYPES[dtype])
    size = int(np.prod(shape, dtype=object)) * kind.itemsize if whole else -1
    if not whole or end - begin != size or end > len(data):
        raise ValueError(f"{name} of shape {list(shape)} does not fit its place in the file")
    numbers = np.frombuffer(data[begin:end], kind)
    if dtype == "BF16":  # the upper half of a float32
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers.astype(np.float64).reshape(shape)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key of names in which ``10.weight`` comes after ``2.weight``."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]


@dataclass(frozen=True, eq=False)
class _Layer:
    """``weight`` (N, width, fan_in) and ``bias`` (N, width) of a layer of N networks."""

    name: str
    weight: np.ndarray
    bias: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(fan_in, width)."""
        return self.weight.shape[2], self.weight.shape[1]


def _flat(state: State, network: Network, where: str) -> np.ndarray:
    """(N, p) parameters of the networks of a state."""
    layers = _ordered(_layers(state, where), network)
    for number, (layer, shape) in enumerate(zip(layers, shapes_of(network), strict=False), start=1):
        if layer.shape != shape:
            raise InputError(
                f"layer {number} of {where} ({layer.name}.weight) of shape "
                f"{layer.weight.shape[1:]}",
                f"{shape[::-1]}, (width, fan-in) in the network {architecture(network)}",
                "pass networks of this architecture",
            )
    if len(layers) != network.depth + 1:
        raise InputError(
            f"{len(layers)} layers in {where}",
            f"{network.depth + 1}, as in the network {architecture(network)}",
            "pass networks of this architecture",
        )
    counts = {len(layer.weight) for layer in layers}
    if len(counts) > 1:
        raise InputError(
            f"layers of {where} for {' and '.join(map(str, sorted(counts)))} networks",
            "as many in every layer",
            "stack all tensors along a first axis",
        )
    parts = [
        part.reshape(len(part), -1)
        for layer in layers
        for part in (layer.weight.transpose(0, 2, 1), layer.bias)
    ]
    return finite_networks(np.concatenate(parts, axis=1), where)


def finite_networks(flat: np.ndarray, where: str) -> np.ndarray:
    """(N, p) parameters as they are; :class:`InputError` if some are not finite."""
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} networks of {where} with weights that are not finite",
            "finite weights",
            "leave out networks whose training diverged",
        )
    return flat


def architecture(network: Network) -> str:
    """The widths and the activation of a network in short: ``relu 7-40-40-1``."""
    widths = (network.d, *network.hidden, 1)
    return f"{network.activation_name} {'-'.join(map(str, widths))}"


def _layers(state: State, where: str) -> list[_Layer]:
    """The layers of a state in their order. Raises :class:`InputError`."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, value in state.items():
        layer, _, kind = str(name).rpartition(".")
        if kind not in ("weight", "bias"):
            raise InputError(
                f"{name!r} in {where}",
                "names NAME.weight and NAME.bias of affine layers",
                "pass plain networks of Linear layers",
            )
        found.setdefault(layer, {})[kind] = float_array(value, f"{name} of {where}")
    out = []
    for layer, parts in found.items():
        for kind in ("weight", "bias"):
            if kind not in parts:
                raise InputError(
                    f"layer {layer} of {where} without a {kind}",
                    "weight and bias in every layer",
                    "add a bias of zeros: measures count the biases among the parameters",
                )
        weight, bias = parts["weight"], parts["bias"]
        if weight.ndim == 2 and bias.ndim == 1:
            weight, bias = weight[None], bias[None]
        if weight.ndim != 3 or bias.shape != weight.shape[:2]:
            raise InputError(
                f"layer {layer} of {where} with weight {weight.shape} and bias {bias.shape}",
                "(width, fan_in) and (width,), or both with a first axis over networks",
                "pass plain networks of Linear layers",
            )
        out.append(_Layer(layer, weight, bias))
    return out


def _ordered(layers: list[_Layer], network: Network) -> list[_Layer]:
    """The layers as they are; in the order of the network's shapes where those are theirs."""
    left = list(layers)
    out = []
    for shape in shapes_of(network):
        fitting = [layer for layer in left if layer.shape == shape]
        if not fitting:
            return layers
        out.append(fitting[0])
        left.remove(fitting[0])
    return layers if left else out


def float_array(value: Any, what: str) -> np.ndarray:
    """A tensor or an array as float64. Raises :class:`InputError`."""
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        value = value.double().numpy() if value.dtype.is_floating_point else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "f" or not array.size:
        raise InputError(
            f"{what}: {shown(array)}", "floating point numbers", "pass trained weights"
        )
    return array.astype(np.float64)


def _check_outputs(module: Module, flat: np.ndarray, network: Network, what: str) -> None:
    """Raise :class:`InputError` if a module computes something else than ``network`` would with
    its weights: another activation, a scale of its own. A module without ``forward`` is passed.
    """
    import torch

    points = np.cos(np.outer(np.arange(1, 9), np.arange(1, network.d + 1)))
    sample = next(module.parameters())
    x = torch.from_numpy(points).to(sample.device, sample.dtype)
    before = module.training
    module.eval()
    try:
        with torch.no_grad():
            found = module(x).double().cpu().numpy().reshape(-1)
    except NotImplementedError:
        return
    except Exception as error:  # whatever the user's code raises
        reason = (" ".join(str(error).split()) or type(error).__name__)[:150]
        expected = f"a module that takes (k, {network.d}) inputs"
        raise InputError(
            f"{what}, which fails ({reason})", expected, "pass its state dict"
        ) from None
    finally:
        module.train(before)
    wanted = _outputs(flat, network, points)
    if found.shape != wanted.shape or not np.allclose(found, wanted, _CLOSE, _CLOSE):
        raise InputError(
            f"{what}, whose outputs ({_first(found)}) are not those of its weights in the network "
            f"{architecture(network)} ({_first(wanted)})",
            "a module with this activation and without scales of its own",
            "pass the network that was trained",
        )


def _first(outputs: np.ndarray) -> str:
    return ", ".join(f"{z:.4g}" for z in outputs[:3])


def _outputs(flat: np.ndarray, network: Network, points: np.ndarray) -> np.ndarray:
    """(k,) outputs of one network on the inputs (k, d)."""
    parameters = Parameters.from_flat(flat[0], network)
    activation, h = array_function(network), points
    for number, pair in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
        h = (h if number == 0 else activation(h)) @ pair[0] + pair[1]
    return h[:, 0]
