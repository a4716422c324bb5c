"""What SLURM says about jobs, partitions and nodes: squeue, scontrol, sinfo; sacct where it works.

Accounting (``sacct``) is missing on many small clusters, so nothing here depends on it. May import:
errors only.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from simprior.errors import InputError

MAX_MINUTES = 24 * 60
"""The walltime asked for where neither the user nor the partition has a limit."""
_ANSWER_SECONDS = 60.0
_PENDING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}
_RUNNING = {
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "STAGE_OUT",
    "SIGNALING",
    "RESIZING",
    "STAGING_OUT",
}
GONE = "gone from the queue"
_OWN_LIMIT = "JobArrayTaskLimit"  # array_parallelism, which the user has set
_REMEDIES = {
    "PartitionTimeLimit": "the walltime is above the partition's limit: lower time",
    "QOSMaxWallDurationPerJobLimit": "the walltime is above the QOS's limit: lower time",
    "AssocMaxWallDurationPerJobLimit": "the walltime is above your limit: lower time",
    "PartitionDown": "the partition starts no jobs: choose another partition",
    "PartitionInactive": "the partition starts no jobs: choose another partition",
    "PartitionConfig": "no node of the partition has what is asked for (cpus, memory, GPUs)",
    "BadConstraints": "no node has what is asked for (cpus, memory, features)",
    "JobHeldUser": "release it: scontrol release JOB",
    "JobHeldAdmin": "an administrator holds it",
}


class JobState(NamedTuple):
    """State of a job and SLURM's reason for it."""

    state: str
    reason: str

    @property
    def pending(self) -> bool:
        """Whether it waits to be started."""
        return self.state in _PENDING

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way, or will not start again by itself."""
        return self.held or (self.state not in _PENDING and self.state not in _RUNNING)

    @property
    def held(self) -> bool:
        """Whether it waits for an administrator, since a node could not start it."""
        return "launch failed" in self.reason


class Partition(NamedTuple):
    """Name of a partition, whether it is the default, its longest walltime in minutes."""

    name: str
    default: bool
    minutes: int | None


def ask(*command: str) -> tuple[int, str, str]:
    """Exit status, output and error text of a SLURM command.

    In a session of its own: a Ctrl-C in the terminal is for us, not for it.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 255, "", str(error)
    return done.returncode, done.stdout, done.stderr


def job_states(ids: Iterable[str]) -> dict[str, JobState] | str:
    """State of each job that the controller knows; a text where it gives no answer.

    Elements of an array have ids such as ``12_3``, and are asked for as a whole. A job that has
    ended stays known for ``MinJobAge`` (some minutes).
    """
    wanted = ",".join(whole_arrays(ids))
    status, output, error = ask(
        "squeue", "-h", "-a", "-r", "-t", "all", "-j", wanted, "-o", "%F|%K|%T|%r"
    )
    if status and "invalid job id" not in error.lower():
        return " ".join(error.split()) or f"squeue ended with {status}"
    states = {}
    for line in output.splitlines():
        parts = line.strip().split("|", 3)
        if len(parts) == 4:
            job, element, state, reason = parts
            name = f"{job}_{element}" if element.isdigit() else job
            states[name] = JobState(state, reason)
    return states


def whole_arrays(ids: Iterable[str]) -> list[str]:
    """The arrays (and single jobs) that jobs belong to, each once: ``12`` for ``12_3``."""
    return list(dict.fromkeys(name.partition("_")[0] for name in ids))


def largest_array() -> int:
    """How many elements an array may have on this cluster; 1 where there is no answer."""
    status, output, _ = ask("scontrol", "show", "config")
    found = dict(re.findall(r"^(\w+)\s*=\s*(\d+)", output, re.MULTILINE)) if not status else {}
    sizes = [int(found.get(name, 1)) for name in ("MaxArraySize", "MaxJobCount")]
    return max(1, min(sizes))


def how_it_ended(job: str) -> str:
    """State and exit code of a job that is over, from scontrol or sacct; may be empty."""
    status, output, _ = ask("scontrol", "show", "job", "-o", job)
    if not status:
        found = dict(re.findall(r"\b(JobState|ExitCode)=(\S+)", output))
        if "JobState" in found:
            code = found.get("ExitCode", "0:0")
            return found["JobState"] + ("" if code == "0:0" else f" (exit code {code})")
    status, output, _ = ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode")
    line = output.strip().splitlines()[:1] if not status else []
    return line[0].replace("|", " (exit code ") + ")" if line else ""


def partitions() -> list[Partition]:
    """All partitions; an empty list where the controller gives no answer."""
    status, output, _ = ask("scontrol", "-a", "show", "partition", "-o")
    found = []
    for line in [] if status else output.splitlines():
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        if "PartitionName" in fields:
            limit = _minutes(fields.get("MaxTime", "UNLIMITED"))
            found.append(Partition(fields["PartitionName"], fields.get("Default") == "YES", limit))
    return found


def _minutes(text: str) -> int | None:
    """``[days-]hours:minutes:seconds`` in whole minutes; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes


def walltime(given: int | None, partition: Any, names: tuple[str, str]) -> int:
    """Minutes to ask for: those ``given``, else the partition's limit, at most 24 hours.

    ``names`` are what the user calls the walltime and the partition. Raises :class:`InputError` for
    an unknown partition, and for a walltime above its limit: SLURM takes such a job and never
    starts it.
    """
    known = partitions()
    name = os.environ.get("SBATCH_PARTITION") or partition
    minutes = given or MAX_MINUTES
    if not known:  # no answer: sbatch will say why
        return minutes
    chosen = [p for p in known if p.default]
    if name:
        wanted = [part.strip() for part in str(name).split(",")]
        for part in wanted:
            if part not in {p.name for p in known}:
                raise InputError(
                    f"executor_options {names[1]}={part}",
                    f"one of {', '.join(p.name for p in known)}",
                    "see sinfo for the partitions of this cluster",
                )
        chosen = [p for p in known if p.name in wanted]
    limited = [p for p in chosen if p.minutes is not None]
    least = min(limited, key=lambda p: p.minutes or 0, default=None)
    limit = least.minutes if least else None
    if not given:
        return min(MAX_MINUTES, limit or MAX_MINUTES)
    if least and limit is not None and minutes > limit:
        raise InputError(
            f"executor_options {names[0]}={minutes} minutes",
            f"at most {limit} minutes, the limit of partition {least.name}",
            f"pass {names[0]}={limit}, or leave it out",
        )
    return minutes


def why_pending(states: Mapping[str, JobState]) -> list[str]:
    """One line a reason: ``2 jobs pending because REASON (jobs 12, 13)``, with a remedy if any."""
    by_reason: dict[str, list[str]] = {}
    for job, state in states.items():
        if state.pending and state.reason != _OWN_LIMIT:
            by_reason.setdefault(state.reason, []).append(job)
    lines = []
    for reason, jobs in by_reason.items():
        shown = ", ".join(jobs[:5]) + (", ..." if len(jobs) > 5 else "")
        count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
        remedy = _REMEDIES.get(reason, "")
        if "DOWN, DRAINED" in reason or reason == "ReqNodeNotAvail":
            remedy = down_nodes()
        lines.append(
            f"{count} pending because {reason} (job{'s' if len(jobs) > 1 else ''} {shown})"
            + (f"; {remedy}" if remedy else "")
        )
    return lines


def never_starts(state: JobState) -> bool:
    """Whether a pending job waits for something that time alone does not change."""
    return state.pending and (state.reason in _REMEDIES or "DRAINED" in state.reason)


def down_nodes() -> str:
    """The nodes that are down or drained and why: ``node vm is drained (fan broken)``."""
    _, output, _ = ask("sinfo", "-h", "-R", "-o", "%n|%T|%E")
    rows = [line.strip().split("|", 2) for line in output.splitlines() if line.count("|") >= 2]
    shown = [f"node {name} is {state} ({reason})" for name, state, reason in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(shown) + more
