"""Dispatch, parsing and the exit status of every kind of bad input: always one line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from tyro.conf import Positional, arg

import simprior.cli
from simprior.cli import COMMANDS, load, main
from simprior.cli.options import RunOptions
from simprior.cli.parse import Count, Numbers, Options, Widths, help_text, options, parse
from simprior.cli.sample import Sample
from simprior.cli.table import Table
from simprior.errors import InputError
from simprior.runs.tasks import Interrupted
from simprior.runs.text_files import to_toml


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refusal, without its prefix."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("simprior: error: ")
    return output.err.removeprefix("simprior: error: ").rstrip("\n")


def config(tmp_path: Path, text: str) -> str:
    (tmp_path / "run.toml").write_text(text)
    return f"--config={tmp_path / 'run.toml'}"


# ---------------------------------------------------------------- front door


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        for name, summary in COMMANDS.items():
            assert re.search(rf"^  {name} +{summary}$", text, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"simprior {version('simprior')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_every_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    spec = load(command).SPEC
    assert options(spec)
    for option in options(spec).values():
        assert option.help, f"{command} {option.flag} has no help"
        assert option.positional or re.search(rf"{option.flag}\b", text)
    assert " ".join(spec.__doc__.split())[:40] in " ".join(text.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_flags(command: str) -> None:
    assert {"config", "json", "quiet"} <= set(options(load(command).SPEC))


# ---------------------------------------------------------------- values


def test_defaults_are_those_of_the_network() -> None:
    from simprior.network.spec import Network

    spec = parse("sample", Sample, [])
    assert spec == Sample() and isinstance(spec, Sample)
    for name, value in Network().to_dict().items():
        given = getattr(spec, name)
        assert (list(given) if isinstance(given, tuple) else given) == value


def test_every_form_of_a_flag() -> None:
    spec = parse(
        "sample",
        Sample,
        ["--samples", "1.5e6", "--hidden=", "--sigma-w", "1,2", "--sigma_b=0", "--resume",
         "--memory", "2GB", "--keep", "1/4", "--watch", "parity,x1", "--out", "a/b",
         "--executor-options", "mem_gb=4", "--heads", "48", "--pool", "--seed", "5"],
    )  # fmt: skip
    assert isinstance(spec, Sample)
    assert (spec.samples, spec.hidden, spec.sigma_w, spec.sigma_b) == (1_500_000, (), (1, 2), 0)
    assert (spec.resume, spec.overwrite, spec.pool, spec.heads) == (True, False, True, 48)
    assert (spec.memory, spec.keep, spec.watch) == (2 * 1024**3, 0.25, ("parity", "x1"))
    assert (spec.out, spec.executor_options, spec.seed) == (Path("a/b"), {"mem_gb": 4}, 5)


def test_positional_arguments_anywhere_and_the_last_flag_wins() -> None:
    for arguments in (["run", "--top", "5"], ["--top", "5", "run"], ["--top=5", "--", "run"]):
        spec = parse("table", Table, ["--top=3", *arguments])
        assert isinstance(spec, Table) and (spec.path, spec.top) == (Path("run"), 5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "--samples", "1e3.5"],
         "samples=1e3.5: expected a whole number >= 1, such as 20 or 1e7; "
         "pass for example --samples 10000000"),
        (["sample", "--workers", "0"], "workers=0: expected a whole number >= 1, such as 20 or "
         "1e7; pass for example --workers 1"),
        (["table", "run", "--top", "0"], "top=0: expected a whole number >= 1, such as 20 or 1e7; "
         "pass for example --top 1"),
        (["sample", "--samples", "-3"], "samples=-3: expected a whole number"),
        (["sample", "--samples=nan"], "samples=nan: expected a whole number"),
        (["sample", "--samples", "0.5"], "samples=0.5: expected a whole number"),
        (["sample", "--samples"], "--samples: expected a value (COUNT)"),
        (["sample", "--samples", "--resume"], "--samples: expected a value (COUNT)"),
        (["sample", "--sampels", "3"],
         "unknown flag --sampels: expected a flag of simprior sample; did you mean --samples?"),
        (["sample", "-n", "7"], "unknown flag -n"),
        (["sample", "--resume=1"], "--resume=1: expected --resume without a value"),
        (["sample", "extra"], "argument 'extra': expected flags only"),
        (["sample", "--n", "seven"], "n=seven: expected a whole number such as 7"),
        (["sample", "--n", "0"], "n=0: expected an integer from 1 to 16"),
        (["sample", "--n", "17"], "n=17: expected an integer from 1 to 16"),
        (["sample", "--sigma-w", "-1"], "sigma_w=-1.0: expected a finite standard deviation > 0"),
        (["sample", "--sigma-b", "1,2"], "sigma_b=(1.0, 2.0): expected one number or 3"),
        (["sample", "--activation", "reul"], "activation='reul': expected one of relu, tanh"),
        (["sample", "--encoding", "10"], "encoding=10: expected one of 01, pm1"),
        (["sample", "--hidden", "40,x"], "hidden=40,x: expected a comma list of widths"),
        (["sample", "--hidden", "0"], "hidden=(0,): expected positive integers"),
        (["sample", "--device", "gpu"], "device=gpu: expected one of auto, cpu, cuda"),
        (["sample", "--model", "dnf", "--n", "3", "--alpha", "0.3"], "alpha=0.3: expected"),
        (["sample", "--inputs", "/nowhere.npy"], "inputs=/nowhere.npy: expected a .npy or .csv"),
        (["sample", "--config", "/nowhere.toml"], "config=/nowhere.toml: expected a readable TOML"),
        (["smaple"], "command 'smaple': expected one of sample, import"),
        (["table"], "no PATH: expected simprior table PATH"),
        (["table", "a", "b"], "argument 'b': expected PATH"),
        (["table", "run", "--format", "xls"], "format=xls: expected one of csv, latex"),
        (["info", "/nowhere"], "/nowhere/manifest.json: no such file"),
        (["import", "f", "--n", "17", "--out", "o"], "n=17: expected an integer from 1 to 16"),
        (["import", "f"], "out=none: expected a run directory"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, *arguments)


# ---------------------------------------------------------------- TOML


def test_a_file_gives_defaults_and_flags_override(tmp_path: Path) -> None:
    text = 'samples = 1e5\nseed = 4\npool = true\n[network]\nhidden = [10, 20]\n"sigma-w" = 2\n'
    spec = parse("sample", Sample, [config(tmp_path, text), "--seed", "9"])
    assert isinstance(spec, Sample)
    assert (spec.samples, spec.seed, spec.pool) == (100_000, 9, True)
    assert (spec.hidden, spec.sigma_w, spec.n) == ((10, 20), 2.0, 7)


def test_lists_tables_and_matrices_of_a_file(tmp_path: Path) -> None:
    text = (
        'hidden = []\nwatch = ["parity", "x1"]\ninputs = [[0, 1], [1.5, 0]]\nresume = false\n'
        '[executor_options]\nmem_gb = 4\nslurm_partition = "long"\n'
    )
    spec = parse("sample", Sample, [config(tmp_path, text)])
    assert isinstance(spec, Sample)
    assert (spec.hidden, spec.watch, spec.resume) == ((), ("parity", "x1"), False)
    assert spec.executor_options == {"mem_gb": 4, "slurm_partition": "long"}
    network = simprior.cli.load("sample").build_model(spec)
    assert network.inputs.tolist() == [[0, 1], [1.5, 0]]


def test_the_record_of_a_training_run_is_refused_with_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a problem, not the flags that chose it."""
    line = ["train", "--n", "3", "--hidden", "4", "--train", "3", "--runs", "1", "--quiet"]
    line += ["--target", "x1", "--max-epochs", "1", "--out", str(tmp_path / "a run")]
    monkeypatch.setattr("sys.argv", ["/some/where/simprior", *line])
    assert main(line) == 0
    capsys.readouterr()
    record = tmp_path / "a run" / "config.toml"
    found = refused(capsys, "train", "--config", str(record))
    assert found.startswith(f"key 'weight_decay' in {record}: expected keys that are flags; ")
    assert found.endswith(f"repeat: {shlex.join(['simprior', *line])}")
    record.with_name("manifest.json").write_text("[]")
    assert "weight_decay" in refused(capsys, "train", "--config", str(record))


def test_the_resolved_configuration_is_a_configuration(tmp_path: Path) -> None:
    from simprior.network.spec import Network

    network = Network(n=5, hidden=(3,), sigma_w=(1.0, 2.0), sigma_b=0.0)
    text = to_toml({"network": network.to_dict(), "samples": 10**6, "seed": 2})
    spec = parse("sample", Sample, [config(tmp_path, text)])
    assert isinstance(spec, Sample)
    assert simprior.cli.load("sample").build_model(spec) == network
    assert (spec.samples, spec.seed) == (10**6, 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "sampels = 3",
            "key 'sampels' in .*run.toml: expected one of json.*; did you mean samples",
        ),
        ("zzzz = 3", "key 'zzzz' in .*; remove it"),
        ("[network]\nzzzz = 3", "key 'zzzz' in "),
        ("config = 'b.toml'", "key 'config' in "),
        ("samples = 1.5", "samples=1.5: expected a whole number"),
        ("samples = -1", "samples=-1: expected a whole number"),
        ("pool = 1", "pool=1 in .*: expected true or false"),
        ("n = 3\n[network]\nn = 4", "key 'n' in .*: expected each key once"),
        ("n = ", "expected TOML "),
    ],
)
def test_bad_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    assert re.search(says, refused(capsys, "sample", config(tmp_path, text)))


# ---------------------------------------------------------------- later commands add a dataclass


@dataclass(frozen=True, kw_only=True)
class Later(RunOptions):
    """A command of a later issue."""

    function: Annotated[Positional[str], arg(help="a function")]
    widths: Annotated[Widths, arg(help="widths")] = (1,)
    lr: Annotated[Numbers, arg(help="rate")] = 0.1
    runs: Annotated[Count, arg(help="runs")]
    extra: Annotated[Options, arg(help="more")] = None


def test_a_new_dataclass_is_enough() -> None:
    spec = parse("later", Later, ["parity", "--runs", "1e3", "--lr", "0.5", "--workers", "3"])
    assert isinstance(spec, Later)
    assert (spec.function, spec.runs, spec.lr, spec.worker_count()) == ("parity", 1000, 0.5, 3)
    assert "--widths INT[,INT...]" in help_text("later", Later)
    with pytest.raises(InputError, match="no --runs: expected simprior later --runs"):
        parse("later", Later, ["parity"])
    with pytest.raises(InputError, match="no FUNCTION"):
        parse("later", Later, ["--runs", "3"])


# ---------------------------------------------------------------- ends of a command


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Interrupted("interrupted after 3 finished tasks"), 130, "with --resume to continue"),
        (KeyboardInterrupt(), 130, "stopped; run the same command with --resume to continue"),
        (InputError("x=1", "2", "pass 2"), 2, "simprior: error: x=1: expected 2; pass 2"),
    ],
)
def test_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    says: str,
) -> None:
    def run(spec: Any) -> int:
        raise error

    monkeypatch.setattr(load("sample"), "run", run)
    assert main(["sample", "--out", "o"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1]


@pytest.mark.parametrize(
    ("line", "kept", "says"),
    [
        (
            ["sample", "--samples", "10"],
            False,
            "a run with --out DIR can be continued with --resume",
        ),
        (
            ["sample", "--out", "o"],
            True,
            "stopped; what was finished is kept; run the same",
        ),
        (["table", "r", "--out", "t.csv"], False, "simprior: stopped"),
    ],
)
def test_an_interruption_promises_what_is_true(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: list[str],
    kept: bool, says: str,
) -> None:  # fmt: skip
    """In memory nothing is kept; commands without --resume are not told to use it."""

    def run(spec: Any) -> int:
        error = KeyboardInterrupt()
        if kept:  # as a run directory with shards does when it is left
            error.kept = True  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(load(line[0]), "run", run)
    assert main(line) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert says in last and ("is kept" in last) == kept
    assert ("--resume" in last) == (line[0] == "sample")


@pytest.fixture(autouse=True)
def _signals() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run_cli(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    text = f"import sys\nfrom simprior.cli import main\n{code}\nsys.exit(main({list(arguments)!r}))"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_sigterm_exits_130() -> None:
    code = (
        "import os, signal, time\nimport simprior.cli.info as info\n"
        "def run(spec):\n    os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)\n"
        "info.run = run"
    )
    done = run_cli(code, "info", "p")
    assert done.returncode == 130 and done.stderr.count("\n") == 1


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import simprior.cli.info as info\n"
        "def run(spec):\n    [print('x' * 1000) for _ in range(10000)]; return 0\n"
        "info.run = run"
    )
    text = f"import sys\nfrom simprior.cli import main\n{code}\nsys.exit(main(['info', 'p']))"
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0


@pytest.mark.parametrize(
    "how", [["-m", "simprior"], ["-c", "from simprior.cli import main; main()"]]
)
def test_module_entry(how: list[str]) -> None:
    done = subprocess.run([sys.executable, *how], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: simprior COMMAND")
