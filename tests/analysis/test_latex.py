"""LaTeX tables: structure always; compiled with a real engine where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simprior.analysis.measure.registry import MEASURES
from simprior.analysis.text.latex import ROWS, WIDTHS, escape_text, latex, shown_columns, width_of
from simprior.analysis.text.numbers import (
    fixed,
    interval_decimals,
    plain,
    plus_minus,
    with_limits,
    with_plus_minus,
)
from simprior.errors import InputError

ENGINE = shutil.which("pdflatex")
PREAMBLE = r"\usepackage{booktabs,graphicx,longtable,siunitx}"


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


def compile_tables(texts: list[str], folder: Path, options: str = "") -> list[str]:
    """The widths, as the log has them, of the boxes that are too wide."""
    head = [rf"\documentclass[{options}]{{article}}", PREAMBLE, r"\begin{document}"]
    document = "\n".join([*head, *texts, r"\end{document}"])
    (folder / "t.tex").write_text(document)
    assert ENGINE is not None
    command = [ENGINE, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert done.returncode == 0 and not wrong, done.stdout[-1500:]
    assert (folder / "t.pdf").stat().st_size > 1000
    return re.findall(r"Overfull \\hbox \(([\d.]+pt) too wide", (folder / "t.log").read_text())


def test_structure_of_a_table() -> None:
    text = latex(HARD, "A caption: 5 % & $\\ln P$", "tab:hard", "simprior table\nx")
    lines = text.splitlines()
    assert lines[0] == "% simprior table x" and text.endswith("\\end{table}\n")
    assert r"\label{tab:hard}" in lines
    caption = next(line for line in lines if line.startswith(r"\caption"))
    assert caption == (
        r"\caption{A caption: 5 \% \& $\ln P$ Brackets hold confidence intervals. "
        r"Standard errors follow $\pm$.}"
    )
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert lines.count(rule) == 1
    spec = re.search(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", text)
    assert spec is not None
    kinds = re.findall(r"S\[table-format=[^\]]*\]|l", spec[1].replace(r"@{\,}", ""))
    heads = lines[lines.index(r"\toprule") + 1].split(" & ")
    pairs = [head for head in heads if head.startswith(r"\multicolumn{2}{c}")]
    assert len(pairs) == 3  # 14 columns, less errors and limits; three of them with a second one
    assert len(kinds) == len(heads) + 3 == len(rows(text)[0]) == 13
    assert all(len(row) == len(kinds) for row in rows(text)) and len(rows(text)) == 3
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", re.sub(r"\\\\", "", text)):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_cells_of_a_table() -> None:
    """One style: value and interval, or value and error where there is no interval."""
    first, second, third = rows(latex(HARD, "c", "l"))
    assert first[:7] == [
        *("log\\_p", "\\texttt{0x00ff}", "0.384", r"$\pm 0.066$"),
        *("0.50", "$[0.40, 0.60]$", "3"),
    ]
    assert second[:4] == [r"50 \% \& more", "--", "-123460", r"$\pm 790$"]
    assert third[0] == r"\#1 \{a\}\_b\textasciicircum{}c\textasciitilde{}d\textbackslash{}e"
    assert third[2:4] == ["{--}", ""] and third[5] == "" and first[-1] == "{--}"
    assert first[9:12] == ["1.50e-5", r"$\pm \num{1.2e-6}$", "2.5e9"]
    assert (first[8], second[8]) == ("yes", "no")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.384, 0.066, r"0.384 $\pm 0.066$"),
        (-33.2, 1.7, r"-33.2 $\pm 1.7$"),
        (-33.2, 17.2, r"-33 $\pm 17$"),
        (123456.0, 789.0, r"123460 $\pm 790$"),
        (3.0, 9.96, r"3 $\pm 10$"),
        (0.0, 0.05, r"0.000 $\pm 0.050$"),
        (9.99, 0.0999, r"9.99 $\pm 0.10$"),
        (1.5e-5, 1.2e-6, r"1.50e-5 $\pm \num{1.2e-6}$"),
        (12345678.0, 123456.0, r"1.235e7 $\pm \num{1.2e5}$"),
        (5.0, 0.0, "5 "),
        (0.25, float("nan"), "0.25 "),
        (float("nan"), 1.0, "{--} "),
        (float("inf"), 1.0, "{--} "),
    ],
)
def test_value_with_error(value: float, error: float, text: str) -> None:
    assert " ".join(with_plus_minus(value, error)) == text


@given(st.floats(-1e12, 1e12, allow_nan=False), st.floats(1e-12, 1e9, allow_nan=False))
def test_value_and_error_are_within_rounding(value: float, error: float) -> None:
    shown, behind = with_plus_minus(value, error)
    match = re.fullmatch(r"\$\\pm (?:\\num\{)?([\d.]+(?:e-?\d+)?)\}?\$", behind)
    assert match is not None
    # two digits of the error: within half a unit of the second, at most a twentieth of it
    assert abs(float(match[1]) - error) <= 0.0501 * error
    assert abs(float(shown) - value) <= 0.0501 * error + 1e-9 * abs(value)


def test_plain_numbers_and_intervals() -> None:
    assert [plain(v) for v in (0.0, 12.0, 0.123456, 1234.56, 1e7, -2e-7)] == [
        "0", "12", "0.1235", "1235", "1e7", "-2e-7"]  # fmt: skip
    for limits, text in {
        (0.123, 0.345): "$[0.12, 0.34]$",
        (-12.3, 45.6): "$[-12, 46]$",
        (float("nan"), 1.0): "",
        (0.5, 0.5): "$[0.500, 0.500]$",
        (1.2e-6, 3.4e-6): r"$[1.2, 3.4] \times 10^{-6}$",
    }.items():
        assert with_limits(limits[0], *limits, None)[1] == text
    assert with_limits(6.6e-5, 4.4e-5, 8.9e-5, 5) == ("6.6e-5", r"$[4.4, 8.9] \times 10^{-5}$")
    assert escape_text("5 % of $a_1$ & b_2") == r"5 \% of $a_1$ \& b\_2"
    with pytest.raises(InputError):
        latex(pd.DataFrame(index=range(3)), "c", "l")


def test_estimates_have_the_digits_of_their_error() -> None:
    frame = pd.DataFrame({
        "lr": [0.01, 0.05, 1.0, 0.002], "tau": [0.70241, 0.69937, -0.00412, 1.0],
        "tau_low": [0.647, 0.55, -0.0049, float("nan")],
        "tau_high": [0.741, 0.71, 0.35, float("nan")],
        "p_value": [0.00074, 0.5, 1.0, 1.234e-7], "spread": [0.70244, 0.7, 0.65, 0.0126],
    })  # fmt: skip
    table = rows(latex(frame, "c", "l"))
    columns = list(zip(*table, strict=True))
    assert columns[0] == ("0.01", "0.05", "1", "0.002")
    assert columns[1] == ("0.702", "0.699", "-0.004", "1.000")
    assert columns[2] == ("$[0.647, 0.741]$", "$[0.550, 0.710]$", "$[-0.005, 0.350]$", "")
    assert columns[3] == ("0.00074", "0.50", "1.0", "1.2e-7")
    assert columns[4] == ("0.7024", "0.7000", "0.6500", "0.0126")
    wide = frame.assign(tau_low=frame["tau_low"] - 0.4)
    assert rows(latex(wide, "c", "l"))[2][1:3] == ["0.00", "$[-0.40, 0.35]$"]  # no -0.00


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(1e-5, 10)), min_size=1, max_size=6))
def test_limits_of_a_column_are_within_rounding(pairs: list[tuple[float, float]]) -> None:
    value, half = (np.array(part) for part in zip(*pairs, strict=True))
    frame = pd.DataFrame({"x": value, "x_low": value - half, "x_high": value + half})
    for row, centre, h in zip(rows(latex(frame, "c", "l")), value, half, strict=True):
        number, power = r"(-?\d+(?:\.(\d+))?)", r"(?: \\times 10\^\{(-?\d+)\})?"
        match = re.fullmatch(rf"\$\[{number}, {number}\]{power}\$", row[1])
        assert match is not None and len(match[2] or "") == len(match[4] or "")
        scale, shown = 10.0 ** int(match[5] or 0), row[0].partition("e")[0]
        assert not re.search(r"-0(\.0+)?(?![.\d])", " ".join(row))
        # half a unit of the last decimal, of which the half-width has 1 to 3: at most a half of it
        for limit, true in ((match[1], centre - h), (match[3], centre + h)):
            assert abs(float(limit) * scale - true) <= 0.5 * h + 1e-12
        assert abs(float(row[0]) - centre) <= 0.5 * h + 1e-12
        assert len(shown.partition(".")[2]) == len(match[2] or "")


def test_a_long_table_breaks_over_pages() -> None:
    frame = pd.DataFrame({"cell": [f"c_{i}" for i in range(ROWS + 1)], "v": np.arange(ROWS + 1)})
    text = latex(frame, "5 % & more", "tab:long", "note")
    head = "% note\n% preamble: \\usepackage{booktabs,longtable,siunitx}\n\\begin{longtable}{lS["
    assert text.startswith(head) and r"\caption{5 \% \& more} \label{tab:long} \\" in text
    assert text.count(r"cell & {v} \\") == 2 and text.count(r"\bottomrule") == 1
    short = latex(frame.head(ROWS), "c", "l")
    assert "longtable" not in short and r"\begin{tabular}" in short


@pytest.mark.parametrize(("width", "star"), [("column", ""), ("text", "*")])
def test_a_long_table_of_a_two_column_page_has_parts(width: str, star: str) -> None:
    frame = pd.DataFrame({"cell": [f"c_{i}" for i in range(25)], "v": np.arange(25)})
    text = latex(frame, "Cells.", "tab:long", width=width, rows=10)
    assert "longtable" not in text and text.count(rf"\begin{{table{star}}}[htbp]") == 3
    assert re.findall(r"\\caption\{(.*)\}", text) == [f"Cells. (Part {i} of 3.)" for i in (1, 2, 3)]
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:long", "tab:long-2", "tab:long-3"]
    assert re.findall(r"^c\\_(\d+) & ", text, re.M) == [str(i) for i in range(25)]


@needs_latex
def test_long_tables_compile_on_several_pages(tmp_path: Path) -> None:
    size = 150
    frame = pd.DataFrame({
        "measure": [f"m_{i} & 5 %" for i in range(size)], "v": np.linspace(-1, 1, size),
        "v_stderr": 0.02, "k": np.linspace(0, 1, size), "k_low": -0.001, "k_high": 1.1,
    })  # fmt: skip
    compile_tables([latex(frame, "long", "t:a"), latex(frame, "long", "t:b")], tmp_path)
    log = (tmp_path / "t.log").read_text()
    pages = re.search(r"Output written on t.pdf \((\d+) pages", log)
    assert pages is not None and int(pages[1]) >= 6  # 150 rows take three pages at least


@needs_latex
def test_hard_tables_compile(tmp_path: Path) -> None:
    names = {"v": r"$\ln P(f)$ (nats)", "kendall": r"$\tau_b$", "p_value": "p & q %"}
    texts = [latex(HARD.iloc[:, :4], "5 % & more", "tab:a", "note", names),
             latex(HARD.iloc[:, 4:9], "$\\ln P$", "tab:b", "note", names),
             latex(HARD.iloc[:, 9:], "c", "tab:c"),
             latex(HARD.iloc[:0], "no rows", "tab:d")]  # fmt: skip
    compile_tables(texts, tmp_path)


@needs_latex
def test_names_of_all_measures_compile(tmp_path: Path) -> None:
    frame = pd.DataFrame({"measure": [m.label for m in MEASURES.values()],
                          "unit": [m.unit for m in MEASURES.values()]})  # fmt: skip
    halves = [frame.iloc[i : i + 30] for i in range(0, len(frame), 30)]
    compile_tables([latex(part, "σ and α", f"t{len(part)}") for part in halves], tmp_path)


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
    compile_tables([latex(frame, "random", "tab:r")], tmp_path)


@needs_latex
def test_a_broken_table_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        compile_tables([latex(HARD.iloc[:, :3], "c", "l").replace(r"\&", "&")], tmp_path)


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


def functions(bits: int, rows: int) -> pd.DataFrame:
    """A table of functions on 2^bits inputs: P from 0.4 down to 1e-7, as ``sample`` makes it."""
    random = np.random.default_rng(bits)
    p = 0.4 * np.exp(-15 * np.arange(rows) / rows)
    texts = ["0x" + random.bytes(2**bits // 8).hex() for _ in range(rows)]
    return pd.DataFrame({
        "rank": np.arange(1, rows + 1), "function": texts, "p": p, "p_stderr": p / 9,
        "p_low": 0.7 * p, "p_high": 1.4 * p, "test_error": random.random(rows),
        "lz76": random.random(rows) * 100, "ones": random.integers(0, 2**bits, rows),
        "entropy": random.random(rows), "count": np.arange(10**7, 10**7 - rows, -1),
        "design_effect": 1 + random.random(rows),
    })  # fmt: skip


def hard(rows: int, seed: int) -> pd.DataFrame:
    """A table with columns of every kind, and numbers of every size."""
    random = np.random.default_rng(seed)
    sizes = 10.0 ** random.integers(-9, 9, (5, rows))
    values = random.normal(size=(5, rows)) * sizes
    return pd.DataFrame({
        "measure": random.choice([m.label for m in MEASURES.values()], rows),
        "a": values[0], "a_stderr": np.abs(values[1]), "b": values[2],
        "share": random.random(rows), "share_low": 0.0, "share_high": 1.0,
        "x": values[3] / sizes[3], "x_low": values[3] / sizes[3] - 0.1,
        "x_high": values[3] / sizes[3] + 0.13, "k": random.integers(-10**6, 10**6, rows),
        "p_value": random.random(rows) ** 20, "ok": random.random(rows) > 0.5,
        "a_rather_long_heading": random.random(rows),
    })  # fmt: skip


@pytest.mark.parametrize("width", ["column", "text"])
def test_what_has_no_room_is_left_out_from_the_right(width: str) -> None:
    frame = functions(7, 12)
    shown = shown_columns(frame, width)
    assert shown[:5] == ["rank", "function", "p", "p_stderr", "p_low"] and "p_high" in shown
    text = latex(frame, "c", "l", width=width, keep=False)
    heads = next(line for line in text.splitlines() if line.startswith("{rank}")).split(" & ")
    assert len(heads) == len([n for n in shown if not n.startswith("p_")]) < 10
    everything = latex(frame, "c", "l", width=width)
    assert r"\resizebox{\linewidth}" in everything and "design" in everything


@pytest.mark.slow
@needs_latex
def test_tables_fit_a_two_column_page(tmp_path: Path) -> None:
    """Of functions of 3 to 9 bits, and of hard numbers: no box is too wide.

    Every table in both widths, with and without ``keep``, two of the four with fewer columns.
    """
    frames = [functions(bits, 45) for bits in (3, 4, 5, 7, 9)] + [hard(20, s) for s in range(12)]
    texts = [
        latex(part, "A table.", f"t{i}{width}{keep}{len(part.columns)}", width=width, keep=keep)
        for i, frame in enumerate(frames)
        for j, (width, keep) in enumerate(product(("column", "text"), (True, False)))
        for part in [(frame, frame.iloc[:, :6])[(i + j) % 2]]
    ]
    texts = [text + (r"\clearpage" if i % 6 == 5 else "") for i, text in enumerate(texts)]
    assert compile_tables(texts, tmp_path, "twocolumn") == []


@needs_latex
def test_a_table_that_is_too_wide_is_noticed(tmp_path: Path) -> None:
    """The width of a column is that of the class, and the log tells boxes that are wider."""
    text = latex(functions(7, 12), "c", "l", width="none")
    wide = compile_tables([text], tmp_path, "twocolumn")
    assert wide and float(wide[0].removesuffix("pt")) > 300
    said = [r"\typeout{\the\columnwidth, \the\textwidth}"]
    assert compile_tables([*said, "x"], tmp_path, "twocolumn") == []
    log = (tmp_path / "t.log").read_text()
    assert f"{WIDTHS['column']}pt, {WIDTHS['text']}pt" in log


@needs_latex
def test_widths_of_texts_are_not_underestimated(tmp_path: Path) -> None:
    """Labels, headings, numbers: TeX's width is at most 3 % (and a point) above the estimate."""
    texts = [escape_text(m.label) for m in MEASURES.values()]
    texts += [r"$[-0.44, 0.14]$", r"\texttt{0x00ff..ffff}", r"$\pm 0.066$", "Jensen-Shannon, held"]
    texts += [r"$\hat k$", r"$\tilde K$", r"$\ln P(f)$", r"$h/\sqrt{n/\ln n}$", r"$[1.2, 3.4]$"]
    texts += [r"$[1.2, 3.4] \times 10^{-6}$", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRST"]
    boxes = [rf"\setbox0=\hbox{{{text}}}\typeout{{WIDTH \the\wd0}}" for text in texts]
    compile_tables([*boxes, "x"], tmp_path)
    found = re.findall(r"WIDTH ([\d.]+)pt", (tmp_path / "t.log").read_text())
    assert len(found) == len(texts)
    for text, points in zip(texts, map(float, found), strict=True):
        assert points <= 1.03 * width_of(text) + 1, text


@needs_latex
def test_tables_of_commands_fit_a_two_column_page(tmp_path: Path) -> None:
    """Every table that ``simprior table`` prints, and that runs hold, in the golden surface."""
    values = json.loads((Path(__file__).parents[1] / "golden" / "surface.json").read_text())
    texts = ["\n".join(v["stdout"]) for k, v in values.items() if k.endswith("as latex")]
    for name, found in values.items():
        if name.startswith("files of"):
            texts += ["\n".join(text) for file, text in found.items() if file.endswith(".tex")]
    assert len(texts) > 25 and all(r"\begin{table" in text for text in texts)
    texts = [text + r"\clearpage" for text in texts]
    assert compile_tables(texts, tmp_path, "twocolumn") == []
