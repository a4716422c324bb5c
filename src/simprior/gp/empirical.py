"""Monte-Carlo kernels of finite networks: the sampled twins of ``simprior.gp.kernels``.

Both average over independent networks and give each entry's standard error. A ``Network`` is drawn
at its own widths; any torch module (convolutional, with skips) comes as a function that builds one.
What the average estimates: the output covariance at that width. For one hidden layer it equals the
infinite-width NNGP kernel at every width; for L >= 2 it differs by O(1/width), and the average NTK
by O(1/width) for L >= 2 as well (it is exact for one hidden layer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import Array, Integer, Maybe, Whole, checked, shown
from simprior.errors import InputError, NumericalError
from simprior.network.activations import has_gradient
from simprior.network.callables import differentiable, tensor_function
from simprior.network.spec import Network
from simprior.numerics.estimate import share_stderr
from simprior.numerics.random import check_seed, derive

if TYPE_CHECKING:
    import torch

Source = Network | Callable[[], Any]


@checked(X1=Array(2), X2=Maybe(Array(2)), samples=Whole(1))
def empirical_nngp(
    make_network: Source,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of f(x) f(x') over random networks, and its standard error.

    Parameters
    ----------
    make_network : Network or callable
        A spec (its widths and weight law are used), or a function of no arguments that returns a
        freshly initialised ``torch.nn.Module`` mapping (m, ...) to (m,) or (m, k); the k outputs
        of one network are averaged and count as one draw. It is called once a draw with torch's
        generator seeded from (seed, draw), put in ``eval()`` mode, and the caller's random state
        is restored.
    X1, X2 : (m1, ...), (m2, ...) arrays
        Inputs; float64 for a spec, the dtype of its parameters for a module.
    samples : int
        Number of networks, at least 2.
    seed : int
        Root seed; the first draws do not depend on ``samples``.

    Returns
    -------
    K, stderr : (m1, m2) float64 arrays
        stderr is the standard deviation over draws divided by sqrt(samples).

    Raises
    ------
    InputError
        Bad ``samples`` or ``seed``, or a callable that returns no module of a usable shape.
    NumericalError
        An output is not finite.
    """
    _check_samples(samples)
    _check_columns(make_network, X1, X2)
    left, right = _inputs(X1), None if X2 is None else _inputs(X2)

    def one(module: Any) -> np.ndarray:
        f = _outputs(module, left)
        g = f if right is None else _outputs(module, right)
        return f @ g.T / f.shape[1]

    found = _average(make_network, one, samples, seed, right is None)
    return _unmet(*found, left, left if right is None else right, samples)


@checked(X1=Array(2), X2=Maybe(Array(2)), samples=Whole(1))
def empirical_ntk(
    make_network: Source,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    *,
    samples: int = 100,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of grad f(x) . grad f(x') over random networks, and its standard error.

    Same call shape as :func:`empirical_nngp`. For a ``Network`` the gradient is with respect to the
    standard normal numbers behind the weights (NTK parameterisation), as in
    :func:`simprior.gp.kernels.ntk`; for a module with respect to its parameters as they are.

    Raises
    ------
    InputError
        As :func:`empirical_nngp`; also for the step, and for a callable torch cannot differentiate.
    """
    _check_samples(samples)
    if isinstance(make_network, Network):
        _check_derivative(make_network)
    _check_columns(make_network, X1, X2)
    left, right = _inputs(X1), None if X2 is None else _inputs(X2)

    def one(module: Any) -> np.ndarray:
        f = _jacobian(module, left)
        g = f if right is None else _jacobian(module, right)
        return np.einsum("ikp,jkp->ij", f, g) / f.shape[1]

    found = _average(make_network, one, samples, seed, right is None)
    return _unmet(*found, left, left if right is None else right, samples)


def _check_columns(source: Source, X1: np.ndarray, X2: np.ndarray | None) -> None:
    """Refuse inputs of another dimension than the network's (or than each other's)."""
    wanted = source.d if isinstance(source, Network) else X1.shape[1]
    for name, X in (("X1", X1), ("X2", X2)):
        if X is not None and X.shape[1] != wanted:
            raise InputError(
                f"{name} of shape {X.shape}", f"{wanted} columns", "one column an input coordinate"
            )


def random_module(network: Network) -> torch.nn.Module:
    """One float64 network of a spec in NTK parameterisation, drawn from torch's generator.

    The parameters are standard normal (or uniform of unit variance); layer l computes
    ``x @ W.T * sigma_w / sqrt(fan_in) + sigma_b * b``. Maps (m, d) to (m, 1).
    """
    import torch

    phi = tensor_function(network)

    class _Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            outs = (*network.hidden, 1)
            shapes = zip(outs, network.fan_ins, strict=True)
            self.weights = torch.nn.ParameterList([_draw(network, o, i) for o, i in shapes])
            self.biases = torch.nn.ParameterList([_draw(network, o) for o in outs])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = phi(x) if layer else x
                gain = network.sigma_ws[layer] / np.sqrt(network.fan_ins[layer])
                x = x @ w.T * gain + network.sigma_bs[layer] * b
            return x

    return _Mlp()


def _draw(network: Network, *shape: int) -> torch.nn.Parameter:
    import torch

    if network.weight_dist == "uniform":
        values = (2.0 * torch.rand(shape, dtype=torch.float64) - 1.0) * np.sqrt(3.0)
    else:
        values = torch.randn(shape, dtype=torch.float64)
    return torch.nn.Parameter(values)


def _check_derivative(network: Network) -> None:
    if not has_gradient(network):
        raise InputError(
            f"activation={network.activation_name!r}",
            "an activation with a derivative",
            "use erf, or empirical_nngp",
        )
    differentiable(network, "the neural tangent kernel")


def _modules(make_network: Source, samples: int, seed: int) -> Iterator[Any]:
    """Freshly drawn modules; the caller's torch random state is left as it was."""
    import torch

    check_seed(seed)
    if isinstance(make_network, Network):
        spec = make_network
        make: Callable[[], Any] = lambda: random_module(spec)  # noqa: E731
    else:
        make = make_network
    if not callable(make) or isinstance(make, torch.nn.Module):
        raise InputError(
            f"make_network={type(make_network).__name__}",
            "a Network or a function that returns a new torch.nn.Module",
            "wrap the construction: lambda: MyModel(...)",
        )
    for index in range(samples):
        with torch.random.fork_rng(devices=[]):
            number = int.from_bytes(derive(seed, "empirical-kernel", index)[:8], "little")
            torch.random.default_generator.manual_seed(number >> 1)
            try:
                module = make()
            except (Exception, SystemExit) as error:
                raise InputError(
                    f"make_network={shown(make_network)}",
                    f"a function that makes a module (it raised {type(error).__name__}: {error})",
                    "call it once yourself",
                ) from error
        if not isinstance(module, torch.nn.Module):
            raise InputError(
                f"make_network() of type {type(module).__name__}",
                "a torch.nn.Module",
                "return the model",
            )
        yield module.eval()


def _average(
    make_network: Source,
    one: Callable[[Any], np.ndarray],
    samples: int,
    seed: int,
    symmetric: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Welford's running mean and standard error of ``one(module)``."""
    mean = square = np.zeros(())
    for count, module in enumerate(_modules(make_network, samples, seed), start=1):
        value = one(module)
        if not np.isfinite(value).all():
            raise NumericalError(
                f"network {count - 1} of {samples} gives values that are not finite: expected "
                "finite outputs; check the activation and the scale of the weights"
            )
        gap = value - mean
        mean = mean + gap / count
        square = square + gap * (value - mean)
    stderr = np.sqrt(square / (samples - 1) / samples)
    if symmetric:
        return 0.5 * (mean + mean.T), 0.5 * (stderr + stderr.T)
    return mean, stderr


def _unmet(
    mean: np.ndarray, stderr: np.ndarray, left: np.ndarray, right: np.ndarray, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of entries that were 0 in every network: the next network may give another value.

    They get the largest entry times a share that was not met (``estimate.share_stderr``). Entries
    of an input of zeros are left: without biases they are 0 whatever the weights. So are equal
    values other than 0, which do not depend on the weights (the NTK of a linear model).
    """
    rows, columns = (np.abs(x).reshape(len(x), -1).max(axis=1) > 0 for x in (left, right))
    unmet = (mean == 0) & (stderr == 0) & np.outer(rows, columns)
    return mean, np.where(unmet, np.abs(mean).max() * share_stderr(0.0, samples), stderr)


def _outputs(module: Any, x: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return _matrix(module(_tensor(module, x)), x).double().numpy()


def _jacobian(module: Any, x: np.ndarray) -> np.ndarray:
    """(m, k, parameters) derivative of the outputs, by torch.func."""
    import torch

    params = {k: p.detach() for k, p in module.named_parameters()}
    data = _tensor(module, x)

    def run(values: dict[str, Any]) -> Any:
        return _matrix(torch.func.functional_call(module, values, (data,)), x)

    parts = torch.func.jacrev(run)(params)
    flat = [p.detach().double().flatten(start_dim=2) for p in parts.values()]
    return torch.cat(flat, dim=2).numpy()


def _tensor(module: Any, x: np.ndarray) -> Any:
    import torch

    parameter = next(module.parameters(), None)
    return torch.as_tensor(x, dtype=torch.float64 if parameter is None else parameter.dtype)


def _matrix(value: Any, x: np.ndarray) -> Any:
    import torch

    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    if not isinstance(value, torch.Tensor) or value.ndim not in (1, 2) or len(value) != len(x):
        raise InputError(
            f"module output {shape}", f"a tensor ({len(x)},) or ({len(x)}, k)", "flatten the output"
        )
    return value.reshape(len(x), -1)


def _inputs(x: np.ndarray) -> np.ndarray:
    try:
        array = np.array(x, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim < 2 or 0 in array.shape or not np.isfinite(array).all():
        raise InputError(
            f"X of shape {array.shape}", "finite inputs (m, ...)", "one entry of axis 0 an input"
        )
    return array


def _check_samples(samples: int) -> None:
    Integer(2, remedy="pass for example samples=1000")("samples", samples)
