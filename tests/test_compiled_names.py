"""Machine code in numba's files is linked by name: no two compiled functions may share one."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import subprocess
import sys
from collections import Counter

import pytest

import simprior

USE = """
import simprior as sp
net = sp.Network(n=3, hidden=(8,), activation={activation!r}, sigma_b=0.0, encoding="pm1")
if {finite}:
    sp.log_prior(sp.Network(n=3, hidden=()), "x1", "smc", width="finite", particles=20, check=False)
print(sp.watch(net, ["x1", "0x01"], samples=1000, heads=4).p.tolist())
print(sp.sample(net, samples=1000, heads=4).to_frame(top=3)["count"].tolist())
print(sp.train(net, "x1", train=4, runs=3, lr=0.05, max_epochs=20).loss.tolist())
"""


def compiled_functions() -> list[tuple[str, str]]:
    """(module, name) of every function of the package that becomes machine code of its own.

    Those that are written into their callers (``inline="always"``) leave no name.
    """
    from numba.core.dispatcher import Dispatcher

    for module in pkgutil.walk_packages(simprior.__path__, "simprior."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.unfreeze()  # conftest hides what was made before the first test
    found = [o for o in gc.get_objects() if issubclass(type(o), Dispatcher)]
    functions = {o.py_func for o in found if o.targetoptions.get("inline") != "always"}
    names = [(f.__module__, f.__qualname__) for f in functions]
    return [name for name in names if name[0].startswith("simprior.")]


def test_no_two_compiled_functions_share_a_name() -> None:
    """Two of one name, kept by different processes, may be called in each other's place: after an
    estimate at finite width, watch called another activation."""
    names = compiled_functions()
    assert len(names) > 100
    assert [name for name, number in Counter(names).items() if number > 1] == []


@pytest.mark.slow
def test_results_do_not_depend_on_what_the_process_did_before() -> None:
    """All compiled code of one process and of several, linked from the same files."""
    for activation in ("tanh", "relu"):
        alone, after = (
            subprocess.run(
                [sys.executable, "-c", USE.format(activation=activation, finite=finite)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for finite in (False, True)
        )
        assert alone == after
