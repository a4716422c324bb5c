"""Whether a user's factory still makes the module that it made when a run began.

A run directory names the factory, not its code. A few outputs of the module, and the laws of its
parameters, go into the manifest, so that an interrupted run is not continued with another module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simprior.errors import StoreError
from simprior.modules.spec import SHIPPED, Module

KEY = "module_outputs"
_INPUTS, _NETWORKS, _TOLERANCE = 8, 2, 1e-4


def outputs_to_record(model: object) -> dict[str, list[float]]:
    """Outputs of a module that a user's factory makes, and the laws of its parameters, as ``KEY``.

    Outputs are relative to the largest, which stands before them.

    Empty for all else. Raises :class:`simprior.errors.InputError` for a module that cannot be used.
    """
    if not isinstance(model, Module) or model.make in SHIPPED:
        return {}
    import torch

    from simprior.modules.build import evaluation, some_parameters

    built, inputs = model.built, model.input_matrix()
    x = torch.from_numpy(inputs[:: -(-len(inputs) // _INPUTS)]).float()
    with evaluation():
        z = built.apply(some_parameters(built.tensors, _NETWORKS), x)
    z = torch.nan_to_num(z.double(), 0.0, 0.0, 0.0).flatten()
    scale = float(z.abs().max()) or 1.0
    numbers = [scale, *(z / scale).tolist()]
    for tensor in built.tensors:
        numbers += [float(tensor.size), tensor.centre, tensor.deviation or 0.0]
    return {KEY: numbers}


RESUME = ("cannot resume", "choose another --out, or --overwrite")
USE = ("cannot be used", "run it again")


def check_outputs(
    directory: Path,
    options: Mapping[str, Any],
    model: object,
    purpose: tuple[str, str] = RESUME,
) -> None:
    """Raise :class:`StoreError` if ``model`` is not what the ``options`` of a manifest recorded.

    Manifests without a record, of older versions, pass. ``purpose`` is what cannot be done then,
    and a way on.
    """
    stored, now = options.get(KEY), outputs_to_record(model).get(KEY)
    if stored is None or now is None:
        return
    same = len(stored) == len(now)
    if same and np.allclose(stored, now, _TOLERANCE, _TOLERANCE):
        return
    assert isinstance(model, Module)
    raise StoreError(
        f"{directory}: {purpose[0]}, make={model.make_name} makes another module now than when "
        f"the run began; restore its code, or {purpose[1]}"
    )
