"""Every flag of every command is used: read by its code where it is not only refused.

The flags come from the parser's own table. What a command reads is found in its source: from
``run``, through the functions of ``simprior.cli`` and the methods of its options, every attribute
of ``spec`` or ``self``, and every name handed to ``chosen``, ``command_line`` or ``getattr``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import field, make_dataclass
from typing import Any

import pytest

from simprior.cli import COMMANDS, load
from simprior.cli.parse import options

FRONT_DOOR = {"config", "quiet", "no_verify"}
"""Read by the parser and the dispatch, for every command."""
OBEYED_BY_REFUSING = {"device"}
"""Of commands that compute on the CPU only: auto and cpu are obeyed, cuda is refused."""


def read(spec: type, start: Callable[..., Any]) -> set[str]:
    """Names of the options that ``start(spec)`` may read."""
    found: set[str] = set()
    seen: set[Callable[..., Any]] = set()
    todo = [start]
    while todo:
        function = todo.pop()
        if function in seen:
            continue
        seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        names = {**function.__globals__, **local_imports(tree)}
        for node in used(tree):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in {
                "spec",
                "self",
            }:
                found.add(node.attr)
                todo += methods(spec, node.attr)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
                todo += methods(spec, node.attr)  # super().worker_count()
            elif isinstance(node, ast.Name) and of_the_command_line(names.get(node.id)):
                todo.append(names[node.id])
            if isinstance(node, ast.Call) and called(node) in {"chosen", "command_line", "getattr"}:
                inside = tree if called(node) == "getattr" else node
                found |= set(words(inside, names))
    return found


def used(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, without the conditions of what is only refused: ``if ...: raise ...``."""
    todo = [tree]
    while todo:
        node = todo.pop()
        refuses = isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in node.body)
        if not refuses:
            yield node
            todo += ast.iter_child_nodes(node)


def local_imports(tree: ast.AST) -> dict[str, Any]:
    return {
        alias.name: getattr(importlib.import_module(node.module), alias.name, None)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("simprior")
        for alias in node.names
    }


def of_the_command_line(value: Any) -> bool:
    return inspect.isfunction(value) and value.__module__.startswith("simprior.cli")


def methods(spec: type, name: str) -> list[Any]:
    return [c.__dict__[name] for c in spec.__mro__ if inspect.isfunction(c.__dict__.get(name))]


def called(node: ast.Call) -> str:
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def words(tree: ast.AST, names: dict[str, Any]) -> Iterator[str]:
    """All words of the texts in ``tree``, and of the values of the names it refers to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.split()
        elif isinstance(node, ast.Name):
            value = names.get(node.id)
            texts = [*value, *value.values()] if isinstance(value, dict) else value
            for text in texts if isinstance(texts, list | tuple) else [texts]:
                yield from text.split() if isinstance(text, str) else ()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_read(command: str) -> None:
    module = load(command)
    flags = set(options(module.SPEC)) - FRONT_DOOR
    if command in {"logp", "posterior", "bound", "sensitivity"}:
        flags -= OBEYED_BY_REFUSING
    assert flags - read(module.SPEC, module.run) == set()


def test_a_dead_flag_is_found() -> None:
    """Flags that nothing reads, or that are only refused, as those of ``bound`` once were."""
    from simprior.cli.bound import Bound, run

    dead = {"executor", "executor_options"}
    fields = [(name, str, field(default="")) for name in dead]
    before = make_dataclass("Before", fields, bases=(Bound,), frozen=True, kw_only=True)
    assert dead == set(options(before)) - set(options(Bound))
    assert not dead & read(before, run)


def test_commands_of_one_machine_have_no_flags_of_a_cluster() -> None:
    for command in ("posterior", "bound", "import", "compare", "correlate"):
        assert not {"executor", "executor_options"} & set(options(load(command).SPEC))
