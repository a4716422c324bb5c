"""Figures: what is drawn is the data, and files are whole, registered and reproducible."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread

from simprior.analysis import plot
from simprior.analysis.figures.counts import (
    complexity_figure,
    count_figures,
    histogram_figure,
    ones_figure,
    rank_figure,
)
from simprior.analysis.figures.registry import kinds
from simprior.analysis.figures.style import model_label
from simprior.analysis.plot import plot_run
from simprior.analysis.simplicity import complexity_profile, envelope, fit_bound
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.sample import sample
from simprior.errors import StoreError
from simprior.network.spec import Network
from simprior.runs.directory import RunDir, load_run

NAMES = ["rank", "complexity", "ones", "complexity-histogram"]
FILES = [f"figures/{name}.{form}" for name in NAMES for form in ("pdf", "png")]


@pytest.fixture(scope="module")
def counts() -> FunctionCounts:
    return sample(Network(n=5), samples=100_000, seed=0, heads=16, pool=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    sample(Network(n=3, hidden=(4,)), samples=2000, seed=1, heads=8, out=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first figure of a run is written, for tests of where files go."""
    every = plot.drawings_of
    monkeypatch.setattr(plot, "drawings_of", lambda *given, **named: every(*given, **named)[:1])


def bars(figure: Figure) -> dict[str, ErrorbarContainer]:
    """Error bar containers by label."""
    found = [c for c in figure.axes[0].containers if isinstance(c, ErrorbarContainer)]
    return {str(c.get_label()): c for c in found}


def lines(figure: Figure) -> dict[str, Any]:
    return {str(line.get_label()): line for line in figure.axes[0].lines}


def segments(container: ErrorbarContainer) -> np.ndarray:
    """(points, 2) lower and upper ends of vertical bars."""
    (collection,) = container.lines[2]
    return np.array([segment[:, 1] for segment in collection.get_segments()])


def points_drawn(figure: Figure) -> int:
    return max(len(line.get_xdata()) for line in figure.axes[0].lines)


def test_every_figure_says_what_it_shows(counts: FunctionCounts) -> None:
    wanted = {
        "rank": ("rank $r$", "probability $P(f)$", ("log", "log")),
        "complexity": (r"LZ complexity $\tilde K$ (bits)", "probability $P(f)$", ("linear", "log")),
        "ones": ("number of ones $t$", "probability $P(t)$", ("linear", "log")),
        "complexity-histogram": (
            r"LZ complexity $\tilde K$ (bits)", r"density $p(\tilde K)$ (1/bit)", ("linear", "log"),
        ),
    }  # fmt: skip
    drawn = dict(count_figures(counts))
    assert list(drawn) == NAMES == list(wanted) and set(NAMES) <= set(kinds())
    for name, (x, y, scales) in wanted.items():
        axes = drawn[name].axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)
        assert (axes.get_xscale(), axes.get_yscale()) == scales
        assert axes.get_legend() is not None and bars(drawn[name])
        assert drawn[name].get_size_inches()[0] == 3.4
        assert r"(5, 40, 40, 1) relu" in axes.get_title(loc="left") and "10^{5}" in axes.get_title(
            loc="left"
        )


def test_rank_figure_has_zipf_bands_and_few_points(counts: FunctionCounts) -> None:
    figure = rank_figure(counts)
    (zipf,) = [line for label, line in lines(figure).items() if label.startswith("Zipf")]
    r, p = zipf.get_data()
    np.testing.assert_allclose(p, 1 / (r * 32 * np.log(2)))
    assert counts.pooled is not None and counts.pooled.orbit is not None
    assert r[0] == 1 and r[-1] == pytest.approx(counts.pooled.orbit.sum())
    bands = [c for c in figure.axes[0].collections if isinstance(c, FillBetweenPolyCollection)]
    assert len(bands) == 2
    sampled = lines(figure)["sampled functions"].get_xydata()
    np.testing.assert_allclose(sampled[:2, 1], counts.p[:2])
    assert np.isfinite(sampled[:, 1]).sum() < len(sampled)  # solid only where counts suffice
    assert counts.functions > 5000 and points_drawn(figure) <= 240
    assert "pooled over symmetries" in lines(figure)


def test_complexity_figure_counts_every_function_once(counts: FunctionCounts) -> None:
    figure = complexity_figure(counts)
    (mesh,) = [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]
    assert np.nansum(mesh.get_array()) == counts.functions and isinstance(mesh.norm, LogNorm)
    assert figure.axes[1].get_ylabel() == "functions a cell"
    best = envelope(counts, complexity_profile(counts))
    fit = fit_bound(best)
    assert fit is not None
    line = next(line for label, line in lines(figure).items() if label.startswith("bound"))
    x, y = line.get_data()
    np.testing.assert_allclose(y, 2.0 ** (-fit.a * x - fit.b_bound))
    sure = best[best["count"] >= 10]
    (drawn,) = [c for label, c in bars(figure).items() if label == "largest $P$"]
    np.testing.assert_allclose(drawn.lines[0].get_ydata(orig=False), sure["p"])
    np.testing.assert_allclose(segments(drawn), sure[["p_low", "p_high"]])


def test_ones_figure_draws_the_frame(counts: FunctionCounts) -> None:
    frame = counts.ones_frame()
    seen = frame[frame["count"] > 0]
    drawn = bars(ones_figure(counts))["prior"]
    np.testing.assert_array_equal(drawn.lines[0].get_xdata(), seen["t"])
    np.testing.assert_allclose(drawn.lines[0].get_ydata(orig=False), seen["p"])
    np.testing.assert_allclose(segments(drawn), seen[["p_low", "p_high"]], rtol=1e-9)
    binomial = lines(ones_figure(counts))["uniformly random functions"].get_ydata()
    assert binomial.sum() == pytest.approx(1) and binomial[1] == pytest.approx(32 / 2**32)


def test_ones_never_seen_get_an_upper_limit() -> None:
    counts = sample(Network(n=3, sigma_b=0.0), samples=1000, seed=0, heads=1)
    figure = ones_figure(counts)
    limit = lines(figure)["none seen: 95 % upper limit"]
    assert limit.get_xdata().tolist() == [8]  # without biases f(0) = 0
    # two-sided Clopper-Pearson at count 0: 1 - 0.025^(1/N)
    np.testing.assert_allclose(limit.get_ydata(orig=False), 1 - 0.025 ** (1 / 1000))
    low, high = figure.axes[0].get_ylim()
    assert low < limit.get_ydata(orig=False)[0] < high


def test_many_inputs_are_thinned() -> None:
    counts = sample(Network(n=10, hidden=(8,)), samples=2000, seed=0, heads=8)
    for name, figure in count_figures(counts):
        most = 1025 if name == "ones" else 260  # the binomial law is a line of m + 1 points
        assert points_drawn(figure) <= most
        assert all(len(c.lines[0].get_xdata()) <= 260 for c in bars(figure).values())
    shown = lines(ones_figure(counts))["none seen: 95 % upper limit"].get_xdata()
    assert (shown % 4 == 0).all()


def test_histogram_densities_add_up_to_one() -> None:
    counts = sample(RandomDNF(4, 1.0), samples=20_000, seed=0)
    figure = histogram_figure(counts)
    found = bars(figure)
    assert list(found) == ["prior (networks drawn)", r"all $65{,}536$ functions"]
    for label, container in found.items():
        x, p = container.lines[0].get_data()
        np.testing.assert_allclose(p.sum() * 2, 1)  # unit: log2(16) / 2 = 2 bits
        assert ((x / 2) % 1 == 0).all()
        assert container.has_yerr == label.startswith("prior")
    low, high = segments(found["prior (networks drawn)"]).T
    p = found["prior (networks drawn)"].lines[0].get_ydata()
    assert (low < p).all() and (p < high).all()
    # Clopper-Pearson at N = 20,000 is within 20 % of 1.96 binomial errors where p is not small
    much = p * 2 > 0.01
    sigma = np.sqrt(p * 2 * (1 - p * 2) / 20_000) / 2
    np.testing.assert_allclose((high - low)[much], 2 * 1.96 * sigma[much], rtol=0.2)


@pytest.mark.slow
def test_plot_run_registers_whole_files(run: Path) -> None:
    before = load_run(run).results
    paths = plot_run(run)
    assert [path.relative_to(run).as_posix() for path in paths] == FILES
    info = load_run(run)
    assert set(FILES) <= set(info.files) and info.verify() == []
    assert info.status == "complete" and info.results == before and not info.active
    for path in paths:
        data = path.read_bytes()
        if path.suffix == ".pdf":
            assert data.startswith(b"%PDF") and b"/CIDFontType2" in data
            assert b"/Type3" not in data and b"CreationDate" not in data
        else:
            assert imread(path).shape[:2] == (780, 1020)
    assert b"simprior sample" in (run / "figures/rank.png").read_bytes()
    assert b"simprior sample" in (run / "figures/rank.pdf").read_bytes()


@pytest.mark.slow
def test_a_second_call_gives_the_same_bytes(run: Path) -> None:
    first = {p: p.read_bytes() for p in plot_run(run)}
    entries = {name: load_run(run).files[name]["sha256"] for name in FILES}
    (run / FILES[0]).write_bytes(b"damaged")
    assert load_run(run).verify() != []
    second = {p: p.read_bytes() for p in plot_run(run)}
    assert first == second
    assert entries == {name: load_run(run).files[name]["sha256"] for name in FILES}
    assert sorted(p.name for p in (run / "figures").iterdir()) == sorted(p.name for p in first)


@pytest.mark.slow
@pytest.mark.usefixtures("one_figure")
def test_a_full_disk_leaves_the_old_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plot_run(run)

    def full(self: Figure, name: Path, **options: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(StoreError, match=r"rank\.pdf: cannot be written, the disk is full") as info:
        plot_run(run)
    assert "\n" not in str(info.value)
    assert load_run(run).verify() == [] and len(list((run / "figures").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("one_figure")
def test_another_folder_is_not_registered(run: Path, tmp_path: Path) -> None:
    manifest = (run / "manifest.json").read_bytes()
    paths = plot_run(run, out=tmp_path / "there" / "deep")
    assert all(p.parent == tmp_path / "there" / "deep" and p.exists() for p in paths)
    assert (run / "manifest.json").read_bytes() == manifest and not (run / "figures").exists()


def test_a_run_without_counts_is_refused_in_one_line(tmp_path: Path) -> None:
    with RunDir.open(tmp_path / "other", "train", {"n": 7}) as store:
        store.finish({"value": -3.0})
    for path in (tmp_path / "other", tmp_path / "nothing"):
        with pytest.raises(StoreError) as info:
            plot_run(path)
        assert str(path) in str(info.value) and "\n" not in str(info.value)
    assert not (tmp_path / "other" / "figures").exists()


@pytest.mark.slow
def test_imported_counts_are_drawn(tmp_path: Path) -> None:
    words = np.array([[0], [2**63], [2**63 + 2**61]], np.uint64)
    made = FunctionCounts.from_counts(words, np.array([70, 20, 10]), m=4, n=2)
    made.save(tmp_path / "old")
    assert len(plot_run(tmp_path / "old")) == 8
    assert load_run(tmp_path / "old").verify() == []
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    assert set(FILES) <= set(manifest["files"])


@pytest.mark.parametrize("functions", [1, 2])
def test_almost_no_functions(functions: int) -> None:
    """One or two functions: nothing to fit, nothing to warn about."""
    words = np.array([[0], [2**63]], np.uint64)[:functions]
    counts = FunctionCounts.from_counts(words, np.array([5, 1])[:functions], m=4, n=2)
    for _, figure in count_figures(counts):
        figure.canvas.draw()
    assert not any(label.startswith("bound") for label in lines(complexity_figure(counts)))


def test_one_input_has_no_complexity() -> None:
    counts = sample(Network(inputs=np.ones((1, 2))), samples=100, seed=0)
    assert [name for name, _ in count_figures(counts)] == ["rank", "ones"]


def test_the_callers_matplotlib_is_left_alone(counts: FunctionCounts) -> None:
    import matplotlib.pyplot as plt

    mpl.use("svg")
    before = dict(mpl.rcParams)
    for _, figure in count_figures(counts):
        figure.canvas.draw()
    assert dict(mpl.rcParams) == before and mpl.get_backend() == "svg"
    assert plt.get_fignums() == []


def test_model_labels() -> None:
    label = r"(7, 40, 40, 1) relu, $\sigma_w=1$, $\sigma_b=1$, $\{0,1\}$"
    assert model_label(Network()) == label
    assert model_label(None) == "imported counts"
    assert r"\alpha=2" in model_label(RandomDNF(3, 2.0))
    deep = Network(n=5, hidden=(64,) * 5, sigma_b=(0, 1, 2, 3, 4, 5), encoding="pm1")
    assert r"(5, $64^{\times5}$, 1) relu" in model_label(deep) and "(0, 1, ...)" in model_label(
        deep
    )
    assert "3 inputs" in model_label(Network(inputs=np.eye(3)))
