"""Activations as functions of arrays and of tensors: sets of operations, and users' callables.

A formula of :mod:`simprior.network.activations` takes a set of elementwise functions as its first
argument and so is written once: ``ops.exp`` is ``numpy.exp`` in :func:`numpy_ops` and
``torch.exp`` in :func:`torch_ops`. Only the functions that such formulas need are there.

A user may give any elementwise function as an activation. This is the one place that imports, calls
and checks it. One of torch tensors gets tensors, and torch can differentiate it. One of numpy
arrays is enough for sampling and kernels; it has no gradient, so whatever trains refuses it at
once. Both may be given by import path.

Libraries are imported on the first call.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from simprior.errors import InputError, NumericalError, SimpriorError
from simprior.network.activations import ACTIVATIONS, Ops, WithActivation, entry_of

if TYPE_CHECKING:
    import numpy as np
    import torch


@cache
def numpy_ops() -> Ops:
    """The functions for numpy arrays."""
    import numpy as np
    from scipy.special import ndtr

    return SimpleNamespace(
        exp=np.exp,
        sin=np.sin,
        cos=np.cos,
        sqrt=np.sqrt,
        arctan2=np.arctan2,
        where=np.where,
        normal_cdf=ndtr,
        ones_like=np.ones_like,
        not_below_0=lambda x: np.maximum(x, 0.0),
        is_positive=lambda x: (x > 0).astype(x.dtype),
    )


@cache
def torch_ops() -> Ops:
    """The functions for torch tensors; the gradient of ``sqrt`` at 0 is 0."""
    import torch

    def sqrt(x: torch.Tensor) -> torch.Tensor:
        some = x > 0
        return torch.where(some, torch.sqrt(torch.where(some, x, 1.0)), 0.0)

    return SimpleNamespace(
        exp=torch.exp,
        sin=torch.sin,
        cos=torch.cos,
        sqrt=sqrt,
        arctan2=torch.atan2,
        where=torch.where,
        normal_cdf=torch.special.ndtr,
        ones_like=torch.ones_like,
        not_below_0=lambda x: x.clamp_min(0.0),
        is_positive=lambda x: (x > 0).to(x.dtype),
    )


Function = Callable[[Any], Any]
PROBE = (-1.5, -0.25, 0.0, 0.5, 2.0)


def array_function(network: WithActivation) -> Function:
    """The activation on numpy arrays, of the dtype of its argument for built-in names.

    A user's callable gets and gives float64 arrays, and may be written for arrays or for tensors.

    Raises
    ------
    InputError
        The callable takes neither, changes the shape or gives values that are not finite.
    """
    entry = entry_of(network)
    if entry is not None:
        return entry.array
    user = _user(network)
    for function in (_through_numpy(user), _through_torch(user)):
        if _works(function):
            return function
    raise InputError(
        f"activation={network.activation_name!r}",
        "an elementwise function of torch tensors or numpy arrays with finite values",
        "check it on torch.linspace(-2, 2, 5, dtype=torch.float64)",
    )


def array_slope(network: WithActivation, purpose: str) -> Function:
    """The derivative of the activation on float64 arrays.

    Raises
    ------
    InputError
        torch cannot differentiate the callable; the message says that ``purpose`` needs it.
    """
    import numpy as np
    import torch

    entry = entry_of(network)
    if entry is not None and entry.derivatives is not None:
        derive, function = entry.derivatives, entry.array
        return lambda u: derive(numpy_ops(), u, function(u))[0]
    call = differentiable(network, purpose)

    def slope(u: np.ndarray) -> np.ndarray:
        with torch.enable_grad():
            x = torch.tensor(u, dtype=torch.float64, requires_grad=True)
            (grad,) = torch.autograd.grad(call(x).sum(), x)
        return np.asarray(grad.numpy())

    if not _works(slope):
        raise _no_gradient(network.activation_name, purpose)
    return slope


def tensor_function(network: WithActivation) -> Function:
    """The activation on torch tensors; every result of a user's callable is checked.

    A callable that does not take tensors is tried on numpy arrays, whose result has no gradient.

    Raises
    ------
    InputError, NumericalError
        When it is called: the callable raised something, gave no real numbers, or another shape.
    """
    entry = entry_of(network)
    return entry.tensor if entry is not None else _checked(_user(network), network.activation_name)


def differentiable(network: WithActivation, purpose: str) -> Function:
    """The activation on torch tensors, for what needs its gradient.

    Raises
    ------
    InputError
        At once: the callable does not work or has no gradient; the message says that ``purpose``
        needs one.
    """
    import torch

    entry = entry_of(network)
    if entry is not None:
        return entry.tensor
    user, name = _user(network), network.activation_name
    probe = torch.tensor([PROBE, PROBE], dtype=torch.float64, requires_grad=True)
    problem = None
    try:
        with torch.enable_grad():
            value = user(probe)
    except (SimpriorError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, and what a module makes of its own
        value, problem = None, error
    good = isinstance(value, torch.Tensor) and value.shape == probe.shape
    if good and not value.is_complex() and torch.isfinite(value).all():
        if value.requires_grad:
            return _checked(user, name)
    elif problem is not None and not _works(_through_numpy(user)):
        raise InputError(
            f"activation={name}",
            f"a function that can be called (it raised {type(problem).__name__}: {problem})",
            "vectorise it, for example with torch operations",
        ) from problem
    elif not _works(_through_numpy(user)):
        raise InputError(
            f"activation={name}",
            "an elementwise function of torch tensors with finite values",
            "check it on torch.linspace(-2, 2, 5)",
        )
    raise _no_gradient(name, purpose)


def _no_gradient(name: str, purpose: str) -> InputError:
    return InputError(
        f"activation={name!r}",
        f"a function that torch can differentiate, for {purpose}",
        "write it with torch operations",
    )


def tensor_derivatives(
    network: WithActivation, purpose: str
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """(u, f(u)) -> (f'(u), f''(u) or None where it is 0), on tensors; kinks as torch has them.

    Raises :class:`InputError` as :func:`differentiable`.
    """
    entry = entry_of(network)
    if entry is not None and entry.derivatives is not None:
        derive = entry.derivatives
        return lambda u, h: derive(torch_ops(), u, h)
    call = differentiable(network, purpose)
    return lambda u, _: _by_autograd(call, u)


def _by_autograd(call: Function, u: Any) -> tuple[Any, Any]:
    import torch

    with torch.enable_grad():
        leaf = u.detach().requires_grad_()
        (first,) = torch.autograd.grad(call(leaf).sum(), leaf, create_graph=True)
        if not first.requires_grad:
            return first, None
        (second,) = torch.autograd.grad(first.sum(), leaf, allow_unused=True)
    return first.detach(), second


def _user(network: WithActivation) -> Function:
    user = network.activation_callable()
    assert user is not None, network.activation
    return user


def _works(function: Function) -> bool:
    """Whether an array function keeps the shape of ``PROBE`` and gives finite values."""
    import numpy as np

    try:
        with np.errstate(all="ignore"):
            value = function(np.array(PROBE))
    except (Exception, SystemExit):  # whatever a user's function raises
        return False
    return bool(value.shape == (len(PROBE),) and np.isfinite(value).all())


def _through_numpy(user: Function) -> Function:
    import numpy as np

    return lambda u: np.asarray(user(u), dtype=np.float64)


def _through_torch(user: Function) -> Function:
    import numpy as np
    import torch

    def function(u: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            value = user(torch.tensor(u, dtype=torch.float64))
        if not isinstance(value, torch.Tensor):
            raise TypeError("not a torch function")
        return np.asarray(value.to(torch.float64).numpy())

    return function


def _checked(user: Function, name: str) -> Function:
    """``user`` on tensors or, where it takes none, on arrays; its results checked."""
    import torch

    from simprior.checks import real_array

    def call(z: torch.Tensor) -> torch.Tensor:
        try:
            out = user(z)
        except (Exception, SystemExit) as error:
            if z.requires_grad:
                raise _cannot_be_called(name, error) from error
            out = _call_with_numpy(user, z, name)
        if not isinstance(out, torch.Tensor) or out.is_complex():
            out = torch.from_numpy(real_array(f"output of activation {name}", out))
        if out.shape != z.shape:
            raise NumericalError(
                f"activation {name} gave shape {tuple(out.shape)} for "
                f"{tuple(z.shape)}: expected an elementwise function; vectorise it"
            )
        return out.to(z.device, z.dtype)

    return call


def _call_with_numpy(user: Function, z: Any, name: str) -> Any:
    import numpy as np

    try:
        return np.asarray(user(z.cpu().numpy()), dtype=np.float64)
    except (Exception, SystemExit) as error:
        raise _cannot_be_called(name, error) from None


def _cannot_be_called(name: str, error: BaseException) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(
        f"activation={name}",
        f"an elementwise function of tensors or arrays (it raised {type(error).__name__}: "
        f"{reason})",
        "vectorise it, for example with torch or numpy operations",
    )


def import_activation(path: str) -> Callable[[Any], Any]:
    """Resolve ``"package.module:name"`` to a callable; :class:`InputError` if there is none."""
    expected = f"one of {', '.join(ACTIVATIONS)} or an import path module:function"
    remedy = "check the spelling, e.g. torch.nn.functional:silu"
    return import_callable("activation", path, expected, remedy)


def import_callable(what: str, path: str, expected: str, remedy: str) -> Callable[..., Any]:
    """Resolve ``"package.module:name"`` to a callable.

    Modules in the working directory are found, as with ``python -m``.

    Raises
    ------
    InputError
        There is none (the message has ``expected``, and the nearest name of the module or
        ``remedy``), or its module does not work; ``what`` is the name of the argument.
    """
    module, _, name = path.partition(":")
    try:
        with _working_directory():
            found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (AttributeError, ModuleNotFoundError) as error:
        found = None  # type: ignore[assignment]
        if isinstance(error, ModuleNotFoundError) and not _part_of(error.name, module):
            raise _broken_module(what, path, error) from error
    except (ValueError, TypeError) as error:  # "" and ".name" are no modules
        found = None  # type: ignore[assignment]
        if module.strip("."):
            raise _broken_module(what, path, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and what a module makes of its own
        raise _broken_module(what, path, error) from error
    if not name or not callable(found):
        near = _nearest_callable(sys.modules.get(module), name)
        hint = f"did you mean {module}:{near}?" if near else remedy
        raise InputError(f"{what}={path!r}", expected, hint)
    return found


def _nearest_callable(module: Any, name: str) -> str | None:
    """What can be called in a module that was imported and has a name like ``name``."""
    from simprior.checks import nearest

    known = vars(module) if module is not None else {}
    return nearest(name, [key for key, value in known.items() if callable(value)])


def name_of(function: Any) -> str:
    """``module:qualname`` of a callable, which is its import path if it has one."""
    module = getattr(function, "__module__", "?")
    return f"{module}:{getattr(function, '__qualname__', repr(function))}"


def check_importable(what: str, name: str, function: Any, example: str) -> None:
    """Raise :class:`InputError` unless the import path ``name`` leads to ``function``, which may be
    that path itself.

    Lambdas, local functions and those of a script do not: a run directory that named one could not
    be continued. ``example`` is an import path for the message.
    """
    module, _, path = name.partition(":")
    found = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    same = isinstance(function, str) or found is function
    if module in ("__main__", "__mp_main__") or "<" in path or not same:
        file = example.partition(":")[0]
        raise InputError(
            f"{what}={name!r} with a run directory",
            f"{'an' if what[0] in 'aeiou' else 'a'} {what} that can be imported from a module by "
            "its name",
            f"define it with def at the top of a file, for example {file}.py, and pass "
            f"{what}={example!r}, or run without out",
        )


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Put the working directory first where modules are looked for; afterwards it stays, last."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
        sys.path.append(here)


def _part_of(missing: str | None, module: str) -> bool:
    """Whether the module that was not found is the one asked for, or a package of it."""
    return missing is None or module == missing or module.startswith(f"{missing}.")


def _broken_module(what: str, path: str, error: BaseException) -> InputError:
    return InputError(
        f"{what}={path!r}",
        f"a module that can be imported (it raised {type(error).__name__}: {error})",
        "correct the module, and keep what a script does under if __name__ == '__main__':",
    )
