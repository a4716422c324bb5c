"""Options of SLURM: sbatch's names and times, what is refused; what SLURM says about arrays."""

from __future__ import annotations

from typing import Any

import pytest

from simprior.cli.parse import Refused, parse_options
from simprior.errors import InputError
from simprior.runs import slurm
from simprior.runs.executor_options import minutes, translate

VALID = {"timeout_min", "mem_gb", "name", "cpus_per_task", "nodes"} | {
    f"slurm_{name}"
    for name in "partition time mem account qos gres exclude array_parallelism setup "
    "additional_parameters job_name".split()
}


def test_the_line_of_the_documentation() -> None:
    given = parse_options("partition=cpu,time=04:00:00,array_parallelism=100")
    found = translate(given, VALID)
    assert found.values == {
        "slurm_partition": "cpu",
        "timeout_min": 240,
        "slurm_array_parallelism": 100,
    }


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (
            {"slurm_partition": "cpu", "timeout_min": 30},
            {"slurm_partition": "cpu", "timeout_min": 30},
        ),
        ({"slurm_time": "30:30", "mem": "4G"}, {"timeout_min": 31, "slurm_mem": "4G"}),
        ({"mem_gb": 4, "cpus-per-task": 2}, {"mem_gb": 4, "cpus_per_task": 2}),
        ({"account": 12, "job_name": "x"}, {"slurm_account": "12", "name": "x"}),
        ({"setup": "module load a"}, {"slurm_setup": ["module load a"]}),
        (
            {"--reservation": "r", "no_requeue": True},
            {"slurm_additional_parameters": {"reservation": "r", "no-requeue": True}},
        ),
        ({"folder": "f", "tasks_per_job": 3}, {"folder": "f", "tasks_per_job": 3}),
    ],
)
def test_names(given: dict[str, Any], values: dict[str, Any]) -> None:
    assert translate(given, VALID).values == values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"partition": "a", "slurm_partition": "b"},
            "partition=a,slurm_partition=b: .* one of the two",
        ),
        ({"time": "01:00:00", "timeout_min": 9}, "mean the same; leave timeout_min out"),
        ({"partitoin": "a"}, "partitoin='a': .* did you mean partition"),
        ({"time": "soon"}, "time=soon: expected a walltime"),
        ({"time": "UNLIMITED"}, "time=UNLIMITED: expected a walltime"),
        ({"time": 0}, "time=0: expected a whole number >= 1"),
        ({"array_parallelism": 0.5}, "array_parallelism=0.5: expected a whole number >= 1"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        translate(given, VALID)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30),
        ("30:01", 31),
        ("04:00:00", 240),
        ("1-00", 1440),
        ("1-02:30", 1590),
        ("2-00:00:30", 2881),
        (90, 90),
    ],
)
def test_walltimes(text: Any, expected: int) -> None:
    assert minutes("time", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('exclude="n1,n2",qos=x', {"exclude": "n1,n2", "qos": "x"}),
        ("nodelist=n[1,3-5],account=0012", {"nodelist": "n[1,3-5]", "account": "0012"}),
        ("setup='a, b',account='12'", {"setup": "a, b", "account": "12"}),
    ],
)
def test_commas_in_values(text: str, expected: dict[str, Any]) -> None:
    assert parse_options(text) == expected


@pytest.mark.parametrize("text", ["exclude=n1,n2", 'a="b', "a=1,a=2", ",", "n[1=2"])
def test_commas_that_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_options(text)


def answer(monkeypatch: pytest.MonkeyPatch, output: str, status: int = 0) -> list[tuple[str, ...]]:
    asked: list[tuple[str, ...]] = []

    def ask(*command: str) -> tuple[int, str, str]:
        asked.append(command)
        return status, output, "no answer" if status else ""

    monkeypatch.setattr(slurm, "ask", ask)
    return asked


def test_states_of_array_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(
        monkeypatch,
        "12|0|RUNNING|None\n12|3|PENDING|JobArrayTaskLimit\n14|N/A|REQUEUED|BeginTime\n"
        "12|4|PENDING|launch failed requeued held\n12|5|PREEMPTED|None\n",
    )
    states = slurm.job_states(["12_0", "12_3", "14", "12_4", "12_5"])
    assert isinstance(states, dict) and set(states) == {"12_0", "12_3", "14", "12_4", "12_5"}
    assert [states[name].over for name in states] == [False, False, False, True, True]
    assert "12,14" in asked[0]  # an array is asked for as a whole
    lines = slurm.why_pending(states)
    assert len(lines) == 2 and "JobArrayTaskLimit" not in " ".join(lines)


def test_the_largest_array(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "MaxArraySize            = 1001\nMaxJobCount             = 10000\n")
    assert slurm.largest_array() == 1001
    answer(monkeypatch, "", 1)
    assert slurm.largest_array() == 1
