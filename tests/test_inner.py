"""Functions that only compiled code calls: linked into their callers, callable all the same."""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.numerics.compiled import UNCOUNTED, inner


@inner(**UNCOUNTED)
def weighted(x, w):
    total = 0.0
    for i in range(x.size):
        total += w * x[i]
    return total


@inner(fastmath={"contract"})
def plus(x, w, more):
    return weighted(x, w) + more


@njit
def outer(x):
    return plus(x, 2.0, 1.0) + weighted(x, -1.0)


def test_they_have_no_machine_code_and_their_callers_have_it() -> None:
    x = np.arange(4.0)
    assert outer(x) == 7.0
    for function in (weighted, plus):
        (made,) = function.overloads.values()
        assert made.library.get_pointer_to_function(made.fndesc.llvm_func_name) == 0
    (made,) = outer.overloads.values()
    assert made.library.get_pointer_to_function(made.fndesc.llvm_func_name) != 0


def test_they_are_callable_from_python_before_and_after() -> None:
    x = np.arange(4.0)
    assert (plus(x, 2.0, 1.0), weighted(x, 2.0)) == (13.0, 12.0)
    assert outer(x) == 7.0
    assert plus(x.astype(np.float32), 1.0, 0.0) == 6.0
