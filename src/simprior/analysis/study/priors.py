"""The priors of a stage ``[sample]``: which network a cell describes, and what its row says.

Beside the settings of ``simprior sample`` a cell may give ``depth`` (hidden layers; of a
transformer or an LSTM its layers) and ``width`` (of each of them, 40) in place of ``hidden``, so
that a grid can cross them. For the same reason ``density_first`` and ``density_hidden`` give the
densities of the first layer and of those between hidden layers; the output layer is dense.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simprior.checks import Whole
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.training.settings import MODULE, NETWORK, settings

if TYPE_CHECKING:
    from simprior.boolean.sampling.counts import FunctionCounts

SIZE = ("depth", "width")
MASKS = ("density_first", "density_hidden")
KEYS = (*NETWORK, *MODULE, *SIZE, *MASKS)
"""Settings of a cell that describe the network."""
_LAYERED = ("transformer", "lstm")
_WIDTH = 40
_NORMS = {"none": "", "layer": " + layer norm", "rms": " + RMS norm"}


def prior_of_cell(cell: Mapping[str, Any]) -> Network | Module:
    """The network or torch module that the settings ``cell`` (of :data:`KEYS`) describe.

    Raises :class:`InputError` for a setting that is out of range, or means nothing here.
    """
    values = _sized(dict(cell))
    masks = {name: values.pop(name) for name in MASKS if name in values}
    model = settings(values).network
    return _masked(model, **masks) if masks else model


def _sized(values: dict[str, Any]) -> dict[str, Any]:
    """``depth`` and ``width`` as what the network takes."""
    if not any(name in values for name in SIZE):
        return values
    layered = values.get("architecture") in _LAYERED
    if "depth" not in values or "hidden" in values or (layered and "width" in values):
        what = f"{', '.join(name for name in (*SIZE, 'hidden') if name in values)} in [sample]"
        expected = "depth, or depth and width, or hidden; of transformer and lstm depth alone"
        raise InputError(what, expected, "leave the others out")
    depth = Whole(0, 10_000)("depth", values.pop("depth"))
    width = Whole(1, 2**20)("width", values.pop("width", _WIDTH))
    if layered:
        option = dict(values.get("option") or {})
        return {**values, "option": {**option, "layers": depth}}
    return {**values, "hidden": [width] * depth}


def _masked(
    model: Network | Module, density_first: Any = 1.0, density_hidden: Any = 1.0
) -> Network:
    """``model`` with these densities of its first layer, and of those between hidden layers."""
    what = f"density_first={density_first!r}, density_hidden={density_hidden!r} in [sample]"
    if isinstance(model, Module):
        name = model.make_name
        raise InputError(f"{what} with {name}", "a network without a module", "leave them out")
    depth = model.depth
    if model.masked or depth == 0 or (depth == 1 and density_hidden != 1):
        expected = "as many hidden layers (1 and 2 at least), and no density beside them"
        raise InputError(what, expected, "leave them out, or give density a number a layer")
    between = (density_hidden,) * (depth - 1)
    return replace(model, density=(density_first, *between, 1.0))


def component_of(model: Network | Module) -> str:
    """What a network is made of, in a few words: ``relu + layer norm``, ``transformer``."""
    if isinstance(model, Network):
        name = model.activation_name.rpartition(":")[2] if model.hidden else "perceptron"
        return str(name)
    options = model.options or {}
    if model.make_name != "mlp":
        return model.make_name.rpartition(":")[2]
    norm = _NORMS[str(options.get("norm", "none"))]
    residual = " + residual" if options.get("residual", False) else ""
    return f"{options.get('activation', 'relu')}{norm}{residual}"


def complexity_columns(counts: FunctionCounts) -> dict[str, float]:
    """What :meth:`FunctionCounts.complexity_frame` says, as columns of one row.

    ``<quantity>_nonconstant`` with ``_low`` and ``_high`` is given that the function is not
    constant, ``<quantity>`` with its limits over all functions. A degree or a number follows the
    name of the quantity: ``fourier_weight_1``. P(LZ76) has no columns.
    """
    out: dict[str, float] = {}
    for row in counts.complexity_frame().to_dict(orient="records"):
        name = str(row["quantity"])
        if name == "p_lz76":
            continue
        if name == "p_constant":
            out |= {"p_constant_low": row["low"], "p_constant_high": row["high"]}
            continue
        name += "" if math.isnan(row["at"]) else f"_{row['at']:g}"
        given = {"": "value", "_low": "low", "_high": "high"}
        out |= {f"{name}_nonconstant{end}": row[key] for end, key in given.items()}
        every = {"": "all", "_low": "all_low", "_high": "all_high"}
        out |= {f"{name}{end}": row[key] for end, key in every.items()}
    del out["lz76"]  # the mean over the whole table is more precise
    del out["lz76_low"], out["lz76_high"]
    return out
