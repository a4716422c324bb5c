"""Packages import what they offer on first use, and say what they lack."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import simprior as sp

PACKAGES = [found.name for found in pkgutil.walk_packages(sp.__path__, "simprior.") if found.ispkg]


@pytest.mark.parametrize("name", ["simprior", *(p for p in PACKAGES if p != "simprior.cli")])
def test_every_module_and_public_name_is_an_attribute(name: str) -> None:
    package = importlib.import_module(name)
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"]
    assert set(dir(package)) == {*modules, *package.__all__}
    for attribute in dir(package):
        found = getattr(package, attribute)
        if attribute not in package.__all__:
            assert found is sys.modules[f"{name}.{attribute}"]


def test_modules_that_no_list_named() -> None:
    """The hand-kept list had forgotten it."""
    code = "import simprior as sp; print(sp.analysis.study.paper_tables.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "simprior.analysis.study.paper_tables\n"


@pytest.mark.parametrize("name", ["simprior", *PACKAGES])
@pytest.mark.parametrize("attribute", ["no_such_thing", "_private", "__wrapped__"])
def test_a_missing_attribute_is_named(name: str, attribute: str) -> None:
    package = importlib.import_module(name)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute '{attribute}'"):
        getattr(package, attribute)
    assert not hasattr(package, attribute)


def test_a_module_does_not_hide_the_function_of_its_name() -> None:
    module = importlib.import_module("simprior.gp.orthant")
    assert sp.gp.log_prior is module.log_prior


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from simprior import *", names)
    assert {"Network", "sample", "train"} <= set(names)


def test_an_import_that_fails_inside_a_module_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "simprior.analysis.compare.distances", raising=False)
    monkeypatch.delattr(sp.analysis.compare, "distances", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        _ = sp.analysis.compare.distances
