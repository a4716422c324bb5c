"""What the commands write, with the library below them replaced where it is slow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.boolean.truthtable import from_bits, to_bits
from simprior.cli import main
from simprior.cli.options import human, key_values, markdown, print_json
from simprior.network.spec import Network
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.tasks import available_cores

FRAME = pd.DataFrame(
    {
        "rank": [1, 2, 3],
        "function": ["0x" + "0" * 32, "0x" + "f" * 32, "0x_a&b"],
        "count": [7, 2, 1],
        "p": [0.7, 0.2, 1.5e-7],
        "p_low": [0.5, 0.1, 1e-9],
    }
)


class FakeCounts:
    """The interface that the commands use."""

    functions, samples, unlisted = len(FRAME), 10, 0

    def __init__(self, **made: Any) -> None:
        self.made = made

    def to_frame(self, top: int | None = 20) -> pd.DataFrame:
        return FRAME.head(top)

    def summary(self) -> dict[str, Any]:
        return {"samples": 10, "unseen_mass": float("nan")}

    @classmethod
    def load(cls, path: Path, top: int | None = None) -> FakeCounts:
        return cls(path=path)

    @classmethod
    def from_counts(cls, words: Any, count: Any, **options: Any) -> FakeCounts:
        made = cls(words=words, count=count, **options)
        cls.last = made  # type: ignore[attr-defined]
        return made

    def save(self, out: Path, *, overwrite: bool = False) -> None:
        self.made["out"] = out


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the library below ``sample``, ``table``, ``import`` and ``plot``; records calls."""
    calls: dict[str, Any] = {}

    def sample(network: Any, **options: Any) -> FakeCounts:
        calls.update(options, network=network)
        return FakeCounts()

    def plot_run(path: Path, out: Path | None = None) -> list[Path]:
        calls.update(path=path, out=out)
        return [Path("figures/rank.pdf"), Path("figures/rank.png")]

    members = {
        "simprior.boolean.sampling.counts": {"FunctionCounts": FakeCounts},
        "simprior.boolean.sampling.watch": {"load_result": FakeCounts.load},
        "simprior.boolean.sampling.sample": {"sample": sample},
        "simprior.analysis.plot": {"plot_run": plot_run},
        "simprior.analysis.table_runs": {"has_functions": lambda path: True},
    }
    for name, content in members.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


# ---------------------------------------------------------------- sample


def test_sample_passes_everything_on(fake: dict[str, Any], capsys: Any, tmp_path: Path) -> None:
    arguments = "--n 5 --hidden 8 --sigma-b 0 --samples 1e4 --seed 3 --heads 1 --workers 2"
    assert main(["sample", *arguments.split(), "--out", str(tmp_path / "o"), "--quiet"]) == 0
    assert fake["network"] == Network(n=5, hidden=(8,), sigma_b=0.0)
    assert {k: fake[k] for k in ("samples", "seed", "heads", "workers", "resume")} == {
        "samples": 10**4,
        "seed": 3,
        "heads": 1,
        "workers": 2,
        "resume": False,
    }
    assert fake["out"] == tmp_path / "o" and hasattr(fake["progress"], "update")
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines()[0].split("|")[1].strip() == "rank"
    assert "samples      10" in output.out


def test_workers_of_a_sample_in_memory(fake: dict[str, Any], capsys: Any) -> None:
    """All cores, but one worker where torch draws the networks."""
    assert main(["sample", "--device", "cpu", "--quiet"]) == 0
    assert fake["workers"] == available_cores()
    assert main(["sample", "--dtype", "float64", "--quiet"]) == 0
    assert fake["workers"] == 1


def test_sample_json(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["sample", "--json", "--quiet", "--top", "2"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["summary"] == {"samples": 10, "unseen_mass": None}
    assert [row["rank"] for row in value["table"]] == [1, 2]


def test_sample_dnf_and_inputs(fake: dict[str, Any], capsys: Any, tmp_path: Path) -> None:
    from simprior.boolean.sampling.dnf import RandomDNF

    assert main(["sample", "--model", "dnf", "--n", "4", "--alpha", "2", "--quiet"]) == 0
    assert fake["network"] == RandomDNF(n=4, alpha=2.0)
    inputs = np.array([[0.0, 1.5], [2.0, -1.0], [0.5, 0.5]])
    np.save(tmp_path / "x.npy", inputs)
    np.savetxt(tmp_path / "x.csv", inputs, delimiter=",")
    for name in ("x.npy", "x.csv"):
        assert main(["sample", "--inputs", str(tmp_path / name), "--quiet"]) == 0
        np.testing.assert_array_equal(fake["network"].inputs, inputs)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"1,2\n3\n", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_bad_inputs_files(capsys: Any, tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    assert main(["sample", "--inputs", str(tmp_path / f"x{suffix}")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "inputs" in error


def test_inputs_that_are_pickled_objects_are_refused(capsys: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main(["sample", "--inputs", str(tmp_path / "x.npy")]) == 2
    assert "cannot be read" in capsys.readouterr().err


# ---------------------------------------------------------------- table


def test_table_csv_and_columns(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["table", "run", "--top", "2", "--columns", "function,count"]) == 0
    assert capsys.readouterr().out == f"function,count\n0x{'0' * 32},7\n0x{'f' * 32},2\n"
    assert main(["table", "run", "--columns", "function,wrong"]) == 2
    assert "columns=wrong: expected some of rank, function" in capsys.readouterr().err


def test_table_latex_escapes(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["table", "run", "--format", "latex", "--caption", "Top 3", "--label", "t:x"]) == 0
    text = capsys.readouterr().out
    caption = r"\caption{Top 3 Of long functions the middle is left out.}"
    for part in (r"\toprule", caption, r"\label{t:x}", "{$P(f)$}", r"0x\_a\&b"):
        assert part in text
    assert "& 1.5e-7 &" in text and r"p\_low" not in text


def test_table_markdown_and_json(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["table", "run", "--format", "markdown", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line[0] == line[-1] == "|" for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert main(["table", "run", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["table"]
    assert [row["count"] for row in rows] == [7, 2, 1] and rows[2]["p"] == 1.5e-7
    assert found["summary"] == {"samples": 10, "unseen_mass": None}


@pytest.mark.parametrize("form", ["csv", "latex", "markdown", "json"])
def test_table_to_a_file(fake: dict[str, Any], capsys: Any, tmp_path: Path, form: str) -> None:
    assert main(["table", "run", "--format", form, "--out", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out == ""
    shown = "0x" + ("f" * 6 + ".." + "f" * 4 if form == "latex" else "f" * 32)
    assert shown in (tmp_path / "t").read_text()


@pytest.mark.parametrize("form", ["csv", "latex", "markdown", "json", "parquet"])
def test_table_replaces_a_file_only_when_told(
    fake: dict[str, Any], capsys: Any, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "t"
    line = ["table", "run", "--format", form, "--out", str(file)]
    assert main(line) == 0
    first = file.read_bytes()
    for there in (first, b"# Read me\n"):  # also a table of its own
        file.write_bytes(there)
        capsys.readouterr()
        assert main([*line, "--top", "1"]) == 2
        error = capsys.readouterr().err
        assert f"out={file}, which exists: expected a new file" in error
        assert "--overwrite" in error and error.count("\n") == 1 and file.read_bytes() == there
    assert main([*line, "--top", "1", "--overwrite"]) == 0 and file.read_bytes() != first
    assert main([*line, "--overwrite"]) == 0 and file.read_bytes() == first
    file.write_bytes(b"")  # nothing to lose
    assert main(line) == 0 and file.read_bytes() == first


def test_table_says_what_it_leaves_out(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["table", "run", "--top", "2"]) == 0
    assert capsys.readouterr().err == "simprior: 2 of 3 rows; --top 3 for all\n"
    for line in (["--top", "3"], ["--top", "2", "--quiet"]):
        assert main(["table", "run", *line]) == 0
        assert capsys.readouterr().err == ""


def test_markdown_and_words() -> None:
    text = markdown(["a|b", "n"], [["x", 1], ["long one", 23]])
    assert text.splitlines() == [
        "| a\\|b     |   n |",
        "| -------- | --: |",
        "| x        |   1 |",
        "| long one |  23 |",
    ]
    assert [human(v) for v in (True, None, 10**7, 0.25, [1, 2], {"a": 1}, "x", [])] == [
        "yes", "none", "10,000,000", "0.25", "1, 2", "a 1", "x", "none",
    ]  # fmt: skip
    assert key_values({"a": 1, "long": 2}) == "a     1\nlong  2"


def test_json_is_strict(capsys: Any) -> None:
    print_json({"a": np.float64("nan"), "b": [np.int64(3), float("inf")], "c": np.array([1.5])})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [3, None], "c": [1.5]}


# ---------------------------------------------------------------- plot


def test_plot_prints_the_files(fake: dict[str, Any], capsys: Any) -> None:
    assert main(["plot", "run", "--out", "there"]) == 0
    assert capsys.readouterr().out == "figures/rank.pdf\nfigures/rank.png\n"
    assert (fake["path"], fake["out"]) == (Path("run"), Path("there"))
    assert main(["plot", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in found["table"]] == ["figures/rank.pdf", "figures/rank.png"]


# ---------------------------------------------------------------- info


def make_run(path: Path) -> Path:
    config = {"network": {"n": 3, "hidden": [4]}, "samples": 1000, "seed": 1}
    with RunDir.open(path, "sample", config) as run:
        done = write_table(run.shard_path("part-0"), {"x": np.arange(5)})
        run.register_shard("part-0", done.sha256, done.rows, done.bytes)
        run.finish({"distinct": 12345, "unseen_mass": 0.01})
    return path


def test_info_in_words(capsys: Any, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    for part in ("simprior sample, complete", "network.hidden", "12,345", "truth_table", "numpy",
                 "2 verified, all hashes agree"):  # fmt: skip
        assert part in text
    assert main(["info", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["summary"]["problems"] == [] and value["summary"]["status"] == "complete"


def test_info_fails_when_a_file_does(capsys: Any, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    shard = path / "shards" / "part-0.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["info", str(path)]) == 2
    output = capsys.readouterr()
    assert "1 of 2 fail" in output.out and "shards/part-0.parquet: has" in output.out
    assert output.err.count("\n") == 1 and "part-0.parquet" in output.err
    (path / "manifest.json").write_text("{")
    assert main(["info", str(path)]) == 2
    assert "corrupt manifest" in capsys.readouterr().err
    assert main(["table", str(path / "nothing")]) == 2
    assert load_run(make_run(tmp_path / "two")).verify() == []


# ---------------------------------------------------------------- import


@pytest.mark.parametrize(
    "text",
    [
        "00000001 5\n10000000 3\n11111111 1\n",
        "5 00000001\n3 10000000\n1 11111111\n",
        "00000001,5\n3,10000000\n11111111",
        "# made elsewhere\n00000001\t5\n\n0x80   3\n0xff\n",
    ],
)
def test_import_forms(fake: dict[str, Any], capsys: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    assert main(["import", str(tmp_path / "c.txt"), "--n", "3", "--out", "o"]) == 0
    made = FakeCounts.last.made  # type: ignore[attr-defined]
    assert to_bits(made["words"], 8) == ["00000001", "10000000", "11111111"]
    assert made["count"].tolist() == [5, 3, 1]
    assert (made["m"], made["n"], made["samples"], made["out"]) == (8, 3, 9, Path("o"))


def test_import_reversed_order_and_samples(
    fake: dict[str, Any], capsys: Any, tmp_path: Path
) -> None:
    (tmp_path / "c.txt").write_text("01010011 2\n")
    base = ["import", str(tmp_path / "c.txt"), "--n", "3", "--out", "o"]
    assert main([*base, "--bit-order", "reversed", "--samples", "1e2"]) == 0
    made = FakeCounts.last.made  # type: ignore[attr-defined]
    np.testing.assert_array_equal(made["words"], from_bits(["01010011"], 8, "reversed"))
    assert made["samples"] == 100
    assert main([*base, "--samples", "1"]) == 2
    assert "samples=1: expected at least the sum of counts, 2" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 4, 7])
def test_import_tells_a_count_from_a_function(
    fake: dict[str, Any], capsys: Any, tmp_path: Path, n: int
) -> None:
    """Counts made of 0 and 1, before and after functions of every length."""
    m = 1 << n
    functions = ["0" * m, "1" * m, ("01" * m)[:m]]
    lines = [f"{functions[0]} 1", f"100 {functions[1]}", f"{functions[2]} 11"]
    (tmp_path / "c.txt").write_text("\n".join(lines))
    assert main(["import", str(tmp_path / "c.txt"), "--n", str(n), "--out", "o"]) == 0
    made = FakeCounts.last.made  # type: ignore[attr-defined]
    assert to_bits(made["words"], m) == functions and made["count"].tolist() == [1, 100, 11]


def test_import_of_counts_that_look_like_functions(
    fake: dict[str, Any], capsys: Any, tmp_path: Path
) -> None:
    """At m = 4 a count of 1000 could be a function; the other lines of the file tell."""
    (tmp_path / "c.txt").write_text("1000 0000\n7 1111\n1101 0110\n")
    assert main(["import", str(tmp_path / "c.txt"), "--n", "2", "--out", "o"]) == 0
    made = FakeCounts.last.made  # type: ignore[attr-defined]
    assert to_bits(made["words"], 4) == ["0000", "1111", "0110"]
    assert made["count"].tolist() == [1000, 7, 1101]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0000000 5", "line 3: '0000000 5': expected 8 characters 0 or 1"),
        ("00000002 5", "line 3: '00000002 5': expected 8 characters 0 or 1"),
        ("00000001 x", "line 3: '00000001 x': expected a function"),
        ("00000001 -5", "line 3: '00000001 -5': expected a function"),
        ("00000001 0", "line 3: '00000001 0': expected a function"),
        ("00000001 1.5", "line 3: '00000001 1.5': expected a function"),
        ("00000001 99999999999999999999", "line 3: '00000001 99999999999999999999': expected"),
        ("00000001 5 7", "line 3: '00000001 5 7': expected a function"),
        ("0xf 5", "line 3: '0xf 5': expected 2 hex digits"),
    ],
)
def test_import_names_the_malformed_line(
    fake: dict[str, Any], capsys: Any, tmp_path: Path, line: str, says: str
) -> None:
    (tmp_path / "c.txt").write_text(f"# comment\n00000001 5\n{line}\n11111111 2\n")
    assert main(["import", str(tmp_path / "c.txt"), "--n", "3", "--out", "o"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_import_other_bad_files(fake: dict[str, Any], capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n# nothing\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, says, extra in [
        ("empty", "at least one line", []),
        ("bytes", "a text file", []),
        ("missing", "a readable text file", []),
    ]:
        assert main(["import", str(tmp_path / name), "--n", "3", "--out", "o", *extra]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
