"""A torch module built once, tested, and evaluated with the parameters of many networks at once.

The module that the factory returns is a skeleton: ``torch.func.functional_call`` replaces its
parameters, and ``torch.func.vmap`` does so for many networks in one pass. What vmap has no rule for
(``nn.LSTM``, say) is evaluated one network after the other, which is slower and is said.

A function of Boolean inputs must be one: f(x) may depend on x and on the parameters only. So
modules are refused that mix inputs with each other (BatchNorm in training mode), that draw numbers
while they are evaluated (Dropout in training mode), or that keep a state.
"""

from __future__ import annotations

import copy
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from simprior.checks import shown, unknown
from simprior.errors import InputError, SimpriorError, check_fits, is_shortage, shortage
from simprior.modules.architecture import Last, ParameterTensor
from simprior.modules.laws import tensors_of, weights_of_own_classes
from simprior.modules.own import own_tensors

_ELEMENTS = 1 << 22  # of the largest tensor of a block of networks
MOST_AT_ONCE = 64
_TRIED, _TOGETHER, _ALONE = 8, 32, 4  # networks, inputs together and alone, of _check_alone
_LOG = logging.getLogger("simprior")
_OWN_WEIGHT = (
    "%s: parameter %s of shape %s is drawn as a weight of fan-in %d, the product of all axes but "
    "the first (for x @ W with W of shape (in, out) keep W transposed, or use nn.Linear)"
)
Factory = Callable[..., Any]
_Law = tuple[float, float, Mapping[str, str], bool]


class _Tap(nn.Module):
    """Stands where the last linear layer was: keeps what that would read and gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Tensor | None = None

    def forward(self, h: Tensor) -> Tensor:
        self.read = h
        return torch.zeros_like(h[..., :1])


@dataclass(frozen=True)
class Cost:
    """What one network costs to evaluate on all ``inputs`` (a number): multiply-adds of matrix
    products, and elements written by all layers together and by the largest one."""

    inputs: int
    products: float
    elements: float
    largest: float


@dataclass(frozen=True)
class Built:
    """A tested skeleton on m inputs.

    Attributes
    ----------
    make : callable
        Gives a new module; called under a seed of torch's where it draws its own parameters.
    skeleton, body : torch.nn.Module
        The module, and a copy that ends before its last linear layer (None if it has none).
    tensors : tuple of ParameterTensor
        Law and layout of the parameters.
    last : Last or None
        The last linear layer.
    stacked : bool
        Whether vmap can evaluate it.
    cost : Cost
        Counted on one network; the same on every machine.
    """

    make: Factory
    skeleton: nn.Module
    body: nn.Module | None
    tensors: tuple[ParameterTensor, ...]
    last: Last | None
    stacked: bool
    cost: Cost

    @property
    def drawn_whole(self) -> bool:
        """Whether only the module itself can draw its parameters: one by one, slowly."""
        return any(t.deviation is None for t in self.tensors)

    def at_once(self, heads: int) -> int:
        """Networks evaluated together with ``heads`` last layers each: a power of 2 that depends
        on the module, m and heads only, since sums may be rounded otherwise in blocks of another
        size.

        Raises :class:`simprior.errors.MemoryShortage` if one network does not fit in memory.
        """
        fan_in = 0 if self.last is None else self.last.fan_in
        last = heads * max(self.cost.inputs, fan_in + 1)
        parameters = sum(t.size for t in self.tensors)
        largest = max(1.0, self.cost.largest, last, parameters / 4.0)
        need = 4.0 * (3.0 * parameters + 4.0 * self.cost.largest + 2.0 * last)
        what = f"a module of {parameters:,} parameters on {self.cost.inputs:,} inputs"
        check_fits(what, need, "take a smaller one, fewer heads or fewer inputs")
        most = max(1, min(MOST_AT_ONCE, int(_ELEMENTS / largest)))
        return 1 << (most.bit_length() - 1)

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m) outputs of B networks with stacked ``parameters`` on inputs ``x`` (m, d), or
        (B, m, d): each network on inputs of its own."""
        skeleton, m = self._like(self.skeleton, x), x.shape[-2]
        if x.ndim == 2:
            return self._each(lambda one: _call(skeleton, one, x).reshape(m), parameters)
        return self._each(lambda one, own: _call(skeleton, one, own).reshape(m), parameters, x)

    def outputs_of_one(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(m,) outputs of one network, with parameters that are not stacked, on ``x`` (m, d)."""
        return _call(self._like(self.skeleton, x), parameters, x).reshape(len(x))

    def features(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m, k): what the last linear layer reads; its own parameters are not used."""
        assert self.body is not None and self.last is not None
        body = self._like(self.body, x)
        tap = next(part for part in body.modules() if isinstance(part, _Tap))
        used = dict(body.named_parameters())
        k = self.last.fan_in

        def read(one: Mapping[str, Tensor]) -> Tensor:
            _call(body, one, x)
            assert tap.read is not None
            found, tap.read = tap.read, None
            return found.reshape(len(x), k)

        return self._each(read, {name: t for name, t in parameters.items() if name in used})

    def _each(
        self, function: Callable[..., Tensor], parameters: Mapping[str, Tensor], *own: Tensor
    ) -> Tensor:
        """``function`` of the parameters of each network, and of its entries of ``own``."""
        stacked = dict(parameters)
        if self.stacked:
            return vmap(function)(stacked, *own)
        each = zip(*(t.unbind() for t in (*stacked.values(), *own)), strict=True)
        rows = [
            function(dict(zip(stacked, one, strict=False)), *one[len(stacked) :]) for one in each
        ]
        return torch.stack(rows)

    @cached_property
    def _copies(self) -> dict[Any, nn.Module]:
        return {}

    def _like(self, module: nn.Module, x: Tensor) -> nn.Module:
        """``module`` with buffers of the device and dtype of ``x``."""
        key = (id(module), x.device, x.dtype)
        if key not in self._copies:
            self._copies[key] = copy.deepcopy(module).to(x.device, x.dtype)
        return self._copies[key]


def _call(module: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return functional_call(module, dict(parameters), (x,))


def build(
    factory: Factory,
    name: str,
    options: Mapping[str, Any],
    inputs: np.ndarray,
    law: _Law,
    init: str,
) -> Built:
    """Make a module by ``factory`` and test it on the (m, d) ``inputs``.

    ``law`` is what :func:`simprior.modules.laws.tensors_of` takes; with ``init="own"`` it is not
    used.

    Raises
    ------
    InputError
        The factory does not give a module, a parameter's law is not known, or the module is no
        function of each input alone.
    """
    make = _maker(factory, name, options, inputs.shape[1])
    with evaluation():
        module = make()
        _check_kinds(module)
        tensors = tensors_of(module, *law) if init == "simprior" else own_tensors(make)
        if not tensors:
            raise InputError(f"make={name}", "a module with parameters", "nothing in it is random")
        _check_repeatable(make, module, name)
        x = torch.from_numpy(inputs).to(torch.float32)
        with users_code(name, x):
            _check_function(module, inputs, name)
            _check_alone(module, tensors, inputs, name)
            last = _last_of(module, tensors, x)
            body = _without_last(module, last) if last is not None else None
            stacked = _can_stack(module, tensors, x, name)
    for key, shape, fan_in in weights_of_own_classes(module, tensors):
        _LOG.info(_OWN_WEIGHT, name, key, shape, fan_in)
    with users_code(name, x):
        cost = _cost(module, tensors, last, x)
    return Built(make, module, body, tensors, last, stacked, cost)


@contextmanager
def evaluation() -> Iterator[None]:
    """How modules are evaluated: without gradients, float32 products in float32 (no TF32), one
    thread, so that sums are rounded alike everywhere, and torch's random numbers as they were.

    Attention is computed by plain products: torch's fused forms have no rule for vmap, which says
    so in a warning and is slow. What a module prints goes to stderr: stdout is for results.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            sdpa_kernel([SDPBackend.MATH]),
            warnings.catch_warnings(),
            redirect_stdout(sys.stderr),
        ):
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)


@contextmanager
def users_code(name: str, x: Tensor) -> Iterator[None]:
    """What a user's module raises when it is evaluated on ``x``, as an :class:`InputError`; what it
    prints goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (SimpriorError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, and what a module makes of its own
        if is_shortage(error):
            raise shortage(error) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"make={name} on inputs of shape {tuple(x.shape)}",
            f"a module that maps (m, {x.shape[1]}) to (m,) or (m, 1) (it raised {reason})",
            "call it once yourself on such a tensor",
        ) from error


def _maker(factory: Factory, name: str, options: Mapping[str, Any], d: int) -> Factory:
    """``factory`` with its options, and with n = d if it takes that; its errors on one line."""
    chosen = dict(options)
    try:
        names = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        names = {}  # type: ignore[assignment]
    if "n" in names:
        chosen.setdefault("n", d)
    known = [key for key, one in names.items() if one.kind is not one.VAR_KEYWORD]
    if names and len(known) == len(names):
        for key, value in chosen.items():
            if key not in known:
                what = f"option {key}={shown(value)} of make={name}"
                raise unknown(what, str(key), known, "leave it out")

    def make() -> nn.Module:
        try:
            module = factory(**chosen)
        except (SimpriorError, MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, and what a factory makes of its own
            if is_shortage(error):
                raise shortage(error) from error
            raise InputError(
                f"make={name}",
                f"a function that makes a module (it raised {type(error).__name__}: {error})",
                "call it once yourself, with the same options",
            ) from error
        if not isinstance(module, nn.Module):
            what = f"make={name}, which returned {shown(module)}"
            raise InputError(what, "a torch.nn.Module", "return the module")
        lazy = [key for key, p in module.named_parameters() if nn.parameter.is_lazy(p)]
        if lazy:
            what = f"make={name}, whose parameter {lazy[0]!r} has no shape yet"
            expected = "a module whose layers know their sizes"
            raise InputError(what, expected, "name the sizes, or call it once in the factory")
        empty = [key for key, p in module.named_parameters() if not p.numel()]
        if empty:
            what = f"make={name}, whose parameter {empty[0]!r} is empty"
            raise InputError(what, "at least one unit in every layer", "make the layer wider")
        return module.requires_grad_(False)

    return make


def _check_kinds(module: nn.Module) -> None:
    """Refuse the usual layers that are no functions of one input, by their names."""
    for name, part in module.named_modules():
        kind = type(part).__name__
        batch = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if batch and (part.training or part.running_mean is None):
            raise InputError(
                f"{kind} {name!r} in training mode",
                "f(x) that does not depend on the other inputs",
                "use LayerNorm, or call .eval() in the factory (its running statistics)",
            )
        drops = isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
        inner = isinstance(part, nn.RNNBase | nn.MultiheadAttention) and part.dropout > 0
        if (drops or inner) and part.training:
            raise InputError(
                f"{kind} {name!r} with dropout in training mode",
                "a module that gives the same output each time",
                "set its dropout to 0, or call .eval() in the factory",
            )


def _check_repeatable(make: Factory, module: nn.Module, name: str) -> None:
    """Refuse factories whose modules differ in more than their parameters."""
    other = make()
    shapes = [{key: t.shape for key, t in one.named_parameters()} for one in (module, other)]
    if shapes[0] != shapes[1]:
        what = f"make={name}, whose second module has other parameters"
        raise InputError(what, "the same architecture each time", "leave chance to the parameters")
    buffers = dict(other.named_buffers())
    for key, value in module.named_buffers():
        if not torch.equal(value, buffers[key]):
            raise InputError(
                f"buffer {key!r} of make={name}, which is drawn at random",
                "buffers that are the same each time",
                "make it an nn.Parameter, so that it has a law",
            )


def _check_function(module: nn.Module, inputs: np.ndarray, name: str) -> None:
    """Refuse modules of a wrong output, with a state, or whose f(x) depends on other inputs."""
    module, x, tolerance = _precise(module, inputs)
    before = {key: value.clone() for key, value in module.named_buffers()}
    z = _output(module, x, name)
    for key, value in module.named_buffers():
        if not torch.equal(value, before[key]):
            what = f"make={name}, whose buffer {key!r} changes when it is evaluated"
            raise InputError(what, "a module without a state", "call .eval() in the factory")
    if not torch.equal(z, _output(module, x, name)):
        raise InputError(
            f"make={name}, which gives another output the second time",
            "a function of x and the parameters alone",
            "take out what is random or kept from call to call, or call .eval() in the factory",
        )
    order = torch.arange(len(x)).flip(0)
    parts = [order, torch.arange(0, len(x), 2), torch.tensor([len(x) - 1])]
    scale = float(z.abs().max()) or 1.0
    for part in parts:
        gap = (_output(module, x[part], name) - z[part]).abs().max()
        if not float(gap) <= tolerance * scale:
            raise _mixed(name)


def _check_alone(
    module: nn.Module, tensors: tuple[ParameterTensor, ...], inputs: np.ndarray, name: str
) -> None:
    """Refuse modules whose f(x) depends on other inputs with some parameters only, as that of
    ``if h.sum() > 0`` does: inputs alone, of several networks, must give what they give together.
    """
    module, x, tolerance = _precise(module, inputs)
    x = x[:: -(-len(x) // _TOGETHER)]
    every = -(-len(x) // _ALONE)
    for values in zip(*some_parameters(tensors, _TRIED).values(), strict=True):
        one = {t.name: value.to(x.dtype) for t, value in zip(tensors, values, strict=True)}
        z = _call(module, one, x).reshape(-1)
        alone = torch.cat([_call(module, one, row[None]).reshape(-1) for row in x[::every]])
        scale = float(z.abs().max()) or 1.0
        if not torch.allclose(alone, z[::every], 0.0, tolerance * scale, equal_nan=True):
            raise _mixed(name)


def _mixed(name: str) -> InputError:
    return InputError(
        f"make={name}, whose f(x) depends on the other inputs of a batch",
        "a function of one input",
        "take out what mixes the rows of x (normalisation over the batch, say)",
    )


def _precise(module: nn.Module, inputs: np.ndarray) -> tuple[nn.Module, Tensor, float]:
    """A copy in float64, where a tolerance can be strict; float32 where the module insists."""
    x = torch.from_numpy(inputs)
    double = copy.deepcopy(module).double()
    try:
        double(x)
    except Exception:  # what it raises in float32 as well is said there
        return copy.deepcopy(module).float(), x.float(), 1e-3
    return copy.deepcopy(module).double(), x, 1e-7


def _output(module: nn.Module, x: Tensor, name: str) -> Tensor:
    """(m,) outputs, their shape and values checked."""
    with users_code(name, x):
        z = module(x)
    shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
    if shape in ((len(x),), (len(x), 1)) and (z.is_complex() or z.dtype is torch.bool):
        what = f"make={name} with outputs of dtype {z.dtype}"
        raise InputError(what, "real numbers, whose sign is the function", "return the number z")
    if shape not in ((len(x),), (len(x), 1)):
        raise InputError(
            f"make={name} with output {shape} for {len(x)} inputs",
            f"shape ({len(x)},) or ({len(x)}, 1)",
            "give the module one output an input",
        )
    if not bool(torch.isfinite(z).all()):
        what = f"make={name}, whose output is NaN or infinite"
        raise InputError(what, "finite numbers", "check it on these inputs")
    return z.reshape(-1)


def some_parameters(tensors: tuple[ParameterTensor, ...], count: int) -> dict[str, Tensor]:
    """Stacked parameters of ``count`` networks for tests: any numbers of a sensible size."""
    numbers = torch.Generator().manual_seed(0)
    return {
        t.name: torch.randn((count, *t.shape), generator=numbers) / max(1.0, t.size / 4.0) ** 0.25
        for t in tensors
    }


def _last_of(module: nn.Module, tensors: tuple[ParameterTensor, ...], x: Tensor) -> Last | None:
    """The linear layer with one output whose values are those of the module, called once."""
    names = {t.name for t in tensors}
    for name, part in module.named_modules():
        if not isinstance(part, nn.Linear) or part.out_features != 1 or not name:
            continue
        weight, bias = f"{name}.weight", f"{name}.bias"
        own = {weight} if part.bias is None else {weight, bias}
        if not own < names or _shared(module, part.weight) or _shared(module, part.bias):
            continue
        if all(_gives(module, part, tensors, x, i) for i in range(2)):
            return Last(weight, None if part.bias is None else bias, part.in_features)
    return None


def _shared(module: nn.Module, tensor: Tensor | None) -> bool:
    """Whether a parameter is used under several names."""
    all_names = module.named_parameters(remove_duplicate=False)
    return sum(other is tensor for _, other in all_names) > 1


def _gives(
    module: nn.Module, part: nn.Linear, tensors: tuple[ParameterTensor, ...], x: Tensor, index: int
) -> bool:
    """Whether the output of ``part`` is that of ``module``, with some parameters."""
    seen: list[Tensor] = []
    parameters = {k: v[index] for k, v in some_parameters(tensors, index + 1).items()}
    hook = part.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        z = _call(module, parameters, x)
    finally:
        hook.remove()
    return len(seen) == 1 and seen[0].numel() == len(x) and torch.equal(seen[0].reshape(z.shape), z)


def _without_last(module: nn.Module, last: Last) -> nn.Module:
    """A copy with a :class:`_Tap` where the last linear layer is."""
    path = last.weight.rpartition(".")[0]
    body = copy.deepcopy(module)
    parent, _, name = path.rpartition(".")
    setattr(body.get_submodule(parent), name, _Tap())
    return body


def _can_stack(
    module: nn.Module, tensors: tuple[ParameterTensor, ...], x: Tensor, name: str
) -> bool:
    """Whether vmap evaluates the module, with the values of one network after the other."""
    part, parameters = x[:8], some_parameters(tensors, 2)
    one_by_one = torch.stack(
        [_call(module, {k: v[i] for k, v in parameters.items()}, part) for i in range(2)]
    )
    try:
        together = vmap(lambda one: _call(module, one, part))(parameters)
    except Exception as error:  # whatever a user's module does that vmap cannot follow
        reason = " ".join(str(error).split())[:120]
        _LOG.info("%s is evaluated one network at a time, slowly (vmap: %s)", name, reason)
        return False
    scale = float(one_by_one.abs().max()) or 1.0
    same = bool((together - one_by_one).abs().max() <= 1e-3 * scale)
    if not same:
        _LOG.info("%s is evaluated one network at a time, slowly (vmap: other values)", name)
    return same


def _cost(
    module: nn.Module, tensors: tuple[ParameterTensor, ...], last: Last | None, x: Tensor
) -> Cost:
    """Counted, not timed: multiply-adds by the shapes of products, elements by those of outputs."""
    from torch.utils.flop_counter import FlopCounterMode

    sizes = [float(x.numel())]

    def note(_: Any, __: Any, output: Any) -> None:
        found = output if isinstance(output, tuple | list) else (output,)
        sizes.extend(float(part.numel()) for part in found if isinstance(part, Tensor))

    module = copy.deepcopy(module).to(x.dtype)  # the factory may have made it of another one
    parts = [part for part in module.modules() if not list(part.children())]
    hooks = [part.register_forward_hook(note) for part in parts]
    counter = FlopCounterMode(display=False)
    few = x[: max(1, min(len(x), 128))]
    try:
        with evaluation(), counter:
            module(few)
    finally:
        for hook in hooks:
            hook.remove()
    factor = len(x) / len(few)
    products = counter.get_total_flops() / 2.0 * factor
    if last is not None:
        products -= len(x) * last.fan_in
    return Cost(len(x), max(0.0, products), sum(sizes) * factor, max(sizes) * factor)
