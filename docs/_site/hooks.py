"""Hooks of the documentation site (``mkdocs.yml``): the reference is made from the packages.

The names of a page are those that the packages offer (their ``if TYPE_CHECKING:`` blocks) and the
public functions and classes of the modules listed here. A name that is gone is an error.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import simprior

HOME = "simprior"
PAGES: dict[str, tuple[str, str, str]] = {
    # page: (title, packages whose names it has, modules that it shows whole; "module:" without
    # their functions)
    "index": ("Main names", "", ""),
    "boolean": (
        "Functions and sampling",
        "",
        "boolean.truthtable boolean.complexity boolean.sensitivity boolean.logic "
        "boolean.symmetry boolean.canonical boolean.import_files boolean.sampling.unseen",
    ),
    "gp": ("Infinite and finite width", "routes gp finite", "routes.methods"),
    "training": (
        "Networks and training",
        "training training.posterior",
        "routes.posterior: network.activations network.losses training.spec training.data "
        "training.loaders: training.sweep",
    ),
    "analysis": (
        "Analysis",
        "analysis.correlate analysis.flatness",
        "analysis.compare.comparison analysis.flatness.sharpness analysis.flatness.geometry "
        "analysis.flatness.volume analysis.strings.run analysis.strings.predictions "
        "analysis.study.recipe analysis.study.run",
    ),
    "figures": (
        "Figures",
        "",
        "analysis.plot analysis.figures.counts analysis.figures.compare "
        "analysis.figures.generalisation analysis.figures.gp analysis.figures.strings",
    ),
    "estimates": ("Estimates and errors", "", "numerics.estimate errors"),
}
_ROLE = re.compile(r":(?:func|class|mod|data|meth|attr|exc):<code>([~.]*)([^<]+)</code>")
_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page of the reference for every entry of ``PAGES``."""
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def reference() -> dict[str, str]:
    """{page: its Markdown}; a name has its place where the first page offers it."""
    main = [name for name in simprior.__all__ if not _is_package(name)]
    told = {_home(f"{HOME}.{name}") for name in main}
    pages = {}
    for page, (title, packages, modules) in PAGES.items():
        lines = [f"# {title}", ""]
        if page == "index":
            lines += ["What `import simprior as sp` offers.", ""]
            lines += [f"::: {HOME}.{name}\n" for name in main]
        for package in packages.split():
            for name in _load(f"{HOME}.{package}").__all__:
                path = f"{HOME}.{package}.{name}"
                if _home(path) not in told:
                    told.add(_home(path))
                    lines.append(f"::: {path}\n")
        for module in modules.split():
            path, short = f"{HOME}.{module.rstrip(':')}", module.endswith(":")
            listed = "" if short else ", ".join(_members(path, told))
            lines += [f"::: {path}", "    options:", f"      members: [{listed}]", ""]
        pages[page] = "\n".join(lines)
    return pages


def _members(module: str, told: set[str]) -> list[str]:
    """Public functions and classes that a module defines and no page has."""
    found = vars(_load(module))
    own = [
        name
        for name, value in found.items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == module
    ]
    return [name for name in own if f"{module}.{name}" not in told]


def _load(path: str) -> Any:
    return importlib.import_module(path)


def _is_package(name: str) -> bool:
    return inspect.ismodule(getattr(simprior, name))


def _home(path: str) -> str:
    """Where the thing of this name is defined."""
    package, _, name = path.rpartition(".")
    thing = getattr(_load(package), name)
    return f"{getattr(thing, '__module__', package)}.{getattr(thing, '__qualname__', name)}"


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Turn the roles of docstrings, such as ``:func:`simprior.sample```, into links.

    A name that the reference does not show stays code. Bars in the code of tables lose the
    backslash that Markdown demands and this generator keeps.
    """
    if page.file.src_uri.startswith("reference/"):
        html = _ROLE.sub(_link, html)
    return _CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), html)


def _link(match: re.Match[str]) -> str:
    short, path = match[1], match[2]
    text = path.rpartition(".")[2] if short else path
    return f'<autoref optional identifier="{path}"><code>{text}</code></autoref>'
