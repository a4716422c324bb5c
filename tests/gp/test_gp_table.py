"""Tables of ln P, memory check."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from simprior import gp
from simprior.boolean.truthtable import bit_matrix, parse_functions
from simprior.errors import InputError
from simprior.gp.covariance import available_memory, bytes_needed, check_memory
from simprior.gp.orthant import Request, log_prior_table
from simprior.network.spec import Network

K = gp.nngp(Network(n=3), bit_matrix(3))


def test_rows_are_those_of_log_prior_in_order() -> None:
    tables = parse_functions(["x1", "parity", "const1"], 8)
    request = Request(K, tables, ("ep", "tilted"), 5, joined={"p": np.array([0.1, 0.2, 0.3])})
    frame = log_prior_table(request)
    assert frame["index"].tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["method"].tolist() == ["ep", "tilted"] * 3
    assert frame["name"].tolist() == ["0x0f"] * 2 + ["0x69"] * 2 + ["0xff"] * 2
    assert frame["p"].tolist() == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    expected = gp.log_prior(tables, K, seed=5)
    assert frame["logp"].tolist()[1::2] == [e.value for e in expected]
    assert np.isnan(frame["stderr"][0])


def test_impossible_functions_are_minus_infinity() -> None:
    K0 = gp.nngp(Network(n=3, sigma_b=0.0), bit_matrix(3))
    frame = log_prior_table(Request(K0, parse_functions(["const1", "x1"], 8)))
    assert frame["logp"][0] == -math.inf
    assert math.isfinite(frame["logp"][1])


@pytest.mark.parametrize("methods", [(), ("tilted", "tilted"), ("exact",)])
def test_bad_methods(methods: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="method="):
        Request(K, parse_functions("x1", 8), methods)


def test_memory_is_refused_before_it_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    assert available_memory() > 2**20
    with pytest.raises(InputError) as caught:
        check_memory(50_000, available=2**34)
    text = str(caught.value)
    assert "m=50000 inputs: expected at most 10922 in the 16.0 GiB" in text
    assert f"about {bytes_needed(50_000) / 2**30:.1f} GiB" in text
    check_memory(10_922, available=2**34)
    with pytest.raises(InputError, match="2 at a time"):
        check_memory(10_922, copies=2, available=2**34)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "simprior"):
        check_memory(2048, available=2**34)
        assert caplog.records == []
        check_memory(4000, available=2**34)
    assert "tested up to m=2048" in caplog.text
