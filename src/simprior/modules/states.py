"""Torch modules from elsewhere: modules, state dicts and files, as flat parameters.

Names of tensors are those of the module that the factory makes. Buffers that the state has too are
no parameters, and are the factory's. As in :mod:`simprior.network.states` a state may hold N
networks, each tensor with a first axis of length N, and nothing here runs code of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simprior.checks import shown, unknown
from simprior.errors import InputError
from simprior.modules.build import evaluation, users_code
from simprior.modules.flat import Layout
from simprior.modules.spec import Module
from simprior.network.states import FILES, finite_networks, float_array, read_states

_CLOSE = 1e-3
"""Outputs of a module and of the factory's with its weights agree within this share of their
size."""


def module_parameters(given: Any, module: Module, what: str = "networks") -> np.ndarray:
    """(N, p) float64 parameters, in the transposed layout (:class:`simprior.modules.flat.Layout`),
    of the networks ``given``: a file, a module, a state dict, or a list of these.

    Raises
    ------
    InputError
        A file that is not one of networks, tensors that are missing, of another shape or name, or a
        module that computes something else with its weights than the factory's.
    """
    if isinstance(given, list | tuple):
        if not given:
            raise InputError(f"{what}=[]", "at least one network", "pass a module or a file")
        parts = [module_parameters(one, module, f"{what}[{i}]") for i, one in enumerate(given)]
        return np.concatenate(parts)
    if isinstance(given, str | Path):
        return np.concatenate([_flat(s, module, where) for where, s in read_states(given)])
    if isinstance(given, Mapping):
        return _flat(given, module, what)
    if isinstance(given, torch.nn.Module):
        flat = _flat(given.state_dict(), module, what)
        _check_outputs(given, flat, module, what)
        return flat
    raise InputError(
        f"{what}={shown(given)}",
        f"torch modules, their state dicts, or files {', '.join(FILES)}",
        "pass for example networks=[model]",
    )


def _flat(state: Mapping[str, Any], module: Module, where: str) -> np.ndarray:
    """(N, p) parameters of the networks of a state."""
    names = [t.name for t in module.tensors()]
    skeleton = module.built.skeleton
    others = {name for name, _ in skeleton.named_parameters(remove_duplicate=False)}
    others |= {name for name, _ in skeleton.named_buffers()}
    for name in state:
        if name not in names and name not in others:
            raise unknown(f"{name!r} in {where}", str(name), names, "pass networks of this module")
    parts, counts = {}, set()
    for t in module.tensors():
        if t.name not in state:
            what = f"{where} without {t.name!r}"
            expected = f"the parameters of make={module.make_name}"
            raise InputError(what, expected, "pass networks of this module")
        values = float_array(state[t.name], f"{t.name} of {where}")
        if values.shape == t.shape:
            values = values[None]
        if values.shape[1:] != t.shape:
            what = f"{t.name!r} of {where} of shape {values.shape}"
            expected = f"{t.shape}, as in make={module.make_name}"
            raise InputError(what, expected, "pass networks of this module")
        parts[t.name] = torch.from_numpy(values)
        counts.add(len(values))
    if len(counts) > 1:
        what = f"tensors of {where} for {' and '.join(map(str, sorted(counts)))} networks"
        raise InputError(what, "as many in every tensor", "stack all tensors along a first axis")
    return finite_networks(Layout(module.tensors(), transposed=True).flat(parts).numpy(), where)


def _check_outputs(given: torch.nn.Module, flat: np.ndarray, module: Module, what: str) -> None:
    """Raise :class:`InputError` if a module computes something else with its weights than the
    factory's would: other buffers, another activation, dropout at work."""
    sample = next(given.parameters())
    x = torch.from_numpy(module.input_matrix()[:8]).to(sample.device, sample.dtype)
    layout = Layout(module.tensors(), transposed=True)
    parameters = layout.stacked(torch.from_numpy(flat).to(sample.device, sample.dtype))
    before = given.training
    given.eval()
    try:
        with evaluation(), users_code(what, x):
            found = given(x).double().cpu().reshape(-1)
            wanted = module.apply(parameters, x)[0].double().cpu()
    finally:
        given.train(before)
    same = found.shape == wanted.shape and torch.allclose(found, wanted, _CLOSE, _CLOSE)
    if not same:
        raise InputError(
            f"{what}, whose outputs ({_first(found)}) are not those of its weights in "
            f"make={module.make_name} ({_first(wanted)})",
            "a module of the same code, options and buffers",
            "pass the factory that made it",
        )


def _first(outputs: torch.Tensor) -> str:
    return ", ".join(f"{float(z):.4g}" for z in outputs[:3])
