"""The command line: one small module a command: parse -> spec -> library call -> write; no maths.

May import: every other layer; nothing imports this one. ``simprior --help`` and the dispatch below
import nothing outside the standard library: a command's module is loaded when the command is given.

Data come from the arguments and a ``--config`` file (``parse``), as a frozen dataclass. Results go
to stdout and into run directories, logs to stderr.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from simprior.checks import unknown
from simprior.errors import SimpriorError, shorten

COMMANDS = {
    "sample": "draw random networks and count the functions they compute",
    "import": "turn a text file of functions and counts into a run directory",
    "logp": "ln P of given functions under the infinite-width prior, with standard errors",
    "train": "train many networks on one training set and count the functions they find",
    "sweep": "train over a grid of optimisers, batch sizes, learning rates and losses",
    "posterior": "draw functions from the Bayesian posterior given a training set",
    "bound": "marginal-likelihood PAC-Bayes bound of a training set",
    "compare": "how alike two runs are: distances, correlations, test errors, noise ceilings",
    "measure": "prior, flatness, sensitivity, complexity of networks or functions, one table",
    "correlate": "which measures predict the test error: coefficients, intervals, tests, controls",
    "memorise": "which training examples are memorised: by trained networks and by exact Bayes",
    "rare": "how probable is an output of one network that hardly any input gives",
    "sensitivity": "distance of strings to the other class, and random flips until it changes",
    "study": "run a recipe: train or sample, measure, correlate, draw, tabulate, report",
    "evidence": "findings about deep networks: of the prior, the posterior, or the optimiser",
    "report": "build report.html of a study or of any run",
    "table": "print a table of a run: functions, measures, coefficients, cells",
    "plot": "draw the figures of a run",
    "info": "describe a run directory and verify its files",
}
"""Commands in the order of the help text; each is the module ``simprior.cli.<name>``."""

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130
_RENAMED = {"import": "import_"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 2 bad input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _stop_on_sigterm()
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        return _interrupted("stopped", error, arguments)
    except BrokenPipeError:
        return _broken_pipe()
    except SimpriorError as error:
        if getattr(error, "exit_code", None) == EXIT_INTERRUPTED:
            return _interrupted(str(error), error, arguments)
        return _fail(str(error))
    except OSError as error:  # of files that are not a run's: those are StoreErrors
        name = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{name}{error.strerror or error}; check the path, the disk, and permissions")
    except Exception as error:
        from simprior.errors import is_shortage, shortage

        if not is_shortage(error):
            raise
        return _fail(str(shortage(error)))


def load(command: str) -> ModuleType:
    """The module of a command: it has ``SPEC`` (a dataclass) and ``run(spec) -> int``."""
    return importlib.import_module(f"simprior.cli.{_RENAMED.get(command, command)}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        from importlib.metadata import version

        print(f"simprior {version('simprior')}")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        raise unknown(f"command {command!r}", command, COMMANDS, "see simprior --help")
    module = load(command)
    from simprior.cli.parse import parse

    spec = parse(command, module.SPEC, arguments[1:])
    if spec is None:
        return 0
    from simprior.cli.options import set_up_logging

    set_up_logging(spec.quiet)
    if not getattr(spec, "no_verify", False):
        return int(module.run(spec))
    from simprior.runs.reading import verification

    with verification(False):
        return int(module.run(spec))


def overview() -> str:
    """The text of ``simprior --help``."""
    width = max(map(len, COMMANDS))
    lines = ["usage: simprior COMMAND [options]", "", "commands:"]
    lines += [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    lines += [
        "",
        "simprior COMMAND --help shows the options of a command; simprior --version the version.",
        "Results go to stdout, logs to stderr; exit status 0 done, 2 bad input, 130 interrupted.",
    ]
    return "\n".join(lines)


def _stop_on_sigterm() -> None:
    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: the caller's handlers stay
        return


def _fail(message: str) -> int:
    print(f"simprior: error: {shorten(message)}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _interrupted(message: str, error: BaseException, arguments: Sequence[str]) -> int:
    """Say what was stopped, what is kept (the run directory knows), and how to go on."""
    kept = "; what was finished is kept" if getattr(error, "kept", False) else ""
    print(f"simprior: {message}{kept}{_way_on(arguments)}", file=sys.stderr)
    return EXIT_INTERRUPTED


def _way_on(arguments: Sequence[str]) -> str:
    """What to do after an interruption, for a command that can be resumed."""
    if not arguments or arguments[0] not in COMMANDS:
        return ""
    if not hasattr(load(arguments[0]).SPEC, "resume"):
        return ""
    if any(token.partition("=")[0] in {"--out", "--config"} for token in arguments):
        return "; run the same command with --resume to continue"
    return "; a run with --out DIR can be continued with --resume"


def _broken_pipe() -> int:
    """The reader of stdout has gone (``| head``): end quietly, also at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
