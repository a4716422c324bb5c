"""Values that nothing can take, through the library and the command line: one line each, before
the work. (``test_fuzz.py`` finds such cases; each kind that it found is kept here by name.)"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simprior as sp
from simprior import checks, gp
from simprior.boolean import truthtable
from simprior.boolean.truthtable import bit_matrix
from simprior.cli import main
from simprior.errors import (
    InputError,
    MemoryShortage,
    SimpriorError,
    check_fits,
    is_shortage,
    shortage,
    shorten,
)
from simprior.training import Optimizer, Problem

FAST = ["--n", "3", "--hidden", "4", "--device", "cpu", "--workers", "1", "--quiet"]
DIGITS = "9" * 5000
NET = sp.Network(n=3, hidden=(4,))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with status 2 and prints nothing else."""
    capsys.readouterr()
    status = main(list(arguments))
    printed, errors = capsys.readouterr()
    lines = errors.strip().splitlines()
    assert status == 2 and printed == "" and len(lines) == 1, errors
    assert lines[0].startswith("simprior: error: ") and len(lines[0]) < 700, lines[0]
    return lines[0].removeprefix("simprior: error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", *FAST, "--seed", DIGITS], ["sample", *FAST, "--n", DIGITS],
        ["sample", *FAST, "--samples", DIGITS], ["sample", *FAST, "--memory", DIGITS],
        ["sample", *FAST, "--hidden", DIGITS], ["sample", *FAST, "--heads", DIGITS],
        ["sample", *FAST, "--inputs", f"[[{DIGITS}]]"],
        ["sample", *FAST, "--inputs", "[" * 100_000],
        ["sample", *FAST, "--config", "huge.toml"], ["sample", *FAST, "--out", "x" * 5000],
        ["train", *FAST, "--target", "x1", "--stop", f"epochs:{DIGITS}"],
        ["train", *FAST, "--target", f"random:{DIGITS}"],
        ["train", *FAST, "--target", "x1", "--options", f"beta1={DIGITS}"],
        ["train", *FAST, "--target", "x1", "--record", DIGITS],
        ["table", "x" * 5000], ["table", f"a/{DIGITS}/b"],
        ["compare", "run", "run", "--train-index", DIGITS],
        ["import", "counts.txt", "--n", "3", "--out", "new"],
    ],
)  # fmt: skip
def test_5000_digits(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Python reads no whole number of more than 4,300 digits: a ValueError of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "huge.toml").write_text(f"seed = {DIGITS}\n")
    (tmp_path / "counts.txt").write_text(f"00001111 {DIGITS}\n")
    refused(capsys, *arguments)


def test_long_values_are_cut_and_their_length_said() -> None:
    error = InputError("x=" + "a" * 4000, "b " + "c" * 4000, "d")
    assert len(str(error)) < 400 and "(4,002 characters)" in str(error)
    path = "/home/someone/results/" + "deep/" * 25
    assert shorten(path) == path  # what people have is shown whole
    many = InputError("train_index=" + "1, " * 2000, "fewer", "cut it")
    assert len(str(many)) < 400 and "characters)" in str(many)
    assert checks.shown(10**5000) == "a whole number of about 5,001 digits"
    assert "shape (8, 8)" in checks.shown(np.eye(8))


BROKEN = {
    "syntax": ("def f(:\n", "SyntaxError"),
    "runtime": ("raise RuntimeError('no such\\ndevice')\n", "RuntimeError: no such device"),
    "leaves": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "needs": ("import a_package_that_is_not_there\n", "a_package_that_is_not_there"),
    "divides": ("1 / 0\n", "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_activation_modules_that_break_on_import(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sys.exit(0)`` in the module made ``sample`` exit 0 without a word."""
    source, says = BROKEN[name]
    (tmp_path / f"broken_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refused(capsys, "sample", *FAST, "--activation", f"broken_{name}:f")
    assert f"broken_{name}:f" in message and says in message


CALLS = {
    "raises": ("def f(x):\n    raise KeyError('no')\n", "KeyError"),
    "leaves": ("import sys\ndef f(x):\n    sys.exit(0)\n", "SystemExit"),
    "text": ("def f(x):\n    return 'text'\n", "activation"),
    "shape": ("def f(x):\n    return x[..., :1]\n", "activation"),
    "nan": ("def f(x):\n    return x * float('nan')\n", "activation"),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_activations_that_break_when_called(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, says = CALLS[name]
    (tmp_path / f"calls_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    activation = ["--activation", f"calls_{name}:f"]
    train = ["--target", "x1", "--train", "4", "--runs", "2", "--max-epochs", "5"]
    for line in (
        ["sample", *FAST, "--samples", "100"], ["train", *FAST, *train],
        ["logp", *FAST, "--functions", "x1"],
    ):  # fmt: skip
        message = refused(capsys, *line, *activation)
        assert "activation" in message
        assert says in message or line[0] == "logp"


X = bit_matrix(3)
K = gp.nngp(NET, X)
TABLE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SKEW = np.eye(8)
SKEW[0, 1] = 0.5
MASKED = np.ma.masked_array(np.ones((3, 3)), mask=np.eye(3))
CASES: list[tuple[Any, dict[str, Any]]] = [
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "options": 3}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "options": {1: 2}}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "record": 5}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "record": "log"}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "record": [1.5]}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "corrupt": "0.5"}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "corrupt": None}),
    (sp.train, {"problem": "relu", "target": "x1", "train": 4}),
    (sp.train, {"problem": NET, "target": "x1", "train": math.nan}),
    (sp.train, {"problem": NET, "target": "x1", "train": np.array([0.5])}),
    (sp.train, {"problem": NET, "target": "x1", "train": 4, "data_seed": 2**70}),
    (sp.sample, {"network": NET, "samples": "10"}),
    (sp.sample, {"network": NET, "samples": math.nan}),
    (sp.sample, {"network": NET, "samples": 100, "workers": math.inf}),
    (sp.sample, {"network": NET, "samples": 100, "workers": None}),
    (sp.sample, {"network": NET, "samples": 100, "memory": "2GB"}),
    (sp.sample, {"network": NET, "samples": 100, "memory": 1e9j}),
    (sp.sample, {"network": NET, "samples": 100, "seed": 2**70}),
    (sp.sample, {"network": NET, "samples": 100, "seed": 10**5000}),
    (sp.sample, {"network": NET, "samples": 100, "heads": np.array([1, 2])}),
    (sp.sample, {"network": NET, "samples": 100, "heads": [1]}),
    (sp.sample, {"network": NET, "samples": 100, "device": 7}),
    (sp.sample, {"network": NET, "samples": 100, "keep": np.eye(2)}),
    (sp.sample, {"network": NET, "samples": 100, "out": 3}),
    (sp.sample, {"network": NET, "samples": 100, "pool": "yes"}),
    (sp.sample, {"network": NET, "samples": 100, "executor": ["local"]}),
    (sp.sample, {"network": NET, "samples": 100, "executor_options": "mem=4"}),
    (sp.sample, {"network": NET, "samples": 100, "progress": 3}),
    (sp.Network, {"sigma_w": (1.0, None, 1.0)}),
    (sp.Network, {"sigma_w": "1"}), (sp.Network, {"sigma_w": (1.0, "2", 1.0)}),
    (sp.Network, {"sigma_b": 10**400}), (sp.Network, {"hidden": [10**5000]}),
    (sp.Network, {"inputs": X * 1j}), (sp.Network, {"inputs": MASKED}),
    (sp.Network, {"inputs": [*X.tolist(), [None] * 3]}),
    (sp.Network, {"encoding": np.eye(2)}), (sp.Network, {"encoding": ["01"]}),
    (sp.Network.from_dict, {"values": [["n", 3]]}), (sp.Network.from_dict, {"values": {1: 2}}),
    (sp.RandomDNF, {"n": 3, "alpha": 10**400}), (sp.RandomDNF, {"n": "3"}),
    (gp.log_prior, {"functions": TABLE, "K": SKEW}),
    (gp.log_prior, {"functions": TABLE, "K": K * math.nan}),
    (gp.log_prior, {"functions": TABLE, "K": K * 1j}),
    (gp.log_prior, {"functions": TABLE, "K": K[:4]}),
    (gp.log_prior, {"functions": TABLE, "K": "K"}),
    (gp.log_prior, {"functions": TABLE, "K": K, "tol": 0}),
    (gp.log_prior, {"functions": TABLE, "K": K, "tol": -1.0}),
    (gp.log_prior, {"functions": TABLE, "K": K, "tol": math.nan}),
    (gp.log_prior, {"functions": TABLE, "K": K, "method": 3}),
    (gp.log_prior, {"functions": TABLE, "K": K, "method": ["ep"]}),
    (gp.log_prior, {"functions": TABLE, "K": K, "mean": "zero"}),
    (gp.log_prior, {"functions": TABLE, "K": K, "draws": None, "kappa": "x"}),
    (gp.log_prior, {"functions": TABLE, "K": K, "method": "ep", "damping": math.nan}),
    (gp.log_prior, {"functions": TABLE, "K": K, "method": "smc", "replicates": [3]}),
    (gp.log_prior, {"functions": TABLE + 1, "K": K}),
    (gp.log_prior, {"functions": TABLE * math.nan, "K": K}),
    (gp.nngp, {"network": "net", "X1": X}), (gp.nngp, {"network": NET, "X1": X * 1j}),
    (gp.nngp, {"network": NET, "X1": X, "rtol": "small"}),
    (gp.tilted_draws, {"labels": TABLE[:3], "K": K}),
    (gp.empirical_nngp, {"make_network": NET, "X1": np.eye(8), "samples": 4}),
    (gp.marginal_likelihood_bound, {"log_evidence": "x", "m": 10}),
    (gp.marginal_likelihood_bound, {"log_evidence": -3.0, "m": math.nan}),
    (gp.marginal_likelihood_bound, {"log_evidence": -3.0, "m": 10, "delta": None}),
    (gp.sample_posterior, {"K": K, "train_index": "01", "labels": [0, 1]}),
    (gp.sample_posterior, {"K": K, "train_index": [0, 1], "labels": [0, math.nan]}),
    (truthtable.pack, {"tables": np.full((1, 8), 2)}),
    (truthtable.pack, {"tables": np.full((1, 8), math.nan)}),
    (truthtable.pack, {"tables": np.ones((1, 8)) * 1j}), (truthtable.pack, {"tables": "x1"}),
    (truthtable.unpack, {"words": np.zeros((1, 1), np.uint64), "m": None}),
    (truthtable.from_hex, {"texts": [15], "m": 8}),
    (truthtable.parse_functions, {"functions": ["x1", 3], "m": 8}),
    (Optimizer, {"name": ["adam"]}), (Optimizer, {"lr": 10**5000}), (Optimizer, {"options": 0.1}),
    (Problem, {"network": NET, "target": "x1", "train": 4, "corrupt": np.eye(2)}),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_bad_python_calls(case: int) -> None:
    """TypeError, ValueError, OverflowError of Python's own, before."""
    function, arguments = CASES[case]
    with pytest.raises(SimpriorError) as caught:
        function(**arguments)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_whole_and_real_is_accepted() -> None:
    """Numpy's numbers, 1e2 for 100, tuples and lists are as good as Python's."""
    counts = sp.sample(NET, samples=np.float64(1e2), seed=np.int64(3), workers=np.int64(1), heads=1)
    again = sp.sample(NET, samples=100, seed=3, heads=1)
    assert counts.to_frame().equals(again.to_frame())
    assert gp.log_prior("x1", K.tolist(), draws=1e3, tol=np.float32(0.5))[0].value < 0


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (MemoryError("Unable to allocate 7.28 TiB for an array with shape"), "7.28 TiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                      "4000000000000 bytes."), "4000000000000 bytes"),
        (MemoryError("std::bad_alloc"), "an unknown amount"),
        (ValueError("Maximum allowed size exceeded"), "an unknown amount"),
    ],
)  # fmt: skip
def test_memory_shortage_is_one_line(
    error: Exception, amount: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The errors of numpy, torch and C++ libraries for a failed allocation, on the command line
    and as a typed error of the library (a MemoryError, and ours)."""
    assert is_shortage(error) and amount in str(shortage(error))
    from simprior.boolean.sampling import sample as sampling

    def fails(*args: Any, **keywords: Any) -> None:
        raise error

    monkeypatch.setattr(sampling, "task_draws", fails)
    message = refused(capsys, "sample", *FAST, "--samples", "100")
    assert amount in message and "--memory" in message and "are available" in message
    with pytest.raises(MemoryShortage) as caught:
        sp.sample(NET, samples=100)
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, SimpriorError)


def test_other_errors_are_no_shortage() -> None:
    for error in (ValueError("x"), RuntimeError("shape"), KeyError("memory"), TypeError("memory")):
        assert not is_shortage(error)
    check_fits("a byte", 1.0)


SMALL = ["--target", "x1", "--train", "4"]
MCMC = [*SMALL, "--samples", "100", "--method", "slice"]


@pytest.mark.parametrize(
    "line",
    [
        ["sample", *FAST, "--hidden", "100000000000"],
        ["sample", *FAST, "--hidden", "3000000,3000000", "--heads", "1"],
        ["sample", *FAST, "--hidden", "3000000,3000000"],
        ["train", *FAST, *SMALL, "--hidden", "100000000000"],
        ["train", *FAST, *SMALL, "--runs", "1e12"],
        ["posterior", *FAST, *MCMC, "--hidden", "100000000000"],
        ["posterior", *FAST, *MCMC, "--chains", "1e12"],
        ["posterior", *FAST, *MCMC, "--thin", "1e12"],
        ["posterior", *FAST, *MCMC, "--samples", "1e13"],
        ["logp", *FAST, "--functions", "x1", "--draws", "1e13"],
        ["logp", "--n", "16", "--functions", "parity", "--workers", "64"],
        ["sensitivity", "--n", "6", "--hidden", "100000000000", "--workers", "1"],
        ["sensitivity", "--n", "6", "--hidden", "4", "--networks", "1e12", "--workers", "1"],
        ["sensitivity", "--n", "6", "--hidden", "4", "--beam", "1e12", "--workers", "1"],
        ["sensitivity", "--n", "1000000000000", "--hidden", "4", "--workers", "1"],
    ],
)
def test_counts_without_bound_are_refused_before_the_work(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, *line)


def test_splits_and_resamples_have_bounds() -> None:
    counts = sp.sample(NET, samples=300, heads=1)
    for name in ("splits", "bootstrap"):
        with pytest.raises(InputError, match=f"{name}="):
            sp.compare(counts, counts, **{name: 10**12})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "steps to record"),
        (["--record", "0,4", "--inputs", "x.csv"], "bit strings"),
        (["--record", "0,4", "--weight-dist", "uniform"], "gaussian"),
        (["--record", "0,4", "--data", "digits"], "bit strings"),
    ],
)
def test_record_logp_is_refused_before_the_training(
    more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from simprior.cli import train

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("0,0,1\n0,1,0\n1,0,0\n1,1,1\n1,1,0\n")
    monkeypatch.setattr(train, "trained", lambda *args: pytest.fail("trained"))
    target = [] if "--data" in more else ["--target", "00111"]
    line = ["train", *FAST, *target, "--train", "2", "--runs", "3", "--record-logp", "--out", "new"]
    assert says in refused(capsys, *line, *more)
    assert not (tmp_path / "new").exists()


def test_bound_checks_gamma_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simprior.cli import bound

    monkeypatch.setattr(bound, "load_data", lambda *args: pytest.fail("data read"))
    for flag in ("--gamma", "--delta"):
        assert "between 0 and 1" in refused(capsys, "bound", "--data", "digits", flag, "1.5")


def test_n_that_contradicts_the_inputs() -> None:
    """It silently became the number of columns."""
    with pytest.raises(InputError, match=r"n=7 with inputs of shape \(10, 4\): expected n=4"):
        sp.Network(n=7, inputs=np.ones((10, 4)))
    given = sp.Network(inputs=np.ones((10, 4)))
    assert given.n == 4 and sp.Network(n=4, inputs=np.ones((10, 4))) == given
    assert sp.Network.from_dict(given.to_dict()) == given
    assert repr(sp.Network()).startswith("Network(n=7, ") and sp.Network().to_dict()["n"] == 7
    assert (
        sp.Network(n=7).digest()
        == sp.Network().digest()
        == ("918d7d6a7d28" + sp.Network().digest()[12:])
    )


def test_n_that_contradicts_the_inputs_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("0,1\n1,0\n1,1\n")
    line = ["sample", *FAST, "--samples", "100", "--inputs", str(tmp_path / "x.csv")]
    assert "n=3 with inputs of shape (3, 2): expected n=2" in refused(capsys, *line)
    assert main([*line, "--n", "2"]) == 0


def test_an_activation_module_may_raise_anything(tmp_path, monkeypatch, capsys):
    (tmp_path / "raises_its_own.py").write_text("class E(BaseException): pass\nraise E('x')\n")
    monkeypatch.chdir(tmp_path)
    line = ["sample", "--n", "3", "--hidden", "4", "--samples", "10"]
    assert main([*line, "--activation", "raises_its_own:f"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "it raised E: x" in message


def test_a_complete_run_of_another_kind_is_not_to_be_finished(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["logp", "--n", "3", "--functions", "x1", "--workers", "1", "--out", run]) == 0
    capsys.readouterr()
    assert main(["compare", run, run]) == 2
    message = capsys.readouterr().err
    assert "that is complete; name another run" in message and "--resume" not in message
