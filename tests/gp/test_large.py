"""Thousands of labels in place: the same numbers whatever the threads, in six matrices."""

from __future__ import annotations

import numpy as np
import pytest

from simprior import InputError
from simprior.gp import covariance, large, tiles
from simprior.gp.approximations import ep
from simprior.gp.covariance import Event, check_memory, factor, make_event
from simprior.gp.ep import fit_sites
from simprior.gp.kernels import nngp
from simprior.gp.orthant import log_prior, matrices
from simprior.gp.tilted import prepare, tilted
from simprior.network.spec import Network

M = 200


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(M, 10))
    labels = (inputs[:, 0] + 0.5 * rng.normal(size=M) > 0).astype(np.int64)
    return labels, nngp(Network(n=10, inputs=inputs), inputs)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything from m = 100 on is large, and has several tiles and blocks, unequal ones."""
    monkeypatch.setattr(covariance, "LARGE", 100)
    monkeypatch.setattr(covariance, "_ROWS", 64)
    monkeypatch.setattr(large, "BLOCK", 64)
    monkeypatch.setattr(tiles, "TILE", 48)


def _event(shift: float = 0.0) -> Event:
    labels, K = _data()
    return make_event(labels, K, factor(K), np.full(M, shift) if shift else None)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_in_place_is_the_same(small_tiles: None, shift: float) -> None:
    event = _event(shift)
    assert event.large
    sites, twist = prepare(event)
    found, approximate = tilted(event, draws=512), ep(event, site_tol=1e-7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covariance, "LARGE", 10**6)
        plain = _event(shift)
        plain_sites, plain_twist = prepare(plain)
        expected = tilted(plain, draws=512)
        assert approximate.value == pytest.approx(ep(plain, site_tol=1e-7).value, abs=1e-7)
    assert sites.sweeps == plain_sites.sweeps
    assert sites.logz == pytest.approx(plain_sites.logz, abs=1e-9)
    for name in ("logdet", "removed", "mean", "tau", "slope", "lower"):
        np.testing.assert_allclose(getattr(twist, name), getattr(plain_twist, name), atol=1e-9)
    np.testing.assert_allclose(np.tril(twist.C), np.tril(plain_twist.C), atol=1e-9)
    assert found.value == pytest.approx(expected.value, abs=1e-8)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-6)


def test_bits_do_not_depend_on_threads(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(tiles, "cores_here", lambda cores=cores: cores)
        found = tilted(_event(), draws=512)
        values.add((found.value, found.stderr, ep(_event()).value))
    assert len(values) == 1


def test_sweeps_can_start_anew_from_the_sites(small_tiles: None) -> None:
    event = _event()
    sites = fit_sites(event.K, event.A, event.lower)
    covariance_out = np.empty((M, M))
    with tiles.team(2) as run:
        mean = large.posterior(event, sites.tau, sites.nu, covariance_out, run)
    np.testing.assert_allclose(mean, sites.mean, atol=1e-7)
    np.testing.assert_allclose(covariance_out.diagonal(), sites.variance, rtol=1e-6)


def test_ep_stops_earlier_on_many_inputs_and_says_the_same() -> None:
    """ln Z is stationary in the sites: far below the error of EP itself."""
    event = _event()
    exact = ep(event, site_tol=1e-10)
    coarse = ep(event)
    assert coarse.diagnostics["sweeps"] < exact.diagnostics["sweeps"]
    assert coarse.value == pytest.approx(exact.value, abs=1e-3)


def test_tiles_agree_with_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 16)
    rng = np.random.default_rng(0)
    B = rng.normal(size=(50, 50))
    A = B @ B.T + np.eye(50)
    L, X, G = A.copy(), B.copy(), np.zeros((50, 50))
    with tiles.team(2) as run:
        tiles.cholesky(L, run)
        tiles.solve_right(X, L, run)
        tiles.gram(B, G, run)
    np.testing.assert_allclose(L, np.linalg.cholesky(A), atol=1e-10)
    np.testing.assert_allclose(X @ L.T, B, atol=1e-9)
    np.testing.assert_allclose(np.tril(G), np.tril(B @ B.T), atol=1e-10)


def test_memory_that_is_asked_for() -> None:
    assert matrices(["tilted", "ep"], 10_000) == covariance.MATRICES_IN_PLACE
    assert matrices(["tilted"], 1000) == matrices(["laplace"], 10_000) == covariance.MATRICES
    check_memory(10_000, available=6 * 2**30, matrices=covariance.MATRICES_IN_PLACE)
    with pytest.raises(InputError, match="7 matrices"):
        check_memory(10_000, available=5 * 2**30, matrices=covariance.MATRICES_IN_PLACE)


def test_the_callers_covariance_is_not_touched(small_tiles: None) -> None:
    labels, K = _data()
    before = K.copy()
    log_prior(labels, K, draws=256)
    log_prior(labels, K, "ep")
    assert (before == K).all()
