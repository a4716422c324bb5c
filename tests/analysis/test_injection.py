"""No text of a user becomes a command: LaTeX, formulas of spreadsheets, HTML, Markdown, JSON."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.report import page as report_html
from simprior.analysis.study import paper_tables
from simprior.analysis.text import html, latex, tables
from simprior.analysis.text.latex import escape_text
from simprior.errors import InputError
from simprior.runs.files import csv_text

EVIL = (
    r"x}\input{y", r"\write18{rm x}", r"$\input{/etc/passwd}$", r"$\immediate\write18{x}$",
    r"0x}\input{y}", "0x00\\\\x", r"$x^^5cinput y$", "$a}b{c$", "$%$", "$#1$", "a\n\n\\input{y}",
    "100 % & #1 ~ ^ _", r"$\csname input\endcsname$", r"\catcode`\%=0",
)  # fmt: skip
_SAFE = re.compile(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]|\$\\[a-z]+\$")


def without_escapes(text: str) -> str:
    return _SAFE.sub("", text)


@pytest.mark.parametrize("text", EVIL)
def test_escaped_text_holds_no_command(text: str) -> None:
    for escaped in (latex.escape_latex(text), escape_text(text)):
        assert not set(without_escapes(escaped)) & set("\\{}%#&~^\n")


def test_harmless_mathematics_stays() -> None:
    for text in (r"$\sqrt{n/(2\pi\ln n)}$", r"$\tilde K$", "$n^{2}$", r"$P(f)\,2^{-aK}$"):
        assert escape_text(text) == text
    assert escape_text("σ_w") == r"$\sigma$\_w"


@pytest.mark.parametrize(
    "label", [r"x}\input{y", "a%b", "a#b", "tab:$x$", "a\nb", "a\\b", "", "a~b"]
)
def test_labels_are_refused(label: str) -> None:
    frame = pd.DataFrame({"function": ["0x0f"], "p": [0.5], "stderr": [0.1]})
    for write in (
        lambda: tables.render(frame, "latex", label=label),
        lambda: latex.latex(frame, "c", label),
        lambda: paper_tables.render(frame, "latex", "c", label),
    ):
        with pytest.raises(InputError, match="label="):
            write()
    latex.check_label(latex.safe_label(label))


@pytest.mark.parametrize("evil", EVIL)
def test_captions_headings_and_cells_of_latex(evil: str) -> None:
    """The lines of a table hold the commands that we write and no others."""
    frame = pd.DataFrame({"function": [evil, "0x0f"], evil: [evil, "[1]"], "p": [0.25, 0.5]})
    known = set(
        """begin end centering caption label toprule midrule bottomrule texttt textbackslash
        textasciitilde textasciicircum setlength tabcolsep shortstack multicolumn small
        footnotesize scriptsize resizebox linewidth""".split()
    )
    for text in (
        tables.render(frame, "latex", caption=evil, note=evil),
        latex.latex(frame, evil, "tab:x", evil, width="column", keep=False),
        latex.latex(frame, evil, "tab:x", evil, width="column", keep=True),
        latex.latex(frame, "c", "tab:x", names={"p": evil, "function": f"{evil} x"}),
    ):
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        body = "\n".join(lines)
        found = set(re.findall(r"\\([A-Za-z]+)", body.replace("\\\\", "")))
        assert found <= known
        assert body.count("\\begin") == body.count("\\end") == 2
    for cell in ("[1cm]", "*"):  # "\\" before a row takes them as its argument
        assert "{}" + cell in latex.latex(pd.DataFrame({"a": ["x", cell]}), "c", "l")


def test_cells_of_csv_are_no_formulas() -> None:
    texts = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\r=1", " =1", "-0.5",
             "-1e-7", "0x0f", "a=b", "", "a\n=1"]  # fmt: skip
    frame = pd.DataFrame({
        "t": texts, "=n": np.linspace(-1, 1, len(texts)), "k": [-1, *range(len(texts) - 1)],
        "none": [None] * len(texts), "b": [True] * len(texts),
    })  # fmt: skip
    text = csv_text(frame)
    back = pd.read_csv(io.StringIO(text), keep_default_na=False, dtype={"t": str})
    for before, after in zip(texts, back["t"], strict=True):
        number = re.fullmatch(r"-[\d.e-]+", before)
        guarded = before.lstrip(" ").startswith(tuple("=+-@\t\r")) and not number
        assert after == ("'" * guarded + before).replace("\r", "\n")
    assert list(back)[1] == "'=n"
    np.testing.assert_array_equal(back["'=n"].astype(float), frame["=n"])  # every digit
    np.testing.assert_array_equal(back["k"].astype(int), frame["k"])
    plain = pd.DataFrame({"function": ["0x0f", "0x00"], "p": [0.1 + 0.2, 1e-9], "s": ["a", "b"]})
    assert csv_text(plain) == plain.to_csv(index=False)


def test_the_note_of_csv_is_json_beside_it(tmp_path: Path) -> None:
    """A spreadsheet that opens the table meets no command line, whatever its words are."""
    frame, evil = pd.DataFrame({"a": [1]}), "x a,=cmd() \n@y"
    assert tables.render(frame, "csv", note=evil) == "a\n1\n"
    files = tables.write(frame, tmp_path / "t.csv", "csv", evil)
    assert [file.name for file in files] == ["t.csv", "t.csv.json"]
    assert json.loads(files[1].read_text())["command"] == "x a,=cmd() @y"


def test_html_report_shows_tags_as_text() -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    frame = pd.DataFrame({evil: [evil], "p": [-0.5], "p_low": [-1.0], "p_high": [np.nan]})
    body = html.table(frame, evil, {"p": evil}) + report_html.notes([evil])
    body += report_html.code(evil, evil) + report_html.figure(evil, b"x", evil, [evil])
    body += report_html.definitions({evil: evil}) + report_html.paragraph(evil)
    page = report_html.page(
        report_html.Page(evil, evil, [report_html.Section(evil, "a", body)], {evil: evil})
    )

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.scripts, self.bad = 0, []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.scripts += tag == "script"
            self.bad += [name for name, _ in attrs if name.startswith("on")]
            self.bad += [
                v for name, v in attrs if name == "src" and not (v or "").startswith("data:")
            ]

    tags = Tags()
    tags.feed(page)
    assert tags.scripts == 1 and tags.bad == [] and "alert(1)" in page


def test_markdown_cells_and_comments() -> None:
    frame = pd.DataFrame({"a|b": ["x|y", "a\nb\r\nc\u2028d", "<script>", "1 < 2"]})
    text = tables.render(frame, "markdown", note="x --> <b> --!> y")
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 6
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 2 for line in lines if line[:1] == "|")
    assert r"\<script>" in text and "1 < 2" in text
    assert text.rstrip().count("-->") == 1 and text.rstrip().endswith("-->") and "--!>" not in text


def test_json_is_strict_whatever_is_in_a_cell() -> None:
    frame = pd.DataFrame({
        "x": [float("nan"), float("inf"), -0.0], "list": [[1.0, float("nan")], {"a": np.inf}, None],
        "na": pd.array([1, None, 3], dtype="Int64"), "t": pd.to_datetime(["2020-01-01"] * 3),
        "u": [np.uint64(2**63), np.float32(0.5), np.bool_(True)],
    })  # fmt: skip

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = json.loads(tables.render(frame, "json"), parse_constant=refuse)["table"]
    assert rows[0]["x"] is None and rows[1]["x"] is None and rows[0]["list"] == [1.0, None]
    assert rows[1]["list"] == {"a": None} and [r["na"] for r in rows] == [1, None, 3]
    assert rows[0]["u"] == 2**63 and rows[1]["u"] == 0.5 and rows[2]["u"] is True


def test_names_with_dollars_do_not_end_a_figure(tmp_path: Path) -> None:
    """A directory may be called so; matplotlib raised ParseFatalException."""
    from simprior.analysis.figures.style import new_figure, save_figure, style

    with style():
        figure, axes = new_figure()
        axes.plot([1, 2], [1, 2], label="q$\\foo{$")
        axes.set(xlabel="$n$ of a$b", ylabel="$\\sqrt{2}$\n$\\input{x}$")
        axes.legend()
    for form in ("png", "pdf"):
        save_figure(figure, tmp_path / f"f.{form}", "", "")
        assert (tmp_path / f"f.{form}").stat().st_size > 1000
    assert axes.xaxis.label.get_parse_math() and not axes.yaxis.label.get_parse_math()
