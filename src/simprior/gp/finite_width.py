"""Networks of finite width: kernels by Monte Carlo, and ln P(f) with the last layer integrated out.

**Kernels.** :func:`empirical_nngp` and :func:`empirical_ntk` are the sampled twins of
:mod:`simprior.gp.kernels`. Both average over independent networks and give the standard error of
each entry. A ``Network`` is drawn at its own widths; any torch module (convolutional, with skips)
comes as a function that builds one. What the average estimates is the output covariance at that
width. For one hidden layer it equals the infinite-width NNGP kernel at every width; for L >= 2 it
differs by O(1/width), and the average NTK by O(1/width) for L >= 2 as well (it is exact for one
hidden layer).

**ln P(f).** :func:`conditional_log_prior` is conditional Monte Carlo. Given the hidden layers, the
output z = B v, v ~ N(0, I), B = [sigma_w H/sqrt(width), sigma_b 1], is Gaussian with the random
covariance B B^T, and ln P(f | hidden layers) is an orthant probability, in weight space when the
width is below m. P(f) is its mean over random hidden layers. One draw of the hidden layers is worth
as many samples of the network as 1/P(f), while ln P(f | hidden) varies by less than about 2 nats
between draws (wide networks, common functions). Beyond that the mean is carried by draws that are
never met, and the result says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import NETWORK, Array, Choice, Integer, Maybe, Whole, checked, shown
from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import check_draws, factor_of_features, make_event
from simprior.gp.tilted import K_LIMIT, summarise, tilted
from simprior.network.activations import has_gradient
from simprior.network.callables import array_function, differentiable, tensor_function
from simprior.network.density import mask_weights
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb, share_stderr

if TYPE_CHECKING:
    import torch

Source = Network | Callable[[], Any]
MAX_SPREAD = 2.0  # of ln P(f | hidden) in nats, up to which a mean is trusted
ROUNDING = 1e-12  # spread in nats that is none


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
    return _empirical(make_network, X1, X2, samples, seed, _outputs, lambda f, g: f @ g.T)


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
    products = partial(np.einsum, "ikp,jkp->ij")
    return _empirical(make_network, X1, X2, samples, seed, _jacobian, products)


def _empirical(
    source: Source,
    X1: np.ndarray,
    X2: np.ndarray | None,
    samples: int,
    seed: int,
    features: Callable[[Any, np.ndarray], np.ndarray],
    products: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over networks of the products of their features, (m, k, ...), summed
    over all but the inputs and averaged over the k outputs."""
    _check_columns(source, X1, X2)
    left, right = _inputs(X1), None if X2 is None else _inputs(X2)

    def one(module: Any) -> np.ndarray:
        f = features(module, left)
        g = f if right is None else features(module, right)
        return products(f, g) / f.shape[1]

    mean, stderr = _average(source, one, samples, seed, right is None)
    return mean, _with_unmet(mean, stderr, left, left if right is None else right, samples)


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
    ``x @ W.T * sigma_w / sqrt(fan_in) + sigma_b * b``, masked weights being 0. Maps (m, d) to
    (m, 1).
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
            pairs = zip(self.weights, network.densities, strict=True)
            self.kept = [None if p == 1.0 else (torch.rand_like(w) < p) for w, p in pairs]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = phi(x) if layer else x
                kept = self.kept[layer]
                weights = w if kept is None else w * kept
                x = x @ weights.T * network.weight_scales[layer] + network.sigma_bs[layer] * b
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

    rng.check_seed(seed)
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
            number = int.from_bytes(rng.derive(seed, "empirical-kernel", index)[:8], "little")
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


def _with_unmet(
    mean: np.ndarray, stderr: np.ndarray, left: np.ndarray, right: np.ndarray, samples: int
) -> np.ndarray:
    """``stderr``, and an error of entries that were 0 in every network: the next may differ.

    They get the largest entry times a share that was not met (``estimate.share_stderr``). Entries
    of an input of zeros are left: without biases they are 0 whatever the weights. So are equal
    values other than 0, which do not depend on the weights (the NTK of a linear model).
    """
    rows, columns = (np.abs(x).reshape(len(x), -1).max(axis=1) > 0 for x in (left, right))
    unmet = (mean == 0) & (stderr == 0) & np.outer(rows, columns)
    return np.where(unmet, np.abs(mean).max() * share_stderr(0.0, samples), stderr)


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


@checked(network=NETWORK)
def conditional_log_prior(
    network: Network,
    functions: Any,
    draws: int = 200,
    seed: int = 0,
    *,
    inner_draws: int = 256,
) -> list[LogProb]:
    """ln P(f) of a finite network by averaging P(f | hidden layers) over ``draws`` hidden layers.

    Parameters
    ----------
    network : Network
        At least one hidden layer; Gaussian weights (the last layer must be Gaussian).
    functions : array, str or sequence
        As in :func:`simprior.gp.orthant.log_prior`.
    draws : int
        Random hidden layers, the same for all functions.
    inner_draws : int
        Draws of the tilted estimator for each of them.

    Returns
    -------
    list of LogProb
        Diagnostics: ``spread``, the standard deviation in nats of ln P(f | hidden) where it is
        finite; ``impossible``, the share of hidden layers under which f cannot be realised;
        ``pareto_k``; ``reliable``, False if the spread exceeds 2 nats, k-hat 0.7, or fewer than
        10 effective draws carry the mean, or all hidden layers gave the same P(f | hidden) and P(f)
        is smaller than a share that could have been missed.

    Raises
    ------
    InputError
        No hidden layer, or uniform weights.
    """
    from simprior.boolean.truthtable import input_matrix, parse_functions

    began = perf_counter()
    check_draws(draws)
    _check_network(network)
    X = input_matrix(network)
    tables = parse_functions(functions, len(X), None if network.inputs is None else 0)
    logs = np.empty((draws, len(tables)))
    for k in range(draws):
        features = last_features(network, X, rng.generator(seed, "hidden-layers", k))
        logs[k] = given_hidden(features, tables, inner_draws, rng.derive(seed, "inner", k))
    seconds = (perf_counter() - began) / max(len(tables), 1)
    return [combine(column, seconds) for column in logs.T]


def last_features(network: Network, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """B (m, width + 1), the random features with z = B v: one draw of the hidden layers."""
    phi = array_function(network)
    h = X
    for layer, width in enumerate(network.hidden):
        fan_in = network.fan_ins[layer]
        w = generator.standard_normal((fan_in, width)) * network.sigma_ws[layer] / math.sqrt(fan_in)
        b = generator.standard_normal(width) * network.sigma_bs[layer]
        w = mask_weights(w, network.densities[layer], network.rescale, generator)
        h = phi(h @ w + b)
    scaled = h * (network.sigma_ws[-1] / math.sqrt(network.fan_ins[-1]))
    ones = np.ones(h.shape[1])  # the mask of the last layer is drawn with the hidden layers
    scaled = scaled * mask_weights(ones, network.densities[-1], network.rescale, generator)
    return np.hstack([scaled, np.full((len(X), 1), network.sigma_bs[-1])])


def given_hidden(
    features: np.ndarray, tables: np.ndarray, draws: int, entropy: bytes
) -> np.ndarray:
    """(F,) values ln P(f | hidden layers), unbiased for P, of (F, m) tables.

    ``features`` is what :func:`last_features` drew; ``draws`` and ``entropy`` are the number of
    tilted draws and their seed.
    """
    rows, first, place = np.unique(features, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    alive = rows.any(1)
    matrix = factor_of_features(rows[alive]) if alive.any() else None
    covariance = None if matrix is None else matrix.A @ matrix.A.T
    seed = int.from_bytes(entropy[:7], "little")
    out = np.full(len(tables), -math.inf)
    for i, bits in enumerate(tables):
        kept = bits[first]
        if (kept[place] != bits).any() or kept[~alive].any():
            continue
        if matrix is None or covariance is None:  # all outputs are exactly 0, as the function is
            out[i] = 0.0
            continue
        event = make_event(kept[alive], covariance, matrix)
        out[i] = tilted(event, draws=draws, seed=seed).value
    return out


def combine(logs: np.ndarray, seconds: float) -> LogProb:
    """ln of the mean of exp(``logs``), one a draw of the hidden layers, and whether to trust it.

    Diagnostics as of :func:`conditional_log_prior`.
    """
    finite = logs[np.isfinite(logs)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    summary = summarise(logs, np.zeros(len(logs), np.intp), 1)
    stderr = summary.stderr
    if len(finite) == len(logs) and spread < ROUNDING:
        stderr = max(stderr, _unmet_error(summary.value, len(logs)))
    enough = summary.ess >= 10.0 and stderr < 1.0
    tail = summary.pareto_k <= K_LIMIT or spread < ROUNDING  # nan: too few draws to tell
    trusted = spread <= MAX_SPREAD and enough and tail
    diagnostics = {
        "spread": spread,
        "impossible": 1.0 - len(finite) / len(logs),
        "pareto_k": summary.pareto_k,
        "draws": len(logs),
        "reliable": bool(trusted),
        "converged": bool(trusted),
        "seconds": seconds,
    }
    return LogProb(summary.value, stderr, summary.ess, "conditional", diagnostics)


def _unmet_error(value: float, draws: int) -> float:
    """Standard error of ln P where all hidden layers gave the same P: others may not have been met.

    A share of about 1 / draws of them (:func:`simprior.numerics.estimate.share_stderr`), with P(f |
    hidden) between 0 and 1.
    """
    away = max(1.0, math.expm1(min(-value, 700.0)))
    return away * float(share_stderr(0.0, draws))


def _check_network(network: Network) -> None:
    if network.depth == 0:
        raise InputError(
            "hidden=()", "at least one hidden layer", "use log_prior on the kernel: it is exact"
        )
    law = Choice(("gaussian",), remedy="the last layer must be Gaussian", expected="gaussian")
    law("weight_dist", network.weight_dist)
