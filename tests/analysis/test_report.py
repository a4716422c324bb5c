"""report.html: structure, and behaviour in a real headless browser where one is installed."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simprior.analysis.figures import style as labels
from simprior.analysis.measure.registry import MEASURES
from simprior.analysis.report import page as report
from simprior.analysis.report.page import build_report, write_report
from simprior.analysis.study import paper_tables
from simprior.analysis.study.recipe import parse_recipe
from simprior.analysis.study.run import run_study
from simprior.analysis.text import html as html_text
from simprior.analysis.text import numbers as digits
from simprior.cli import main
from simprior.errors import StoreError
from simprior.runs.directory import load_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None,
    reason=f"NO BROWSER INSTALLED (one of {', '.join(BROWSERS)}): report.html was not opened",
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-extensions", "--virtual-time-budget=8000", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
TEXT = """
title = "A <b>study</b> & more"
question = "Is it \\"escaped\\"?"
held_against = "Nothing."
run_time = "2 s"
[sample]
n = 3
hidden = [8]
samples = 500
[sample.grid]
sigma_w = [0.5, 1.0, 2.0, 4.0]
[[figure]]
kind = "sweep"
name = "prior"
x = "sigma_w"
y = ["lz76", "entropy"]
caption = "Mean complexity & entropy"
[[table]]
name = "cells"
from = "sample"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tomllib

    out = tmp_path_factory.mktemp("report") / "o"
    run_study(parse_recipe(tomllib.loads(TEXT), TEXT), out)
    return out


class Reader(HTMLParser):
    """Collects tags with their attributes; fails on tags that do not match."""

    VOID = frozenset({"meta", "link", "img", "br", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.stack == []
    return reader


def test_the_page_is_whole_and_asks_for_nothing(study: Path) -> None:
    text = (study / "report.html").read_text()
    reader = read(text)
    assert "<b>study</b>" not in text and "A &lt;b&gt;study&lt;/b&gt; &amp; more" in text
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    assert [a["alt"] for a in reader.all("img")] == ["Mean complexity & entropy"]
    anchors = {a["href"][1:] for a in reader.all("a")}
    assert anchors == {a["id"] for a in reader.all("section")}
    for head in reader.all("th"):
        assert head["aria-sort"] == "none" and head["scope"] == "col"
    assert ">Expected run time: 2 s<" in text and "stages took" in text
    for stage in ("sample", "figures", "tables"):
        assert f">{stage}</td>" in text
    assert "--only figures --resume" in text and "sigma_w = [0.5, 1.0, 2.0, 4.0]" in text
    assert load_run(study).files["figures/prior.png"]["sha256"] in html.unescape(text)


def test_a_report_is_built_again_and_of_any_run(study: Path) -> None:
    first = (study / "report.html").read_text()
    write_report(study)
    assert read((study / "report.html").read_text()).all("img") == read(first).all("img")
    assert load_run(study).verify() == []
    cell = next((study / "sample" / "cells").iterdir())
    reader = read(write_report(cell).read_text())
    assert reader.all("table") and load_run(cell).verify() == []
    assert "most frequent functions" in build_report(cell)
    with pytest.raises(StoreError):
        write_report(study / "figures")


def test_numbers_of_a_table() -> None:
    frame = pd.DataFrame({"x": [1.0, -0.00012346, float("nan")], "k": [10**6, -3, 0],
                          "t": ["a<b", None, "c" * 70]})  # fmt: skip
    text = html_text.table(frame, "caption", {"x": "X & Y"}, rows=2)
    assert 'data-value="-0.00012346">−0.0001235<' in text
    assert ">1,000,000<" in text and "X &amp; Y" in text and "a&lt;b" in text
    assert "The first 2 of 3 rows" in text and "cccc" not in text
    read(text)
    whole = html_text.table(frame, "caption")
    assert 'data-value="">–' in whole and "c" * 57 + "..." in whole and 'title="' in whole


def test_values_stand_with_their_intervals() -> None:
    frame = pd.DataFrame({
        "kendall": [0.7123, -0.004, float("nan")], "kendall_stderr": [0.03, 0.2, float("nan")],
        "kendall_low": [0.64, -0.35, float("nan")], "kendall_high": [0.77, 0.361, float("nan")],
        "test_error": [0.1234, 0.5, 0.25], "test_error_stderr": [0.0121, 0.0, float("nan")],
        "p_value": [0.00074, 0.5, float("nan")], "x_low": [1, 2, 3],
    })  # fmt: skip
    text = html_text.table(frame, "c", {"kendall": "Kendall τ"})
    reader = read(text)
    assert len(reader.all("th")) == 4  # x_low is of no x
    assert ">Kendall τ [interval]<" in text and ">test_error ± error<" in text
    for value, shown in (("0.7123", "0.71 [0.64, 0.77]"), ("-0.004", "0.00 [−0.35, 0.36]"),
                         ("0.1234", "0.123 ± 0.012"), ("0.5", "0.5"), ("0.00074", "0.00074"),
                         ("0.5", "0.50"), ("", "–")):  # fmt: skip
        assert f'data-value="{value}">{shown}<' in text
    assert digits.with_interval(1e-9, 0.0, 2e-9, 10) == "1e−09 [0, 2e−09]"
    assert digits.with_error(1e8, 1e6) == "100,000,000 ± 1e+06"


def test_no_mathematics_is_left_in_a_page(tmp_path: Path) -> None:
    frame = pd.DataFrame({"measure": ["target_log_p", "lz76"], "given": ["", "entropy"],
                          "kendall": [0.5, 0.6], "ratio": [1.0, 2.0]})  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    text = report._table(tmp_path, "t.parquet", r"Of $\ln P$ & more {x}")
    assert "$" not in text and "\\" not in text
    for part in ("ln P(target)", "entropy of the outputs", "Kendall τ_b", "h/√(n/ln n)",
                 "Of ln P &amp; more", ">–<"):  # fmt: skip
        assert part in text
    known = [*MEASURES, *labels._SETTINGS, *paper_tables._NAMES]
    for name in map(paper_tables._heading, known):
        assert not set(paper_tables.words(name)) & set("$\\{}")


def test_summaries_come_first_and_raw_rows_last_and_folded(tmp_path: Path) -> None:
    line = ["sensitivity", "--n", "8,9,10", "--hidden", "8", "--networks", "70", "--gp-draws", "50"]
    assert main([*line, "--workers", "1", "--quiet", "--out", str(tmp_path / "s")]) == 0
    text = build_report(tmp_path / "s")
    read(text)
    parts = ("a row a length n.", "Growth with the length n", "<summary>Distance and flips")
    summary, fits, rows = map(text.index, parts)
    assert summary < fits < rows and "(210 rows)</summary>" in text
    assert "The first 200 of 210 rows" in text and "GP floor of h" in text
    files = ["networks.parquet", "tables/rows.parquet", "tables/granulated.parquet",
             "tables/granulated.csv", "tables/x.csv", "tables/correlations.parquet"]  # fmt: skip
    assert report._in_order(files) == [
        "tables/correlations.parquet", "tables/granulated.parquet", "tables/x.csv",
        "networks.parquet", "tables/rows.parquet"]  # fmt: skip


def test_a_table_without_rows_is_left_out(tmp_path: Path) -> None:
    """Without draws, as of any torch module, the table of predicted flips is empty."""
    line = ["sensitivity", "--n", "8,9", "--hidden", "4", "--networks", "3", "--gp-draws", "0"]
    assert main([*line, "--workers", "1", "--quiet", "--out", str(tmp_path / "s")]) == 0
    text = build_report(tmp_path / "s")
    read(text)
    assert "a row a length n." in text and "sensitivity-gp.parquet</summary>" not in text


def test_notes_and_empty_parts() -> None:
    assert report.notes([]) == "" and report.definitions({}) == ""
    assert report.notes(["a<b"]).count("<li>a&lt;b</li>") == 1


# ---------------------------------------------------------------- in a browser

PROBE = """
<script>
var problems = [];
window.addEventListener("error", function (e) { problems.push(String(e.message)); }, true);
document.addEventListener("securitypolicyviolation", function (e) {
  problems.push("policy: " + e.blockedURI);
});
["error", "warn"].forEach(function (kind) {
  var old = console[kind];
  console[kind] = function () { problems.push(kind + ": " + Array.from(arguments).join(" "));
    old.apply(console, arguments); };
});
</script>
"""
EXERCISE = """
<script>
window.addEventListener("load", function () {
  var tables = Array.from(document.querySelectorAll("table.sortable"));
  function values(table, column) {
    return Array.from(table.tBodies[0].rows).map(function (r) {
      return r.cells[column].dataset.value; });
  }
  var clicks = [];
  tables.forEach(function (table, t) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      var button = head.querySelector("button");
      var seen = {table: t, column: column, number: head.classList.contains("number"),
                  before: values(table, column)};
      button.focus();
      seen.focused = document.activeElement === button;
      button.click();
      seen.up = values(table, column);
      seen.upState = head.getAttribute("aria-sort");
      button.click();
      seen.down = values(table, column);
      seen.downState = head.getAttribute("aria-sort");
      seen.sorted = table.querySelectorAll("th:not([aria-sort=none])").length;
      clicks.push(seen);
    });
  });
  var body = document.documentElement;
  var out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify({
    clicks: clicks, problems: problems,
    images: Array.from(document.images).map(function (i) { return [i.complete, i.naturalWidth]; }),
    requests: performance.getEntriesByType("resource").map(function (e) { return e.name; })
      .filter(function (n) { return !n.startsWith("data:"); }),
    overflow: body.scrollWidth - body.clientWidth,
  });
  document.body.appendChild(out);
});
</script>
"""


def browse(page: Path, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *more, page.as_uri()]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"THE BROWSER {BROWSER} DID NOT ANSWER IN 120 s: report.html was not tested")


def explore(page: Path, folder: Path, *more: str) -> dict[str, Any]:
    """What a browser finds: the page itself with a probe before and an exercise after it."""
    text = page.read_text()
    assert text.count("<head>") == text.count("</body>") == 1
    text = text.replace("<head>", "<head>" + PROBE).replace("</body>", EXERCISE + "</body>")
    probed = folder / "probed.html"
    probed.write_text(text)
    done = browse(probed, folder / "profile", "--dump-dom", *more)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    if match is None and not done.stdout.strip():
        pytest.skip(f"THE BROWSER {BROWSER} DOES NOT START HERE: {done.stderr[-300:]!r}")
    assert match is not None, done.stdout[-500:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return {**json.loads(html.unescape(match[1])), "console": console}


def ordered(values: list[str], number: bool, down: bool) -> bool:
    filled = [v for v in values if v != ""]
    if values != filled + [""] * (len(values) - len(filled)):
        return False  # blanks go last, whichever way
    if not number:
        return True  # order of words is the browser's; the numbers are checked
    keys = [float(v) for v in filled]
    return keys == sorted(keys, reverse=down)


@needs_browser
@pytest.mark.parametrize("size", ["1200,1600", "400,800"])
def test_the_page_works_in_a_browser(study: Path, tmp_path: Path, size: str) -> None:
    found = explore(study / "report.html", tmp_path, f"--window-size={size}")
    assert found["problems"] == [] and found["console"] == [] and found["requests"] == []
    assert found["images"] and all(done and width > 0 for done, width in found["images"])
    assert found["overflow"] <= 0  # wide tables scroll, the page does not
    assert len({click["table"] for click in found["clicks"]}) >= 3
    changed = 0
    for click in found["clicks"]:
        assert click["focused"] and click["sorted"] == 1
        assert (click["upState"], click["downState"]) == ("ascending", "descending")
        assert sorted(click["up"]) == sorted(click["before"]) == sorted(click["down"])
        assert ordered(click["up"], click["number"], down=False)
        assert ordered(click["down"], click["number"], down=True)
        changed += click["up"] != click["before"] or click["down"] != click["before"]
    assert changed > 3


@needs_browser
def test_sorting_of_hard_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "x": [3.0, float("nan"), -1e-9, 1e300, -20.0, 5e-324, 100.0, float("nan")],
        "t": ["b", "a", None, "c10", "c9", "", "é", "a"],
    })  # fmt: skip
    body = html_text.table(frame, "hard")
    page = report.Page("t", "", [report.Section("s", "s", body)])
    (tmp_path / "p.html").write_text(report.page(page))
    x, t = explore(tmp_path / "p.html", tmp_path)["clicks"]
    assert [float(v) for v in x["up"][:6]] == [-20.0, -1e-9, 5e-324, 3.0, 100.0, 1e300]
    assert x["up"][6:] == ["", ""] == x["down"][6:]
    assert t["up"] == ["a", "a", "b", "c9", "c10", "é", "", ""]
    assert t["down"] == ["é", "c10", "c9", "b", "a", "a", "", ""]


@needs_browser
def test_a_broken_page_is_noticed(study: Path, tmp_path: Path) -> None:
    """The probe sees errors, requests and images that do not load."""
    text = (study / "report.html").read_text()
    worse = '<img src="none.png"><script>undefinedFunction()</script></main>'
    bad = text.replace("</main>", '<img src="data:image/png;base64,AAAA">' + worse)
    (tmp_path / "bad.html").write_text(bad)
    found = explore(tmp_path / "bad.html", tmp_path)
    assert any("undefinedFunction" in problem for problem in found["problems"])
    assert any(problem.startswith("policy") for problem in found["problems"])
    assert [width for _, width in found["images"]][-2:] == [0, 0]
