"""NUTS of pyro as a reference for HMC; one line when pyro is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.posterior import hmc_posterior, nuts_posterior


def test_without_pyro_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyro", None)
    with pytest.raises(InputError, match=r"pyro to be installed; pip install 'simprior\[bayes\]'"):
        nuts_posterior(Network(n=3, hidden=(4,)), [0], [1], 10)


def test_correlated_gaussian() -> None:
    pytest.importorskip("pyro")
    import torch

    from simprior.training.posterior.nuts import run_nuts

    precision = torch.linalg.inv(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64))
    state = torch.random.get_rng_state()
    runs = [
        run_nuts(lambda u: 0.5 * u @ precision @ u, np.zeros(2), 300, 100, seed)[0]
        for seed in range(8)
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    x = np.array(runs)
    for values, exact in ((x[..., 0], 0), (x[..., 1] ** 2, 1), (x[..., 0] * x[..., 1], 0.8)):
        means = values.mean(axis=1)
        # 8 chains: Student t with 7 degrees of freedom, false alarm 1e-3 at 5.4
        assert abs(means.mean() - exact) < 5.4 * means.std(ddof=1) / np.sqrt(8)
    again = run_nuts(lambda u: 0.5 * u @ precision @ u, np.zeros(2), 300, 100, 0)[0]
    assert (again == runs[0]).all()


@pytest.mark.slow
def test_agrees_with_hmc() -> None:
    pytest.importorskip("pyro")
    network, index = Network(n=3, hidden=(3,), activation="tanh"), [0, 2, 3]
    hmc = hmc_posterior(network, index, None, 20_000, seed=1, target="x1", beta=3.0, chains=64)
    nuts = nuts_posterior(
        network, index, None, 6400, seed=2, target="x1", beta=3.0, chains=8, burn_in=200
    )
    assert hmc.info["posterior"]["converged"]
    info = nuts.info["posterior"]
    assert info["chains"] == 8
    assert np.isfinite(info["rhat"])
    top = hmc.tables(8)
    row = nuts.find(top)
    assert (row >= 0).all()
    # errors of 8 chains: Student t with 7 degrees of freedom, 8 functions: false alarm 4e-3 at 6
    z = (nuts.p[row] - hmc.p[:8]) / np.hypot(nuts.stderr[row], hmc.stderr[:8])
    assert np.abs(z).max() < 6


def test_too_few_draws_for_diagnostics_are_refused_first() -> None:
    pytest.importorskip("pyro")
    with pytest.raises(InputError, match="at least 4 draws a chain"):
        nuts_posterior(Network(n=3, hidden=(4,)), [0, 1], [0, 1], samples=6, chains=2)
