"""Bad input through the command line: exit status 2, one line with the remedy, no traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simprior.cli import main
from simprior.network.spec import ACTIVATIONS
from simprior.runs import files as store_io

FAST = ["--samples", "1000", "--n", "3", "--hidden", "4", "--device", "cpu", "--workers", "1"]
NAMES = ", ".join(ACTIVATIONS)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that ``simprior sample`` prints on its way out with status 2."""
    status = main(["sample", *FAST, *arguments])
    printed, errors = capsys.readouterr()
    assert status == 2 and printed == "", errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("simprior: error: ")
    return lines[0].removeprefix("simprior: error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "n=0: expected an integer from 1 to 16; pass for example n=7"),
        (["--n", "17"], "n=17: expected an integer from 1 to 16; pass for example n=7"),
        (
            ["--sigma-w=-1"],
            "sigma_w=-1.0: expected a finite standard deviation > 0; pass for example sigma_w=1.0",
        ),
        (
            ["--sigma-b=-1"],
            "sigma_b=-1.0: expected a finite standard deviation >= 0; pass for example sigma_b=1.0",
        ),
        (
            ["--activation", "foo"],
            f"activation='foo': expected one of {NAMES} or an import path module:function; "
            "check the spelling, e.g. torch.nn.functional:silu",
        ),
        (
            ["--samples", "1e3.5"],
            "samples=1e3.5: expected a whole number >= 1, such as 20 or 1e7; "
            "pass for example --samples 10000000",
        ),
        (
            ["--samples", "1e30"],
            f"samples={10**30}: expected a whole number from 1 to 1e13; pass for example 1e7",
        ),
        (
            ["--heads", "1e9"],
            "heads=1000000000: expected an integer from 1 to 65536 or auto; pass heads='auto'",
        ),
        (["--memory", "1MB"], "memory=1048576: expected at least 64 MiB"),
        (["--sigma-w", "1,2,3"], "sigma_w=(1.0, 2.0, 3.0): expected one number or 2 (one a layer"),
        (["--seed=-1"], "seed=-1: expected an integer from 0 to 2^63 - 1; "),
        (["--hidden", "0"], "hidden=(0,): expected positive integers, one a hidden layer; "),
        (["--sigma-w", "1e20"], "sigma_w=1e+20, sigma_b=1.0: expected pre-activations below "),
        (["--model", "dnf", "--heads", "4"], "heads=4: expected 1 or auto for a DNF network; "),
    ],
)
def test_bad_values(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = refused(capsys, *arguments)
    assert found.startswith(message) if message.endswith(" ") else message in found
    if "; pass" in message or "; check" in message:
        assert found == message or message.endswith("; ")


def test_cuda_without_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert refused(capsys, "--device", "cuda") == (
        "device='cuda': expected a CUDA device that torch can use, found none; pass --device cpu"
    )


def test_out_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        assert refused(capsys, "--out", str(tmp_path / name)) == (
            f"{tmp_path / name}: is a file or lies below one, not a directory; choose another --out"
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert "not a simprior run directory" in refused(capsys, "--out", str(tmp_path / "full"))
    assert (tmp_path / "full" / "thesis.tex").read_text() == "mine"


def test_out_not_writable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "locked" / "run"
    out.parent.mkdir()
    if os.geteuid() == 0:  # the superuser may write anywhere

        def denied(self: Path, *args: Any, **kwargs: Any) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "mkdir", denied)
    else:
        out.parent.chmod(0o500)
    assert refused(capsys, "--out", str(out)) == (
        f"{out}: cannot be written (Permission denied); finished shards are kept: choose a "
        "directory you may write to with --out, or make this one writable and --resume"
    )


def test_disk_full_while_writing_a_shard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def full(self: Any, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_io._HashingFile, "write", full)
        message = refused(capsys, "--out", str(out), "--quiet")
    assert message == (
        f"{out}/shards/000000.parquet: cannot be written, the disk is full (No space left on "
        "device); finished shards are kept: free some space and run the same command with --resume"
    )
    assert not list((out / "shards").glob("*.parquet"))
    assert main(["sample", *FAST, "--out", str(out), "--resume", "--quiet"]) == 0


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from simprior.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_disk_full_in_a_real_process_with_workers(tmp_path: Path) -> None:
    """A limit on file sizes stands for a full disk (counts of 1e5 networks take 0.4 MB)."""
    arguments = ["sample", "--samples", "1e5", "--workers", "2", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "cannot be written, the disk is full (File too large)" in done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "simprior", *arguments, "--resume"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("damage", "says"),
    [("{", "corrupt manifest, not JSON"), ("[]", "corrupt manifest"), ("", "corrupt manifest")],
)
def test_corrupt_manifest(
    damage: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["sample", *FAST, "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    (out / "manifest.json").write_text(damage)
    message = refused(capsys, "--out", str(out), "--resume")
    assert message.startswith(f"{out}/manifest.json: ") and says in message
    assert "--overwrite" in message
    assert main(["table", str(out)]) == 2
    assert says in capsys.readouterr().err
    assert main(["sample", *FAST, "--out", str(out), "--overwrite", "--quiet"]) == 0


def test_corrupt_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["sample", *FAST, "--out", str(out), "--quiet"]) == 0
    data = (out / "counts.parquet").read_bytes()
    (out / "counts.parquet").write_bytes(data[:-50])
    capsys.readouterr()
    assert main(["table", str(out)]) == 2
    errors = capsys.readouterr().err
    assert "counts.parquet" in errors and errors.count("\n") == 1


BROKEN = """
import numpy as np, torch
def nan(x):
    return x * float("nan")
def log(x):
    return torch.log(torch.as_tensor(x))
def shape(x):
    return x[..., :1]
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "the activation of hidden layer 1 gave NaN or infinity: expected finite numbers"),
        ("log", "the activation of hidden layer 1 gave NaN or infinity: expected finite numbers"),
        ("shape", "shape"),
    ],
)
def test_activations_that_misbehave(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "broken_activation.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refused(capsys, "--activation", f"broken_activation:{name}")
    assert says in message and "activation" in message


@pytest.mark.slow
def test_a_real_process_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken_activation.py").write_text(BROKEN)
    for extra in (["--n", "17"], ["--activation", "broken_activation:nan"]):
        done = subprocess.run(
            [sys.executable, "-m", "simprior", "sample", *FAST, *extra],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("simprior: error: ") and done.stderr.count("\n") == 1


def test_inputs_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([[1.0, np.nan]]))
    message = refused(capsys, "--inputs", str(tmp_path / "x.npy"))
    assert message.startswith("inputs of shape (1, 2): expected a finite (m, d) matrix")
    assert "cannot be read" in refused(capsys, "--inputs", str(tmp_path / "no.npy"))


@pytest.mark.parametrize("command", ["posterior", "bound"])
def test_a_cluster_is_refused_by_commands_that_work_here(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--executor", "dask"]) == 2
    assert capsys.readouterr().err == (
        f"simprior: error: unknown flag --executor: expected a flag of simprior {command}; "
        f"see simprior {command} --help\n"
    )
