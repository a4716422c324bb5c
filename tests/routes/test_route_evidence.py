"""ln P of functions and training sets without plumbing, and bounds."""

from __future__ import annotations

import numpy as np
import pytest

import simprior as sp
from simprior.boolean.truthtable import input_matrix, named
from simprior.errors import InputError

NET = sp.Network(n=5, hidden=(10, 10))


def test_log_prior_needs_no_kernel() -> None:
    K = sp.gp.nngp(NET, input_matrix(NET))
    wanted = sp.gp.log_prior(["parity", "x1"], K, n=5, seed=3)
    assert [p.value for p in sp.log_prior(NET, ["parity", "x1"], seed=3)] == [
        p.value for p in wanted
    ]
    assert sp.log_prior(NET, "x1", seed=3).value == wanted[1].value
    assert sp.log_prior(NET, named("x1", 5), seed=3).value == wanted[1].value
    assert sp.log_prior(NET, named("x1", 5).tolist(), seed=3).value == wanted[1].value
    tables = np.stack([named("parity", 5), named("x1", 5)])
    assert [p.value for p in sp.log_prior(NET, tables, seed=3)] == [p.value for p in wanted]


def test_drawn_targets_are_those_of_a_problem() -> None:
    target = sp.Problem(NET, "lz:20", seed=4, train=5).target
    assert sp.log_prior(NET, "lz:20", seed=4).value == sp.log_prior(NET, target, seed=4).value


def test_evidence_and_bounds() -> None:
    problem = sp.Problem(NET, "majority", train=12, attack=2, seed=1)
    evidence = sp.log_evidence(problem, seed=2)
    K = sp.gp.nngp(NET, input_matrix(NET))
    part = K[np.ix_(problem.fitted_index, problem.fitted_index)]
    assert evidence.value == sp.gp.log_prior(problem.labels, part, n=0, seed=2)[0].value
    bounds = sp.bound(problem, seed=2)
    assert bounds.size == 14 and 0 < bounds.gibbs.error < bounds.single.error < 1
    assert list(bounds.to_frame()["form"]) == ["gibbs", "single"]


def test_evidence_is_the_acceptance_of_the_finite_network() -> None:
    """At width 2,000 within 4 standard errors (a false alarm in 16,000 runs)."""
    problem = sp.Problem(sp.Network(n=4, hidden=(2000,)), "x1", train=5, seed=1)
    found = sp.posterior(problem, "rejection", 500, seed=4).info["posterior"]
    exact = sp.log_evidence(problem)
    error = np.hypot(found["log_evidence_stderr"], exact.stderr)
    assert abs(found["log_evidence"] - exact.value) < 4 * error


@pytest.mark.parametrize("given", ["nonsense", ["x1", "nonsense"], [], "lz", None, 3])
def test_what_is_no_function_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        sp.log_prior(NET, given)


def test_finite_width_by_the_same_door() -> None:
    """A perceptron is its own limit: within 4 standard errors (a false alarm in 16,000 runs)."""
    network = sp.Network(n=3, hidden=())
    options = {"particles": 100, "check": False}
    finite = sp.log_prior(network, "x1", "smc", width="finite", seed=1, **options)
    limit = sp.log_prior(network, "x1", tol=0.005)
    assert abs(finite.value - limit.value) < 4 * np.hypot(finite.stderr, limit.stderr)
    with pytest.raises(InputError, match="some of auto, smc"):
        sp.log_prior(network, "x1", "ep", width="finite")
    problem = sp.Problem(sp.Network(n=3, hidden=(3,)), "x1", train=4, seed=0)
    with pytest.raises(InputError, match="did you mean particles"):
        sp.bound(problem, width="finite", partcles=3)
    with pytest.raises(InputError, match="ask for width finite"):
        sp.log_prior(network, "x1", "exchange")
    with pytest.raises(InputError, match="width"):
        sp.log_prior(network, "x1", width="40")
