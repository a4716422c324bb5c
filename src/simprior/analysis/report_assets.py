"""Style and script of ``report.html``: plain CSS and JavaScript, light and dark, for print too."""

from __future__ import annotations

STYLE = """\
:root{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--panel:#f6f7f9;--line:#d7dce2;--accent:#0b62a8;
--warn:#8a4b00}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa4af;--paper:#14171b;
--panel:#1d2127;--line:#343b44;--accent:#6cb6f5;--warn:#f0b35c}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
header,main{max-width:68rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.2rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem;text-wrap:balance}
h2{font-size:1.3rem;margin:2.4rem 0 .8rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6rem 0 .4rem}
p{max-width:46rem;margin:.6rem 0}
.lead{color:var(--soft);font-size:1.08rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin-top:1rem}
a{color:var(--accent);text-decoration:none}
a:hover,a:focus-visible{text-decoration:underline}
.facts{display:flex;flex-wrap:wrap;gap:.5rem 1.8rem;margin:1rem 0}
.facts div{min-width:0}
dt{color:var(--soft);font-size:.78rem;text-transform:uppercase;letter-spacing:.04em}
dd{margin:0;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));
gap:1.2rem;align-items:start}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden;
background:var(--panel);break-inside:avoid}
figure img{display:block;width:100%;height:auto;background:#fff;padding:.5rem}
figcaption{padding:.6rem .8rem;font-size:.88rem;color:var(--soft)}
figcaption code{font-size:.78rem;white-space:nowrap}
.scroll{overflow:auto;max-height:34rem;border:1px solid var(--line);border-radius:8px;margin:1rem 0}
.scroll:focus-visible,button:focus-visible,summary:focus-visible{outline:2px solid var(--accent);
outline-offset:-2px}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.6rem .7rem;color:var(--soft);font-size:.9rem}
th,td{padding:.28rem .7rem;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child td{border-bottom:0}
tbody tr:hover{background:var(--panel)}
thead th{position:sticky;top:0;background:var(--panel);padding:0}
th button{all:unset;box-sizing:border-box;cursor:pointer;width:100%;padding:.4rem .7rem;
font-weight:600}
th button::after{content:"\\2195";opacity:.35;margin-left:.4em;font-size:.8em}
th[aria-sort=ascending] button::after{content:"\\2191";opacity:1}
th[aria-sort=descending] button::after{content:"\\2193";opacity:1}
.number{text-align:right}
.code,code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.code{font-size:.78rem}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;
overflow:auto;font-size:.8rem;line-height:1.45}
summary{cursor:pointer;color:var(--accent);margin:.5rem 0}
.notes li{color:var(--warn);margin:.2rem 0;max-width:52rem}
main{padding-bottom:4rem}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--panel:#fff;--line:#bbb;--accent:#000;
--warn:#333}nav,th button::after{display:none}.scroll{overflow:visible;max-height:none;border:0}
table{font-size:7.5pt}th,td{white-space:normal;padding:2px 4px}header,main{max-width:none}
thead th{position:static}h2{break-after:avoid}pre{white-space:pre-wrap}}
"""

SCRIPT = """\
"use strict";
document.querySelectorAll("table.sortable").forEach(function (table) {
  var body = table.tBodies[0];
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  function key(row, column) { return row.cells[column].dataset.value; }
  function compare(a, b, numeric) {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? Infinity : -Infinity;
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", {numeric: true});
  }
  heads.forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") === "ascending";
      var numeric = head.classList.contains("number");
      var rows = Array.prototype.slice.call(body.rows).map(function (row, i) { return [row, i]; });
      rows.sort(function (x, y) {
        var order = compare(key(x[0], column), key(y[0], column), numeric);
        if (!Number.isFinite(order)) return order > 0 ? 1 : -1;
        return (down ? -order : order) || x[1] - y[1];
      });
      heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.forEach(function (row) { body.appendChild(row[0]); });
    });
  });
});
"""
