"""The sentence on several methods: from their standard errors, and right about who disagrees."""

from __future__ import annotations

import math

import numpy as np

from simprior.gp.agreement import agreement


def table(**methods: tuple[list[float], float]) -> dict[str, np.ndarray]:
    """Columns of some methods: (ln P of each function, standard error of all)."""
    columns: dict[str, list[object]] = {
        key: [] for key in ("index", "name", "method", "logp", "stderr")
    }
    for method, (values, stderr) in methods.items():
        for i, value in enumerate(values):
            row = {"index": i, "name": f"f{i}", "method": method, "logp": value, "stderr": stderr}
            for key, entry in row.items():
                columns[key].append(entry)
    return {key: np.array(entries) for key, entries in columns.items()}


def test_one_method_needs_no_sentence() -> None:
    assert agreement(table(tilted=([-1.0, -2.0], 0.1))) == ""


def test_who_disagrees_and_by_how_much() -> None:
    found = agreement(table(smc=([-1.0, -2.0, -3.0], 0.1), tilted=([-1.1, -2.9, -3.0], 0.1)))
    # three pairs: z = 2.4; the joint error is 0.14, so 0.1 agrees and 0.9 does not
    assert found == (
        "tilted agrees with smc on 2 of 3 functions, and differs by 0.9 nats at most (f1); "
        "agreement is within 2.4 standard errors."
    )


def test_a_method_without_an_error_counts_as_exact() -> None:
    values = table(ep=([-1.0, -2.0], math.nan), tilted=([-1.1, -2.5], 0.1))
    found = agreement(values)
    assert found.startswith("ep agrees with tilted on 1 of 2 functions, and differs by 0.5 nats")
    assert found.endswith("2.2 standard errors (ep: no standard error).")


def test_impossible_events_agree() -> None:
    none = -math.inf
    found = agreement(table(tilted=([none, -1.0], 0.0), mc=([none, none], 0.0)))
    assert "mc agrees with tilted on 1 of 2 functions, and differs by inf nats" in found


def test_the_false_alarm_rate_is_5_percent() -> None:
    """Two exact methods, 4 functions, 2000 tables: a sentence that one differs in 5 % of them.

    Bonferroni's rate for independent pairs is 1 - (1 - 0.05 / 4)^4 = 0.0491; 4 standard errors of
    a share of 2000 are 0.0193 (false alarm 6e-5).
    """
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        a, b = random.normal(size=(2, 4)) * 0.1
        wrong += "on 4 of 4" not in agreement(table(x=(list(a), 0.1), y=(list(b), 0.1)))
    assert abs(wrong / 2000 - 0.0491) < 0.0193
