"""The reference of the command line as Markdown, from the same dataclasses as the flags.

``python -m simprior.cli.helpdoc > docs/cli.md`` writes it; a test compares.
"""

from __future__ import annotations

import inspect

from simprior.cli import COMMANDS, load
from simprior.cli.options import markdown
from simprior.cli.parse import Option, options

_INTRODUCTION = """\
# The command line

Made from the program by `python -m simprior.cli.helpdoc > docs/cli.md`; change it there.

Results go to stdout, logs and progress to stderr. The exit status is 0 (done), 2 (bad input: one
line on stderr says what was expected and how to fix it) or 130 (interrupted; `--resume` continues).
`--config FILE` reads a TOML file whose keys are the names of the flags with `_` for `-`; it may
group them in tables. Flags override the file.
"""


def document() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(section(command) for command in COMMANDS)])


def section(command: str) -> str:
    """Usage, description and options of one command."""
    spec = load(command).SPEC
    known = list(options(spec).values())
    positional = [option for option in known if option.positional]
    usage = " ".join(["simprior", command, *(o.flag for o in positional), "[options]"])
    rows = [_row(option) for option in known]
    parts = [
        f"## simprior {command}",
        f"    {usage}",
        inspect.cleandoc(spec.__doc__ or ""),
        markdown(["option", "default", "meaning"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def _row(option: Option) -> list[str]:
    short = option.switch or option.positional
    name = option.flag if short else f"{option.flag} {option.metavar}"
    default = "required" if option.required else option.default_text
    return [f"`{name}`", default and f"`{default}`", option.help]


if __name__ == "__main__":
    print(document(), end="")
