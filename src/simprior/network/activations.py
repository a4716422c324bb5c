"""The activations: all that the library knows of each of them, in one entry.

To add an activation, write one :class:`Activation` and pass it to :func:`register`. A name and the
function on numpy arrays and on torch tensors are enough: networks with it are then sampled and
trained by torch, and their kernels come from quadrature. What else an entry may tell:

* ``derivatives``: in place of automatic differentiation, for the measures of trained weights;
* ``dual``, ``slope``, ``sine``: closed forms for kernels, in place of quadrature;
* ``compiled``: the compiled samplers and the compiled training know the activation, too.

Every library is imported when a function of an entry is called, never when this module is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

# mypy: disable-error-code="no-untyped-def"


Ops = Any
"""Elementwise functions for arrays or for tensors under one set of names: a formula that takes them
is written once. See :func:`simprior.network.callables.numpy_ops`."""

Dual = Callable[..., Any]
"""(ops, a, b, c, theta) -> expectation for (u, v) ~ N(0, [[a, c], [c, b]]), elementwise. ``theta``
is the angle between u and v where it is known better than from the covariance, else None."""

TWO_PI = 2.0 * math.pi


class WithActivation(Protocol):
    """What is asked of a network here: its activation, and what that is called in messages."""

    @property
    def activation(self) -> Any:
        """A name, an import path or a callable."""

    @property
    def activation_name(self) -> str:
        """The name, or ``module:qualname`` of a callable."""

    def activation_callable(self) -> Callable[[Any], Any] | None:
        """The user's callable; None if the activation is one of the names."""


@dataclass(frozen=True)
class Compiled:
    """Scalar numba functions of one activation, each inlined into a loop over units.

    ``single`` is f in float32, ``pair`` (f, f') in float32, ``double`` f in float64.
    """

    single: Any
    pair: Any
    double: Any


@dataclass(frozen=True)
class Activation:
    """One activation f.

    Attributes
    ----------
    name : str
        What a user calls it.
    array, tensor : callable
        f on numpy arrays and on torch tensors, elementwise; the dtype stays.
    derivatives : callable, optional
        (ops, u, f(u)) -> (f'(u), f''(u)), at a kink as torch's autograd has it. The second is None
        if f'' is 0 everywhere.
    has_gradient : bool
        Whether gradient descent can do anything with f (not with a step).
    dual, slope : Dual, optional
        E[f(u) f(v)] and E[f'(u) f'(v)]; kernels without them go through quadrature.
    sine : callable, optional
        (ops, theta) -> squared sine of the angle between f(u) and f(v), theta that between u and
        v. It is there for activations whose ``dual`` or ``slope`` depends on theta.
    dual_needs_angle : bool
        Whether the dual itself depends on theta (else only the slope may).
    compiled : callable, optional
        () -> :class:`Compiled`. Only for f(0) = 0: units that pad a layer must stay 0.
    bounded : bool
        Whether \\|f\\| <= 1.
    periodic : bool
        Whether f is periodic: its arguments need digits after the point.
    zeros : str
        Where f is 0: ``"points"`` (a set of measure 0), ``"half-line"``, or ``"unknown"``.
    """

    name: str
    array: Callable[[Any], Any]
    tensor: Callable[[Any], Any]
    derivatives: Callable[[Ops, Any, Any], tuple[Any, Any]] | None = None
    dual: Dual | None = None
    slope: Dual | None = None
    sine: Callable[[Ops, Any], Any] | None = None
    dual_needs_angle: bool = False
    compiled: Callable[[], Compiled] | None = None
    has_gradient: bool = True
    bounded: bool = False
    periodic: bool = False
    zeros: str = "unknown"


ACTIVATIONS: dict[str, Activation] = {}
"""Entries by name, in the order in which they were registered."""


def register(entry: Activation) -> Activation:
    """Make an activation known under its name."""
    ACTIVATIONS[entry.name] = entry
    return entry


def entry_of(network: WithActivation) -> Activation | None:
    """The entry of a network's activation; None if that is a user's callable or import path."""
    name = network.activation
    return ACTIVATIONS.get(name) if isinstance(name, str) else None


def code_of(network: WithActivation) -> int | None:
    """The number by which compiled code knows the network's activation; None if it does not."""
    name = network.activation
    return COMPILED.index(name) if isinstance(name, str) and name in COMPILED else None


def has_gradient(network: WithActivation) -> bool:
    """False if the network's activation is known to have no useful gradient."""
    found = entry_of(network)
    return found is None or found.has_gradient


def _numpy_relu(x):
    import numpy as np

    return np.maximum(x, 0)


def _numpy(name: str) -> Callable[[Any], Any]:
    def call(x):
        import numpy as np

        return getattr(np, name)(x)

    return call


def _torch(name: str) -> Callable[[Any], Any]:
    def call(x):
        import torch

        return getattr(torch, name)(x)

    return call


# relu: Cho & Saul 2009, arc-cosine kernel of order 1; its slope is the kernel of order 0.


def _relu_derivatives(ops, u, h):
    return ops.is_positive(u), None


def _relu_dual(ops, a, b, c, theta=None):
    """sqrt(ab)/(2 pi) (sin t + (pi - t) cos t), written so that t = 0 gives sqrt(ab)/2 exactly."""
    rho, r = ops.correlation(a, b, c)
    theta, sine = ops.angle(rho)
    return ops.where(rho <= -1.0, 0.0, 0.5 * r * (rho + (sine - theta * rho) / math.pi))


def _relu_sine(ops, theta):
    """Of cosine (sin t + (pi - t) cos t)/pi; 1 minus it is 2 sin^2(t/2) - (sin t - t cos t)/pi."""
    sine, cosine = ops.sin(theta), ops.cos(theta)
    lack = 2.0 * ops.sin(0.5 * theta) ** 2 - (sine - theta * cosine) / math.pi
    return ops.not_below_0(lack * (2.0 - lack))


def _compile_relu() -> Compiled:
    import numpy as np
    from numba import njit

    one, zero = np.float32(1.0), np.float32(0.0)

    @njit(inline="always")
    def single(x):
        return x if x > zero else zero

    @njit(inline="always")
    def pair(x):
        return (x if x > zero else zero), (one if x > zero else zero)

    @njit(inline="always")
    def double(x):
        return max(x, 0.0)

    return Compiled(single, pair, double)


# tanh has no closed form.


def _tanh_derivatives(ops, u, h):
    first = 1.0 - h * h
    return first, -2 * h * first


def _compile_tanh() -> Compiled:
    import numpy as np
    from numba import njit

    from simprior.numerics.compiled import tanh_f32

    one = np.float32(1.0)

    @njit(inline="always")
    def single(x):
        return tanh_f32(x)

    @njit(inline="always")
    def pair(x):
        y = tanh_f32(x)
        return y, one - y * y

    @njit(inline="always")
    def double(x):
        return math.tanh(x)

    return Compiled(single, pair, double)


# erf: Williams 1997.


def _numpy_erf(x):
    from scipy.special import erf

    return erf(x)


def _erf_derivatives(ops, u, h):
    first = ops.exp(-u * u) * (2 / math.sqrt(math.pi))
    return first, -2 * u * first


def _erf_dual(ops, a, b, c, theta=None):
    """(2/pi) asin(2c / sqrt((1+2a)(1+2b))), the asin taken as an atan2 to keep its accuracy."""
    x = 2.0 * c
    gap = (1.0 + 2.0 * a) * (1.0 + 2.0 * b) - x * x
    return 2.0 / math.pi * ops.arctan2(x, ops.sqrt(ops.not_below_0(gap)))


def _erf_slope(ops, a, b, c, theta=None):
    """(4/pi) / sqrt((1+2a)(1+2b) - 4c^2)."""
    gap = 1.0 + 2.0 * (a + b) + 4.0 * ops.determinant(a, b, c)
    return 4.0 / math.pi / ops.sqrt(gap)


def _compile_erf() -> Compiled:
    import numpy as np
    from numba import njit

    from simprior.numerics.compiled import erf_f32, exp_f32

    factor = np.float32(2.0 / math.sqrt(math.pi))

    @njit(inline="always")
    def single(x):
        return erf_f32(x)

    @njit(inline="always")
    def pair(x):
        return erf_f32(x), factor * exp_f32(-x * x)

    @njit(inline="always")
    def double(x):
        return math.erf(x)

    return Compiled(single, pair, double)


# gelu is the exact one, u Phi(u); its dual follows from Stein's lemma, as in Tsuchida, Pearce, van
# der Heide, Roosta & Gallagher 2021. G = E[Phi Phi], J = E[phi phi] (densities),
# D = (1+a)(1+b) - c^2.


def _numpy_gelu(x):
    from scipy.special import ndtr

    return x * ndtr(x)


def _torch_gelu(x):
    import torch

    return torch.nn.functional.gelu(x)


def _gelu_derivatives(ops, u, h):
    density = ops.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    return ops.normal_cdf(u) + u * density, density * (2 - u * u)


def _gelu_parts(ops, a, b, c):
    """G, J, D and ab - c^2."""
    determinant = ops.determinant(a, b, c)
    d = 1.0 + a + b + determinant
    root = ops.sqrt(d)
    return 0.25 + ops.arctan2(c, root) / TWO_PI, 1.0 / (TWO_PI * root), d, determinant


def _gelu_dual(ops, a, b, c, theta=None):
    """c G + J [ab - c^2 + c^2 (1/(1+a) + 1/(1+b))]."""
    g, j, _, determinant = _gelu_parts(ops, a, b, c)
    return c * g + j * (determinant + c * (c / (1.0 + a) + c / (1.0 + b)))


def _gelu_slope(ops, a, b, c, theta=None):
    """G + c J [1/(1+a) + 1/(1+b) + 1/D]."""
    g, j, d, _ = _gelu_parts(ops, a, b, c)
    return g + c * j * (1.0 / (1.0 + a) + 1.0 / (1.0 + b) + 1.0 / d)


def _compile_gelu() -> Compiled:
    import numpy as np
    from numba import njit

    from simprior.numerics.compiled import erf_f32, exp_f32

    half, one = np.float32(0.5), np.float32(1.0)
    root_half = np.float32(math.sqrt(0.5))
    density = np.float32(1.0 / math.sqrt(2.0 * math.pi))

    @njit(inline="always")
    def single(x):
        return half * x * (one + erf_f32(x * root_half))

    @njit(inline="always")
    def pair(x):
        phi = half * (one + erf_f32(x * root_half))
        return x * phi, phi + x * density * exp_f32(-half * x * x)

    @njit(inline="always")
    def double(x):
        return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))

    return Compiled(single, pair, double)


# sin: the characteristic function of (u, v).


def _sin_derivatives(ops, u, h):
    return ops.cos(u), -h


def _sin_dual(ops, a, b, c, theta=None):
    """exp(-(a+b)/2) sinh c, as a difference of two exponentials that cannot overflow."""
    mean = 0.5 * (a + b)
    return 0.5 * (ops.exp(c - mean) - ops.exp(-c - mean))


def _sin_slope(ops, a, b, c, theta=None):
    """E[cos u cos v] = exp(-(a+b)/2) cosh c."""
    mean = 0.5 * (a + b)
    return 0.5 * (ops.exp(c - mean) + ops.exp(-c - mean))


def _compile_sin() -> Compiled:
    import numpy as np
    from numba import njit

    from simprior.numerics.compiled import sin_f32, sincos_turn_f32

    @njit(inline="always")
    def single(x):
        return sin_f32(x)

    @njit(inline="always")
    def pair(x):
        turns = np.float64(x) * 0.15915494309189535
        frac = turns - np.floor(turns)
        word = np.uint32(np.uint64(np.int64(frac * 4294967296.0 + 0.5)) & np.uint64(0xFFFFFFFF))
        return sincos_turn_f32(word)

    @njit(inline="always")
    def double(x):
        return math.sin(x)

    return Compiled(single, pair, double)


# linear


def _linear_derivatives(ops, u, h):
    return ops.ones_like(u), None


def _linear_dual(ops, a, b, c, theta=None):
    """E[uv] = c."""
    return c + 0.0 * (a + b)


def _linear_slope(ops, a, b, c, theta=None):
    """1."""
    return 1.0 + 0.0 * (a + b + c)


def _compile_linear() -> Compiled:
    import numpy as np
    from numba import njit

    one = np.float32(1.0)

    @njit(inline="always")
    def same(x):
        return x

    @njit(inline="always")
    def pair(x):
        return x, one

    return Compiled(same, pair, same)


# step: 1 where u > 0, else 0; Cho & Saul 2009, arc-cosine kernel of order 0.


def _step_array(x):
    return (x > 0).astype(x.dtype)


def _step_tensor(x):
    return (x > 0).to(x.dtype)


def _step_dual(ops, a, b, c, theta=None):
    """P(u > 0, v > 0) = (pi - t)/(2 pi); 0 where a variance is 0, since f(0) = 0.

    It falls linearly with t, and c / sqrt(ab) gives t to no more than 1e-16 / t (1e-10 for inputs
    that differ by 1e-6). Kernels that need it therefore carry t itself from layer to layer.
    """
    if theta is None:
        theta, _ = ops.angle(ops.correlation(a, b, c)[0])
    return ops.where((a > 0) & (b > 0), (math.pi - theta) / TWO_PI, 0.0)


def _step_sine(ops, theta):
    """Of cosine 1 - t/pi."""
    lack = theta / math.pi
    return lack * (2.0 - lack)


def _compile_step() -> Compiled:
    import numpy as np
    from numba import njit

    one, zero = np.float32(1.0), np.float32(0.0)

    @njit(inline="always")
    def single(x):
        return one if x > zero else zero

    @njit(inline="always")
    def pair(x):
        return (one if x > zero else zero), zero

    @njit(inline="always")
    def double(x):
        return 1.0 if x > 0.0 else 0.0

    return Compiled(single, pair, double)


for _entry in (
    Activation(
        name="relu",
        array=_numpy_relu,
        tensor=_torch("relu"),
        derivatives=_relu_derivatives,
        dual=_relu_dual,
        slope=_step_dual,
        sine=_relu_sine,
        compiled=_compile_relu,
        zeros="half-line",
    ),
    Activation(
        name="tanh",
        array=_numpy("tanh"),
        tensor=_torch("tanh"),
        derivatives=_tanh_derivatives,
        compiled=_compile_tanh,
        bounded=True,
        zeros="points",
    ),
    Activation(
        name="erf",
        array=_numpy_erf,
        tensor=_torch("erf"),
        derivatives=_erf_derivatives,
        dual=_erf_dual,
        slope=_erf_slope,
        compiled=_compile_erf,
        bounded=True,
        zeros="points",
    ),
    Activation(
        name="gelu",
        array=_numpy_gelu,
        tensor=_torch_gelu,
        derivatives=_gelu_derivatives,
        dual=_gelu_dual,
        slope=_gelu_slope,
        compiled=_compile_gelu,
        zeros="points",
    ),
    Activation(
        name="sin",
        array=_numpy("sin"),
        tensor=_torch("sin"),
        derivatives=_sin_derivatives,
        dual=_sin_dual,
        slope=_sin_slope,
        compiled=_compile_sin,
        bounded=True,
        periodic=True,
        zeros="points",
    ),
    Activation(
        name="linear",
        array=lambda x: x,
        tensor=lambda x: x,
        derivatives=_linear_derivatives,
        dual=_linear_dual,
        slope=_linear_slope,
        compiled=_compile_linear,
        zeros="points",
    ),
    Activation(
        name="step",
        array=_step_array,
        tensor=_step_tensor,
        dual=_step_dual,
        sine=_step_sine,
        dual_needs_angle=True,
        compiled=_compile_step,
        has_gradient=False,
        bounded=True,
        zeros="half-line",
    ),
):
    register(_entry)

COMPILED = tuple(name for name, entry in ACTIVATIONS.items() if entry.compiled is not None)
"""Names that compiled code knows; it knows each by its place here."""
