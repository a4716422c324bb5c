"""NNGP kernels of shipped architectures that have one in closed form, or by exact recursion.

===========================  =====================================================================
mlp                          :func:`simprior.gp.kernels.nngp` of the :class:`Network` with its law;
                             with ``norm`` or ``residual`` :func:`simprior.gp.kernels.layered_nngp`
cnn, cnn2d, pool flat, mean  :mod:`simprior.gp.convolutions`
===========================  =====================================================================

Widths and channels go to infinity, and their numbers do not enter. Everything else, max pooling and
users' modules among it, has no such kernel here: :mod:`simprior.gp.sampled` estimates one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from simprior.errors import InputError
from simprior.gp.convolutions import COMPILED, Grid, Layers, convolution_kernel, evaluations
from simprior.gp.covariance import merge_copies
from simprior.gp.duals import LayerMap
from simprior.gp.kernels import RTOL, by_duals, layered_nngp, nngp
from simprior.modules import shipped
from simprior.modules.spec import SHIPPED, Module
from simprior.network.spec import Network
from simprior.runs.tasks import available_cores

LAYER_EPS = 1e-5
"""What torch's LayerNorm adds to the variance."""
RMS_EPS = float(np.finfo(np.float32).eps)
"""What torch's RMSNorm adds in float32."""
MOST = {True: 1e11, False: 1e9}
"""Duals up to which the recursion of a ``mean`` over positions is run, if compiled and if not: some
minutes."""


def why_sampled(module: Module) -> str:
    """Why a module has no closed kernel here; empty if it has one. Raises :class:`InputError`."""
    if module.make not in SHIPPED:
        return "it is a module of yours"
    if module.init != "simprior":
        return "its parameters are drawn by its own initialiser"
    if module.weight_dist != "gaussian":
        return "its weights are not Gaussian"
    if module.masked:
        return "its weights are masked"
    if module.laws:
        return "laws of its parameters are given"
    options = settings_of(module)
    if module.make == "mlp":
        return ""
    if module.make not in ("cnn", "cnn2d"):
        return f"{module.make} has no kernel in closed form"
    if options["pool"] == "max":
        return "a maximum over positions has no kernel in closed form"
    grid, depth = _grid(module, options), _depth(options["channels"])
    most = MOST[options["activation"] in COMPILED]
    if options["pool"] == "mean" and evaluations(grid, depth, module.m, "mean") > most:
        return "the exact recursion over pairs of positions would take too long"
    return ""


def closed_kernel(module: Module, rtol: float = RTOL) -> np.ndarray:
    """(m, m) NNGP kernel of a module for which :func:`why_sampled` is empty.

    Parameters
    ----------
    module : Module
        ``sigma_w`` and ``sigma_b`` are those of all layers.
    rtol : float
        Accuracy asked of quadratures, as of :func:`simprior.gp.kernels.nngp`.

    Returns
    -------
    (m, m) float64 array on the inputs of the module, in squared units of the output. Equal inputs
    have bitwise equal rows, and so have inputs that a mean over positions takes for the same.

    Raises
    ------
    InputError
        An option is out of range.
    NumericalError
        As of :func:`simprior.gp.kernels.nngp`.
    """
    reason = why_sampled(module)
    if reason:
        raise InputError(f"closed kernel of {module.make_name}", "one that exists", reason)
    options = settings_of(module)
    found = _mlp if module.make == "mlp" else _convolutional
    return found(module, options, rtol)


def settings_of(module: Module) -> dict[str, Any]:
    """All options of a shipped module, defaults included, tested by building it on two inputs.

    Raises :class:`InputError`.
    """
    probe = replace(module, n=module.d, inputs=module.input_matrix()[:2])
    assert probe.built is not None
    factory: Callable[..., Any] = module.factory()
    bound = inspect.signature(factory).bind(n=module.d, **dict(module.options or {}))
    bound.apply_defaults()
    return dict(bound.arguments)


def _depth(widths: Any) -> int:
    return len(shipped.widths_of("channels", widths))


def _network(module: Module, options: Mapping[str, Any], depth: int) -> Network:
    """The fully connected network with the law and the activation of a module."""
    law = {name: getattr(module, name) for name in ("sigma_w", "sigma_b", "encoding")}
    shape = {"hidden": (1,) * depth, "activation": options["activation"]}
    return Network(n=module.n, inputs=module.inputs, **shape, **law)


def _mlp(module: Module, options: Mapping[str, Any], rtol: float) -> np.ndarray:
    widths = shipped.widths_of("hidden", options["hidden"])
    network = _network(module, options, len(widths))
    if options["norm"] == "none" and not options["residual"]:
        return nngp(network, module.input_matrix(), rtol=rtol)
    adds = [False, *(options["residual"] and a == b for a, b in pairwise(widths))]
    eps = {"none": None, "layer": LAYER_EPS, "rms": RMS_EPS}[options["norm"]]
    return layered_nngp(network, eps, adds, rtol=rtol)[0]


def _grid(module: Module, options: Mapping[str, Any]) -> Grid:
    if module.make == "cnn":
        return Grid((1, module.d), (1, options["window"]), (0, 0), circular=True)
    sides = shipped.window_sides(options["window"])
    before = ((sides[0] - 1) // 2, (sides[1] - 1) // 2)
    return Grid(shipped.image_shape(module.d, options["shape"]), sides, before, circular=False)


def _convolutional(module: Module, options: Mapping[str, Any], rtol: float) -> np.ndarray:
    grid, depth = _grid(module, options), _depth(options["channels"])
    network = _network(module, options, depth)
    inputs, where = np.unique(module.input_matrix() + 0.0, axis=0, return_inverse=True)
    where = where.reshape(-1)
    code = COMPILED.get(options["activation"])

    def climb(dual: LayerMap) -> np.ndarray:
        layers = Layers(depth, module.sigma_w, module.sigma_b, dual, code)
        return convolution_kernel(inputs, grid, layers, options["pool"], available_cores())

    kernel = by_duals(network, climb, rtol)[0]
    if options["pool"] == "mean":
        where = merge_copies(kernel)[where]
    return kernel[np.ix_(where, where)]
