"""LaTeX tables: structure always; compiled with a real engine where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simprior.analysis.measure.registry import MEASURES
from simprior.analysis.text.numbers import (
    fixed,
    interval,
    interval_decimals,
    plain,
    plus_minus,
    value_error,
)
from simprior.analysis.text.tables import PAGE, PREAMBLE, escape_text, latex, siunitx_table
from simprior.errors import InputError

ENGINE = shutil.which("pdflatex")


def packages_missing() -> bool:
    finder = shutil.which("kpsewhich")
    if ENGINE is None or finder is None:
        return True
    return any(
        subprocess.run([finder, name], capture_output=True, check=False).returncode
        for name in ("booktabs.sty", "siunitx.sty")
    )


needs_latex = pytest.mark.skipif(
    packages_missing(),
    reason="NO pdflatex WITH booktabs AND siunitx INSTALLED: the tables were not compiled",
)

HARD = pd.DataFrame({
    "measure": ["log_p", "50 % & more", "#1 {a}_b^c~d\\e"],
    "function": ["0x00ff", None, "0x3f"],
    "v": [0.384, -123456.7, float("nan")], "v_stderr": [0.066, 789.0, 0.1],
    "kendall": [0.5, -0.25, 1e-9], "kendall_low": [0.4, -0.3, float("nan")],
    "kendall_high": [0.6, -0.2, 1.0], "points": [3, 40, 500], "p_value": [1e-7, 0.5, 1.0],
    "ok": [True, False, True], "tiny": [1.5e-5, 2e-12, 0.0],
    "tiny_stderr": [1.2e-6, 3e-13, 1e-3], "large": [2.5e9, -3e7, 12.0], "empty": [float("nan")] * 3,
})  # fmt: skip


def rows(text: str) -> list[list[str]]:
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in body.strip().split("\n")]


def compile_tables(texts: list[str], folder: Path) -> None:
    document = "\n".join([r"\documentclass{article}", PREAMBLE, r"\begin{document}", *texts,
                          r"\end{document}"])  # fmt: skip
    (folder / "t.tex").write_text(document)
    assert ENGINE is not None
    command = [ENGINE, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert done.returncode == 0 and not wrong, done.stdout[-1500:]
    assert (folder / "t.pdf").stat().st_size > 1000


def test_structure_of_a_table() -> None:
    text = siunitx_table(HARD, "A caption: 5 % & $\\ln P$", "tab:hard", "simprior table\nx")
    lines = text.splitlines()
    assert lines[0] == "% simprior table x" and text.endswith("\\end{table}\n")
    assert r"\caption{A caption: 5 \% \& $\ln P$}" in lines and r"\label{tab:hard}" in lines
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert lines.count(rule) == 1
    spec = re.search(r"\\begin\{tabular\}\{(.*)\}", text)
    assert spec is not None
    kinds = re.findall(r"S\[table-format=[^\]]*\]|l|r", spec[1])
    heads = next(line for line in lines if line.startswith("measure")).split(" & ")
    assert len(kinds) == len(heads) == len(rows(text)[0]) == 11  # 14, less errors and limits, + 1
    assert all(len(row) == len(kinds) for row in rows(text)) and len(rows(text)) == 3
    for kind, head in zip(kinds, heads, strict=True):
        assert not kind.startswith("S") or head.startswith("{")
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", re.sub(r"\\\\", "", text)):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_cells_of_a_table() -> None:
    first, second, third = rows(siunitx_table(HARD, "c", "l"))
    assert first[:6] == [
        "log\\_p",
        "\\texttt{0x00ff}",
        "0.384(66)",
        "0.50",
        "$[0.40, 0.60]$",
        "3",
    ]
    assert second[0] == r"50 \% \& more" and second[1] == "--" and second[2] == "-123460(790)"
    assert third[0] == r"\#1 \{a\}\_b\textasciicircum{}c\textasciitilde{}d\textbackslash{}e"
    assert third[2] == "{--}" and third[4] == "--" and first[-1] == "{--}"
    assert first[8:10] == ["1.50(12)e-5", "2.5e9"] and (first[7], second[7]) == ("yes", "no")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.384, 0.066, "0.384(66)"), (-33.2, 1.7, "-33.2(1.7)"), (-33.2, 17.2, "-33(17)"),
        (123456.0, 789.0, "123460(790)"), (3.0, 9.96, "3(10)"), (0.0, 0.05, "0.000(50)"),
        (9.99, 0.0999, "9.99(10)"), (1.5e-5, 1.2e-6, "1.50(12)e-5"), (12345678.0, 123456.0,
        "1.235(12)e7"), (5.0, 0.0, "5"), (0.25, float("nan"), "0.25"),
        (float("nan"), 1.0, "{--}"), (float("inf"), 1.0, "{--}"),
    ],
)  # fmt: skip
def test_value_with_error(value: float, error: float, text: str) -> None:
    assert value_error(value, error) == text


@given(
    st.floats(-1e12, 1e12, allow_nan=False), st.floats(1e-12, 1e9, allow_nan=False)
)  # fmt: skip
def test_value_and_error_are_within_rounding(value: float, error: float) -> None:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\(([\d.]+)\)(?:e(-?\d+))?", value_error(value, error))
    assert match is not None
    power = 10.0 ** int(match[3] or 0)
    shown = float(match[1]) * power
    decimals = len(match[1].partition(".")[2])
    bracket = match[2] if "." in match[2] else str(int(match[2]) * 10.0**-decimals)
    # two digits of the error: within half a unit of the second, at most a twentieth of it
    assert abs(float(bracket) * power - error) <= 0.0501 * error
    assert abs(shown - value) <= 0.0501 * error + 1e-9 * abs(value)


def test_plain_numbers_and_intervals() -> None:
    assert [plain(v) for v in (0.0, 12.0, 0.123456, 1234.56, 1e7, -2e-7)] == [
        "0", "12", "0.1235", "1235", "1e7", "-2e-7"]  # fmt: skip
    assert interval(0.123, 0.345) == "$[0.12, 0.34]$" and interval(-12.3, 45.6) == "$[-12, 46]$"
    assert interval(float("nan"), 1.0) == "--" and interval(0.5, 0.5) == "$[0.500, 0.500]$"
    assert escape_text("5 % of $a_1$ & b_2") == r"5 \% of $a_1$ \& b\_2"
    with pytest.raises(InputError):
        siunitx_table(pd.DataFrame(index=range(3)), "c", "l")


def test_estimates_have_the_digits_of_their_error() -> None:
    frame = pd.DataFrame({
        "lr": [0.01, 0.05, 1.0, 0.002], "tau": [0.70241, 0.69937, -0.00412, 1.0],
        "tau_low": [0.647, 0.55, -0.0049, float("nan")],
        "tau_high": [0.741, 0.71, 0.35, float("nan")],
        "p_value": [0.00074, 0.5, 1.0, 1.234e-7], "spread": [0.70244, 0.7, 0.65, 0.0126],
    })  # fmt: skip
    table = rows(siunitx_table(frame, "c", "l"))
    columns = list(zip(*table, strict=True))
    assert columns[0] == ("0.01", "0.05", "1", "0.002")
    assert columns[1] == ("0.702", "0.699", "-0.004", "1.000")
    assert columns[2] == ("$[0.647, 0.741]$", "$[0.550, 0.710]$", "$[-0.005, 0.350]$", "--")
    assert columns[3] == ("0.00074", "0.50", "1.0", "1.2e-7")
    assert columns[4] == ("0.7024", "0.7000", "0.6500", "0.0126")
    wide = frame.assign(tau_low=frame["tau_low"] - 0.4)
    assert rows(siunitx_table(wide, "c", "l"))[2][1:3] == ["0.00", "$[-0.40, 0.35]$"]  # no -0.00


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(1e-5, 10)), min_size=1, max_size=6))
def test_limits_of_a_column_are_within_rounding(pairs: list[tuple[float, float]]) -> None:
    value, half = (np.array(part) for part in zip(*pairs, strict=True))
    frame = pd.DataFrame({"x": value, "x_low": value - half, "x_high": value + half})
    for row, centre, h in zip(rows(siunitx_table(frame, "c", "l")), value, half, strict=True):
        match = re.fullmatch(r"\$\[(-?\d+(?:\.(\d+))?), (-?\d+(?:\.(\d+))?)\]\$", row[1])
        assert match is not None and len(match[2] or "") == len(match[4] or "")
        assert not re.search(r"-0(\.0+)?(?![.\d])", " ".join(row))
        # half a unit of the last decimal, of which the half-width has 1 to 3: at most a half of it
        for limit, true in ((match[1], centre - h), (match[3], centre + h)):
            assert abs(float(limit) - true) <= 0.5 * h + 1e-12
        assert len(row[0].partition(".")[2]) == len(match[2] or "")


def test_a_long_table_breaks_over_pages() -> None:
    frame = pd.DataFrame({"cell": [f"c_{i}" for i in range(PAGE + 1)], "v": np.arange(PAGE + 1)})
    text = siunitx_table(frame, "5 % & more", "tab:long", "note")
    assert text.startswith("% note\n% preamble: " + PREAMBLE + "\n\\begin{longtable}{lS[")
    assert r"\caption{5 \% \& more} \label{tab:long} \\" in text and "longtable" in PREAMBLE
    assert text.count(r"cell & {v} \\") == 2 and text.count(r"\bottomrule") == 1
    short = siunitx_table(frame.head(PAGE), "c", "l")
    assert "longtable" not in short and r"\begin{tabular}" in short
    functions = latex(frame, "c", "l")
    assert r"\begin{longtable}{lr}" in functions and "longtable" not in latex(
        frame.head(9), "c", "l"
    )


@needs_latex
def test_long_tables_compile_on_several_pages(tmp_path: Path) -> None:
    size = 150
    frame = pd.DataFrame({
        "measure": [f"m_{i} & 5 %" for i in range(size)], "v": np.linspace(-1, 1, size),
        "v_stderr": 0.02, "k": np.linspace(0, 1, size), "k_low": -0.001, "k_high": 1.1,
    })  # fmt: skip
    compile_tables([siunitx_table(frame, "long", "t:a"), latex(frame, "long", "t:b")], tmp_path)
    log = (tmp_path / "t.log").read_text()
    pages = re.search(r"Output written on t.pdf \((\d+) pages", log)
    assert pages is not None and int(pages[1]) >= 6  # 150 rows take three pages at least


@needs_latex
def test_hard_tables_compile(tmp_path: Path) -> None:
    names = {"v": r"$\ln P(f)$ (nats)", "kendall": r"$\tau_b$", "p_value": "p & q %"}
    texts = [siunitx_table(HARD.iloc[:, :4], "5 % & more", "tab:a", "note", names),
             siunitx_table(HARD.iloc[:, 4:9], "$\\ln P$", "tab:b", "note", names),
             siunitx_table(HARD.iloc[:, 9:], "c", "tab:c"),
             siunitx_table(HARD.iloc[:0], "no rows", "tab:d")]  # fmt: skip
    compile_tables(texts, tmp_path)


@needs_latex
def test_names_of_all_measures_compile(tmp_path: Path) -> None:
    frame = pd.DataFrame({"measure": [m.label for m in MEASURES.values()],
                          "unit": [m.unit for m in MEASURES.values()]})  # fmt: skip
    halves = [frame.iloc[i : i + 30] for i in range(0, len(frame), 30)]
    compile_tables([siunitx_table(part, "σ and α", f"t{len(part)}") for part in halves], tmp_path)


def test_greek_letters_are_mathematics() -> None:
    assert escape_text("flatness, σ & $α$") == r"flatness, $\sigma$ \& $α$"
    labels = "".join(m.label + m.unit for m in MEASURES.values())
    assert escape_text(labels).isascii()


@needs_latex
def test_many_random_values_compile(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    size = 30
    frame = pd.DataFrame({
        "a": random.normal(size=size) * 10.0 ** random.integers(-9, 9, size),
        "a_stderr": 10.0 ** random.uniform(-9, 9, size), "b": random.integers(-999, 10**6, size),
    })  # fmt: skip
    compile_tables([siunitx_table(frame, "random", "tab:r")], tmp_path)


@needs_latex
def test_a_broken_table_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        compile_tables([siunitx_table(HARD.iloc[:, :3], "c", "l").replace(r"\&", "&")], tmp_path)


def test_limits_stay_on_their_side_of_zero_and_one() -> None:
    """An interval that excludes 0 must not be printed as one that touches it, nor the reverse."""
    lows, highs = [0.004, -0.0004, -0.26, 0.5, 0.0, -0.3], [0.236, 0.2024, -0.0049, 0.99996, 0.4, 1]
    shown = [
        (fixed(low, d), fixed(high, d))
        for low, high, d in zip(lows, highs, interval_decimals(lows, highs), strict=True)
    ]
    for low, high, (a, b) in zip(lows, highs, shown, strict=True):
        assert (float(a) == 0) == (low == 0) and (float(b) >= 1) == (high >= 1), (a, b)
        assert float(a) * low >= 0 and float(b) * high >= 0
    assert plus_minus(-0.0004, 0.05).startswith("0.000")
