"""Kernels of infinitely wide networks: NNGP and NTK, from the same spec that is sampled.

With w ~ N(0, sigma_w^2/fan_in) and b ~ N(0, sigma_b^2) in every layer (``docs/notation.md``)

    K_0(x, x') = sigma_b0^2 + sigma_w0^2 x.x'/d
    K_l(x, x') = sigma_bl^2 + sigma_wl^2 E[phi(u) phi(v)],  (u, v) ~ N(0, K_{l-1} on {x, x'})

for l = 1..L hidden layers (Lee et al. 2018; Matthews et al. 2018); the widths do not enter. The
neural tangent kernel (Jacot et al. 2018) is Theta_0 = K_0 and
Theta_l = K_l + sigma_wl^2 E[phi'(u) phi'(v)] Theta_{l-1}: that of the parameterisation in which
the trained numbers are standard normal and the sigmas are fixed factors.

Masks (``density``) of the layers above the first change nothing, or multiply sigma_w^2 by the
density where the weights kept are not rescaled. With masks of the first layer, K_1 and Theta_1 are
the means over masks of what the kernels of the masked inputs give (:mod:`simprior.gp.masks`).

Equal inputs get bitwise equal rows and columns, nothing is ever added to the diagonal.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from simprior.checks import NETWORK, Choice, Number, Switch, Whole, checked
from simprior.errors import InputError, NumericalError
from simprior.gp.duals import (
    LayerMap,
    converge,
    dual_of,
    field_angles,
    input_sines,
    layer_map,
    sine_of,
    slope_of,
)
from simprior.gp.masks import GROUPS, Masks, masks_of
from simprior.network.activations import ACTIVATIONS, entry_of, has_gradient
from simprior.network.density import refuse_density
from simprior.network.spec import Network, input_rows

BLOCK = 1 << 16
RTOL = 1e-10
MASKS = 4096
_LOG = logging.getLogger("simprior")
_GAUSSIAN = Choice(
    ("gaussian",),
    remedy="use weight_dist='gaussian', or empirical_nngp for the covariance at finite width",
    expected="'gaussian' for an infinite-width kernel (with d finite inputs the first layer of a "
    "uniform law is not Gaussian at any width)",
)


@overload
def nngp(
    network: Network,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    rtol: float = RTOL,
    return_error: Literal[False] = False,
    masks: int = MASKS,
    seed: int = 0,
) -> np.ndarray: ...


@overload
def nngp(
    network: Network,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    rtol: float = RTOL,
    return_error: Literal[True],
    masks: int = MASKS,
    seed: int = 0,
) -> tuple[np.ndarray, float]: ...


@checked(
    network=NETWORK,
    rtol=Number(0, 1, open=True),
    return_error=Switch(),
    masks=Whole(GROUPS),
)
def nngp(
    network: Network,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    rtol: float = RTOL,
    return_error: bool = False,
    masks: int = MASKS,
    seed: int = 0,
) -> np.ndarray | tuple[np.ndarray, float]:
    """Covariance of the outputs of an infinitely wide network (NNGP kernel).

    Parameters
    ----------
    network : Network
        Depth, activation, sigmas. ``weight_dist`` must be ``"gaussian"``.
    X1, X2 : (m1, d), (m2, d) arrays
        Encoded inputs; X2 = None means X1 and gives a bitwise symmetric matrix.
    rtol : float
        Accuracy asked of the quadrature, relative to sqrt(K_ii K_jj). Without effect on relu, erf,
        linear, step, sin and gelu, which are closed forms.
    return_error : bool
        Also return the largest error of an entry relative to sqrt(K_ii K_jj): the difference
        between the two finest quadratures, propagated through all layers (0.0 for closed forms,
        whose error is rounding only). With random masks it is the larger one of that and the
        largest standard error of an entry, from the spread over groups of masks.
    masks, seed : int
        Random masks of the first layer, and their seed, where it has masks of more than 12 inputs;
        with fewer all masks are summed over.

    Returns
    -------
    (m1, m2) float64 array, in squared units of the output; with ``return_error`` a tuple.

    Raises
    ------
    InputError
        Inputs of the wrong shape, a uniform weight law, a perceptron with masks.
    NumericalError
        The quadrature does not reach ``rtol``, or a variance under- or overflows at some layer.
    """
    pairs = _pairs(network, X1, X2)
    found = _masks(network, pairs, masks, seed)
    kernel, _, error = _kernels(network, pairs, rtol, False, found)
    if found is not None and not found.exact and return_error:
        parts = [_kernels(network, pairs, rtol, False, part)[0] for part in found.groups()]
        stderr = np.std(parts, axis=0, ddof=1) / math.sqrt(GROUPS)
        size = np.sqrt(kernel.diagonal())
        error = max(error, float((stderr / size[:, None] / size).max()))
    kernel = pairs.expand(kernel)
    return (kernel, error) if return_error else kernel


@checked(network=NETWORK, rtol=Number(0, 1, open=True), masks=Whole(GROUPS))
def ntk(
    network: Network,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    rtol: float = RTOL,
    masks: int = MASKS,
    seed: int = 0,
) -> np.ndarray:
    """Neural tangent kernel of an infinitely wide network, same call shape as :func:`nngp`.

    Raises
    ------
    InputError
        As :func:`nngp`; also for ``activation="step"`` (its derivative is a delta function and
        the kernel diverges on the diagonal) and for callables that torch cannot differentiate.
    """
    pairs = _pairs(network, X1, X2)
    _, theta, _ = _kernels(network, pairs, rtol, True, _masks(network, pairs, masks, seed))
    return pairs.expand(theta)


def output_kernel(
    network: Network, kernel: np.ndarray, layer: int, *, rtol: float = RTOL
) -> np.ndarray:
    """Covariance of the outputs, given that of the fields of hidden layer ``layer``.

    The layers above are infinitely wide, so their kernels follow from this one; the layers below
    may be anything.

    Parameters
    ----------
    kernel : (m, m) array
        Symmetric covariance of the fields (before the activation) of the hidden layer ``layer``.
    layer : int
        1 to ``depth``; with ``depth + 1`` the fields are the outputs, and ``kernel`` comes back.
    rtol : float
        As of :func:`nngp`.

    Returns
    -------
    (m, m) float64 array, symmetric, in squared units of the output.

    Raises
    ------
    NumericalError
        The quadrature does not reach ``rtol``.
    """

    def climb(dual: LayerMap) -> np.ndarray:
        found = kernel
        for above in range(layer, network.depth + 1):
            mean, _ = _map_symmetric(dual, found, None)
            found = _affine(network.wide_sigma_ws[above], network.sigma_bs[above], mean)
        return found

    dual, _ = _closed_forms(network, tangent=False)
    if dual is not None or layer > network.depth:
        return kernel if dual is None else climb(dual)

    def run(dual: LayerMap, slope: LayerMap | None, angles: bool) -> tuple[np.ndarray, np.ndarray]:
        found = climb(dual)
        return found, found

    return converge(network, run, rtol=rtol, tangent=False)[0]


@dataclass(frozen=True)
class _Pairs:
    """Distinct inputs and where the rows of X1 and X2 are among them (None: the rows of X1)."""

    inputs: np.ndarray
    rows: np.ndarray
    cols: np.ndarray | None

    def expand(self, full: np.ndarray) -> np.ndarray:
        """Matrix over the distinct inputs -> matrix over (X1, X2)."""
        return full[np.ix_(self.rows, self.rows if self.cols is None else self.cols)]


def _pairs(network: Network, X1: np.ndarray, X2: np.ndarray | None) -> _Pairs:
    """The inputs of a kernel; whether it has one is checked."""
    _GAUSSIAN("weight_dist", network.weight_dist)
    if not network.depth:
        refuse_density(network, "the kernel of a perceptron (it is Gaussian given its mask only)")
    return _distinct(input_rows("X1", X1), None if X2 is None else input_rows("X2", X2))


def _masks(network: Network, pairs: _Pairs, count: int, seed: int) -> Masks | None:
    """The masks of the first layer; None if it has none."""
    if network.densities[0] == 1.0:
        return None
    d = pairs.inputs.shape[1]
    found = masks_of(network.densities[0], d, count, seed)
    if not found.exact:
        _LOG.info(
            "the kernel is a mean over %s random masks of %d inputs (nngp(..., return_error=True) "
            "gives its error)",
            f"{count:,}",
            d,
        )
    return found


def _kernels(
    network: Network, pairs: _Pairs, rtol: float, tangent: bool, masks: Masks | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """(K, Theta, error) over the distinct inputs."""
    dual, slope = _closed_forms(network, tangent)
    if dual is None:
        kernel, theta, error = converge(
            network,
            lambda d, s, angles: _recursion(network, pairs.inputs, d, s, angles, masks),
            rtol=rtol,
            tangent=tangent,
        )
    else:
        entry = entry_of(network)
        angles = bool(network.depth and entry and entry.sine) and (
            tangent or bool(entry and entry.dual_needs_angle)
        )
        kernel, theta = _recursion(network, pairs.inputs, dual, slope, angles, masks)
        error = 0.0
    return kernel, theta, error


def _closed_forms(network: Network, tangent: bool) -> tuple[LayerMap | None, LayerMap | None]:
    if tangent and network.depth and not has_gradient(network):
        raise InputError(
            f"activation={network.activation_name!r}",
            "an activation with a derivative for the neural tangent kernel",
            "use erf with a large sigma_w, or the nngp kernel",
        )
    entry = entry_of(network) if network.depth else ACTIVATIONS["linear"]
    dual = dual_of(entry.name) if entry else None
    slope = slope_of(entry.name) if entry and tangent else None
    if entry is None or dual is None or (tangent and slope is None):
        return None, None
    return layer_map(dual, sine_of(entry.name)), layer_map(slope) if slope else None


@dataclass(frozen=True)
class _Fields:
    """What is known of the fields of a layer: kernel, Theta, and angles where they are needed."""

    kernel: np.ndarray
    theta: np.ndarray
    angle: np.ndarray | None


Units = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Of the units above some fields: E[phi phi'], the squared sines of their angles (None: not
needed), and sigma_w^2 E[phi' phi'] Theta (None without Theta)."""


def _recursion(
    network: Network,
    inputs: np.ndarray,
    dual: LayerMap,
    slope: LayerMap | None,
    angles: bool,
    masks: Masks | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(K_L, Theta_L) over distinct inputs, symmetric; Theta is K where ``slope`` is None.

    ``angles``: the maps of the layers need the angles between fields, see
    :mod:`simprior.gp.duals`.
    """
    sw, sb = network.wide_sigma_ws, network.sigma_bs
    nonzero = np.any(inputs != 0.0, axis=1)
    fields = None if masks is not None else _first_fields(network, inputs, angles, 1.0)
    if fields is not None:
        _check_range(fields.kernel, 0, network, nonzero)
    for layer in range(1, network.depth + 1):
        if fields is None:
            assert masks is not None
            mean, sines, gained = _mean_units(network, inputs, dual, slope, angles, masks)
        else:
            mean, sines, gained = _units(fields, dual, slope, sw[layer])
        kernel = _affine(sw[layer], sb[layer], mean)
        _check_range(kernel, layer, network, nonzero)
        angle = None
        if sines is not None and layer < network.depth:
            angle = field_angles(sw[layer], sb[layer], mean, sines)
        fields = _Fields(kernel, kernel if gained is None else kernel + gained, angle)
    assert fields is not None
    return fields.kernel, fields.theta


def _first_fields(network: Network, inputs: np.ndarray, angles: bool, share: float) -> _Fields:
    """The fields of the first layer; of ``inputs`` that are masked, a mean ``share`` is kept."""
    sigma_w, sigma_b = network.wide_sigma_ws[0], network.sigma_bs[0]
    gram = _gram(inputs)
    mean = gram / (inputs.shape[1] * share)
    angle = field_angles(sigma_w, sigma_b, mean, input_sines(inputs, gram)) if angles else None
    kernel = _affine(sigma_w, sigma_b, mean)
    return _Fields(kernel, kernel, angle)


def _units(fields: _Fields, dual: LayerMap, slope: LayerMap | None, sigma_w: float) -> Units:
    gained = None
    if slope is not None:
        gain = sigma_w**2 * _map_symmetric(slope, fields.kernel, fields.angle)[0]
        gained = gain * fields.theta
    mean, sines = _map_symmetric(dual, fields.kernel, fields.angle)
    return mean, sines, gained


def _mean_units(
    network: Network,
    inputs: np.ndarray,
    dual: LayerMap,
    slope: LayerMap | None,
    angles: bool,
    masks: Masks,
) -> Units:
    """The units of the first layer, averaged over the masks of what they read."""
    m, share = len(inputs), network.densities[0]
    mean, gained = np.zeros((m, m)), np.zeros((m, m))
    for kept, weight in zip(masks.kept, masks.shares, strict=True):
        fields = _first_fields(network, inputs * kept, angles, share)
        one, _, passed = _units(fields, dual, slope, network.wide_sigma_ws[1])
        mean += weight * one
        if passed is not None:
            gained += weight * passed
    return mean, _sines(mean) if angles else None, None if slope is None else gained


def _sines(moments: np.ndarray) -> np.ndarray:
    """1 - kappa^2 of all pairs, from a matrix of second moments; 1 where one is 0."""
    size = np.sqrt(moments.diagonal())
    products = size[:, None] * size
    cosine = np.divide(moments, products, out=np.zeros_like(moments), where=products > 0)
    lack = 1.0 - np.minimum(np.abs(cosine), 1.0)
    return np.asarray(lack * (2.0 - lack))


def _affine(sigma_w: float, sigma_b: float, second_moment: np.ndarray) -> np.ndarray:
    return sigma_b**2 + sigma_w**2 * second_moment


def _gram(inputs: np.ndarray) -> np.ndarray:
    """x.x' of all pairs, symmetric, and bitwise odd: the row of -x is minus that of x.

    A matrix product promises neither: its last bits depend on where a row is and on the processor.
    """
    first = inputs[np.arange(len(inputs)), (inputs != 0.0).argmax(axis=1)]
    sign = np.where(first < 0.0, -1.0, 1.0)
    lines, where = np.unique(inputs * sign[:, None] + 0.0, axis=0, return_inverse=True)
    if len(lines) == len(inputs):
        return _mirror(inputs @ inputs.T)
    where = where.reshape(-1)
    gram = _mirror(lines @ lines.T)[np.ix_(where, where)]
    gram *= sign
    gram *= sign[:, None]
    return gram + 0.0


def _mirror(matrix: np.ndarray) -> np.ndarray:
    """Copy the upper triangle onto the lower one, in place, by blocks of rows."""
    m = len(matrix)
    for start in range(0, m, 256):
        stop = min(start + 256, m)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        block = matrix[start:stop, start:stop]
        block[...] = np.triu(block) + np.triu(block, 1).T
    return matrix


def _map_symmetric(
    dual: LayerMap, kernel: np.ndarray, angle: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Apply an elementwise map to a kernel matrix (and its angles), upper triangle only."""
    m = len(kernel)
    block_map = dual(kernel.diagonal())
    out, sines = np.empty_like(kernel), None
    rows = max(1, BLOCK // m)
    for start in range(0, m, rows):
        stop = min(start + rows, m)
        i, j = slice(start, stop), slice(start, m)
        out[i, j], sine = block_map(i, j, kernel[i, j], None if angle is None else angle[i, j])
        if sine is not None:
            sines = np.empty_like(kernel) if sines is None else sines
            sines[i, j] = sine
    return _mirror(out), sines


def _check_range(kernel: np.ndarray, layer: int, network: Network, nonzero: np.ndarray) -> None:
    """Distinct non-zero inputs have a positive variance at every layer, up to under/overflow."""
    var = kernel.diagonal()
    if not np.isfinite(kernel).all():
        problem = "overflows or is not a number"
    elif (var[nonzero] <= 0).any():
        problem = "underflows to 0"
    else:
        return
    raise NumericalError(
        f"kernel at layer {layer} of {network.depth} {problem} with sigma_w={network.sigma_w}, "
        f"sigma_b={network.sigma_b}: expected finite positive variances; use fewer layers, or a "
        "sigma_w that keeps the variance steady (sqrt(2) for relu)"
    )


def _distinct(X1: np.ndarray, X2: np.ndarray | None) -> _Pairs:
    if X2 is not None and X2.shape[1] != X1.shape[1]:
        raise InputError(
            f"X2 of shape {X2.shape}", f"{X1.shape[1]} columns as in X1", "encode both alike"
        )
    both = X1 if X2 is None else np.concatenate([X1, X2])
    inputs, where = np.unique(both + 0.0, axis=0, return_inverse=True)
    where = where.reshape(-1)
    return _Pairs(inputs, where[: len(X1)], None if X2 is None else where[len(X1) :])
