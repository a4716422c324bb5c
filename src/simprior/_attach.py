"""Packages whose names and modules are imported on first use.

``import simprior`` must be quick, so a package does not import what it offers. It says what it
offers once, in the block that type checkers read::

    if TYPE_CHECKING:
        from simprior.gp.kernels import nngp as nngp

    __getattr__, __dir__, __all__ = attach(__name__)

The modules of the package need not be listed: they are found in its folder.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, to be assigned in its
    ``__init__``.

    Attributes are the names imported in its ``if TYPE_CHECKING:`` block and its public modules.
    A name that is also that of a module, as ``gp.log_prior``, stays what the block says. Any other
    attribute raises :class:`AttributeError` with the names of package and attribute.
    """
    module = sys.modules[package]
    homes = _homes(module)
    module.__class__ = _keeping(homes)

    def get(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)

    def listed() -> list[str]:
        modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
        return sorted({*homes, *(name for name in modules if not name.startswith("_"))})

    return get, listed, sorted(homes)


def _homes(package: ModuleType) -> dict[str, str]:
    """{name: module it is imported from} of the ``if TYPE_CHECKING:`` block.

    What it imports from the package itself is a module of the package, and needs no home.
    """
    spec = package.__spec__
    assert spec is not None and spec.loader is not None
    source = spec.loader.get_source(package.__name__)  # type: ignore[attr-defined]
    return {
        alias.asname or alias.name: str(node.module)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != package.__name__
        for alias in node.names
    }


def _keeping(names: dict[str, str]) -> type[ModuleType]:
    """A class of packages in which an imported module does not hide an equally named function.

    The import system binds every module that it has loaded in the package of the module.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in names and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    return Package
