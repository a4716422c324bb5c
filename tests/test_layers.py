"""The one direction of dependence, read from the source; and quick imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import simprior

ROOT = Path(simprior.__file__).parent
BASE = {"base"}
LOW = {*BASE, "numerics", "runs"}
MIDDLE = {*LOW, "network", "modules", "boolean"}
ALLOWED = {
    "base": BASE,
    "numerics": {*BASE, "numerics"},
    "runs": {*BASE, "runs"},
    "network": {*LOW, "network"},
    "modules": {*LOW, "network", "modules"},
    "boolean": MIDDLE,
    "gp": {*MIDDLE, "gp"},
    "training": {*MIDDLE, "training"},
    "finite": {*MIDDLE, "gp", "training", "finite"},
    "routes": {*MIDDLE, "gp", "training", "finite", "routes"},
    "analysis": {*MIDDLE, "gp", "training", "finite", "routes", "analysis"},
    "cli": {*MIDDLE, "gp", "training", "finite", "routes", "analysis", "cli"},
}
"""What the modules of a package may import; base is errors, checks and the modules beside them."""
PACKAGES = tuple(name for name in ALLOWED if name != "base")
HEAVY = ("torch", "gpytorch", "pandas", "matplotlib", "seaborn", "numba", "pyarrow")
FILES = sorted(ROOT.rglob("*.py"))


def layer(parts: tuple[str, ...]) -> str:
    """Layer of a module path below simprior, e.g. ("gp", "kernels") -> "gp"."""
    return parts[0] if parts and parts[0] in PACKAGES else "base"


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a source, which several tests walk."""
    return tuple(ast.walk(ast.parse(source)))


def imports(source: str, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Modules of simprior (as parts below it) that a source imports, at any depth of nesting."""
    found = set()
    for node in nodes(source):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(("simprior", *package)[: len(package) + 2 - node.level])
            stem = f"{base}.{node.module or ''}".rstrip(".") if node.level else str(node.module)
            names = [f"{stem}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
        for name in names:
            parts = tuple(str(name).split("."))
            if parts[0] == "simprior" and len(parts) > 1:
                found.add(parts[1:])
    return found


def violations(relative: Path, source: str) -> list[str]:
    own = layer(relative.parts)
    return [
        f"{relative} ({own}) imports simprior.{'.'.join(target)}"
        for target in sorted(imports(source, relative.parts[:-1]))
        if layer(target) not in ALLOWED[own]
    ]


def test_no_module_imports_upward() -> None:
    found = []
    for file in FILES:
        relative = file.relative_to(ROOT)
        if relative == Path("__init__.py") or relative == Path("__main__.py"):
            continue  # the front doors
        found += violations(relative, file.read_text())
    assert found == []


@pytest.mark.parametrize(
    ("file", "source", "bad"),
    [
        ("store.py", "from simprior.boolean.sampling.counts import FunctionCounts", True),
        ("store.py", "def f():\n    if True:\n        import simprior.boolean", True),
        ("store.py", "from simprior import boolean", True),
        ("store.py", "from .gp import kernels", True),
        ("boolean/a.py", "from simprior.gp.kernels import nngp", True),
        ("boolean/a.py", "from ..gp import kernels", True),
        ("network/a.py", "from simprior.modules import spec", True),
        ("modules/a.py", "from simprior.boolean.truthtable import pack", True),
        ("gp/a.py", "from simprior.training import ensemble", True),
        ("training/a.py", "from simprior.gp import kernels", True),
        ("gp/a.py", "from simprior.finite import log_prior_finite", True),
        ("finite/a.py", "from simprior.analysis import measure", True),
        ("finite/a.py", "from simprior.gp.event import feasible", False),
        ("analysis/a.py", "import simprior.cli.parse", True),
        ("gp/a.py", "importlib.import_module('simprior.cli')", True),
        ("boolean/a.py", "from simprior.runs.directory import RunDir\nfrom . import names", False),
        ("analysis/a.py", "from simprior.gp import kernels\nimport torch", False),
        ("cli/a.py", "from ..analysis import plots", False),
    ],
)
def test_the_walk_sees_every_form_of_import(file: str, source: str, bad: bool) -> None:
    assert bool(violations(Path(file), source)) is bad


@pytest.mark.parametrize("package", [p for p in PACKAGES if (ROOT / p).is_dir()])
def test_package_docstring_states_its_rule(package: str) -> None:
    doc = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    assert "May import:" in doc, f"{package}/__init__.py does not say what it may import"
    rule = doc.split("May import:")[1].split("Never")[0].split(";")[0]
    for other in PACKAGES:
        if other not in ALLOWED[package] and other in rule.replace(",", " ").split():
            pytest.fail(f"{package}/__init__.py allows {other}, which the layers forbid")


COMPUTING = (
    "compare",
    "correlate",
    "flatness",
    "measure",
    "simplicity",
    "strings",
)
"""The packages and modules of ``analysis`` that compute and return frames."""
WRITERS = ("figures", "plot", "report", "table_runs", "study", "text")
"""Those that write tables, figures and pages, or call what does."""
WRITING = {"savefig", "to_csv", "to_excel", "to_html", "to_latex", "to_markdown"}


def writes(target: tuple[str, ...]) -> bool:
    """Whether a module (or name) of simprior writes text or figures."""
    return target[-1] == "csv_text" or (
        target[0] == "analysis" and target[1:2] and target[1] in WRITERS
    )


def text_and_figures(package: tuple[str, ...], source: str) -> list[str]:
    """What a module that computes must not have: imports of writers and drawers, their methods."""
    found = [".".join(target) for target in sorted(imports(source, package)) if writes(target)]
    for node in nodes(source):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in ("matplotlib", "seaborn")]
        if isinstance(node, ast.Attribute) and node.attr in WRITING:
            found.append(node.attr)
    return found


@pytest.mark.parametrize("name", COMPUTING)
def test_what_computes_writes_no_text_and_draws_nothing(name: str) -> None:
    """It returns frames; ``text``, ``study``, ``report`` and the commands write them."""
    path = ROOT / "analysis" / name
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert files and all(file.is_file() for file in files), f"analysis/{name} is gone: renamed?"
    for file in files:
        package = file.relative_to(ROOT).parts[:-1]
        assert text_and_figures(package, file.read_text()) == [], file.relative_to(ROOT)


def modules() -> dict[str, Path]:
    """{dotted name: file} of every module."""
    found = {}
    for file in FILES:
        parts = ("simprior", *file.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """{module: modules it imports} at any depth of nesting, in blocks for type checkers too."""
    edges = {}
    for name, source in sources.items():
        file = modules().get(name)
        package = (
            name if file is not None and file.name == "__init__.py" else name.rpartition(".")[0]
        )
        edges[name] = {
            ".".join(("simprior", *target[:k]))
            for target in imports(source, tuple(package.split(".")[1:]))
            for k in [
                len(target) if ".".join(("simprior", *target)) in sources else len(target) - 1
            ]
        } & set(sources) - {name}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that cannot be put in an order in which each imports only earlier ones."""
    left = dict(edges)
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_modules_import_in_a_circle() -> None:
    sources = {name: file.read_text() for name, file in modules().items()}
    del sources["simprior"], sources["simprior.__main__"]  # the front doors
    edges = graph(sources)
    assert sum(map(len, edges.values())) > len(edges), "the walk finds no imports"
    assert circle(edges) == []


def test_the_walk_sees_circles() -> None:
    sources = {
        "simprior.boolean.a": "def f():\n    from simprior.boolean import b",
        "simprior.boolean.b": "if TYPE_CHECKING:\n    from simprior.boolean.c import x",
        "simprior.boolean.c": "import simprior.boolean.a",
        "simprior.boolean.d": "from simprior.boolean.a import f",
    }
    assert circle(graph(sources)) == sorted(sources)
    sources["simprior.boolean.c"] = ""
    assert circle(graph(sources)) == []


def test_the_text_of_tables_knows_nothing_else_of_analysis() -> None:
    for file in sorted((ROOT / "analysis" / "text").rglob("*.py")):
        for target in imports(file.read_text(), ("analysis", "text")):
            own = target[0] != "analysis" or target[1:2] == ("text",)
            assert own and layer(target) in ("base", "runs", "analysis"), (file.name, target)


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("from simprior.analysis.text.tables import write", True),
        ("def f():\n    from ..text import latex", True),
        ("from simprior.analysis.study import paper_tables", True),
        ("from simprior.analysis.figures import counts", True),
        ("from simprior.runs.files import csv_text", True),
        ("import matplotlib.pyplot as plt", True),
        ("from seaborn import lineplot", True),
        ("frame.to_latex()", True),
        ("from simprior.analysis.measure.registry import MEASURES\nimport pandas", False),
        ("from simprior.analysis import simplicity", False),
        ("from simprior.runs.directory import RunDir", False),
    ],
)
def test_the_check_of_what_computes_sees_writers(source: str, bad: bool) -> None:
    assert bool(text_and_figures(("analysis", "correlate"), source)) is bad


def test_no_pickle_in_the_source() -> None:
    users = [
        str(file.relative_to(ROOT))
        for file in FILES
        for node in nodes(file.read_text())
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
        if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    ]
    assert users == []


def loaded_after(code: str) -> set[str]:
    """Names of modules loaded by a fresh interpreter that ran ``code``."""
    text = f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    ["import simprior", "from simprior.cli import main; assert main(['--help']) == 0"],
    ids=["import simprior", "simprior --help"],
)
def test_quick_paths_load_nothing_heavy(code: str) -> None:
    loaded = loaded_after(code)
    assert "simprior" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["sample", "import", "table", "plot", "info"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    code = f"from simprior.cli import main; assert main(['{command}', '--help']) == 0"
    assert loaded_after(code).isdisjoint({*HEAVY, "numpy", "scipy"})
