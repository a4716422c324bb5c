"""Options that several commands share, as base classes of their dataclasses.

A command inherits the groups that mean something for it, and no others: every flag of a command is
used (``tests/cli/test_flags.py``).
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from simprior.cli.output import key_values, markdown, print_json
from simprior.cli.values import Integer, MaybeCount, MaybePath, Options, choice
from simprior.training.settings import text as show


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every command."""

    config: Annotated[
        MaybePath, arg(help="TOML file with values for the flags; flags override")
    ] = None
    json: Annotated[bool, arg(help="print the result as JSON")] = False
    quiet: Annotated[bool, arg(help="no logs and no progress on stderr")] = False

    def chosen(self, names: str) -> dict[str, Any]:
        """The values of some flags, by the names of their fields, which ``names`` has as words."""
        return {name: getattr(self, name) for name in names.split()}

    def print_result(self, values: Any, *parts: Any) -> None:
        """Print a result: with ``--json`` ``values``, else ``parts`` with empty lines between.

        A part is a table (frames without columns are left out), a mapping (``key  value`` lines),
        or a text. Frames among ``values`` become lists of records.
        """
        if self.json:
            print_json(_records(values))
        else:
            print("\n\n".join(_text(part) for part in parts if not _is_empty(part)))

    def command_line(self, command: str, paths: Sequence[Any], names: str) -> str:
        """The command that gives a result, for the notes in its files: the arguments ``paths`` and
        the flags ``names``, except those without a value."""
        words = ["simprior", command, *map(str, paths)]
        for name, value in self.chosen(names).items():
            if value is not None and value != ():
                words += ["--" + name.replace("_", "-"), show(value)]
        return shlex.join(words)


def _records(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _records(entry) for key, entry in value.items()}
    return value.to_dict(orient="records") if hasattr(value, "to_dict") else value


def _is_empty(part: Any) -> bool:
    return hasattr(part, "columns") and not len(part.columns)


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    return key_values(part) if isinstance(part, Mapping) else frame_text(part)


def frame_text(frame: Any) -> str:
    """A frame as a Markdown table."""
    return markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist())


@dataclass(frozen=True, kw_only=True)
class Reading(Output):
    """Options of the commands that read run directories."""

    no_verify: Annotated[
        bool,
        arg(help="use files, huge ones say, without comparing their SHA-256 with the manifest"),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Seeded(Output):
    """The seed."""

    seed: Annotated[Integer, arg(help="root of all random numbers, 0 to 2^63 - 1")] = 0


@dataclass(frozen=True, kw_only=True)
class Device(Output):
    """Where arrays are computed."""

    device: Annotated[str, choice("auto", "cpu", "cuda"), arg(help="where to compute")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Workers(Output):
    """Processes of this machine."""

    workers: Annotated[MaybeCount, arg(help="processes (default: available cores)")] = None

    def worker_count(self) -> int:
        """``--workers``, or the default."""
        from simprior.engine import available_cores

        return self.workers or available_cores()


@dataclass(frozen=True, kw_only=True)
class Cluster(Workers):
    """Processes of this machine, or jobs of a cluster."""

    workers: Annotated[
        MaybeCount, arg(help="processes or cluster jobs (default: available cores)")
    ] = None
    executor: Annotated[
        str, choice("local", "slurm", "dask"), arg(help="where the workers run")
    ] = "local"
    executor_options: Annotated[
        Options, arg(help="for slurm (submitit's parameters) or dask (Client's keywords)")
    ] = None

    def worker_count(self) -> int:
        """``--workers``, or the default; bad executor options are refused here, first."""
        from simprior.engine import check_executor

        check_executor(self.executor, self.executor_options)
        return super().worker_count()


@dataclass(frozen=True, kw_only=True)
class RunDirectory(Output):
    """Where the result is written."""

    out: Annotated[MaybePath, arg(help="run directory; refused if not empty")] = None
    overwrite: Annotated[bool, arg(help="remove an earlier run in --out first")] = False

    def say_written(self) -> None:
        """Say on stderr where the result is, if it was written."""
        if self.out is not None:
            logging.getLogger("simprior").info("written to %s", self.out)


@dataclass(frozen=True, kw_only=True)
class Resumable(RunDirectory):
    """Where the result is written piece by piece."""

    resume: Annotated[bool, arg(help="continue an interrupted run, bit for bit")] = False


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Resumable, Cluster, Device):
    """Options of the commands that compute something into a run directory, without a seed."""

    def run_options(self) -> dict[str, Any]:
        """The keywords with which library functions take these options, but for the device."""
        chosen = self.chosen("out resume overwrite executor executor_options")
        return chosen | {"workers": self.worker_count()}


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComputeOptions, Seeded):
    """Options of the commands that compute something random into a run directory."""
