"""``--executor-options``: sbatch's own names and times -> the parameters of submitit; refusals.

sbatch's names stand for themselves (``partition``, ``time``, ``cpus-per-task``); submitit's are
accepted as well (``slurm_partition``, ``timeout_min``, ``mem_gb``). Names that mean the same may be
given once only. May import: checks and errors.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from simprior.checks import unknown
from simprior.errors import InputError

OURS = ("folder", "cluster", "tasks_per_job")
"""Options of simprior itself."""
CONSTRUCTOR = ("slurm_max_num_timeout", "slurm_max_pickle_size_gb", "slurm_python")
"""Options of submitit that are not sbatch's."""
_SAME = {
    "timeout_min": "time",
    "mem_gb": "mem",
    "name": "job_name",
    "tasks_per_node": "ntasks_per_node",
}
_GENERIC = {"job_name": "name", "ntasks_per_node": "tasks_per_node"}
_PLAIN = frozenset({"nodes", "cpus_per_task", "gpus_per_node", "stderr_to_stdout"})
_TYPED = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "dependency")
_OTHERS = frozenset(
    "begin clusters contiguous core_spec deadline distribution export get_user_env gpus hint "
    "licenses mem_bind mincpus network nice no_requeue oversubscribe power prefer priority "
    "propagate requeue reservation switches threads_per_core tmp".split()
)
"""Options of sbatch that submitit has no parameter for; passed on as they are."""
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def missing(executor: str, package: str) -> InputError:
    """The error for an executor whose package is not installed."""
    return InputError(
        f"executor={executor!r}",
        f"the package {package}, which is not installed",
        "pip install 'simprior[cluster]', or use --executor local",
    )


def refused(options: Mapping[str, Any], expected: str, says: object) -> InputError:
    """The error for options that the executor's own library or program refuses."""
    listed = one_line(",".join(f"{key}={value}" for key, value in options.items())) or "(none)"
    return InputError(f"executor_options {listed}", expected, f"it says: {one_line(says)}")


def one_line(error: object) -> str:
    """A text on one line, not too long."""
    return " ".join(str(error).split())[:300]


@dataclass(frozen=True)
class Translated:
    """Options under submitit's names, and what the user called the walltime and the partition."""

    values: dict[str, Any]
    time_name: str
    partition_name: str


def translate(options: Mapping[str, Any], valid: Collection[str]) -> Translated:
    """The options under submitit's names; ``valid`` are those that it accepts with a prefix.

    Raises :class:`InputError` for an unknown name, for two names of one thing, and for a value of
    the wrong form.
    """
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    more: dict[str, Any] = {}
    for name, value in options.items():
        plain = _sbatch_name(name)
        if plain in given:
            first = given[plain]
            raise InputError(
                f"executor_options {first}={options[first]},{name}={value}",
                "one of the two, as they mean the same",
                f"leave {name} out",
            )
        given[plain] = name
        if plain in _OTHERS:
            more[plain.replace("_", "-")] = value
        else:
            key, entry = (name, value) if _of_another(name, valid) else _entry(plain, name, value)
            if key not in valid and key not in OURS and key not in CONSTRUCTOR:
                raise unknown(
                    f"executor_options {name}={value!r}",
                    plain,
                    sorted(_names(valid)),
                    "see docs/clusters.md",
                )
            values[key] = entry
    if more:
        values["slurm_additional_parameters"] = {
            **more,
            **values.get("slurm_additional_parameters", {}),
        }
    return Translated(values, given.get("time", "time"), given.get("partition", "partition"))


def _names(valid: Collection[str]) -> set[str]:
    """What a user may write, in plain words: for the message about a name that is none of it."""
    return {_sbatch_name(name) for name in valid if _is_slurms(name)} | _OTHERS | {*OURS}


def _is_slurms(name: str) -> bool:
    return name.startswith("slurm_") or "_" not in name or name in {*_SAME, *_PLAIN}


def _of_another(name: str, valid: Collection[str]) -> bool:
    """Whether it is a parameter of submitit for something that is not SLURM (``local_setup``)."""
    return name in valid and name.partition("_")[0] in ("local", "debug")


def _sbatch_name(name: str) -> str:
    """sbatch's own name of an option, with underscores."""
    name = name.strip().lstrip("-").replace("-", "_")
    if name in OURS or name in CONSTRUCTOR:
        return name
    name = name.removeprefix("slurm_")
    return _SAME.get(name, name)


def _entry(plain: str, name: str, value: Any) -> tuple[str, Any]:
    """submitit's name and value of one option."""
    if plain == "time":
        return "timeout_min", minutes(name, value)
    if plain == "mem" and name.replace("-", "_").endswith("mem_gb"):
        return "mem_gb", value
    if plain in ("setup", "teardown"):
        return f"slurm_{plain}", [value] if isinstance(value, str) else value
    if plain == "srun_args":
        return "slurm_srun_args", shlex.split(value) if isinstance(value, str) else value
    if plain == "array_parallelism":
        return "slurm_array_parallelism", whole(name, value)
    if plain in _TYPED:
        return f"slurm_{plain}", str(value)
    if plain in OURS or plain in CONSTRUCTOR or plain in _PLAIN:
        return plain, value
    return _GENERIC.get(plain, f"slurm_{plain}"), value


def minutes(name: str, value: Any) -> int:
    """A walltime in whole minutes, rounded up. Raises :class:`InputError`.

    ``value``: minutes, or sbatch's ``[days-]hours:minutes:seconds`` or one of its shorter forms.
    """
    if _is_number(value):
        return whole(name, value)
    match = _TIME.fullmatch(str(value).strip())
    seconds = _seconds(match) if match else 0
    if seconds < 1:
        raise InputError(
            f"executor_options {name}={value}",
            "a walltime: minutes, hours:minutes:seconds or days-hours:minutes:seconds",
            f"pass for example {name}=04:00:00",
        )
    return -(-seconds // 60)


def _seconds(match: re.Match[str]) -> int:
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minute, second = (*numbers, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minute) * 60 + second
    if len(numbers) == 3:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    minute, second = (*numbers, 0)[:2]  # minutes[:seconds]
    return minute * 60 + second


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def whole(name: str, value: Any) -> int:
    """A whole number >= 1 among the executor's options, else :class:`InputError`."""
    if isinstance(value, bool) or not _is_number(value) or value < 1 or value % 1:
        raise InputError(
            f"executor_options {name}={value!r}",
            "a whole number >= 1",
            f"pass for example {name}=8",
        )
    return int(value)
