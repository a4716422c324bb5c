"""Documents say what the program does: README runs, commands parse, reference is current."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simprior.cli import COMMANDS, load
from simprior.cli.helpdoc import document
from simprior.cli.parse import parse

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SHELL, PYTHON = {"bash", "console", "sh", "shell"}, {"python", "py"}
FENCE = re.compile(
    r"^( *)(```+|~~~+)[ \t]*(\w*)[^\n]*\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL
)
INDENTED = re.compile(r"^    simprior (?:[^\n]*\\\n)*[^\n]*\n?", re.MULTILINE)
USAGE = "[options]"  # the last word of the lines of docs/cli.md, which are made from the program
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
CODE_SPAN = re.compile(r"(`+).+?\1", re.DOTALL)
SET_UP = ("pip install -e .", "pip install -e '.[test]' && pytest")


@dataclass(frozen=True)
class Block:
    """A fenced code block, or indented commands: language and text."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Shell lines: continuations joined, prompts, comments and (console) output removed."""
        joined = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            joined = [line.lstrip()[2:] for line in joined if line.lstrip().startswith("$ ")]
        stripped = (line.strip().removeprefix("$ ") for line in joined)
        return [line for line in stripped if line and not line.startswith("#")]

    @property
    def commands(self) -> list[list[str]]:
        """Arguments of each ``simprior ...`` on these lines."""
        found = []
        for line in self.lines:
            words = shlex.split(line, comments=True)
            for start in [i for i, word in enumerate(words) if word == "simprior"]:
                if start and words[start - 1] not in {"&&", ";", "|"}:
                    continue
                end = start + 1
                while end < len(words) and words[end] not in {"&&", ";", "|", ">", "2>"}:
                    end += 1
                found.append(words[start + 1 : end])
        return found


def blocks(path: Path) -> list[Block]:
    if not path.exists() or not path.read_text().strip():
        return []
    return blocks_of(path.read_text())


def blocks_of(text: str) -> list[Block]:
    """Fenced blocks, and indented lines (four blanks) that are commands, in their order."""
    found = {
        m.start(): Block(m[3].lower(), re.sub(f"(?m)^{m[1]}", "", m[4]))
        for m in FENCE.finditer(text)
    }
    outside = FENCE.sub(lambda m: "\n" * len(m[0]), text)  # the same places
    for m in INDENTED.finditer(outside):
        if not m[0].rstrip().endswith(USAGE):
            found[m.start()] = Block("bash", m[0])
    return [found[at] for at in sorted(found)]


def links_of(text: str) -> list[str]:
    """Relative targets of links and images outside code, without anchors."""
    plain = CODE_SPAN.sub("", FENCE.sub("", text))
    targets = [m[1].partition("#")[0] for m in LINK.finditer(plain)]
    return [t for t in targets if t and not re.match(r"[a-z]+:", t)]


def documents() -> list[Path]:
    return [README, *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"]


needs_readme = pytest.mark.skipif(not blocks(README), reason="README.md has no code blocks yet")


def test_blocks_are_found_in_every_form() -> None:
    text = (
        "```bash\n# a\nsimprior sample \\\n  --n 5 && simprior info 'a b'\nls\n```\n"
        "  ```console\n  $ simprior table run  # top\n  simprior is not a command here\n  ```\n"
        "~~~python\nx = 1\n~~~\nAs in\n\n    simprior plot \\\n      run    # figures\n"
        "    simprior train --n 5 && simprior info run\n    not simprior\n"
        "    simprior sample [options]\n"
    )
    found = blocks_of(text)
    assert [block.language for block in found] == ["bash", "console", "python", "bash", "bash"]
    assert found[0].commands == [["sample", "--n", "5"], ["info", "a b"]]
    assert found[1].commands == [["table", "run"]]
    assert found[2].text == "x = 1\n"
    assert found[3].commands == [["plot", "run"]]
    assert found[4].commands == [["train", "--n", "5"], ["info", "run"]]


def test_links_are_found_in_every_form() -> None:
    text = (
        "[a](b.md) and ![c [d](e.png 'f')\n[g](h/i.md#part), [j](#part), [k](https://l.org/m)\n"
        "`[n](o.md)`\n```python\np[q](r)\n```\n[![s](t.svg)](u.md)\n"
    )
    assert links_of(text) == ["b.md", "e.png", "h/i.md", "t.svg", "u.md"]


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.name)
def test_links_and_images_of_the_documents_exist(path: Path) -> None:
    targets = links_of(path.read_text())
    assert [t for t in targets if not (path.parent / t).exists()] == []
    assert targets or path != README, "no link found in README.md"


@pytest.mark.parametrize("path", [p for p in documents() if blocks(p)], ids=lambda p: p.name)
def test_examples_that_commands_of_the_documents_name_exist(path: Path) -> None:
    for block in blocks(path):
        for command in block.commands if block.language in SHELL else []:
            named = [word for word in command if word.startswith("examples/")]
            assert [word for word in named if not (ROOT / word).exists()] == []


def test_the_command_reference_is_current() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == document(), "run: python -m simprior.cli.helpdoc > docs/cli.md"
    for command in COMMANDS:
        assert f"## simprior {command}\n" in written


@needs_readme
def test_readme_has_the_two_set_up_commands_and_an_example() -> None:
    lines = [line for block in blocks(README) if block.language in SHELL for line in block.lines]
    for command in SET_UP:
        assert any(line.startswith(command) for line in lines), f"README lacks: {command}"
    commands = [c for block in blocks(README) if block.language in SHELL for c in block.commands]
    assert any(command[0] == "sample" for command in commands)
    assert any(block.language in PYTHON for block in blocks(README))


@pytest.mark.parametrize("path", [p for p in documents() if blocks(p)], ids=lambda p: p.name)
def test_command_lines_of_the_documents_parse(path: Path) -> None:
    for block in blocks(path):
        for command in block.commands if block.language in SHELL else []:
            if command and command[0].startswith("-"):
                continue
            assert command and command[0] in COMMANDS, f"{path.name}: simprior {command}"
            if "--config" not in command and "--help" not in command:
                parse(command[0], load(command[0]).SPEC, command[1:])


@pytest.mark.parametrize("path", [p for p in documents() if blocks(p)], ids=lambda p: p.name)
def test_python_blocks_of_the_documents_compile(path: Path) -> None:
    for block in blocks(path):
        if block.language in PYTHON:
            compile(block.text, path.name, "exec")


RUNNER = """
import json, subprocess, sys
if __name__ == "__main__":
    from simprior.cli import main

    names, started = {"__name__": "readme"}, False
    for kind, content in json.load(open("steps.json")):
        print("running:", content, flush=True)
        if kind == "python":
            exec(compile(content, "README.md", "exec"), names)
        elif started:
            assert main(content) == 0
        else:
            subprocess.run([sys.executable, "-m", "simprior", *content], check=True)
            started = True
"""
"""The first command as a shell starts it; the others here, where all is imported already."""


def test_the_minimal_study_is_the_example_and_every_key_is_explained(tmp_path: Path) -> None:
    """The page shows ``examples/minimal.toml``, which the parser takes, and names all its keys."""
    from simprior.analysis.study.recipe import read_recipe
    from simprior.analysis.study.run import plan

    page = ROOT / "docs" / "how-to-study.md"
    example = ROOT / "examples" / "minimal.toml"
    shown = next(block for block in blocks(page) if block.language == "toml")
    assert shown.text == example.read_text()
    steps = plan(read_recipe(example), tmp_path / "study")
    assert {step.stage for step in steps} >= {"train", "measure", "correlate", "figures", "tables"}
    first_column = "\n".join(re.findall(r"^\| (`.*?) \|", page.read_text(), re.MULTILINE))
    explained = set(re.findall(r"`([^`]+)`", first_column))
    lines = [line for line in shown.text.splitlines() if line]
    words = {line if line[0] == "[" else line.partition(" =")[0] for line in lines}
    assert words - explained == set()


def first_hour() -> list[dict[str, Any]]:
    """The code cells of the notebook."""
    notebook = json.loads((ROOT / "docs" / "first-hour.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_first_hour_has_no_outputs() -> None:
    code = first_hour()
    assert len(code) > 5
    assert not any(cell["outputs"] for cell in code), "clear its outputs: the site runs it"


@pytest.mark.slow
def test_the_first_hour_runs(tmp_path: Path) -> None:
    """Every cell of the notebook, in order, in an empty directory; magics are left out. (Where CI
    builds the site, which runs the notebook and fails if a cell does, this is not run again.)"""
    code = first_hour()
    lines = [line.rstrip("\n") for cell in code for line in [*cell["source"], ""]]
    script = tmp_path / "first_hour.py"
    script.write_text("\n".join("" if line.startswith("%") else line for line in lines))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@needs_readme
def test_readme_runs(tmp_path: Path) -> None:
    """Every ``simprior`` command and every Python block, in order, in an empty directory."""
    steps: list[tuple[str, object]] = []
    for block in blocks(README):
        if block.language in SHELL:
            steps += [("command", command) for command in block.commands]
        elif block.language in PYTHON:
            steps.append(("python", block.text))
    assert {kind for kind, _ in steps} == {"command", "python"}
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    (tmp_path / "runner.py").write_text(RUNNER)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")  # what a clone has
    done = subprocess.run(
        [sys.executable, "runner.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
