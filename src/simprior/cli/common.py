"""Options that several commands share, as base classes of their dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from simprior.cli.values import Integer, MaybeCount, MaybePath, Options, choice
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every command."""

    config: Annotated[
        MaybePath, arg(help="TOML file with values for the flags; flags override")
    ] = None
    json: Annotated[bool, arg(help="print the result as JSON")] = False
    quiet: Annotated[bool, arg(help="no logs and no progress on stderr")] = False


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
class ComputeOptions(Output):
    """Options of the commands that compute something into a run directory, without a seed."""

    device: Annotated[str, choice("auto", "cpu", "cuda"), arg(help="where to compute")] = "auto"
    workers: Annotated[
        MaybeCount, arg(help="processes or cluster jobs (default: available cores)")
    ] = None
    executor: Annotated[
        str, choice("local", "slurm", "dask"), arg(help="where the workers run")
    ] = "local"
    executor_options: Annotated[
        Options, arg(help="for slurm (submitit's parameters) or dask (Client's keywords)")
    ] = None
    out: Annotated[MaybePath, arg(help="run directory; refused if not empty")] = None
    resume: Annotated[bool, arg(help="continue an interrupted run, bit for bit")] = False
    overwrite: Annotated[bool, arg(help="remove an earlier run in --out first")] = False

    def worker_count(self) -> int:
        """``--workers``, or the default; bad executor options are refused here, first."""
        from simprior.engine import available_cores, check_executor

        check_executor(self.executor, self.executor_options)
        return self.workers or available_cores()

    def check_here(self) -> None:
        """Refuse a cluster for a command that works on this machine only."""
        if self.executor != "local" or self.executor_options:
            raise InputError(
                f"executor={self.executor}", "local: this command works on one machine",
                "leave --executor and --executor-options out",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComputeOptions, Seeded):
    """Options of the commands that compute something random into a run directory."""
